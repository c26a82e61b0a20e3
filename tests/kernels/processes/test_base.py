"""Processes that run as Python: random numbers, batch items, inputs; and native ones."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.operator import Reset
from nengo.builder.processes import SimProcess
from nengo.exceptions import SimulationError

from nengo_dl.kernels.processes.base import native_rule, process_rules
from nengo_dl.runtime.program import Program, Specialization
from tests.kernels.kernel_harness import (
    ITEMS,
    SEED,
    STEPS,
    Bench,
    Case,
    bench_of_network,
    every_step,
    program_of,
    simulate,
    trajectory,
)


class Accumulate(nengo.Process):
    """Sums up its input, some noise, and what it is told to start with."""

    def __init__(self, start=0.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"total": np.full(shape_out, self.start)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        total = state["total"]
        assert shape_in == (0,) or len(shape_in) >= 1

        def step(t, x=0.0):
            total[...] += 0.01 * np.sum(x) + rng.uniform(-0.1, 0.1, size=shape_out)
            return total

        return step


def bench_of_process(process, mode="set", shape=(2,), fed=None):
    """A bench with one process; ``fed``: the shape of its input."""
    bench = Bench()

    def build(bench, variant):
        x = None if fed is None else bench.feed(*fed)
        y = bench.signal(shape)
        initial = process.make_state(fed or (0,), shape, bench.model.dt)
        state = {name: bench.signal(value) for name, value in initial.items()}
        if mode == "inc":
            bench.add(Reset(y, value=2.0))
        bench.add(SimProcess(process, x, y, bench.model.time, mode=mode, state=state))
        bench.watch(y)

    bench.build(Case("process", build), 0)
    return bench


def of_core(bench, batch=ITEMS):
    """What core gives for each item."""
    return np.stack([trajectory(bench, item)[0][0] for item in range(batch)])


# -- which way a process runs ----------------------------------------------------------


def test_rules_are_found_for_subclasses_that_change_nothing():
    class Own(nengo.Lowpass):
        pass

    class Changed(nengo.Lowpass):
        def make_step(self, *args, **kwargs):
            step = super().make_step(*args, **kwargs)
            return lambda t, x: -step(t, x)

    rule = process_rules.exact(nengo.LinearFilter)
    for synapse in (nengo.Lowpass(0.1), nengo.Alpha(0.1), Own(0.1)):
        assert native_rule(synapse) is rule
    assert native_rule(Changed(0.1)) is None
    assert native_rule(nengo.processes.WhiteNoise()) is None


def test_a_changed_subclass_runs_its_own_code(allclose):
    class Changed(nengo.Lowpass):
        def make_step(self, *args, **kwargs):
            step = super().make_step(*args, **kwargs)
            return lambda t, x: -step(t, x)

    bench = bench_of_process(nengo.Lowpass(0.02), fed=(2,))
    (plain,) = simulate(bench, "numpy", "float64", 3)
    bench = bench_of_process(Changed(0.02), fed=(2,))
    (changed,) = simulate(bench, "numpy", "float64", 3)
    assert np.ptp(changed) > 0.1
    assert allclose(changed, -plain, atol=1e-14)
    assert allclose(changed, of_core(bench), atol=1e-14)


@pytest.mark.parametrize(
    "process",
    (
        nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 1), scale=False),
        nengo.processes.FilteredNoise(nengo.Alpha(0.02)),
        nengo.processes.BrownNoise(),
        nengo.processes.WhiteSignal(0.08, high=100),
        nengo.processes.PresentInput([[1, 2], [3, 4], [5, 6]], 0.005),
        nengo.processes.Piecewise({0.01: [1, 2], 0.03: [0.5, 0]}, interpolation="zero"),
    ),
    ids=lambda process: type(process).__name__,
)
@pytest.mark.parametrize("tier", ("numpy", "program"))
def test_processes_of_core(process, tier, allclose):
    bench = bench_of_process(process)
    (ours,) = simulate(bench, tier, "float64", ITEMS)
    core = of_core(bench)
    assert np.ptp(core) > 0.1
    assert allclose(ours, core, atol=0, rtol=0)


@pytest.mark.parametrize(
    "synapse",
    (nengo.synapses.Triangle(0.01), nengo.processes.FilteredNoise()),
    ids=lambda synapse: type(synapse).__name__,
)
@pytest.mark.parametrize("mode", ("set", "inc", "update"))
def test_synapses_without_a_rule(synapse, mode, allclose):
    fed = (2,) if isinstance(synapse, nengo.synapses.Synapse) else None
    bench = bench_of_process(synapse, mode, fed=fed)
    (ours,) = simulate(bench, "numpy", "float64", ITEMS)
    assert np.ptp(ours) > 0.05
    assert allclose(ours, of_core(bench), atol=1e-14)


# -- random numbers --------------------------------------------------------------------


@pytest.mark.parametrize("fed", (None, (3,)))
@pytest.mark.parametrize("mode", ("set", "inc", "update"))
def test_every_item_is_a_simulator_of_its_own(mode, fed, allclose):
    bench = bench_of_process(Accumulate(0.5), mode, fed=fed)
    (ours,) = simulate(bench, "numpy", "float64", ITEMS)
    core = of_core(bench)
    assert allclose(ours, core, atol=0, rtol=0)
    assert not np.allclose(core[0], core[1])


def test_a_seed_of_its_own_is_the_same_for_all_items(allclose):
    bench = bench_of_process(Accumulate(seed=4))
    (ours,) = simulate(bench, "numpy", "float64", ITEMS)
    assert allclose(ours, of_core(bench), atol=0, rtol=0)
    assert allclose(ours, ours[:1].repeat(3, 0), atol=0, rtol=0)


def test_resetting_starts_again():
    program = program_of(bench_of_process(Accumulate()), "float64", ITEMS)
    first = np.concatenate(list(every_step(program.run(0, 20))))
    second = np.concatenate(list(every_step(program.run(20, 20))))
    assert not np.array_equal(first, second)
    program.reset(SEED)
    assert np.array_equal(np.concatenate(list(every_step(program.run(0, 20)))), first)
    program.reset(SEED + 1)
    other = np.concatenate(list(every_step(program.run(0, 20))))
    assert np.array_equal(other[:, :, :-1], first[:, :, 1:])  # one item further


def test_the_pieces_of_a_run_are_one_run(allclose):
    bench = bench_of_process(Accumulate(), fed=(2,), mode="inc")
    (whole,) = simulate(bench, "numpy", "float64", ITEMS)
    program = program_of(bench, "float64", ITEMS)
    pieces, first = [], 0
    for length in (1, 30, 17, 52):
        data = {s: d[:, first : first + length] for s, d in bench.data.items()}
        pieces += list(every_step(program.run(first, length, data)))
        first += length
    assert first == STEPS
    ours = np.concatenate(pieces).transpose(2, 0, 1)
    assert allclose(ours, whole, atol=0, rtol=0)


def test_random_numbers_come_in_the_order_of_core(allclose):
    """Every process draws a seed, also where it runs natively or is given data."""
    with nengo.Network(seed=0) as net:
        nodes = [nengo.Node(Accumulate(), size_out=1) for _ in range(3)]
        noise = nengo.Node(nengo.processes.WhiteNoise(), size_out=1)
        ens = nengo.Ensemble(10, 1, noise=nengo.processes.WhiteNoise())
        for pre in (*nodes, noise):
            nengo.Connection(pre, ens, synapse=nengo.Alpha(0.01))
            nengo.Probe(pre, synapse=0.005)
        nengo.Probe(ens.neurons, "input")
    bench = bench_of_network(net)
    ours = simulate(bench, "numpy", "float64", ITEMS)
    for item in range(ITEMS):
        for mine, core in zip(ours, trajectory(bench, item)[0], strict=True):
            assert np.ptp(core) > 0.01
            assert allclose(mine[item], core, atol=1e-11)


# -- inputs and outputs ----------------------------------------------------------------


@pytest.mark.parametrize("tier", ("numpy", "tensorflow"))
def test_input_is_a_copy_of_its_own(tier):
    kept = []

    class Keep(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            assert (shape_in, shape_out, dt) == ((2, 3), (3, 2), 0.001)

            def step(t, x):
                kept.append((t, x, x.copy()))
                result = x.T.copy()
                x[...] = np.nan
                return result

            return step

    bench = bench_of_process(Keep(), shape=(3, 2), fed=(2, 3))
    (data,) = bench.data.values()
    (ours,) = simulate(bench, tier, "float64", ITEMS, n_steps=64)
    assert np.array_equal(ours, data[:, :64].transpose(0, 1, 3, 2).reshape(3, 64, 6))
    assert [t for t, _, _ in kept] == [i * 0.001 for i in range(1, 65) for _ in range(3)]
    given = np.array([before for _, _, before in kept]).reshape(64, 3, 2, 3)
    assert np.array_equal(given, data[:, :64].swapaxes(0, 1))
    assert {(type(t), x.dtype.name, x.flags.writeable) for t, x, _ in kept} == {
        (float, "float64", True)
    }


@pytest.mark.parametrize("fed", (None, (1,)))
@pytest.mark.parametrize(
    "mode, value",
    (
        ("set", 2),
        ("inc", 0.5),
        ("update", np.float32(0.5)),
        ("inc", [1, 2]),
        ("set", np.array([[3.0, 4.0]])),
    ),
)
def test_what_a_process_returns_is_broadcast(mode, value, fed, allclose):
    class Return(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            return lambda *args: value

    bench = bench_of_process(Return(), mode, fed=fed)
    (ours,) = simulate(bench, "numpy", "float64", ITEMS)
    core = of_core(bench)
    assert core[:, -1].all()
    assert allclose(ours, core, atol=0, rtol=0)


@pytest.mark.parametrize("fed", (None, (1,)))
def test_a_process_may_return_its_state(fed):
    """Later changes of an array that was returned must not show."""
    bench = bench_of_process(Accumulate(), fed=fed)
    (ours,) = simulate(bench, "numpy", "float64", 1)
    assert (np.diff(ours[0], axis=0) != 0).all()


@pytest.mark.parametrize("fed", (None, (1,)))
def test_errors_of_a_process_come_out_after_the_steps_before(fed):
    class Failing(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            def step(t, x=0):
                if t > 0.0035:
                    raise ZeroDivisionError("no more")
                return t

            return step

    bench = bench_of_process(Failing(), fed=fed)
    rows = []
    with pytest.raises(ZeroDivisionError, match="no more"):
        data = {s: d.reshape(ITEMS, STEPS, -1) for s, d in bench.data.items()}
        for chunk in every_step(program_of(bench, "float64", ITEMS).run(0, 20, data)):
            rows.append(chunk[:, 0, 0])
    assert np.array_equal(np.concatenate(rows), [1 * 0.001, 2 * 0.001, 3 * 0.001])


def test_errors_of_make_step_come_out():
    class Broken(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            raise RuntimeError("cannot start")

    with pytest.raises(RuntimeError, match="cannot start"):
        program_of(bench_of_process(Broken()), "float64", 1)


# -- how it is compiled ----------------------------------------------------------------


def test_processes_of_core_do_not_keep_functions_in_the_loop():
    """A user's function with input runs as before beside a process of core."""

    def stepwise(process):
        with nengo.Network() as net:
            noise = nengo.Node(process, size_out=1)
            node = nengo.Node(lambda t, x: x + 1, size_in=1)
            nengo.Connection(noise, node)
            nengo.Probe(node)
        model = Model(dt=0.001)
        model.build(net)
        program = Program(model, {}, 1, "float32")
        return program.compiled(Specialization()).stepwise_python

    class Global(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            return lambda t: np.random.rand() + print(end="") or 0.0

    class Random(nengo.dists.Gaussian):
        def sample(self, n, d=None, rng=None):
            return np.random.normal(size=(n, d)) + print(end="") or 0.0

    class Held(nengo.Lowpass):
        def make_step(self, *args, **kwargs):
            print(end="")
            return super().make_step(*args, **kwargs)

    pieces = {0: 1, 0.1: lambda t: print(end="") or 0.0}
    assert not stepwise(nengo.processes.WhiteNoise())
    assert not stepwise(nengo.processes.Piecewise({0: 1, 0.1: lambda t: t}))
    assert stepwise(Global())
    assert stepwise(nengo.processes.Piecewise(pieces))
    assert stepwise(nengo.processes.WhiteNoise(Random(0, 1)))
    assert stepwise(nengo.processes.FilteredNoise(Held(0.1)))


def test_a_native_synapse_gives_no_warning(recwarn):
    for synapse in (nengo.Alpha(0.1), nengo.synapses.Triangle(0.01)):
        program_of(bench_of_process(synapse, fed=(2,)), "float64", 1)
    assert not [w for w in recwarn if "native form" in str(w.message)]


def test_a_value_that_does_not_fit_is_named():
    class Wrong(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            return lambda *args: [1.0, 2.0, 3.0]

    for fed in (None, (1,)):
        bench = bench_of_process(Wrong(), fed=fed)
        data = {s: d.reshape(ITEMS, STEPS, -1) for s, d in bench.data.items()}
        with pytest.raises(SimulationError, match=r"Wrong.*shape \(2,\)"):
            list(program_of(bench, "float64", ITEMS).run(0, 5, data))
