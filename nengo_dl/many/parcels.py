"""How the pickle of a simulator gets to workers: with each submission, or as a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nengo.exceptions import SimulationError, ValidationError

#: bytes of a pickle from which on workers of this machine read it from a file
LARGE = 1_000_000


@dataclass(frozen=True)
class Parcel:
    """A pickle, or where it is.

    Parameters
    ----------
    key : str
        Its content, hashed.
    sender : int
        The process that sends it.
    data : bytes or None
        The pickle. None: it is in a file.
    path : str
        That file.
    """

    key: str
    sender: int
    data: bytes | None
    path: str = ""

    def content(self) -> bytes:
        """The pickle, which is code: a file must be what the sender wrote.

        Raises `SimulationError` if it is missing, or belongs to, or may be written by,
        somebody else, or has another content.
        """
        if self.data is not None:
            return self.data
        try:
            for path in (os.path.dirname(self.path), self.path):
                _require_private(path)
            data = Path(self.path).read_bytes()
        except OSError as error:
            raise SimulationError(
                f"the file {self.path!r} with the simulator cannot be read here "
                f"({error}). Give run_many a folder that all workers share"
            ) from error
        if _hash(data) != self.key:
            raise SimulationError(
                f"the file {self.path!r} is not the one that run_many wrote: its hash "
                "differs. It was not loaded"
            )
        return data


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require_private(path: str) -> None:
    if not hasattr(os, "geteuid"):  # no owners on this system
        return
    found = os.lstat(path)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SimulationError(
            f"{path!r} belongs to another user, or others may write to it, and what is "
            "in it would be run. It was not loaded. Give run_many a folder of your own"
        )


@contextlib.contextmanager
def parcel(data: bytes, folder: Any, remote: bool) -> Iterator[Parcel]:
    """Wrap a pickle up, for as long as the context lasts.

    Parameters
    ----------
    data : bytes
        The pickle.
    folder : path or None
        Where a file is put. None: there is none if the pickle is small, or workers may
        be on other machines; else it is in the folder for temporary files.
    remote : bool
        Whether workers may be on other machines.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If nothing can be written to the folder.

    Examples
    --------
    >>> with parcel(b"content", None, remote=False) as small:
    ...     small.content()
    b'content'
    """
    key, sender = _hash(data), os.getpid()
    if folder is None and (remote or len(data) < LARGE):
        yield Parcel(key, sender, data)
        return
    try:
        if folder is not None:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        # made with mode 0700
        own = tempfile.mkdtemp(prefix="nengo_dl_many_", dir=folder)
    except OSError as error:
        place = str(folder or tempfile.gettempdir())
        raise ValidationError(
            f"folder: {place!r} cannot be written to ({error}); expected a folder that "
            "all workers can read, or None",
            attr="run_many",
        ) from error
    try:
        path = os.path.abspath(os.path.join(own, f"{key}.pkl"))
        Path(f"{path}.part").write_bytes(data)
        os.chmod(f"{path}.part", 0o600)
        os.replace(f"{path}.part", path)
        yield Parcel(key, sender, None, path)
    finally:
        shutil.rmtree(own, ignore_errors=True)
