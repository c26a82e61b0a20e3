"""What users have stays readable: files and pickles of the first version that wrote them.

How they were made stands in ``samples/make.py``.
"""

import gzip
import pickle
import warnings

import numpy as np
import pytest

import nengo_dl
from tests.simulator.samples import make
from tests.versions import release

#: of sums that are made in another order; what is loaded is equal
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

#: the same of networks with layers of Keras, which compute in float32 whatever the
#: network does: processors round their products differently
LAYERS = 1e-6


def assert_same_outputs(found, expected, name):
    network, dtype, *_ = (make.FILES | make.PICKLES)[name]
    layers = network is make.tensors
    tolerance = max(TOLERANCE[dtype], LAYERS) if layers else TOLERANCE[dtype]
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        scale = max(np.abs(y).max(), 1e-3)
        assert np.abs(x - y).max() <= tolerance * scale


def assert_same_values(found, expected, dtype):
    """As far as the simulator shows them.

    What nothing has changed is what the solver gives on this processor, in float64.
    """
    for x, y in zip(found, expected, strict=True):
        # the first version cut what was trained of weights that are whole numbers
        whole = np.issubdtype(y.dtype, np.integer)
        x, y = (np.trunc(x), y) if whole else (x.astype(dtype), y.astype(dtype))
        assert np.array_equal(x, y)


def parameters_in(path):
    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if not name.startswith("state ")]
        # the first version wrote no gains
        return [file[name] for name in names if not name.endswith(".gain")]


@pytest.mark.filterwarnings("ignore:.*random numbers:UserWarning")
@pytest.mark.parametrize("name", make.FILES)
def test_files_load_and_the_simulation_goes_on(name, tmp_path):
    network, dtype, minibatch_size, include_state = make.FILES[name]
    # on a GPU layers of Keras, which compute in float32, give other last digits
    options = {**make.OPTIONS, "minibatch_size": minibatch_size, "device": "/cpu:0"}
    path, expected = make.HERE / f"{name}.npz", make.expected(name)
    net = network(dtype)
    with nengo_dl.Simulator(net, **options) as sim:
        sim.load_params(path, include_state=include_state)
        assert sim.n_steps == (make.STEPS if include_state else 0)
        assert_same_values(make.parameters(sim.data, net), expected["parameters"], dtype)
        sim.save_params(tmp_path / "again", include_state=include_state)
        again, loaded = parameters_in(tmp_path / "again.npz"), parameters_in(path)
        assert len(again) == len(loaded) and all(map(np.array_equal, again, loaded))
        assert_same_outputs(make.outputs(sim), expected["outputs"], name)
    with nengo_dl.Simulator(net, **options) as sim:
        sim.load_params(path)  # state that is there is passed over
        assert sim.n_steps == 0
        assert_same_values(make.parameters(sim.data, net), expected["parameters"], dtype)


@pytest.mark.skipif(
    release(np) < (2, 0),
    reason="NumPy 1 cannot read pickles of NumPy 2, where arrays are of numpy._core and "
    "random numbers of a class; that is in the pickle, and cannot be changed afterwards",
)
@pytest.mark.parametrize("name", make.PICKLES)
def test_pickles_load_and_the_simulation_goes_on(name):
    _, dtype, minibatch_size, n_steps, _ = make.PICKLES[name]
    expected = make.expected(name)
    with gzip.open(make.HERE / f"{name}.pkl.gz") as file:
        sim, data = pickle.load(file)
    with sim:
        assert (sim.n_steps, sim.minibatch_size) == (n_steps, minibatch_size)
        probes = sim.model.probes
        assert_same_values(
            [sim.data[probe] for probe in probes], expected["before"], dtype
        )
        assert_same_values([data[probe] for probe in probes], expected["before"], dtype)
        assert len(sim.trange()) == n_steps
        for values in (sim.data, data):
            found = make.parameters(values, sim.network)
            assert_same_values(found, expected["parameters"], dtype)
        assert_same_outputs(make.outputs(sim), expected["outputs"], name)


@pytest.mark.parametrize("name", [name for name in make.FILES if "state" in name])
def test_files_without_random_numbers_warn_where_there_are_some(name):
    network, dtype, minibatch_size, _ = make.FILES[name]
    options = {**make.OPTIONS, "minibatch_size": minibatch_size}
    with nengo_dl.Simulator(network(dtype), **options) as sim:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sim.load_params(make.HERE / name, include_state=True)
    said = [str(w.message) for w in caught if "begin anew" in str(w.message)]
    assert len(said) == (network is make.structure)
    if said:
        assert "WhiteNoise" in said[0]
        assert "FilteredNoise" in said[0]
        assert "PoissonSpiking" in said[0]
