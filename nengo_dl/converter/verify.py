"""Whether a network computes the same as the Keras model it was made of."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.runtime.tensorflow.switches import tensor_float_32
from nengo_dl.simulator import Simulator

__all__ = ["largest_differences", "verify"]

#: steps of a made-up input, where the model takes any number
N_STEPS = 5
BATCH = 4

#: relative tolerance from which on rounding is allowed for
DEFAULT_RTOL = 1e-5

#: how often the model is asked what changes by the last bits of its numbers do; how large
#: these are, in units of rounding; and how many times the effect is allowed
TRIALS, BITS, EFFECT = 3, 2, 5

#: what rounding may explain at most, relative to the output
MOST_ROUNDING = 1e-2

#: how both are trained, by gradient descent
EPOCHS, RATE = 2, 0.1


@tensor_float_32.being(False)  # in Keras as in the network
def verify(
    converter: Any,
    training: bool = False,
    inputs: Any = None,
    atol: float = 1e-8,
    rtol: float = 1e-5,
) -> bool:
    """See `Converter.verify`."""
    given = _inputs(converter, inputs)
    if training:
        expected, actual = _trained(converter, given)
    else:
        expected = _flat(_call(converter.model, given))
        with _simulator(converter, given) as sim:
            actual = _predict(converter, sim, given)
    labels = [probe.label for probe in converter.probes]
    rounding = None
    for i, (label, a) in enumerate(zip(labels, actual, strict=True)):
        b = expected[i].reshape(a.shape)
        problem = largest_differences(a, b, atol, rtol)
        if problem is None:
            continue
        if rtol >= DEFAULT_RTOL:
            rounding = rounding or _rounding(converter, given, training, expected)
            problem = largest_differences(a, b, atol, rtol, rounding[i].reshape(a.shape))
        if problem is not None:
            what = "after training, the output" if training else "the output"
            raise ValueError(f"Converter.verify: {what} {label!r} {problem}")
    return True


@tensor_float_32.being(False)
def largest_differences(
    actual: np.ndarray,
    expected: np.ndarray,
    atol: float,
    rtol: float,
    rounding: float = 0,
) -> Any:
    """What is wrong with an array, in words; None if it is close to what is expected.

    Parameters
    ----------
    actual, expected : ndarray
        ``(items, steps, size)``.
    atol, rtol : float
        ``rtol`` is relative to the largest value of an element in all items and steps:
        where a sum is near zero by chance, its rounding errors are not smaller.
    rounding : array_like
        What is allowed besides.
    """
    difference = np.abs(actual - expected)
    scale = np.abs(expected).max(axis=tuple(range(expected.ndim - 1)))
    allowed = atol + rtol * scale + rounding
    if np.all(difference <= allowed):
        return None
    size = np.where(np.isnan(difference), np.inf, difference)
    worst = np.unravel_index(np.argmax(size), difference.shape)
    number = int(np.sum(~(difference <= allowed)))
    return (
        f"differs from Keras in {number} of {difference.size} elements; the largest "
        f"difference is {difference[worst]:.3g} at {tuple(map(int, worst))}, where "
        f"{expected[worst]:.6g} was expected and {actual[worst]:.6g} found (atol="
        f"{atol:g}, rtol={rtol:g})"
    )


def _rounding(converter, arrays, training, expected):
    """By how much a model's outputs may differ by rounding: arrays like the outputs.

    Errors grow from layer to layer, by how much depends on the model. So it is asked:
    what comes out if the last bits of its weights and inputs are others?
    """
    model = converter.model
    types = [getattr(layer, "compute_dtype", None) for layer in model._flatten_layers()]
    types = {np.dtype(t) if t != "bfloat16" else t for t in types if t and "float" in t}
    unit = max((_UNITS.get(str(t), 0.0) for t in types), default=_UNITS["float32"])
    rng = np.random.RandomState(2)
    before = [variable.numpy() for variable in model.variables]
    largest = [np.zeros(array.shape, np.float64) for array in expected]
    try:
        for _ in range(TRIALS):
            for variable, value in zip(model.variables, before, strict=True):
                variable.assign(_nearby(value, unit, rng))
            nearby = [_nearby(array, unit, rng) for array in arrays]
            if training:
                _train_model(model, nearby, _targets(expected))
            found = _flat(_call(model, nearby))
            for most, a, b in zip(largest, found, expected, strict=True):
                np.maximum(most, np.abs(a.astype(np.float64) - b), out=most)
    finally:
        _restore(model, before)
    limit = max(MOST_ROUNDING, 16 * unit)
    allowed = []
    for most, array in zip(largest, expected, strict=True):  # about alike for all items
        scale = np.abs(array).max(axis=0)
        most = np.minimum(EFFECT * most.max(axis=0), limit * scale)
        allowed.append(np.broadcast_to(most, array.shape))
    return allowed


#: half the distance between one and the next number, by type
_UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
_UNITS["bfloat16"] = 2.0**-8


def _nearby(array, unit, rng):
    """Numbers whose last bits are others."""
    if "float" not in str(array.dtype):
        return array
    change = 1 + BITS * unit * rng.uniform(-1, 1, size=array.shape)
    return (array.astype(np.float64) * change).astype(array.dtype)


def _inputs(converter, inputs):
    """One array for each input, as Keras takes them."""
    model_inputs = [value.tensors[0] for value in converter.graph.inputs]
    if inputs is not None:
        return converter.inputs.arrays(inputs, "Converter.verify")
    rng = np.random.RandomState(0)
    arrays = []
    for tensor in model_inputs:
        shape = [N_STEPS if n is None else n for n in tensor.shape[1:]]
        whole = str(tensor.dtype).startswith("int")
        array = rng.uniform(-1, 1, (BATCH, *shape))
        arrays.append((array > 0 if whole else array).astype(str(tensor.dtype)))
    return arrays


def _steps(converter, arrays):
    return arrays[0].shape[1] if converter.options.temporal_model else 1


def _simulator(converter, arrays):
    return Simulator(
        converter.net, minibatch_size=len(arrays[0]), progress_bar=False, seed=0
    )


def _data(converter, arrays):
    """By node, ``(items, steps, size)``."""
    steps = _steps(converter, arrays)
    nodes = [converter.inputs[value.tensors[0]] for value in converter.graph.inputs]
    return {
        node: _plain(array).reshape(len(array), steps, -1)
        for node, array in zip(nodes, arrays, strict=True)
    }


def _predict(converter, sim, arrays):
    """The outputs of the network, in the order of the model."""
    results = sim.predict(
        _data(converter, arrays), n_steps=_steps(converter, arrays), verbose=0
    )
    return [results[probe] for probe in converter.probes]


def _packed(model, arrays):
    """Arrays in the structure in which a model takes them."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        return arrays[0]
    return keras.tree.pack_sequence_as(structure, arrays)


def _computed(function):
    """What a function without arguments computes, compiled if it cannot be otherwise.

    On a CPU TensorFlow has some operations only for compiled programs, transposed
    convolutions with a dilation among them; Keras' own ``predict`` and ``fit`` compile.
    """
    try:
        return function()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return tf.function(function, jit_compile=True, autograph=False)()


def _call(model, arrays):
    """The outputs of a Keras model."""
    packed = _packed(model, arrays)
    return _computed(lambda: model(packed, training=False))


def _flat(outputs):
    arrays = map(keras.ops.convert_to_numpy, keras.tree.flatten(outputs))
    return [_plain(array) for array in arrays]


def _plain(array):
    """An array of a type that is NumPy's own, which bfloat16 is not."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _trained(converter, arrays):
    """What model and network compute after both were trained alike.

    TensorNodes train the variables of the layers themselves. So the model is trained
    first, put back, and put back again in the end.
    """
    model = converter.model
    before = [variable.numpy() for variable in model.variables]  # with random seeds
    targets = _targets(_flat(_call(model, arrays)))
    try:
        _train_model(model, arrays, targets)
        expected = _flat(_call(model, arrays))
        _restore(model, before)
        with _simulator(converter, arrays) as sim:
            sim.tensor_graph.draw_as_layers_would()
            sim.compile(keras.optimizers.SGD(RATE), loss="mse")
            shaped = {
                probe: y.reshape(len(y), _time(converter, probe, arrays), -1)
                for probe, y in zip(converter.probes, targets, strict=True)
            }
            data = _data(converter, arrays)
            sim.fit(data, shaped, epochs=EPOCHS, shuffle=False, verbose=0)
            actual = _predict(converter, sim, arrays)
    finally:
        _restore(model, before)
    return expected, actual


def _targets(outputs):
    """Made-up targets, the same each time."""
    rng = np.random.RandomState(1)
    return [rng.uniform(size=array.shape).astype(array.dtype) for array in outputs]


def _restore(model, values):
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _train_model(model, arrays, targets):
    """What ``fit`` does with mean squares of all outputs; without compiling the model."""
    optimizer = keras.optimizers.SGD(RATE)
    variables = model.trainable_variables
    packed = _packed(model, arrays)

    def gradients_of_loss():
        with tf.GradientTape() as tape:
            outputs = keras.tree.flatten(model(packed, training=True))
            losses = [tf.cast(tf.reduce_sum(loss), "float64") for loss in model.losses]
            for output, target in zip(outputs, targets, strict=True):
                losses.append(tf.cast(tf.reduce_mean((output - target) ** 2), "float64"))
            total = tf.add_n(losses)
        return tape.gradient(total, [variable.value for variable in variables])

    for _ in range(EPOCHS):
        gradients = _computed(gradients_of_loss)
        known = [(g, v) for g, v in zip(gradients, variables) if g is not None]
        if known:
            optimizer.apply(*zip(*known))


def _time(converter, probe, arrays):
    """Number of steps that a probe keeps."""
    return _steps(converter, arrays) if probe in converter.temporal_probes else 1
