"""What the pages on performance, large models and Nengo GUI promise in words."""

import importlib.metadata
import inspect
import io
import itertools
import pickle
import re
import weakref

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.docs.promises import promise, simulator

SPEED, LARGE, GUI = "docs/performance.rst", "docs/large_models.rst", "docs/gui.rst"


def kernels(sim):
    """Names of the kernels that are left, of all stages, with how many are merged."""
    found = re.findall(r"^  (\w+)(?: of (\d+) nodes)?, \d+ rows", sim.describe(), re.M)
    return [(name, int(count or 1)) for name, count in found]


def named(sim, name):
    """How many nodes each kernel of a name stands for."""
    return [count for kernel, count in kernels(sim) if kernel == name]


@promise(
    SPEED,
    "``describe`` says how many kernels are left of how many operators, what runs "
    "before, in and after the loop over time, and what runs as Python.",
)
def test_describe_says_what_runs_where(net):
    with net:
        out = nengo.Node(lambda t, x: x**2, size_in=1, label="squared")
        nengo.Connection(net.b, out)
        nengo.Probe(out)
    with simulator(net) as sim:
        text = sim.describe()
        assert f"{len(sim.model.operators)} operators -> " in text
        assert "in the loop:" in text and "after the loop:" in text
        assert "runs as Python" in text and "<Node 'squared'>" in text


@promise(
    SPEED,
    "A function of time in Python is called once for each step",
    "it runs ahead of the loop. Data for a node cost nothing.",
)
@pytest.mark.parametrize("minibatch_size", [None, 3])
def test_functions_of_time_are_called_once_a_step(net, minibatch_size):
    times = []
    net.a.output = lambda t: times.append(t) or 0.5
    with simulator(net, minibatch_size=minibatch_size) as sim:
        times.clear()  # Nengo tries functions out when it builds
        sim.run_steps(20)
        assert np.allclose(times, 0.001 * np.arange(1, 21))
        sim.run_steps(5, data={net.a: np.ones((minibatch_size or 1, 5, 1))})
        assert len(times) == 20


@promise(
    SPEED,
    "Functions on a *connection* from an ensemble cost nothing: Nengo decodes them.",
)
def test_functions_of_connections_are_not_called_in_a_run(net):
    calls = []
    with net:
        out = nengo.Node(size_in=1)
        nengo.Connection(net.b, out, function=lambda x: calls.append(x) or x)
        nengo.Probe(out)
    with simulator(net) as sim:
        assert calls
        calls.clear()
        sim.run_steps(10)
        assert not calls
        assert "runs as Python" not in sim.describe()


@promise(
    SPEED,
    "Machine code and NumPy call it in each step, for each item, wherever it stands in "
    "the network.",
    "cannot run a network in which it takes part in feedback (its output has an "
    "influence on its own later input).",
)
@pytest.mark.parametrize("executor", ["native", "numpy", "tensorflow"])
@pytest.mark.parametrize("feedback", [False, True])
def test_functions_are_called_in_each_step_for_each_item(executor, feedback):
    calls = []
    with nengo.Network() as net:
        nengo_dl.configure_settings(executor=executor)
        node = nengo.Node(lambda t, x: calls.append(t) or 0.5 * x + 1, size_in=1)
        nengo.Connection(node if feedback else nengo.Node([1]), node, synapse=0)
        probe = nengo.Probe(node)
    with simulator(net, minibatch_size=3) as sim:
        calls.clear()
        if executor == "tensorflow" and feedback:
            with pytest.raises(
                nengo.exceptions.SimulationError, match="inside the loop over time"
            ):
                sim.run_steps(4)
            return
        sim.run_steps(4)
        # TensorFlow is given the results of all steps at once, before or after its loop
        in_order = [t for t in sim.trange() for _ in range(3)]
        assert len(calls) == 4 * 3
        assert np.allclose(calls, in_order)
        assert sim.data[probe].shape == (3, 4, 1)


@promise(
    SPEED,
    "Sixteen ensembles of 50 neurons need one kernel for their encoders and one for "
    "their decoders; sixteen of 41 to 56 neurons need sixteen of each. (Neurons of one "
    "type are merged in any case.)",
)
@pytest.mark.parametrize("sizes, products", [([50] * 16, 2), (range(41, 57), 32)])
def test_equal_sizes_are_merged(sizes, products):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False)
        rng = np.random.RandomState(0)
        for size in sizes:
            ens = nengo.Ensemble(size, 4)
            solver = nengo.solvers.NoSolver(rng.randn(size, 4))
            stimulus = nengo.Node(lambda t, phase=size: np.sin(t + np.arange(4)))
            nengo.Connection(stimulus, ens)
            out = nengo.Node(size_in=4)
            nengo.Connection(ens, out, solver=solver)
            nengo.Probe(out)
    with simulator(net) as sim:
        assert named(sim, "LIF") == [16]
        assert len(named(sim, "matmul")) == products


@promise(
    SPEED, "What neither a probe nor anything that learns depends on is not computed"
)
def test_what_nobody_looks_at_is_not_computed(net):
    with simulator(net) as sim:
        needed = kernels(sim)
    with net:
        aside = nengo.Ensemble(20, 1)
        nengo.Connection(net.b, aside)
    with simulator(net) as sim:
        assert kernels(sim) == needed


@promise(
    SPEED,
    "Python functions hand their numbers to one another in double precision in any case.",
)
def test_functions_give_each_other_double_precision():
    seen = []
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float32", jit=False)
        third = nengo.Node(lambda t: 1 / 3)
        look = nengo.Node(lambda t, x: seen.append(float(x[0])), size_in=1)
        nengo.Connection(third, look, synapse=None)
    with simulator(net) as sim:
        seen.clear()
        sim.run_steps(3)
    assert seen == [1 / 3] * 3


@promise(
    SPEED,
    "Each item of a batch has its own copy of what it learns, which is "
    "``minibatch_size`` times the weights.",
)
def test_each_item_has_its_copy_of_what_it_learns(net):
    with net:
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(net.b, out, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(net.a, conn.learning_rule)
        weights = nengo.Probe(conn, "weights")
    with simulator(net, minibatch_size=3) as sim:
        data = np.arange(3.0).reshape(3, 1, 1).repeat(10, axis=1)
        sim.run_steps(10, data={net.a: data})
        learned = sim.data[weights][:, -1]
    assert learned.shape == (3, 1, 20)
    assert not np.array_equal(learned[0], learned[1])
    assert not np.array_equal(learned[1], learned[2])


@promise(
    SPEED, "The rule never looks at a clock, so the same script always runs in the same"
)
def test_no_clock_decides(net, monkeypatch):
    import time

    found = []
    for speed in (0.0, 1e6):
        clock = itertools.count(step=speed).__next__
        for name in ("time", "perf_counter", "monotonic", "process_time"):
            monkeypatch.setattr(time, name, clock)
        with simulator(net) as sim:
            sim.run_steps(40)
            found.append((kernels(sim), sim.data[net.p].tobytes()))
        monkeypatch.undo()
    assert found[0] == found[1]


@promise(
    SPEED,
    "connections with equal decoders compute them once, and constants disappear. When "
    "``fit`` or ``load_params`` writes parameters, the network is compiled once more "
    "without that,",
)
def test_equal_decoders_are_computed_once_until_they_are_written(net):
    with net:
        for _ in range(3):
            out = nengo.Node(size_in=1)
            nengo.Connection(net.b, out, synapse=0.02)
            nengo.Probe(out)
    with simulator(net) as sim:
        assert named(sim, "filter") == [3]  # to b, of its probe, and one for all
        file = io.BytesIO()
        net.b.seed = 9
        with simulator(net) as other:
            other.save_params(file)
        file.seek(0)
        sim.load_params(file)
        sim.run_steps(1)
        assert named(sim, "filter") == [5]


@promise(
    LARGE,
    "``clear_probes`` forgets the data and leaves the simulation where it is.",
)
def test_clear_probes_leaves_the_simulation_where_it_is(net):
    with simulator(net) as whole, simulator(net) as parts:
        whole.run_steps(20)
        parts.run_steps(10)
        parts.clear_probes()
        assert len(parts.data[net.p]) == 0 and parts.n_steps == 10
        parts.run_steps(10)
        assert np.array_equal(parts.data[net.p], whole.data[net.p][10:])


@promise(LARGE, "only the batch at hand is in memory:")
def test_batches_of_a_generator_are_not_kept(net):
    alive, most = [], []

    def batches():
        for _ in range(30):
            x = np.zeros((2, 3, 1))
            alive.append(weakref.ref(x))
            most.append(sum(ref() is not None for ref in alive))
            yield {net.a: x}

    with simulator(net, minibatch_size=2) as sim:
        result = sim.predict(batches())
    assert result[net.p].shape == (60, 3, 1)
    # of 30 the one that is made, one that waits for its turn, the one at hand, and the
    # one before it, which a busy machine has not given back yet
    assert max(most) <= 4


@promise(
    LARGE,
    "``seed`` for the network, and ``freeze_params`` once it is trained: frozen "
    "decoders are not solved for again.",
)
def test_frozen_decoders_are_not_solved_for(net):
    calls = []

    class Counting(nengo.solvers.LstsqL2):
        def __call__(self, *args, **kwargs):
            calls.append(1)
            return super().__call__(*args, **kwargs)

    with net:
        out = nengo.Node(size_in=1)
        nengo.Connection(net.b, out, solver=Counting())
        nengo.Probe(out)
    with simulator(net) as sim:
        assert calls
        sim.freeze_params(net)
    calls.clear()
    with simulator(net) as sim:
        sim.run_steps(2)
    assert not calls


@promise(
    LARGE,
    "Compiling depends on the number of different kernels, not on the number of objects:",
)
def test_more_objects_of_the_same_shapes_have_no_more_kernels():
    found = []
    for n_ensembles in (3, 12):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(jit=False)
            ensembles = [nengo.Ensemble(10, 1) for _ in range(n_ensembles)]
            for a, b in zip(ensembles, ensembles[1:] + ensembles[:1]):
                nengo.Connection(a, b)
            nengo.Probe(ensembles[0])
        with simulator(net) as sim:
            found.append(sorted(name for name, _ in kernels(sim)))
    assert found[0] == found[1]


@promise(
    GUI,
    "The option ``-b`` takes the name of a module, ``nengo_dl``. (The name under which "
    "the simulator is registered as a backend, ``dl``, is for applications that look up "
    "the entry points of the group ``nengo.backends``.",
)
def test_the_gui_finds_a_simulator_in_the_module():
    (entry,) = importlib.metadata.entry_points(group="nengo.backends", name="dl")
    assert entry.load() is nengo_dl.Simulator
    first = next(iter(inspect.signature(nengo_dl.Simulator).parameters))
    assert first == next(iter(inspect.signature(nengo.Simulator).parameters))


@promise(
    GUI,
    "Nengo GUI calls ``sim.step()`` again and again, and for every plot and slider "
    "there is a Python function in the network.",
)
def test_sliders_and_plots_of_a_gui():
    """As a GUI does it: a node that reads a slider, nodes that pass on to plots."""
    slider, plots = [0.0], {nengo: [], nengo_dl: []}
    for package, seen in plots.items():
        slider[0] = 0.0
        with nengo.Network(seed=0) as net:
            if package is nengo_dl:
                nengo_dl.configure_settings(dtype="float64")
            stimulus = nengo.Node(lambda t: slider[0])
            a = nengo.Ensemble(30, 1)
            nengo.Connection(stimulus, a)
            plot = nengo.Node(lambda t, x, to=seen: to.append((t, *x)), size_in=1)
            nengo.Connection(a, plot, synapse=0.01)
        with package.Simulator(net, progress_bar=False) as sim:
            seen.clear()
            for value in (0.7, 0.85, 0.38):
                slider[0] = value
                for _ in range(20):
                    sim.step()
    assert len(plots[nengo_dl]) == 60
    assert np.allclose(plots[nengo_dl], plots[nengo], rtol=0, atol=1e-12)


@promise(
    GUI,
    "So train first, freeze, and keep the network in a file:",
    "The script for the GUI gets it from there, and gives names to what is to be seen:",
)
def test_a_frozen_network_from_a_file_runs_in_core(net):
    with simulator(net) as sim:
        sim.run_steps(10)
        sim.freeze_params(net)
        expected = sim.data[net.p]
    model = pickle.loads(pickle.dumps(net))
    with nengo.Simulator(model, progress_bar=False) as core:
        core.run_steps(10)
    assert np.allclose(core.data[model.probes[0]], expected, rtol=0, atol=1e-10)
