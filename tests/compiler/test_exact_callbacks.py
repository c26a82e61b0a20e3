"""Numbers that keep double precision on their way between Python functions."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model

from nengo_dl.compiler.exact_callbacks import (
    COUNT,
    Digits,
    add_digits,
    from_digits,
    to_digits,
)
from nengo_dl.compiler.graph import GraphBuilder, Kind, Reading
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.lowering import LoweringOptions
from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.compiler.traits import Kernel
from nengo_dl.kernels.functions import PYTHON, HostFunction, InDouble

SPECIAL = (0.0, -0.0, 0.1, -1 / 3, 1e300, -5e-324, np.inf, -np.inf, np.pi, 2.0**53 - 1)


@pytest.mark.parametrize("columns", (1, 3))
def test_digits_and_back(columns, rng):
    x = np.concatenate([SPECIAL, rng.randn(50) * 10.0 ** rng.randint(-300, 300, 50)])
    x = np.stack([np.roll(x, shift) for shift in range(columns)], axis=1)
    digits = to_digits(x)
    assert digits.shape == (COUNT * len(x), columns)
    single = digits.astype(np.float32)
    assert np.array_equal(single, digits)  # nothing is rounded
    assert from_digits(single).tobytes() == x.tobytes()
    assert from_digits(digits[:0]).shape == (0, columns)


def test_digits_of_many_steps_are_those_of_each_step(rng):
    x = rng.randn(4, 3, 2)
    digits = to_digits(x)
    assert digits.shape == (4, COUNT * 3, 2)
    for step, of_step in zip(x, digits, strict=True):
        assert np.array_equal(to_digits(step), of_step)
    turned = to_digits(x.transpose(0, 2, 1))  # not contiguous
    assert np.array_equal(turned, to_digits(x.transpose(0, 2, 1).copy()))


class Doubling(HostFunction):
    """Takes any number of inputs; twice all of them, one below the other."""

    label = "doubling"

    def __init__(self, size):
        self.size = size

    def column_calls(self, arrays, first=0):
        for column in zip(*(array.T[first:] for array in arrays), strict=True):
            yield 2 * np.concatenate(column)


def python(builder, *inputs):
    """A node with a `Doubling`; its output."""
    function = Doubling(sum(len(i) for i in inputs))
    params = {"function": function, "sizes": function.sizes}
    (output,) = builder.node(PYTHON, inputs, function.sizes, params)
    return output


def finished(builder, probed, given=()):
    graph = builder.build(probes=[Reading("probe", probed, probed.shape)])
    verify(graph)
    result = add_digits(graph, given)
    verify(result, "add_digits")
    return graph, result


def test_a_function_reads_the_digits_of_another_one():
    builder = GraphBuilder()
    x = builder.input("x", 2)
    first = python(builder, x)
    second = python(builder, np.concatenate([first[::-1], x]))
    _, graph = finished(builder, second)
    one, two = graph.nodes
    assert [size for _, size in one.outputs] == [2, 2 * COUNT]
    rest, digits = two.inputs
    assert rest.tolist() == x.tolist()
    expected = one.elements(1).reshape(2, COUNT)[::-1]
    assert digits.tolist() == expected.ravel().tolist()
    assert [size for _, size in two.outputs] == [4]  # nobody reads it


def test_copies_are_followed_and_nothing_else():
    builder = GraphBuilder()
    x = builder.input("x", 4)
    zeros, rows, one = np.zeros(4), np.arange(4), np.ones(4)
    first = python(builder, x)
    copy = builder.sum(zeros, rows, builder.sum(zeros, rows, first, one), one)
    scale = np.array([1, 2, 1, 1])
    bias = np.array([0, 0, 0.5, 0])
    changed = builder.sum(bias, [*rows, 3], [*copy, x[0]], [*scale, 1])
    second = python(builder, changed)
    third = python(builder, copy[:1])
    _, graph = finished(builder, np.concatenate([second, third]))
    one, two, three = graph.nodes
    made = one.elements(1)
    assert made.size == COUNT  # of the first element alone: both read only that
    assert two.inputs[0].tolist() == changed[1:].tolist()
    assert two.inputs[1].tolist() == made.tolist()
    assert [i.tolist() for i in three.inputs] == [made.tolist()]


def test_given_inputs_and_constants_have_digits():
    builder = GraphBuilder()
    x, y = builder.input("x", 2), builder.input("y", 1)
    constant = builder.constant([0.1, 0.5, 1 / 3])
    output = python(builder, np.concatenate([y, constant, x[1:]]))
    _, graph = finished(builder, output, given={"x"})
    (node,) = graph.nodes
    assert node.inputs[0].tolist() == [y[0], constant[1]]  # 0.5 is exact anyway
    digits = node.inputs[1]
    assert (graph.kind[digits[: 2 * COUNT]] == Kind.CONSTANT).all()
    numbers = from_digits(graph.value[digits[: 2 * COUNT]][:, None])
    assert numbers.ravel().tolist() == [0.1, 1 / 3]
    source = graph.inputs[-1]
    assert (source.key, source.size) == (Digits("x"), 2 * COUNT)
    assert digits[2 * COUNT :].tolist() == source.elements[COUNT:].tolist()


def test_without_functions_that_read_of_each_other_nothing_changes():
    builder = GraphBuilder()
    x = builder.input("x", 1)
    output = python(builder, builder.sum([0.5], [0], python(builder, x), [1.0]))
    before, after = finished(builder, output, given={"y"})
    assert after is before
    plain = GraphBuilder()
    plain.input("x", 1)
    graph = plain.build()
    assert add_digits(graph, {"x"}) is graph


@pytest.mark.parametrize("columns", (1, 2))
def test_a_function_is_given_its_inputs_in_double_precision(columns, rng):
    function = Doubling(6)
    masks = (np.zeros(1, bool), np.array([True, False, True]), np.ones(2, bool))
    exact, rounded = rng.randn(4, columns), rng.randn(2, columns).astype(np.float32)
    both = InDouble.of(function).taking(masks).giving(np.array([1, 3]))
    digits = to_digits(exact).astype(np.float32)
    out, out_digits = both([rounded[:1], rounded[1:], digits])
    expected = 2 * np.stack([rounded[0], exact[0], rounded[1], *exact[1:]])
    assert np.array_equal(out, expected)
    assert np.array_equal(from_digits(out_digits), expected[[1, 3]])
    assert both.sizes == (6, 2 * COUNT)
    assert both.label == "doubling"
    alone = InDouble.of(function).taking(masks)
    (out,) = alone([rounded[:1], rounded[1:], digits])
    assert out.dtype == np.float32
    assert np.array_equal(out, expected.astype(np.float32))


def test_a_kernel_that_promises_double_precision_must_keep_it():
    class Promising(Kernel):
        def in_double(self, node):
            return True

        def step(self, xp, p, *inputs):
            return inputs

    for call in (Promising().giving_digits, Promising().taking_digits):
        with pytest.raises(NotImplementedError, match="in_double must be able to"):
            call({}, ())


def test_plain_callables_know_nothing_of_digits():
    builder = GraphBuilder()
    first = python(builder, builder.input("x", 1))
    params = {"function": lambda arrays: arrays, "sizes": (1,)}
    (output,) = builder.node(PYTHON, [first], (1,), params)
    before, after = finished(builder, output)
    assert after is before


def test_only_simulations_in_single_precision_have_digits():
    with nengo.Network() as net:
        stimulus = nengo.Node(lambda t: t)
        node = nengo.Node(lambda t, x: x, size_in=1)
        nengo.Connection(stimulus, node, synapse=None)
        nengo.Probe(node)
    model = Model()
    model.build(net)
    keys = {}
    for single in (False, True):
        options = LoweringOptions(hosts={}, single=single)
        compiled = compile_model(model, options)
        keys[single] = {s.key for s in compiled.graph.inputs}
    output = model.sig[stimulus]["out"]
    assert keys[True] - keys[False] == {Digits(output)}
    assert Digits(output).name == f"digits of {output.name}"
    assert compiled.reports[-1].name == "add_digits"
