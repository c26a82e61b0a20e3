"""Which executor runs the steps, and why: settings, the rule, and what is said of it."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.runtime.executor import Capability, Unsupported, Work, executors
from nengo_dl.runtime.tensorflow import costs, kinds
from tests import networks
from tests.runtime.eager import EagerKind
from tests.runtime.native_code import pytestmark_native


class Quick(EagerKind):
    """Stands for machine code: it is there at once, and takes any number of steps."""

    name = "quick"
    capabilities = EagerKind.capabilities | Capability.MACHINE_CODE
    seconds, lacks, refuses = 1e-6, None, None

    def missing(self):
        return self.lacks

    def pays(self, work):
        return not (work.on_accelerator or work.has_tensors)

    def because(self, work):
        return "runs on the CPU" if self.pays(work) else "it runs on the CPU alone"

    def seconds_per_step(self, work):
        return self.seconds

    def make(self, task):
        if self.refuses is not None:
            raise Unsupported(self.refuses)
        return super().make(task)


@pytest.fixture
def quick(no_machine_code):
    """A kind of machine code, the only one, and the last but NumPy."""
    kind = Quick()
    executors.register(kind, before="numpy")
    try:
        yield kind
    finally:
        executors.remove("quick")


def small(output=np.sin, **settings):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        node = nengo.Node(output)
        ens = nengo.Ensemble(8, 1)
        nengo.Connection(node, ens)
        net.probe = nengo.Probe(ens, synapse=0.01)
    return net


def simulator(net, **options):
    return nengo_dl.Simulator(net, progress_bar=False, **options)


def ran(sim):
    return sim._program._active[1]


def told(sim):
    (line,) = [
        line for line in sim.describe().splitlines() if line.startswith("forward steps")
    ]
    return line


def test_machine_code_runs_every_step_whatever_their_number(quick, monkeypatch):
    monkeypatch.setattr(costs, "COMPILE_SECONDS", 0.0)
    with simulator(small()) as sim:
        for n_steps in (1, 5, 40):
            sim.run_steps(n_steps)
            assert ran(sim) == "quick"
        sim.step()
        assert ran(sim) == "quick" and quick.made == 1
        assert sim._program.chooser.asked == 0
        assert told(sim) == "forward steps run in: quick (runs on the CPU)"
        assert "forward steps run in: quick" in sim.describe(html=True)


def test_what_would_run_is_told_before_anything_has(quick):
    with simulator(small()) as sim:
        assert "quick" in told(sim) and quick.made == 0


@pytest.mark.parametrize("steps", ([1, 7, 32], [40]))
def test_large_products_leave_machine_code(quick, monkeypatch, steps):
    """If TensorFlow is twice as fast, and steps are long; single steps as well."""
    monkeypatch.setattr(quick, "seconds", 1.0)
    work = Work(None, 1, 40, 40, rival=1.0)
    for ours, faster in ((0.6, False), (0.4, True), (1e-3, False)):
        monkeypatch.setattr(kinds, "seconds_compiled", lambda work, ours=ours: ours)
        assert kinds.pays_beside(work) == faster
    monkeypatch.setattr(kinds, "seconds_compiled", lambda work: 0.4)
    with simulator(small()) as sim:
        for n_steps in steps:
            sim.run_steps(n_steps)
            assert ran(sim) == "tensorflow"
        assert "400.0 ms in TensorFlow, and 1000.0 ms in machine code" in told(sim)
        if len(steps) > 1:
            sim.step()
            assert ran(sim) == "tensorflow" and sim.n_steps == sum(steps) + 1


def test_an_accelerator_that_was_asked_for_is_no_matter_of_machine_code(quick):
    with simulator(small()) as sim:
        layout = sim._program.layout(sim._program.last_use, fused=True)
        for device, pays in (("/cpu:0", True), (None, True), ("/gpu:0", False)):
            assert quick.pays(Work(layout, 1, 1, 1, device)) == pays


@pytest.mark.parametrize("where", ("missing", "while it is made"))
def test_what_cannot_run_falls_back_and_says_so(quick, monkeypatch, where, allclose):
    attribute = "lacks" if where == "missing" else "refuses"
    monkeypatch.setattr(quick, attribute, "there is no quickness")
    with simulator(small()) as sim:
        sim.run_steps(20)
        sim.step()
        assert ran(sim) == "numpy"
        assert "numpy (it needs no time to start" in told(sim)
        assert "not quick: there is no quickness" in told(sim)
        found = sim.data[sim.network.probe]
    with nengo.Simulator(sim.network, progress_bar=False) as core:
        core.run_steps(21)
        assert allclose(found, core.data[sim.network.probe], atol=1e-10)


# -- steps that compute nothing --------------------------------------------------------


def shown(dtype="float64", **settings):
    """A network that shows what it is given, from where it is given it."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype, **settings)
        noise = nengo.Node(nengo.processes.WhiteNoise(seed=1), size_out=3)
        time = nengo.Node(lambda t: [t, 0.5, -t])
        net.fixed = nengo.Node([0.25, -4.0])
        both = nengo.Node(size_in=4)
        for i, source in enumerate((time[2], noise[0], net.fixed[1], time[0])):
            nengo.Connection(source, both[i], synapse=None)
        for node in (noise, net.fixed, both, time):
            nengo.Probe(node)
        nengo.Probe(noise[[2, 0]], sample_every=0.004)
        nengo.Probe(net.fixed, sample_every=0.003)
    return net


def test_what_is_only_shown_needs_no_machine_code(quick):
    """Values as in core, whatever the calls; also of a batch."""
    with simulator(shown()) as sim, simulator(shown(), minibatch_size=3) as batch:
        with nengo.Simulator(sim.network, progress_bar=False) as core:
            core.run_steps(1100)
        sim.run_steps(5)
        sim.step()
        sim.run_steps(1094)
        batch.run_steps(1100)
        assert ran(sim) == "numpy" and quick.made == 0
        assert told(sim) == "forward steps run in: numpy (a step computes nothing)"
        for mine, many in zip(sim.network.probes, batch.network.probes, strict=True):
            assert np.array_equal(sim.data[mine], core.data[mine])
            assert np.array_equal(batch.data[many][0], core.data[mine])
    with simulator(shown(executor="quick")) as forced:
        forced.run_steps(3)
        assert ran(forced) == "quick"


def test_what_is_only_shown_in_single_precision(quick):
    with simulator(shown()) as sim, simulator(shown("float32")) as single:
        sim.run_steps(20)
        single.run_steps(20)
        assert ran(single) == "numpy"
        for mine, rounded in zip(sim.network.probes, single.network.probes, strict=True):
            assert single.data[rounded].dtype == np.float32
            assert np.array_equal(single.data[rounded], sim.data[mine].astype("f4"))


def test_what_is_shown_may_be_given_later(quick):
    net = shown()
    given = np.arange(8.0).reshape(1, 4, 2)
    with simulator(net) as sim:
        _, shows, *_ = net.probes
        found = sim.predict({net.fixed: given})
        assert np.array_equal(found[shows], given) and "numpy" in told(sim)
        sim.run_steps(2, data={net.fixed: given[:, :2]})
        assert np.array_equal(sim.data[shows], given[0, :2])
        sim.run_steps(2)
        assert np.array_equal(sim.data[shows][2:], [[0.25, -4.0]] * 2)


def test_steps_before_a_failure_are_shown(quick):
    def late(t):
        if t > 0.0045:
            raise RuntimeError("too late")
        return t

    with nengo.Network() as net:
        net.probe = nengo.Probe(nengo.Node(late))
    with simulator(net) as sim:
        with pytest.raises(RuntimeError, match="too late"):
            sim.run_steps(20)
        assert ran(sim) == "numpy" and sim.n_steps == 4
        assert np.allclose(sim.data[net.probe].ravel(), [0.001, 0.002, 0.003, 0.004])


# -- settings --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("quick", "numpy", "tensorflow"))
def test_the_setting_names_what_runs(quick, name):
    with simulator(small(executor=name)) as sim:
        for n_steps in (1, 40):
            sim.run_steps(n_steps)
            assert ran(sim) == name
        sim.step()
        assert ran(sim) == name
        assert f"the setting executor={name!r}" in told(sim)


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"jit": False}, "numpy"),
        ({"jit": False, "executor": "quick"}, "quick"),
        ({"jit": True, "executor": "numpy"}, "numpy"),
    ],
)
def test_executor_stands_above_jit(quick, settings, name):
    with simulator(small(**settings)) as sim:
        sim.run_steps(20)
        assert ran(sim) == name


def test_tensorflow_without_xla():
    with simulator(small(executor="tensorflow", jit=False)) as sim:
        sim.run_steps(20)
        assert ran(sim) == "tensorflow"
        assert not sim._program.executors[0].compiled.loop.jit


def test_a_setting_that_names_nothing():
    with pytest.raises(ValidationError, match="no executor 'numba'.*'auto'.*'numpy'"):
        simulator(small(executor="numba"))


def test_a_setting_that_cannot_be_followed(quick, monkeypatch):
    monkeypatch.setattr(quick, "refuses", "there is no code for sine")
    with simulator(small(executor="quick")) as sim:
        with pytest.raises(SimulationError, match="'quick' does not fit.*no code for s"):
            sim.run_steps(2)
    monkeypatch.setattr(quick, "lacks", "quickness is not installed")
    with pytest.raises(SimulationError, match="'quick': quickness is not installed. Wi"):
        simulator(small(executor="quick"))


def test_python_inside_the_loop_is_not_for_tensorflow():
    with nengo.Network() as net:
        nengo_dl.configure_settings(executor="tensorflow")
        node = nengo.Node(lambda t, x: x + 1, size_in=1)
        nengo.Connection(node, node, synapse=0.01)
    with simulator(net) as sim:
        with pytest.raises(SimulationError, match="'tensorflow' does not fit.*Python"):
            sim.run_steps(20)


def test_python_around_the_loop_is_for_tensorflow():
    net = small(executor="tensorflow")
    with net:
        behind = nengo.Node(lambda t, x: x**2, size_in=1)
        nengo.Connection(net.ensembles[0], behind)
        nengo.Probe(behind)
    with simulator(net) as sim:
        sim.run_steps(20)
        assert ran(sim) == "staged"


# -- what follows from it --------------------------------------------------------------


@pytestmark_native
@pytest.mark.parametrize("batch", (None, 3))
@pytest.mark.parametrize("make", (networks.recurrent, networks.python_functions))
def test_any_cut_of_a_run_gives_the_same_bits(make, batch):
    net, found = make(), []
    for cut in ([40], [1, 17, 22], [16, 17, -7]):
        with simulator(net, seed=3, minibatch_size=batch) as sim:
            for n_steps in cut:
                if n_steps > 0:
                    sim.run_steps(n_steps)
                for _ in range(-n_steps):
                    sim.step()
            assert ran(sim) == "native" and sim.n_steps == 40
            found.append([sim.data[probe] for probe in net.all_probes])
    for others in zip(*found, strict=True):
        for other in others[1:]:
            np.testing.assert_array_equal(others[0], other)


def test_predicting_gives_the_bits_of_running():
    with simulator(small(), seed=3, minibatch_size=2) as sim:
        sim.run_steps(30)
        ran_so = sim.data[sim.network.probe]
        sim.reset()
        parts = [sim.predict(n_steps=n, stateful=True) for n in (10, 20)]
        found = np.concatenate([part[sim.network.probe] for part in parts], axis=1)
        np.testing.assert_array_equal(found, ran_so)
