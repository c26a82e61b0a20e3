"""Files of parameters and state: what stands in them, and whether it fits a network.

They are written and read by `nengo_dl.archives`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nengo import Network
from nengo.exceptions import ValidationError

from nengo_dl import archives
from nengo_dl.models.plasticity import Bounds
from nengo_dl.runtime.python_state import PROCESSES

_NUMBERS = "fiubc"  # the kinds of dtype that files may hold


#: what the names of arrays begin with that are state of the simulation, no parameters
STATE = "state "


#: the number of steps that were run
STEPS = f"{STATE}steps"


#: what they may take if they are packed; the file says how large they are
MOST_PACKED = 2**26


#: a number beyond which not every step has a time of its own
MOST_STEPS = 2**53


#: so many lines of what is wrong with a file are shown
MOST_PROBLEMS = 20


#: what to do if a file fits but for its numbers
OTHER_VALUES = (
    "Training may have gone wrong before it was saved, or something else wrote it: load "
    "a file of an earlier time, or put the numbers right (numpy.load, numpy.savez)."
)


def _path(path: Any) -> Any:
    """A path or an open file as such; the rest is refused."""
    if hasattr(path, "read") or hasattr(path, "write"):
        if isinstance(path, io.TextIOBase):
            raise ValidationError(
                f"the file {path!r} is open for text; open it in binary mode",
                attr="path",
            )
        return path
    try:
        text = os.fsdecode(path)
        if "\0" in text or not Path(text).name:
            raise TypeError
    except TypeError:
        raise ValidationError(
            f"expected the name of a file, or a file that is open in binary mode; got "
            f"{reprlib.repr(path)}. (What a file holds is given as io.BytesIO(...).)",
            attr="path",
        ) from None
    return Path(text)


def _npz_path(path: Path) -> Path:
    """The path with the suffix that NumPy gives to files with several arrays."""
    return path if path.name.endswith(".npz") else path.with_name(f"{path.name}.npz")


def save(path: Any, values: Mapping[str, Any]) -> None:
    """Write arrays to a file.

    A file of this name is replaced whole or not at all, and keeps its mode, owner and
    links; see `nengo_dl.archives`.

    ``path``: the file's name; ``.npz`` is added if it does not end so. Or a file that is
    open for writing. ``values``: an array of numbers for each name. Returns the path of
    the file. Raises `ValidationError` if an array holds anything but numbers, or ``path``
    is something else. Raises `OSError` if the system does not let the file be written.
    """
    arrays = {name: np.asanyarray(value) for name, value in values.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            raise ValidationError(
                f"{name} must hold numbers; got an array of type {array.dtype}",
                attr="save",
            )
    path = _path(path)
    path = _npz_path(path) if isinstance(path, Path) else path
    archives.write(path, arrays)
    return path


def load(
    path: Any,
    expected: Mapping[str, tuple[int, ...]],
    dtype: Any = None,
    optional: Mapping[str, tuple[int, ...]] | None = None,
    numbered: Any = frozenset(),
    bounds: Mapping[str, Bounds] | None = None,
) -> dict[str, np.ndarray]:
    """Read arrays from a file that `save` wrote.

    Names, shapes and types are looked at before anything is unpacked, so that a file
    takes no more memory than what is expected of it.

    Parameters
    ----------
    path : str or path-like or binary file
        The file's name, with or without ``.npz``. Or a file that is open for reading.
    expected : dict
        The shape of each array that the file must hold, by name.
    dtype : dtype, optional
        What values will be converted to: those that it cannot hold are refused.
    optional : mapping, optional
        The shape of each that it may hold besides; files of earlier versions do not.
    numbered : frozenset of str
        Names that may be followed by other numbers in the file; see
        `nengo_dl.simulator.files`.
    bounds : mapping, optional
        Between which numbers an array must be.

    Returns
    -------
    dict
        The array for each name that is there. State in the file is passed over if none is
        expected; otherwise those are there as well that begin with `PROCESSES`, of any
        size.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the file is not one that `save` wrote, or if its arrays are not the expected
        ones, or hold what parameters cannot be. The message names each.
    FileNotFoundError
        If there is no such file.
    """
    path, optional = _found(_path(path)), optional or {}
    name = repr(str(path)) if isinstance(path, Path) else "the file that was given"
    try:
        with archives.opened(path) as archive:
            _refuse_positions(name, archive.names)
            archive = renumbered(archive, expected, optional, numbered)
            there = {k: shape for k, shape in optional.items() if k in archive.names}
            expected = {**expected, **there}
            values, problems, way_out = _read(archive, expected, dtype, bounds or {})
    except archives.Damaged as error:
        raise ValidationError(
            f"{name} is not a file of parameters (an .npz archive of arrays without "
            f"pickled objects), or it was damaged: {error}. Nothing was loaded; take "
            "another file, or write it again with Simulator.save_params",
            attr="load",
        ) from error
    if problems:
        shown = problems[:MOST_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown):,} more like these")
        lines = "".join(f"\n  - {problem}" for problem in shown)
        raise ValidationError(
            f"{name} does not fit this network; nothing was loaded:{lines}\n{way_out}",
            attr="load",
        )
    return values


def _found(path: Path) -> Path:
    """The file of a name; an open one as it is."""
    if not isinstance(path, Path):
        if getattr(path, "seekable", bool)():
            return path
        raise ValidationError(
            f"the file {path!r} cannot be read to and fro; read it as a whole, into an "
            "io.BytesIO",
            attr="path",
        )
    candidates = (_npz_path(path), path)  # the first is where `save` writes
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(errno.ENOENT, "load: there is no file", str(candidates[0]))


def _read(
    archive: archives.Archive,
    expected: Mapping[str, tuple[int, ...]],
    dtype: Any,
    bounds: Mapping[str, Bounds],
) -> Any:
    """Arrays of an archive, or what is wrong with them, and the way out of that."""
    parameters = [name for name in archive.names if not name.startswith(STATE)]
    with_state = any(name.startswith(STATE) for name in expected)
    names = set(archive.names if with_state else parameters)
    free = sorted(name for name in names if name.startswith(PROCESSES))
    problems, fitting = [], set()
    for name in sorted(expected.keys() | names.difference(free)):
        if name not in names:
            problems.append(f"{name} is missing")
        elif name in expected:
            problem = _header_problem(*archive.header(name), expected[name])
            if problem is None:
                fitting.add(name)
            else:
                problems.append(f"{name} {problem}")
        elif len(problems) < MOST_PROBLEMS:
            problems.append(f"{name} {archive.header(name)[0]} is not in this network")
        else:
            problems.append(name)  # one more that is not shown
    for name in free:  # their sizes are not known beforehand
        shape, dtype = archive.header(name)
        small = archive.is_small(name, MOST_PACKED)
        if not (len(shape) == 1 and dtype.kind in _NUMBERS and small):
            problems.append(f"{name} {shape} is too large, or does not hold numbers")
    if problems:
        return {}, problems, _way_out(expected, fitting, set(archive.names))
    values = {name: archive.array(name) for name in (*expected, *free)}
    for name in expected:
        problem = _value_problem(name, values[name], dtype)
        if problem is None and name in bounds:
            problem = _bounds_problem(values[name], bounds[name])
        if problem is not None:
            problems.append(f"{name} {problem}")
    return values, problems, OTHER_VALUES


def _header_problem(shape: Any, dtype: Any, expected: Any) -> str | None:
    """What is wrong with the form of an array, if anything."""
    if dtype.kind == "c":
        return "holds complex numbers; expected real ones"
    if dtype.kind not in _NUMBERS:
        return "does not hold numbers"
    if shape != tuple(expected):
        return f"has shape {shape}; expected {tuple(expected)}"
    return None


def _value_problem(name: str, value: np.ndarray, dtype: Any) -> str | None:
    """What is wrong with the numbers of an array, if anything.

    State may be infinite or undefined, if that is how it is: a neuron that has not fired
    yet may well say so with a time of minus infinity.
    """
    if name == STEPS:
        steps = value.item()
        if not (np.isfinite(steps) and 0 <= steps < MOST_STEPS and steps == int(steps)):
            return f"is {steps}; expected a whole number of steps from 0 on"
        return None
    finite = np.isfinite(value)
    if dtype is not None and np.dtype(dtype).kind == "f":
        too_large = finite & (np.abs(value) > np.finfo(dtype).max)
        if too_large.any():
            worst = value[too_large].flat[0]
            return f"holds {worst:g}, which {np.dtype(dtype)} cannot hold"
    if finite.all() or name.startswith(STATE):
        return None
    kind = "NaN" if np.isnan(value).any() else "infinite values"
    where = tuple(np.argwhere(~finite)[0].tolist())
    return f"holds {kind} ({np.count_nonzero(~finite)} of {value.size}, first at {where})"


def _bounds_problem(value: np.ndarray, bounds: Bounds) -> str | None:
    """What is wrong with weights that a rule keeps between bounds, if anything."""
    if not bounds.exceeded(value):
        return None
    return (
        f"holds weights from {value.min():.6g} to {value.max():.6g}, which is beyond the "
        f"bounds w_min={bounds.low:g} and w_max={bounds.high:g} of their rule "
        f"{bounds.kept_by}: give it other bounds if these weights are right"
    )


def _way_out(expected: Any, fitting: Any, found: Any) -> str:
    """What to do if a file does not fit.

    ``fitting``: the names of those that fit. ``found``: the names in the file.
    """
    wanted = {name for name in expected if not name.startswith(STATE)}
    parameters = {name for name in found if not name.startswith(STATE)}
    if parameters != wanted or not wanted <= fitting:
        return (
            "Load it into a simulator of the network (and with the same include_state) "
            "that it was saved from."
        )
    if parameters == found:
        return "It holds no state: load it without include_state."
    return (
        "The parameters fit, but not the state, which depends on minibatch_size and on "
        "the types of neurons and synapses: load it without include_state, or into a "
        "simulator that has these as it was saved."
    )


def _refuse_positions(path: Any, names: Any) -> None:
    """Raise an error if arrays are named by their positions, as in NengoDL 3."""
    positions = [name for name in names if re.fullmatch(r"arr_\d+", name)]
    if positions:
        others = [name for name in names if name not in positions][:MOST_PROBLEMS]
        raise ValidationError(
            f"{path} holds {len(positions)} arrays by position ({positions[0]}, ...)"
            + (f" and {', '.join(map(repr, others))}" if others else "")
            + ", as NengoDL 3 and earlier wrote them. It does not say which parameter "
            "each one is, so it cannot be loaded; nothing was changed. With the version "
            "that wrote it, load it and write the parameters into the network "
            "(Simulator.freeze_params), or look at Simulator.data and save these arrays",
            attr="load",
        )


# names in files that Keras has put numbers behind -------------------------------
#
# Keras calls a layer without a name ``dense_7``, the eighth one of the process. A
# converted network counts from its own first layer on, so its names are the same
# whenever it is made. Files that were written before it did so hold the numbers of
# Keras; in them, too, a later layer has a larger number, which is all that is needed to
# know which is which.

#: what Keras calls variables that are given no name
ALWAYS = frozenset({"variable"})


def numbered_names(network: Network | None) -> frozenset[str]:
    """The words in names of parameters that numbers of Keras may follow.

    ``network``: it, or networks inside it, may come from a `nengo_dl.Converter`, which
    leaves the words on them. Returns: such as ``{"dense", "variable"}``.
    """
    if network is None:
        return ALWAYS
    networks = (network, *network.all_networks)
    return ALWAYS.union(*(getattr(net, "numbered_names", ()) for net in networks))


class Renamed:
    """An archive whose arrays have other names.

    Parameters
    ----------
    names : dict
        New name -> name in the archive.
    """

    def __init__(self, archive: Any, names: Mapping[str, str]):
        self._archive = archive
        self._names = names
        self.names = list(names)

    def header(self, name: str) -> Any:
        """Shape and type of an array."""
        return self._archive.header(self._names[name])

    def array(self, name: str) -> Any:
        """The array of a name."""
        return self._archive.array(self._names[name])


def renumbered(
    archive: Any,
    expected: Iterable[str],
    optional: Iterable[str],
    words: frozenset[str],
) -> Any:
    """An archive with the names that are expected, where only numbers are others.

    ``expected``, ``optional``: what the archive must hold, and what it may hold besides.
    ``words``: see `numbered_names`. Returns the archive as it is, if it has the names
    already, or if there is more that is different.
    """
    given, wanted = (
        _by_form(archive.names, words),
        _by_form([*expected, *optional], words),
    )
    names = {}
    for form, entries in given.items():
        others = wanted.get(form, entries)  # what is not expected keeps its name
        if len(others) != len(entries):
            return archive
        names.update(zip(others, entries, strict=True))
    if names.keys() == set(archive.names) or not names.keys() >= set(expected):
        return archive
    return Renamed(archive, names)


def _by_form(names: Iterable[str], words: frozenset[str]) -> dict[str, list[str]]:
    """Names that are equal but for numbers, in the order of these."""
    choice = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    # a layer has its name to itself, but for a part of it or for what it is called with
    pattern = re.compile(rf"(?<![A-Za-z0-9_])({choice})(?:_(\d+))?(?![A-Za-z0-9])")
    found = defaultdict(list)
    for name in names:
        numbers = [int(match[2] or 0) for match in pattern.finditer(name)]
        found[pattern.sub(r"\1_*", name)].append((numbers, name))
    return {form: [name for _, name in sorted(v)] for form, v in found.items()}
