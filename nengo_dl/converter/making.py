"""Makes the Nengo objects that layer converters ask for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras
import nengo
import numpy as np
from nengo.base import ObjView
from nengo.dists import Choice
from nengo.ensemble import Neurons
from numpy.typing import ArrayLike

from nengo_dl.config import configure_settings
from nengo_dl.converter.activations import find_neurons, swapped
from nengo_dl.converter.base import Target, numbers
from nengo_dl.converter.connections import TiedConnection
from nengo_dl.converter.penalties import ActivityPenalty, PenaltyNode, penalties_of
from nengo_dl.neurons import ClippedReLU

if TYPE_CHECKING:
    from nengo_dl.converter.graph_walk import LayerCall
    from nengo_dl.converter.options import Options

__all__ = ["InputNode", "Maker"]

#: How many points decoders of converted neurons would be solved at. They are all alike:
#: two for each of them, as elsewhere in Nengo, would tell no more.
EVAL_POINTS = 750


class InputNode(nengo.Node):
    """A node for the input of a model, which data may have the shape of.

    Parameters
    ----------
    output : array_like
    item_shape : tuple of int
        Of one item: instead of ``(items, steps, size)`` a simulator takes data
        ``(items, *item_shape)`` of one step, and ``(items, steps, *item_shape)``.
    label : str
    """

    item_shape = None

    def __init__(self, output: Any, item_shape: tuple[int, ...], label: str):
        super().__init__(output, label=label)
        self.item_shape = tuple(item_shape)


class Maker:
    """The network under construction.

    Parameters
    ----------
    net : ~nengo.Network
        Its ``with`` block has to be open while objects are made.
    options : Options
    fallback : callable
        ``fallback(layer_converter, function, node)`` makes a TensorNode for an
        activation.
    calls : list of LayerCall
        All calls that are to be converted.
    names : Names, optional
        Of the layers of the model.

    Attributes
    ----------
    scales : dict
        Neurons -> the factor that their input is scaled with.
    calls : dict
        Neurons -> the `LayerCall` they were made for.
    """

    def __init__(
        self,
        net: nengo.Network,
        options: Options,
        fallback: Any,
        calls: Sequence[LayerCall] = (),
        names: Any = None,
    ):
        self.net = net
        self.options = options
        self.fallback = fallback
        self.names = names
        self.scales = {}
        self.calls = {}
        self._labels = Counter()
        self._weights = {}
        self._biases = {}
        self._input_shapes = {}
        for call in calls:
            shapes = {value.shape[1:] for value in call.inputs}
            self._input_shapes.setdefault(id(call.operation), set()).update(shapes)

    def input_shapes(self, layer: Any) -> Any:
        """(set) All shapes of inputs that a layer is called with, without the batch."""
        return self._input_shapes.get(id(layer), set())

    def unique(self, label: str) -> str:
        """A label that no other object has, so that parameters can be found by it."""
        self._labels[label] += 1
        number = self._labels[label]
        return label if number == 1 else f"{label}_{number}"

    # neurons ---------------------------------------------------------------------

    def target(self, converter: Any, activation: Any, size: int) -> Target:
        """See `LayerConverter.target`."""
        neurons, native = find_neurons(activation, self.options)
        if neurons is not None:
            obj = self._neurons(converter, neurons, size)
            return Target(obj, obj)
        if native:
            node = converter.node(size)
            return Target(node, node)
        node = converter.node(size, "sum")
        activation, _ = swapped(activation, self.options)
        return Target(node, self.fallback(converter, activation, node))

    def _neurons(self, converter, neurons, size):
        """Neurons whose input is a sum of connections; they have no bias of their own.

        Nengo multiplies what reaches neurons with their gain. A layer that is scaled
        therefore has the same weights as one that is not, and parameters of one can be
        loaded into the other.
        """
        scale = self.options.scale_of(converter.layer)
        if scale != 1:
            neurons, scale = _scaled(neurons, scale, converter.call.path, self.options)
        ensemble = nengo.Ensemble(
            int(size),
            1,
            neuron_type=neurons,
            # one number each, however many neurons there are
            encoders=Choice([[1.0]]),
            gain=Choice([scale]),
            bias=Choice([0.0]),
            n_eval_points=EVAL_POINTS,
            label=self.unique(converter.call.label),
        )
        self.scales[ensemble.neurons] = scale
        self.calls[ensemble.neurons] = converter.call
        return ensemble.neurons

    # connections -----------------------------------------------------------------

    def connect(
        self,
        converter: Any,
        pre: Any,
        post: Any,
        transform: Any,
        variable: Any,
        transposed: bool = False,
    ) -> nengo.Connection:
        """See `LayerConverter.connect`."""
        source = pre.obj if isinstance(pre, ObjView) else pre
        synapse = self.options.synapse if isinstance(source, Neurons) else None
        kwargs = {"synapse": synapse}
        if transform is not None:
            kwargs["transform"] = transform
        if variable is None:
            connection = nengo.Connection(pre, post, **kwargs)
            self.net.config[connection].trainable = False
            return connection
        label = self.unique(f"{converter.call.label}.{_short(variable)}")
        first = self._weights.get(id(variable))
        if first is None or self.options.split_shared_weights:
            connection = nengo.Connection(pre, post, label=label, **kwargs)
            self._weights.setdefault(id(variable), connection)
            weights = getattr(transform, "init", transform)
            self._penalize(converter, connection, variable, weights, transposed)
        else:
            connection = TiedConnection(pre, post, tied_to=first, label=label, **kwargs)
        self.net.config[connection].trainable = bool(variable.trainable)
        return connection

    def add_bias(
        self, converter: Any, post: Any, variable: Any, channel: ArrayLike | None
    ) -> None:
        """See `LayerConverter.add_bias`."""
        source = self._bias_source(converter, variable)
        if channel is not None:
            channel = np.asarray(channel).ravel()
            if not np.array_equal(channel, np.arange(source.size_out)):
                source = source[channel.tolist()]
        self.connect(converter, source, post, None, None)

    def _bias_source(self, converter, variable):
        """A node with the values of a variable (or of an array).

        The same one each time, where weights are shared.
        """
        trained = isinstance(variable, keras.Variable)
        node = self._biases.get(id(variable)) if trained else None
        if node is not None and not self.options.split_shared_weights:
            return node
        values = numbers(variable).ravel()
        name = _short(variable) if trained else "constant"
        label = self.unique(f"{converter.call.label}.{name}")
        node = nengo.Node(size_in=values.size, label=label)
        connection = nengo.Connection(
            self._one, node, transform=values[:, None], synapse=None, label=label
        )
        self.net.config[connection].trainable = trained and bool(variable.trainable)
        if trained:
            self._biases[id(variable)] = node
            self._penalize(converter, connection, variable, values[:, None])
        return node

    # penalties -------------------------------------------------------------------

    def _penalize(self, converter, connection, variable, weights, transposed=False):
        """Carry the regularizer and the constraint of a variable over."""
        if self.options.inference_only:
            return
        settings, fits = penalties_of(variable, weights, transposed)
        if not fits:
            self.options.warn(
                f"Converter: the {' and the '.join(settings)} of {_short(variable)!r} of "
                f"the layer {converter.call.path!r} are not carried over, because the "
                f"weights of the connection are not those of the variable in the same "
                f"order; with {type(converter).__name__}.connect(..., transposed=True) "
                "its last two axes may be exchanged"
            )
            return
        for name, function in settings.items():
            configure_settings(**{name: None})  # pyright: ignore[reportArgumentType]  # any name
            setattr(self.net.config[connection], name, function)

    def penalize_activity(self, converter: Any, array: Any, steps: Any) -> None:
        """Add what a layer has as a regularizer of its output to the loss of training.

        Parameters
        ----------
        converter : LayerConverter
        array : Array
            An output of the layer.
        steps : str
            See `ActivityPenalty`.
        """
        penalty = ActivityPenalty(
            converter.layer.activity_regularizer, array.shape, steps
        )
        label = self.unique(f"{converter.call.label}.activity_regularizer")
        node = PenaltyNode(penalty, array.size, label)
        self.connect(converter, array.obj, node, None, None)

    @cached_property
    def _one(self):
        """What is always one.

        A neuron, because a node without input would be one of the network's inputs, which
        data are given for.
        """
        label = self.unique("one")
        return nengo.Ensemble(
            1,
            1,
            neuron_type=nengo.RectifiedLinear(),
            encoders=np.ones((1, 1)),
            gain=np.ones(1),
            bias=np.ones(1),
            label=label,
        ).neurons


def _short(variable):
    """The last part of a variable's name; without the number that Keras has counted."""
    name = variable.path.rpartition("/")[2]
    return re.sub(r"^variable_\d+$", "variable", name)


def _scaled(neurons, scale, path, options):
    """The neuron type whose output is divided by a factor, and the factor.

    For a wrapper such as `nengo.PoissonSpiking` it is the wrapper's own amplitude that
    is divided: its rate, which the amplitude does not change, is the scaled one.
    """
    if getattr(neurons, "amplitude", None) is None:
        options.warn(
            f"Converter: the firing rates of {path!r} are not scaled: {neurons} has "
            "no amplitude by which the output could be divided again"
        )
        return neurons, 1.0
    if not _is_homogeneous(neurons, scale):
        options.warn(
            f"Converter: scale_firing_rates={scale:g} changes what {path!r} computes: "
            f"the rate of {neurons} is not proportional to its input"
        )
    changes = {"amplitude": neurons.amplitude / scale}
    return _with(_with_ceiling(neurons, scale), **changes), scale


def _with(neurons, **changes):
    """A copy of a neuron type, which is read-only, with other attributes."""
    copy = type(neurons).__new__(type(neurons))  # pyright: ignore[reportCallIssue]  # of Nengo
    copy.__setstate__({**neurons.__getstate__(), **changes})
    return copy


def _with_ceiling(neurons, scale):
    """Neurons whose ceiling, or that of a base type, is higher by a factor."""
    base = getattr(neurons, "base_type", None)
    if base is not None:
        return _with(neurons, base_type=_with_ceiling(base, scale))
    if isinstance(neurons, ClippedReLU):
        return _with(neurons, max_value=neurons.max_value * scale)
    return neurons


def _is_homogeneous(neurons, scale):
    r"""Whether :math:`f(s J) = s f(J)`, on a few currents of both signs."""
    current = np.concatenate([-np.logspace(-2, 2, 9), np.logspace(-2, 2, 9)])[:, None]
    one, zero = np.ones(1), np.zeros(1)
    try:
        rates = neurons.rates(current, one, zero)
        scaled = _with_ceiling(neurons, scale).rates(scale * current, one, zero)
    except (NotImplementedError, ValueError):
        return False
    return bool(np.allclose(scaled, scale * rates))
