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

import inspect
import os
import re
import uuid
import zipfile
from pathlib import Path

import numpy as np
from nengo import Connection, Direct, Ensemble, Network, Probe
from nengo.exceptions import ValidationError
from nengo.solvers import NoSolver
from nengo.transforms import Dense, Sparse, SparseMatrix

from nengo_dl.simulator.params import (
    built_ensemble,
    live_matrix,
    live_value,
    probe_connections,
)

_NUMBERS = "fiubc"  # the kinds of dtype that files may hold

#: what the names of arrays begin with that are state of the simulation, no parameters
STATE = "state "


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

    def __init__(self, values, weights=True):
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

    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        """Zeros of the given size, for any ``x``."""
        return np.zeros(self.size)

    def __eq__(self, other):
        return type(other) is ZeroFunction and other.size == self.size

    def __hash__(self):
        return hash((ZeroFunction, self.size))


def nengo_params(model, obj, values):
    """Keyword arguments that make a Nengo object with the present parameters.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the object was built.
    obj : ~nengo.Ensemble or ~nengo.Connection or ~nengo.Probe
        The object.
    values : callable
        ``values(signal)`` gives the present value of a parameter's signal.

    Returns
    -------
    dict
        For an ensemble ``encoders``, ``normalize_encoders``, ``gain``, ``bias``, and
        the defaults of ``max_rates`` and ``intercepts``, which follow from gain and
        bias. For a decoded connection ``solver``, ``function`` and ``transform``; for
        any other ``transform``; for a decoded probe ``solver``. Empty where there is no
        parameter.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the object is not in the model or is of another type, or if its parameters
        cannot be expressed.
    """
    if not isinstance(obj, Ensemble | Connection | Probe):
        raise ValidationError(
            f"{obj} is a {type(obj).__name__}, which has no parameters of this kind; "
            "give ensembles or connections",
            attr="objs",
        )
    if obj not in model.params:
        raise ValidationError(f"{obj} is not in the simulated network", attr="objs")
    if isinstance(obj, Ensemble):
        return _ensemble_params(model, obj, values)
    if isinstance(obj, Connection):
        return _connection_params(model, obj, values)
    conn = probe_connections(model).get(obj)
    params = {} if conn is None else _connection_params(model, conn, values)
    return {"solver": params["solver"]} if "solver" in params else {}


def _ensemble_params(model, ens, values):
    if isinstance(ens.neuron_type, Direct):
        return {}
    built = built_ensemble(model, ens, values)
    lost = (built.gain == 0) & np.any(built.scaled_encoders != 0, axis=1)
    if np.any(lost):
        raise ValidationError(
            f"the neurons {np.flatnonzero(lost).tolist()} of {ens} have a gain of 0 "
            "but scaled encoders other than 0, which no encoders can give; make the "
            "encoders of this ensemble not trainable",
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


def _connection_params(model, conn, values):
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


def _transform(transform, weights):
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


def get_nengo_params(model, objs, values, as_dict=False):
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
    params = [nengo_params(model, obj, values) for obj in objs]
    if as_dict:
        return {obj.label: p for obj, p in zip(objs, params, strict=True)}
    return params[0] if one else params


def _check_labels(objs):
    labels = [getattr(obj, "label", None) for obj in objs]
    for obj, label in zip(objs, labels, strict=True):
        problem = None
        if label is None:
            problem = "has no label"
        elif labels.count(label) > 1:
            problem = "has the same label as another object"
        if problem:
            raise ValidationError(
                f"{obj} {problem}; with as_dict=True, labels are the keys of the "
                "result. Set different labels, or use as_dict=False",
                attr="get_nengo_params",
            )


def freeze(model, objs, values):
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
            todo[part] = nengo_params(model, part, values)

    for obj, params in todo.items():
        if isinstance(obj, Connection) and "solver" in params:
            _freeze_decoders(obj, **params)
            continue
        for attr, value in params.items():
            setattr(obj, attr, value)


def _freeze_decoders(conn, solver, function, transform):
    """Set the decoders of a connection, keeping what it says of their meaning."""
    if not isinstance(solver, FullWeights):
        if conn.size_mid != conn.size_out:
            conn.function = function
        conn.transform = transform
    conn.solver = solver


def _npz_path(path):
    """The path with the suffix that NumPy gives to files with several arrays."""
    path = os.fspath(path)
    return Path(path if path.endswith(".npz") else f"{path}.npz")


def save(path, values):
    """Write arrays to a file.

    The file is first written under a temporary name in the same folder, then renamed: a
    file of this name is replaced whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file's name; ``.npz`` is added if it does not end so.
    values : dict
        An array of numbers for each name.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an array holds anything but numbers.
    """
    arrays = {name: np.asanyarray(value) for name, value in values.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            raise ValidationError(
                f"{name} must hold numbers; got an array of type {array.dtype}",
                attr="save",
            )
    path = _npz_path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        # what numpy.savez writes, which cannot save an array under the name "file"
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path, expected):
    """Read arrays from a file that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file's name, with or without ``.npz``.
    expected : dict
        The shape of each array that the file must hold, by name.

    Returns
    -------
    dict
        The array for each name. State in the file is passed over if none is expected.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the file is not one that `save` wrote, or if its arrays are not the expected
        ones. The message names each that is missing, unknown or of another shape.
    FileNotFoundError
        If there is no such file.
    """
    candidates = (_npz_path(path), Path(path))  # the first is where `save` writes
    for path in candidates:
        if path.is_file():
            break
    else:
        raise FileNotFoundError(f"load: there is no file {str(candidates[0])!r}")
    found = _read(path)
    if not any(name.startswith(STATE) for name in expected):
        found = {k: value for k, value in found.items() if not k.startswith(STATE)}

    problems = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problems.append(f"{name} is missing")
        elif name not in expected:
            problems.append(f"{name} {found[name].shape} is not in this network")
        elif found[name].dtype.kind not in _NUMBERS:
            problems.append(f"{name} does not hold numbers")
        elif found[name].shape != tuple(expected[name]):
            problems.append(
                f"{name} has shape {found[name].shape}; expected {tuple(expected[name])}"
            )
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ValidationError(
            f"{str(path)!r} does not fit this network; nothing was loaded:{lines}\n"
            + _way_out(expected, found),
            attr="load",
        )
    return {name: found[name] for name in expected}


def _way_out(expected, found):
    """What to do if a file does not fit."""
    fits = {
        name: np.shape(found.get(name)) == tuple(shape)
        for name, shape in expected.items()
        if not name.startswith(STATE)
    }
    parameters = {name for name in found if not name.startswith(STATE)}
    if not all(fits.values()) or parameters != set(fits):
        return (
            "Load it into a simulator of the network (and with the same include_state) "
            "that it was saved from."
        )
    if parameters == set(found):
        return "It holds no state: load it without include_state."
    return (
        "The parameters fit, but not the state, which depends on minibatch_size and on "
        "the types of neurons and synapses: load it without include_state, or into a "
        "simulator that has these as it was saved."
    )


def _refuse_positions(path, names):
    """Raise an error if arrays are named by their positions, as in NengoDL 3."""
    positions = [name for name in names if re.fullmatch(r"arr_\d+", name)]
    if positions:
        others = [name for name in names if name not in positions]
        raise ValidationError(
            f"{str(path)!r} holds {len(positions)} arrays by position ({positions[0]}, "
            "...)"
            + (f" and {', '.join(map(repr, others))}" if others else "")
            + ", as NengoDL 3 and earlier wrote them. It does not say which parameter "
            "each one is, so it cannot be loaded; nothing was changed. With the version "
            "that wrote it, load it and write the parameters into the network "
            "(Simulator.freeze_params), or look at Simulator.data and save these arrays",
            attr="load",
        )


def _read(path):
    """All arrays in a file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with loaded:
            _refuse_positions(path, loaded.files)
            found = {name: loaded[name] for name in loaded.files}
        for name, value in found.items():
            if not isinstance(value, np.ndarray):
                raise ValueError(f"{name!r} is no array")
        return found
    except ValidationError:  # is a ValueError too
        raise
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
        raise ValidationError(
            f"{str(path)!r} is not a file of parameters (an .npz archive of arrays "
            f"without pickled objects): {e}",
            attr="load",
        ) from e
