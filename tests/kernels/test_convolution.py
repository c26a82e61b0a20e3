"""Convolutions against loops, and against core Nengo."""

import itertools
from functools import cache

import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.builder.operator import Reset
from nengo.builder.transforms import ConvInc, ConvTransposeInc

import nengo_dl
from nengo_dl.kernels import windows
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.convolution import BUNDLE, dilate, fill_up
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from tests.kernels.kernel_harness import Case, assert_equals_core, bench_of

PADDINGS = ("same", "valid")
SHAPES = (  # sizes, kernel, strides
    ((7,), (3,), (1,)),
    ((6,), (2,), (3,)),
    ((5, 4), (3, 2), (1, 1)),
    ((5, 4), (3, 2), (2, 3)),
    ((5, 6), (1, 2), (2, 3)),
    ((4, 3, 5), (2, 3, 2), (1, 2, 1)),
)
CHANNELS = ((1, 2, 3), (2, 4, 2), (3, 3, 6))  # groups, channels, filters

NAMESPACES = {
    "numpy": NumpyNamespace("float64"),
    "tensorflow": TensorFlowNamespace("float64", fast=False),
    "tensorflow fast": TensorFlowNamespace("float64", fast=True),
}


def by_loops(x, w, strides, padding, groups):
    """A convolution, one number after the other."""
    kernel, channels = w.shape[:-2], w.shape[-2]
    each = w.shape[-1] // groups
    counts, first = [], []
    for n, k, s in zip(x.shape[1:-1], kernel, strides):
        counts.append(int(np.ceil((n if padding == "same" else n - k + 1) / s)))
        missing = max((counts[-1] - 1) * s + k - n, 0)
        first.append(-(missing // 2))
    y = np.zeros((len(x), *counts, w.shape[-1]))
    for place in np.ndindex(*counts):
        for tap in np.ndindex(*kernel):
            at = [f + p * s + t for f, p, s, t in zip(first, place, strides, tap)]
            if any(a < 0 or a >= n for a, n in zip(at, x.shape[1:-1])):
                continue
            for k in range(w.shape[-1]):
                c = k // each * channels
                seen = x[(slice(None), *at)][:, c : c + channels]
                y[(slice(None), *place, k)] += seen @ w[(*tap, slice(None), k)]
    return y


@pytest.mark.parametrize("groups, channels, filters", CHANNELS)
@pytest.mark.parametrize("sizes, kernel, strides", SHAPES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_conv(padding, sizes, kernel, strides, groups, channels, filters, rng, allclose):
    x = rng.normal(size=(2, *sizes, channels))
    w = rng.normal(size=(*kernel, channels // groups, filters))
    expected = by_loops(x, w, strides, padding, groups)
    for xp in NAMESPACES.values():
        y = np.asarray(xp.conv(x, w, strides, padding, groups))
        assert allclose(y, expected, atol=1e-13)


@pytest.mark.parametrize("sizes, kernel, strides", SHAPES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_conv_transpose(padding, sizes, kernel, strides, rng, allclose):
    """The matrix of a transposed convolution is the transpose of a convolution's."""
    w = rng.normal(size=(*kernel, 2, 3))
    size = (*sizes, 2)
    units = np.eye(np.prod(size)).reshape(-1, *size)
    columns = by_loops(units, w, strides, padding, 1)
    x = rng.normal(size=(2, *columns.shape[1:]))
    matrix = columns.reshape(len(units), -1)
    expected = (x.reshape(2, -1) @ matrix.T).reshape(2, *size)
    flipped = np.swapaxes(w, -1, -2)
    for xp in NAMESPACES.values():
        y = np.asarray(xp.conv_transpose(x, flipped, strides, padding, sizes))
        assert allclose(y, expected, atol=1e-13)


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("sizes, kernel, strides", SHAPES[::2])
def test_gradients(sizes, kernel, strides, dtype, fast, rng, allclose):
    """Both functions are linear in both arguments: x g(x) = w g(w) = y."""
    xp = TensorFlowNamespace(dtype, fast)
    x = tf.constant(rng.normal(size=(2, *sizes, 4)), dtype)
    grouped = tf.constant(rng.normal(size=(*kernel, 2, 6)), dtype)
    whole = tf.constant(rng.normal(size=(*kernel, 4, 2)), dtype)
    size = tuple((n - 1) * s + k for n, k, s in zip(sizes, kernel, strides))
    for function, w in (
        (lambda x, w: xp.conv(x, w, strides, "same", 2), grouped),
        (lambda x, w: xp.conv_transpose(x, w, strides, "valid", size), whole),
    ):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = function(x, w)
            factor = tf.constant(rng.normal(size=y.shape), dtype)
            total = tf.reduce_sum(y * factor)
        dx, dw = tape.gradient(total, [x, w])
        tol = {"rtol": 1e-4 if dtype == "float32" else 1e-12, "atol": 1e-4}
        assert allclose(tf.reduce_sum(x * dx).numpy(), total.numpy(), **tol)
        assert allclose(tf.reduce_sum(w * dw).numpy(), total.numpy(), **tol)
        other = tf.constant(rng.normal(size=x.shape), dtype)
        expected = tf.reduce_sum(function(other, w) * factor)
        assert allclose(tf.reduce_sum(other * dx).numpy(), expected.numpy(), **tol)


def test_more_groups_than_one_bundle(rng, allclose):
    groups = BUNDLE + 3
    x = rng.normal(size=(1, 3, 3, 2 * groups))
    w = rng.normal(size=(2, 2, 2, groups))
    expected = by_loops(x, w, (1, 1), "valid", groups)
    for xp in NAMESPACES.values():
        y = np.asarray(xp.conv(x, w, (1, 1), "valid", groups))
        assert allclose(y, expected, atol=1e-13)


def test_fill_up():
    w = tf.reshape(tf.range(1.0, 5.0), (1, 1, 4))
    assert fill_up(w, 2).numpy().tolist() == [[[1, 2, 0, 0], [0, 0, 3, 4]]]
    assert fill_up(w, 1) is w


def test_dilate():
    x = tf.reshape(tf.range(1.0, 5.0), (1, 2, 2, 1))
    y = dilate(x, (1, 3))[0, :, :, 0]
    assert y.numpy().tolist() == [[1, 0, 0, 2], [3, 0, 0, 4]]


def test_windows_that_cut_off():
    """Borders may be negative."""
    spans = [windows.Windows(2, 1, -1, -2)]
    frame = windows.embedding((5,), spans)
    assert frame.shape == (2,)
    assert np.arange(5)[frame.inside].tolist() == [1, 2]
    x = np.arange(5.0).reshape(1, 5, 1)
    y = NAMESPACES["numpy"]._embed(x, spans)
    assert y.ravel().tolist() == [1, 2]


# -- operators, against core -----------------------------------------------------------


def bench_with(transforms):
    """Operators of core for several transforms, half of them with trained filters."""

    def build(bench, variant):
        for i, transform in enumerate(transforms):
            shape = transform.kernel_shape
            fixed = i % 2 == 0
            w = bench.signal(bench.values(*shape)) if fixed else bench.parameter(*shape)
            x, y = bench.feed(transform.size_in), bench.signal((transform.size_out,))
            one_way = isinstance(transform, nengo.Convolution)
            operator = ConvInc if one_way else ConvTransposeInc
            bench.add(Reset(y), operator(w, x, y, transform))
            bench.watch(y)

    return bench_of(Case("transforms", build))


def every_option():
    """Transforms with all combinations of options that core can run."""
    for padding, last, (groups, channels, filters) in itertools.product(
        PADDINGS, (True, False), CHANNELS
    ):
        for sizes, kernel, strides in SHAPES[:-1]:
            shape = (*sizes, channels) if last else (channels, *sizes)
            options = {
                "kernel_size": kernel,
                "strides": strides,
                "padding": padding,
                "channels_last": last,
            }
            yield nengo.Convolution(filters, shape, groups=groups, **options)
            if groups == 1:
                yield nengo.ConvolutionTranspose(filters, shape, **options)


@cache
def bench_with_every_option():
    """One bench for all tests: core takes long for it."""
    return bench_with(list(every_option()))


@pytest.mark.parametrize("batch", (1, 3))
def test_every_option_equals_core(batch):
    core = assert_equals_core(bench_with_every_option(), "numpy", "float64", batch)
    assert len(core) == len(list(every_option())) == 80
    assert min(np.abs(y).max() for y in core) > 0.1


def test_sizes_of_the_output_equal_core():
    """Several sizes give the same size when they are convolved."""
    options = {"kernel_size": (3, 2), "strides": (2, 3)}
    transforms = [
        nengo.ConvolutionTranspose(
            2, (3, 2, 2), padding=padding, output_shape=(*size, 2), **options
        )
        for padding, sizes in (
            ("valid", itertools.product((7, 8), (5, 6, 7))),
            ("same", itertools.product((5, 6), (4, 5, 6))),
        )
        for size in sizes
    ]
    core = assert_equals_core(bench_with(transforms), "numpy", "float64", 1)
    assert len(core) == 12


@pytest.mark.parametrize("jit", (False, True))
def test_three_axes(jit, rng, allclose):
    """Which core cannot run."""
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        values = rng.normal(size=4 * 3 * 3 * 2)
        stimulus = nengo.Node(values)
        probes = []
        filters = rng.normal(size=(2, 2, 2, 2, 3))
        for shape, last in (((4, 3, 3, 2), True), ((2, 4, 3, 3), False)):
            transform = nengo.Convolution(
                3,
                shape,
                kernel_size=(2, 2, 2),
                strides=(1, 2, 1),
                padding="same",
                channels_last=last,
                init=filters,
            )
            node = nengo.Node(size_in=transform.size_out)
            nengo.Connection(stimulus, node, transform=transform, synapse=None)
            probes.append(nengo.Probe(node))
    with nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2) as sim:
        sim.run_steps(3)
    x = values.reshape(1, 4, 3, 3, 2)
    expected = by_loops(x, filters, (1, 2, 1), "same", 1)
    found = sim.data[probes[0]]
    assert allclose(found, np.broadcast_to(expected.ravel(), found.shape), atol=1e-13)
    x = np.moveaxis(values.reshape(1, 2, 4, 3, 3), 1, -1)
    expected = by_loops(x, filters, (1, 2, 1), "same", 1)
    expected = np.moveaxis(expected, -1, 1)
    found = sim.data[probes[1]]
    assert allclose(found, np.broadcast_to(expected.ravel(), found.shape), atol=1e-13)


@pytest.mark.parametrize("jit, minibatch_size", ((False, None), (True, 3)))
def test_layers_in_feedback_equal_core(jit, minibatch_size, allclose):
    """Convolutions between spiking neurons: in the loop, and outside of it."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        stimulus = nengo.Node(lambda t: np.sin(60 * t + np.arange(32)))
        first = nengo.Convolution(3, (4, 4, 2), padding="same")
        layer = nengo.Ensemble(first.size_out, 1, gain=np.ones(48), bias=np.ones(48))
        nengo.Connection(stimulus, layer.neurons, transform=first, synapse=None)
        inner = nengo.Convolution(3, first.output_shape, padding="same", groups=3)
        nengo.Connection(layer.neurons, layer.neurons, transform=inner, synapse=0.01)
        back = nengo.ConvolutionTranspose(2, first.output_shape, strides=(2, 2))
        node = nengo.Node(size_in=back.size_out)
        nengo.Connection(layer.neurons, node, transform=back, synapse=0.01)
        probes = [nengo.Probe(layer.neurons), nengo.Probe(node)]
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run(0.05)
    with nengo_dl.Simulator(
        net, progress_bar=False, minibatch_size=minibatch_size
    ) as sim:
        sim.run(0.05)
    for probe in probes:
        assert np.abs(core.data[probe]).max() > 0.1
        found = np.reshape(sim.data[probe], (-1, *core.data[probe].shape))
        assert len(found) == (minibatch_size or 1)
        for item in found:
            assert allclose(item, core.data[probe], rtol=1e-10, atol=1e-10)
