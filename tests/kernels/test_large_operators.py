"""Operators of users on large arrays: nothing is copied that need not be."""

import tracemalloc

import nengo
import numpy as np
import pytest
from nengo.builder import Builder as CoreBuilder
from nengo.builder.operator import Copy, Reset
from nengo.builder.signal import Signal

import nengo_dl
from nengo_dl import notices
from nengo_dl.kernels.fallback import PythonOperator
from tests import networks
from tests.kernels import own_operators as own
from tests.kernels.own_operators import Own, core, silence, simulate, vector


@pytest.fixture
def machine(monkeypatch):
    """``machine(factory)`` is a node that is made of any operators."""
    return own.machine_maker(monkeypatch)


def large(model, x, y):
    """Weights that one operator changes, and another reads; small signals between."""
    size = 40  # 1,600 entries
    weights, trace = Signal(np.eye(size), name="weights"), vector(size, name="trace")
    delta = Signal(np.zeros((size, size)), name="delta")
    total = Signal(np.zeros(()), name="total")

    class Rule(Own):
        def make_step(self, signals, dt, rng):
            x, weights, delta, trace, total = (signals[s] for s in self.all_signals)
            seen = []

            def step():
                seen.append(weights.dtype)
                assert weights.shape == (size, size)
                trace[:3] = 0.5 * trace[:3] + x
                delta[...] = 0.5 * delta + 0.01 * (np.outer(trace, trace) - weights)
                total[...] = weights.sum()
                assert set(seen) == {np.dtype(np.float64)}

            return step

    return [
        Rule(None, [x, weights], updates=[delta, trace, total]),
        Copy(delta, weights, inc=True),
        Reset(y),
        Copy(delta[0, :3], y, inc=True),
        Copy(weights[1, 1:4], y, inc=True),
        Copy(trace[:3], y, inc=True),
    ]


@pytest.mark.parametrize("minibatch_size", (None, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_operators_on_large_arrays_run_as_in_core(
    machine, allclose, dtype, minibatch_size
):
    """In pieces, back and forth, and after what was put back."""
    net = own.network_of(machine, large, dtype=dtype)
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    with core(net, seed=3) as sim:
        expected = simulate(sim, 30)
    with silence():
        sim = nengo_dl.Simulator(
            net, progress_bar=False, minibatch_size=minibatch_size, seed=3
        )
    with sim:
        for _ in range(2):
            sim.run_steps(7)
            sim.run_steps(5, stateful=False)
            sim.clear_probes()
            sim.reset()
            sim.run_steps(10)
            sim.run_steps(9, stateful=False)
        sim.reset()
        sim.run_steps(11)
        sim.step()
        found = simulate(sim, 18)
        for one, other in zip(found, expected, strict=True):
            one = one if minibatch_size is None else one[1]
            assert np.ptp(other) > 0.01
            assert allclose(one, other, rtol=tolerance, atol=tolerance)


class Hebb(nengo.learning_rules.LearningRuleType):
    """A rule for all weights that is an operator of a user."""

    modifies = "weights"

    def __init__(self):
        super().__init__(1e-3, size_in=0)


def plastic(dtype="float64", fails=(), probed=True, size=40, **probe):
    """Weights that ``Hebb`` changes; it fails where ``fails`` says so."""

    class Rule(Own):
        def make_step(self, signals, dt, rng):
            pre, post, weights, delta, trace = (signals[s] for s in self.all_signals)

            def step():
                trace[...] = 0.9 * trace + dt * pre
                fail = fails and fails.pop()
                if fail == "early":
                    delta[:7] = np.nan
                    raise ValueError("now")
                delta[...] = 0.5 * delta + np.outer(dt * post, trace) * (0.01 - weights)
                if fail:
                    raise ValueError("now")

            return step

    @CoreBuilder.register(Hebb)
    def build(model, hebb, rule):
        conn = rule.connection
        reads = [model.sig[conn.pre_obj]["out"], model.sig[conn.post_obj]["out"]]
        reads.append(model.sig[conn]["weights"])
        updates = [model.sig[rule]["delta"], vector(size, name="trace")]
        model.add_op(Rule(None, reads, updates=updates))

    with nengo.Network(seed=2) as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node(networks.waves(1))
        a, b = (nengo.Ensemble(size, 1, neuron_type=nengo.LIFRate()) for _ in range(2))
        nengo.Connection(inp, a)
        conn = nengo.Connection(
            a.neurons, b.neurons, transform=np.eye(size) / 99, learning_rule_type=Hebb()
        )
        nengo.Probe(b.neurons)
        if probed:
            nengo.Probe(conn, "weights", **probe)
    return net


def shares(sim, name):
    """Whether a signal of an operator on large arrays lies in the state itself."""
    (host,) = [h for h in sim._program.hosts.values() if isinstance(h, PythonOperator)]
    (tier,) = sim._program.executors
    return any(
        np.may_share_memory(carry, flat)
        for item in host.items
        for base, flat in item.arrays.flat.items()
        for carry in tier.program.carry
        if name.lower() in base.name.lower()
    )


def learned(net, **kwargs):
    """Without the warnings of its operator."""
    with silence():
        return nengo_dl.Simulator(net, progress_bar=False, seed=3, **kwargs)


@pytest.mark.parametrize(
    "dtype, minibatch_size, shared",
    [("float64", None, True), ("float64", 2, False), ("float32", None, False)],
)
@pytest.mark.parametrize(
    "probe", [{"probed": False}, {"probed": True}, {"sample_every": 0.004}]
)
def test_large_signals_of_one_item_are_not_copied(
    machine, allclose, probe, dtype, minibatch_size, shared
):
    net = plastic(dtype, **probe)
    with nengo.Simulator(net, progress_bar=False, seed=3) as sim:
        expected = simulate(sim, 60)
    with learned(net, minibatch_size=minibatch_size) as sim:
        for _ in range(2):
            found = simulate(sim, 60)
            assert shares(sim, "weights") is shared
            assert shares(sim, "delta") is shared
            for one, other in zip(found, expected, strict=True):
                one = one if minibatch_size is None else one[1]
                tolerance = 1e-12 if dtype == "float64" else 1e-4
                assert np.ptp(other, axis=0).max() > 0.001
                assert allclose(one, other, rtol=tolerance, atol=tolerance)
            sim.reset()


@pytest.mark.parametrize("method", ("run_steps", "step"))
@pytest.mark.parametrize("sampled", (False, True))
def test_operators_on_large_arrays_may_fail(machine, sampled, method):
    """After writing some or all of what they write; nothing of that is left."""
    fails = []
    net = plastic(fails=fails, **({"sample_every": 0.003} if sampled else {}))
    with learned(net) as sim:
        expected = simulate(sim, 25)
        sim.reset()
        fails += [None, "late", None, None, None, "early", "late", None, "early", None]
        while sim.n_steps < 25:
            try:
                sim.run_steps(25 - sim.n_steps) if method == "run_steps" else sim.step()
            except ValueError:
                pass
        assert not fails
        for probe, data in zip(net.probes, expected, strict=True):
            assert np.array_equal(sim.data[probe], data)


def test_states_of_operators_on_large_arrays_are_put_back(machine, allclose, tmp_path):
    """Saving, loading and going back, while the state lies in their arrays."""
    net = plastic(probed=False)
    found = []
    for minibatch_size in (None, 2):  # with and without arrays that are shared
        path = tmp_path / f"state{minibatch_size}"
        with learned(net, minibatch_size=minibatch_size) as sim:
            sim.run_steps(9)
            sim.run_steps(4, stateful=False)
            sim.clear_probes()
            sim.save_params(path, include_state=True)
            (expected,) = simulate(sim, 8)
            sim.run_steps(3, stateful=False)
            weights = sim.data[net.all_connections[-1]].weights.copy()
            sim.load_params(path, include_state=True)
            sim.clear_probes()
            assert np.array_equal(simulate(sim, 8)[0], expected)
            found.append((expected if minibatch_size is None else expected[0], weights))
    for one, other in zip(*found, strict=True):
        assert np.ptp(other, axis=0).max() > 0.001
        assert allclose(one, other, rtol=1e-10, atol=1e-10)


def test_what_is_copied_is_said_with_its_bytes(machine):
    notices.forget()
    net = own.network_of(machine, large)
    with pytest.warns(UserWarning, match="operator Rule") as found:
        nengo_dl.Simulator(net, progress_bar=False).close()
    (warning,) = [w for w in found if "native form" in str(w.message)]
    # weights on the way in, what is learned on the way out; not what only it writes
    assert "copies up to 26 kB of signals" in str(warning.message)


def test_memory_is_bounded_with_large_results(machine):
    """Results of some steps are kept, to run these again, and not more and more."""
    net = own.network_of(machine, large, feedback=False)
    with silence(), nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(50)
        tracemalloc.start()
        try:
            sim.run_steps(2000)
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert used < 2**23 < 2000 * 1600 * 8


def test_compiling_takes_some_hundred_bytes_for_each_weight(machine):
    """For weights, their change, and what the compiler knows of both."""
    size = 240
    net = plastic(probed=False, size=size)
    tracemalloc.start()
    try:
        with learned(net) as sim:
            sim.run_steps(3)
            held, peak = tracemalloc.get_traced_memory()
            layouts = len(sim._program._layouts)
    finally:
        tracemalloc.stop()
    assert layouts == 1  # what runs in the loop is known without another one
    assert peak < 950 * size**2
    assert held < 670 * size**2
