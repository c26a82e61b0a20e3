"""What users are told: warnings, names of objects, and what a function takes.

Warnings point at the user's own line, once for each cause. `warnings.warn` needs a
``stacklevel`` for that: how many calls lie between the warning and the line that it is
about. Counted by hand that number is right for one way of getting there, and wrong for
all others (through Keras, a generator, another thread). Here it is found by looking at
the frames.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

#: files of this package lie below this folder
_PACKAGE = str(Path(__file__).parent) + os.sep

#: those of the standard library and of installed packages, which stand between where
#: Keras calls back
_LIBRARIES = (
    *(sysconfig.get_path(n) + os.sep for n in ("stdlib", "purelib", "platlib")),
    "<frozen",
)

#: where Python prints an object that nobody has given a name
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

_said: set[Hashable] = set()
_lock = threading.Lock()


def warn(
    message: str, category: type[Warning] = UserWarning, once: Hashable = None
) -> None:
    """Warn at the line of the user that led here.

    Parameters
    ----------
    message : str
        What is wrong, with which object, and what to do about it. Addresses in memory are
        left out of it: so it reads the same each time, and Python's own filters, which
        show a text once for a line, know it again.
    category : type
        A subclass of Warning.
    once : hashable, optional
        The cause: of several warnings with one cause only the first of the process is
        given, whatever objects it names. None: each time, as far as Python's filters let
        it through.

    Examples
    --------
    >>> warn("the probe 'p' is never read; leave it out", once=("unread", "p"))
    """
    if once is not None:
        once = _stable(once)
        with _lock:
            if once in _said:
                return
            _said.add(once)
    warnings.warn(_stable(message), category, stacklevel=_users_level())


def label_of(obj: object, longest: int = 120) -> str:
    """What to call an object in messages; of any object, and without an error.

    Objects of users need not have a text: an operator whose class does not call
    ``super().__init__()``, for example, has none. Addresses in memory are left out.

    ``longest``: longer texts are cut in the middle.

    Examples
    --------
    >>> class Mute:
    ...     def __str__(self):
    ...         return self.name
    >>> label_of(Mute())
    'a Mute'
    >>> label_of(object())
    '<object object>'
    """
    try:
        text = _stable(str(obj))
    except Exception:
        return f"a {type(obj).__name__}"
    if len(text) > longest:
        half = (longest - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text


class Label:
    """What to call something, made when somebody asks for it.

    ``make``: gives it.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


def text_of(label: object) -> str:
    """The text of a label: of a text or a `Label` as it is, else `label_of` an object.

    Examples
    --------
    >>> text_of("a"), text_of(Label(lambda: "b")), text_of(object())
    ('a', 'b', '<object object>')
    """
    return str(label) if isinstance(label, str | Label) else label_of(label)


def forget() -> None:
    """Forget which causes were warned of: each is said once more."""
    with _lock:
        _said.clear()


def _stable(value: Any) -> Any:
    """A text, or a tuple with texts, without addresses in memory."""
    if isinstance(value, str):
        return ADDRESS.sub("", value)
    if isinstance(value, tuple):
        return tuple(map(_stable, value))
    return value


def of_package(frame: FrameType) -> bool:
    """Whether a frame runs code of this package."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def of_libraries(frame: FrameType) -> bool:
    """Whether a frame runs code of the standard library or of an installed package."""
    return frame.f_code.co_filename.startswith(_LIBRARIES)


def _users_level() -> int:
    """The ``stacklevel`` for a call of `warnings.warn` in the caller of this function.

    It is that of the innermost frame of a user's file; of the outermost frame, if there
    is none (in a thread of this package, say).
    """
    level, frame = 0, sys._getframe(1)
    while frame is not None:
        level += 1
        if not (of_package(frame) or of_libraries(frame)):
            return level
        frame = frame.f_back
    return level


# signatures that name what **kwargs may be --------------------------------------
#
# Type checkers read ``**kwargs: Unpack[SomeTypedDict]``; notebooks and ``help()`` look
# at the signature of the running function, in which only ``**kwargs`` would be seen.

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

    ``arguments``: the ``TypedDict``.

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

    ``arguments``: the ``TypedDict``. Raises `TypeError` when the method is called with a
    keyword that it does not have. The message has the name that is nearest.

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

    ``method``: what it was given to. ``where``: what that is called. ``name``: the
    argument's name.
    """
    known = [
        n for n in inspect.signature(method).parameters if n not in ("self", "older")
    ]
    near = [MEANT[name]] if MEANT.get(name) in known else []
    near = near or difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
    return TypeError(f"{where} got an unexpected argument {name!r}{meant}")
