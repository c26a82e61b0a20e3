"""Compiled loops that fit another network of the same structure.

A program depends on the structure of a network and not on its numbers: weights, gains,
biases and states are arguments. So a network that was built again with another seed, or
another network that looks the same, can run what was compiled before, and be trained in
it. The key of a program is all that its code is made of; if two keys are equal, so is the
code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from nengo_dl.compiler.graph import Source
from nengo_dl.compiler.layout import Layout
from nengo_dl.runtime.tensorflow.costs import KEPT


class Unique(Exception):
    """Raised where something has no key, because it is like nothing else."""


def key_of(layout: Layout) -> Hashable | None:
    """What the program of a layout depends on; None if it can be used only once.

    That is so if it calls functions from outside, which may be different each time.
    """
    groups = layout.groups()
    if any(group.kernel.host or group.kernel.tensorflow for group in groups):
        return None
    bare = without_numbers(layout)
    try:
        return _key(bare), tuple(weight.form for weight in layout.weights)
    except Unique:
        return None


def without_numbers(layout: Layout) -> Layout:
    """The layout as far as programs are made of it.

    A program that is kept would otherwise keep all arrays of the first network.
    """
    inputs = tuple(Source(None, source.start, source.size) for source in layout.inputs)
    stages = {
        name: dataclasses.replace(
            stage,
            groups=tuple(dataclasses.replace(g, labels=()) for g in stage.groups),
        )
        for name in ("before", "loop", "after")
        for stage in [getattr(layout, name)]
    }
    return dataclasses.replace(
        layout,
        **stages,
        inputs=inputs,
        weights=(),
        carry=tuple(np.zeros(len(values)) for values in layout.carry),
        states=(),
        probes=(),
        plan=None,
    )


def _key(value: Any) -> Hashable:
    """A key that is equal only for values that lead to the same code."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool | int):
        return type(value).__name__, value  # True is no 1 here
    if isinstance(value, float):
        return float(value).hex()  # 0.0 is no -0.0
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise Unique
        data = np.ascontiguousarray(value)
        return value.dtype.str, value.shape, hashlib.sha256(data).digest()
    if isinstance(value, np.generic):
        return value.dtype.str, value.tobytes()
    if isinstance(value, tuple | list):
        return tuple(_key(item) for item in value)
    if isinstance(value, Mapping):
        items = [(_key(name), _key(item)) for name, item in value.items()]
        return tuple(sorted(items, key=repr))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return type(value), tuple(_key(field) for field in fields)
    if not isinstance(value, Hashable):
        raise Unique
    return value  # kernels, types: equal if they are the same


class Programs:
    """Programs by key, the last ones that were used.

    Parameters
    ----------
    size : int
        So many are kept.
    """

    def __init__(self, size: int = KEPT) -> None:
        self.size = size
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, key: Hashable | None, make: Callable[[], Any]) -> Any:
        """The program with a key; a new one, if there is none or ``key`` is None."""
        if key is None:
            return make()
        with self._lock:
            if key not in self._programs:
                self._programs[key] = make()
                if len(self._programs) > self.size:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


#: of all simulators in this process
programs = Programs()
