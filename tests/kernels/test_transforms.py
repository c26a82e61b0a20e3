"""Every way to connect objects, against core Nengo."""

import nengo
import numpy as np
import pytest
from nengo.solvers import LstsqL2, NoSolver
from nengo.transforms import NoTransform

import nengo_dl

SLICES = {
    "backwards": slice(None, None, -1),
    "every second": slice(0, 6, 2),
    "every second backwards": slice(5, None, -2),
    "list": [3, 0, 5],
    "repeated": [1, 1, 4],
    "negative": [-1, -6, 2],
    "one": 3,
    "array": np.array([2, 4, 0]),
    "mask": np.array([True, False, True, True, False, False]),
}


def sources():
    """Objects with six dimensions to connect from, with signals that differ."""
    stimulus = nengo.Node(lambda t: np.sin(20 * t + np.arange(6)))
    ensemble = nengo.Ensemble(30, 6, seed=1)
    nengo.Connection(stimulus, ensemble, synapse=None)
    rates = nengo.Ensemble(6, 1, neuron_type=nengo.Sigmoid(), seed=2)
    nengo.Connection(stimulus, rates.neurons, synapse=None)
    return stimulus, ensemble, rates.neurons


def targets():
    """Objects with six dimensions to connect to, and what to probe of them."""
    node = nengo.Node(size_in=6)
    ensemble = nengo.Ensemble(12, 6, neuron_type=nengo.LIFRate(), seed=3)
    rates = nengo.Ensemble(6, 1, neuron_type=nengo.Tanh(), seed=4)
    return (node, node), (ensemble, ensemble.neurons), (rates.neurons, rates.neurons)


def assert_equals_core(net, probes, minibatch_size=None, opened=(False, True)):
    """Compare all probes, with parameters folded and as arguments.

    Without core's optimizer, which cannot merge all operators on views backwards.
    """
    with nengo.Simulator(net, progress_bar=False, optimize=False) as core:
        core.run(0.02)
    for with_arguments in opened:
        with nengo_dl.Simulator(
            net, progress_bar=False, minibatch_size=minibatch_size
        ) as sim:
            if with_arguments:
                sim._program.written()
            sim.run(0.02)
        for probe in probes:
            expected = core.data[probe]
            assert np.abs(expected).max() > 1e-3, probe
            found = np.reshape(sim.data[probe], (-1, *expected.shape))
            for item in found:
                np.testing.assert_allclose(item, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize("side", ("pre", "post", "both"))
def test_slices(side, name):
    """Of nodes, ensembles and neurons, on each side of a connection."""
    index = SLICES[name]
    size = np.arange(6)[index].size
    probes = []
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        for source in sources():
            for target, probed in targets():
                pre = source[:size] if side == "post" else source[index]
                post = target[:size] if side == "pre" else target[index]
                nengo.Connection(pre, post, synapse=0.005)
                probes.append(nengo.Probe(probed))
    assert_equals_core(net, probes, opened=(False,))


def scaled(pre, ensemble, neurons):
    yield pre, ensemble, {"transform": 0.3}
    yield ensemble, pre, {"transform": nengo.Dense((6, 6), 0.4)}
    yield neurons, pre, {"transform": np.arange(6.0)}


def to_repeated_places(pre, ensemble, neurons):
    yield pre, pre[[0, 1, 1, 2, 2, 2]], {"transform": 2}
    yield pre, ensemble[[0, 1, 1, 2, 2, 2]], {"transform": np.arange(6.0)}
    yield neurons[:4], neurons[[0, 0, 3, -1]], {}
    yield ensemble[:4], ensemble[[0, 0, 3, -1]], {}


def matrices(pre, ensemble, neurons):
    uniform = nengo.dists.Uniform(-1, 1)
    yield ensemble, pre[:3], {"transform": nengo.Dense((3, 6), uniform)}
    yield pre, neurons, {"transform": nengo.dists.Gaussian(0, 1)}
    yield neurons, neurons, {"transform": np.arange(36.0).reshape(6, 6) / 36}
    yield ensemble[[4, 0]], ensemble[::-3], {"transform": [[1, 0.5], [0, 2]]}


def without_transform(pre, ensemble, neurons):
    yield ensemble, pre, {"transform": NoTransform(6)}
    yield neurons, neurons, {"transform": None}
    yield pre, ensemble, {"transform": NoTransform(6)}


def functions(pre, ensemble, neurons):
    yield ensemble[[4, 1]], pre[[5, 0]], {"function": lambda x: [x[0] + x[1], x[0] ** 2]}
    yield pre[[1, 1, 0]], pre[::3], {"function": lambda x: [x[0] * x[1], x[2]]}
    values = np.linspace(-1, 1, 40)[:, None]
    points = np.linspace(-0.5, 0.5, 240).reshape(40, 6)
    yield ensemble, pre[:1], {"function": values, "eval_points": points}


def solvers(pre, ensemble, neurons):
    def product(x):
        return [x[0] * x[1], x[2]]

    weights = LstsqL2(weights=True)
    yield ensemble, ensemble, {"solver": weights}
    yield ensemble[::2], ensemble[::-2], {"solver": weights}
    yield (
        ensemble,
        ensemble[[0, 3]],
        {
            "solver": weights,
            "function": product,
            "transform": [[1, 0.5], [0, 2]],
        },
    )
    given = np.sin(np.arange(180.0)).reshape(30, 6) / 100
    yield ensemble, pre, {"solver": NoSolver(given)}


KINDS = (
    scaled,
    to_repeated_places,
    matrices,
    without_transform,
    functions,
    solvers,
)


@pytest.mark.parametrize("minibatch_size", (None, 3))
@pytest.mark.parametrize("connections", KINDS, ids=lambda f: f.__name__)
def test_connections(connections, minibatch_size):
    """``connections`` yields what to connect; a source stands for its kind of target."""
    probes = []
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        given = sources()
        for pre, post, options in connections(*given):
            obj, index = post, slice(None)
            if isinstance(post, nengo.base.ObjView):
                obj, index = post.obj, post.slice
            target, probed = targets()[given.index(obj)]
            nengo.Connection(pre, target[index], synapse=0.005, **options)
            probes.append(nengo.Probe(probed))
    assert_equals_core(net, probes, minibatch_size)


def test_views_of_probes_equal_core():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        stimulus, ensemble, neurons = sources()
        target = nengo.Ensemble(10, 6)
        connection = nengo.Connection(ensemble, target)
        probes = [
            nengo.Probe(ensemble[[0, 0, 3]], synapse=0.01),
            nengo.Probe(ensemble[::-2]),
            nengo.Probe(neurons[::-4]),
            nengo.Probe(stimulus[[5, 1]]),
            nengo.Probe(connection, "weights"),
            nengo.Probe(connection, synapse=0.01),
            nengo.Probe(target, "input"),
        ]
    assert_equals_core(net, probes)
