"""Data that users hand in: values for input nodes and targets for probes.

Every array has shape ``(batch, steps, size)``. One array, a list or a dictionary of
them becomes a dictionary with the Nengo objects as keys, after all shapes were checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Connection, Ensemble, Node, Probe
from nengo.base import ObjView
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError
from nengo.rc import rc

from nengo_dl.notices import label_of, warn
from nengo_dl.tensor_node import TensorNode
from nengo_dl.training.advice import (
    check_data,
    check_targets,
    is_finite,
    of_keras,
    way_out_of_overflow,
)
from nengo_dl.training.mapped import is_in_file

if TYPE_CHECKING:
    from nengo import Network

#: Key by which a dictionary of input data may also hold the number of steps; and the
#: name of the Keras model's input that tells it, if there is no node that is given data.
N_STEPS = "n_steps"


class Symbol:
    """An array of which only the shape and the type are known.

    Elements of a ``tf.data.Dataset`` are checked as such, before there are any.

    Parameters
    ----------
    shape : tuple of int or None
        None for an axis whose length is not known.
    tensor : optional
        What it stands for.
    any_rank : bool
        Whether not even the number of axes is known; ``shape`` is the usual one then.
    """

    def __init__(
        self,
        shape: Iterable[int | None],
        dtype: Any,
        tensor: Any = None,
        any_rank: bool = False,
    ) -> None:
        self.shape, self.dtype, self.tensor = tuple(shape), np.dtype(dtype), tensor
        self.ndim, self.any_rank = len(self.shape), any_rank

    def astype(self, dtype: Any, copy: bool = False) -> Symbol:
        """A symbol of another type; its tensor stays what it is."""
        return Symbol(self.shape, dtype, self.tensor, self.any_rank)


def input_nodes(network: Network | None) -> list[Node]:
    """The nodes that data can be given for.

    Returns all nodes with ``size_in == 0`` and ``size_out > 0`` but `TensorNode`, those
    of inner networks included, in the order of ``network.all_nodes``.
    """
    nodes = [] if network is None else network.all_nodes
    return [
        node
        for node in nodes
        if node.size_in == 0 and node.size_out > 0 and not isinstance(node, TensorNode)
    ]


def unique_names(
    objects: Iterable[Any], default_prefix: str | None = None
) -> dict[Any, str]:
    """A name for each object, without those characters that Keras does not allow.

    ``default_prefix``: the name of objects without a label. Default: the name of their
    class, in lower case. Returns the name of each object: its label with ``/`` replaced
    by ``_``. A name that occurred before gets the first free number: ``probe``,
    ``probe_1``, ``probe_2``.
    """
    wanted = {}
    for obj in objects:
        label = getattr(obj, "label", None) or default_prefix
        wanted[obj] = (label or type(obj).__name__.lower()).replace("/", "_")

    names, taken = {}, set()
    reserved = set(wanted.values())  # a label "a_1" is not given to the second "a"
    for obj, base in wanted.items():
        name, number = base, 0
        while name in taken or (number and name in reserved):
            number += 1
            name = f"{base}_{number}"
        names[obj] = name
        taken.add(name)
    return names


def nodes_names(nodes: Iterable[Node]) -> dict[Node, str]:
    """Names of input nodes (see `unique_names`)."""
    return unique_names(nodes, "node")


def probes_names(probes: Iterable[Probe]) -> dict[Probe, str]:
    """Names of probes (see `unique_names`)."""
    return unique_names(probes, "probe")


def resolve_data(
    data: Any,
    nodes: Sequence[Node],
    minibatch_size: int | None = None,
    n_steps: int | None = None,
    where: str = "Simulator.run_steps",
    names: dict[Node, str] | None = None,
    dtype: Any = None,
    one_item: bool = False,
) -> tuple[dict[Any, Any], int | None]:
    """Check data for input nodes.

    Parameters
    ----------
    data : array_like or list or tuple or dict or None
        One array (of a network with one input), a list of arrays in the order of
        ``nodes``, or a dictionary keyed by node or by the node's name or label. Under
        the key ``"n_steps"`` a dictionary may hold the number of steps.
    nodes : list of ~nengo.Node
        The network's inputs, see `input_nodes`.
    minibatch_size : int, optional
        The number of items expected on the first axis; any number is taken by default.
    n_steps : int, optional
        The number of steps expected on the second axis; if None, it is found from the
        data.
    where : str
        The method that the data were given to, for error messages.
    names : dict, optional
        The names of the nodes. Default: `nodes_names`.
    dtype : dtype, optional
        The type of the arrays that are returned. Default: that of the given arrays if
        it is a floating point type, else Nengo's.
    one_item : bool
        Also take arrays ``(steps, size)``, of one item.

    Returns
    -------
    arrays : dict
        An array ``(batch, steps, node.size_out)`` for each node that data were given
        for.
    n_steps : int or None
        The number of steps; None if neither data nor ``n_steps`` tell it.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If data are of the wrong rank, size or type, are NaN or infinite, differ in their
        number of items or steps, or are for something that is not an input.

    Warns
    -----
    UserWarning
        If a list is shorter or longer than the number of inputs.

    Examples
    --------
    >>> with nengo.Network():
    ...     stimulus = nengo.Node([0, 0], label="stimulus")
    >>> arrays, n_steps = resolve_data({"stimulus": np.ones((32, 100, 2))}, [stimulus])
    >>> arrays[stimulus].shape, n_steps
    ((32, 100, 2), 100)
    """
    kind = _Kind("data", "Node", "input", where, names or nodes_names(nodes), "size_out")
    if isinstance(data, Mapping) and N_STEPS in data and N_STEPS not in kind.keys:
        data = dict(data)
        n_steps = _steps_entry(data.pop(N_STEPS), n_steps, where)
    if isinstance(data, list | tuple) and len(data) != len(nodes):
        warn(
            f"{where}: got a list of {len(data)} arrays for {len(nodes)} input nodes; "
            + (
                "those left over are not used; leave them out"
                if len(data) > len(nodes)
                else "nodes without data run their own output; a dict by node tells "
                "which are meant"
            )
            + f". {kind.listing()}"
        )
        data = data[: len(nodes)]

    arrays = {}
    if _is_one_of_many(data, nodes):
        data = _chosen(kind, data, nodes, "nodes without data run their own output")
    for node, value in _by_object(kind, data).items():
        given: Any = _numeric(kind, node, value)
        array: Any = given
        if dtype is not None and is_in_file(array):
            pass  # batches of it are converted when it is their turn
        elif dtype is not None:
            with np.errstate(over="ignore"):  # it is refused below
                array = array.astype(dtype, copy=False)
        elif array.dtype.kind != "f":
            array = array.astype(rc.float_dtype)
        array = _flat_items(node, array)
        if one_item and array.ndim == 2 and array.shape[1] == node.size_out:
            array = array[None]
        advice = axis_advice(value, array.shape, node.size_out, n_steps, False)
        _check_shape(kind, node, array, (node.size_out,), one_item, advice)
        if not isinstance(array, Symbol) and not is_finite(array, dtype):
            with np.errstate(over="ignore"):
                array = array if dtype is None else array.astype(dtype, copy=False)
            check_data(array, kind.of(node), where, way_out_of_overflow(given, array))
        arrays[node] = array
    _check_equal(kind, arrays, 0, "items", minibatch_size, "minibatch_size")
    steps = _check_equal(kind, arrays, 1, "steps", n_steps, "n_steps")
    return arrays, steps


def resolve_targets(
    targets: Any,
    probes: Sequence[Probe],
    n_steps: int | Mapping[Any, int | None] | None = None,
    n_items: int | None = None,
    where: str = "Simulator.fit",
    names: dict[Probe, str] | None = None,
    check_size: bool = True,
    shapes: Mapping[Any, tuple[int, ...]] | None = None,
    compared: Mapping[str, Any] | None = None,
) -> dict[Any, Any]:
    """Check target values of probes.

    Parameters
    ----------
    targets : array_like or list or tuple or dict
        One array (of a network with one probe), a list of arrays in the order of
        ``probes``, or a dictionary keyed by probe or by the probe's name or label.
    probes : list of ~nengo.Probe
        The network's probes.
    n_steps : int or dict, optional
        The number of steps expected on the second axis, for all probes or by probe.
    n_items : int, optional
        The number of items expected on the first axis.
    where : str
        The method that the targets were given to, for error messages.
    names : dict, optional
        The names of the probes. Default: `probes_names`.
    check_size : bool
        Whether the last axis must have the probe's size (default). Whole numbers may
        always have a last axis of 1: they are taken as the numbers of classes.
    shapes : dict, optional
        The shape of what a probe gives in one step, of those that give matrices.
    compared : mapping, optional
        Name of a probe -> the losses and metrics that targets are for; those of Keras
        need finite numbers.

    Returns
    -------
    dict
        An array ``(batch, steps, size)`` for each probe that targets were given for, or
        ``(batch, steps, rows, columns)``. Their types are kept.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If targets are of the wrong rank, size, type or number, or are for something
        that is not a probe of the network.
    """
    names = names or probes_names(probes)
    kind = _Kind("target", "Probe", "probe", where, names, shapes=shapes)
    if isinstance(targets, list | tuple) and len(targets) != len(probes):
        raise ValidationError(
            f"got a list of {len(targets)} arrays for {len(probes)} probes; give one "
            "for each, or a dictionary with the probes that count as keys. "
            + kind.listing(),
            attr=where,
        )
    if _is_one_of_many(targets, probes):
        wanted = [p for p in probes if names[p] in (compared or names.values())]
        targets = _chosen(kind, targets, wanted, "the others have no targets")
    arrays = {}
    for probe, value in _by_object(kind, targets).items():
        array = _numeric(kind, probe, value)
        expected = kind.shape(probe)
        if not isinstance(array, Symbol) and len(expected) > 1:
            flat = array.ndim == 3 and array.shape[2] == np.prod(expected)
            array = array.reshape((*array.shape[:2], *expected)) if flat else array
        steps = n_steps.get(probe) if isinstance(n_steps, Mapping) else n_steps
        read = (compared or {}).get(names[probe], ())
        _check_target(kind, probe, value, array, steps, read, check_size)
        arrays[probe] = array
    _check_equal(kind, arrays, 0, "items", n_items, "the number of items of the data")
    return arrays


def _check_target(kind, probe, value, array, steps, read, check_size):
    """One array of targets, for the losses and metrics that read it."""
    expected, what = kind.shape(probe), kind.of(probe)
    classes = only_classes(read)
    advice = ""
    if len(expected) == 1:
        advice = axis_advice(value, array.shape, expected[0], steps, classes)
    one = array.dtype.kind in "iu" or sparse_loss(read) is not None
    any_size = (one and array.shape[2:] == (1,)) or not check_size
    shape = expected
    if any_size or takes_any_shape(read):
        shape = ("size",) * (len(expected) if array.ndim == 2 + len(expected) else 1)
    elif classes and len(expected) == 1:
        shape = (1,)
    _check_shape(kind, probe, array, shape, advice=advice)
    if takes_any_shape(read):
        return
    if steps is not None and array.shape[1] not in (steps, None):
        raise ValidationError(
            f"{what} has shape {array.shape}; expected {steps} on the second axis, "
            f"because the probe gives {steps} steps{steps_advice(array.shape[1])}",
            attr=kind.where,
        )
    if not isinstance(array, Symbol):
        check_targets(array, what, kind.where, read)
        check_classes(array, expected[-1], what, kind.where, read)


def _is_one_of_many(values, objects):
    """Whether there is one array, for one of several objects."""
    several = values is None or isinstance(values, Mapping | list | tuple)
    return not several and len(objects) > 1


def _chosen(kind, value, objects, others):
    """One array as a dict: for the first object that it fits, with a warning."""
    if not objects:
        return value
    shape = np.shape(value) if not isinstance(value, Symbol) else value.shape
    fitting = [obj for obj in objects if shape[2:] == tuple(kind.shape(obj))]
    if len(objects) > 1 and not fitting:
        return value
    chosen = objects[0] if len(objects) == 1 else fitting[0]
    reason = "the first that it fits"
    if len(objects) == 1:
        reason = "the only one with a loss"
    elif len(fitting) == 1:
        reason = "the only one that it fits"
    warn(
        f"{kind.where}: got one array for {len(kind.names)} {kind.role}s; it is taken "
        f"for {kind.cls} '{kind.names[chosen]}', {reason}, and {others}. Give a dict to "
        f"choose: {{{kind.names[chosen]!r}: array}}. {kind.listing()}",
        once=("one array", kind.role, *kind.names.values()),
    )
    return {chosen: value}


class _Kind:
    """What is checked, and the words for it in error messages."""

    def __init__(self, what, cls, role, where, names, size_attr="size_in", shapes=None):
        self.what, self.cls, self.role, self.where = what, cls, role, where
        self.names, self.size_attr, self.shapes = names, size_attr, shapes or {}
        self.keys = {name: obj for obj, name in names.items()}
        labels = [getattr(obj, "label", None) for obj in names]
        for obj, label in zip(names, labels, strict=True):
            if label is not None and labels.count(label) == 1:
                self.keys.setdefault(label, obj)
        for name, obj in getattr(names, "older", {}).items():
            self.keys.setdefault(name, obj)

    def of(self, obj):
        known = "" if getattr(obj, "label", None) else f" ({what_it_is(obj)})"
        return f"{self.what} for {self.cls} '{self.names[obj]}'{known}"

    def shape(self, obj):
        """The shape of what an object gives or is given in one step."""
        return self.shapes.get(obj) or (getattr(obj, self.size_attr),)

    def listing(self, first_word="This"):
        """All objects of this network with their sizes."""
        if not self.names:
            return f"{first_word} network has no {self.role}s."
        sizes = (
            f"{text} ({_axes(self.shape(obj))})"
            for obj, text in zip(self.names, described(self.names), strict=True)
        )
        return f"{first_word} network's {self.role}s are {', '.join(sizes)}."


def _flat_items(node, array):
    """Data with the axes of one item, ``node.item_shape``, as ``(items, steps, size)``.

    Nodes of converted models have such a shape, that of the model's input.
    """
    shape = getattr(node, "item_shape", None)
    if shape is None or isinstance(array, Symbol) or len(shape) < 2:
        return array
    if array.ndim == 3 and array.shape[2] == node.size_out:
        return array
    if array.shape[1:] == shape:
        return array.reshape(len(array), 1, node.size_out)
    if array.shape[2:] == shape:
        return array.reshape(*array.shape[:2], node.size_out)
    return array


def _by_object(kind, values):
    """Values as given by a user, keyed by object."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        found = {}
        for key, value in values.items():
            obj = _find(kind, key)
            if obj in found:
                raise ValidationError(
                    f"{kind.of(obj)} was given twice, by name and by object",
                    attr=kind.where,
                )
            found[obj] = value
        return found
    if isinstance(values, list | tuple):
        return dict(zip(kind.names, values, strict=False))
    if len(kind.names) != 1:
        raise ValidationError(
            f"got one array for {len(kind.names)} {kind.role}s; give a list or a "
            f"dictionary of arrays. {kind.listing()}",
            attr=kind.where,
        )
    return {next(iter(kind.names)): values}


def _find(kind, key):
    obj = kind.keys.get(key) if isinstance(key, str) else key
    try:
        if obj is not None and obj in kind.names:
            return obj
    except TypeError:  # not hashable
        pass
    reason = "is unknown"
    size_in = getattr(obj, "size_in", 0)
    if size_in and kind.role == "input":
        reason = f"is not an input, because its size_in is {size_in}"
    shown = repr(key) if isinstance(key, str) else label_of(key)
    raise ValidationError(
        f"the key {shown} of the {kind.what} {reason}. {kind.listing()}",
        attr=kind.where,
    )


def _numeric(kind, obj, value):
    """A value as a real array."""
    try:
        array = value if isinstance(value, Symbol) else np.asarray(value)
    except (TypeError, ValueError) as e:
        raise ValidationError(
            f"{kind.of(obj)} cannot be made into an array: {e}", attr=kind.where
        ) from e
    if array.dtype.kind not in "fiub":
        raise ValidationError(
            f"{kind.of(obj)} must be real numbers; got {type(value).__name__} of type "
            f"{array.dtype}",
            attr=kind.where,
        )
    return array


def _axes(sizes):
    return ", ".join(map(str, sizes))


def _check_shape(kind, obj, array, shape, one_item=False, advice=""):
    """The rank of an array, and all axes but two; some may be words for any size."""
    if isinstance(array, Symbol) and array.any_rank:
        return
    expected = f"(batch, steps, {_axes(shape)})"
    if array.ndim != 2 + len(shape) and one_item:
        raise ValidationError(
            f"{kind.of(obj)} has shape {array.shape}; expected {expected}, or for one "
            f"item (steps, {_axes(shape)}){advice}",
            attr=kind.where,
        )
    if array.ndim != 2 + len(shape):
        raise ValidationError(
            f"{kind.of(obj)} has shape {array.shape}; expected {2 + len(shape)} axes "
            f"{expected}{advice}",
            attr=kind.where,
        )
    pairs = zip(array.shape[2:], shape, strict=True)
    if any(isinstance(b, int) and a not in (b, None) for a, b in pairs):
        reason = f"{kind.size_attr} is {_axes(shape)}"
        if shape != kind.shape(obj):
            reason = "loss takes numbers of classes"
        if len(shape) > 1:
            reason = f"data have the shape {shape} in each step"
        raise ValidationError(
            f"{kind.of(obj)} has shape {array.shape}; expected {expected}, because the "
            f"{kind.cls.lower()}'s {reason}{advice}. If the last axis is right, it may "
            f"belong to another {kind.cls.lower()}: " + kind.listing("this"),
            attr=kind.where,
        )


def _check_equal(kind, arrays, axis, unit, expected, reason):
    """The common length of all arrays on one axis (None if there are none)."""
    for obj, array in arrays.items():
        found = array.shape[axis]
        if found is None:
            continue
        if expected is not None and found != expected:
            raise ValidationError(
                f"{kind.of(obj)} has {found} {unit} (shape {array.shape}); expected "
                f"{expected}, as {reason}",
                attr=kind.where,
            )
        if expected is None:
            expected, reason = found, f"the {kind.of(obj)} has"
    return expected


def _steps_entry(value, n_steps, where):
    """The number of steps under the key "n_steps" of the data."""
    entry = np.asarray(value)
    if entry.size == 0 or entry.dtype.kind not in "iuf" or np.any(entry != entry.flat[0]):
        raise ValidationError(
            f"the data's entry '{N_STEPS}' must hold one number of steps; got {value!r}",
            attr=where,
        )
    steps = int(entry.flat[0])
    if n_steps is not None and steps != n_steps:
        raise ValidationError(
            f"the data's entry '{N_STEPS}' is {steps}, but the argument is {n_steps}",
            attr=where,
        )
    return steps


# which targets a loss takes, and what to write instead of others ----------------

#: the losses of Keras whose targets are numbers of classes, and those that may be
SPARSE = "sparsecategoricalcrossentropy"
SPARSE_OR_NOT = ("crossentropy", "ce")


def takes_any_shape(functions: Iterable[Any]) -> bool:
    """Whether a loss is the user's own, and may so compare outputs with anything."""
    return any(_is_own(function) for function in functions)


def _is_own(function: Any) -> bool:
    if of_keras(function):
        return False
    return getattr(function, "__name__", None) != "nan_mse"  # ours, and elementwise


def sparse_loss(functions: Iterable[Any]) -> Any:
    """The loss whose targets are numbers of classes; None if there is none."""
    for function in functions:
        names = (
            function if isinstance(function, str) else None,
            getattr(function, "__name__", None),
            type(function).__name__,
        )
        plain = [str(name).lower().replace("_", "") for name in names if name]
        if of_keras(function) and (SPARSE in plain or plain[0] in SPARSE_OR_NOT):
            return function
    return None


def only_classes(functions: Iterable[Any]) -> bool:
    """Whether targets can be nothing but numbers of classes."""
    function = sparse_loss(functions)
    return function is not None and function not in SPARSE_OR_NOT


def check_classes(
    array: Any, size: int, what: str, where: str, functions: Iterable[Any]
) -> None:
    """Check that numbers of classes are among those that a probe has outputs for.

    ``array``: ``(items, steps, 1)``; others are not looked at. ``size``: that of the
    probe. ``what``, ``where``: for error messages. ``functions``: the losses and metrics
    of the probe. Raises `ValidationError`.
    """
    loss = sparse_loss(functions)
    if loss is None or size == 1 or array.shape[2:] != (1,):
        return
    ignored = getattr(loss, "ignore_class", None)
    wrong = (array < 0) | (array >= size)
    if ignored is not None:
        wrong &= array != ignored
    if not wrong.any():
        return
    item, step, _ = np.argwhere(wrong)[0]
    found = array[item, step, 0]
    hint = ". Count from 0: subtract 1" if array.min() > 0 and found == size else ""
    raise ValidationError(
        f"{what} has class {found} in item {item}, step {step}; expected numbers from 0 "
        f"to {size - 1}, because the probe has {size} outputs{hint}",
        attr=where,
    )


def axis_advice(
    value: Any, shape: tuple, size: int, steps: int | None, classes: bool
) -> str:
    """Which axis is missing from an array, in Python.

    ``value``: what the user gave. ``shape``: of the array. ``size``, ``steps``: expected
    on the last and on the second axis; None if that is not known. ``classes``: whether
    numbers of classes are expected. Returns a sentence, or nothing.
    """
    frame = hasattr(value, "values") and hasattr(value, "index")
    name, single = "df.values" if frame else "array", steps in (None, 1)
    if classes and len(shape) > 1 and shape[-1] == size > 1 and (steps != size):
        axes = "[:, None, None]" if len(shape) == 2 else "[..., None]"
        return (
            f". For labels that are one-hot write np.argmax({name}, axis=-1){axes}, or "
            "take the loss keras.losses.CategoricalCrossentropy"
        )
    width = 1 if classes else size
    if len(shape) == 1 and width == 1:
        axes = "[:, None, None]" if single else "[:, None, None], steps"
    elif len(shape) == 2 and shape[1] == width:
        axes = "[:, None, :]" if single else "[:, None, :], steps"
    elif len(shape) == 2 and width == 1 and shape[1] == steps:
        axes = "[:, :, None]"
    elif len(shape) == 2 and width == 1 and steps is None:
        axes = "[:, :, None]"
    else:
        return ""
    if axes.endswith("steps"):
        axes = axes.removesuffix(", steps")
        return (
            f". For the same in all steps write np.repeat({name}{axes}, {steps}, axis=1)"
        )
    return f". Insert what is missing: {name}{axes}"


def steps_advice(found: int | None) -> str:
    """What to do about targets of one step, if a probe gives more."""
    if found != 1:
        return ""
    return (
        ". If only the last step counts, call nengo_dl.configure_settings() in the "
        "network and set net.config[probe].keep_history = False; if all steps have "
        "one target, repeat it, np.repeat(array, steps, axis=1)"
    )


def what_it_is(obj: Any) -> str:
    """What an object without a label does: of a probe what it looks at.

    Examples
    --------
    >>> with nengo.Network():
    ...     probe = nengo.Probe(nengo.Ensemble(5, 1, label="B"))
    >>> what_it_is(probe)
    "decoded output of 'B'"
    """
    if isinstance(obj, Probe):
        target = obj.target
        part = f"[{_slice(target.slice)}]" if isinstance(target, ObjView) else ""
        return f"{obj.attr.replace('_', ' ')} of {_called(obj.obj)}{part}"
    if isinstance(obj, Node):
        output = obj.output
        if callable(output):
            output = getattr(output, "__name__", type(output).__name__)
        if isinstance(output, np.ndarray):
            output = np.array2string(output, threshold=4)
        return f"output {output}"
    return ""


def _slice(part: Any) -> str:
    if not isinstance(part, slice):
        return str(part)
    ends = ("" if end is None else str(end) for end in (part.start, part.stop))
    return ":".join(ends)


def _called(obj: Any) -> str:
    """A name for what is probed."""
    obj = obj.obj if isinstance(obj, ObjView) else obj
    if isinstance(obj, Neurons):
        return f"the neurons of {_called(obj.ensemble)}"
    if isinstance(obj, Connection):
        return f"the connection from {_called(obj.pre)} to {_called(obj.post)}"
    if getattr(obj, "label", None):
        return repr(obj.label)
    kind = "an ensemble" if isinstance(obj, Ensemble) else f"a {type(obj).__name__}"
    return f"{kind} without label"


def described(names: dict) -> list[str]:
    """Names of objects, with what those without a label do."""
    return [
        repr(name) if getattr(obj, "label", None) else f"{name!r} ({what_it_is(obj)})"
        for obj, name in names.items()
    ]
