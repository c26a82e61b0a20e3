"""Sums, products and matrices; the harness compares each of them with core."""

import nengo
import numpy as np
import pytest
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Reset

from nengo_dl.compiler.lowering import lower
from nengo_dl.compiler.pipeline import arrange, compile_model
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.algebra import MATVEC, SUM, VARYING_MATVEC
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_harness import (
    Bench,
    Case,
    assert_equals_core,
    bench_of_network,
    merged,
    trajectory,
)

XP = NumpyNamespace("float64")


def bench_of_operators(build):
    """A bench that a function ``(bench)`` fills."""
    bench = Bench()
    bench.build(Case("operators", lambda bench, variant: build(bench)), 0)
    return bench


# -- the kernels by themselves ---------------------------------------------------------


@pytest.mark.parametrize("terms", (1, 2, 4, 5, 9))
@pytest.mark.parametrize("batch", (1, 3))
def test_sum(terms, batch, rng, allclose):
    x, scale = rng.normal(size=(terms, 4, batch)), rng.normal(size=(terms, 4, 1))
    bias = rng.normal(size=(4, 1))
    rows = x.reshape(-1, batch)
    p = Params(terms=terms, scale=scale.reshape(-1, 1), bias=bias)
    (y,) = SUM.step(XP, p, rows)
    assert allclose(y, (x * scale).sum(0) + bias, atol=1e-14)
    (y,) = SUM.step(XP, Params(terms=terms, scale=None, bias=None), rows)
    assert allclose(y, x.sum(0), atol=1e-14)
    (y,) = SUM.step(XP, Params(terms=terms, scale=0.5, bias=None), rows)
    assert allclose(y, 0.5 * x.sum(0), atol=1e-14)


def test_a_sum_of_nothing_is_its_bias(allclose):
    bias = np.array([[1.0], [2.0]])
    assert allclose(SUM.step(XP, Params(terms=0, scale=None, bias=bias))[0], bias, atol=0)


@pytest.mark.parametrize("stored", (1, 3))
@pytest.mark.parametrize("m, k", ((4, 5), (4, 1), (1, 5), (1, 1)))
@pytest.mark.parametrize("batch", (1, 3))
def test_matvec(stored, m, k, batch, rng, allclose):
    """Three groups, whose matrices are different or one."""
    matrices, x = rng.normal(size=(stored, m, k)), rng.normal(size=(3, k, batch))
    (y,) = MATVEC.step(XP, Params(A=matrices, groups=3), x.reshape(-1, batch))
    expected = np.matmul(np.broadcast_to(matrices, (3, m, k)), x)
    assert allclose(y, expected.reshape(-1, batch), atol=1e-14)


@pytest.mark.parametrize("columns", ((1, 1), (3, 3), (3, 1), (1, 3)))
def test_varying_matvec(columns, rng, allclose):
    """Matrices and vectors that differ between batch items, or do not."""
    a, x = rng.normal(size=(2, 4, 5, columns[0])), rng.normal(size=(2, 5, columns[1]))
    p = Params(shape=(4, 5), groups=2)
    rows = a.reshape(-1, columns[0]), x.reshape(-1, columns[1])
    (y,) = VARYING_MATVEC.step(XP, p, *rows)
    expected = (a * x[:, None]).sum(2)
    assert allclose(y, expected.reshape(8, -1), atol=1e-14)


# -- matrices --------------------------------------------------------------------------


def test_equal_matrices_are_stored_once():
    weights = np.random.RandomState(0).uniform(size=(6, 9))

    def build(bench):
        for matrix in (weights, weights.copy()):
            y = bench.signal((6,))
            bench.add(Reset(y), DotInc(bench.signal(matrix), bench.feed(9), y))
            bench.watch(y)

    bench = bench_of_operators(build)
    layout = arrange(compile_model(bench.model, bench.options()).graph)
    (weight,) = [w for w in layout.weights if w.form == "stack"]
    assert len(weight.items) == 1
    assert merged(bench) == {"matmul": [2]}
    assert_equals_core(bench)


@pytest.mark.parametrize("entries", (5, 4))
def test_sparse_matrices_become_sums(entries):
    """Rows of at most four nonzero entries, but for a matrix without zeros."""
    matrix = np.zeros((7, 9))
    matrix[:, :entries] = np.arange(1, 1 + 7 * entries).reshape(7, entries)

    def build(bench):
        y = bench.signal((7,))
        bench.add(Reset(y), DotInc(bench.signal(matrix), bench.feed(9), y))
        bench.watch(y)

    bench = bench_of_operators(build)
    assert merged(bench) == ({"matmul": [1]} if entries == 5 else {})
    assert_equals_core(bench)


@pytest.mark.parametrize("size, counts", ((60, [2]), (100, [1, 1])))
def test_large_varying_matrices_run_alone(size, counts):
    def build(bench):
        for _ in range(2):
            matrix = bench.signal(bench.values(size, size))
            change = bench.signal(bench.values(size, size))
            y = bench.signal((size,))
            bench.add(
                Reset(y),
                DotInc(matrix, bench.feed(size), y),
                Copy(change, matrix, inc=True),
            )
            bench.watch(y)

    bench = bench_of_operators(build)
    assert merged(bench)["varying_matmul"] == counts
    assert_equals_core(bench, batch=2)


def test_parts_of_parameters():
    """Views of parameters: all rows, some, every other one, one; a part of a vector."""

    def build(bench):
        whole = bench.parameter(8, 10)
        x, row = bench.feed(10), bench.signal((10,))
        for part in (whole, whole[2:7], whole[::2], whole[1:2]):
            y = bench.signal((part.shape[0],))
            bench.add(Reset(y), DotInc(part, x, y))
            bench.watch(y)
        bench.add(Reset(row), ElementwiseInc(bench.parameter(15)[2:12], x, row))
        bench.watch(row)

    bench = bench_of_operators(build)
    assert_equals_core(bench)
    assert_equals_core(bench, tier="jitted", dtype="float32")


def test_a_product_of_another_kind_runs_as_python():
    class BlockedDotInc(DotInc):
        """Stores its matrix differently."""

    def build(bench):
        y = bench.signal((2,))
        matrix = bench.signal(bench.values(2, 3))
        bench.add(Reset(y), BlockedDotInc(matrix, bench.feed(3), y))

    with pytest.warns(UserWarning, match="no native form of the operator BlockedDotInc"):
        lower(bench_of_operators(build).model)


# -- shapes ----------------------------------------------------------------------------


def check_shapes(operator, shape_a, shape_x, shape_y, kind):
    """An increment by arrays of these shapes, the first of some kind."""

    def build(bench):
        y = bench.signal(shape_y)
        a = {
            "constant": lambda: bench.signal(bench.values(*shape_a)),
            "parameter": lambda: bench.parameter(values=bench.values(*shape_a)),
            "varying": lambda: bench.feed(*shape_a),
        }[kind]()
        bench.add(Reset(y, value=1.5), operator(a, bench.feed(*shape_x), y))
        bench.watch(y)

    assert_equals_core(bench_of_operators(build))


@pytest.mark.parametrize(
    "shape_a, shape_x, shape_y",
    (
        ((), (), ()),
        ((4,), (4,), (4,)),
        ((4, 3), (4, 3), (4, 3)),
        ((4, 1), (1, 3), (4, 3)),
        ((1, 3), (4, 3), (4, 3)),
        ((), (4, 3), (4, 3)),
        ((4, 3), (), (4, 3)),
        ((1,), (4,), (4,)),
    ),
)
@pytest.mark.parametrize("kind", ("constant", "parameter", "varying"))
def test_elementwise_shapes(shape_a, shape_x, shape_y, kind):
    check_shapes(ElementwiseInc, shape_a, shape_x, shape_y, kind)


@pytest.mark.parametrize(
    "shape_a, shape_x, shape_y",
    (
        ((), (), ()),
        ((), (4,), (4,)),
        ((4,), (), (4,)),
        ((4,), (4,), ()),
        ((4,), (4,), (1,)),
        ((3, 4), (4,), (3,)),
        ((1, 4), (4,), (1,)),
        ((3, 4), (4, 1), (3, 1)),
        ((1, 1), (1,), (1,)),
    ),
)
@pytest.mark.parametrize("kind", ("constant", "parameter", "varying"))
def test_dot_shapes(shape_a, shape_x, shape_y, kind):
    check_shapes(DotInc, shape_a, shape_x, shape_y, kind)


# -- memory that operators share -------------------------------------------------------


class RandomViews:
    """Signals that are reset, copied to and incremented in parts, from earlier ones."""

    def __init__(self, bench, n_signals=8):
        self.bench, self.rng = bench, bench.rng
        self.earlier = [bench.feed(6), bench.signal(bench.values(6)), bench.parameter(6)]
        for _ in range(n_signals):
            y = bench.signal(bench.values(6))
            self.write(y)
            bench.watch(y)
            self.earlier.append(y)

    def part(self, signal, size):
        start = self.rng.randint(signal.size - size + 1)
        return signal[start : start + size]

    def anything(self, size):
        return self.part(self.earlier[self.rng.randint(len(self.earlier))], size)

    def write(self, y):
        kind = self.rng.randint(4)
        if kind == 0:
            self.bench.add(Reset(y, value=self.rng.randint(3)))
        elif kind == 1:
            self.bench.add(Reset(y[:2], value=1.0), Copy(self.anything(4), y[2:]))
        elif kind == 2:
            self.bench.add(Copy(self.anything(3), y, src_slice=[2, 0, 0, 1, 2, 1]))
        for _ in range(self.rng.randint(1, 4)):
            size = self.rng.randint(1, 7)
            target = self.part(y, size)
            if kind == 3:  # what is never reset grows by what does not grow
                x = self.part(self.earlier[0], size)
                factor = self.bench.signal(0.3 * self.bench.values(size))
                self.bench.add(ElementwiseInc(factor, x, target))
            else:
                self.bench.add(self.increment(y, target, size))

    def increment(self, y, target, size):
        kind = self.rng.randint(5)
        if kind == 0:
            return Copy(self.anything(size), target, inc=True)
        if kind == 1:
            return Copy(self.anything(6), y, dst_slice=slice(None, None, -1), inc=True)
        if kind == 2:
            matrix = self.bench.signal(self.bench.values(size, 5))
            return DotInc(matrix, self.anything(5), target)
        factor = self.bench.signal(self.bench.values(size))
        factor = factor if kind == 3 else self.anything(size)
        return ElementwiseInc(factor, self.anything(size), target)


def random_views(bench, variant):
    RandomViews(bench)


@pytest.mark.parametrize("seed", range(25))
def test_random_views(seed):
    bench = Bench()
    bench.build(Case("views", random_views), seed)
    assert_equals_core(bench)
    assert_equals_core(bench, batch=1)


def test_random_views_compiled():
    bench = Bench()
    for seed in range(4):
        bench.build(Case("views", random_views), seed)
    assert_equals_core(bench, tier="jitted", dtype="float32")


def test_connections_between_views():
    """The same in a network: slices, transforms and functions on all sides."""
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(lambda t: np.sin(30 * t + np.arange(6)))
        out = nengo.Node(size_in=8)
        nengo.Connection(inp[::-1], out[2:], synapse=None)
        nengo.Connection(inp[[4, 1]], out[:2], synapse=None, transform=[[2, 0], [1, 3]])
        nengo.Connection(inp[2], out[::2], synapse=None, transform=np.ones((4, 1)))
        nengo.Connection(inp[1:4], out[:3], synapse=None, transform=[0.5, -1, 2])
        nengo.Probe(out[[7, 0, 3]])
        nengo.Probe(out)
    bench = bench_of_network(net)
    part, whole = trajectory(bench)[0]
    assert part.shape[1] == 3 and (np.ptp(whole, axis=0) > 0.1).all()
    assert_equals_core(bench)
