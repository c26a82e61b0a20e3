"""Cases of functions of TensorFlow tensors."""

import tensorflow as tf

from nengo_dl.kernels.tensor_function import SimTensorNode
from nengo_dl.runtime.tensor_function import TensorFunction
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
