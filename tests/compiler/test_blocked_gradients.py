"""Where gradients end: on small graphs, and in networks."""

import nengo
import numpy as np

from nengo_dl.compiler.blocked_gradients import blocked_gradients
from nengo_dl.compiler.graph import GraphBuilder, ParameterRef, Reading
from nengo_dl.compiler.traits import Kernel


class Smooth(Kernel):
    """Has a gradient."""

    name = "smooth"

    def step(self, xp, p, *inputs):
        return inputs


class Steps(Smooth):
    """Its first output is made of steps."""

    name = "steps"

    def flat_outputs(self, node):
        return (0,)


class Python(Smooth):
    """Has none."""

    name = "python"
    differentiable = False


class Second(Smooth):
    """Passes gradients to its second input only."""

    name = "second"
    cut_inputs = (0,)


def test_traits_say_what_has_a_gradient():
    builder = GraphBuilder()
    x = builder.input("x", 2)
    for kernel, sizes, flat in (
        (Smooth(), [2, 2], ()),
        (Steps(), [2, 2], (0,)),
        (Python(), [2, 1, 3], (0, 1, 2)),
        (Python(), [], ()),
    ):
        builder.node(kernel, [x], sizes, {})
        assert kernel.flat_outputs(builder.nodes[-1]) == flat


def blocked(build, trained=("w",), probes=("p",)):
    """Names of the kernels where gradients end; ``build(b, x)`` gives what is probed."""
    b = GraphBuilder()
    y, *next_states = build(b, b.parameter("w", 2))
    graph = b.build(probes=[Reading("p", y, (2,))], next_states=next_states)
    return [node.kernel.name for node in blocked_gradients(graph, probes, trained)]


def apply(b, kernel, *inputs, outputs=1, **params):
    return b.node(kernel, list(inputs), [2] * outputs, params)[:outputs]


def chain(*kernels):
    def build(b, x):
        for kernel in kernels:
            (x,) = apply(b, kernel, x)
        return (x,)

    return build


def test_what_lies_between_parameters_and_probes():
    assert blocked(chain(Smooth(), Smooth())) == []
    assert blocked(chain(Smooth(), Python(), Smooth())) == ["python"]
    assert blocked(chain(Steps())) == ["steps"]
    # the gradient does not get as far as the first
    assert blocked(chain(Python(), Smooth(), Steps(), Smooth())) == ["steps"]
    assert blocked(chain(Python()), trained=()) == []
    assert blocked(chain(Python()), trained=["v"]) == []
    assert blocked(chain(Python()), probes=()) == []


def test_other_outputs_have_gradients():
    def second(b, x):
        return (apply(b, Steps(), x, outputs=2)[1],)

    def behind_the_second(b, x):
        (x,) = apply(b, Python(), x)
        return (apply(b, Steps(), x, outputs=2)[1],)

    assert blocked(second) == []
    assert blocked(behind_the_second) == ["python"]


def test_inputs_that_get_no_gradient():
    def build(b, x):
        (spikes,), (rates,) = apply(b, Steps(), x), apply(b, Smooth(), x)
        return apply(b, Second(), spikes, rates)

    def swapped(b, x):
        (spikes,), (rates,) = apply(b, Steps(), x), apply(b, Smooth(), x)
        return apply(b, Second(), rates, spikes)

    assert blocked(build) == []
    assert blocked(swapped) == ["steps"]


def test_through_time_and_matrices():
    def state(b, x):
        held = b.state(np.zeros(2))
        (y,) = apply(b, Python(), x)
        (z,) = apply(b, Smooth(), held)
        return (z, (held, y))

    def only_in_time(b, x):
        held, out = b.state(np.zeros(2)), b.state(np.zeros(2))
        (y,) = apply(b, Python(), held)
        return (out, (held, x), (out, y))

    class Matrix(Smooth):
        matrices = ("A",)

    def matrix(b, x):
        v = b.input("v", 2)
        (y,) = apply(b, Matrix(), v, A=ParameterRef("w", (2, 2)))
        return apply(b, Python(), y)

    assert blocked(state) == ["python"]
    assert blocked(only_in_time) == ["python"]
    assert blocked(matrix) == ["python"]
    assert blocked(matrix, trained=["v"]) == []


def test_neurons_in_a_network():
    from nengo_dl.compiler.lowering import LoweringOptions
    from nengo_dl.compiler.pipeline import PARAMETRIC_PASSES, compile_model
    from nengo_dl.surrogates import SpikeTraining

    with nengo.Network(seed=0) as net:
        a = nengo.Ensemble(5, 1)
        probe = nengo.Probe(a, synapse=0.01)
    model = nengo.builder.Model()
    model.build(net)
    encoders, bias = model.sig[a]["encoders"], model.sig[a.neurons]["bias"]
    parameters = frozenset((encoders, bias))
    for spikes, expected in ((None, ["LIF"]), (SpikeTraining(), [])):
        options = LoweringOptions(spikes=spikes, parameters=parameters)
        graph = compile_model(model, options, PARAMETRIC_PASSES).graph
        found = blocked_gradients(graph, [probe], [bias])
        assert [node.kernel.name for node in found] == expected
