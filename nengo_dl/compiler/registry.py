"""Where kernels, operators and neuron types make themselves known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def refuse_abstract(cls: type) -> None:
    """Refuse a class that has not got all methods that its base classes leave to it.

    Raises
    ------
    TypeError
        If an abstract method is missing.
    """
    for base in cls.__bases__:
        for name in sorted(getattr(base, "__abstractmethods__", ())):
            method = getattr(cls, name)
            if getattr(method, "__isabstractmethod__", False):
                raise TypeError(
                    f"{cls.__qualname__} has no method {name}(), which is abstract in "
                    f"{method.__module__}.{method.__qualname__.rpartition('.')[0]}: "
                    + (method.__doc__ or "").partition("\n")[0]
                )


class Registry(Generic[T]):
    """A mapping from classes to entries, looked up along the method resolution order.

    Parameters
    ----------
    what : str
        What is registered, for messages.

    Attributes
    ----------
    default : object or None
        What stands in for classes without an entry, where whoever looks them up makes
        use of it; `find` does not.

    Examples
    --------
    >>> sounds = Registry("sound")
    >>> @sounds.register(int)
    ... def beep(): ...
    >>> sounds.find(bool) is beep
    True
    """

    def __init__(self, what: str):
        self.what = what
        self._entries: dict[type, T] = {}
        self.default: T | None = None

    def register(self, *classes: type) -> Callable[[T], T]:
        """Decorator that makes its object the entry of each of ``classes``."""

        def decorate(entry: T) -> T:
            for cls in classes:
                self.add(cls, entry)
            return entry

        return decorate

    def add(self, cls: type, entry: T) -> None:
        """Make ``entry`` the one for ``cls``; a later entry replaces an earlier one.

        Raises
        ------
        TypeError
            If ``cls`` is no class, or if ``entry`` is one that lacks a method.
        """
        if not isinstance(cls, type):
            raise TypeError(f"Registry of {self.what}: expected a class, got {cls!r}")
        if isinstance(entry, type):
            refuse_abstract(entry)
        self._entries[cls] = entry

    def find(self, cls: type) -> T | None:
        """The entry of the closest ancestor of ``cls``, or None."""
        return next((self._entries[c] for c in cls.__mro__ if c in self._entries), None)

    def exact(self, cls: type) -> T | None:
        """The entry of ``cls`` itself, or None."""
        return self._entries.get(cls)

    def items(self) -> Iterator[tuple[type, T]]:
        """All entries, in the order in which they were registered."""
        return iter(tuple(self._entries.items()))

    def __contains__(self, cls: Any) -> bool:
        return isinstance(cls, type) and self.find(cls) is not None

    def __len__(self) -> int:
        return len(self._entries)


#: nengo operator class -> `nengo_dl.compiler.rules.OperatorRule`
operators: Registry[Any] = Registry("operator rules")

#: name -> kernel that the passes themselves insert (sums have one, for example)
structural: dict[str, Any] = {}
