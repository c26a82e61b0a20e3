"""Regularizers and constraints of Keras layers, on what became of the layers.

Those of weights are settings of connections (``regularizer``, ``constraint``), so that
training obeys them wherever the weights are kept. A network may hold the weights in
another order than Keras; then the functions are given them as Keras has them.

Those of activities are nodes that do nothing but to add to the loss of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras
import nengo
import numpy as np
from nengo.builder.node import build_node

from nengo_dl.builder import NengoBuilder
from nengo_dl.converter.base import numbers
from nengo_dl.kernels.penalties import SimPenalty

__all__ = ["ActivityPenalty", "PenaltyNode", "WeightOrder", "penalties_of"]

#: setting of a connection -> attribute of a Keras variable
SETTINGS = ("regularizer", "constraint")


# weights -----------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightOrder:
    """How weights of a connection and a variable of a layer correspond.

    Parameters
    ----------
    keras, nengo : tuple of int
        The shapes of both.
    transposed : bool
        Whether the last two axes of the weights are exchanged. Apart from that both have
        the same elements in C order.
    """

    keras: tuple
    nengo: tuple
    transposed: bool = False

    @property
    def trivial(self) -> bool:
        """Whether weights of Nengo and of Keras lie in the same order."""
        return self.keras == self.nengo and not self.transposed

    def to_keras(self, weights: Any) -> Any:
        """Weights as the layer has them."""
        weights = keras.ops.convert_to_tensor(weights)
        if self.transposed:
            weights = keras.ops.swapaxes(weights, -1, -2)
        return keras.ops.reshape(weights, self.keras)

    def to_nengo(self, values: Any) -> Any:
        """Values of the layer as weights of the connection."""
        if not self.transposed:
            return keras.ops.reshape(values, self.nengo)
        *outer, rows, columns = self.nengo
        values = keras.ops.reshape(values, (*outer, columns, rows))
        return keras.ops.swapaxes(values, -1, -2)


@dataclass(frozen=True)
class Reordered:
    """A regularizer or constraint that is given weights as Keras has them.

    Parameters
    ----------
    function : callable
    back : bool
        Whether it gives weights, too.
    """

    function: Any
    order: WeightOrder
    back: bool

    def __call__(self, weights: Any) -> Any:
        """What the function gives for the weights of a connection."""
        result = self.function(self.order.to_keras(weights))
        return self.order.to_nengo(result) if self.back else result


def penalties_of(variable: Any, weights: Any, transposed: bool = False) -> Any:
    """Settings for a connection whose weights are those of a Keras variable.

    Parameters
    ----------
    variable : keras.Variable
    weights : ndarray
        What the connection has.
    transposed : bool
        See `WeightOrder`.

    Returns
    -------
    settings : dict
        What the variable has of ``regularizer`` and ``constraint``.
    fits : bool
        Whether the weights are the variable's, in the order that was said.
    """
    found = {name: getattr(variable, name, None) for name in SETTINGS}
    found = {name: function for name, function in found.items() if function is not None}
    if not found:
        return {}, True
    order = WeightOrder(tuple(variable.shape), np.shape(weights), transposed)
    fits = int(np.prod(order.keras)) == int(np.prod(order.nengo))
    if not fits or not np.allclose(numbers(order.to_nengo(numbers(variable))), weights):
        return found, False
    if not order.trivial:
        for name, function in found.items():
            found[name] = Reordered(function, order, name == "constraint")
    return found, True


# activities --------------------------------------------------------------------------


@cache
def _mean_over_items():
    """Whether Keras divides activity penalties by the number of items; newer ones do."""
    layer = keras.layers.Identity(activity_regularizer=keras.ops.sum)
    layer(np.ones((2, 1), "float32"))
    return float(layer.losses[0]) == 1


@dataclass(frozen=True)
class ActivityPenalty:
    """What a Keras layer with an activity regularizer adds to the loss.

    Where time is an axis of the model's, it is one for the regularizer, too. Other models
    know of no time: then it is the mean over the steps.

    Parameters
    ----------
    regularizer : callable
    shape : tuple of int
        Of the output, without batch and time.
    steps : str
        ``"axis"``, ``"mean"``, or ``"last"``: the output is that of the last step.
    per_item : bool
        Whether it is divided by the number of items. Default: as Keras does.
    """

    regularizer: Any
    shape: tuple
    steps: str = "mean"
    per_item: bool = field(default_factory=_mean_over_items)

    def __call__(self, y: Any) -> Any:
        """The penalty on an output ``(items, steps, size)``, a scalar."""
        items, steps = keras.ops.shape(y)[:2]
        if self.steps == "last":
            y = keras.ops.reshape(y[:, -1], (-1, *self.shape))
        elif self.steps == "axis":
            y = keras.ops.reshape(y, (-1, steps, *self.shape))
        else:
            y = keras.ops.reshape(y, (-1, *self.shape))
        loss = self.regularizer(y)
        divisor = items if self.per_item else 1
        if self.steps == "mean":
            divisor = divisor * steps
        return loss / keras.ops.cast(divisor, loss.dtype)


class PenaltyNode(nengo.Node):
    """Reads activities, and adds to the loss of training.

    In ``nengo.Simulator`` it does nothing.

    Parameters
    ----------
    penalty : ActivityPenalty
    size_in : int
    label : str
    """

    penalty = None  # Nengo's objects take no attributes that their class has not

    def __init__(self, penalty: Any, size_in: int, label: str):
        super().__init__(size_in=size_in, label=label)
        self.penalty = penalty


@NengoBuilder.register(PenaltyNode)
def build_penalty_node(model: Any, node: nengo.Node) -> Any:
    """Build a node without function, and the operator that adds to the loss."""
    build_node(model, node)
    model.add_op(SimPenalty(model.sig[node]["in"], node.penalty))
