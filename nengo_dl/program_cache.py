"""What XLA compiles outlives the process, in the folder ``NENGO_DL_CACHE_DIR``.

XLA can keep what it compiles, but takes its folder at its word: a truncated file, a full
disk or one that may not be written to becomes an error in the middle of a run, and what
is in the folder is code that is run. A cache must never fail. So XLA is given a folder of
this process alone, in the system's place for temporary files. It begins with links to
those programs of the user's folder whose contents are what they were when they were put
there; new ones are copied there when simulators are closed and when the process ends.
Whatever goes wrong on the way is said once, and the process does without.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

from nengo_dl.environment import CACHE, XLA_FLAGS
from nengo_dl.notices import warn

#: in the user's folder; another form of the files gets another name
FOLDER = "nengo_dl-programs-1"

#: of the folder of a process, before its number
PRIVATE = "nengo_dl-programs-of-"

#: XLA's name for the folder, and how it is given
FLAG = re.compile(
    r"""\s*--tf_xla_persistent_cache_directory=("[^"]*"|'[^']*'|\S*)""", re.VERBOSE
)

#: free bytes that the system's place for temporary files must have
LEAST_SPACE = 2**26

#: seconds after which what a process has left behind is removed
FORGOTTEN = 24 * 3600

#: characters of what the contents of a file are known by
NUMBER = 64

_cache: ProgramCache | None = None


class ProgramCache:
    """The user's folder and that of this process.

    Raises `OSError` if one of them cannot be used; it says why.

    Parameters
    ----------
    folder : path
        The user's. Programs are in a folder inside, which only the user can read.
    """

    def __init__(self, folder: Path) -> None:
        self.kept = folder / FOLDER
        self.process = os.getpid()
        own_folder(self.kept)
        place = Path(tempfile.gettempdir())
        if shutil.disk_usage(place).free < LEAST_SPACE:
            raise OSError(f"the disk of {str(place)!r} is full")
        _tidy(place)
        self.private = Path(tempfile.mkdtemp(prefix=f"{PRIVATE}{self.process}-"))
        self._known = set()
        for file in self.kept.iterdir():
            number, _, name = file.name.partition("-")
            if len(number) != NUMBER or not file.is_file():
                continue
            if name in self._known or not _is_whole(file, number):
                file.unlink(missing_ok=True)
                continue
            (self.private / name).symlink_to(file.absolute())
            self._known.add(name)

    def publish(self) -> None:
        """Put what was compiled since into the user's folder, as far as that works."""
        if os.getpid() != self.process:  # a child, which has not compiled this
            return
        try:
            for file in self.private.iterdir():
                if file.name in self._known or file.suffix == ".tmp":
                    continue
                self._known.add(file.name)
                _copy(file, self.kept)
        except OSError as error:
            say(f"what was compiled could not be put into {str(self.kept)!r}: {error}")

    def close(self) -> None:
        """At the end of the process."""
        self.publish()
        if os.getpid() == self.process:
            shutil.rmtree(self.private, ignore_errors=True)


def keep_programs_on_disk() -> None:
    """Let XLA keep what it compiles, if ``NENGO_DL_CACHE_DIR`` names a folder.

    A later process that needs the same program loads it from there. Programs are found
    by their code, so another network, version or processor gets its own. TensorFlow
    looks at its flags when it first compiles something.

    Warns if the folder cannot be used; everything runs without it.
    """
    global _cache
    folder, flags = os.environ.get(CACHE), os.environ.get(XLA_FLAGS, "")
    found = FLAG.search(flags)
    if found is not None and PRIVATE in found[0]:  # of the process that started this one
        flags, found = (flags[: found.start()] + flags[found.end() :]).strip(), None
        os.environ[XLA_FLAGS] = flags
    if not folder or found is not None:
        return
    try:
        _cache = ProgramCache(Path(folder).expanduser().absolute())
    except (OSError, RuntimeError) as error:
        say(f"{folder!r} cannot be used: {error}")
        return
    flag = f'--tf_xla_persistent_cache_directory="{_cache.private}"'
    os.environ[XLA_FLAGS] = f"{flags} {flag}".strip()
    atexit.register(_cache.close)


def publish() -> None:
    """Put what was compiled so far into the user's folder, if there is one."""
    if _cache is not None:
        _cache.publish()


def say(what: str) -> None:
    """Warn, once for a process."""
    warn(
        f"The environment variable {CACHE} asks to keep compiled programs, but {what}. "
        "Programs are compiled anew in each process; name another folder, or unset it",
        once=CACHE,
    )


def own_folder(folder: Path) -> None:
    """Make a folder that nobody else can read or write, or make sure that it is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{str(folder)!r} is no folder")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise OSError(
            f"{str(folder)!r} belongs to somebody else, and code is run from it"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    os.scandir(folder).close()


def _is_whole(file: Path, number: str) -> bool:
    """Whether a file holds what it held when its number was given."""
    try:
        return stat.S_ISREG(file.lstat().st_mode) and _number_of(file) == number
    except OSError:
        return False


def _number_of(file: Path) -> str:
    """What the contents of a file are known by."""
    from hashlib import sha256  # only where there is a cache

    return sha256(file.read_bytes()).hexdigest()


def _copy(file: Path, folder: Path) -> None:
    """Put a copy of a file into a folder under its number, all at once or not at all."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as target, file.open("rb") as source:
            shutil.copyfileobj(source, target)
        number = _number_of(Path(name))
        if number == _number_of(file):
            os.replace(name, folder / f"{number}-{file.name}")
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _tidy(place: Path) -> None:
    """Remove what processes that were killed have left behind."""
    for folder in place.glob(f"{PRIVATE}*"):
        try:
            process = int(folder.name[len(PRIVATE) :].partition("-")[0])
            if time.time() - folder.lstat().st_mtime > FORGOTTEN:
                if os.name != "posix":  # where signal 0 is a signal
                    continue
                os.kill(process, 0)
        except (ValueError, PermissionError):
            continue
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
