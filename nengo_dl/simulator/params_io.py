"""Moving parameters out of the simulator: into Nengo objects, and into files.

How core Nengo builds an object decides what has to be written into it, so that its
signals have given values when it is built again:

- Encoders and biases of an ensemble: ``scaled_encoders = encoders * gain / radius``, if
  encoders are not normalised.
- Weights of a connection from anything that is not decoded: those of its transform.
- Weights of a decoded connection: ``transform @ decoders``. Given decoders replace the
  product, without a transform.
- Weights from neurons to neurons that a solver found for two ensembles: these replace
  decoders, transform and encoders (`FullWeights`).
"""

from __future__ import annotations

import errno
import inspect
import io
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from nengo import Connection, Direct, Ensemble, Network, Probe
from nengo.builder import Model
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError
from nengo.solvers import NoSolver
from nengo.transforms import Dense, Sparse, SparseMatrix

from nengo_dl.notices import label_of
from nengo_dl.simulator import archives
from nengo_dl.simulator.numbered_names import renumbered
from nengo_dl.training.parameters import (
    built_ensemble,
    live_matrix,
    live_value,
    probe_connections,
)

_NUMBERS = "fiubc"  # the kinds of dtype that files may hold

#: what the names of arrays begin with that are state of the simulation, no parameters
STATE = "state "

#: the number of steps that were run
STEPS = f"{STATE}steps"

#: random numbers and what is kept in Python; files of the first version have no such
PROCESSES = f"{STATE}processes"

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
#: of no ensemble were gains loaded
NOTHING: Mapping[Any, Any] = MappingProxyType({})


class FullWeights(NoSolver):
    """Weights between the neurons of two ensembles, used as they are.

    `~nengo.solvers.NoSolver` with ``weights=True`` multiplies its values with transform
    and encoders. Weights that were changed as a whole cannot be written as such a
    product, so this solver takes the place of all of it.

    Parameters
    ----------
    values : (n_pre, n_post) array_like
        The weights, transposed.
    weights : bool
        Always True.
    """

    compositional = False

    def __init__(self, values: Any, weights: bool = True) -> None:
        if not weights:
            raise ValidationError("must be True", attr="weights", obj=self)
        super().__init__(values, weights=True)


class ZeroFunction:
    """A function that gives zeros, of a connection whose decoders are given.

    It only tells how many dimensions are decoded; it is never used to find decoders.

    Parameters
    ----------
    size : int
        The number of dimensions.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, x: Any) -> Any:
        """Zeros of the given size, for any ``x``."""
        return np.zeros(self.size)

    def __eq__(self, other: object) -> bool:
        return type(other) is ZeroFunction and other.size == self.size

    def __hash__(self) -> int:
        return hash((ZeroFunction, self.size))


def nengo_params(
    model: Model,
    obj: Any,
    values: Callable[[Any], Any],
    loaded: Mapping[Any, Any] = NOTHING,
) -> dict[str, Any]:
    """Keyword arguments that make a Nengo object with the present parameters.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the object was built.
    obj : ~nengo.Ensemble or ~nengo.Connection or ~nengo.Probe
        The object.
    values : callable
        ``values(signal)`` gives the present value of a parameter's signal.
    loaded : mapping, optional
        Gains of ensembles from a file, see `built_ensemble`.

    Returns
    -------
    dict
        For an ensemble ``encoders``, ``normalize_encoders``, ``gain``, ``bias``, and
        the defaults of ``max_rates`` and ``intercepts``, which follow from gain and
        bias; for its neurons the last four of them. For a decoded connection
        ``solver``, ``function`` and ``transform``; for any other ``transform``; for a
        decoded probe ``solver``. Empty where there is no parameter.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the object is not in the model or is of another type, or if its parameters
        cannot be expressed.
    """
    if isinstance(obj, Neurons):
        params = nengo_params(model, obj.ensemble, values, loaded)
        of_neurons = ("gain", "bias", "max_rates", "intercepts")
        return {name: params[name] for name in of_neurons if name in params}
    if not isinstance(obj, Ensemble | Connection | Probe):
        raise ValidationError(
            f"{label_of(obj)} is a {type(obj).__name__}, which has no parameters of this "
            "kind; give ensembles, their neurons, or connections",
            attr="objs",
        )
    if obj not in model.params:
        raise ValidationError(
            f"{label_of(obj)} is not in the simulated network", attr="objs"
        )
    if isinstance(obj, Ensemble):
        return _ensemble_params(model, obj, values, loaded.get(obj))
    if isinstance(obj, Connection):
        return _connection_params(model, obj, values)
    conn = probe_connections(model).get(obj)
    params = {} if conn is None else _connection_params(model, conn, values)
    return {"solver": params["solver"]} if "solver" in params else {}


def _ensemble_params(
    model: Model, ens: Ensemble, values: Callable[[Any], Any], loaded: Any
) -> dict[str, Any]:
    if isinstance(ens.neuron_type, Direct):
        return {}
    built = built_ensemble(model, ens, values, loaded)
    lost = (built.gain == 0) & np.any(built.scaled_encoders != 0, axis=1)
    if np.any(lost):
        raise ValidationError(
            f"the neurons {np.flatnonzero(lost).tolist()} of {label_of(ens)} have a gain "
            "of 0 but scaled encoders other than 0, which no encoders can give; give "
            "them a gain, or let no learning rule change the encoders of this ensemble",
            attr="encoders",
            obj=ens,
        )
    return {
        "encoders": np.array(built.encoders),
        "normalize_encoders": False,
        "gain": np.array(built.gain),
        "bias": np.array(built.bias),
        "max_rates": Ensemble.max_rates.default,
        "intercepts": Ensemble.intercepts.default,
    }


def _connection_params(
    model: Model, conn: Connection, values: Callable[[Any], Any]
) -> dict[str, Any]:
    signal = model.sig[conn].get("weights")
    if signal is None:
        return {}
    decoded = isinstance(conn.pre_obj, Ensemble) and not isinstance(
        conn.pre_obj.neuron_type, Direct
    )
    if not decoded:
        return {"transform": _transform(conn.transform, live_matrix(signal, values))}
    weights = np.array(live_value(signal, values))
    full = conn.solver.weights and isinstance(conn.post_obj, Ensemble)
    return {
        "solver": FullWeights(weights.T) if full else NoSolver(weights.T),
        "function": ZeroFunction(conn.size_out),
        "transform": None,
    }


def _transform(transform: Any, weights: Any) -> Any:
    """A transform like the given one, with other weights."""
    if isinstance(transform, Dense):
        return Dense(transform.shape, init=np.array(weights))
    if isinstance(transform, Sparse):
        if isinstance(weights, SparseMatrix):
            return Sparse(transform.shape, indices=weights.indices, init=weights.data)
        return Sparse(transform.shape, init=weights)
    # transforms keep the arguments they were made from as attributes of the same names
    arguments = inspect.signature(type(transform)).parameters
    arguments = {name: getattr(transform, name) for name in arguments}
    return type(transform)(**{**arguments, "init": np.array(weights)})


def get_nengo_params(
    model: Model,
    objs: Any,
    values: Callable[[Any], Any],
    as_dict: bool = False,
    loaded: Mapping[Any, Any] = NOTHING,
) -> Any:
    """Keyword arguments that make Nengo objects with the present parameters.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the objects were built.
    objs : ~nengo.Ensemble or ~nengo.Connection or list of these
        One or several objects.
    values : callable
        ``values(signal)`` gives the present value of a parameter's signal.
    as_dict : bool
        Whether to return a dictionary with the objects' labels as keys.
    loaded : mapping, optional
        Gains of ensembles from a file, see `built_ensemble`.

    Returns
    -------
    dict or list of dict
        See `nengo_params`: for one object its arguments, for a list of objects the list
        of theirs; with ``as_dict=True`` a dictionary from labels to arguments.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        See `nengo_params`; and with ``as_dict=True`` if labels are missing or not
        unique.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Ensemble(10, 1, label="a")
    ...     b = nengo.Ensemble(10, 1, label="b")
    ...     conn = nengo.Connection(a, b, label="conn")
    >>> with nengo_dl.Simulator(net) as sim:
    ...     args = sim.get_nengo_params([a, b, conn], as_dict=True)
    >>> with nengo.Network() as other:
    ...     a = nengo.Ensemble(10, 1, **args["a"])
    ...     b = nengo.Ensemble(10, 1, **args["b"])
    ...     nengo.Connection(a, b, **args["conn"])
    """
    one = not isinstance(objs, list | tuple)
    objs = [objs] if one else list(objs)
    if as_dict:
        _check_labels(objs)
    params = [nengo_params(model, obj, values, loaded) for obj in objs]
    if as_dict:
        objs = [obj.ensemble if isinstance(obj, Neurons) else obj for obj in objs]
        return {obj.label: p for obj, p in zip(objs, params, strict=True)}
    return params[0] if one else params


def _check_labels(objs: Any) -> None:
    of_labels = [obj.ensemble if isinstance(obj, Neurons) else obj for obj in objs]
    labels = [getattr(obj, "label", None) for obj in of_labels]
    for obj, label in zip(objs, labels, strict=True):
        problem = None
        if label is None:
            problem = "has no label"
        elif labels.count(label) > 1:
            problem = "has the same label as another object"
        if problem:
            raise ValidationError(
                f"{label_of(obj)} {problem}; with as_dict=True, labels are the keys of "
                "the result. Set different labels, or use as_dict=False",
                attr="get_nengo_params",
            )


def freeze(
    model: Model,
    objs: Any,
    values: Callable[[Any], Any],
    loaded: Mapping[Any, Any] = NOTHING,
) -> None:
    """Write the present parameters into Nengo objects.

    Built again, also by `nengo.Simulator`, the objects have these parameters and the
    network gives the same output. Connections that are not frozen with the ensemble
    they decode are solved again for its new encoders and biases; freezing a network
    freezes all of it, the decoders of its probes included.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the objects were built.
    objs : object or list of objects
        One or several of `~nengo.Network`, `~nengo.Ensemble`, `~nengo.Connection` and
        `~nengo.Probe`.
    values : callable
        ``values(signal)`` gives the present value of a parameter's signal.
    loaded : mapping, optional
        Gains of ensembles from a file, see `built_ensemble`.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        See `nengo_params`. No object is changed then.
    """
    todo = {}
    for obj in objs if isinstance(objs, list | tuple) else [objs]:
        inside = (
            obj.all_ensembles + obj.all_connections + obj.all_probes
            if isinstance(obj, Network)
            else [obj]
        )
        for part in inside:
            todo[part] = nengo_params(model, part, values, loaded)

    for obj, params in todo.items():
        if isinstance(obj, Connection) and "solver" in params:
            _freeze_decoders(obj, **params)
            continue
        for attr, value in params.items():
            setattr(obj, attr, value)


def _freeze_decoders(
    conn: Connection, solver: Any, function: Any, transform: Any
) -> None:
    """Set the decoders of a connection, keeping what it says of their meaning."""
    if not isinstance(solver, FullWeights):
        if conn.size_mid != conn.size_out:
            conn.function = function
        conn.transform = transform
    conn.solver = solver


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
    links; see `nengo_dl.simulator.archives`.

    Parameters
    ----------
    path : str or path-like or binary file
        The file's name; ``.npz`` is added if it does not end so. Or a file that is open
        for writing.
    values : dict
        An array of numbers for each name.

    Returns
    -------
    pathlib.Path or binary file
        The path of the file.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an array holds anything but numbers, or ``path`` is something else.
    OSError
        If the system does not let the file be written.
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
    optional: Mapping[str, tuple[int, ...]] = NOTHING,
    numbered: Any = frozenset(),
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
        `nengo_dl.simulator.numbered_names`.

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
    path = _found(_path(path))
    name = repr(str(path)) if isinstance(path, Path) else "the file that was given"
    try:
        with archives.opened(path) as archive:
            _refuse_positions(name, archive.names)
            archive = renumbered(archive, expected, optional, numbered)
            there = {k: shape for k, shape in optional.items() if k in archive.names}
            values, problems, way_out = _read(archive, {**expected, **there}, dtype)
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
    archive: archives.Archive, expected: Mapping[str, tuple[int, ...]], dtype: Any
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


def _way_out(expected: Any, fitting: Any, found: Any) -> str:
    """What to do if a file does not fit.

    Parameters
    ----------
    expected : dict
    fitting : set of str
        The names of those that fit.
    found : set of str
        The names in the file.
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
