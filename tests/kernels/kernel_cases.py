"""The cases that the harness runs: at least one for each kernel and operator rule.

To add one, write a function ``(bench, variant)`` with the decorator `case`. It adds
operators of core Nengo to the bench, with data on kinks only if ``bench.rough``, and
watches their results, states included. Variants should differ in every parameter.
"""

import nengo
import numpy as np
from nengo.builder.learning_rules import SimPES
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import (
    Copy,
    DotInc,
    ElementwiseInc,
    Reset,
    SimPyFunc,
)
from nengo.builder.probe import SimProbe
from nengo.builder.processes import SimProcess

from tests.kernels.kernel_harness import ITEMS, STEPS, Case

CASES = []


def case(**options):
    """Decorator that makes a case of a function."""

    def decorate(build):
        CASES.append(Case(build.__name__, build, **options))
        return build

    return decorate


# -- sums and products -----------------------------------------------------------------


@case()
def reset_and_copy(bench, variant):
    """Constants, copies, slices of both sides, increments."""
    n = 6 + variant
    x, z = bench.feed(n), bench.feed(3)
    y, partly = bench.signal((n,)), bench.signal((n,))
    bench.add(
        Reset(y, value=0.25 * (variant + 1)),
        Copy(x, y, inc=True),
        Copy(z, y, src_slice=slice(None, None, -1), dst_slice=[4, 0, 1], inc=True),
        Copy(x[2:5], y[1:4], inc=True),
        Copy(x, partly),
    )
    bench.watch(y, partly)


@case()
def elementwise_inc(bench, variant):
    """Constant, trained and varying factors, broadcast in both directions."""
    n = 5 + variant
    x = bench.feed(n)
    column, row = bench.feed(n, 1), bench.feed(1, 3)
    y, z, one = bench.signal((n,)), bench.signal((n, 3)), bench.signal((1, 3))
    bench.add(
        Reset(y),
        Reset(z),
        Reset(one),
        ElementwiseInc(bench.signal(bench.values(n)), x, y),
        ElementwiseInc(bench.signal(0.5 + variant), x, y),
        ElementwiseInc(bench.parameter(n), x, y),
        ElementwiseInc(x, bench.feed(n), y),
        ElementwiseInc(column, row, z),
        ElementwiseInc(x, bench.signal(2.0), y),
        ElementwiseInc(bench.signal(bench.values(1, 3)), row, one),
    )
    bench.watch(y, z, one)


@case()
def many_terms(bench, variant):
    """Sums of more terms than are written out one by one."""
    y = bench.signal((4,))
    bench.add(Reset(y, value=-1.0))
    for _ in range(7):
        bench.add(ElementwiseInc(bench.signal(bench.values(4)), bench.feed(4), y))
    bench.watch(y)


@case()
def matrix(bench, variant):
    """Fixed and trained matrices, whole and in part, of several forms."""
    x, small = bench.feed(9), bench.feed(1)
    for m in (7, 1):
        y = bench.signal((m,))
        bench.add(Reset(y), DotInc(bench.signal(bench.values(m, 9)), x, y))
        bench.watch(y)
    y = bench.signal((6,))
    bench.add(
        Reset(y),
        DotInc(bench.parameter(6, 9), x, y),
        DotInc(bench.parameter(9, 12)[2:8, 3:], x, y),
        DotInc(bench.parameter(6, 1), small, y),
        DotInc(bench.signal(bench.values(6, 1)), small, y),
    )
    bench.watch(y)


@case()
def equal_matrices(bench, variant):
    """One matrix with several inputs."""
    weights = np.random.RandomState(1).uniform(-1, 1, (6, 8))
    y = bench.signal((6,))
    bench.add(Reset(y), DotInc(bench.signal(weights), bench.feed(8), y))
    bench.watch(y)


@case()
def vectors_as_matrices(bench, variant):
    """What `DotInc` makes of factors that are not matrices, and of column vectors."""
    x, one, column = bench.feed(5), bench.feed(), bench.feed(5, 1)
    scalar, vector = bench.signal(()), bench.signal((5,))
    standing = bench.signal((4, 1))
    bench.add(
        Reset(scalar),
        Reset(vector),
        Reset(standing),
        DotInc(bench.signal(bench.values(5)), x, scalar),
        DotInc(bench.signal(0.5 + variant), x, vector),
        DotInc(bench.parameter(values=bench.values(1)[0]), x, vector),
        DotInc(bench.signal(bench.values(5)), one, vector),
        DotInc(bench.signal(bench.values(4, 5)), column, standing),
    )
    bench.watch(scalar, vector, standing)


@case()
def varying_matrix(bench, variant):
    """A matrix that operators change."""
    weights = bench.signal(bench.values(4, 6))
    y = bench.signal((4,))
    bench.add(
        Reset(y),
        DotInc(weights, bench.feed(6), y),
        ElementwiseInc(bench.signal(0.01), bench.feed(4, 6), weights),
    )
    bench.watch(y, weights)


# -- time and Python -------------------------------------------------------------------


@case()
def clock(bench, variant):
    """Time as a signal, and a probe's mark."""
    y = bench.signal((3,))
    bench.add(
        Reset(y),
        Copy(bench.feed(3), y, inc=True),
        ElementwiseInc(bench.signal(bench.values(3)), bench.model.time, y),
        SimProbe(y),
    )
    bench.watch(y)


@case()
def constant_inputs(bench, variant):
    """Inputs that are the same for all batch items, next to some that are not."""
    constant, matrix = bench.signal(bench.values(6)), bench.signal(bench.values(4, 6))
    y = bench.signal((4,))
    bench.add(
        Reset(y),
        DotInc(matrix, constant, y),
        DotInc(bench.parameter(4, 6), constant, y),
        ElementwiseInc(bench.signal(0.01), bench.feed(4, 6), matrix),
    )
    bench.watch(y, matrix)
    population(bench, nengo.LIF(0.05), current=bench.signal(bench.values(6, high=9)))
    population(bench, nengo.LIFRate(), current=constant)
    synapse(bench, nengo.Lowpass(0.03), constant)
    synapse(bench, nengo.Alpha(0.03), constant)
    y, weights, _ = pes(bench, bench.feed(3), constant[:5], 0.3)
    bench.watch(y, weights)
    y, weights, _ = pes(bench, constant[:2], bench.feed(5), 0.3)
    bench.watch(y, weights)


@case(merges=False)
def functions(bench, variant):
    """Functions of time, of a signal, of both, of nothing."""
    x = bench.feed(3)
    outputs = [bench.signal((2,)) for _ in range(4)]
    constant, timed = bench.signal(bench.values(1)), bench.signal((2,))
    time = bench.model.time
    calls = []

    def count():
        calls.append(None)
        return [variant, 3]

    bench.add(
        SimPyFunc(timed, lambda t, x: [t, x[0]], time, constant),
        SimPyFunc(outputs[0], lambda t: np.sin([10 * t, 20 * t + variant]), time, None),
        SimPyFunc(outputs[1], lambda x: x[:2] ** 2 + x[2], None, x),
        SimPyFunc(outputs[2], lambda t, x: t * x[1:], time, x),
        SimPyFunc(outputs[3], count, None, None),
        SimPyFunc(None, lambda t, x: calls.append(t), time, x),
    )
    bench.watch(timed, *outputs)


class Walk(nengo.Process):
    """A random walk that its input pushes."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        place = np.zeros(shape_out)

        def step(t, x=0.0):
            place[...] += dt * np.sum(x) + 0.01 * rng.uniform(-1, 1, size=shape_out)
            return place.copy()

        return step


@case(merges=False)
def python_process(bench, variant):
    """A process of a user in each mode, with and without input."""
    x, time = bench.feed(2), bench.model.time
    made, pushed = bench.signal((3,)), bench.signal((2,))
    late, grown = bench.signal((2,)), bench.signal((1,))
    bench.add(
        SimProcess(Walk(), None, made, time, mode="set"),
        SimProcess(Walk(seed=variant), x, pushed, time, mode="set"),
        SimProcess(Walk(), x, late, time, mode="update"),
        Reset(grown, value=1.0),
        SimProcess(Walk(), None, grown, time, mode="inc"),
    )
    bench.watch(made, pushed, late, grown)


@case()
def processes_of_time(bench, variant):
    """Processes of core without input, which run ahead of the steps."""
    noise, shown = bench.signal((2,)), bench.signal((2,))
    y = bench.signal((2,))
    frames = nengo.processes.PresentInput(bench.values(3, 2), 0.007)
    bench.add(
        SimProcess(nengo.processes.WhiteNoise(), None, noise, bench.model.time),
        SimProcess(frames, None, shown, bench.model.time),
        Copy(noise, y),
        ElementwiseInc(bench.feed(2), shown, y),
    )
    bench.watch(noise, shown, y)


# -- synapses --------------------------------------------------------------------------


def synapse(bench, filter_, u, mode="set", watch_state=True):
    """A filter between an input and a signal to watch, perhaps with its state."""
    y = bench.signal(u.shape)
    initial = filter_.make_state(u.shape, y.shape, bench.model.dt)
    state = {name: bench.signal(value, name) for name, value in initial.items()}
    if mode == "inc":
        bench.add(Reset(y, value=0.5))
    bench.add(SimProcess(filter_, u, y, bench.model.time, mode=mode, state=state))
    bench.watch(y, *(state.values() if watch_state else ()))


@case()
def lowpass(bench, variant):
    """One state variable, in each mode."""
    for mode, tau in zip(("set", "inc", "update"), (0.005, 0.02, 0.1)):
        synapse(bench, nengo.Lowpass(tau * (1 + variant)), bench.feed(4 + variant), mode)


@case()
def alpha(bench, variant):
    """Two state variables."""
    synapse(bench, nengo.Alpha(0.02), bench.feed(3 + variant), "update")


@case()
def linear_filter(bench, variant):
    """A general transfer function without a direct path."""
    filter_ = nengo.LinearFilter([0.02, 1], [1e-4, 2e-2, 1])
    synapse(bench, filter_, bench.feed(4 + variant), "inc")


@case()
def direct_path(bench, variant):
    """A digital filter that passes part of its input on at once."""
    filter_ = nengo.LinearFilter([0.5, 0.3, 0.1], [1, -0.6, 0.2], analog=False)
    synapse(bench, filter_, bench.feed(4 + variant))


@case()
def gain(bench, variant):
    """A filter without state is a factor."""
    filter_ = nengo.LinearFilter([0.5 + variant], [1], analog=False)
    synapse(bench, filter_, bench.feed(4 + variant), "update")


# -- neurons ---------------------------------------------------------------------------

#: input currents that are kept for all steps: thresholds, silence, saturation
SPECIAL_CURRENTS = (1.0, 0.0, -0.0, -50.0, 1234.5, -1.0)


def currents(bench, n, nearest):
    """Currents that vary around each neuron's own mean; some of them do not vary.

    ``nearest`` is how close to a threshold of one a current may come.
    """
    mean = bench.rng.uniform(-1, 6, size=n)
    values = mean + bench.rng.normal(size=(ITEMS, STEPS, n))
    if bench.rough:
        special = (*SPECIAL_CURRENTS, 1 + nearest, 1 - nearest)
        values[:, :, : len(special)] = special
    else:  # on one side of all thresholds, and away from them
        values = np.where(np.abs(values - 1) < 0.2, values + 0.5, values)
        values = np.where(np.abs(values) < 0.2, values - 0.3, values)
    return bench.feed(values=values)


def population(bench, neuron_type, current):
    """Neurons with an input current; output and state are watched. The output."""
    n = current.size
    output = bench.signal((n,), "output")
    initial = neuron_type.make_state(n, bench.rng, dtype=np.float64)
    state = {name: bench.signal(value, name) for name, value in initial.items()}
    bench.add(SimNeurons(neuron_type, current, output, state=state))
    bench.watch(output, *state.values())
    return output


def neurons(name, make, nearest=2.0**-20, **options):
    """A case of a neuron type: ``make(variant)``."""

    def build(bench, variant):
        population(bench, make(variant), currents(bench, 20 + 5 * variant, nearest))

    CASES.append(Case(name, build, **options))


neurons("lif_rate", lambda i: nengo.LIFRate(0.02 + 0.01 * i, 0.002 + 0.001 * i, 1 + i))
neurons(
    "lif",
    lambda i: nengo.LIF(0.02 + 0.01 * i, 0.002 + 0.001 * i, -0.5 * i, 1 + 0.5 * i),
    sensitive=5,  # the time of a spike is a small difference over a small drive
)
neurons("lif_without_refractory_period", lambda i: nengo.LIF(0.02, 0.0), sensitive=5)
neurons(
    "lif_with_short_tau",
    lambda i: nengo.LIF(0.0007, 0.0004 + 0.0003 * i),
    nearest=2.0**-6,  # a drive of 2 ** -20 has only three bits in single precision
    sensitive=5,
)
neurons("rectified_linear", lambda i: nengo.RectifiedLinear(1 + i))
neurons("spiking_rectified_linear", lambda i: nengo.SpikingRectifiedLinear(1 + i))
neurons("sigmoid", lambda i: nengo.Sigmoid(0.0025 + 0.001 * i))
neurons("tanh", lambda i: nengo.Tanh(0.0025 + 0.001 * i))


# -- learning --------------------------------------------------------------------------


def pes(bench, error, activities, rate):
    """Weights that PES changes, at work."""
    m, n = error.size, activities.size
    weights, delta = bench.signal(bench.values(m, n)), bench.signal((m, n))
    y = bench.signal((m,))
    bench.add(
        Reset(y),
        DotInc(weights, activities, y),
        Copy(delta, weights, inc=True),
        SimPES(activities, error, delta, rate),
    )
    return y, weights, delta


@case()
def pes_of_one_shape(bench, variant):
    """Rules of one shape, which are merged."""
    y, weights, _ = pes(bench, bench.feed(3), bench.feed(10), 0.5)
    bench.watch(y, weights)


@case()
def pes_with_delta(bench, variant):
    """The change itself, which is otherwise carried as its factors."""
    bench.watch(*pes(bench, bench.feed(2), bench.feed(9), 0.1))


# -- more of them: importing a file adds its cases -------------------------------------

from tests.kernels import (  # noqa: E402, F401
    kernel_cases_gradients,
    kernel_cases_learning,
    kernel_cases_neurons,
    kernel_cases_plasticity,
    kernel_cases_processes,
    kernel_cases_tensor,
    kernel_cases_transforms,
)
