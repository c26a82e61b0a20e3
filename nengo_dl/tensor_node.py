"""TensorFlow functions, Keras layers and Keras models inside a Nengo network."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import nengo
import numpy as np
from nengo import Connection, Ensemble, Network, Node
from nengo.builder import Builder as CoreBuilder
from nengo.builder import Signal
from nengo.builder.operator import Reset
from nengo.dists import Distribution
from nengo.exceptions import BuildError, SimulationError, ValidationError
from nengo.neurons import NeuronType
from nengo.params import BoolParam, Default, Parameter

from nengo_dl.builder import NengoBuilder
from nengo_dl.compiler.lowering import rule_of
from nengo_dl.config import configure_settings, get_setting
from nengo_dl.kernels.tensor_function import SimTensorNode, wrong_arguments
from nengo_dl.notices import warn

#: stands for what Nengo's config says; typed as anything, since it takes the place of
#: arguments of all types
_DEFAULT: Any = Default


class _ShapeParam(Parameter):
    """A tuple of whole numbers of at least 1, or None."""

    def coerce(self, instance: Any, value: Any) -> Any:
        """Make a tuple of a shape, or refuse what is none."""
        if value is None:
            return None
        sizes = tuple(value) if np.iterable(value) else (value,)
        whole = all(isinstance(s, int | np.integer) for s in sizes)
        if not whole or isinstance(value, str) or min(sizes, default=0) < 1:
            raise ValidationError(
                f"expected the shape of one item, without the batch, such as (28, 28); "
                f"got {value!r}",
                attr=self.name,
                obj=instance,
            )
        return tuple(int(s) for s in sizes)


class _FunctionParam(Parameter):
    """Something that can be called."""

    def coerce(self, instance: Any, value: Any) -> Any:
        """Return the function or layer; refuse anything else."""
        if callable(value) and not isinstance(value, type):
            return value
        got = repr(value)
        if isinstance(value, type):
            got = f"the class {value.__name__}. Give an instance, {value.__name__}(...)"
        raise ValidationError(
            f"expected a function of tensors, a Keras layer or a Keras model; got {got}",
            attr=self.name,
            obj=instance,
        )


class _NotInCore:
    """Stands for the output of a `TensorNode` where core Nengo looks for a function."""

    def __call__(self, t: float, x: Any = None) -> Any:
        raise SimulationError(
            "a TensorNode cannot be called as a function of NumPy arrays; simulate its "
            "network with nengo_dl.Simulator"
        )


class TensorNode(Node):
    """A TensorFlow function, Keras layer or Keras model as part of a network.

    Parameters
    ----------
    tensor_func : callable
        ``f(t, x)``, ``f(t)`` if there is no ``shape_in``, or ``f(x)`` with
        ``pass_time=False``. It may be a Keras layer or model. ``t`` is the time in
        seconds, a scalar tensor; ``x`` a tensor ``(batch,) + shape_in``. It returns a
        tensor ``(batch,) + shape_out``. A function with an argument ``training`` is told
        whether the network is being trained.
    shape_in : tuple of int, optional
        Shape of the input of one item. None: there is no input. Connections see it
        flattened, in C order.
    shape_out : tuple of int, optional
        Shape of the output of one item, which connections see flattened. By default it
        is found out by trying the function out.
    pass_time : bool
        Whether the function is given the time. If so, it runs once for each step; if
        not, and it is not part of a recurrent loop, it is called once for many steps,
        which is much faster. A Keras layer or model with one input is given that alone
        in any case.
    label : str, optional

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there is neither time nor input; if the function does not return a tensor, or
        one of another batch size, shape or type than expected.

    Notes
    -----
    Weights of Keras layers are trained together with the network, if the layer and the
    setting ``trainable`` of the node allow it, and keep the values that they have. The
    variables are those of the layer: what is trained here can be used outside. Plain
    functions may call Keras layers that were made outside of them; other
    ``tf.Variable`` objects in them are constants to the training.

    In a recurrent loop the function is compiled by XLA together with the rest.

    What layers hand to ``add_loss`` in a call, activity regularization included, is added
    to the loss of ``fit`` and ``evaluate``: as it is, if the function is called once for
    all steps, else its mean over the steps. So are regularizers of their weights, and
    constraints are obeyed.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Node([0.5, -0.1])
    ...     b = nengo_dl.TensorNode(tf.exp, shape_in=(2,), pass_time=False)
    ...     nengo.Connection(a, b, synapse=None)
    ...     p = nengo.Probe(b)
    """

    tensor_func = _FunctionParam("tensor_func", readonly=True)
    shape_in: Any = _ShapeParam("shape_in", default=None, optional=True, readonly=True)
    shape_out: Any = _ShapeParam("shape_out", default=None, optional=True, readonly=True)
    pass_time = BoolParam("pass_time", default=True, readonly=True)
    _functions: dict[str, Any]
    _place = (None, 0)  # the seed of the outermost network, and how many nodes it had

    def __init__(
        self,
        tensor_func: Callable[..., Any],
        shape_in: int | Sequence[int] | None = _DEFAULT,
        shape_out: int | Sequence[int] | None = _DEFAULT,
        pass_time: bool = _DEFAULT,
        label: str | None = _DEFAULT,
    ) -> None:
        self._functions = {}
        if Network.context:
            outermost = Network.context[0]
            self._place = outermost.seed, len(outermost.all_nodes)
        self.tensor_func = tensor_func
        self.shape_in = shape_in
        if self.shape_in is not None and _is_layer_of_one(tensor_func):
            pass_time = False
        self.pass_time = pass_time
        if self.shape_in is None and not self.pass_time:
            raise ValidationError(
                "without a shape_in the function needs the time; give a shape_in, or "
                "leave out pass_time=False",
                attr="pass_time",
                obj=self,
            )
        expected = _ShapeParam("shape_out", default=None, optional=True).coerce(
            self, None if shape_out is Default else shape_out
        )
        if expected is None:
            expected = self._tried_out(label)
        self.shape_out = expected
        super().__init__(
            output=_NotInCore(),
            size_in=0 if self.shape_in is None else math.prod(self.shape_in),
            size_out=math.prod(expected),
            label=label,
        )

    def _tried_out(self, label):
        outermost = Network.context[0] if Network.context else None
        function = self._function(get_setting(outermost, "dtype"), None, label)
        return function.shape_out or (1,)

    def function(self, dtype: Any) -> Any:
        """What calls it in a simulation with numbers of the type ``dtype``; checked."""
        function = self._function(dtype, self.shape_out, self.label)
        function.trace(False)
        return function.in_simulation()

    def _function(self, dtype, shape_out, label):
        from nengo_dl.runtime.tensorflow.tensor_function import TensorFunction

        key = str(np.dtype(dtype))
        if key not in self._functions:
            self._functions[key] = TensorFunction(
                self.tensor_func,
                self.shape_in,
                shape_out,
                self.pass_time,
                label if isinstance(label, str) else None,
                dtype,
                self._entropy(),
            )
        return self._functions[key]

    def _entropy(self):
        """What first weights follow: the seed of the network and the place in it."""
        seed, number = self._place
        return None if seed is None else [int(seed) % 2**64, number]


def _is_layer_of_one(function):
    """Whether it is a Keras layer that takes one argument, which is no place for time."""
    layer = getattr(getattr(sys.modules.get("keras"), "layers", None), "Layer", None)
    if layer is None or not isinstance(function, layer):
        return False
    call = function.call
    return not wrong_arguments(call, ["x"]) and bool(wrong_arguments(call, ["t", "x"]))


@CoreBuilder.register(TensorNode)
def refuse_tensor_node(model: Any, node: nengo.Node) -> None:
    """Say that core Nengo cannot build it."""
    raise BuildError(
        f"{node} is a TensorNode, which calls TensorFlow; nengo.Simulator cannot run it. "
        "Use nengo_dl.Simulator (to give it a model, make that with "
        "builder=nengo_dl.builder.NengoBuilder())"
    )


@NengoBuilder.register(TensorNode)
def build_tensor_node(model: Any, node: TensorNode) -> None:
    """Build a `TensorNode`: one operator, and a signal for each Keras variable.

    Sets ``model.params[node]`` to None.
    """
    function = node.function(get_setting(model, "dtype"))
    sig_in = None
    if node.size_in:
        sig_in = Signal(shape=node.size_in, name=f"{node}.in")
        model.add_op(Reset(sig_in))
    sig_out = Signal(shape=node.size_out, name=f"{node}.out")
    known = {
        id(variable): signal
        for op in model.operators
        if isinstance(op, SimTensorNode)
        for signal, variable in op.variables.items()
    }
    signals = {}
    for variable in function.variables:
        if "float" in str(variable.dtype):
            value = variable.numpy()
            if value.dtype.kind != "f":  # bfloat16, which is no type of NumPy's own
                value = value.astype(np.float32)
            signals[id(variable)] = known.get(id(variable)) or Signal(
                value, name=f"{node}.{variable.name}"
            )
    weights = [signals.pop(id(variable)) for variable in function.weights]
    rest = [v for v in function.variables if id(v) in signals]
    op = SimTensorNode(
        function,
        sig_out,
        t=model.time if node.pass_time else None,
        x=sig_in,
        states=[
            Signal(shape=math.prod(shape), name=f"{node}.state{i}")
            for i, shape in enumerate(function.state_shapes)
        ],
        weights=weights,
        others={signals[id(v)]: v for v in rest},
    )
    op.node = node
    model.add_op(op)
    model.sig[node]["in"], model.sig[node]["out"] = sig_in, sig_out
    model.params[node] = None


def layer_parameters(model: Any) -> Any:
    """The variables of Keras layers in a model.

    Parameters
    ----------
    model : ~nengo.builder.Model

    Yields
    ------
    nodes : list of TensorNode
        Those that use it; the variable is named after the first.
    name : str
        Unique among the variables of a node, whatever Keras calls its layers.
    signal : ~nengo.builder.Signal
    variable : keras.Variable
    """
    users, variables = {}, {}
    for op in model.operators:
        if isinstance(op, SimTensorNode):
            for signal, variable in op.variables.items():
                users.setdefault(signal, []).append(op.node)
                variables[signal] = variable
    count = Counter()
    for signal, variable in variables.items():
        node = users[signal][0]
        # Keras counts variables without a name through the whole process
        name = re.sub(r"^variable_\d+$", "variable", variable.name)
        count[node, name] += 1
        number = count[node, name]
        if number > 1:
            name = f"variable_{number - 1}" if name == "variable" else f"{name}#{number}"
        yield users[signal], name, signal, variable


class Layer:
    """Applies functions, layers and neuron types to the output of Nengo objects.

    Parameters
    ----------
    layer_func : callable or keras.layers.Layer or ~nengo.neurons.NeuronType
        See `TensorNode`. Of a neuron type an ensemble is made.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Node(np.zeros(5))
    ...     x = nengo_dl.Layer(keras.layers.Dense(units=10))(a)
    ...     x = nengo_dl.Layer(nengo.LIF())(x)
    ...     p = nengo.Probe(x)
    """

    def __init__(self, layer_func: Callable[..., Any] | NeuronType) -> None:
        self.layer_func = layer_func

    def __call__(
        self,
        input: Any,
        transform: Any = None,
        shape_in: int | Sequence[int] | None = None,
        synapse: Any = None,
        return_conn: bool = False,
        **layer_args: Any,
    ) -> Any:
        """Connect an object to a new `TensorNode` or ensemble.

        The connection is not trainable.

        Parameters
        ----------
        input : Nengo object
            What the layer is applied to: anything that connections can start from.
        transform : array or ~nengo.transforms.Transform, optional
            Of the connection.
        shape_in : tuple of int, optional
            Shape of the layer's input; by default flat, as large as what the
            connection gives.
        synapse : ~nengo.synapses.Synapse or float, optional
            Of the connection.
        return_conn : bool
            Also return the connection.
        **layer_args
            For the `TensorNode` (then without ``pass_time`` unless that is given) or
            the `~nengo.Ensemble`.

        Returns
        -------
        TensorNode or ~nengo.ensemble.Neurons
            Or a pair of it and the connection.
        """
        size_in = _size_given(input, transform, self)
        if shape_in is not None:
            shape_in = tuple(shape_in) if np.iterable(shape_in) else (shape_in,)
            fits = isinstance(transform, Distribution)  # to any size
            if not fits and math.prod(shape_in) != size_in:
                raise ValidationError(
                    f"shape_in={shape_in} has {math.prod(shape_in)} numbers, but the "
                    f"connection from {input} gives {size_in}. Expected a shape with as "
                    f"many, such as ({size_in},), or a transform to that size",
                    attr="shape_in",
                    obj=self,
                )
        if isinstance(self.layer_func, NeuronType):
            size_in = size_in if shape_in is None else math.prod(shape_in)
            neuron_type = self.layer_func
            obj = Ensemble(size_in, 1, neuron_type=neuron_type, **layer_args).neurons
        else:
            shape_in = (size_in,) if shape_in is None else shape_in
            layer_args.setdefault("pass_time", False)
            obj = TensorNode(self.layer_func, shape_in=shape_in, **layer_args)
        options = {} if transform is None else {"transform": transform}
        conn = Connection(input, obj, synapse=synapse, **options)
        _fix(conn)
        return (obj, conn) if return_conn else obj

    def __str__(self) -> str:
        return f"Layer({self.layer_func})"


def _size_given(source, transform, layer):
    """How many numbers a connection from an object with a transform gives."""
    if not hasattr(source, "size_out"):
        found, way_out = repr(source), ""
        if isinstance(source, list | tuple):
            found = f"a {type(source).__name__} of {len(source)}"
            way_out = (
                ". For a layer of several inputs, connect them to parts of one "
                "nengo.Node(size_in=...), and give a function that takes them apart: "
                "Layer(lambda x: f(tf.split(x, [2, 3], axis=1)))(node)"
            )
        raise ValidationError(
            f"expected one Nengo object that connections can start from, got {found}"
            + way_out,
            attr="input",
            obj=layer,
        )
    size = getattr(transform, "size_out", None)
    if size is not None:
        return size
    if np.ndim(transform) == 2:
        return np.shape(transform)[0]
    return source.size_out


def _fix(conn):
    """Make a connection not trainable."""
    config = Network.context[-1].config
    known = Connection in config.params
    if not known or "trainable" not in config[Connection].extra_params:
        configure_settings(trainable=None)
    config[conn].trainable = False


def tensor_layer(input: Any, layer_func: Any, **kwargs: Any) -> Any:
    """Older spelling of ``Layer(layer_func)(input, **kwargs)``.

    Parameters
    ----------
    input : Nengo object
    layer_func : callable or class or ~nengo.neurons.NeuronType
        A function, a class of Keras layers, or what `Layer` is given.
    **kwargs
        See `Layer`. What it does not know are arguments of the function or the class.
    """
    warn(
        "nengo_dl.tensor_layer(x, f, ...) is deprecated; use nengo_dl.Layer(f)(x, ...)",
        DeprecationWarning,
    )
    if not isinstance(layer_func, NeuronType):
        known = {"transform", "shape_in", "synapse", "return_conn"}
        known |= {"shape_out", "pass_time", "label"}
        own = {name: kwargs.pop(name) for name in list(kwargs) if name not in known}
        if isinstance(layer_func, type):
            layer_func = layer_func(**own)
        elif own:
            layer_func = functools.partial(layer_func, **own)
    return Layer(layer_func)(input, **kwargs)


def layers_of(model: Any) -> Any:
    """The Keras layers in a model, and the Keras variables of plain functions in it.

    Parameters
    ----------
    model : ~nengo.builder.Model

    Returns
    -------
    list of keras.layers.Layer or keras.Variable
    """
    found = {}
    for op in model.operators:
        if isinstance(op, SimTensorNode):
            layer = op.function.layer
            for obj in op.function.variables if layer is None else [layer]:
                found[id(obj)] = obj
    return list(found.values())


def add_losses(model: Any, training: bool) -> Any:
    """Whether operators of a model add losses to those of training.

    Parameters
    ----------
    model : ~nengo.builder.Model
    training : bool
        Or of testing.
    """
    rules = ((rule_of(op), op) for op in model.operators)
    return any(rule.penalizes(op, training) for rule, op in rules if rule is not None)


class TrainsSome:
    """For Keras layers: some variables of the layers inside are not trained.

    Attributes
    ----------
    untrained : frozenset of int
        What ``id`` gives for these variables.
    """

    untrained = frozenset()

    def _are_trained(self, trained, variables):
        return [v for v in variables if (id(v) in self.untrained) != trained]

    @property
    def trainable_variables(self) -> Any:
        """What training changes of the layer."""
        return self._are_trained(True, super().trainable_variables)  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers

    @property
    def trainable_weights(self) -> Any:
        """What training changes of the layer."""
        return self._are_trained(True, super().trainable_weights)  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers

    @property
    def non_trainable_variables(self) -> Any:
        """What training does not change, or not by gradients."""
        inside = self._are_trained(False, super().trainable_variables)  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers
        return [*super().non_trainable_variables, *inside]  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers

    @property
    def non_trainable_weights(self) -> Any:
        """What training does not change, or not by gradients; no random seeds."""
        inside = self._are_trained(False, super().trainable_weights)  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers
        return [*super().non_trainable_weights, *inside]  # pyright: ignore[reportAttributeAccessIssue]  # a mixin of layers
