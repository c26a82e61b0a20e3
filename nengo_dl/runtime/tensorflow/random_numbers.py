"""Random numbers as functions of a key, the same with and without XLA.

XLA has the same source of random bits as TensorFlow, but makes other numbers of them.
Here they are made of the bits as TensorFlow does it on a CPU, in operations that both
have: uniform numbers and integers are the same to the last bit, others to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

PHILOX = 1
"""TensorFlow's number of the algorithm; J. K. Salmon et al. (2011), Parallel random
numbers: as easy as 1, 2, 3, doi 10.1145/2063384.2063405."""

SMALLEST = 1e-7
"""Where TensorFlow cuts uniform numbers off before it takes their logarithm."""

TYPES = (tf.float32, tf.float64)
"""The types of floating point numbers that there are rules for."""


def from_seed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The key and the counter that TensorFlow makes of a seed of two integers."""
    return tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)


def bits(n: tf.Tensor, key: tf.Tensor, counter: tf.Tensor) -> tf.Tensor:
    """At least ``n`` numbers of 32 random bits each, in multiples of four."""
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[(n + 3) // 4 * 4], key=key, counter=counter, alg=PHILOX, dtype=tf.uint32
    )


def _unit(n: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """At least ``n`` numbers in [0, 1): 23 or 52 bits after the point."""
    if dtype == tf.float32:
        whole = tf.bitwise.bitwise_and(bits(n, key, counter), 0x7FFFFF)
        return tf.cast(whole, dtype) * 2.0**-23
    pairs = tf.reshape(bits(2 * n, key, counter), (-1, 2))
    high = tf.cast(tf.bitwise.bitwise_and(pairs[:, 0], 0xFFFFF), dtype)
    return (high * 2.0**32 + tf.cast(pairs[:, 1], dtype)) * 2.0**-52


def uniform(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Uniform between 0 and 1, ``tf.random.stateless_uniform``."""
    n = tf.reduce_prod(shape)
    return tf.reshape(_unit(n, key, counter, dtype)[:n], shape)


def normal(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Normal with mean 0 and deviation 1, ``tf.random.stateless_normal``.

    By G. E. P. Box and M. E. Muller (1958), A note on the generation of random normal
    deviates, doi 10.1214/aoms/1177706645.
    """
    n = tf.reduce_prod(shape)
    pairs = tf.reshape(_unit((n + 1) // 2 * 2, key, counter, dtype), (-1, 2))
    radius = tf.sqrt(-2 * tf.math.log(tf.maximum(pairs[:, 0], SMALLEST)))
    angle = 2 * math.pi * pairs[:, 1]
    both = tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], 1)
    return tf.reshape(tf.reshape(both, [-1])[:n], shape)


def truncated_normal(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Normal within two deviations, by the inverse of its distribution."""
    edge = math.erf(math.sqrt(2))
    within = edge * (2 * uniform(shape, key, counter, dtype) - 1)
    return tf.clip_by_value(math.sqrt(2) * tf.math.erfinv(within), -2, 2)


def categories(
    logits: tf.Tensor, count: tf.Tensor, seed: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """``(batch, count)`` numbers of classes, ``tf.random.stateless_categorical``.

    Of each class the logit plus a random number with Gumbel's distribution; the largest
    one wins.
    """
    logits = tf.cast(logits, tf.float32)
    shape = tf.stack([tf.shape(logits)[0], count, tf.shape(logits)[1]])
    u = tf.maximum(uniform(shape, *from_seed(seed), tf.float32), SMALLEST)
    return tf.argmax(logits[:, None] - tf.math.log(-tf.math.log(u)), -1, dtype)


#: TensorFlow's operations of ``(shape, key, counter, algorithm)`` -> the same from here
OF_KEY: dict[str, Callable] = {
    "StatelessRandomUniformV2": uniform,
    "StatelessRandomNormalV2": normal,
    "StatelessTruncatedNormalV2": truncated_normal,
}


def of_key(op_type: str, inputs: Sequence, dtype: tf.DType) -> tf.Tensor | None:
    """What to take for the output of an operation without a state.

    None, if it is no random operation, or one that gives the same everywhere.
    """
    if op_type == "StatelessMultinomial":
        return categories(*inputs, dtype)
    if op_type not in OF_KEY or dtype not in TYPES:
        return None
    shape, key, counter, _ = inputs
    return OF_KEY[op_type](tf.cast(shape, tf.int32), key, counter, dtype)


def _full(shape: tf.Tensor, parameter: tf.Tensor) -> tf.Tensor:
    """The shape of samples for each entry of a parameter."""
    return tf.concat([tf.cast(shape, tf.int32), tf.shape(parameter)], 0)


def _of_shape(draw: Callable, other: Callable) -> Callable:
    """For an operation of a shape alone; ``other`` for types without a rule."""

    def call(inputs, dtype, seed):
        if dtype not in TYPES:
            return other(inputs[0], seed, dtype=dtype, alg="philox")
        return draw(tf.cast(inputs[0], tf.int32), *from_seed(seed), dtype)

    return call


def _gamma(inputs, dtype, seed):
    shape, alpha = inputs
    return tf.random.stateless_gamma(_full(shape, alpha), seed, alpha, dtype=dtype)


def _poisson(inputs, dtype, seed):
    shape, rate = inputs
    return tf.random.stateless_poisson(_full(shape, rate), seed, rate, dtype)


def _integers(inputs, dtype, seed):
    shape, low, high = inputs
    return tf.random.stateless_uniform(shape, seed, low, high, dtype, alg="philox")


def _parameterized(inputs, dtype, seed):
    return tf.random.stateless_parameterized_truncated_normal(
        inputs[0], seed, *inputs[1:]
    )


def _categories(inputs, dtype, seed):
    return categories(*inputs, seed, dtype)


def _shuffled(inputs, dtype, seed):
    return tf.random.experimental.stateless_shuffle(inputs[0], seed, alg="philox")


#: TensorFlow's operations with a state -> the same of ``(inputs, dtype, seed)``
OF_SEED: dict[str, Callable] = {
    "RandomUniform": _of_shape(uniform, tf.random.stateless_uniform),
    "RandomStandardNormal": _of_shape(normal, tf.random.stateless_normal),
    "TruncatedNormal": _of_shape(truncated_normal, tf.random.stateless_truncated_normal),
    "RandomUniformInt": _integers,
    "ParameterizedTruncatedNormal": _parameterized,
    "RandomGamma": _gamma,
    "RandomPoissonV2": _poisson,
    "Multinomial": _categories,
    "RandomShuffle": _shuffled,
}
