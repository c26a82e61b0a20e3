"""Each measurement with tiny sizes: what its rows consist of."""

import nengo
import numpy as np
import pytest
from matplotlib.figure import Figure
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.benchmarks import networks, processes
from nengo_dl.benchmarks.measurements import (
    batch,
    big,
    executors,
    first,
    gpu,
    long,
    many,
    native,
    python_functions,
    rivals,
    sampled,
    scale,
    stdp,
    step,
)
from nengo_dl.benchmarks.networks.learning import pes
from nengo_dl.benchmarks.registry import load_measurements
from nengo_dl.runtime.native.step import NativeStep
from tests.benchmarks import tiny
from tests.many.helpers import Here
from tests.runtime.native_code import pytestmark_native


@pytest.fixture(autouse=True)
def tiny_case(monkeypatch):
    tiny.add_tiny(monkeypatch)
    for module in (
        batch,
        big,
        executors,
        first,
        gpu,
        long,
        python_functions,
        sampled,
        scale,
        stdp,
        step,
    ):
        monkeypatch.setattr(module, "warm_up", lambda *args, **kwargs: 0.0)


def drawn(name, rows):
    """The chart of a measurement; returns its panels."""
    figure = Figure()
    load_measurements()[name].plot(figure, rows)
    return figure.axes


def test_step():
    (row,) = step.measure_step(["tiny"], calls=3, repeats=2, steps=20)
    assert row["case"] == "step() of tiny" and row["rounds"] == 2
    assert row["ours"] > 0 and row["theirs"] > 0 and row["ratio"] > 0
    assert row["data"] == 2 * 4  # two dimensions in float32
    assert abs(row["growth"]) < 1e6 and abs(row["core_growth"]) < 1e6
    assert set(step.LIMITS) == {"chain", "action16"}
    assert len(drawn("step", [row])) == 1


def test_growth_per_step(monkeypatch):
    class Growing:
        steps = 0

        def step(self):
            self.steps += 1

    sim = Growing()
    monkeypatch.setattr(step, "settled", lambda: sim.steps * 3 / 2**20)
    assert step.growth_per_step(sim, 50) == pytest.approx(3)
    assert sim.steps == 55


@pytestmark_native
def test_native(monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda name: None)  # no compiler
    rows = list(native.measure_native(["LIF", "Tanh"], n_neurons=40, repeats=2))
    assert [(r["neurons"], r["dtype"], r["batch"]) for r in rows[2:4]] == [
        ("LIF", "float64", 1),
        ("Tanh", "float32", 1),
    ]
    assert all(0 < row["ours"] < 1e5 and row["numpy"] > 0 for row in rows)
    assert all(row["ratio"] is None for row in rows)
    assert [("limit" in row) for row in rows] == [True] * 2 + [False] * 4
    summary = load_measurements()["native"].summary(rows)
    assert summary["goals reached"].endswith(" of 2")
    with pytest.raises(ValidationError, match="unknown: Lif; known: LIF, "):
        next(native.measure_native(["Lif"]))


@pytestmark_native
def test_executors(monkeypatch):
    monkeypatch.setenv(executors.CACHE, "")  # set anew by what is measured
    monkeypatch.setattr(
        executors, "in_new_process", lambda function, *args: function(*args)
    )
    monkeypatch.setattr(executors, "FIRST_STEPS", 5)
    single, several = executors.measure_executors(["tiny"], steps=6, items=3, repeats=1)
    assert (single["items"], several["items"]) == (1, 3)
    for row in (single, several):
        assert row["ratio"] == row["tensorflow"] / row["native"]
    assert single["numpy_ratio"] > 0 and "numpy" not in several
    assert single["first"] > 0 and single["disk"] > 0 and abs(single["more"]) < 1e4
    summary = load_measurements()["executors"].summary([single, several])
    assert list(summary.values()) == pytest.approx([single["ratio"], several["ratio"]])


def test_executors_without_machine_code(monkeypatch):
    compile = "nengo_dl.runtime.native.compile.available"
    monkeypatch.setattr(compile, lambda: "it is forbidden")
    with pytest.raises(RuntimeError, match="cannot be compared: it is forbidden"):
        next(executors.measure_executors(["tiny"]))


@pytestmark_native
def test_native_neurons_do_what_those_of_nengo_do():
    for name, neurons in native.NEURONS.items():
        step, (current, out, *states) = native.population(name, 30, 1, "float64")
        one = NativeStep(step, [current, out, *states], None, 1, [], "float64")
        names = native.NeuronKernel.of(neurons).state
        state = {key: x[:, 0].copy() for key, x in zip(names, states, strict=True)}
        for _ in range(20):
            one()
            neurons.step(native.DT, current[:, 0], out[:, 0], **state)
            np.testing.assert_allclose(one.carry[1], out, atol=1e-9, err_msg=name)


@pytestmark_native
@pytest.mark.skipif(native.shutil.which("gcc") is None, reason="there is no compiler")
def test_native_neurons_beside_those_in_c():
    for name in native.C_SOURCES:
        row = native._row(name, 64, 1, "float32", 2)
        assert row["gcc"] > 0 and row["ratio"] == row["ours"] / row["gcc"]


def test_native_without_machine_code(monkeypatch):
    monkeypatch.setattr(
        "nengo_dl.runtime.native.compile.available", lambda: "llvmlite is not there"
    )
    with pytest.raises(RuntimeError, match="machine code: llvmlite is not there"):
        next(native.measure_native())


def test_many(monkeypatch):
    def iter_here(sim, function, tasks, executor):
        return nengo_dl.iter_many(sim, function, tasks, Here)

    monkeypatch.setattr(many, "iter_many", iter_here)  # without any processes
    rows = list(many.many("tiny", tasks=3, steps=2, workers=2, repeats=2))
    places = ("in this process", "1 process", "2 processes")
    cases = [f"{task}, {place}" for task in ("overhead", "2 steps") for place in places]
    assert [row["case"] for row in rows] == cases
    assert all(row["ours"] > 0 and row["theirs"] > 0 and row["first"] > 0 for row in rows)
    assert many.most_overhead(rows) == {
        "largest overhead, ms per task": max(row["ours"] for row in rows[:3])
    }
    with pytest.raises(ValidationError, match="tasks"):
        next(many.many(tasks=1))


def test_python_functions():
    rows = list(python_functions.python_functions(steps=5, repeats=2, small=True))
    assert [row["case"] for row in rows] == [
        "closed loop, 2 ensembles",
        "action selection, Python in the loop",
        "function of time, with the network",
        "function of time, alone",
        "recorder at the end, with the network",
        "recorder at the end, alone",
    ]
    assert [row["limit"] for row in rows] == [0.7, 0.35, None, 1, None, 1]
    assert all(row["ratio"] >= 0 for row in rows)
    assert all(row["ours"] > 0 for row in rows if "alone" not in row["case"])


def test_sampled(monkeypatch):
    monkeypatch.setattr(sampled, "PERIODS", (10, 2))
    rows = list(sampled.sampled(neurons=4, samples=2, repeats=1, compiled=False))
    assert [row["case"] for row in rows[:2]] == [
        "4 x 4 weights every 10 steps, without a rule, numpy",
        "4 x 4 weights every 10 steps, with BCM, numpy",
    ]
    assert [row["limit"] for row in rows] == [1.0, 1.0, None, None]
    assert all(row["ratio"] > 0 for row in rows)


def test_first():
    options = {"steps": 5, "processes": False}
    beside_core, second = first.first(["tiny"], repeats=2, **options)
    assert beside_core["case"] == "tiny, build and 5 steps"
    assert beside_core["operators"] > 10 and beside_core["limit"] == 1
    assert beside_core["very_first"] > 0 and beside_core["ratio"] > 0
    assert second["case"] == "tiny, compiled, another seed"
    assert second["theirs"] == pytest.approx(second["very_first"])
    assert list(first.first(["tiny"], 5, 1, False, False))[1:] == []


def test_first_of_several_lengths(monkeypatch):
    monkeypatch.setattr(first, "LENGTHS", (2, 4))
    rows = list(first.first(["tiny"], repeats=1, compiled=False, processes=False))
    assert [row["case"] for row in rows] == [f"tiny, build and {n} steps" for n in (2, 4)]


def test_whole_processes():
    row = processes.process_row(steps=5, repeats=1)
    assert row["case"] == "3 ensembles of 100, process, 5 steps"
    assert row["ours"] > 0.05 and row["theirs"] > 0.05
    assert row["more"] is None or 0 < row["more"] < 300  # without TensorFlow


def test_long(monkeypatch):
    monkeypatch.setattr(long, "settled", lambda: 500.0)
    rows = list(long.long("tiny", steps=30, recorded_steps=20))
    assert [row["part"] for row in rows] == 2 * list(range(1, 11))
    assert rows[9]["done"] == 30 and rows[19]["done"] == 20
    assert all(row["us"] > 0 and row["memory"] > 0 for row in rows)
    assert rows[9]["rest"] == rows[9]["memory"]
    assert rows[19]["memory"] - rows[19]["rest"] == pytest.approx(20 * 8 / 2**20)
    summary = long._flatness(rows)
    assert summary["tiny, recorded, slowest part / fastest"] >= 1
    assert len(summary) == 6
    assert len(drawn("long", rows)) == 2
    with pytest.raises(ValidationError, match="network: unknown: huge"):
        next(long.long("huge"))


def test_scale(monkeypatch):
    sizes = {"lengthens": (4, 8), "batched": (1, 2)}
    axes = {
        name: scale.Axis(values, lambda n: tiny.TINY(), **{name: True})
        for name, values in sizes.items()
    }
    monkeypatch.setattr(scale, "AXES", axes)
    rows = list(scale.scale(steps=3, repeats=1))
    assert [(row["axis"], row["size"]) for row in rows] == [
        ("lengthens", 4), ("lengthens", 8), ("batched", 1), ("batched", 2),
    ]  # fmt: skip
    for row in rows:
        assert min(row[key] for key in ("build", "first", "run", "core", "us")) > 0
        assert row["speedup"] == pytest.approx(row["core"] / row["run"])
    summary = scale._exponents(rows)
    assert set(summary) == {"exponents for lengthens", "exponents for batched"}
    assert len(drawn("scale", rows)) == 2

    (row,) = scale.scale(["batched"], points=1, steps=3, repeats=1, core=False)
    assert row["speedup"] is None and "core" not in row
    assert scale._exponents([row]) == {}
    with pytest.raises(ValidationError, match="axes: unknown: depth; known: lengthens"):
        next(scale.scale(["depth"]))


def test_exponents_are_those_of_the_costs():
    costs = [(1, 1.0), (10, 10.0), (100, 1000.0), (1000, 1e5)]
    rows = [
        {"axis": "n", "size": n, "build": c, "first": 1.0, "run": c} for n, c in costs
    ]
    (text,) = scale._exponents(rows).values()
    assert "first 0.00" in text and "run of the larger 2 2.00" in text
    assert "build 1.70" in text and "core" not in text


def test_axes_make_the_networks_larger():
    grown = {}
    for name, axis in scale.AXES.items():
        small, large = (axis.network(size) for size in axis.sizes[:2])
        count = {
            "neurons": lambda net: net.n_neurons,
            "ensembles": lambda net: len(net.all_ensembles),
            "connections": lambda net: len(net.all_connections),
        }.get(name, lambda net: 1)
        grown[name] = count(large) > count(small)
    assert grown == {
        "neurons": True, "ensembles": True, "connections": True,
        "batch": False, "steps": False,
    }  # fmt: skip


def test_batch():
    small = {"dimensions": 2, "neurons_per_d": 5}
    rows = list(batch.batch(["tiny"], items=3, steps=10, repeats=2, **small))
    assert [row["case"] for row in rows] == [
        "tiny, 3 items",
        "PES, 2 d, 10 neurons, 3 items",
    ]
    assert [row["limit"] for row in rows] == [2, pytest.approx(1 / 3)]
    assert all(row["ours"] > 0 and row["theirs"] > 0 and row["us"] > 0 for row in rows)
    assert rows[0]["us"] == pytest.approx(rows[0]["ours"] * 20 * 3 / 1e3)


@pytestmark_native
def test_stdp(monkeypatch):
    monkeypatch.setitem(stdp.TIERS, "tensorflow", {"jit": False})  # it takes seconds
    rows = list(stdp.measure_stdp(40, 3, items=2, steps=10, repeats=2))
    assert [(row["case"].split(", ")[2:], row["limit"]) for row in rows] == [
        (["native", "items: 1"], stdp.LIMITS["native", 1]),
        (["tensorflow", "items: 1"], None),
        (["native", "items: 2"], None),
        (["tensorflow", "items: 2"], None),
    ]
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in rows)


def test_learning_from_spikes_changes_weights(rng):
    """At the rates that the measurement speaks of."""
    net = networks.stdp(200, 10)
    with net:
        spikes = [nengo.Probe(ens.neurons) for ens in net.ensembles]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        before = sim.data[net.learned].weights
        sim.run_steps(400)
        assert np.abs(sim.data[net.learned].weights - before).max() > 1e-5
        rates = [sim.data[probe].mean() for probe in spikes]
    assert 40 < rates[0] < 60 and 2 < rates[1] < 60
    assert networks.stdp(20, 2, learns=False).learned.learning_rule_type is None


def test_learning_with_matrices_is_what_core_computes(allclose):
    net = pes(3, 15)
    with net:
        probe = nengo.Probe(net.p.target, synapse=None)
    matrices = batch.MatrixLearning(net, 2, "float64")
    found = np.concatenate([matrices.run(30), matrices.run(20)])
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(50)
    assert np.abs(sim.data[probe]).max() > 0.1
    assert allclose(found[:, :, 0], sim.data[probe], atol=1e-12)
    assert np.array_equal(found[:, :, 0], found[:, :, 1])


def test_bare_neurons_spike():
    run = batch.bare_lif(neurons=5, items=2, steps=4)
    assert [0 <= run() <= 1 for _ in range(3)] == [True] * 3  # a voltage


def test_big():
    before = [getattr(owner, name) for owner, name in big.WATCHED]
    rows = big.measure_passes(12, 6, 30, steps=3, core=True)
    assert [getattr(owner, name) for owner, name in big.WATCHED] == before
    phases = [row["phase"] for row in rows]
    assert phases[0] == "describe the network"
    assert {"  built_model", "  lower", "  simplify", "  simplify 2"} <= set(phases)
    assert "build and compile" in phases
    assert phases[-2:] == ["core: build", "core: 3 steps"]
    assert all(row["ensembles"] == 12 and row["seconds"] >= 0 for row in rows)
    assert all(row["peak"] > 10 and row["after"] > 10 for row in rows)
    assert len(drawn("big", rows)) == 2


def test_big_makes_sizes_in_processes_of_their_own(monkeypatch):
    asked = []

    def in_new_process(function, n, *args):
        asked.append((function, n, *args))
        seconds = {"all": n / 10, "small": 0.001}
        return [{"ensembles": n, "phase": p, "seconds": s} for p, s in seconds.items()]

    monkeypatch.setattr(big, "in_new_process", in_new_process)
    rows = list(big.big(n_ensembles=160, sizes=3, steps=7))
    assert asked == [
        (big.measure_passes, n, 60, round(4.5 * n), 7, False) for n in (10, 40, 160)
    ]
    assert big._growth(rows) == {"exponent of all": pytest.approx(1)}


def test_big_tells_what_each_neuron_costs():
    sizes = {"ensembles": 10, "neurons": 600, "connections": 45}
    rows = [
        {name: n * k for name, n in sizes.items()}
        | {"phase": phase, "seconds": 0.006 * k, "peak": 9 + 6 * k, "before": 9}
        for k in (1, 4)
        for phase in ("describe the network", *big.BUILD)
    ]
    found = big._growth(rows)
    assert found["us per neuron"] == pytest.approx(20)
    assert found["us per ensemble"] == pytest.approx(1200)
    assert found["bytes per neuron"] == pytest.approx(6 * 2**20 / 600)
    assert found["us of the ceiling"] == pytest.approx(20 / (74 / 1.2))
    assert found["minutes for 22 million neurons"] == pytest.approx(20 * 22 / 60)
    assert found["GB for 22 million neurons"] == pytest.approx(6 * 2**20 / 600 * 22e-3)


def test_phases_in_phases(allclose):
    phases = big.Phases(3)
    with phases("outer"), phases("inner"):
        pass
    with phases("inner"):
        pass
    assert [row["phase"] for row in phases.rows] == ["  inner", "outer", "inner 2"]


def test_gpu_says_that_there_is_none(monkeypatch):
    monkeypatch.setattr(gpu, "devices", list)
    (row,) = gpu.gpu(["tiny"])
    assert row == {"case": "TensorFlow finds no GPU here: nothing was measured"}
    assert load_measurements()["gpu"].summary([row]) == {}
    drawn("gpu", [row])


def test_gpu_measures_devices(monkeypatch):
    # the CPU in the place of a GPU: the same path
    monkeypatch.setattr(gpu, "devices", lambda: [("/cpu:0", "A processor")])
    (row,) = gpu.gpu(["tiny"], items=["2"], steps=4, repeats=1)
    assert row["case"] == "tiny, 2 items, /cpu:0" and row["gpu"] == "A processor"
    assert row["ns"] == pytest.approx(row["ours"] / (20 * 2) * 1e3)
    assert row["memory"] is None and row["ratio"] > 0


def test_gpu_mistakes():
    with pytest.raises(ValidationError, match="whole numbers such as 1,64; got 2,many"):
        next(gpu.gpu(["tiny"], items=["2", "many"]))
    with pytest.raises(ValidationError, match="items: must be at least 1"):
        next(gpu.gpu(["tiny"], items=["0"]))


def test_gpu_devices_have_names(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    details = {"a": {"device_name": "H"}, "b": {}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert gpu.devices() == [("/gpu:0", "H"), ("/gpu:1", "GPU")]


def test_rivals(monkeypatch):
    webs = {"sparse": rivals.Web(30, 4), "dense": rivals.Web(20)}
    monkeypatch.setattr(rivals, "WEBS", webs)
    monkeypatch.setattr(rivals, "warm_up", lambda: None)
    monkeypatch.setattr(rivals, "find_spec", lambda name: None)  # nothing is installed
    rows = list(rivals.rivals(steps=50, repeats=1))
    assert [(row["case"], row["beside"]) for row in rows] == [
        (name, "nengo.Simulator") for name in webs
    ]
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in rows)
    assert all(0.005 < row["spikes"] < 0.05 for row in rows)
    with pytest.raises(ValidationError, match="simulators"):
        next(rivals.rivals(simulators=["brain"]))


def test_webs_have_each_pair_once():
    web = rivals.Web(30, 4)
    pairs = set(zip(web.sources, web.targets, strict=True))
    assert len(pairs) == len(web.weights) == 120
    dense = rivals.Web(5)
    assert len(set(zip(dense.sources, dense.targets, strict=True))) == 25


@pytest.mark.parametrize("name", ("brian2", "nest"))
def test_rivals_have_the_same_rate_of_spikes(name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    web = rivals.Web(50, 10)
    rival = rivals.RIVALS[name](web, 400)
    assert rival.run() > 0
    ours = rivals._share_in_nengo(web, 400)
    assert abs(rival.share() - ours) < 0.1 * ours
