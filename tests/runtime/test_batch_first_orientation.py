"""Feature-major or batch first: found out where there is no rule, the same numbers."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.runtime.tensorflow import batch_first, executor


def network(seed=2):
    """An ensemble that remembers, and what it is given."""
    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(dtype="float64", jit=True)
        inp = nengo.Node(lambda t: np.sin(30 * t))
        ens = nengo.Ensemble(20, 1)
        nengo.Connection(inp, ens, transform=0.1, synapse=0.1)
        nengo.Connection(ens, ens, synapse=0.1)
        net.p = nengo.Probe(ens, synapse=0.01)
    return net


def simulate(net, batch=3, **options):
    """Outputs of the first item, and whether the loop was turned."""
    options |= {"minibatch_size": batch, "progress_bar": False}
    with nengo_dl.Simulator(net, **options) as sim:
        sim.run_steps(30)
        sim.run_steps(20)
        (tier,) = sim._live.program._executors.values()
        return sim.data[net.p].reshape(-1, 50, 1)[0], tier.compiled.turned


@pytest.fixture
def accelerator(monkeypatch):
    """As if TensorFlow computed on something else than the CPU; nothing is known yet."""
    monkeypatch.setattr(executor, "on_accelerator", lambda device: True)
    monkeypatch.setattr(batch_first, "_found", batch_first.Programs())


@pytest.mark.parametrize("faster", ("feature-major", "batch first"))
def test_the_faster_one_is_taken_once_and_for_all(
    faster, accelerator, monkeypatch, allclose
):
    measured = []

    def seconds(run):
        run()
        measured.append(len(measured))
        return measured[-1] * (1 if faster == "feature-major" else -1)

    monkeypatch.setattr(batch_first, "seconds", seconds)
    for seed in (2, 3):  # the second one has the same structure
        net = network(seed)
        output, turned = simulate(net)
        assert turned == (faster == "batch first")
        assert measured == [0, 1]
        with nengo.Simulator(net, progress_bar=False) as core:
            core.run_steps(50)
        assert allclose(output, core.data[net.p], atol=1e-12)


def test_both_ways_are_run_for_real(accelerator, allclose):
    output, turned = simulate(network())
    assert turned in (True, False) and len(batch_first._found) == 1
    with nengo.Simulator(network(), progress_bar=False) as core:
        core.run_steps(50)
    assert allclose(output, core.data[core.model.toplevel.p], atol=1e-12)


def test_functions_around_the_loop(accelerator, allclose):
    net = network()
    with net:
        nengo_dl.configure_settings(executor="tensorflow")
        square = nengo.Node(lambda t, x: x**2, size_in=1)
        nengo.Connection(net.all_ensembles[0], square, synapse=None)
        after = nengo.Probe(square)
    options = {"minibatch_size": 3, "progress_bar": False}
    with nengo_dl.Simulator(net, **options) as sim:
        sim.run_steps(50)
        (tier,) = sim._live.program._executors.values()
        assert isinstance(tier, executor.StagedExecutor) and not tier.compiled.turned
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(50)
    for probe in (net.p, after):
        assert allclose(sim.data[probe][2], core.data[probe], atol=1e-12)


def test_a_single_item_is_not_measured(accelerator):
    assert simulate(network(), batch=1)[1] is False
    assert len(batch_first._found) == 0


def test_cpus_follow_the_rule(monkeypatch):
    monkeypatch.setattr(batch_first, "_found", batch_first.Programs())
    assert simulate(network(), device="/cpu:0")[1] is False
    assert len(batch_first._found) == 0


def test_devices():
    assert not batch_first.on_accelerator("/cpu:0")
    assert not batch_first.on_accelerator("/device:CPU:0")
    assert batch_first.on_accelerator("/gpu:1")
    assert batch_first.on_accelerator("/job:localhost/task:0/device:GPU:0")


def test_the_first_run_does_not_count(monkeypatch):
    clock, runs = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0]), []
    monkeypatch.setattr(batch_first.time, "perf_counter", lambda: next(clock))
    assert batch_first.seconds(lambda: runs.append(1)) == 2.0
    assert len(runs) == 1 + batch_first.REPEATS
