"""Machine code that outlives the process, in the folder ``NENGO_DL_CACHE_DIR``.

Without that variable nothing is read or written. With it, what LLVM makes of a program is
kept in a folder inside that nobody else can read, and a later process loads it instead of
compiling again. What is loaded is run, so a file counts only if it belongs to the user
and holds what it held when it was written. A checksum shows damage; it is no protection
from somebody who can write to the folder. Whatever goes wrong is said once, and the
program is compiled.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from nengo_dl.environment import CACHE
from nengo_dl.program_cache import own_folder, say

#: in the user's folder; another form of the files gets another name
FOLDER = "nengo_dl-machine-code-1"

#: at the start of each file: the checksum of what follows
CHECKSUM = hashlib.sha256().digest_size


def is_used() -> bool:
    """Whether somebody asks for it; `load` finds nothing otherwise."""
    return bool(os.environ.get(CACHE))


def key_of(text: str, *machine: object) -> str:
    """The name of a program's file.

    Parameters
    ----------
    text : str
        The program in LLVM's language.
    *machine : object
        What else the machine code depends on: versions, the processor and what it has.

    Examples
    --------
    >>> key_of("text", "znver3") == key_of("text", "znver4")
    False
    """
    described = "\n".join([*map(str, machine), text])
    return hashlib.sha256(described.encode()).hexdigest()


def load(key: str) -> bytes | None:
    """The machine code that is kept under a name; None if none is, or it is damaged.

    Parameters
    ----------
    key : str
        See `key_of`.
    """
    folder = _folder()
    if folder is None:
        return None
    try:
        with open(folder / key, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or _is_foreign(found):
                return None
            content = file.read()
    except OSError:
        return None
    checksum, code = content[:CHECKSUM], content[CHECKSUM:]
    return code if code and hashlib.sha256(code).digest() == checksum else None


def save(key: str, code: bytes) -> None:
    """Keep machine code under a name, all at once or not at all.

    Parameters
    ----------
    key : str
        See `key_of`.
    code : bytes
        An object file.
    """
    folder = _folder()
    if folder is None:
        return
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(name, folder / key)
        name = None
    except OSError as error:
        say(f"machine code could not be put into {str(folder)!r}: {error}")
    finally:
        if name is not None and os.path.exists(name):
            os.unlink(name)


def _folder() -> Path | None:
    """Where machine code is kept; None if that was not asked for, or cannot be."""
    asked = os.environ.get(CACHE)
    if not asked:
        return None
    try:
        folder = Path(asked).expanduser().absolute() / FOLDER
        own_folder(folder)
    except (OSError, RuntimeError) as error:
        say(f"{asked!r} cannot be used: {error}")
        return None
    return folder


def _is_foreign(found: os.stat_result) -> bool:
    """Whether a file belongs to somebody else."""
    return hasattr(os, "geteuid") and found.st_uid != os.geteuid()
