"""Which neuron type computes an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import nengo
import tensorflow as tf
from nengo.neurons import NeuronType

from nengo_dl.converter.graph_walk import operation_of
from nengo_dl.neurons import ClippedReLU, LeakyReLU

if TYPE_CHECKING:
    from nengo_dl.converter.options import Options

__all__ = ["ACTIVATIONS", "activation_name", "find_neurons"]

#: name of an activation -> the neuron type with the same output; None: none is needed
ACTIVATIONS: dict[str | None, Any] = {
    "linear": None,
    "relu": nengo.RectifiedLinear(),
    "relu6": ClippedReLU(6.0),
    "leaky_relu": LeakyReLU(negative_slope=0.2),
    "sigmoid": nengo.Sigmoid(tau_ref=1),
    "tanh": nengo.Tanh(tau_ref=1),
}

#: functions of that name, wherever they come from
FUNCTIONS = {
    "linear": (None, keras.activations.linear, tf.identity),
    "relu": (keras.activations.relu, keras.ops.relu, tf.nn.relu),
    "relu6": (keras.activations.relu6, keras.ops.relu6, tf.nn.relu6),
    "leaky_relu": (keras.activations.leaky_relu, keras.ops.leaky_relu, tf.nn.leaky_relu),
    "sigmoid": (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid),
    "tanh": (keras.activations.tanh, keras.ops.tanh, tf.nn.tanh),
}


#: operation -> the activation; None if it depends on its parameters
OPERATIONS = {
    operation_of(keras.activations.relu): None,
    operation_of(keras.ops.leaky_relu): None,
    operation_of(keras.ops.relu): keras.activations.relu,
    operation_of(keras.ops.relu6): keras.activations.relu6,
    operation_of(keras.ops.sigmoid): keras.activations.sigmoid,
    operation_of(keras.ops.tanh): keras.activations.tanh,
}


def activation_name(activation: Any) -> str | None:
    """The name of an activation, a key of `ACTIVATIONS`; None for any other.

    Parameters
    ----------
    activation : callable or str or ~nengo.neurons.NeuronType or None
    """
    if isinstance(activation, str):
        return activation if activation in ACTIVATIONS else None
    if isinstance(activation, NeuronType):
        same = (n for n, neurons in ACTIVATIONS.items() if neurons == activation)
        return next(same, None)
    for name, functions in FUNCTIONS.items():
        if any(activation is function for function in functions):
            return name
    return None


def activation_of(layer: Any) -> Any:
    """The activation that a layer consists of.

    ``layer``: layers may also stand where Keras wants an activation. Returns the layer
    itself, if there is no simpler form of it.
    """
    layers = keras.layers
    for cls in (layers.Activation, layers.LeakyReLU, layers.ReLU, *OPERATIONS):
        if isinstance(layer, cls) and type(layer).call is cls.call:
            break
    else:
        return layer
    if cls is layers.Activation:
        inside = layer.activation
        return activation_of(inside) if isinstance(inside, layers.Layer) else inside
    if OPERATIONS.get(cls) is not None:
        return OPERATIONS[cls]
    slope = float(layer.negative_slope)
    if not hasattr(layer, "max_value"):
        return LeakyReLU(slope)
    if layer.threshold:
        return layer
    if layer.max_value is None:
        return LeakyReLU(slope) if slope else keras.activations.relu
    if layer.max_value == 6 and not slope:
        return keras.activations.relu6
    return ClippedReLU(float(layer.max_value), slope)


def swapped(activation: Any, options: Options) -> tuple[Any, bool]:
    """What an activation is to be replaced with.

    ``activation``: or a layer (or an operation) that consists of one. Returns
    ``activation``: in the simplest form that there is of it. Returns ``found``: whether
    ``swap_activations`` says something about it.
    """
    if isinstance(activation, keras.Operation):
        activation = activation_of(activation)
    name = activation_name(activation)
    neurons = activation if isinstance(activation, NeuronType) else ACTIVATIONS.get(name)
    for key, other in (options.swap_activations or {}).items():
        if _means(key, activation, name, neurons):
            options.used.add(id(key))
            return other, True
    return activation, False


def find_neurons(activation: Any, options: Options) -> tuple[NeuronType | None, bool]:
    """The neuron type that an activation becomes.

    Parameters
    ----------
    activation : callable or ~nengo.neurons.NeuronType or None
        Or a layer (or an operation) that consists of one.
    options : Options

    Returns
    -------
    neurons : ~nengo.neurons.NeuronType or None
        None if it is the identity, or if there is none.
    found : bool
        Whether the activation has a native form.
    """
    activation, _ = swapped(activation, options)
    name = activation_name(activation)
    neurons = activation if isinstance(activation, NeuronType) else ACTIVATIONS.get(name)
    return neurons, neurons is not None or name == "linear"


def _means(key, activation, name, neurons):
    """Whether a key of ``swap_activations`` stands for an activation."""
    if isinstance(key, type):
        return neurons is not None and type(neurons) is key
    if key is activation or (neurons is not None and key == neurons):
        return True
    if isinstance(key, str) and key == getattr(activation, "__name__", None):
        return True
    return name is not None and activation_name(key) == name


def advice_for(name: str | None) -> str:
    """What to do about an activation without a neuron type, if there is anything."""
    if name in ("softmax", "log_softmax"):
        return (
            ". If it is the last layer, let the model end in logits instead (with "
            "from_logits=True in the loss): the largest one is the same"
        )
    return ""
