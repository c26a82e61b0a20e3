"""What callbacks of Keras count from epoch to epoch, as plain data and back.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from nengo_dl import archives

#: kinds of callbacks, and where they keep what they have seen so far
COUNTED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: (
        "best",
        "best_epoch",
        "best_weights",
        "stopped_epoch",
        "wait",
    ),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
}

#: what the names of arrays begin with
PREFIX = "counted"


def listed(callbacks: Any) -> list[Any]:
    """The callbacks of a call one by one: of lists in lists, or of one of Keras."""
    with contextlib.suppress(AttributeError):  # no list of Keras
        callbacks = callbacks.callbacks
    return keras.tree.flatten(callbacks or [])


def _named(callbacks: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Callbacks that count, with a name that all processes give them, and attributes."""
    seen: Counter[str] = Counter()
    for callback in listed(callbacks):
        kind = next((c for c in type(callback).__mro__ if c in COUNTED), None)
        if kind is None:
            continue
        name = f"{type(callback).__name__} of {getattr(callback, 'monitor', None)}"
        seen[name] += 1
        yield f"{name}, {seen[name]}", callback, COUNTED[kind]


def counted(callbacks: Any) -> dict[str, dict[str, Any]]:
    """What callbacks have counted so far, by their names.

    Parameters
    ----------
    callbacks : Callback, CallbackList or list of them
        Those of a call of ``fit``.

    Examples
    --------
    >>> import keras
    >>> stop = keras.callbacks.EarlyStopping(monitor="loss")
    >>> stop.wait = 3
    >>> counted([stop])["EarlyStopping of loss, 1"]["wait"]
    3
    """
    return {
        name: {attr: _plain(getattr(callback, attr, None)) for attr in attributes}
        for name, callback, attributes in _named(callbacks)
    }


def count_on(callbacks: Any, found: dict[str, dict[str, Any]]) -> None:
    """Let callbacks go on with what `counted` gave; those that are new begin anew."""
    for name, callback, attributes in _named(callbacks):
        for attr in attributes:
            if attr in found.get(name, {}):
                setattr(callback, attr, found[name][attr])


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else array


def to_bytes(found: dict[str, dict[str, Any]]) -> bytes:
    """What `counted` gives, to be sent to another process."""
    file = io.BytesIO()
    arrays: dict[str, Any] = archives.to_arrays(found, PREFIX)
    np.savez(file, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> dict[str, dict[str, Any]]:
    """The other way round."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return archives.from_arrays(dict(arrays), PREFIX)
