"""Decoders that others solve for ahead of the build are the same, to the bit."""

import pickle
from concurrent.futures import Future, ThreadPoolExecutor

import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError, ValidationError

import nengo_dl
from nengo_dl.simulator import ahead


class Sending:
    """An executor that sends what it runs, as other processes would be sent it."""

    def __init__(self):
        self.sizes, self.functions = [], set()

    def submit(self, function, *args):
        sent = pickle.dumps((function, args))
        self.sizes.append(len(sent))
        self.functions.add(function)
        function, args = pickle.loads(sent)
        future = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*args))))
        return future


class Broken:
    """One that loses its workers."""

    def submit(self, function, *args):
        future = Future()
        future.set_exception(RuntimeError("a worker is gone"))
        return future


class Own(nengo.solvers.LstsqL2):
    """A user's solver may do anything, so it solves in its turn."""


def network(executor=None, calls=None):
    """Ensembles and networks inside; what is random in a build has its seeds."""

    def square(x):
        if calls is not None:
            calls.append(x[0])
        return x[0] ** 2

    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(decoder_executor=executor)
        a, b = nengo.Ensemble(20, 2), nengo.Ensemble(30, 1)
        with nengo.Network():
            c, d = nengo.Ensemble(15, 1), nengo.Ensemble(10, 1)
            nengo.Connection(c, d)
        nengo.Connection(a, b, function=square)
        nengo.Connection(a, c, function=square)  # the same equations
        points = nengo.dists.Uniform(-1, 1)
        random = nengo.dists.Uniform(0, 1)  # drawn after what the solver might draw
        nengo.Connection(a, d, eval_points=points, transform=random)
        solver = nengo.solvers.LstsqL2(weights=True)
        nengo.Connection(b, c, function=np.sin, solver=solver)
        nengo.Connection(b, d, solver=Own())
        nengo.Probe(a)
    return net


def weights(net):
    """Everything that a build draws or solves for."""
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        built = [sim.model.params[conn] for conn in net.all_connections]
        errors = [b.solver_info["rmses"] for b in built if "rmses" in b.solver_info]
        return [b.weights for b in built] + [b.eval_points for b in built] + errors


@pytest.fixture(scope="module")
def serial():
    return weights(network())


@pytest.mark.parametrize("make", (Sending, lambda: ThreadPoolExecutor(2)))
@pytest.mark.parametrize("together", (0, ahead.TOGETHER))
def test_decoders_are_the_same(serial, make, together, monkeypatch):
    monkeypatch.setattr(ahead, "TOGETHER", together)
    found = weights(network(make()))
    assert len(found) == len(serial)
    assert all(np.array_equal(a, b) for a, b in zip(found, serial, strict=True))


def test_what_is_sent_is_small(monkeypatch):
    executor = Sending()
    monkeypatch.setattr(ahead, "MOST_BYTES", 1)  # one chunk after the other
    weights(network(executor))
    assert executor.functions == {ahead.solved}
    assert max(executor.sizes) < 100_000


def test_functions_are_called_as_often_and_in_order():
    expected, found = [], []
    weights(network(calls=expected))
    weights(network(Sending(), calls=found))
    assert found == expected


def test_cached_decoders_are_not_sent(tmp_path):
    before = {name: nengo.rc.get("decoder_cache", name) for name in ("enabled", "path")}
    nengo.rc.set("decoder_cache", "enabled", "True")
    nengo.rc.set("decoder_cache", "path", str(tmp_path / "cache"))
    try:
        with nengo.Network(seed=0) as net:
            executor = Sending()
            nengo_dl.configure_settings(decoder_executor=executor)
            ens = nengo.Ensemble(10, 1, seed=1)
            conn = nengo.Connection(ens, nengo.Node(size_in=1), seed=2)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            first = sim.model.params[conn].weights
        assert len(executor.sizes) == 1
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            assert np.array_equal(sim.model.params[conn].weights, first)
        assert len(executor.sizes) == 1
    finally:
        for name, value in before.items():
            nengo.rc.set("decoder_cache", name, value)


def test_a_broken_executor_is_named():
    message = (
        "decoder_executor failed while solving for the decoders of <Connection.*gone"
    )
    with pytest.raises(BuildError, match=message):
        weights(network(Broken()))


def test_errors_are_those_of_a_serial_build():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(decoder_executor=Sending())
        ens = nengo.Ensemble(2, 1, gain=[1, 1], bias=[-9, -9], label="silent")
        nengo.Connection(ens, nengo.Node(size_in=1))
    with pytest.raises(BuildError, match="silent"):
        nengo_dl.Simulator(net, progress_bar=False)


def test_pickles_leave_the_executor_out():
    with nengo.Network(seed=0) as net, ThreadPoolExecutor(1) as executor:
        nengo_dl.configure_settings(decoder_executor=executor)
        nengo.Probe(nengo.Ensemble(10, 1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        restored = pickle.loads(pickle.dumps(sim))
    network = restored.network
    assert network.config[nengo.Network].decoder_executor.executor is None


def test_what_is_no_executor_is_refused():
    with nengo.Network(), pytest.raises(ValidationError, match="ProcessPoolExecutor"):
        nengo_dl.configure_settings(decoder_executor=4)
