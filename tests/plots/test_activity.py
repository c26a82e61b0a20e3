"""Spikes, values over time and tuning curves: what the lines show."""

import nengo
import numpy as np
import pytest
from matplotlib.figure import Figure
from nengo.exceptions import ValidationError
from nengo.utils import ensemble as nengo_ensemble

import nengo_dl
from nengo_dl.plots import firing_rates, raster, traces, tuning_curves

# neuron 0 is silent, 1 fires often, 2 once and first, 3 twice
SPIKES = np.zeros((6, 4))
SPIKES[[1, 2, 3, 5], 1] = 1000
SPIKES[0, 2] = 1000
SPIKES[[2, 4], 3] = [1000, 2000]
TIMES = np.arange(1, 7) * 0.001


def marks(ax):
    """The marks of a raster as (time, row), sorted."""
    (line,) = ax.lines
    x, y = line.get_data()
    x, y = np.reshape(x, (-1, 3)), np.reshape(y, (-1, 3))
    np.testing.assert_array_equal(x[:, 0], x[:, 1])  # upright
    np.testing.assert_allclose(y[:, 1] - y[:, 0], 0.8)
    assert np.isnan(x[:, 2]).all() and np.isnan(y[:, 2]).all()  # the gaps
    rows = y[:, :2].mean(axis=1)
    return sorted(
        (round(float(t), 6), round(float(row), 6)) for t, row in zip(x[:, 0], rows)
    )


def expected(order=range(4), times=TIMES, spikes=SPIKES):
    return sorted(
        (round(float(times[step]), 6), float(row))
        for row, neuron in enumerate(order)
        for step in np.flatnonzero(spikes[:, neuron])
    )


def row_names(ax):
    return [int(text.get_text()) for text in ax.get_yticklabels()]


@pytest.mark.parametrize("times", [0.001, TIMES, list(TIMES)])
def test_raster_has_a_mark_for_each_spike(ax, times):
    assert raster(times, SPIKES, ax=ax) is ax
    assert marks(ax) == expected()
    assert row_names(ax) == [0, 1, 2, 3]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "neuron")
    assert ax.get_title() == ""
    np.testing.assert_allclose(ax.get_xlim(), (0, 0.006), atol=1e-12)
    np.testing.assert_allclose(ax.get_ylim(), (-0.6, 3.6))


@pytest.mark.parametrize(
    "arguments, order, label",
    [
        ({"sort": "rate"}, [0, 2, 3, 1], "neuron, by rate"),
        ({"sort": "time"}, [2, 1, 3, 0], "neuron, by first spike"),
        ({"neurons": 2}, [1, 3], "neuron, the 2 most active of 4"),
        ({"neurons": 9}, [0, 1, 2, 3], "neuron"),
        ({"neurons": 1, "sort": "rate"}, [1], "neuron, the 1 most active of 4, by rate"),
        ({"neurons": [3, -3]}, [3, 1], "neuron"),
        ({"neurons": [3, 0, 2], "sort": "time"}, [2, 3, 0], "neuron, by first spike"),
        ({"neurons": np.array([True, False, False, True])}, [0, 3], "neuron"),
    ],
)
def test_raster_of_some_neurons_in_some_order(ax, arguments, order, label):
    raster(0.001, SPIKES, ax=ax, **arguments)
    assert marks(ax) == expected(order)
    assert row_names(ax) == order
    assert ax.get_ylabel() == label


def test_raster_of_many_neurons(ax, rng):
    spikes = (rng.uniform(size=(10, 50)) < 0.3).astype(float)
    order = rng.permutation(50)
    raster(0.01, spikes, ax=ax, neurons=order)
    assert marks(ax) == expected(order, np.arange(1, 11) * 0.01, spikes)
    assert ax.get_ylabel() == "neuron, 50 of 50, as given"


def test_raster_of_a_batch(ax):
    raster(0.001, np.stack([0 * SPIKES, SPIKES]), ax=ax, item=1)
    assert marks(ax) == expected()
    assert ax.get_title() == "item 1"


def test_raster_without_spikes(ax):
    raster(0.001, np.zeros((5, 3)), ax=ax, sort="time")
    assert marks(ax) == []
    assert row_names(ax) == [0, 1, 2]


def test_raster_passes_on_the_style(ax):
    raster(0.001, SPIKES, ax=ax, color="red", label="hidden layer")
    assert ax.lines[0].get_color() == "red"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hidden layer"]


@pytest.mark.parametrize(
    "spikes, arguments, match",
    [
        (SPIKES[None, None], {}, r"spikes: must have the shape \(steps, size\) or"),
        (SPIKES.astype(str), {}, "spikes: must be an array of numbers"),
        ([[1, 0], [1]], {}, "spikes: must be an array of numbers"),
        (SPIKES[None], {"item": 1}, "item: must be the number of one of the 1 items"),
        (SPIKES[None], {"item": "a"}, "item: must be the number"),
        (SPIKES, {"times": TIMES[:-1]}, r"each of the 6 steps of 'spikes'.*shape \(5,\)"),
        (SPIKES, {"times": 0}, "times: the length of a step must be positive; got 0"),
        (SPIKES, {"neurons": [4]}, "there are 4 neurons, from 0 to 3; got 4"),
        (SPIKES, {"neurons": [[0]]}, "neurons: must be numbers of neurons, or a mask"),
        (SPIKES, {"neurons": [0.5]}, "neurons: must be numbers of neurons, or a mask"),
        (SPIKES, {"neurons": [True, False]}, "a mask of length 4"),
        (SPIKES, {"neurons": 0}, "must be the number of neurons to draw"),
        (SPIKES, {"neurons": 2.5}, "must be the number of neurons to draw"),
        (SPIKES, {"sort": "name"}, "sort: must be None, 'rate' or 'time'; got 'name'"),
    ],
)
def test_raster_of_wrong_data(ax, spikes, arguments, match):
    times = arguments.get("times", 0.001)
    rest = {name: value for name, value in arguments.items() if name != "times"}
    with pytest.raises(ValidationError, match=match):
        raster(times, spikes, ax=ax, **rest)
    assert not ax.lines


def values_of(line):
    return np.array(line.get_ydata())


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_traces_have_a_line_for_each_dimension(ax, rng):
    values = rng.normal(size=(20, 3))
    assert traces(0.01, values, ax=ax) is ax
    assert len(ax.lines) == 3
    for line, column in zip(ax.lines, values.T):
        np.testing.assert_array_equal(values_of(line), column)
        np.testing.assert_allclose(line.get_xdata(), np.arange(1, 21) * 0.01)
    assert legend_of(ax) == ["0", "1", "2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "value")


def test_one_trace_needs_no_legend(ax, rng):
    values = rng.normal(size=20)
    traces(0.01, values, ax=ax)
    np.testing.assert_array_equal(values_of(ax.lines[0]), values)
    assert ax.get_legend() is None


def test_traces_beside_a_target(ax, rng):
    values, target = rng.normal(size=(2, 4, 20, 2))
    traces(0.01, values, target=target, item=3, ax=ax, labels=["x", "y"])
    assert len(ax.lines) == 4
    for i in range(2):
        np.testing.assert_array_equal(values_of(ax.lines[i]), values[3, :, i])
        np.testing.assert_array_equal(values_of(ax.lines[2 + i]), target[3, :, i])
        assert ax.lines[2 + i].get_color() == ax.lines[i].get_color()
        assert ax.lines[2 + i].get_linestyle() == "--"
    assert legend_of(ax) == ["x", "y", "target"]
    assert ax.get_title() == "item 3"


def test_one_trace_beside_a_constant_target(ax, rng):
    values = rng.normal(size=(20, 1))
    traces(0.01, values, target=[[0.5]], ax=ax)
    np.testing.assert_array_equal(values_of(ax.lines[1]), np.full(20, 0.5))
    assert legend_of(ax) == ["values", "target"]


@pytest.mark.parametrize("synapse", [0.05, nengo.Alpha(0.03)])
def test_traces_are_smoothed_as_by_a_probe(ax, synapse, allclose):
    with nengo.Network() as net:
        node = nengo.Node(lambda t: [np.sin(200 * t), t])
        raw, smooth = nengo.Probe(node), nengo.Probe(node, synapse=synapse)
    with nengo.Simulator(net, dt=0.002, progress_bar=False) as sim:
        sim.run_steps(50)
    traces(sim.trange(), sim.data[raw], synapse=synapse, ax=ax)
    for i, line in enumerate(ax.lines):
        assert allclose(values_of(line)[:-1], sim.data[smooth][1:, i], atol=1e-12)


def test_many_traces_have_no_legend(ax):
    traces(0.01, np.zeros((5, 21)), ax=ax)
    assert len(ax.lines) == 21
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    "arguments, match",
    [
        (
            {"target": np.zeros((5, 3))},
            r"many steps and dimensions as the values, \(5, 2\)",
        ),
        ({"target": np.zeros(5)}, r"target: must have as many .*; got \(5, 1\)"),
        ({"labels": ["a"]}, "labels: there must be one for each of the 2 dimensions"),
        ({"synapse": "slow"}, "synapse: Must be of type 'Synapse'"),
        ({"ax": "here"}, "ax: must be the axes of a matplotlib figure.*'here'"),
    ],
)
def test_traces_of_wrong_data(ax, arguments, match):
    with pytest.raises(ValidationError, match=match):
        traces(0.01, np.zeros((5, 2)), **{"ax": ax, **arguments})
    assert not ax.lines


@pytest.fixture(scope="module")
def built():
    with nengo.Network(seed=0) as net:
        one = nengo.Ensemble(10, 1, radius=2, label="one")
        two = nengo.Ensemble(8, 2, neuron_type=nengo.LIF(amplitude=0.5))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        yield one, two, sim


def test_tuning_curves_in_one_dimension(ax, built):
    one, _, sim = built
    assert tuning_curves(one, sim, ax=ax) is ax
    at, rates = nengo_ensemble.tuning_curves(one, sim)
    assert len(ax.lines) == 10
    for i, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_xdata(), at[:, 0])
        np.testing.assert_array_equal(values_of(line), rates[:, i])
    assert (at.min(), at.max()) == (-2, 2)
    assert ax.get_title() == "one"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("represented value", "firing rate (Hz)")


def test_tuning_curves_of_some_neurons_at_some_inputs(ax, built):
    one, _, sim = built
    tuning_curves(one, sim, ax=ax, inputs=[-1, 0, 0.5], neurons=[4, 2])
    _, rates = nengo_ensemble.tuning_curves(one, sim, inputs=np.array([[-1], [0], [0.5]]))
    assert len(ax.lines) == 2
    for line, neuron in zip(ax.lines, [4, 2]):
        np.testing.assert_array_equal(values_of(line), rates[:, neuron])


def test_tuning_curves_in_more_dimensions_are_in_hertz(ax, built):
    _, two, sim = built
    tuning_curves(two, sim, ax=ax)
    at, outputs = nengo_ensemble.response_curves(two, sim)
    assert len(ax.lines) == 8
    for i, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_xdata(), at)
        np.testing.assert_allclose(values_of(line), outputs[:, i] / 0.5)
    assert ax.get_xlabel() == "input in the preferred direction"
    with pytest.raises(ValidationError, match=r"inputs: must have the shape \(n,\)"):
        tuning_curves(two, sim, inputs=np.zeros((3, 2)))


@pytest.mark.parametrize("amplitude", [1, 0.01])
def test_firing_rates_are_those_of_a_simulation(amplitude):
    # 1500 Hz are one or two spikes in each step
    with nengo.Network() as net:
        ens = nengo.Ensemble(
            3, 1, neuron_type=nengo.SpikingRectifiedLinear(amplitude=amplitude),
            gain=[1] * 3, bias=[0, 50, 1500],
        )  # fmt: skip
        probe = nengo.Probe(ens.neurons)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(1000)
    rates = firing_rates(sim.data[probe], amplitude)
    assert rates.shape == (2, 3)
    np.testing.assert_allclose(rates, [[0, 50, 1500]] * 2, atol=1.001)
    for wrong in (sim.data[probe][0, 0], np.zeros((0, 2))):
        with pytest.raises(
            ValidationError, match=r"spikes: must have the shape \(\.\.\."
        ):
            firing_rates(wrong)
    with pytest.raises(ValidationError, match="amplitude: must be positive; got 0"):
        firing_rates(SPIKES, 0)


def test_one_above_the_other_share_the_label_of_time():
    above, below = Figure().subplots(2, 1, sharex=True)
    below.set(xlabel="seconds", title="what it says")
    raster(0.001, np.stack([SPIKES] * 2), ax=above)
    traces(0.001, np.stack([SPIKES] * 2), ax=below)
    assert above.get_xlabel() == ""
    assert above.get_title() == "item 0"
    assert (below.get_xlabel(), below.get_title()) == ("seconds", "what it says")
