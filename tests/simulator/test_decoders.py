"""Decoders that are solved for once are core Nengo's, to the last bit."""

import gc
import re
from collections import Counter

import nengo
import numpy as np
import pytest
from nengo import solvers
from nengo.builder import Builder, Model
from nengo.cache import DecoderCache, NoDecoderCache
from nengo.utils import least_squares_solvers as least_squares

import nengo_dl
from nengo_dl.builder import NengoBuilder
from nengo_dl.simulator import decoders as module
from nengo_dl.simulator.decoders import DETERMINISTIC, SharingBuilder, solved_once


class Counting(solvers.LstsqL2):
    """A user's solver: it may have side effects, so it runs for every connection."""

    calls = 0

    def __call__(self, A, Y, rng=np.random):
        type(self).calls += 1
        return super().__call__(A, Y, rng=rng)


class OwnRates(nengo.LIFRate):
    """A user's neuron type, whose rates are different each time."""

    calls = 0

    def rates(self, x, gain, bias):
        type(self).calls += 1
        return super().rates(x, gain, bias) + self.calls


def ensembles(neuron_type=None, seed=3, **kwargs):
    """A network with two ensembles and a node, and nothing between them."""
    with nengo.Network(seed=seed) as net:
        if neuron_type is not None:
            net.config[nengo.Ensemble].neuron_type = neuron_type
        net.a = nengo.Ensemble(30, 2, n_eval_points=120, **kwargs)
        net.b = nengo.Ensemble(20, 2, n_eval_points=90, radius=2)
        net.node = nengo.Node(size_in=2)
    return net


def functions():
    with ensembles() as net:
        for function in (None, np.square, lambda x: (x[0], -x[1]), None, np.square):
            nengo.Connection(net.a, net.b, function=function)
            nengo.Connection(net.a, net.node, function=function, synapse=None)
        nengo.Connection(net.a, net.node[0], function=lambda x: [x[0] * x[1]])
        nengo.Connection(net.b[1], net.node[1])
        nengo.Connection(net.a[[1, 0]], net.node)
        nengo.Connection(net.a[::-1], net.node)
        for _ in range(2):
            nengo.Probe(net.a, synapse=0.01)
    return net


def all_solvers():
    with ensembles() as net:
        for solver in (
            *(solvers.LstsqL2(reg=reg) for reg in (0.1, 0.01, 0.1)),
            *(solvers.LstsqL2(solver=least_squares.Cholesky(t)) for t in (True, False)),
            solvers.LstsqL2(solver=least_squares.SVD()),
            *(solver() for solver in (solvers.Lstsq, solvers.LstsqL2nz)),
            *(solvers.LstsqDrop(drop=drop) for drop in (0.2, 0.4)),
            *(solver() for solver in (solvers.Nnls, solvers.NnlsL2, solvers.NnlsL2nz)),
            *(solver() for solver in (solvers.LstsqNoise, solvers.LstsqMultNoise)),
            solvers.NoSolver(np.ones((30, 2))),
            Counting(),
        ):
            for function in (None, None, np.square):
                nengo.Connection(net.a, net.node, solver=solver, function=function)
    return net


def weight_solvers():
    with ensembles() as net:
        for weights in (solvers.LstsqL2, solvers.Nnls, solvers.LstsqNoise, Counting):
            for transform in (0.5, nengo.dists.Gaussian(0, 1)):
                nengo.Connection(
                    net.a, net.b, solver=weights(weights=True), transform=transform
                )
            nengo.Connection(
                net.a[0], net.b[1], solver=weights(weights=True), transform=2
            )
    return net


def own_points(rng_seed=0):
    points = np.random.RandomState(rng_seed).uniform(-1, 1, size=(60, 2))
    with ensembles(eval_points=nengo.dists.Uniform(-0.5, 0.5)) as net:
        for given in (points, points.copy(), np.asfortranarray(points), points[:40]):
            nengo.Connection(net.a, net.node, eval_points=given)
            nengo.Connection(net.a, net.node, eval_points=given, scale_eval_points=False)
            nengo.Connection(net.a, net.node, eval_points=given, function=given**2)
        for _ in range(2):
            nengo.Connection(net.a, net.node, eval_points=nengo.dists.Uniform(-1, 1))
    return net


def learning():
    with ensembles() as net:
        for _ in range(2):
            pes = nengo.Connection(net.a, net.b, learning_rule_type=nengo.PES())
            nengo.Connection(net.node, pes.learning_rule)
            nengo.Connection(
                net.a,
                net.b,
                solver=solvers.LstsqL2(weights=True),
                learning_rule_type=nengo.BCM(),
            )
            nengo.Connection(net.node, net.b, learning_rule_type=nengo.Voja())
    return net


def neurons(neuron_type):
    with ensembles(neuron_type) as net:
        for function in (None, None, np.square):
            nengo.Connection(net.a, net.b, function=function)
    return net


def noisy():
    """Random connection functions, noise, seeds of single objects, more neurons."""
    random = np.random.RandomState(0)
    with ensembles(noise=nengo.processes.WhiteNoise()) as net:
        wide = nengo.Ensemble(40, 1, n_eval_points=25)
        for seed in (None, 1, None):
            nengo.Connection(
                net.a, net.node, function=lambda x: random.uniform(size=2), seed=seed
            )
            nengo.Connection(wide, net.node[0], seed=seed)
            nengo.Connection(wide, net.node[1], function=np.sin, seed=seed)
    return net


def transforms():
    """All forms that a matrix may have, and none."""
    with ensembles() as net:
        wide = nengo.Node(size_in=3)
        for transform in (
            1,
            2.5,
            [0.5, -1],
            [[0, 1], [2, 0]],
            nengo.dists.Gaussian(0, 1),
        ):
            nengo.Connection(net.a, net.b, transform=transform)
            nengo.Connection(net.node, net.node, transform=transform)
        nengo.Connection(net.a, wide, transform=np.ones((3, 2)), synapse=nengo.Alpha(0.1))
        nengo.Connection(
            net.a, wide, transform=nengo.Dense((3, 2), nengo.dists.Uniform(0, 1))
        )
        nengo.Connection(wide, net.a.neurons, transform=np.ones((30, 3)))
        nengo.Connection(net.a.neurons, net.b.neurons[:20], transform=np.ones((20, 30)))
        nengo.Connection(net.node, net.node, transform=nengo.Sparse((2, 2), [[0, 1]]))
        for values in (None, np.ones((30, 2)), np.asfortranarray(np.eye(30, 2))):
            for weights in (False, True):
                solver = solvers.NoSolver(values, weights=weights)
                nengo.Connection(net.a, net.b, solver=solver, transform=0.5)
                nengo.Connection(net.a, net.b, solver=solver)
    return net


NETWORKS = {
    "transforms": transforms,
    "functions": functions,
    "solvers": all_solvers,
    "weights": weight_solvers,
    "points": own_points,
    "learning": learning,
    "noisy": noisy,
    "relu": lambda: neurons(nengo.RectifiedLinear()),
    "poisson": lambda: neurons(nengo.PoissonSpiking(nengo.LIFRate())),
    "direct": lambda: neurons(nengo.Direct()),
    "own rates": lambda: neurons(OwnRates()),
    "own rates inside": lambda: neurons(nengo.RegularSpiking(OwnRates())),
}


def build(make, shared=True, cache=None):
    """A built model; without ``shared`` it is core's."""
    OwnRates.calls = Counting.calls = 0
    net = make()
    builder = NengoBuilder() if shared else None
    model = Model(decoder_cache=cache or NoDecoderCache(), builder=builder)
    if shared:
        with solved_once(model):
            model.build(net)
    else:
        model.build(net)
    return model


def same(x, y):
    """Whether two built things are equal to the last bit, wall-clock times apart."""
    if isinstance(x, np.ndarray):
        return (
            (x.dtype, x.shape, x.strides) == (y.dtype, y.shape, y.strides)
        ) and x.tobytes() == y.tobytes()
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(k == "time" or same(x[k], y[k]) for k in x)
    if isinstance(x, tuple | list):
        return len(x) == len(y) and all(map(same, x, y))
    return type(x) is type(y) and (x == y or repr(x).split(" at ")[0] in repr(y))


def without_addresses(obj):
    return re.sub("0x[0-9a-f]+", "", str(obj))


def assert_same_models(model, expected):
    assert list(model.seeds.values()) == list(expected.seeds.values())
    assert len(model.params) == len(expected.params) > 3
    for (obj, found), wanted in zip(model.params.items(), expected.params.values()):
        assert same(found, wanted), obj
    assert len(model.operators) == len(expected.operators)
    for op, other in zip(model.operators, expected.operators):
        assert type(op) is type(other)
        assert without_addresses(op) == without_addresses(other)
        for signal, wanted in zip(op.all_signals, other.all_signals, strict=True):
            assert same(signal.initial_value, wanted.initial_value), signal
            assert without_addresses(signal) == without_addresses(wanted)
            assert signal.readonly == wanted.readonly


@pytest.fixture
def solves(monkeypatch):
    """The list of solvers that have been called, one entry for each call."""
    called = []
    factor = module.System._solve_by_factor
    monkeypatch.setattr(
        module.System,
        "_solve_by_factor",
        lambda *args: called.append(args[1]) or factor(*args),
    )
    return called


@pytest.mark.filterwarnings("ignore:Number of eval_points doesn't match")
@pytest.mark.parametrize("name", NETWORKS)
def test_everything_built_is_core_s(name):
    model, expected = (build(NETWORKS[name], shared) for shared in (True, False))
    assert_same_models(model, expected)


def test_everything_built_is_core_s_in_single_precision():
    before = nengo.rc.get("precision", "bits")
    nengo.rc.set("precision", "bits", "32")
    try:
        for make in (transforms, functions):
            model, expected = (build(make, shared) for shared in (True, False))
            assert_same_models(model, expected)
    finally:
        nengo.rc.set("precision", "bits", before)
    assert model.params[model.toplevel.connections[0]].weights.dtype == np.float32


def test_without_memory_the_same_is_built(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 0)
    for name in ("functions", "solvers"):
        assert_same_models(build(NETWORKS[name]), build(NETWORKS[name], shared=False))


def test_equal_decoders_are_solved_once(solves):
    build(functions)
    # of a: x, x^2, (x0, -x1), x0 x1, two orders of x; of b: x1
    assert len(solves) == 7


def test_networks_without_a_seed_share_too(solves):
    model = build(lambda: neurons_without_seed(4))
    weights = [model.params[c].weights for c in model.toplevel.connections]
    assert len(solves) == 1 and all(np.array_equal(w, weights[0]) for w in weights)


def neurons_without_seed(n):
    with ensembles(seed=None) as net:
        for _ in range(n):
            nengo.Connection(net.a, net.b)
    return net


def test_each_connection_has_its_own_arrays():
    model = build(functions)
    first, second = (
        model.params[c]
        for c in model.toplevel.connections
        if c.function is None and c.size_mid == 2 and c.post is model.toplevel.b
    )
    assert np.array_equal(first.weights, second.weights)
    assert not np.shares_memory(first.weights, second.weights)
    assert first.solver_info is not second.solver_info
    assert not np.shares_memory(first.solver_info["rmses"], second.solver_info["rmses"])


def test_solvers_of_users_run_for_each_connection():
    def make():
        with ensembles() as net:
            for _ in range(3):
                nengo.Connection(net.a, net.node, solver=Counting())
        return net

    build(make)
    assert Counting.calls == 3


def test_functions_are_called_as_often_as_in_core():
    calls = []

    def function(x):
        calls.append(x.copy())
        return x

    def make():
        with ensembles() as net:
            for _ in range(2):
                nengo.Connection(net.a, net.node, function=function)
        return net

    build(make)
    mine = np.array(calls)
    calls.clear()
    build(make, shared=False)
    assert np.array_equal(mine, calls)


@pytest.mark.parametrize("cls", sorted(DETERMINISTIC, key=lambda cls: cls.__name__))
def test_deterministic_solvers_draw_nothing_and_change_nothing(cls, rng):
    activities = rng.uniform(0, 100, size=(50, 10)) * (rng.uniform(size=(50, 10)) > 0.5)
    targets = rng.uniform(-1, 1, size=(50, 2))
    before = activities.copy(), targets.copy()
    solver = cls() if issubclass(cls, solvers.Solver) else solvers.LstsqL2(solver=cls())
    random = np.random.RandomState(1)
    state = random.get_state()[1].copy()
    np.random.seed(7)
    found, _ = solver(activities, targets, rng=random)
    assert np.array_equal(random.get_state()[1], state)
    assert np.random.randint(1000) == np.random.RandomState(7).randint(1000)
    assert np.array_equal(activities, before[0]) and np.array_equal(targets, before[1])
    assert np.array_equal(solver(activities, targets, rng=random)[0], found)


def test_random_solvers_are_known_as_such():
    random = {solvers.LstsqNoise, solvers.LstsqMultNoise, least_squares.RandomizedSVD}
    random.add(solvers.LstsqL1)  # scikit-learn draws from NumPy's global generator
    assert not random & DETERMINISTIC


def test_cache_on_disk_is_used_and_filled(tmp_path, solves):
    expected = build(functions, shared=False)
    for new_solves in (7, 0):
        solves.clear()
        model = build(functions, cache=DecoderCache(cache_dir=str(tmp_path)))
        assert len(solves) == new_solves
        for conn, other in zip(model.toplevel.connections, expected.toplevel.connections):
            weights = model.params[conn].weights
            assert np.array_equal(weights, expected.params[other].weights)


def test_a_silent_ensemble_is_core_s_error():
    def make():
        with nengo.Network(seed=0) as net:
            silent = nengo.Ensemble(5, 1, gain=np.ones(5), bias=np.full(5, -9.0))
            nengo.Connection(silent, nengo.Node(size_in=1))
        return net

    with pytest.raises(nengo.exceptions.BuildError, match="matrix is all zero"):
        build(make)


def test_function_without_result_is_an_error():
    results = iter([np.zeros(2)])  # for the call that finds out the size

    def make():
        with ensembles() as net:
            nengo.Connection(net.a, net.node, function=lambda x: next(results, None))
        return net

    with pytest.raises(nengo.exceptions.BuildError, match="returned None"):
        build(make)


def test_own_build_functions_go_first():
    class Special(solvers.LstsqL2):
        pass

    class Own(Builder):
        builders = {Special: lambda model, solver, conn, rng: "special"}

        @classmethod
        def build(cls, model, obj, *args, **kwargs):
            function = cls.builders.get(type(obj))
            return function(model, obj, *args, **kwargs)

    builder = SharingBuilder(Own)
    assert builder.build(None, Special(), None, None) == "special"


def test_the_builder_is_put_back():
    model = Model()
    builder = model.builder
    with pytest.raises(ZeroDivisionError), solved_once(model):
        assert isinstance(model.builder, SharingBuilder)
        raise ZeroDivisionError
    assert model.builder is builder


def chain_of(n):
    with nengo.Network(seed=0) as net:
        last = nengo.Node([0.5])
        for _ in range(n):
            ens = nengo.Ensemble(20, 1, n_eval_points=100)
            nengo.Connection(last, ens)
            nengo.Connection(ens, ens, function=np.square)
            last = ens
        nengo.Probe(last, synapse=0.01)
        nengo.Probe(last[:1])
    return net


def test_activities_are_given_back_after_the_last_connection(monkeypatch, solves):
    """A build holds those of few ensembles at a time, and a simulator none."""
    held = []
    make_room = SharingBuilder._make_room

    def noted(self, latest):
        make_room(self, latest)
        held.append(self._bytes)

    monkeypatch.setattr(SharingBuilder, "_make_room", noted)
    gc.collect()
    net = chain_of(6)
    with nengo_dl.Simulator(net, progress_bar=False):
        alive = [obj for obj in gc.get_objects() if isinstance(obj, module.System)]
        assert not alive
    one = held[0]
    assert one > 100 * 20 * 8
    assert max(held) < 3 * one
    assert len(held) == 6 + 5 + 2
    model, expected = Model(), Model()
    with solved_once(model, net):
        model.build(net)
    expected.build(net)
    assert_same_models(model, expected)


def test_more_connections_than_were_counted(monkeypatch):
    """What was given back too early is computed once more, and is the same."""
    monkeypatch.setattr(
        module, "_readers", lambda net: Counter(dict.fromkeys(net.all_ensembles, 1))
    )
    model, expected = Model(), Model()
    net = chain_of(2)
    with solved_once(model, net):
        model.build(net)
    expected.build(net)
    assert_same_models(model, expected)
