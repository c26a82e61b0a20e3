"""Cases of functions of TensorFlow tensors, and of what adds to losses."""

import tensorflow as tf
from nengo.builder.operator import Copy

from nengo_dl.kernels.penalties import SimPenalty
from nengo_dl.kernels.tensor_function import SimTensorNode
from nengo_dl.runtime.tensorflow.tensor_function import TensorFunction
from tests.kernels.kernel_cases import case


@case(merges=False)
def tensor_function(bench, variant):
    """A function of rows and columns, between sums."""

    def function(x):
        return tf.tanh(x[:, :, :2] * x[:, :, 1:]) + tf.cast(variant, x.dtype)

    call = TensorFunction(function, (2, 3), pass_time=False, dtype="float64")
    x, y = bench.feed(6), bench.signal((4,))
    bench.add(SimTensorNode(call, y, x=x, tag="tensor"))
    bench.watch(y)


@case(merges=False)
def penalty(bench, variant):
    """A step is the same with it."""
    x, y = bench.feed(3), bench.signal((3,))
    bench.add(Copy(x, y))
    bench.add(SimPenalty(y, tf.reduce_sum))
    bench.watch(y)
