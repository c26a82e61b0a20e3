"""What has no native form: a TensorNode that runs the Keras layer itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import LayerConverter
from nengo_dl.tensor_node import TensorNode

if TYPE_CHECKING:
    from nengo_dl.converter.graph_walk import LayerCall
    from nengo_dl.converter.options import Options

__all__ = ["Fallback", "FlatCall"]

#: layers without a native form that treat each time step by itself
PER_STEP = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
)

#: those that do if they work along the last axis
PER_STEP_LAST_AXIS = (
    keras.layers.Softmax,
    keras.layers.LayerNormalization,
    keras.layers.UnitNormalization,
    keras.layers.BatchNormalization,
)


#: layers that go along axis 1
SEQUENCES = (keras.layers.RNN, keras.layers.Bidirectional)

#: why layers that make masks are refused, and what to do
NO_MASKS = (
    "masks of time steps have no equivalent in a network. Remove the layer (or "
    "mask_zero=True) and fill sequences up to equal length; in training, steps that do "
    "not count are given a sample_weight of 0"
)


def makes_mask(layer: Any) -> bool:
    """Whether a layer says which steps other layers are to leave out."""
    return isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)


class FlatCall(keras.layers.Layer):
    """One call of a layer, with all inputs, and all outputs, as one flat array.

    Parameters
    ----------
    call : LayerCall
    shapes : list of tuple of int
        Shapes of the inputs, without the batch.
    time : bool
        Whether the call wants an axis for time: it is given one step.
    """

    def __init__(
        self, call: LayerCall, shapes: list[tuple[int, ...]], time: bool = False
    ):
        # the layer has a name and a dtype of its own already
        types = [value.dtype for value in (*call.outputs, *call.inputs)]
        dtype = next((name for name in types if "float" in name), keras.config.floatx())
        super().__init__(name=f"{call.operation.name}_flat", dtype=dtype)
        self.operation = call.operation
        self._flat = (call, [tuple(shape) for shape in shapes], time)
        # it has no variables but those of the layer: Keras need not call it to make some
        self.built = getattr(call.operation, "built", True)

    def call(self, x: Any) -> Any:
        """``(batch, inputs)`` to ``(batch, outputs)``."""
        call, shapes, time = self._flat
        tensors, first = [], 0
        step = (1,) if time else ()
        for shape, value in zip(shapes, call.inputs, strict=True):
            size = int(np.prod(shape, dtype=int))
            part = keras.ops.reshape(x[:, first : first + size], (-1, *step, *shape))
            tensors.append(keras.ops.cast(part, value.dtype))
            first += size
        outputs = []
        for value, tensor in zip(call.outputs, call.apply(tensors), strict=True):
            size = int(np.prod(value.shape[2 if time else 1 :], dtype=int))
            outputs.append(keras.ops.cast(keras.ops.reshape(tensor, (-1, size)), x.dtype))
        return outputs[0] if len(outputs) == 1 else keras.ops.concatenate(outputs, -1)


class Fallback(LayerConverter):
    """A TensorNode that runs the layer as it is.

    Its variables are those of the Keras layer, so that training the network trains the
    layer. Several inputs are put side by side in a node, several outputs taken apart.
    """

    def convert(self) -> Any:
        """The TensorNode, and connections from all inputs."""
        call = self.call
        shapes = [array.shape for array in self.inputs]
        sizes = [int(np.prod(shape, dtype=int)) for shape in self.output_shapes]
        alone = (
            isinstance(call.operation, keras.layers.Layer)
            and len(call.args) == 1
            and call.args[0] in call.inputs
            and not call.kwargs
            and len(sizes) == 1
            and "float" in call.inputs[0].dtype
            and "float" in call.outputs[0].dtype
            and not self.temporal
        )
        if alone:
            function, shape_in, shape_out = call.operation, shapes[0], self.output_shape
        else:
            function = FlatCall(call, shapes, self.temporal)
            shape_in, shape_out = (sum(a.size for a in self.inputs),), (sum(sizes),)
        node = self.tensor_node(function, shape_in, shape_out)
        first = 0
        for array in self.inputs:
            self.connect(node[first : first + array.size], source=array)
            first += array.size
        if len(sizes) == 1:
            return node
        ends = np.cumsum(sizes)
        outputs = []
        for start, stop in zip(ends - sizes, ends, strict=True):
            outputs.append(self.node(stop - start, "output"))
            self.connect(outputs[-1], source=node[start:stop])
        return outputs

    def activation(self, activation: Any, node: nengo.Node) -> Any:
        """A TensorNode with an activation of the values of a node."""
        shape = (node.size_out,)
        if self.output_shapes and int(np.prod(self.output_shapes[0])) == node.size_out:
            shape = self.output_shapes[0]
        layer = keras.layers.Activation(activation, dtype=self.call.outputs[0].dtype)
        after = self.tensor_node(layer, shape, shape)
        nengo.Connection(node, after, synapse=None)
        return after

    def tensor_node(
        self, function: Any, shape_in: tuple[int, ...], shape_out: tuple[int, ...]
    ) -> Any:
        """A TensorNode with a label of its own."""
        return TensorNode(
            function,
            shape_in=tuple(shape_in),
            shape_out=tuple(shape_out),
            pass_time=False,
            label=self.maker.unique(self.call.label),
        )


def obstacle(call: LayerCall, temporal: bool) -> str | None:
    """Why a layer cannot even be a TensorNode; None if it can.

    ``temporal``: whether the steps of the simulation are an axis of its input.
    """
    layer = call.operation
    if makes_mask(layer):
        return NO_MASKS
    if not temporal:
        return None
    if isinstance(layer, SEQUENCES):
        return (
            "with temporal_model=True axis 1 is the time, and this layer goes along it "
            "in another way than step by step, forward"
        )
    rank = len(call.inputs[0].shape)
    last = isinstance(layer, PER_STEP_LAST_AXIS) and rank > 2
    if last:
        axes = np.atleast_1d(getattr(layer, "axis", -1))
        last = all(axis % rank == rank - 1 for axis in axes)
    each = isinstance(layer, PER_STEP) and rank > 2
    if isinstance(layer, keras.layers.PReLU):
        each = each and layer.alpha.shape[0] == 1  # the same slopes for all steps
    if last or each:
        return None
    return (
        "with temporal_model=True axis 1 is the time, and it is not known that this "
        "layer treats each time step by itself; wrap it in keras.layers.TimeDistributed "
        "if it does"
    )


def report(call: LayerCall, reason: str, options: Options) -> None:
    """Warn that a layer becomes a TensorNode, or refuse it.

    Raises `TypeError` if that is not allowed.
    """
    what = f"the layer {call.path!r} ({type(call.operation).__name__})"
    if not options.allow_fallback:
        raise TypeError(
            f"Converter: {what} has no native form: {reason}. With allow_fallback=True "
            "it becomes a TensorNode; Converter.register adds a form of your own"
        )
    options.warn(f"Converter: {what} becomes a TensorNode: {reason}")
