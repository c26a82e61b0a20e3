"""Which graph runs in which tier, and what passes between them."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.runtime import program as rules
from tests import networks


def active(sim):
    """The tier that ran last, and whether it runs with open parameters."""
    use, tier = sim._program._active
    return tier, use.open


def make(jit="auto", **options):
    net = networks.recurrent()
    with net:
        nengo_dl.configure_settings(jit=jit, dtype="float64")
    return nengo_dl.Simulator(net, progress_bar=False, **options)


def test_auto_goes_by_the_number_of_steps():
    with make() as sim:
        sim.run_steps(rules.FEW_STEPS)
        assert active(sim)[0] == "numpy"
        sim.run_steps(100)
        assert active(sim)[0] == "tensorflow"
        sim.run_steps(rules.SHORT_RUN)
        assert active(sim)[0] == "numpy"
        sim.step()
        assert active(sim)[0] == "numpy"


@pytest.mark.parametrize("jit, tier", [(True, "tensorflow"), (False, "numpy")])
def test_the_setting_fixes_the_tier(jit, tier):
    with make(jit=jit) as sim:
        for n_steps in (1, 40):
            sim.run_steps(n_steps)
            assert active(sim)[0] == tier


def test_large_networks_are_compiled_at_once(monkeypatch):
    with make() as sim:
        monkeypatch.setattr(type(sim._program), "estimate", lambda self, use: 0.1)
        sim.run_steps(20)
        assert active(sim)[0] == "tensorflow"


def test_the_state_passes_from_tier_to_tier(allclose):
    with make(jit=False) as sim:
        sim.run_steps(1400)
        expected = [sim.data[probe] for probe in sim.model.probes]
    with make() as sim:
        for n_steps in (10, 1100, 5, 200, 85):
            sim.run_steps(n_steps)
        for probe, data in zip(sim.model.probes, expected, strict=True):
            assert allclose(sim.data[probe], data, atol=1e-9)


def test_written_parameters_open_the_program(allclose):
    """The same numbers, whether parameters are folded or arguments of the program."""
    with make(jit=False) as sim:
        sim.run_steps(60)
        expected = [sim.data[probe] for probe in sim.model.probes]
    for jit in (False, True):
        with make(jit=jit) as sim:
            sim.run_steps(20)
            sim._program.written()
            sim.run_steps(40)
            assert active(sim) == ("tensorflow" if jit else "numpy", True)
            for probe, data in zip(sim.model.probes, expected, strict=True):
                assert allclose(sim.data[probe], data, atol=1e-9)


def test_sharing_needs_fewer_kernels_than_open_parameters():
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(20, 1)
        for _ in range(5):
            node = nengo.Node(size_in=1)
            nengo.Connection(ens, node)
            nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        folded = sim._program.compiled(rules.Specialization())
        opened = sim._program.compiled(rules.Specialization(open=True))
    assert folded.graph.count("matmul") < opened.graph.count("matmul")


def test_the_estimate_grows_with_size_and_batch():
    with make() as one, make(minibatch_size=64) as many:
        use = rules.Specialization()
        assert 0 < one._program.estimate(use) < many._program.estimate(use)


def test_a_step_of_numpy_equals_a_run():
    with make(jit=False) as sim:
        sim.run_steps(30)
        expected = [sim.data[probe] for probe in sim.model.probes]
        sim.reset()
        for _ in range(30):
            sim.step()
        for probe, data in zip(sim.model.probes, expected, strict=True):
            np.testing.assert_array_equal(sim.data[probe], data)
