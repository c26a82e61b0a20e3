"""Layer converters: one file for each family of Keras layers."""

from nengo_dl.converter.layers import (  # noqa: F401  (they register themselves)
    activations,
    convolution,
    dense,
    merge,
    normalization,
    pooling,
    recurrent,
    regularization,
    shape,
    spatial,
)
