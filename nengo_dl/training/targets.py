"""Targets of probes: which ones a loss takes, and what to write instead of others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from nengo import Connection, Ensemble, Node, Probe
from nengo.base import ObjView
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError

from nengo_dl.training.finite import of_keras

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

    Parameters
    ----------
    array : array
        ``(items, steps, 1)``; others are not looked at.
    size : int
        That of the probe.
    what, where : str
        For error messages.
    functions : iterable
        The losses and metrics of the probe.

    Raises
    ------
    ~nengo.exceptions.ValidationError
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

    Parameters
    ----------
    value
        What the user gave.
    shape : tuple of int
        Of the array.
    size, steps : int
        Expected on the last and on the second axis; None if that is not known.
    classes : bool
        Whether numbers of classes are expected.

    Returns
    -------
    str
        A sentence, or nothing.
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
