"""Cases of transforms: convolutions, sparse matrices, and matrices of blocks."""

import nengo
import numpy as np
from nengo.builder.operator import BsrDotInc, Reset, SparseDotInc
from nengo.builder.signal import Signal
from nengo.builder.transforms import ConvInc, ConvTransposeInc
from nengo.transforms import SparseMatrix

from tests.kernels.kernel_cases import case
from tests.kernels.kernel_harness import single


def convolve(bench, transform, filters, operator=ConvInc):
    """The output of a convolution of an input."""
    x, y = bench.feed(transform.size_in), bench.signal((transform.size_out,))
    bench.add(Reset(y), operator(filters, x, y, transform))
    bench.watch(y)


def kernel_of(bench, transform):
    """Fixed filters of the right shape."""
    return bench.signal(bench.values(*transform.kernel_shape))


@case(merges=False)
def convolution(bench, variant):
    """Fixed and trained filters, one and two axes, groups, both orders of channels."""
    plain = nengo.Convolution(3, (5, 4, 2), padding="same", strides=(2, 1))
    convolve(bench, plain, kernel_of(bench, plain))
    first = nengo.Convolution(
        4, (2, 4, 5), kernel_size=(2, 3), channels_last=False, groups=2
    )
    convolve(bench, first, bench.parameter(*first.kernel_shape))
    line = nengo.Convolution(2, (9, 2), kernel_size=(4,), strides=(3,), padding="same")
    convolve(bench, line, bench.parameter(*line.kernel_shape))


@case(merges=False)
def convolution_transpose(bench, variant):
    """Fixed and trained filters, both paddings and orders of channels, strides."""
    plain = nengo.ConvolutionTranspose(2, (3, 2, 2), padding="same", strides=(2, 3))
    convolve(bench, plain, kernel_of(bench, plain), ConvTransposeInc)
    first = nengo.ConvolutionTranspose(
        3, (2, 3, 2), kernel_size=(2, 3), strides=(2, 1), channels_last=False
    )
    filters = bench.parameter(*first.kernel_shape)
    convolve(bench, first, filters, ConvTransposeInc)
    line = nengo.ConvolutionTranspose(2, (4, 2), kernel_size=(3,), strides=(2,))
    convolve(bench, line, bench.parameter(*line.kernel_shape), ConvTransposeInc)


@case()
def varying_convolution(bench, variant):
    """Filters that other operators change."""
    plain = nengo.Convolution(4, (4, 3, 2), padding="same", groups=2)
    convolve(bench, plain, bench.feed(*plain.kernel_shape))
    first = nengo.ConvolutionTranspose(
        3, (2, 3, 2), kernel_size=(2, 2), strides=(2, 1), channels_last=False
    )
    convolve(bench, first, bench.feed(*first.kernel_shape), ConvTransposeInc)


def sparse_signal(bench, shape, rows, columns, trained=False):
    """A sparse signal with an entry at each of these places."""
    data = bench.values(len(rows))
    matrix = SparseMatrix(np.stack([rows, columns], 1), data, shape)
    signal = Signal(matrix, name="sparse", readonly=True)
    if trained:
        bench.parameters[signal] = single(data)
    return signal


@case()
def sparse(bench, variant):
    """Fixed and trained matrices, with empty rows, long rows and double entries."""
    y = bench.signal((30,))
    rows = np.array([0, 0, 3, 3, 3, 7, 7, 7, 7, 7, 12, 29, 29, 29, 29, 29, 29])
    bench.add(Reset(y))
    for trained in (False, True):
        columns = bench.rng.permutation(40)[: rows.size]
        columns[4] = columns[3]
        signal = sparse_signal(bench, (30, 40), rows, columns, trained)
        bench.add(SparseDotInc(signal, bench.feed(40), y))
    bench.watch(y)


@case()
def sparse_by_name_only(bench, variant):
    """A matrix with so many entries that it is treated as any other."""
    y = bench.signal((6,))
    places = np.argwhere(np.ones((6, 9)))[::2]
    signal = sparse_signal(bench, (6, 9), *places.T)
    bench.add(Reset(y), SparseDotInc(signal, bench.feed(9), y))
    bench.watch(y)


@case()
def blocks(bench, variant):
    """Fixed, trained and varying blocks, which core's optimizer makes."""
    indices, indptr = np.array([0, 2, 1, 0]), np.array([0, 2, 2, 4])
    for make in (
        lambda *shape: bench.signal(bench.values(*shape)),
        bench.parameter,
        bench.feed,
    ):
        y = bench.signal((6,))
        matrix, x = make(4, 2, 5), bench.feed(15)
        bench.add(
            Reset(y),
            BsrDotInc(matrix, x, y, indices=indices, indptr=indptr, reshape=False),
        )
        bench.watch(y)
    part = bench.parameter(6, 2, 5)[1:5]
    y, column = bench.signal((6, 1)), bench.feed(15, 1)
    bench.add(
        Reset(y),
        BsrDotInc(part, column, y, indices=indices, indptr=indptr, reshape=True),
    )
    bench.watch(y)
