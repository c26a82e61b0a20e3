"""What all layer converters have in common.

Adding a layer converter
========================

Write a class that turns one call of a Keras layer into Nengo objects, and register it:

.. code-block:: python

   @Converter.register(keras.layers.Dense)  # in the package: @converters.register
   class ConvertDense(LayerConverter):
       \"\"\"Weighted sums of all inputs.\"\"\"

       works_per_step = True                   # see below

       def refusal(self):
           if self.layer.lora_enabled:
               return "it has been given low-rank updates"
           return None

       def convert(self):
           layer = self.layer
           target = self.target(layer.activation)
           kernel = numbers(layer.kernel)
           self.connect(target, nengo.Dense(kernel.T.shape, init=kernel.T),
                        variable=layer.kernel, transposed=True)
           if layer.use_bias:
               self.add_bias(target, layer.bias, channel=np.arange(layer.units))
           return target.output

``refusal`` gives the reason why this very layer has no native form (then it becomes a
TensorNode, with a warning), or None. ``convert`` gives the Nengo object that holds the
layer's output, flattened in C order: a `nengo.Node`, or the neurons of an ensemble; a
list of them if the layer has several outputs.

To hand: ``self.layer``, ``self.input`` (an `Array`: ``obj``, ``shape`` without the batch,
``size``), ``self.inputs`` for several, ``self.output_shape``, ``self.options`` (the
arguments of the Converter), and the methods

- ``target(activation)``: where weighted sums go, and where their activation comes out;
- ``connect(target, transform, variable=)``: from the input to the target. Weights of a
  ``variable`` are trained like it, with its regularizer and constraint; without one they
  stay as they are;
- ``add_bias(target, variable, channel=)``: entry ``channel[i]`` of a variable is added to
  element ``i``;
- ``rearrange(indices)``: a node with elements of the input, in any order.

``works_per_step`` says that a layer treats each time step (axis 1) by itself, so that it
can be used in temporal models; shapes are without that axis then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import nengo
import numpy as np
from nengo.ensemble import Neurons
from numpy.typing import ArrayLike

from nengo_dl.compiler.traits import Registry

if TYPE_CHECKING:
    from nengo_dl.converter.graph_walk import LayerCall
    from nengo_dl.converter.making import Maker

__all__ = ["Array", "LayerConverter", "Target", "converters", "numbers"]

#: class of Keras layers (or of operations of ``keras.ops``) -> `LayerConverter`
converters: Registry = Registry("layer converters")


def numbers(tensor: Any) -> np.ndarray:
    """A Keras variable (or a tensor, or an array) as an array of numbers.

    Parameters
    ----------
    tensor : keras.Variable or array_like

    Returns
    -------
    ndarray of float64
    """
    if isinstance(tensor, keras.Variable) or keras.ops.is_tensor(tensor):
        tensor = keras.ops.convert_to_tensor(tensor).numpy()
    return np.asarray(tensor, np.float64)


@dataclass(frozen=True, eq=False)
class Array:
    """An output of a layer, as a Nengo object.

    Attributes
    ----------
    obj : ~nengo.Node or ~nengo.ensemble.Neurons
        Holds the elements in C order.
    shape : tuple of int
        Without the batch, and without time if `temporal`.
    temporal : bool
        Whether the steps of the simulation are an axis of it.
    """

    obj: Any
    shape: tuple
    temporal: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def spikes(self) -> bool:
        """Whether it is the output of neurons, which synapses filter."""
        return isinstance(self.obj, Neurons)


class Target(NamedTuple):
    """Where weighted sums go to, and where their activation comes out."""

    input: Any
    output: Any


class LayerConverter(ABC):
    """Turns one call of a layer into Nengo objects.

    Parameters
    ----------
    call : LayerCall
    inputs : list of Array
    maker : ~nengo_dl.converter.making.Maker
        Makes the Nengo objects.

    Attributes
    ----------
    layer : keras.layers.Layer
    temporal : bool
        Whether the output has the steps of the simulation as an axis.
    convert_call : callable
        `Converter.convert_call`, for layers that consist of others.
    positionwise : bool
        Whether the layer treats all positions along all axes but the last alike.
    """

    convert_call: Callable[..., Any]
    works_per_step = False
    positionwise = False

    def __init__(self, call: LayerCall, inputs: list[Array], maker: Maker):
        self.call = call
        self.layer = call.operation
        self.inputs = inputs
        self.maker = maker
        self.options = maker.options
        self.temporal = any(array.temporal for array in inputs)

    # what subclasses write -------------------------------------------------------

    def refusal(self) -> str | None:
        """Why this layer has no native form; None if it has one.

        Returns
        -------
        str or None
            Goes on after "the layer … (Dense) becomes a TensorNode: ".
        """
        return None

    @abstractmethod
    def convert(self) -> Any:
        """Make the Nengo objects.

        Returns
        -------
        ~nengo.Node or ~nengo.ensemble.Neurons, or list of them
            The output, or one for each.
        """

    # what they have to hand ------------------------------------------------------

    @property
    def input(self) -> Array:
        """(Array) The only input."""
        (array,) = self.inputs
        return array

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all outputs, without batch, and without time if `temporal`."""
        first = 2 if self.temporal else 1
        shapes = [tuple(value.shape[first:]) for value in self.call.outputs]
        for shape, value in zip(shapes, self.call.outputs, strict=True):
            if None in shape:
                raise ValueError(
                    f"Converter: the output of the layer {self.call.path!r} has shape "
                    f"{value.shape}; all axes but the first have to be known. Use "
                    "keras.layers.Reshape, or give the layer the shape of its output"
                )
        return shapes

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the only output."""
        (shape,) = self.output_shapes
        return shape

    @property
    def output_size(self) -> int:
        """Number of elements of the only output."""
        return int(np.prod(self.output_shape, dtype=int))

    def axis(self, axis: int) -> int:
        """Number of an axis of the layer's tensors, as one of `Array.shape`.

        Parameters
        ----------
        axis : int
            As Keras counts: 0 is the batch, negative ones from the end.

        Returns
        -------
        int
            Negative if it is the axis of the batch or of time.
        """
        lost = 2 if self.temporal else 1
        rank = len(self.inputs[0].shape) + lost
        return (axis % rank) - lost

    def node(self, size: int, label: str = "") -> nengo.Node:
        """A node of ``size`` elements that adds up what comes in, with a ``label``."""
        name = f"{self.call.label}.{label}" if label else self.call.label
        name = self.maker.unique(name)
        return nengo.Node(size_in=int(size), label=name)

    def target(self, activation: Any = None, size: int | None = None) -> Target:
        """Where weighted sums go, and where their activation comes out.

        Parameters
        ----------
        activation : callable, optional
            A Keras activation; None for none.
        size : int, optional
            Default: `output_size`.

        Returns
        -------
        Target
            Neurons for both, if the activation is that of a neuron type; a node for
            both, if there is none; else a node, and a TensorNode that reads it.
        """
        return self.maker.target(self, activation, size or self.output_size)

    def connect(
        self,
        target: Target | Any,
        transform: Any = None,
        *,
        variable: Any = None,
        source: Any = None,
        transposed: bool = False,
    ) -> nengo.Connection:
        """Connect an input to a target.

        Parameters
        ----------
        target : Target or Nengo object
        transform : ~nengo.transforms.Transform or array_like, optional
            Default: elements are passed on as they are.
        variable : keras.Variable, optional
            The Keras variable that the weights of the transform come from. Where a
            variable is used again, so are the weights. Default: the weights are not
            trained.
        source : Array or Nengo object, optional
            Default: `input`.
        transposed : bool
            Whether the last two axes of the weights are those of the variable, exchanged.
            Its regularizer and constraint are given weights as Keras has them.

        Returns
        -------
        ~nengo.Connection
        """
        post = target.input if isinstance(target, Target) else target
        source = self.input if source is None else source
        pre = source.obj if isinstance(source, Array) else source
        return self.maker.connect(self, pre, post, transform, variable, transposed)

    def add_bias(
        self, target: Target | Any, variable: Any, channel: ArrayLike | None = None
    ) -> None:
        """Add values of a variable (or an array, which is not trained) to a target.

        Parameters
        ----------
        target : Target or Nengo object
        variable : keras.Variable or array_like
        channel : array_like of int, optional
            Which entry (of the flattened variable) each element of the target is given.
            Default: each its own.
        """
        post = target.input if isinstance(target, Target) else target
        self.maker.add_bias(self, post, variable, channel)

    def rearrange(self, indices: ArrayLike, source: Array | None = None) -> nengo.Node:
        """A node with elements of an array, in a given order.

        Parameters
        ----------
        indices : array_like of int
            For each element of the result, which one of the array it is.
        source : Array, optional
            Default: `input`.

        Returns
        -------
        ~nengo.Node
        """
        source = self.input if source is None else source
        indices = np.asarray(indices).ravel()
        node = self.node(indices.size)
        self.connect(node, source=source.obj[indices.tolist()])
        return node

    def positions(self, array: Array | None = None) -> np.ndarray:
        """The number of each element of an ``array`` (the input), in its shape."""
        array = self.input if array is None else array
        return np.arange(array.size).reshape(array.shape)

    def channels_of(self, axis: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The index along one axis, for each element in C order.

        Parameters
        ----------
        axis : int
        shape : tuple of int, optional
            Default: `output_shape`.
        """
        shape = self.output_shape if shape is None else shape
        return np.indices(shape)[axis].ravel()
