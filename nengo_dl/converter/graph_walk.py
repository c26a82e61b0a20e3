"""From a Keras model to the list of calls of layers that it consists of.

Keras has no public way to ask for this. Models made of symbolic tensors keep a graph of
*nodes*, each one call of a layer (or of a function of ``keras.ops``); all that is known
about them is in this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional
from keras.src.utils.naming import to_snake_case

__all__ = ["LayerCall", "ModelGraph", "Value", "calls_of", "operation_of", "walk"]


SOME_BATCH = 3
"""A batch size to try layers out with."""


@dataclass(eq=False)
class Value:
    """What flows between two calls: one array.

    Attributes
    ----------
    shape : tuple
        With the axis of the batch, which is None.
    dtype : str
    tensors : list of keras.KerasTensor
        The symbolic tensors that stand for it: more than one if it goes into or comes
        out of a model inside the model.
    """

    shape: tuple
    dtype: str
    tensors: list = field(default_factory=list)


@dataclass(eq=False)
class LayerCall:
    """One call of a layer, or of an operation of ``keras.ops``.

    Attributes
    ----------
    operation : keras.layers.Layer or keras.Operation
    args, kwargs : tuple, dict
        Its arguments, with `Value` in the place of tensors.
    outputs : list of Value
    path : str
        The names of the models around it and its own, with ``/`` in between.
    label : str
        The same with names that do not depend on what else was made in the process, see
        `Names`. Default: the path.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list
    path: str
    label: str = ""

    def __post_init__(self) -> None:
        self.label = self.label or self.path

    @property
    def inputs(self) -> list[Value]:
        """The values among the arguments, in the order in which they are written."""
        return [
            leaf
            for leaf in keras.tree.flatten((self.args, self.kwargs))
            if isinstance(leaf, Value)
        ]

    def apply(self, tensors: Any) -> Any:
        """Call the operation with tensors in the place of `inputs`.

        Parameters
        ----------
        tensors : sequence
            One for each of `inputs`.

        Returns
        -------
        list
            The outputs, flat.
        """
        given = iter(tensors)

        def fill(leaf):
            return next(given) if isinstance(leaf, Value) else leaf

        args, kwargs = keras.tree.map_structure(fill, (self.args, self.kwargs))
        return keras.tree.flatten(self.operation(*args, **kwargs))

    def complete_shapes(self) -> None:
        """Find out shapes of outputs that Keras leaves open; those of inputs are known.

        It does for what was given as None in ``EinsumDense(equation, output_shape)``.
        """
        if not _open(self.outputs) or _open(self.inputs):
            return
        specs = [
            tf.TensorSpec((value.shape[0] or SOME_BATCH, *value.shape[1:]), value.dtype)
            for value in self.inputs
        ]
        function = tf.function(lambda *tensors: self.apply(tensors), autograph=False)
        with keras.StatelessScope():
            found = function.get_concrete_function(*specs).structured_outputs
        for value, tensor in zip(self.outputs, found, strict=True):
            value.shape = (value.shape[0], *tensor.shape[1:])


@dataclass(eq=False)
class ModelGraph:
    """The calls of a model, in an order in which they can be made.

    Attributes
    ----------
    inputs, outputs : list of Value
        In the order of ``model.inputs`` and ``model.outputs``.
    calls : list of LayerCall
        Without the input layers.
    names : Names
        Of all layers.
    """

    inputs: list
    outputs: list
    calls: list
    names: Names


class Names:
    """Names of the layers of a model that are the same whenever the model is made.

    Keras names a layer that is given no name after its class, and counts through all
    layers of the process: ``dense_7``. In here the layers of one model are counted, in
    the order of Keras' numbers, from ``dense`` on. A model that is made again, in a
    notebook or for each fold of a validation, thus has the same names; the first one of a
    process has those of Keras.

    Attributes
    ----------
    automatic : frozenset of str
        The names that are counted, without numbers.
    """

    def __init__(self, model: keras.Model):
        numbered = {}
        for operation in _all_operations(model):
            word = to_snake_case(type(operation).__name__)
            match = re.fullmatch(rf"{re.escape(word)}(?:_(\d+))?", operation.name)
            if match:
                entry = (int(match[1] or 0), id(operation))
                numbered.setdefault(word, set()).add(entry)
        self._names = {
            identity: word if i == 0 else f"{word}_{i}"
            for word, entries in numbered.items()
            for i, (_, identity) in enumerate(sorted(entries))
        }
        self.automatic = frozenset(numbered)

    def __getitem__(self, operation: Any) -> str:
        return self._names.get(id(operation), operation.name)


def _all_operations(model):
    """A model, and all layers and operations in it, also of models inside of it."""
    waiting, known = [model], set()
    while waiting:
        operation = waiting.pop()
        if id(operation) in known or operation is None:
            continue
        known.add(id(operation))
        yield operation
        inner = operation
        if isinstance(operation, keras.Model):
            inner = _functional(operation)
        waiting += getattr(inner, "operations", [])
        if isinstance(operation, keras.layers.Wrapper):
            waiting.append(operation.layer)


def walk(model: Any) -> Any:
    """All calls of layers that a model makes, also inside of models inside of it.

    Parameters
    ----------
    model : keras.Model
        Functional or Sequential, with known input shapes.

    Returns
    -------
    ModelGraph

    Raises
    ------
    TypeError
        If it is no Keras model, or one whose ``call`` was written by hand.
    ValueError
        If a Sequential model was not told the shape of its input yet.
    """
    if not isinstance(model, keras.Model):
        kind = model if isinstance(model, type) else type(model)
        if any(cls.__module__.partition(".")[0] == "tf_keras" for cls in kind.__mro__):
            raise TypeError(
                f"Converter: expected a keras.Model, got a {kind.__name__} of tf_keras, "
                "which is Keras 2. Make the model with Keras 3 (import keras; without "
                "TF_USE_LEGACY_KERAS in the environment), and take the weights over with "
                "set_weights(other.get_weights())"
            )
        what = f"the class {kind.__name__}" if kind is model else repr(model)
        raise TypeError(f"Converter: expected a keras.Model, got {what}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Converter: the Sequential model {model.name!r} does not know the shape of "
            "its input yet; begin it with keras.Input(shape), or call model.build"
        )
    functional = _functional(model)
    if functional is None:
        raise TypeError(
            f"Converter: {model.name!r} is a {type(model).__name__}, which is neither "
            "keras.Sequential nor made of symbolic tensors with keras.Model(inputs, "
            "outputs); its call method cannot be looked into. Write it in one of these "
            "forms, or put it into a network with nengo_dl.TensorNode"
        )
    names = Names(model)
    walker = _Walker(names)
    inputs = [_value(tensor) for tensor in functional.inputs]
    outputs = walker.run(functional, inputs, "", "")
    return ModelGraph(inputs, outputs, walker.calls, names)


def calls_of(
    layer: Any, value: Any, path: str, label: str = "", names: Names | None = None
) -> Any:
    """The calls that one call of a layer consists of: those inside it, if it is a model.

    Parameters
    ----------
    layer : keras.layers.Layer
    value : Value
        Its input.
    path, label : str
        See `LayerCall`.
    names : Names, optional
        Of the model that it is part of.

    Returns
    -------
    calls : list of LayerCall
    output : Value
    """
    walker = _Walker(Names(layer) if names is None else names)
    inner = walker._inner_model(layer, (value,), {})
    if inner is not None:
        (output,) = walker.run(inner, [value], path, label or path)
        return walker.calls, output
    output = Value(tuple(layer.compute_output_shape(value.shape)), value.dtype)
    call = LayerCall(layer, (value,), {}, [output], path, label)
    call.complete_shapes()
    return [call], output


def operation_of(function: Any) -> type:
    """The class that stands for a function of ``keras.ops`` in models.

    Parameters
    ----------
    function : callable
        Is tried out with a symbolic tensor.

    Returns
    -------
    type
        A subclass of ``keras.Operation``.
    """
    result = keras.tree.flatten(function(keras.KerasTensor((None, 2, 2))))[0]
    return type(result._keras_history.operation)


def _functional(model):
    """The model as a graph of nodes; None if it is none."""
    if isinstance(model, keras.Sequential):
        if type(model).call is not keras.Sequential.call:
            return None
        return model._functional
    is_graph = isinstance(model, Functional) and type(model).call is Functional.call
    return model if is_graph else None


def _open(values):
    """Whether an axis of some value, but for that of the batch, has an unknown size."""
    return any(None in value.shape[1:] for value in values)


def _value(tensor):
    return Value(tuple(tensor.shape), str(tensor.dtype), [tensor])


class _Walker:
    """Collects the calls of a model and of those inside it."""

    def __init__(self, names: Names):
        self.calls = []
        self.names = names

    def run(self, model: Any, inputs: Any, path: str, label: str) -> Any:
        """The outputs of a model for these inputs."""
        known = {}
        for tensor, value in zip(model.inputs, inputs, strict=True):
            self._stands_for(value, tensor)
            known[id(tensor)] = value
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input or not node.operation:
                    continue
                if any(id(tensor) not in known for tensor in node.input_tensors):
                    continue  # leads to what the model does not use
                args, kwargs = node.arguments.fill_in(known)
                outputs = self._call(node, args, kwargs, path, label)
                for tensor, value in zip(node.outputs, outputs, strict=True):
                    self._stands_for(value, tensor)
                    known[id(tensor)] = value
        return [known[id(tensor)] for tensor in model.outputs]

    @staticmethod
    def _stands_for(value, tensor):
        if not any(tensor is other for other in value.tensors):
            value.tensors.append(tensor)

    def _call(self, node, args, kwargs, path, label):
        operation = node.operation
        path = f"{path}/{operation.name}" if path else operation.name
        own = self.names[operation]
        label = f"{label}/{own}" if label else own
        inner = self._inner_model(operation, args, kwargs)
        if inner is not None:
            given = zip(inner.inputs, keras.tree.flatten(args[0]), strict=True)
            inputs = [self._as_declared(*pair, path, label) for pair in given]
            return self.run(inner, inputs, path, label)
        outputs = [_value(tensor) for tensor in node.outputs]
        if isinstance(operation, keras.layers.Layer):
            # in `fit`, `predict` and `evaluate`, Keras itself decides on it
            kwargs = {name: a for name, a in kwargs.items() if name != "training"}
        self.calls.append(LayerCall(operation, args, kwargs, outputs, path, label))
        self.calls[-1].complete_shapes()
        return outputs

    def _as_declared(self, tensor, value, path, label):
        """A value with the shape that a model was declared with, see `_declared`."""
        if value.shape[1:] == tuple(tensor.shape)[1:]:
            return value
        target = [-1 if n is None else n for n in tensor.shape[1:]]
        layer = keras.layers.Reshape(target, name="declared_shape", dtype=value.dtype)
        output = Value((value.shape[0], *tensor.shape[1:]), value.dtype)
        path, label = f"{path}/{layer.name}", f"{label}/{layer.name}"
        self.calls.append(LayerCall(layer, (value,), {}, [output], path, label))
        return output

    @staticmethod
    def _inner_model(operation, args, kwargs):
        """The graph of a model that is called as a layer, if it can be looked into.

        A model that was made for other shapes than it is called with would have to be
        traced anew; it stays one operation.
        """
        if not isinstance(operation, keras.Model) or len(args) != 1:
            return None
        if any(isinstance(leaf, Value) for leaf in keras.tree.flatten(kwargs)):
            return None
        inner = _functional(operation)
        given = keras.tree.flatten(args[0])
        if inner is None or len(given) != len(inner.inputs):
            return None
        shapes = [tuple(tensor.shape) for tensor in inner.inputs]
        fits = all(
            isinstance(value, Value) and _declared(value.shape[1:], shape[1:])
            for value, shape in zip(given, shapes, strict=True)
        )
        return inner if fits else None


def _declared(shape, declared):
    """Whether Keras takes a shape for what a model was declared with.

    It adds a last axis of length one, or leaves it out.
    """
    return declared in (shape, (*shape, 1)) or (*declared, 1) == shape
