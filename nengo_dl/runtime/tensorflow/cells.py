"""Keras cells, which go one step at a time: the form of their states, and dropout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


class CellStates:
    """What a cell carries from step to step; nothing, of any other function.

    Parameters
    ----------
    layer : keras.layers.Layer or None
        A cell has a ``state_size``: a number, or a list of numbers and shapes. Lists in
        it are those of the cells that it consists of (``keras.layers.StackedRNNCells``).

    Attributes
    ----------
    shapes : list of tuple
        Of all states, without the batch.
    """

    def __init__(self, layer: Any) -> None:
        sizes = getattr(layer, "state_size", None)
        if sizes is None or isinstance(layer, keras.layers.RNN):
            sizes = []
        sizes = [sizes] if isinstance(sizes, int) else list(sizes)
        self.shapes: list[tuple] = []
        _in_place_of_sizes(sizes, self.shapes.append)
        self._sizes = _in_place_of_sizes(sizes, lambda shape: shape)

    def arranged(self, values: Sequence) -> list:
        """A value for each state, in the form in which the cell takes them."""
        rest = iter(values)
        return _in_place_of_sizes(self._sizes, lambda shape: next(rest))

    @staticmethod
    def flat(values: Any) -> list:
        """The states that a cell returned, one after the other."""
        return keras.tree.flatten(values)


def _in_place_of_sizes(sizes: Any, value: Callable) -> Any:
    if isinstance(sizes, list):
        return [_in_place_of_sizes(size, value) for size in sizes]
    return value((sizes,) if isinstance(sizes, int) else tuple(sizes))


@contextlib.contextmanager
def dropout_of_one_call(layer: Any, training: bool) -> Iterator[None]:
    """Context of a call in which the cells decide anew what they drop.

    They keep it until they are told that a sequence ends, and tensors of one call or
    trace cannot be used in another. Older releases of Keras decide it even where nothing
    is dropped; their random numbers would then be a memory that lasts in inference.
    """
    parts = [] if layer is None else layer._flatten_layers()
    cells = [part for part in parts if hasattr(part, "reset_dropout_mask")]

    rates = [(cell.dropout, cell.recurrent_dropout) for cell in cells]

    def prepare(rates):
        for cell, (of_inputs, of_states) in zip(cells, rates):
            cell.dropout, cell.recurrent_dropout = of_inputs, of_states
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()

    prepare(rates if training else [(0.0, 0.0)] * len(cells))
    try:
        yield
    finally:
        prepare(rates)
