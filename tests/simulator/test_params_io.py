"""Parameters written into Nengo objects, which core Nengo runs, and into files."""

import pickle
import zipfile

import nengo
import numpy as np
import pytest
import scipy.sparse
from nengo.exceptions import ValidationError
from nengo.solvers import LstsqL2, NoSolver
from nengo.transforms import SparseMatrix

from nengo_dl.simulator.files import load, save
from nengo_dl.simulator.objects import FullWeights, ZeroFunction, freeze, get_nengo_params
from nengo_dl.training.parameters import (
    collect_parameters,
    initial_value,
    sparse_indices,
)

N_STEPS = 150


def build(net):
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    return model


def perturb(model, rng, amount=0.2):
    """Change all parameters of a model in place, as training would.

    Returns a function that gives their values, as the simulator would.
    """
    for parameter in collect_parameters(model):
        signal = parameter.signal
        value = initial_value(signal)
        value = value * rng.uniform(1 - amount, 1 + amount, size=value.shape)
        if signal.sparse:
            shape = signal.shape
            value = SparseMatrix(sparse_indices(signal), value, shape)
        signal._initial_value = value
    return initial_value


def run(probes, **simulator):
    """Data of all probes after a run in core Nengo."""
    with nengo.Simulator(
        **{"network": None, **simulator}, progress_bar=False, optimize=False
    ) as sim:
        sim.run_steps(N_STEPS)
        return {probe: sim.data[probe] for probe in probes}


def check_frozen(net, rng, allclose):
    """Freeze perturbed parameters and compare the two networks in core Nengo."""
    plain = run(net.all_probes, network=net, seed=0)
    model = build(net)
    values = perturb(model, rng)
    expected = run(net.all_probes, model=model, seed=0)
    freeze(model, net, values)
    frozen = run(net.all_probes, network=net, seed=0)
    for probe in net.all_probes:
        assert np.any(expected[probe])
        assert not np.allclose(expected[probe], plain[probe], rtol=1e-3, atol=0)
        assert allclose(frozen[probe], expected[probe], atol=1e-10, rtol=1e-8)
    return model


def two_sines(t):
    return np.sin([30 * t, 20 * t])


def base_network(**ensemble):
    """An input, two rate ensembles, a node, and probes; to be connected by tests."""
    rate = {"neuron_type": nengo.LIFRate(), **ensemble}
    with nengo.Network(seed=3) as net:
        net.inp = nengo.Node(two_sines, label="inp")
        net.a = nengo.Ensemble(20, 2, label="a", radius=1.5, **rate)
        net.b = nengo.Ensemble(30, 3, label="b", **rate)
        net.out = nengo.Node(size_in=3, label="out")
        nengo.Connection(net.inp, net.a, transform=[[1, 0.2], [0.1, 0.9]])
        net.p_b = nengo.Probe(net.b.neurons)
        net.p_out = nengo.Probe(net.out)
        nengo.Connection(net.b, net.out, synapse=None)
    return net


@pytest.mark.parametrize(
    "kwargs",
    [
        {"transform": np.eye(3)[:, :2]},
        {"function": lambda x: [x[0] * x[1], x[0], 1]},
        {"function": lambda x: x**2, "transform": np.ones((3, 2))},
        {"function": lambda x: x[0], "transform": [[1], [-1], [0.5]], "synapse": None},
        {
            "eval_points": np.eye(2),
            "function": np.ones((2, 3)),
            "transform": [0.5, 1, 2],
        },
    ],
)
def test_freeze_decoders(kwargs, rng, allclose):
    net = base_network()
    with net:
        conn = nengo.Connection(net.a, net.b, **kwargs)
        probe = nengo.Probe(net.a, synapse=0.01)
    function, fits = conn.function, conn.size_mid == conn.size_out
    model = check_frozen(net, rng, allclose)
    assert isinstance(probe.solver, NoSolver)
    assert isinstance(conn.solver, NoSolver) and not conn.solver.weights
    # what the connection computes can still be seen, unless its size does not fit
    if fits:
        assert conn.function is function
    else:
        assert conn.function == ZeroFunction(3)
    assert model.params[conn].weights.shape == (3, 20)


def test_freeze_slices(rng, allclose):
    net = base_network()
    with net:
        nengo.Connection(net.a[1], net.b[0])
        nengo.Connection(net.a[[1, 0]], net.b[[2, 0]], transform=-0.5)
        nengo.Connection(net.a[0], net.b[::2], transform=[[1], [2]])
        nengo.Connection(net.a[::-1], net.b[1:], function=np.sin, transform=[1, 2])
        nengo.Connection(net.inp[[1, 1]], net.b[:2], transform=0.3)
        nengo.Probe(net.a[1], synapse=0.01)
    check_frozen(net, rng, allclose)


@pytest.mark.parametrize("compositional", [True, False])
def test_freeze_weight_solvers(compositional, rng, allclose):
    class Full(LstsqL2):
        """Solves for the whole matrix at once."""

    Full.compositional = compositional
    net = base_network()
    with net:
        conn = nengo.Connection(
            net.a,
            net.b[[2, 0]],
            function=lambda x: x[0] * x,
            transform=[[1, 2], [0, 1]],
            solver=Full(weights=True),
        )
        to_node = nengo.Connection(net.a[0], net.out[1], solver=LstsqL2())
    transform = conn.transform
    model = check_frozen(net, rng, allclose)
    assert model.params[conn].weights.shape == (30, 20)
    assert isinstance(conn.solver, FullWeights) and conn.solver.weights
    assert conn.transform is transform
    assert not isinstance(to_node.solver, FullWeights)


def test_freeze_neuron_connections(rng, allclose):
    net = base_network()
    with net:
        for pre, post, shape in [
            (net.a.neurons, net.b.neurons, (30, 20)),
            (net.a.neurons[[3, 1, 7]], net.b.neurons[[4, 2]], (2, 3)),
            (net.a.neurons[::2], net.b.neurons[5:8], (3, 10)),
            (net.a.neurons[2:4], net.b[[0, 2]], (2, 2)),
            (net.a, net.b.neurons[[1, 29]], (2, 2)),
            (net.inp[0], net.b.neurons[-1], (1, 1)),
            (net.a.neurons, net.out, (3, 20)),
        ]:
            transform = rng.uniform(-1e-2, 1e-2, size=shape)
            nengo.Connection(pre, post, transform=transform)
        nengo.Connection(net.a.neurons[:5], net.b.neurons[:5], transform=1e-2)
        nengo.Connection(
            net.a.neurons[:5],
            net.b.neurons[5:10],
            transform=nengo.Dense((5, 5), [0.01] * 5),
        )
    check_frozen(net, rng, allclose)


def test_freeze_random_dense_and_sparse_transforms(rng, allclose):
    net = base_network()
    indices = np.array([[0, 1], [2, 0], [2, 1]])
    coo = scipy.sparse.coo_matrix(([0.5, -1], ([1, 2], [0, 1])), shape=(3, 2))
    with net:
        for transform in [
            nengo.dists.Uniform(-1, 1),
            nengo.Sparse((3, 2), indices, init=[0.1, 0.2, 0.3]),
            nengo.Sparse((3, 2), indices, init=nengo.dists.Uniform(-1, 1)),
            nengo.Sparse((3, 2), init=coo),
        ]:
            nengo.Connection(net.inp, net.b, transform=transform)
    check_frozen(net, rng, allclose)


def test_freeze_convolutions(rng, allclose):
    shape = (6, 6, 2)
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(np.linspace(0, 1, 72))
        ens = nengo.Ensemble(72, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(inp, ens.neurons, synapse=None)
        for transform in [
            nengo.Convolution(4, shape, groups=2),
            nengo.Convolution(
                3, (2, 36), (5,), (2,), padding="same", channels_last=False
            ),
            nengo.ConvolutionTranspose(2, shape, strides=(2, 2), padding="same"),
            nengo.ConvolutionTranspose(1, shape, (13, 13, 1), strides=(2, 2)),
        ]:
            out = nengo.Node(size_in=transform.size_out)
            nengo.Connection(ens.neurons, out, transform=transform)
            nengo.Probe(out)
    check_frozen(net, rng, allclose)


def test_freeze_spiking_ensemble_arrays(rng, allclose):
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(lambda t: np.cos(20 * t + np.arange(3)))
        ea = nengo.networks.EnsembleArray(20, 3, noise=nengo.processes.WhiteNoise())
        ea.add_output("square", np.square)
        out = nengo.Node(size_in=3)
        nengo.Connection(inp, ea.input, transform=0.9)
        nengo.Connection(ea.square, out, transform=[0.5, 1, 2])
        nengo.Probe(ea.output)
        nengo.Probe(out, synapse=0.01)
    check_frozen(net, rng, allclose)


def test_freeze_keeps_learning(rng, allclose):
    net = base_network()
    with net:
        pes = nengo.Connection(
            net.a,
            net.b,
            function=lambda x: [x[0], x[1], 0],
            learning_rule_type=nengo.PES(1e-3),
        )
        nengo.Connection(net.out, pes.learning_rule, transform=-1)
        voja = nengo.Connection(
            net.inp, net.a, synapse=None, learning_rule_type=nengo.Voja()
        )
        bcm = nengo.Connection(
            net.a,
            net.b[:2],
            solver=LstsqL2(weights=True),
            learning_rule_type={"x": nengo.BCM(1e-12)},
        )
        nengo.Probe(pes, "weights")
        nengo.Probe(net.a, "scaled_encoders")
        nengo.Probe(bcm, "weights")
    check_frozen(net, rng, allclose)
    assert isinstance(pes.learning_rule_type, nengo.PES)
    assert isinstance(voja.learning_rule_type, nengo.Voja)
    assert isinstance(bcm.solver, FullWeights)


def test_freeze_direct_ensembles(rng, allclose):
    net = base_network()
    with net:
        direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct())
        nengo.Connection(net.inp, direct)
        nengo.Connection(direct, net.out[0], function=lambda x: x[0] ** 2, transform=2)
        nengo.Connection(direct[1], net.b, transform=[[1], [1], [1]])
    model = check_frozen(net, rng, allclose)
    assert get_nengo_params(model, direct, initial_value) == {}


def test_freeze_some_objects_only(rng, allclose):
    net = base_network()
    model = build(net)
    values = perturb(model, rng)
    solver = net.connections[1].solver
    freeze(model, [net.a, net.connections[0]], values)
    scaled = net.a.encoders * (net.a.gain / net.a.radius)[:, None]
    assert allclose(scaled, values(model.sig[net.a]["encoders"]), rtol=1e-14, atol=0)
    assert net.a.normalize_encoders is False
    assert np.array_equal(net.a.bias, values(model.sig[net.a.neurons]["bias"]))
    conn = net.connections[0]
    assert np.array_equal(conn.transform.init, values(model.sig[conn]["weights"]))
    assert isinstance(net.b.encoders, nengo.dists.Distribution)
    assert net.connections[1].solver is solver


def test_freeze_changes_nothing_if_something_does_not_fit(rng):
    net = base_network()
    model = build(net)
    perturb(model, rng)
    with net:
        added = nengo.Ensemble(3, 1, label="added")
    with pytest.raises(ValidationError, match="'added'.* not in the simulated network"):
        freeze(model, net, initial_value)
    with pytest.raises(ValidationError, match="'inp'.* is a Node"):
        freeze(model, [net.a, net.inp], initial_value)
    assert isinstance(net.a.encoders, nengo.dists.Distribution)
    assert added.gain is None


def test_frozen_network_builds_without_warnings_and_can_be_pickled(rng, recwarn):
    net = base_network(max_rates=nengo.dists.Choice([100]))
    with net:
        nengo.Connection(net.a, net.b[1:], solver=LstsqL2(weights=True))
        nengo.Connection(net.a[0], net.b, transform=[[1], [2], [3]])
    model = build(net)
    values = perturb(model, rng)
    recwarn.clear()
    freeze(model, net, values)
    build(net)
    # deprecations inside of Nengo are not this project's to mend
    warned = [w for w in recwarn if not issubclass(w.category, DeprecationWarning)]
    assert [str(w.message) for w in warned] == []

    expected = run(net.all_probes, network=net, seed=0)
    copy = pickle.loads(pickle.dumps(net))
    found = run(copy.all_probes, network=copy, seed=0)
    for new, old in zip(copy.all_probes, net.all_probes, strict=True):
        assert np.array_equal(found[new], expected[old])


def test_get_nengo_params_makes_an_equal_network(rng, allclose):
    net = base_network()
    with net:
        conn = nengo.Connection(net.a[0], net.b, label="conn", transform=[[1], [2], [-1]])
        full = nengo.Connection(
            net.a, net.b[:2], label="full", solver=LstsqL2(weights=True)
        )
        neurons = nengo.Connection(
            net.a.neurons, net.b.neurons, label="nn", transform=1e-3 * np.ones((30, 20))
        )
        net.connections[0].label, net.connections[1].label = "in", "out"
    model = build(net)
    values = perturb(model, rng)
    expected = run([net.p_b], model=model, seed=0)[net.p_b]

    objs = [net.a, net.b, conn, full, neurons, *net.connections[:2]]
    args = get_nengo_params(model, objs, values, as_dict=True)
    assert set(args) == {"a", "b", "conn", "full", "nn", "in", "out"}
    rate = nengo.LIFRate()
    with nengo.Network() as other:
        inp = nengo.Node(two_sines)
        a = nengo.Ensemble(20, 2, radius=1.5, neuron_type=rate, **args["a"])
        b = nengo.Ensemble(30, 3, neuron_type=rate, **args["b"])
        nengo.Connection(inp, a, **args["in"])
        nengo.Connection(a, b, **args["conn"])  # without the slice: decoders are given
        nengo.Connection(a, b[:2], **args["full"])
        nengo.Connection(a.neurons, b.neurons, **args["nn"])
        probe = nengo.Probe(b.neurons)
    found = run([probe], network=other, seed=0)[probe]
    assert allclose(found, expected, atol=1e-10, rtol=1e-8)


def test_forms_of_get_nengo_params():
    net = base_network()
    model = build(net)
    one = get_nengo_params(model, net.a, initial_value)
    assert set(one) == {
        *("encoders", "normalize_encoders", "gain", "bias"),
        *("max_rates", "intercepts"),
    }
    several = get_nengo_params(model, [net.a, net.connections[1]], initial_value)
    assert np.array_equal(several[0]["encoders"], one["encoders"])
    assert set(several[1]) == {"solver", "function", "transform"}
    assert several[1]["function"] == ZeroFunction(3)

    conn = net.connections[1]
    with pytest.raises(ValidationError, match="has no label; with as_dict=True"):
        get_nengo_params(model, [net.a, conn], initial_value, as_dict=True)
    conn.label = "a"
    with pytest.raises(ValidationError, match="same label as another"):
        get_nengo_params(model, [net.a, conn], initial_value, as_dict=True)
    with pytest.raises(ValidationError, match="is a Node, which has no parameters"):
        get_nengo_params(model, net.inp, initial_value)
    with pytest.raises(ValidationError, match="not in the simulated network"):
        get_nengo_params(build(nengo.Network()), net.a, initial_value)


def test_full_weights_cannot_be_factored():
    with pytest.raises(ValidationError, match="weights: must be True"):
        FullWeights(np.ones((2, 2)), weights=False)


@pytest.fixture
def arrays(rng):
    return {
        "ensembles['a'].encoders": rng.uniform(size=(5, 2)).astype(np.float32),
        "networks['x/y'].connections['a -> b'#2].weights": np.array(2.5),
        "file": rng.randint(10, size=3),
        "allow_pickle": np.zeros((0, 4)),
    }


def shapes(arrays):
    return {name: array.shape for name, array in arrays.items()}


@pytest.mark.parametrize("saved", ["x", "x.npz", "my.params"])
@pytest.mark.parametrize("loaded", ["", ".npz"])
def test_save_and_load(saved, loaded, arrays, tmp_path):
    path = save(tmp_path / saved, arrays)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]
    assert path.name == saved.removesuffix(".npz") + ".npz"

    name = str(tmp_path / saved).removesuffix(".npz") + loaded
    found = load(name, shapes(arrays))
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        assert found[key].dtype == array.dtype
        assert np.array_equal(found[key], array)


def test_load_of_a_file_with_another_suffix(tmp_path):
    path = save(tmp_path / "x", {"a": np.zeros(2)}).rename(tmp_path / "x.params")
    assert np.array_equal(load(path, {"a": (2,)})["a"], np.zeros(2))
    save(path, {"a": np.ones(2)})
    assert np.array_equal(load(path, {"a": (2,)})["a"], np.ones(2))


def test_saved_files_are_plain_numpy(arrays, tmp_path):
    with np.load(save(tmp_path / "x", arrays), allow_pickle=False) as found:
        assert set(found.files) == set(arrays)
        assert np.array_equal(found["file"], arrays["file"])


def test_load_names_every_mismatch(arrays, tmp_path):
    path = save(tmp_path / "x", arrays)
    expected = shapes(arrays)
    del expected["file"]
    expected["new"] = (1,)
    expected["ensembles['a'].encoders"] = (5, 3)
    with pytest.raises(ValidationError) as error:
        load(path, expected)
    for line in (
        "x.npz' does not fit this network; nothing was loaded:",
        "- ensembles['a'].encoders has shape (5, 2); expected (5, 3)",
        "- file (3,) is not in this network",
        "- new is missing",
    ):
        assert line in str(error.value)
    assert "allow_pickle" not in str(error.value)


def test_save_replaces_whole_files_or_nothing(arrays, tmp_path, monkeypatch):
    path = save(tmp_path / "x", {"a": np.zeros(2)})
    for name, value, match in (("b", np.array([{}]), "object"), ("c", "text", "<U4")):
        with pytest.raises(ValidationError, match=f"{name} must hold numbers.*{match}"):
            save(path, {"a": np.ones(2), name: value})

    def full_disk(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save(path, {"a": np.ones(2)})
    monkeypatch.undo()

    assert [f.name for f in tmp_path.iterdir()] == ["x.npz"]
    assert np.array_equal(load(path, {"a": (2,)})["a"], np.zeros(2))


def test_files_that_are_no_parameters(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file: .*x.npz'"):
        load(tmp_path / "x", {})

    path = tmp_path / "x.npz"
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.save(tmp_path / "single.npy", np.zeros(2))
    whole = save(tmp_path / "whole", {"a": np.arange(100.0)}).read_bytes()
    for content in (
        b"",
        b"not an archive",
        whole[: len(whole) // 2],
        (tmp_path / "single.npy").read_bytes(),
        (tmp_path / "objects.npz").read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValidationError, match="not a file of parameters"):
            load(path, {"a": (100,)})

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "no array")
    with pytest.raises(ValidationError, match="'a.txt' is no array"):
        load(path, {"a": (100,)})

    np.savez(path, a=np.array(["text"]))
    with pytest.raises(ValidationError, match="a does not hold numbers"):
        load(path, {"a": (1,)})
