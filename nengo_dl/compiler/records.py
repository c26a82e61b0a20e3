"""Frozen dataclasses, made and copied in a part of the usual time.

A frozen dataclass sets each of its fields through a method, and ``replace`` looks at all
of them. Graphs have thousands of nodes, states and places of states.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def record(cls: type[T], **fields: Any) -> T:
    """``cls(**fields)`` of a frozen dataclass; all fields have to be there.

    Examples
    --------
    >>> from nengo_dl.compiler.graph import Source
    >>> record(Source, key="x", start=2, size=3) == Source("x", 2, 3)
    True
    """
    new = object.__new__(cls)
    new.__dict__.update(fields)
    return new


def like(value: T, name: str, field: Any) -> T:
    """A copy of a dataclass with one field changed, that of the given name.

    Examples
    --------
    >>> from nengo_dl.compiler.graph import Source
    >>> like(Source("x", 2, 3), "start", 4)
    Source(key='x', start=4, size=3)
    """
    new = object.__new__(type(value))
    fields = new.__dict__
    fields.update(value.__dict__)
    fields[name] = field
    return new
