"""From a Keras model to a Nengo network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import nengo
import numpy as np
from nengo.synapses import Synapse

from nengo_dl.config import configure_settings
from nengo_dl.converter.activations import advice_for
from nengo_dl.converter.base import Array, LayerConverter, converters
from nengo_dl.converter.calibrate import rate_scales
from nengo_dl.converter.fallback import (
    NO_MASKS,
    Fallback,
    makes_mask,
    obstacle,
    report,
)
from nengo_dl.converter.graph_walk import LayerCall, walk
from nengo_dl.converter.lookup import KerasMapping
from nengo_dl.converter.making import InputNode, Maker
from nengo_dl.converter.options import Options
from nengo_dl.converter.summary import summary
from nengo_dl.converter.verify import verify

if TYPE_CHECKING:
    import keras

__all__ = ["Converter"]


class Conversion(NamedTuple):
    """What became of one call of a layer."""

    call: LayerCall
    converter: LayerConverter
    arrays: list
    reason: str | None


class Converter:
    """Turns a Keras model into a Nengo network with the same outputs.

    Layers become nodes, neurons and connections; those that have no such form become
    `.TensorNode` objects. The network takes flattened data, ``(items, steps, size)``.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional; with models inside it, several inputs and outputs,
        layers that are called several times. It is not changed.
    allow_fallback : bool
        False: raise a ``TypeError`` instead of making a TensorNode.
    inference_only : bool
        True: layers may be converted in a form that gives the same output, but is not
        trained in the same way. Batch normalization uses the moving averages, and dropout
        and noise are left out.
    max_to_avg_pool : bool
        True: maximum pooling becomes average pooling, which is native. It computes
        something else, so a model that was trained with maxima loses accuracy, perhaps
        nearly all of it, until it is trained again.
    split_shared_weights : bool
        Weights of a layer that is called several times stay one array, read by several
        connections (see `.converter.connections.TiedConnection`). True: each connection
        has its own copy. The output is the same; training makes them different.
    swap_activations : dict, optional
        Activation (a function such as ``keras.activations.relu``, its name, a neuron
        type, or a class of neuron types) -> the neuron type that takes its place.
    scale_firing_rates : float or dict, optional
        The input of neurons is multiplied by this factor, and their output divided by it.
        Rates are then higher by that factor and, with spikes, the output less noisy. A
        dict has factors by layer (or its name). It is exact where the rate is
        proportional to the input; elsewhere a warning tells that the output changes.
    synapse : float or ~nengo.synapses.Synapse, optional
        Filter on the output of all neurons. A number is the time constant of a lowpass
        filter, in seconds.
    temporal_model : bool
        True: axis 1 of the inputs is time, and its steps become those of the simulation.
        Recurrent layers run step by step.

    Attributes
    ----------
    model : keras.Model
    net : ~nengo.Network
    inputs : KerasMapping
        Input tensors and layers (or names) -> `nengo.Node`.
    outputs : KerasMapping
        Output tensors and their layers (or names) -> `nengo.Probe`.
    layers : KerasMapping
        Layers and their output tensors (or names) -> the Nengo object with the output.

    Raises
    ------
    TypeError
        If the model is not made of symbolic tensors, or a layer cannot be converted.
    ValueError
        If the shape of an input is not known.

    Notes
    -----
    Weights of the network are trained exactly if they are trainable in Keras. Biases are
    connections from a constant neuron, so that the parameters of two conversions of one
    model can be exchanged with ``save_params`` and ``load_params``, whatever scales,
    synapses and types of neurons they have. Gains and encoders have no equivalent, and
    are not trained. Regularizers and constraints of layers are part of the training,
    except with ``inference_only``.

    Examples
    --------
    >>> inputs = keras.Input((4,))
    >>> outputs = keras.layers.Dense(2, activation="relu")(inputs)
    >>> converter = nengo_dl.Converter(keras.Model(inputs, outputs))
    >>> with nengo_dl.Simulator(converter.net) as sim:
    ...     y = sim.predict({converter.inputs[inputs]: np.ones((1, 1, 4))})
    >>> y[converter.outputs[outputs]].shape
    (1, 1, 2)
    """

    def __init__(
        self,
        model: keras.Model,
        allow_fallback: bool = True,
        inference_only: bool = False,
        max_to_avg_pool: bool = False,
        split_shared_weights: bool = False,
        swap_activations: Mapping[Any, Any] | None = None,
        scale_firing_rates: float | Mapping[Any, float] | None = None,
        synapse: float | Synapse | None = None,
        temporal_model: bool = False,
    ) -> None:
        self.options = Options(
            allow_fallback,
            inference_only,
            max_to_avg_pool,
            split_shared_weights,
            swap_activations,
            scale_firing_rates,
            synapse,
            temporal_model,
        )
        self.model = model
        self.graph = walk(model)
        self._convert()

    def _convert(self):
        """Make the objects of the network, layer by layer."""
        self.inputs = KerasMapping("inputs")
        self.outputs = KerasMapping("outputs")
        self.layers = KerasMapping("layers")
        self.conversions = []
        self.objects = {}
        self.probes = []
        self.temporal_probes = set()
        self._arrays = {}
        self._notes = {}
        names = self.graph.names
        self.net = nengo.Network(label=names[self.model])
        # what files may have numbers of Keras behind, see simulator/files.py
        self.net.numbered_names = names.automatic
        self.net.older_probe_names = {}  # see training/data.py
        with self.net:
            self._settings()
            self._maker = Maker(
                self.net,
                self.options,
                self._activation_fallback,
                self.graph.calls,
                names,
            )
            for value, tensor in zip(self.graph.inputs, self.model.inputs, strict=True):
                self._add_input(value, tensor)
            self._refuse_masks()
            for call in self.graph.calls:
                self._add_call(call)
            for value, tensor in zip(self.graph.outputs, self.model.outputs, strict=True):
                self._add_output(value, tensor)
        self.inputs.add_names(getattr(self.model, "_inputs_struct", None))
        self.outputs.add_names(getattr(self.model, "_outputs_struct", None))
        self.net.advice = self._advice()
        for argument, key in self.options.unused():
            self.options.warn(
                f"Converter: {argument}[{key!r}] had no effect; no layer of "
                f"{self.model.name!r} has it"
            )

    # checking and describing -----------------------------------------------------

    def __repr__(self) -> str:
        fallbacks = sum(self.why_fallback(c) is not None for c in self.conversions)
        return (
            f"<{type(self).__name__} of {self.model.name!r}: {len(self.conversions)} "
            f"layers, {fallbacks} with a TensorNode, {self.net.n_neurons} neurons>"
        )

    def verify(
        self,
        training: bool = False,
        inputs: Any = None,
        atol: float = 1e-8,
        rtol: float = 1e-5,
    ) -> bool:
        """Compare the network with the Keras model.

        Parameters
        ----------
        training : bool
            True: train both for two epochs by gradient descent on made-up targets,
            and compare what they compute then. Neither of them is changed.
        inputs : array or list or dict of array, optional
            As Keras takes them, ``(items, …)``. Default: four items, made up.
        atol, rtol : float
            Each element may differ by ``atol + rtol * scale``, where the scale is the
            largest value that Keras gives for this element in all items and steps. If it
            differs by more, and ``rtol`` is at least the default, also by what rounding
            explains: it is measured how much the outputs of the model change with the
            last bits of its weights and inputs.

        Returns
        -------
        bool
            True.

        Raises
        ------
        ValueError
            If an output differs by more; tells the largest difference.

        Notes
        -----
        A network that spikes, is filtered by a synapse, or has other activations than the
        model, computes something else by intention.
        """
        return verify(self, training, inputs, atol, rtol)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table: layer, what it became, neurons, parameters, why a TensorNode.

        Parameters
        ----------
        print_fn : callable
            Is given the text.
        """
        print_fn(summary(self))

    def calibrate(
        self, data: Any, percentile: float = 99.9, rate: float = 250.0
    ) -> dict[Any, float]:
        r"""Choose ``scale_firing_rates`` for each layer by its activations on data.

        .. math:: c = \frac{r}{P_p(|a|)}

        where :math:`a` are a layer's activations on the data, and :math:`P_p` is a
        percentile of them (of a layer that is called several times, the largest of those
        of its calls). Neurons with a rate proportional to their input then fire at
        ``rate`` there; a maximum would be set by a few outliers, and leave the rest slow.
        Makes `net`, `inputs`, `outputs` and `layers` anew.

        Parameters
        ----------
        data : array or list of array
            Samples of the inputs, as Keras takes them. They go through the model in small
            batches, so there may be many.
        percentile : float
            :math:`p`, in (0, 100].
        rate : float
            :math:`r`, in Hz. More than one spike in a time step is due above
            ``1 / dt``.

        Returns
        -------
        dict
            Layer -> factor, as ``scale_firing_rates`` takes it.

        References
        ----------
        P. U. Diehl et al. (2015). Fast-classifying, high-accuracy spiking deep networks
        through weight and threshold balancing. IJCNN.

        B. Rueckauer et al. (2017). Conversion of continuous-valued deep networks to
        efficient event-driven networks for image classification. Frontiers in
        Neuroscience 11:682.
        """
        scales = rate_scales(self, data, percentile, rate)
        self.options.scales = dict(scales)
        self.options.scale = 1
        self.options.used.update(id(layer) for layer in scales)
        self._convert()
        return scales

    @property
    def scales(self) -> dict[Any, float]:
        """Neurons -> the factor by which their input is scaled."""
        return self._maker.scales

    @property
    def neuron_calls(self) -> dict[Any, Any]:
        """Neurons -> the call of a layer that they were made for."""
        return self._maker.calls

    def why_fallback(self, conversion: Conversion) -> str | None:
        """Why a ``conversion``, or a part of it, is a TensorNode; None if it is not."""
        inside = f"{conversion.call.path}/"
        reasons = (
            reason
            for call, reason in self._notes.items()
            if call is conversion.call or call.path.startswith(inside)
        )
        return next(reasons, None)

    @staticmethod
    def register(*keras_classes: type) -> Callable[[type], type]:
        """Class decorator: this `.converter.LayerConverter` converts these layers.

        Also layers of subclasses, unless they have an entry of their own.

        Parameters
        ----------
        *keras_classes : type
            Subclasses of ``keras.layers.Layer`` (or of ``keras.Operation``).

        Raises
        ------
        TypeError
            If the decorated class is none, or its ``convert`` takes arguments, as in
            NengoDL 3.
        """
        for keras_class in keras_classes:
            if not isinstance(keras_class, type):
                raise TypeError(
                    "Converter.register: expected classes of Keras layers, got "
                    f"{keras_class!r}"
                )

        def decorate(cls):
            if not (isinstance(cls, type) and issubclass(cls, LayerConverter)):
                raise TypeError(
                    "Converter.register: expected a subclass of nengo_dl.converter."
                    f"LayerConverter, got {cls!r}"
                )
            _refuse_older(cls)
            return converters.register(*keras_classes)(cls)

        return decorate

    # the network -----------------------------------------------------------------

    def _settings(self):
        """Only what comes from a trainable Keras variable is trained."""
        configure_settings(trainable=None)
        self.net.config[nengo.Ensemble].trainable = False
        self.net.config[nengo.ensemble.Neurons].trainable = False
        if any(value.dtype == "float64" for value in self.graph.inputs):
            configure_settings(dtype="float64")

    def _advice(self):
        """What a simulator is going to warn of: neurons that hardly ever spike."""
        slow = {
            call.path: neurons.ensemble.neuron_type
            for neurons, call in self.neuron_calls.items()
            if self.scales[neurons] == 1 and _is_slow(neurons.ensemble.neuron_type)
        }
        if not slow:
            return ()
        (first, *rest), kind = slow, next(iter(slow.values()))
        others = f" and {len(rest)} more layers" if rest else ""
        return (
            f"the neurons of the layer {first!r}{others} spike {_rate_at_one(kind):.3g} "
            "times in a second at an activation of 1, so most of them are silent unless "
            "the simulation is long. Converter.calibrate(data) chooses firing rates from "
            "activations; or give scale_firing_rates (docs/converter.rst, Neurons that "
            "spike)",
        )

    def _refuse_masks(self):
        """Before the operations that Keras adds for them, which nobody has written."""
        for call in self.graph.calls:
            layer = call.operation
            if makes_mask(layer) and type(layer) not in dict(converters.items()):
                raise TypeError(
                    f"Converter: the layer {call.path!r} ({type(layer).__name__}) cannot "
                    f"be converted: {NO_MASKS}"
                )

    def _shape(self, value, name):
        """Shape without batch, and without time in temporal models."""
        shape = value.shape[2 if self.options.temporal_model else 1 :]
        if self.options.temporal_model and len(value.shape) < 3:
            raise ValueError(
                f"Converter: the input {name!r} has shape {value.shape}; with "
                "temporal_model=True expected (batch, time, …)"
            )
        if None in shape:
            raise ValueError(
                f"Converter: the input {name!r} has shape {value.shape}; all axes but "
                "the first have to be known"
                + (" (and time)" if self.options.temporal_model else "")
            )
        return tuple(shape)

    def _add_input(self, value, tensor):
        name = tensor._keras_history.operation.name
        shape = self._shape(value, name)
        label = self._maker.unique(self.graph.names[tensor._keras_history.operation])
        size = int(np.prod(shape, dtype=int))
        node = InputNode(np.zeros(size), item_shape=shape, label=label)
        self.objects[value] = node
        self._arrays[value] = Array(node, shape, self.options.temporal_model)
        layer, names = _names(value, tensor)
        self.inputs.add(node, tensor, names)
        self.layers.add(node, layer, (*names, tensor))

    def _add_call(self, call):
        arrays, converter, reason = self.convert_call(
            call, [self._arrays[value] for value in call.inputs]
        )
        layer = call.operation
        self._arrays.update(zip(call.outputs, arrays, strict=True))
        self.objects.update((v, self._arrays[v].obj) for v in call.outputs)
        self.conversions.append(Conversion(call, converter, arrays, reason))
        for value, array in zip(call.outputs, arrays, strict=True):
            self.layers.add(array.obj, layer, (*value.tensors, layer.name, call.path))

    def convert_call(
        self, call: Any, inputs: list[Array], within: LayerConverter | None = None
    ) -> tuple[list[Array], LayerConverter, str | None]:
        """Convert one call of a layer.

        Parameters
        ----------
        call : LayerCall
        inputs : list of Array
        within : LayerConverter, optional
            That of the layer around it which calls it for each entry of an axis.

        Returns
        -------
        arrays : list of Array
            The outputs.
        converter : LayerConverter
        reason : str or None
            Why it became a TensorNode; None if it did not.
        """
        layer = call.operation
        converter, reason = self._choose(call, inputs)
        if converter is None or reason is not None:
            self._notes[call] = reason
            temporal = any(array.temporal for array in inputs)
            problem = obstacle(call, temporal)
            if problem is not None:
                raise TypeError(
                    f"Converter: the layer {call.path!r} ({type(layer).__name__}) cannot "
                    f"be converted: {reason}. Nor can it be a TensorNode: {problem}"
                )
            report(call, reason or "", self.options)
            converter = Fallback(call, inputs, self._maker)
        objects = converter.convert()
        objects = objects if isinstance(objects, list) else [objects]
        shapes = converter.output_shapes
        if len(objects) != len(shapes) or None in objects:
            raise ValueError(
                f"Converter: {type(converter).__name__}.convert gave {objects} for "
                f"{call.path!r}; expected a Nengo object for each of its outputs, which "
                f"have the shapes {shapes}"
            )
        arrays = [
            Array(obj, shape, converter.temporal)
            for obj, shape in zip(objects, shapes, strict=True)
        ]
        for array in arrays:
            if array.obj.size_out != array.size:
                raise ValueError(
                    f"Converter: {type(converter).__name__} gave an object of size "
                    f"{array.obj.size_out} for an output of {call.path!r} with shape "
                    f"{array.shape}"
                )
        if reason is None:
            self._penalize(converter, arrays, within)
        return arrays, converter, reason

    def _choose(
        self, call: LayerCall, inputs: list[Array]
    ) -> tuple[LayerConverter | None, str | None]:
        """The converter for a call, and why there is none."""
        layer = call.operation
        cls = converters.find(type(layer))
        if cls is None:
            return None, f"there is no converter for {type(layer).__name__}"
        own = next(c for c in type(layer).__mro__ if converters.exact(c) is not None)
        if type(layer).call is not own.call:
            return None, f"{type(layer).__name__} has a call method of its own"
        converter = cls(call, inputs, self._maker)
        converter.convert_call = self.convert_call
        if converter.temporal and not converter.works_per_step:
            return None, "it does not treat each time step by itself"
        return converter, converter.refusal()

    def _penalize(self, converter, arrays, within):
        """Add the activity regularizer of a layer, as far as Keras would."""
        layer = converter.layer
        if getattr(layer, "activity_regularizer", None) is None:
            return
        if self.options.inference_only or (within and layer is within.layer.layer):
            return  # Keras does not ask the latter for its losses
        for array in arrays:
            steps = "last" if self.options.temporal_model else "mean"
            if array.temporal or (within and within.temporal):
                steps = "axis"
            self._maker.penalize_activity(converter, array, steps)

    def _activation_fallback(self, converter, activation, node):
        names = (getattr(activation, key, None) for key in ("__name__", "name"))
        name = next(filter(None, names), repr(activation))
        call = converter.call
        reason = (
            f"there is no neuron type for the activation {name!r} (the rest is native)"
            + advice_for(name)
        )
        self._notes[call] = reason
        report(call, reason, self.options)
        return Fallback(call, converter.inputs, self._maker).activation(activation, node)

    def _add_output(self, value, tensor):
        array = self._arrays[value]
        layer, names = _names(value, tensor)
        if tensor in self.outputs:
            self.probes.append(self.outputs[tensor])
            return
        synapse = self.options.synapse if array.spikes else None
        label = self._maker.unique(f"{self.graph.names[layer]}_output")
        probe = nengo.Probe(array.obj, synapse=synapse, label=label)
        count = len(self.net.older_probe_names)
        self.net.older_probe_names[probe] = f"probe_{count}" if count else "probe"
        if self.options.temporal_model and not array.temporal:
            configure_settings(keep_history=True)
            self.net.config[probe].keep_history = False
        self.probes.append(probe)
        if array.temporal:
            self.temporal_probes.add(probe)
        self.outputs.add(probe, tensor, names)

    def array(self, tensor: Any) -> Array:
        """The Nengo object and the shape that stand for a symbolic ``tensor``."""
        for value, array in self._arrays.items():
            if any(tensor is other for other in value.tensors):
                return array
        raise KeyError(f"{tensor!r} is not part of {self.model.name!r}")


#: rates, in Hz, below which neurons are called slow
SLOW = 20.0


def _is_slow(neurons):
    """Whether spikes are few where the activation is one."""
    return neurons.spiking and 0 < _rate_at_one(neurons) <= SLOW


def _rate_at_one(neurons):
    """The rate of spikes at an input of one, in Hz; 0 if it is not known."""
    try:
        rate = neurons.rates(np.ones((1, 1)), np.ones(1), np.zeros(1))
    except (NotImplementedError, ValueError):
        return 0.0
    return float(np.squeeze(rate)) / abs(getattr(neurons, "amplitude", None) or 1)


def _refuse_older(cls):
    """Say what has become of the layer converters of NengoDL 3."""
    try:
        inspect.signature(cls.convert).bind(None)
    except TypeError:
        arguments = inspect.signature(cls.convert)
        raise TypeError(
            f"Converter.register: {cls.__name__}.convert{arguments} takes arguments, as "
            "in NengoDL 3 (convert(self, node_id)). Today an object is made for each "
            "call of a layer: write convert(self) and return a Nengo object, or a list "
            "with one for each output. self.node(size) takes the place of "
            "add_nengo_obj, self.connect(target) that of add_connection, "
            "self.output_shape that of output_shape(node_id), and refusal(self), which "
            "gives a reason or None, that of convertible; docs/converter.rst has an "
            "example"
        ) from None


def _names(value, tensor):
    """The layer that a tensor comes from, and all keys that a value is looked up by."""
    layers = [other._keras_history.operation for other in (tensor, *value.tensors)]
    names = [*value.tensors, *layers, *(layer.name for layer in layers)]
    unique = {name if isinstance(name, str) else id(name): name for name in names}
    unique.pop(id(tensor), None)
    return layers[0], list(unique.values())
