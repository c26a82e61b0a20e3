"""Whether a network computes the same as the Keras model it was made of."""

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.simulator import Simulator

__all__ = ["largest_differences", "verify"]

#: steps of a made-up input, where the model takes any number
N_STEPS = 5
BATCH = 4

#: how both are trained, by gradient descent
EPOCHS, RATE = 2, 0.1


def verify(converter, training=False, inputs=None, atol=1e-8, rtol=1e-5):
    """See `Converter.verify`."""
    given = _inputs(converter, inputs)
    if training:
        expected, actual = _trained(converter, given)
    else:
        expected = _flat(_call(converter.model, given))
        with _simulator(converter, given) as sim:
            actual = _predict(converter, sim, given)
    labels = [probe.label for probe in converter.probes]
    for label, a, b in zip(labels, actual, expected, strict=True):
        problem = largest_differences(a, b.reshape(a.shape), atol, rtol)
        if problem is not None:
            what = "after training, the output" if training else "the output"
            raise ValueError(f"Converter.verify: {what} {label!r} {problem}")
    return True


def largest_differences(actual, expected, atol, rtol):
    """What is wrong with an array, in words; None if it is close to what is expected."""
    difference = np.abs(actual - expected)
    allowed = atol + rtol * np.abs(expected)
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
        node: array.reshape(len(array), steps, -1)
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


def _call(model, arrays):
    """The outputs of a Keras model."""
    return model(_packed(model, arrays), training=False)


def _flat(outputs):
    return [keras.ops.convert_to_numpy(array) for array in keras.tree.flatten(outputs)]


def _trained(converter, arrays):
    """What model and network compute after both were trained alike.

    TensorNodes train the variables of the layers themselves. So the model is trained
    first, put back, and put back again in the end.

    Returns
    -------
    expected, actual : list of array
    """
    model = converter.model
    before = [variable.numpy() for variable in model.variables]  # with random seeds
    outputs = _flat(_call(model, arrays))
    rng = np.random.RandomState(1)
    targets = [rng.uniform(size=array.shape).astype(array.dtype) for array in outputs]
    try:
        _train_model(model, arrays, targets)
        expected = _flat(_call(model, arrays))
        _restore(model, before)
        with _simulator(converter, arrays) as sim:
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


def _restore(model, values):
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _train_model(model, arrays, targets):
    """What ``fit`` does with mean squares of all outputs; without compiling the model."""
    optimizer = keras.optimizers.SGD(RATE)
    variables = model.trainable_variables
    packed = _packed(model, arrays)
    for _ in range(EPOCHS):
        with tf.GradientTape() as tape:
            outputs = keras.tree.flatten(model(packed, training=True))
            losses = [tf.cast(tf.reduce_sum(loss), "float64") for loss in model.losses]
            for output, target in zip(outputs, targets, strict=True):
                losses.append(tf.cast(tf.reduce_mean((output - target) ** 2), "float64"))
            total = sum(losses)
        gradients = tape.gradient(total, [variable.value for variable in variables])
        known = [(g, v) for g, v in zip(gradients, variables) if g is not None]
        if known:
            optimizer.apply(*zip(*known))


def _time(converter, probe, arrays):
    """Number of steps that a probe keeps."""
    return _steps(converter, arrays) if probe in converter.temporal_probes else 1
