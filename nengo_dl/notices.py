"""Warnings that point at the user's own line, once for each cause.

`warnings.warn` needs a ``stacklevel``: how many calls lie between the warning and the
line that it is about. Counted by hand that number is right for one way of getting there,
and wrong for all others (through Keras, a generator, another thread). Here it is found by
looking at the frames.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import threading
import warnings
from collections.abc import Hashable
from pathlib import Path
from types import FrameType
from typing import Any

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

    Parameters
    ----------
    obj : object
    longest : int
        Longer texts are cut in the middle.

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
