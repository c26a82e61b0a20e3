"""Archives of arrays, written whole or not at all, and plain data as arrays.

An archive is what `numpy.savez` writes, a zip file with one ``.npy`` for each array. A
save changes what is in the file and nothing else: mode, owner, links stay as they are.

A file is written under another name in its folder, put on the disk, and renamed. Where
that would change more than the contents, because the file has other names (hard links)
or an owner that cannot be given to a new one, it is copied into the old file instead;
meanwhile the whole new file is there as well, and `Archive` finds it if the copy was cut
short. Only in a folder in which nothing can be made is there no such second file.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where open files cannot be removed anyway
    fcntl = None

#: how Python tells that a zip file is not what it should be
DAMAGED = (
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    NotImplementedError,  # a way of compressing that zipfile does not know
    RuntimeError,  # a password is needed
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

#: what a folder says in which no file can be made
NO_NEW_FILES = (errno.EACCES, errno.EPERM, errno.EROFS)


class Damaged(Exception):
    """A file is no archive of arrays, or not a whole one."""


# reading -------------------------------------------------------------------------


class Archive:
    """An archive that is open for reading; nothing is unpacked before it is asked for.

    Raises `Damaged` if it is something else; so do the methods.

    Parameters
    ----------
    file : binary file
        Open for reading; it must be possible to go to and fro in it.

    Attributes
    ----------
    names : tuple of str
        Of the arrays.
    """

    def __init__(self, file: BinaryIO):
        with _damage():
            self._zip = zipfile.ZipFile(file)
        self._entries = {}
        for entry in self._zip.infolist():
            name = entry.filename
            if not name.endswith(".npy"):
                raise Damaged(f"{name!r} is no array")
            name = name[: -len(".npy")]
            if name in self._entries:
                raise Damaged(f"it holds {name!r} twice")
            self._entries[name] = entry
        self.names = tuple(self._entries)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, which is not read."""
        with _damage(name), self._zip.open(self._entries[name]) as entry:
            shape, _, dtype = self._header(entry)
            return shape, dtype

    def is_small(self, name: str, n_bytes: int) -> bool:
        """Whether an array takes no more than this, or no more than the file itself."""
        entry = self._entries[name]
        packed = entry.compress_type != zipfile.ZIP_STORED
        return not packed or entry.file_size <= n_bytes

    def array(self, name: str) -> np.ndarray:
        """Read one array of the file."""
        with _damage(name), self._zip.open(self._entries[name]) as entry:
            shape, fortran, dtype = self._header(entry)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            data = entry.read(size + 1)  # one more, so that the checksum is looked at
            if len(data) != size:
                raise ValueError(f"{size} bytes were expected, and {len(data)} found")
            values = np.frombuffer(bytearray(data), dtype)
            return values.reshape(shape, order="F" if fortran else "C")

    @staticmethod
    def _header(entry):
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        version = np.lib.format.read_magic(entry)
        if version not in readers:
            raise ValueError(f"version {version} of NumPy's format")
        shape, fortran, dtype = readers[version](entry)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
        if any(n < 0 for n in shape):
            raise ValueError(f"its shape is {shape}")
        return shape, fortran, dtype


@contextlib.contextmanager
def _damage(name: str | None = None):
    """Context in which errors are told as those of a damaged file."""
    try:
        yield
    except DAMAGED as error:
        where = "" if name is None else f"{name!r} in it: "
        raise Damaged(f"{where}{error or type(error).__name__}") from error
    except OSError as error:  # of places in the file that there are not
        if error.errno not in (None, errno.EINVAL):
            raise
        raise Damaged(str(error)) from error


@contextlib.contextmanager
def opened(path: Path | BinaryIO) -> Iterator[Archive]:
    """An archive, to be read inside.

    ``path``: a file that is open stays so.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        yield Archive(path)
        return
    with open(path, "rb") as file:
        try:
            archive = Archive(file)
        except Damaged:
            rest = _second(os.path.realpath(path))
            if not os.path.exists(rest):
                raise
            with open(rest, "rb") as whole:
                yield Archive(whole)
            return
        yield archive


# writing -------------------------------------------------------------------------


def write(path: Path | BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a file.

    ``path``: a file that is open is written to from where it is, and stays open.
    ``arrays``: name -> array without objects. Raises `OSError`: what the system says,
    with the name of the file. It is as it was then.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        _write_archive(path, arrays)
        return
    try:
        _write_file(os.path.realpath(path), arrays)
    except OSError as error:
        if error.errno is None:
            raise
        text = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            text = f"there is no folder {os.path.dirname(os.path.abspath(path))!r} for"
        raise OSError(error.errno, text, str(path)) from error


def _write_archive(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    # what numpy.savez writes, which cannot save an array under the name "file"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_file(path: str, arrays: Mapping[str, Any]) -> None:
    before = os.stat(path) if os.path.exists(path) else None
    if before is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if before is not None and not stat.S_ISREG(before.st_mode):
        kind = errno.EISDIR if stat.S_ISDIR(before.st_mode) else errno.EINVAL
        raise OSError(kind, os.strerror(kind))
    _remove_leftovers(path)
    try:
        temporary = _Temporary(path)
    except OSError as error:
        if before is None or error.errno not in NO_NEW_FILES:
            raise
        memory = io.BytesIO()
        _write_archive(memory, arrays)
        _copy_into(path, memory)
        return
    with temporary:
        _write_archive(temporary.file, arrays)
        temporary.file.flush()
        replaced = before is None or temporary.resemble(path, before)
        os.fsync(temporary.file.fileno())
        if replaced:
            temporary.rename(path)
        else:
            temporary.rename(_second(path))
            with open(_second(path), "rb") as source:
                _copy_into(path, source)
    with contextlib.suppress(OSError):  # from now on nobody needs it
        os.unlink(_second(path))


class _Temporary:
    """A new file in the folder of another one, locked as long as it is written.

    If the process is killed, it stays; that nobody holds the lock tells the next save
    that it may go. Its name has always the same length: others may be as long as names
    can be.

    Parameters
    ----------
    path : str
        The other file.
    """

    def __init__(self, path: str):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while True:
            self.path = f"{_hidden(path)}-{uuid.uuid4().hex[:12]}.tmp"
            file = os.fdopen(os.open(self.path, flags, 0o666), "w+b")
            if _locked(file) is not False and os.fstat(file.fileno()).st_nlink:
                break
            file.close()  # somebody took it for a leftover, before it was locked
        self.file = file

    def __enter__(self) -> _Temporary:
        return self

    def __exit__(self, *exc_info) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.file.close()

    def resemble(self, path: str, before: os.stat_result) -> bool:
        """Be like a file to all but its contents; False if it cannot be."""
        if before.st_nlink > 1:
            return False
        number = self.file.fileno()
        if self.path is None:
            return False
        try:
            mine = os.fstat(number)
            if (mine.st_uid, mine.st_gid) != (before.st_uid, before.st_gid):
                os.chown(self.path, before.st_uid, before.st_gid)
            for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
                os.setxattr(number, name, os.getxattr(path, name))
            os.chmod(self.path, stat.S_IMODE(before.st_mode))
        except OSError:
            return False
        return True

    def rename(self, path: str) -> None:
        """Take the place of a file, or be the first of this name."""
        if fcntl is None:
            self.file.close()  # there, files that are open cannot be renamed
        if self.path is not None:
            os.replace(self.path, path)
        self.path = None
        with contextlib.suppress(OSError):  # not every system can do that for folders
            folder = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _hidden(path: str) -> str:
    """What names of files begin with that are there for the sake of another one."""
    folder, name = os.path.split(path)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    return os.path.join(folder, f".nengo_dl-{digest}")


def _second(path: str) -> str:
    """Where the whole file is while it is copied into another one."""
    return f"{_hidden(path)}.whole"


def _locked(file: BinaryIO) -> bool | None:
    """Lock a file: whether nobody else had; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _remove_leftovers(path: str) -> None:
    """Remove what killed processes left of files that they did not get to rename."""
    folder, prefix = os.path.split(f"{_hidden(path)}-")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if not (name.startswith(prefix) and name.endswith(".tmp")):
                continue
            leftover = os.path.join(folder, name)
            with contextlib.suppress(OSError), open(leftover, "r+b") as file:
                if _locked(file):
                    os.unlink(leftover)


def _copy_into(path: str, source: BinaryIO) -> None:
    """Give a file the contents of another one, which is open."""
    source.seek(0, os.SEEK_END)
    size = source.tell()
    source.seek(0)
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate") and size:
            old = os.fstat(file.fileno()).st_size
            try:  # before anything is lost
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                os.ftruncate(file.fileno(), old)
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
        # without its end a zip file cannot be taken for a whole one
        file.truncate(0)
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


# nested plain data as arrays of numbers, for files without pickles --------------
#
# Plain are numbers, text, arrays, lists, tuples, dicts, sets, deques of such, and
# random number generators. How they are nested is written as JSON; what is in arrays
# goes to one array for each type of number.

#: generators of random numbers that NumPy has, by what they are made of
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")

#: what JSON says of everything but what it has itself
TAGS = frozenset(
    ("list tuple set deque dict complex bytes array scalar RandomState Generator").split()
)

_NUMBERS = "fiubc"


class NotPlain(Exception):
    """Something that cannot be written.

    Parameters
    ----------
    place : str
        Where it is, such as ``['a'][3]``.
    """

    def __init__(self, obj: object, place: str):
        super().__init__(f"an object of type {type(obj).__name__} at {place}")
        self.obj, self.place = obj, place


class _Writer:
    def __init__(self):
        self.arrays: dict[str, list[np.ndarray]] = {}

    def form(self, obj: Any, place: str) -> Any:
        """What JSON says of an object."""
        if obj is None or type(obj) in (bool, int, float, str):
            return obj
        if isinstance(obj, np.ndarray | np.generic) and obj.dtype.kind in _NUMBERS:
            array = np.asarray(obj)
            self.arrays.setdefault(array.dtype.name, []).append(array.ravel())
            tag = "array" if isinstance(obj, np.ndarray) else "scalar"
            return [tag, array.dtype.name, list(array.shape)]
        writer = _WRITERS.get(type(obj))
        if writer is None:
            raise NotPlain(obj, place or "its own place")
        return writer(self, obj, place)

    def forms(self, items, place: str) -> list:
        return [self.form(item, f"{place}[{i}]") for i, item in enumerate(items)]

    def pairs(self, obj: dict, place: str) -> list:
        return [
            [self.form(key, f"a key of {place}"), self.form(value, f"{place}[{key!r}]")]
            for key, value in obj.items()
        ]


_WRITERS: dict[type, Callable] = {
    list: lambda w, obj, place: ["list", w.forms(obj, place)],
    tuple: lambda w, obj, place: ["tuple", w.forms(obj, place)],
    set: lambda w, obj, place: ["set", w.forms(sorted(obj, key=repr), place)],
    collections.deque: lambda w, obj, place: ["deque", obj.maxlen, w.forms(obj, place)],
    dict: lambda w, obj, place: ["dict", w.pairs(obj, place)],
    complex: lambda w, obj, place: ["complex", obj.real, obj.imag],
    bytes: lambda w, obj, place: ["bytes", w.form(np.frombuffer(obj, "u1"), place)],
    np.random.RandomState: lambda w, obj, place: [
        "RandomState",
        w.form(obj.get_state(), place),
    ],
    np.random.Generator: lambda w, obj, place: [
        "Generator",
        w.form(obj.bit_generator.state, place),
    ],
}


class _Reader:
    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays
        self.done = dict.fromkeys(arrays, 0)

    def value(self, form: Any) -> Any:
        """The object that a form describes."""
        if not isinstance(form, list):
            return form
        tag, *parts = form
        if tag not in TAGS:
            raise ValueError(f"there is nothing called {tag!r}")
        return getattr(self, f"_{tag}")(*parts)

    def _list(self, items):
        return [self.value(item) for item in items]

    def _tuple(self, items):
        return tuple(self._list(items))

    def _set(self, items):
        return set(self._list(items))

    def _deque(self, maxlen, items):
        return collections.deque(self._list(items), maxlen)

    def _dict(self, pairs):
        return {self.value(key): self.value(value) for key, value in pairs}

    def _complex(self, real, imag):
        return complex(real, imag)

    def _bytes(self, form):
        return self.value(form).tobytes()

    def _array(self, dtype, shape):
        first = self.done[dtype]
        last = first + int(np.prod(shape, dtype=object))
        values = self.arrays[dtype][first:last]
        self.done[dtype] = last
        return values.reshape(shape).copy()

    def _scalar(self, dtype, shape):
        return self._array(dtype, shape)[()]

    def _RandomState(self, form):
        rng = np.random.RandomState()
        rng.set_state(self.value(form))
        return rng

    def _Generator(self, form):
        state = self.value(form)
        name = state["bit_generator"]
        if name not in BIT_GENERATORS:
            raise ValueError(f"there is no generator {name!r}")
        rng = np.random.Generator(getattr(np.random, name)())
        rng.bit_generator.state = state
        return rng


def to_arrays(obj: Any, prefix: str) -> dict[str, np.ndarray]:
    """An object as arrays of numbers.

    ``obj``: plain data. ``prefix``: what names of the arrays begin with. Returns: under
    ``prefix`` the JSON, as bytes; under ``prefix`` and the name of a type the numbers of
    that type, one after the other. Raises `NotPlain` if there is something else in it.

    Examples
    --------
    >>> arrays = to_arrays({"y": np.zeros(3), "seen": [1, None]}, "process")
    >>> list(arrays)
    ['process', 'process float64']
    >>> from_arrays(arrays, "process")
    {'y': array([0., 0., 0.]), 'seen': [1, None]}
    """
    writer = _Writer()
    text = json.dumps(writer.form(obj, ""), separators=(",", ":"))
    arrays = {prefix: np.frombuffer(text.encode(), np.uint8)}
    for name, parts in writer.arrays.items():
        arrays[f"{prefix} {name}"] = np.concatenate(parts)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """The object that `to_arrays` was given.

    ``arrays``: others may be among them. Raises `ValueError` if something is wrong with
    them.
    """
    numbers = {
        name[len(prefix) + 1 :]: value
        for name, value in arrays.items()
        if name.startswith(f"{prefix} ")
    }
    try:
        reader = _Reader(numbers)
        if any(name != value.dtype.name for name, value in numbers.items()):
            raise ValueError("an array is of another type than its name says")
        text = np.asarray(arrays[prefix], np.uint8).tobytes().decode()
        value = reader.value(json.loads(text))
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(f"{prefix} cannot be read: {error}") from error
    if any(reader.done[name] != value.size for name, value in numbers.items()):
        raise ValueError(f"{prefix} has more numbers than places for them")
    return value


def difference(found: Any, present: Any, place: str = "") -> str | None:
    """How an object differs in form from one that it is to take the place of.

    Lists may have become longer, and what is None may have become something else.

    ``found``, ``present``: plain data. ``place``: what they are called.
    """
    if found is None or present is None:
        return None
    if type(found) is not type(present):
        kinds = type(found).__name__, type(present).__name__
        return f"{place or 'it'} is of type {kinds[0]}; expected {kinds[1]}"
    if isinstance(present, np.ndarray):
        if (found.shape, found.dtype) != (present.shape, present.dtype):
            return (
                f"{place or 'it'} is an array {found.shape} of {found.dtype}; expected "
                f"{present.shape} of {present.dtype}"
            )
    elif isinstance(present, tuple):
        if len(found) != len(present):
            return f"{place or 'it'} has {len(found)} parts; expected {len(present)}"
        parts = zip(range(len(present)), found, present)
        return _first_difference(parts, place)
    elif isinstance(present, dict):
        common = [key for key in present if key in found]
        return _first_difference(((k, found[k], present[k]) for k in common), place)
    return None


def _first_difference(parts, place: str) -> str | None:
    problems = (difference(f, p, f"{place}[{key!r}]") for key, f, p in parts)
    return next((problem for problem in problems if problem is not None), None)
