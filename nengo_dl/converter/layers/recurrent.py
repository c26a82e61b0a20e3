"""Layers that go along the axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import Array, LayerConverter, converters
from nengo_dl.converter.graph_walk import Value, calls_of
from nengo_dl.tensor_node import TensorNode

if TYPE_CHECKING:
    from nengo_dl.converter.graph_walk import LayerCall
    from nengo_dl.converter.making import Maker

__all__ = ["StepCell"]


@converters.register(keras.layers.TimeDistributed)
class ConvertTimeDistributed(LayerConverter):
    """Converts a layer that is called for each entry of axis 1.

    In temporal models the steps of the simulation are that axis, and the layer is
    converted once. Otherwise it is converted for each entry, with tied weights; a layer
    that treats all positions alike anyway is converted once.
    """

    works_per_step = True

    def refusal(self) -> str | None:
        """A layer of several outputs, or with states, is left to Keras."""
        inner = self.layer.layer
        if isinstance(inner, keras.Model) and len(inner.outputs or ()) != 1:
            return "the model inside has several outputs"
        if len(self.inputs) != 1:
            return "it has several inputs"
        return None

    def convert(self) -> Any:
        """Convert the layer inside."""
        inner, array = self.layer.layer, self.input
        cls = converters.find(type(inner))
        if self.temporal:
            return self._convert_inner(Array(array.obj, array.shape), self.call.path)
        if cls is not None and cls.positionwise:
            return self._convert_inner(array, self.call.path)
        n_entries = array.shape[0]
        node = self.node(self.output_size)
        size_in, size_out = array.size // n_entries, self.output_size // n_entries
        for i in range(n_entries):
            part = self.node(size_in, f"input_{i}")
            self.connect(part, source=array.obj[i * size_in : (i + 1) * size_in])
            result = self._convert_inner(Array(part, array.shape[1:]), self.call.path)
            self.connect(node[i * size_out : (i + 1) * size_out], source=result)
        return node

    def _convert_inner(self, array, path):
        """The object with the output of the layer inside."""
        value = Value((None, *array.shape), self.call.inputs[0].dtype)
        layer, names = self.layer.layer, self.maker.names
        label = f"{self.call.label}/{layer.name if names is None else names[layer]}"
        calls, output = calls_of(layer, value, f"{path}/{layer.name}", label, names)
        arrays = {value: array}
        for call in calls:
            inputs = [arrays[v] for v in call.inputs]
            results, _, _ = self.convert_call(call, inputs, self)
            arrays.update(zip(call.outputs, results, strict=True))
        return arrays[output].obj


class StepCell(keras.layers.Layer):
    """One step of a recurrent layer: input and states to output and next states.

    Parameters
    ----------
    cell : keras.layers.Layer
        Such as ``keras.layers.LSTMCell``.
    shape : tuple of int
        Shape of the input of one step, without the batch.
    """

    def __init__(self, cell: Any, shape: tuple[int, ...]):
        super().__init__(name=f"{cell.name}_step", dtype=cell.compute_dtype)
        self.cell = cell
        self.shape = tuple(shape)
        self.sizes = state_sizes(cell) or []

    def call(self, x: Any) -> Any:
        """``(batch, input + states)`` to ``(batch, output + states)``."""
        ends = np.cumsum([int(np.prod(self.shape, dtype=int)), *self.sizes])
        now, *states = keras.ops.split(x, ends[:-1].tolist(), axis=-1)
        now = keras.ops.reshape(now, (-1, *self.shape))
        structure = self.cell.state_size
        structure = [structure] if isinstance(structure, int) else structure
        states = keras.tree.pack_sequence_as(structure, states)
        output, states = self.cell(now, states, training=False)
        return keras.ops.concatenate([output, *keras.tree.flatten(states)], axis=-1)


def state_sizes(cell: Any) -> list[int] | None:
    """Sizes of all states of a cell; None if one is not a vector."""
    sizes = keras.tree.flatten(cell.state_size)
    return sizes if all(isinstance(size, int) for size in sizes) else None


@converters.register(
    keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN
)
class ConvertRecurrent(LayerConverter):
    """A recurrent layer, one step of it in each step of the simulation.

    The cell is a TensorNode. Its states go back to its input through a connection that
    takes one step (``synapse=0``), so that they are part of the simulation's state.
    """

    works_per_step = True

    def __init__(self, call: LayerCall, inputs: list[Array], maker: Maker):
        super().__init__(call, inputs, maker)
        self._from_steps = self.temporal
        # the last output only, and it has no axis for time
        self.temporal = self.temporal and self.layer.return_sequences

    def refusal(self) -> str | None:
        """Only what can be done step by step."""
        layer = self.layer
        if not self._from_steps and self.options.temporal_model:
            return (
                "it goes through a whole sequence at once, which is not the steps of the "
                "simulation: a layer before it has used these up (return_sequences=False)"
            )
        if not self._from_steps:
            return (
                "it goes through a whole sequence at once; with temporal_model=True it "
                "runs step by step"
            )
        if len(self.inputs) > 1:
            return "it is given initial states"
        if layer.go_backwards or layer.return_state:
            return "it has go_backwards or return_state"
        if state_sizes(layer.cell) is None:
            return "its cell has states that are no vectors"
        initial = getattr(layer.cell, "get_initial_state", None)  # zeros without one
        start = [] if initial is None else keras.tree.flatten(initial(batch_size=1))
        if any(np.any(keras.ops.convert_to_numpy(state)) for state in start):
            return "the initial states of its cell are not zero"
        dropout = (getattr(layer.cell, n, 0) for n in ("dropout", "recurrent_dropout"))
        if any(dropout) and not self.options.inference_only:
            return "it has dropout in training; inference_only=True leaves it out"
        return None

    def convert(self) -> Any:
        """A TensorNode, connected with itself."""
        array, cell = self.input, self.layer.cell
        step = StepCell(cell, array.shape)
        states, size = sum(step.sizes), self.output_size
        node = TensorNode(
            step,
            shape_in=(array.size + states,),
            shape_out=(size + states,),
            pass_time=False,
            label=self.maker.unique(f"{self.call.label}.step"),
        )
        self.connect(node[: array.size])
        nengo.Connection(node[size:], node[array.size :], synapse=0)
        output = self.node(size)
        self.connect(output, source=node[:size])
        return output
