"""Lowering: operators over shared memory become a graph, with core Nengo's values."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Reset
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

from nengo_dl.compiler.graph import Kind, ParameterRef
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.lowering import LoweringOptions, core_order, lower
from nengo_dl.compiler.simplify import prune
from nengo_dl.surrogates import SpikeTraining
from tests import networks
from tests.compiler.bench import N_STEPS, Bench
from tests.compiler.helpers import NETWORKS, agree, case, kinds
from tests.compiler.reference import Interpreter, interpret


@pytest.fixture
def bench():
    return Bench()


def zeros(*shape):
    return Signal(np.zeros(shape), name="y")


# -- whole networks


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_core(name, allclose):
    it = case(name)
    verify(it.graph)
    agree(allclose, it.expected[:, :, :1], it.core)
    # driven: every probe moves, and the batch items differ, if they are fed
    first = 0
    for reading in it.graph.probes:
        rows = it.expected[:, first : first + reading.elements.size]
        assert np.ptp(rows, axis=0).max() > 0, reading.key
        first += reading.elements.size
    same = np.array_equal(it.expected[..., 0], it.expected[..., 1])
    assert not (same and it.lowered.sources)


@pytest.mark.parametrize("name", ["lif", "python", "mixed"])
def test_open_parameters_are_those_that_are_given(name, allclose):
    """With the network's own values the open graph does what the closed one does."""
    closed, opened = case(name), case(name, opened=True)
    arguments = opened.arguments()
    own = {signal: signal.initial_value for signal in opened.parameters}
    arguments["parameters"] = own
    agree(allclose, interpret(opened.graph, **arguments), closed.expected)
    assert not allclose(opened.expected, closed.expected, atol=1e-3)


def test_model_is_not_changed(allclose):
    """So the same model can be simulated by core afterwards."""
    with networks.mixed_parameters() as net:
        model = Model(dt=0.001)
        model.build(net)
    operators = list(model.operators)
    values = {s: s.initial_value.copy() for op in operators for s in op.all_signals}
    first = lower(model)
    assert model.operators == operators
    for signal, value in values.items():
        assert np.array_equal(signal.initial_value, value)

    def data(sim):
        with sim:
            sim.run_steps(30)
            return sim.data[net.probes[0]]

    options = {"seed": 1, "progress_bar": False}
    expected = data(nengo.Simulator(net, **options))
    assert allclose(data(nengo.Simulator(None, model=model, **options)), expected)
    assert [p.key for p in first.graph.probes] == net.probes


def test_order_is_core_s():
    it = case("lif")
    assert list(it.lowered.order) == core_order(it.model)


def test_states_are_those_of_the_network(allclose):
    """At the end the graph's states hold what core's signals hold."""
    it = case("lif")
    arguments = it.arguments()
    n_steps = arguments.pop("n_steps")
    reference = Interpreter(it.graph, **arguments)
    reference.run(n_steps)
    held = reference.held()
    assert len(held) > 15
    for signal, value in held.items():
        agree(allclose, value[:, 0], np.ravel(it.signals[signal]))


# -- views, slices, resets, increments


def test_reading_and_writing_views(bench, allclose):
    y, z = zeros(4, 3), zeros(2, 2)
    bench.add(
        Reset(y, value=0.5),
        Copy(bench.x[:3], y[1], inc=True),
        Copy(bench.x[4:1:-1], y[3], inc=True),
        Copy(bench.x[1:5], y[:, 2], inc=True),
        Copy(y[1:3, 1:], z),
    )
    bench.watch(y, z, y[2], z[:, ::-1])
    bench.agree(allclose)


@pytest.mark.parametrize("value", [0, 2.5])
def test_reset_of_a_view(bench, allclose, value):
    y = Signal(np.arange(8.0), name="y")
    bench.add(
        Reset(y[2:7:2], value=value),
        Reset(y[1:2], value=7),
        Copy(bench.x, y[:5], inc=True),
    )
    bench.watch(y)
    bench.agree(allclose)


@pytest.mark.parametrize(
    "slices",
    [
        {"src_slice": [3, 0, 3, -1, 2]},
        {"dst_slice": [2, 0, -1]},
        {"src_slice": [1, 1, -1], "dst_slice": [0, 3, 1]},
        {"src_slice": slice(4, 1, -1), "dst_slice": slice(0, 6, 2)},
    ],
)
@pytest.mark.parametrize("inc", [False, True])
def test_copies_of_slices(bench, allclose, slices, inc):
    y = Signal(np.linspace(1, 2, 6 if "dst_slice" in slices else 5), name="y")
    x = bench.x if "src_slice" in slices else bench.x[:3]
    bench.add(Copy(x, y, inc=inc, **slices))
    bench.watch(y)
    bench.agree(allclose)


def test_increments_with_repeated_indices_add_up(bench, allclose):
    y = zeros(3)
    bench.add(Reset(y), Copy(bench.x, y, dst_slice=[0, 2, 0, 0, -1], inc=True))
    bench.watch(y)
    bench.agree(allclose)


def test_what_is_only_incremented_lasts(bench, allclose):
    y = Signal(np.ones(5), name="y")
    bench.add(Copy(bench.x, y, inc=True))
    bench.watch(y)
    graph = bench.agree(allclose)
    (reading,) = graph.states
    assert reading.key is y
    assert np.array_equal(graph.value[reading.elements], np.ones(5))


def test_what_is_set_does_not_last(bench, allclose):
    y = Signal(np.ones(5), name="y")
    bench.add(Reset(y), Copy(bench.x, y, inc=True))
    bench.watch(y)
    assert bench.agree(allclose).states == ()


def test_the_part_that_is_not_set_lasts(bench, allclose):
    y = Signal(np.arange(4.0), name="y")
    bench.add(
        Reset(y[:2], value=5),
        Copy(bench.x[:2], y[2:], inc=True),
        Copy(bench.x[2:4], y[:2], inc=True),
    )
    bench.watch(y)
    assert [r.key for r in bench.agree(allclose).states] == [y]


def test_a_copy_to_some_entries_leaves_the_others(bench, allclose):
    y = Signal(np.arange(5.0), name="y")
    bench.add(
        Copy(bench.x[:3], y, dst_slice=[0, 3, 1]),
        Copy(bench.x[:3], y, dst_slice=[0, 2, 2], inc=True),
    )
    bench.watch(y)
    bench.agree(allclose)


def test_copies_to_repeated_entries_are_refused_as_by_core(bench):
    bench.add(Copy(bench.x[:3], zeros(5), dst_slice=[0, 3, 0]))
    with pytest.raises(BuildError, match="repeated indices"):
        bench.lower()
    with pytest.raises(BuildError, match="repeated indices"):
        bench.core()


def test_chain_of_writes_becomes_one_sum(bench, allclose):
    y = zeros(5)
    bench.add(Reset(y, value=1), *(Copy(bench.x, y, inc=True) for _ in range(4)))
    bench.watch(y)
    graph = bench.agree(allclose)
    assert kinds(graph)[Kind.SUM] == 5
    assert (graph.fan_in[graph.kind == Kind.SUM] == 4).all()


def test_parts_are_frozen_when_they_are_read(bench, allclose):
    """One half of ``y`` is computed from the other: no cycle."""
    y = zeros(4)
    bench.add(
        Copy(bench.x[:2], y[:2]),
        DotInc(Signal(np.array([[1.0, 2.0], [3.0, 4.0]]), name="A"), y[:2], y[2:]),
        Reset(y[2:], value=1),
    )
    bench.watch(y)
    bench.agree(allclose)


def test_never_written_signals_are_constants(bench, allclose):
    c, y = Signal(np.arange(5.0), name="c"), zeros(5)
    bench.add(Reset(y), Copy(c[::-1], y, inc=True), Copy(bench.x, y, inc=True))
    bench.watch(y, c)
    graph = bench.agree(allclose)
    assert graph.states == ()


# -- products


@pytest.mark.parametrize("shape", [(), (1,), (5,)])
@pytest.mark.parametrize("order", ["A X", "X A"])
def test_constant_factors(bench, allclose, shape, order):
    y, a = zeros(5), Signal(np.full(shape, 1.5), name="a")
    pair = (a, bench.x) if order == "A X" else (bench.x, a)
    bench.add(Reset(y), ElementwiseInc(*pair, y))
    bench.watch(y)
    graph = bench.agree(allclose)
    assert graph.nodes == ()


def test_constant_matrix_times_column_broadcasts(bench, allclose):
    y, a = zeros(3, 5), Signal(np.arange(3.0).reshape(3, 1), name="a")
    bench.add(Reset(y), ElementwiseInc(a, bench.x, y))
    bench.watch(y)
    bench.agree(allclose)


@pytest.mark.parametrize("first, second", [(slice(0, 5), slice(0, 1)), (1, slice(0, 5))])
def test_varying_factors(bench, allclose, first, second):
    y = zeros(5)
    bench.add(Reset(y), ElementwiseInc(bench.x[first], bench.x[second], y))
    bench.watch(y)
    graph = bench.agree(allclose)
    assert graph.count("product") == 1


@pytest.mark.parametrize("shape, out", [((3, 5), (3,)), ((5,), ()), ((1, 5), (1,))])
def test_constant_matrices(bench, allclose, rng, shape, out):
    y, a = zeros(*out), Signal(rng.uniform(-1, 1, size=shape), name="A")
    bench.add(Reset(y), DotInc(a, bench.x, y))
    bench.watch(y)
    assert bench.agree(allclose).count("matmul") == 1


@pytest.mark.parametrize("varying", [False, True])
def test_scalar_matrices(bench, allclose, varying):
    y = zeros(5)
    a = bench.x[1].reshape(()) if varying else Signal(np.array(0.3), name="a")
    bench.add(Reset(y), DotInc(a, bench.x, y))
    bench.watch(y)
    graph = bench.agree(allclose)
    assert graph.count("product") == varying


def test_matrix_that_changes(bench, allclose, rng):
    weights, y = Signal(rng.uniform(size=(2, 5)), name="w"), zeros(2)
    bench.add(Copy(bench.x, weights[1], inc=True), Reset(y), DotInc(weights, bench.x, y))
    bench.watch(y, weights)
    graph = bench.agree(allclose)
    assert graph.count("varying_matmul") == 1
    assert [reading.key for reading in graph.states] == [weights]


# -- nothing that nobody reads


@pytest.mark.parametrize("name", ["rates", "filtered_rates", "processes", "mixed"])
def test_makes_no_elements_that_nobody_reads(name):
    """The step and the time, biases, and what was in a signal before it is set."""
    graph = case(name).graph
    assert prune(graph) is graph
    assert graph.inputs and not {"step", "time"} & set(names_of(graph.inputs))


def names_of(sources):
    return [source.key.name for source in sources]


def test_time_is_given_to_whoever_reads_it(bench, allclose):
    copied = zeros()
    bench.add(Copy(bench.model.time, copied))
    bench.watch(copied)
    graph = bench.agree(allclose)
    assert names_of(graph.inputs) == ["x", "time"]


def test_constants_are_set_in_parts(bench, allclose):
    y, constant = zeros(4), Signal(np.array([-0.0, 2.0, 3.0]), name="c")
    bench.add(
        Copy(constant, y, src_slice=slice(0, 2), dst_slice=[3, 1]),
        Copy(constant, y, src_slice=slice(1, 3), dst_slice=[0, 1], inc=True),
    )
    bench.watch(y)
    bench.agree(allclose)


# -- updates


def test_updates_show_at_the_end_of_the_step(bench, allclose):
    """A reader sees the old value, a probe the new one."""
    filtered, copied = zeros(5), zeros(5)
    bench.add(
        nengo.builder.processes.SimProcess(
            nengo.Lowpass(0.01),
            bench.x,
            filtered,
            bench.model.time,
            mode="update",
            state={"X": Signal(np.zeros((1, 5)), name="X")},
        ),
        Copy(filtered, copied),
    )
    bench.watch(filtered, copied)
    got = interpret(bench.lower().graph, bench.inputs(), N_STEPS)
    assert np.abs(got[-1]).min() > 0
    agree(allclose, got[1:, 5:], got[:-1, :5])
    assert not got[0, 5:].any()


# -- options


def test_parameters_are_elements_or_references(bench, allclose, rng):
    w = Signal(rng.uniform(size=(4, 5)), name="w")
    bias, y, z = Signal(rng.uniform(size=4), name="bias"), zeros(4), zeros(2)
    bench.add(Copy(bias, y), DotInc(w, bench.x, y), Reset(z), DotInc(w[::2], bench.x, z))
    bench.watch(y, z)
    graph = bench.lower(parameters=frozenset([w, bias])).graph
    assert [source.key for source in graph.parameters] == [bias]
    whole, part = (node.params["A"] for node in graph.nodes if "A" in node.params)
    if whole.index is not None:
        whole, part = part, whole
    assert isinstance(whole, ParameterRef) and whole.key is part.key is w
    assert whole.index is None
    assert np.array_equal(part.index, np.arange(20).reshape(4, 5)[::2])
    own = {w: w.initial_value, bias: bias.initial_value}
    agree(allclose, interpret(graph, bench.inputs(), N_STEPS, own), bench.core())
    other = {w: -w.initial_value, bias: bias.initial_value}
    expected = bench.core()
    expected[:, :4] = 2 * bias.initial_value[:, None] - expected[:, :4]
    expected[:, 4:] *= -1
    agree(allclose, interpret(graph, bench.inputs(), N_STEPS, other), expected)


def test_a_parameter_as_factor_is_a_product(bench):
    gain, y = Signal(np.full(5, 2.0), name="gain"), zeros(5)
    bench.add(Reset(y), ElementwiseInc(gain, bench.x, y))
    bench.watch(y)
    graph = bench.lower(parameters=frozenset([gain])).graph
    assert graph.count("product") == 1
    got = interpret(graph, bench.inputs(), N_STEPS, {gain: np.zeros(5)})
    assert not got.any()
    assert bench.core().any()


def test_what_operators_write_is_no_parameter(bench, allclose):
    w = Signal(np.ones(5), name="w")
    bench.add(Copy(bench.x, w, inc=True))
    bench.watch(w)
    graph = bench.lower(parameters=frozenset([w])).graph
    assert graph.parameters == ()
    agree(allclose, interpret(graph, bench.inputs(), N_STEPS), bench.core())


def test_constants_that_are_fed(bench, allclose):
    c, y = Signal(np.ones(5), name="c"), zeros(5)
    bench.add(Copy(c, y), ElementwiseInc(c, bench.x, y))
    bench.watch(y)
    graph = bench.lower(inputs=frozenset([c])).graph
    assert c in [source.key for source in graph.inputs]
    inputs = {**bench.inputs(), c: np.ones((N_STEPS, 5, 1))}
    agree(allclose, interpret(graph, inputs, N_STEPS), bench.core())
    inputs[c] = -inputs[c]
    agree(allclose, interpret(graph, inputs, N_STEPS), -bench.core())


def test_parts_of_signals_that_are_fed(bench, allclose):
    """As where core merged the outputs of nodes: some are given, others stay."""
    both, y = Signal(np.ones(10), name="both"), zeros(5)
    first, second = both[:5], both[5:]
    bench.add(Copy(first, y), ElementwiseInc(second, bench.x, y))
    bench.watch(y, both)
    expected = bench.core()
    graph = bench.lower(inputs=frozenset([second])).graph
    assert [s.size for s in graph.inputs if s.key is second] == [5]
    inputs = {**bench.inputs(), second: np.ones((N_STEPS, 5, 1))}
    agree(allclose, interpret(graph, inputs, N_STEPS), expected)
    inputs[second] = 3 * inputs[second]
    found = interpret(graph, inputs, N_STEPS)
    assert allclose(found[:, :5], 1 + 3 * (expected[:, :5] - 1))
    assert allclose(found[:, 5:], np.repeat([[1.0, 3.0]], 5, axis=1)[0][:, None])


def test_training_takes_the_rate_form():
    model = case("lif").model
    spiking, rates = lower(model), lower(model, LoweringOptions(spikes=SpikeTraining()))
    verify(rates.graph)
    assert spiking.graph.count("LIF") == rates.graph.count("LIFRate") > 0
    assert spiking.graph.count("LIFRate") == rates.graph.count("LIF") == 0


def test_what_is_known_is_no_node(rng):
    """A matrix times zeros is nothing, and what is only copied is no sum."""
    with nengo.Network() as net:
        node = nengo.Node(size_in=3)
        inner = nengo.Node(size_in=3)
        neurons = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear()).neurons
        nengo.Connection(node, inner, synapse=None)
        nengo.Connection(inner, neurons, transform=rng.randn(20, 3), synapse=None)
        nengo.Probe(neurons)
    model = nengo.Simulator(net, progress_bar=False).model
    graph = lower(model).graph
    assert [node.kernel.name for node in graph.nodes] == ["RectifiedLinear"]
    assert not (graph.kind == Kind.SUM).any()
    # encoders that may be written make no difference without an input either
    parameters = frozenset(model.sig[neurons.ensemble].values())
    opened = lower(model, LoweringOptions(parameters=parameters)).graph
    assert [node.kernel.name for node in opened.nodes] == ["RectifiedLinear"]
