"""Simulators whose steps are machine code; what all executors do is elsewhere.

`tests.runtime.test_conformance` has it.
"""

import subprocess
import sys

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError

import nengo_dl
from nengo_dl.runtime import stepwise
from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native import executor as native
from tests.runtime.test_conformance import KINDS, Bench, neurons, python

KIND = KINDS["native"]


def simulator(net, **settings):
    with net:
        nengo_dl.configure_settings(executor="native", dtype="float64", **settings)
    return nengo_dl.Simulator(net, progress_bar=False)


def calls_of(executor, monkeypatch):
    """How many steps each call of the machine code is asked for."""
    counts, run = [], executor.program._run

    def counted(*args):
        counts.append(args[5])
        return run(*args)

    monkeypatch.setattr(executor.program, "_run", counted)
    return counts


def test_a_run_is_one_call_for_each_chunk(monkeypatch):
    bench = Bench(neurons())
    executor = bench.executor(KIND)
    counts = calls_of(executor, monkeypatch)
    bench.run(executor, 0, 2 * costs.CHUNK_STEPS + 10)
    assert counts == [costs.CHUNK_STEPS, costs.CHUNK_STEPS, 10]


def test_calls_that_would_take_long_have_fewer_steps(monkeypatch):
    """So that Ctrl-C is noticed, and inputs and results do not fill the memory."""
    monkeypatch.setattr(costs, "CALL_SECONDS", 1e-6)
    executor = Bench(neurons()).executor(KIND)
    assert 1 <= executor.longest < 100
    monkeypatch.setattr(native.NativeExecutor, "chunk_bytes", 1000)
    assert Bench(neurons()).executor(KIND).longest <= 1000 // (9 * 8)


def test_samples_are_read_by_steps_beside_the_others(monkeypatch, allclose):
    """What they share is the state; nothing is called but at the samples."""
    from nengo_dl.runtime.executor import Sampling

    bench, plain = Bench(neurons()), Bench(neurons())
    sampled = bench.model.probes[1]
    executor = bench.executor(KIND, Sampling({sampled: 10}))
    counts = calls_of(executor, monkeypatch)
    seen = list(executor.run(0, 25))
    assert counts == [9, 9, 5]  # and one of each of the steps 10 and 20
    (_, samples) = (
        [part for part, _, only in seen[0].parts if only == o] for o in (0, 1)
    )
    expected = plain.run(plain.executor(KINDS["numpy"]), 0, 25)
    assert allclose(np.concatenate(samples), expected[[9, 19], 2:])


def test_a_failure_goes_on_where_it_was_with_samples_and_single_steps(allclose):
    """Functions are called once for each step, also if steps are undone."""
    from nengo_dl.runtime.executor import Sampling

    times = []

    def once(name):
        def call(number):
            if name == "second" and len(times) == 13:
                times.append("failed")
                raise RuntimeError("not now")
            if name == "second":
                times.append(number)

        return call

    calls = {name: once(name) for name in ("source", "first", "second")}
    bench, plain = Bench(python(True, calls)), Bench(python(True))
    del times[:]  # building called it
    executor = bench.executor(KIND, Sampling({bench.model.probes[1]: 5}))
    rows = []
    with pytest.raises(RuntimeError, match="not now"):
        for seen in executor.run(0, 20):
            rows += list(seen.parts[0][0])
    executor.settle(len(rows))
    assert len(rows) == 13
    for start in range(13, 16):
        rows += list(executor.step(start).parts[0][0])
    rows += [row for seen in executor.run(16, 4) for row in seen.parts[0][0]]
    expected = plain.run(plain.executor(KINDS["numpy"]), 0, 20)
    assert allclose(np.stack(rows), expected[:, :1])
    assert len(times) == 21  # each step, and the failure


def test_steps_that_nobody_took_are_run_again_without_calls(allclose):
    calls = dict.fromkeys(("source", "first", "second"), lambda number: made.append(1))
    made = []
    bench, plain = Bench(python(True, calls)), Bench(python(True))
    del made[:]
    executor = bench.executor(KIND)
    run = executor.run(0, 30)
    next(run)  # of which the caller takes 11
    run.close()
    executor.settle(11)
    found = bench.run(executor, 11, 19)
    expected = plain.run(plain.executor(KINDS["numpy"]), 0, 30)
    assert allclose(found, expected[11:])
    assert len(made) == 3 * 30


def test_an_interrupt_waits_for_the_end_of_a_step_and_no_longer(allclose):
    """Where Python is called in the steps, which may take any time."""
    made = []

    def first(number):
        made.append(number)
        if len(made) == 12:
            stepwise.waiting.came = 0.0

    calls = dict(dict.fromkeys(("source", "second"), abs), first=first)
    bench, plain = Bench(python(True, calls)), Bench(python(True))
    del made[:]
    executor, rows = bench.executor(KIND), []
    with stepwise.between_steps(), pytest.raises(KeyboardInterrupt):
        rows += [row for seen in executor.run(0, 30) for row in bench.rows(seen)]
    executor.settle(0)  # the caller took nothing
    found = bench.run(executor, 0, 30)
    assert allclose(found, plain.run(plain.executor(KINDS["numpy"]), 0, 30))
    assert len(made) == 30


def test_a_simulator_runs_steps_of_all_kinds(allclose):
    with neurons() as net:
        pass
    with simulator(net) as sim, nengo.Simulator(net, progress_bar=False, seed=0) as core:
        sim.run_steps(20)
        sim.step()
        sim.run_steps(20)
        core.run_steps(41)
        for probe in net.all_probes:
            assert allclose(sim.data[probe], core.data[probe], atol=1e-8)


def test_nothing_of_tensorflow_is_imported():
    code = (
        "import sys, nengo, nengo_dl\n"
        "with nengo.Network() as net:\n"
        "    nengo_dl.configure_settings(executor='native')\n"
        "    probe = nengo.Probe(nengo.Ensemble(5, 1))\n"
        "with nengo_dl.Simulator(net, progress_bar=False) as sim:\n"
        "    assert 'llvmlite' not in sys.modules\n"
        "    sim.run_steps(100)\n"
        "assert 'llvmlite' in sys.modules\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_networks_run_where_llvmlite_cannot_be_imported():
    code = (
        "import sys\n"
        "sys.modules['llvmlite'] = None\n"
        "import nengo, nengo_dl, numpy as np\n"
        "with nengo.Network(seed=0) as net:\n"
        "    node = nengo.Node(lambda t: np.sin(9 * t))\n"
        "    ens = nengo.Ensemble(9, 1)\n"
        "    nengo.Connection(node, ens)\n"
        "    probe = nengo.Probe(ens, synapse=0.01)\n"
        "with nengo.Simulator(net, progress_bar=False) as core:\n"
        "    core.run_steps(60)\n"
        "with nengo_dl.Simulator(net, progress_bar=False) as sim:\n"
        "    assert 'not native: llvmlite is not installed' in sim.describe()\n"
        "    sim.run_steps(50)\n"
        "    for _ in range(10):\n"
        "        sim.step()\n"
        "    assert np.allclose(sim.data[probe], core.data[probe], atol=1e-4)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@pytest.mark.parametrize("error", (ImportError, ValueError))
def test_what_stands_in_the_way_of_llvmlite_is_no_error(monkeypatch, error):
    """Finders of modules refuse a package so, and mocks of one have no spec."""

    def refused(name):
        raise error(name)

    monkeypatch.setattr(native, "find_spec", refused)
    native._there.cache_clear()
    try:
        assert "llvmlite is not installed" in KIND.missing()
    finally:
        native._there.cache_clear()


def test_without_llvmlite_it_is_passed_over(monkeypatch):
    monkeypatch.setattr(native, "_there", lambda: False)
    assert "llvmlite is not installed" in KIND.missing()
    with pytest.raises(SimulationError, match="llvmlite"):
        simulator(neurons()).close()
    monkeypatch.undo()
    assert KIND.missing() is None
    monkeypatch.setattr(native, "available", lambda: "machine code is forbidden")
    with pytest.raises(Unsupported, match="forbidden"):
        Bench(neurons()).executor(KIND)
