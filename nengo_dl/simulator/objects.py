"""Nengo objects with the present values of their parameters: to look at, and to keep.

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

import copy
import inspect
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from nengo import Connection, Direct, Ensemble, Network, Probe
from nengo.builder import Model, Signal
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError
from nengo.neurons import NeuronType
from nengo.solvers import NoSolver
from nengo.transforms import Dense, Sparse, SparseMatrix

from nengo_dl.notices import label_of
from nengo_dl.training.parameters import initial_value, probe_connections

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

    ``objs``: one or several of `~nengo.Network`, `~nengo.Ensemble`, `~nengo.Connection`
    and `~nengo.Probe`. ``values``: ``values(signal)`` gives the present value of a
    parameter's signal. ``loaded``: gains of ensembles from a file, see `built_ensemble`.
    Raises `ValidationError`: see `nengo_params`. No object is changed then.
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


def live_value(signal: Signal, values: Callable[[Any], Any]) -> np.ndarray:
    """The present value of a parameter.

    ``values``: ``values(signal)`` gives its value as the simulator has it. Returns the
    value, in the signal's own type, of whole numbers in a type of fractions; exactly the
    built value if it differs from it by no more than the rounding to the simulator's
    type. Raises `ValidationError` if the value does not have the shape of the parameter.
    """
    built = initial_value(signal)
    live = np.asarray(values(signal))
    if live.shape != built.shape:
        raise ValidationError(
            f"the value of {signal.name} has shape {live.shape}; expected {built.shape}",
            attr="values",
        )
    if np.array_equal(live, built.astype(live.dtype)):
        return built
    # what was built of whole numbers need not be trained to whole numbers
    live = live.astype(np.result_type(built.dtype, np.float32))
    live.setflags(write=False)
    return live


def live_matrix(signal: Signal, values: Callable[[Any], Any]) -> Any:
    """The present value of a connection's weights, sparse if they were built so.

    ``values``: see `live_value`. Returns the weights, in the form in which core Nengo
    keeps them.
    """
    data = live_value(signal, values)
    built = signal.initial_value
    if not signal.sparse or data is initial_value(signal):
        return built if signal.sparse else data
    return _with_entries(built, data)


def _with_entries(matrix, data):
    """A sparse matrix like another one, with the values of its entries given."""
    if isinstance(matrix, SparseMatrix):
        return SparseMatrix(matrix.indices, data, matrix.shape)
    other = copy.copy(matrix.tocoo())  # one in this form is itself that of the network
    other.data = data
    return other.asformat(matrix.format)


def sparse_matrices(signal: Signal, values: np.ndarray) -> np.ndarray:
    """Sparse matrices from the values of their entries.

    ``signal``: a sparse signal; the matrices have its form. ``values``: ``(...,
    n_nonzero)``, in the order of `sparse_indices`. Returns: ``(...)`` matrices of SciPy;
    of NumPy where there is no SciPy.
    """
    matrices = np.empty(values.shape[:-1], object)
    for index in np.ndindex(matrices.shape):
        matrix = _with_entries(signal.initial_value, values[index])
        own = isinstance(matrix, SparseMatrix)
        matrices[index] = matrix.allocate() if own else matrix
    return matrices


def built_ensemble(
    model: Model,
    ens: Ensemble,
    values: Callable[[Any], Any] = initial_value,
    loaded: Any = None,
) -> Any:
    """A built ensemble with the present values of its parameters.

    Everything fits together, as core Nengo defines it: ``scaled_encoders = encoders *
    gain / radius``. Encoders have the length that they were built with, gains take the
    rest, and the maximum rates and intercepts are those of gains and biases. Only where
    something else was built with the gains (see `fixed_gains`) they stay as they are.

    ``values``: see `live_value`. Default: the values that signals were built with.
    ``loaded``: gains, and the scaled encoders that they go with, from a file: these take
    the place of those of the build. Returns the named tuple that core Nengo gives.
    """
    built = model.params[ens]
    if isinstance(ens.neuron_type, Direct):
        return built

    signal = model.sig[ens]["encoders"]
    tuning = Tuning(built.scaled_encoders, built.encoders, built.gain)
    fixed = ens in fixed_gains(model)
    if loaded is not None and not fixed:
        tuning = _loaded_tuning(signal, ens.radius, tuning, loaded)
    scaled = live_value(signal, values)
    tuning = split(scaled, ens.radius, tuning, keep_gain=fixed)
    bias = live_value(model.sig[ens.neurons]["bias"], values)
    built = built._replace(**tuning._asdict(), bias=bias)
    before = model.params[ens]
    changed = (built.gain != before.gain) | (bias != before.bias)
    curve: Sequence[Any] = before.max_rates, before.intercepts
    if changed.any() and before.max_rates is not None:
        found: Any = rates_and_intercepts(ens.neuron_type, built.gain, bias)
        curve = [
            np.where(changed, new, old) for new, old in zip(found, curve, strict=True)
        ]
    return built._replace(max_rates=curve[0], intercepts=curve[1])


def fixed_gains(model: Model) -> set[Ensemble]:
    """The ensembles whose gains take part in the simulation by themselves.

    What connections bring to neurons is multiplied by the gains, and rules that learn
    encoders (Voja) compare them with scaled input. Both were built with the gains.
    """
    size, found = _fixed_gains.get(model, (None, None))
    if size != len(model.params):
        ends = {obj.post_obj for obj in model.params if isinstance(obj, Connection)}
        found = {end.ensemble for end in ends if isinstance(end, Neurons)}
        for obj in model.params:
            if isinstance(obj, Ensemble) and not model.sig[obj]["encoders"].readonly:
                found.add(obj)
        _fixed_gains[model] = (len(model.params), frozenset(found))
    return _fixed_gains[model][1]


#: model -> number of its objects, and what `fixed_gains` found among them
_fixed_gains = weakref.WeakKeyDictionary()


def _loaded_tuning(signal, radius, built, loaded):
    """What a file says of encoders and gains, where it is not what was built."""
    gain, scaled = loaded
    scaled = live_value(signal, lambda _: scaled)
    changed = differ(scaled, built.scaled_encoders) | (gain != built.gain)
    return Tuning(scaled, divided(scaled, gain, radius, built, changed), gain)


def built_connection(
    model: Model, conn: Connection, values: Callable[[Any], Any] = initial_value
) -> Any:
    """A built connection with the present values of its weights.

    ``values``: see `live_value`. Default: the values that signals were built with.
    Returns the named tuple that core Nengo gives. Its weights are None for a connection
    without any.
    """
    signal = model.sig[conn].get("weights")
    if signal is None:
        return model.params[conn]
    return model.params[conn]._replace(weights=live_matrix(signal, values))


# what the neurons of an ensemble respond to -------------------------------------
#
# Training and loading change two arrays: ``scaled_encoders = encoders * gain / radius``
# and ``bias``. All that Nengo says of an ensemble besides follows from them.


class Tuning(NamedTuple):
    """What fixes how scaled encoders are split into encoders and gains.

    Attributes
    ----------
    scaled_encoders, encoders : (n_neurons, dimensions) ndarray
    gain : (n_neurons,) ndarray
    """

    scaled_encoders: np.ndarray
    encoders: np.ndarray
    gain: np.ndarray


def split(
    scaled: np.ndarray, radius: float, reference: Tuning, keep_gain: bool = False
) -> Tuning:
    """Encoders and gains that go with scaled encoders.

    Encoders have the length that they have in the reference; the gain of a neuron takes
    what its scaled encoder is longer or shorter by, ``gain = |scaled| radius /
    |encoder|``, and has the sign of the reference. Without a length, the gain is kept.

    ``scaled``: (n_neurons, dimensions) ndarray. ``radius``: that of the ensemble.
    ``reference``: neurons whose scaled encoders are those of the reference are like it.
    ``keep_gain``: give everything to the encoders: for what a learning rule changes,
    which knows the gains of the build.
    """
    changed = differ(scaled, reference.scaled_encoders)
    gain = reference.gain
    if not changed.any():
        return reference
    if not keep_gain:
        norm = _length(scaled) * radius
        length = _length(reference.encoders)
        kept = np.where(gain != 0, gain, norm)
        found = np.divide(norm, length, out=kept, where=length > 0)
        found = np.where(length > 0, np.copysign(found, gain), found)
        gain = np.where(changed, found, gain)
    return Tuning(scaled, divided(scaled, gain, radius, reference, changed), gain)


def differ(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of ``(n, d)`` vectors differ by more than rounding to single precision."""
    with np.errstate(over="ignore"):
        rounded = others.astype(np.float32).astype(others.dtype)
    return ((vectors != others) & (vectors != rounded)).any(axis=1)


def _length(vectors):
    """Lengths of ``(n, d)`` vectors, however large or small their entries are."""
    return np.hypot.reduce(vectors, axis=1, initial=0.0)


def divided(
    scaled: np.ndarray,
    gain: np.ndarray,
    radius: float,
    reference: Tuning,
    changed: np.ndarray,
) -> np.ndarray:
    """Encoders before the scaling.

    ``scaled``: (n_neurons, dimensions) ndarray. ``gain``: (n_neurons,) ndarray.
    ``reference``: whose encoders the other neurons have, and those without a gain.
    ``changed``: (n_neurons,) ndarray of bool. Returns (n_neurons, dimensions) ndarray.
    """
    scale = (gain / radius)[:, None]
    encoders = np.array(reference.encoders)
    return np.divide(scaled, scale, out=encoders, where=changed[:, None] & (scale != 0))


def rates_and_intercepts(
    neuron_type: NeuronType, gain: np.ndarray, bias: np.ndarray
) -> tuple[Any, Any]:
    """Maximum rates and intercepts that go with gains and biases.

    As ``neuron_type.max_rates_intercepts`` gives them, whose formulas are only right for
    neurons that fire. Where they differ from the rate at the end of the range, at 1, that
    rate counts: 0 for neurons that never fire.

    ``gain``, ``bias``: (n_neurons,) ndarray. Returns ``max_rates, intercepts``: None, if
    the neuron type has none. A neuron without a gain that never fires has the intercept
    ``inf``.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about neurons that never fire
        max_rates, intercepts = neuron_type.max_rates_intercepts(gain, bias)
        if max_rates is None:
            return max_rates, intercepts
        intercepts = np.where(np.isnan(intercepts), np.inf, intercepts)
        if neuron_type.spiking and type(neuron_type).rates is NeuronType.rates:
            # one step is no rate: the formula is all that there is
            return np.where(np.isfinite(max_rates), max_rates.clip(0), 0), intercepts
        rates = np.reshape(neuron_type.rates(1.0, gain, bias), np.shape(gain))
    rates = np.where(np.isfinite(rates), rates, 0)
    usable = np.isclose(max_rates, rates)
    rates = rates / getattr(neuron_type, "amplitude", 1)  # which formulas leave out
    usable |= np.isclose(max_rates, rates)
    return np.where(usable, max_rates, rates), intercepts
