"""Signatures that name what ``**kwargs`` may be, for ``help()`` and completion.

Type checkers read ``**kwargs: Unpack[SomeTypedDict]``; notebooks and ``help()`` look at
the signature of the running function, in which only ``**kwargs`` would be seen.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

#: what is meant by names that other packages have for arguments
MEANT = {"batch_size": "minibatch_size", "batch": "minibatch_size"}

Function = TypeVar("Function", bound=Callable[..., Any])


class _Elsewhere:
    """A default value that is chosen elsewhere."""

    def __repr__(self) -> str:
        return "..."


_ELSEWHERE = _Elsewhere()


def names_keywords(arguments: type) -> Callable[[Function], Function]:
    """Decorator of a function whose ``**kwargs`` are the keys of a ``TypedDict``.

    Its signature has them as keywords with the default ``...``, since what happens
    without them is decided elsewhere. How it is called does not change.

    Parameters
    ----------
    arguments : type
        The ``TypedDict``.

    Examples
    --------
    >>> from typing import TypedDict
    >>> class Options(TypedDict, total=False):
    ...     width: int
    >>> @names_keywords(Options)
    ... def draw(x, **options):
    ...     return options
    >>> str(inspect.signature(draw))
    '(x, *, width=...)'
    """
    names = tuple(arguments.__annotations__)  # those of its bases included

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        further = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_ELSEWHERE)
            for name in names
        ]
        function.__signature__ = signature.replace(parameters=own + further)  # pyright: ignore[reportFunctionMemberAccess]  # PEP 362
        return function

    return decorate


def checks_keywords(arguments: type) -> Callable[[Function], Function]:
    """Decorator of a method: as `names_keywords`, and refuses other keywords.

    Parameters
    ----------
    arguments : type
        The ``TypedDict``.

    Raises
    ------
    TypeError
        When the method is called with a keyword that it does not have. The message has
        the name that is nearest.

    Examples
    --------
    >>> from typing import TypedDict
    >>> class Options(TypedDict, total=False):
    ...     width: int
    >>> class Picture:
    ...     @checks_keywords(Options)
    ...     def draw(self, **options):
    ...         return options
    >>> Picture().draw(widht=3)
    Traceback (most recent call last):
    TypeError: Picture.draw() got an unexpected keyword argument 'widht'; did you mean ...
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def checked(self, *args, **kwargs):
            for name in kwargs:
                if name not in known:
                    raise _unexpected(self, function.__name__, name, known)
            return function(self, *args, **kwargs)

        named = names_keywords(arguments)(checked)
        known = frozenset(inspect.signature(named).parameters)
        return named  # pyright: ignore[reportReturnType]  # the same function

    return decorate


def _unexpected(obj, method, name, known):
    near = difflib.get_close_matches(name, sorted(known), n=1)
    takes = ", ".join(sorted(known - {"self"}))
    hint = f"did you mean {near[0]!r}?" if near else f"it takes {takes}"
    return TypeError(
        f"{type(obj).__name__}.{method}() got an unexpected keyword argument {name!r}; "
        f"{hint}"
    )


def unexpected(method: Callable[..., Any], where: str, name: str) -> TypeError:
    """The error for an argument that there is not, with one that may be meant.

    Parameters
    ----------
    method : callable
        What it was given to.
    where : str
        What that is called.
    name : str
        The argument's name.
    """
    known = [
        n for n in inspect.signature(method).parameters if n not in ("self", "older")
    ]
    near = [MEANT[name]] if MEANT.get(name) in known else []
    near = near or difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
    return TypeError(f"{where} got an unexpected argument {name!r}{meant}")
