"""The parameters of a built model: their names, and objects with their present values.

A parameter is a signal that training or an online learning rule can change: the
(scaled) encoders of an ensemble, the biases of its neurons, the weights or decoders of
a connection.
`nengo_dl.simulator.params_io` moves their values out of the simulator and back.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nengo import Connection, Direct, Ensemble, Probe
from nengo.base import ObjView
from nengo.builder import Model, Signal
from nengo.connection import LearningRule
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError
from nengo.transforms import SparseMatrix

from nengo_dl.compiler.lowering import entries
from nengo_dl.config import learned_objects, resolve_penalties, resolve_trainable
from nengo_dl.tensor_node import layer_parameters
from nengo_dl.training.tuning import (
    Tuning,
    differ,
    divided,
    rates_and_intercepts,
    split,
)


@dataclass(frozen=True, eq=False)
class Parameter:
    """One array that training or an online learning rule can change.

    Attributes
    ----------
    name : str
        Unique, and the same in each network of the same structure and labels, such as
        ``ensembles['a'].encoders`` or ``networks[0].connections['a -> b'].weights``.
    obj : object
        The `~nengo.Ensemble` (of encoders), its `~nengo.ensemble.Neurons` (of biases)
        or the `~nengo.Connection` (of weights). A decoded probe's weights belong to the
        connection that was built for it.
    attr : str
        ``"encoders"``, ``"bias"`` or ``"weights"``.
    signal : ~nengo.builder.Signal
        The signal that holds the value, ``model.sig[obj][attr]``.
    shape : tuple of int
        The shape of the value: that of the signal, or ``(n_nonzero,)`` if it is sparse
        (see `sparse_indices`).
    trainable : bool
        Whether training may change it, see `~nengo_dl.config.resolve_trainable`.
    learned : bool
        Whether an online learning rule changes it.
    regularizer, constraint : callable or None
        See `~nengo_dl.configure_settings`. Variables of Keras layers have their own.
    """

    name: str
    obj: Any
    attr: str
    signal: Any
    shape: tuple[int, ...]
    trainable: bool
    learned: bool
    regularizer: Any = None
    constraint: Any = None


def collect_parameters(model: Model) -> list[Parameter]:
    """All parameters of a built model.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model. It need not have been built from a network (``model.toplevel`` may be
        None); then objects are named by the order in which they were built.

    Returns
    -------
    list of Parameter
        Encoders and biases of all ensembles, then the weights of all connections, then
        those of decoded probes, each in the order in which they were built. Ensembles
        in `~nengo.Direct` mode and connections without weights have none.
    """
    network = model.toplevel
    names = object_names(model)
    learned = set() if network is None else learned_objects(network)
    changed = set(_changed(model)) - learned
    trainable = {} if network is None else resolve_trainable(network, changed)
    penalties = {
        name: {} if network is None else resolve_penalties(network, name)
        for name in ("regularizer", "constraint")
    }

    parameters = []
    for obj, attr in _parameter_owners(model):
        signal = model.sig[obj][attr]
        owner = _settings_owner(obj)
        parameters.append(
            Parameter(
                name=f"{names[owner]}.{attr}",
                obj=obj,
                attr=attr,
                signal=signal,
                shape=((len(sparse_indices(signal)),) if signal.sparse else signal.shape),
                trainable=trainable.get(owner, owner not in changed),
                learned=owner in learned or owner in changed,
                **{name: found.get(owner) for name, found in penalties.items()},
            )
        )
    for nodes, attr, signal, variable in layer_parameters(model):
        allowed = all(trainable.get(node, True) for node in nodes)
        parameters.append(
            Parameter(
                name=f"{names[nodes[0]]}.{attr}",
                obj=nodes[0],
                attr=attr,
                signal=signal,
                shape=signal.shape,
                trainable=allowed and variable.trainable,
                learned=False,
            )
        )
    return parameters


def _parameter_owners(model) -> Iterator[tuple[Any, str]]:
    """Pairs ``(object, attribute)`` of the parameters, probes last."""
    last = []
    for obj in model.params:
        if isinstance(obj, Ensemble) and not isinstance(obj.neuron_type, Direct):
            yield obj, "encoders"
            yield obj.neurons, "bias"
    for obj in model.params:
        if isinstance(obj, Connection) and model.sig[obj].get("weights") is not None:
            if _is_of_probe(obj):
                last.append((obj, "weights"))
            else:
                yield obj, "weights"
    yield from last


def _settings_owner(obj):
    """The object itself; of a connection that was built for a probe, the probe."""
    return obj.post_obj if _is_of_probe(obj) else obj


def _changed(model):
    """Objects of which operators change what Nengo's leave constant."""
    for obj, attr in _parameter_owners(model):
        if not model.sig[obj][attr].readonly:
            yield _settings_owner(obj)


def _is_of_probe(obj):
    """Whether an object is a connection that was built to decode what a probe reads."""
    return isinstance(obj, Connection) and isinstance(obj.post_obj, Probe)


def probe_connections(model: Model) -> dict[Probe, Connection]:
    """The connections that were built to decode what probes read.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The built model.

    Returns
    -------
    dict
        The connection of each decoded `~nengo.Probe`.
    """
    return {obj.post_obj: obj for obj in model.params if _is_of_probe(obj)}


def object_names(model: Model) -> dict[Any, str]:
    """Names of the built objects that say where in the network they are.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The built model.

    Returns
    -------
    dict
        Unique names, also of networks. ``networks['memory'].ensembles[2]`` is the third
        ensemble, without a label, in the network labelled ``memory``. Objects with a
        label are named by it, connections without one by their ends; where that is not
        unique, a number is added, ``connections['a -> b'#2]``. Neurons are named
        ``ensembles['a'].neurons``.
    """
    names = {}
    if model.toplevel is not None:
        _name_network(model.toplevel, "", names)
    groups = {"ensembles": Ensemble, "connections": Connection, "probes": Probe}
    for group, cls in groups.items():
        # objects that were built without being in the network
        rest = [
            obj
            for obj in model.params
            if isinstance(obj, cls) and obj not in names and not _is_of_probe(obj)
        ]
        _name_group(rest, group if model.toplevel is None else f"other_{group}", names)
    for obj in list(names):
        if isinstance(obj, Ensemble):
            names[obj.neurons] = f"{names[obj]}.neurons"
    return names


def _name_network(network, prefix, names):
    for group in ("ensembles", "nodes", "networks"):
        _name_group(getattr(network, group), prefix + group, names)
    for subnetwork in network.networks:
        _name_network(subnetwork, f"{names[subnetwork]}.", names)
    # last, because their names hold those of what they connect
    for group in ("connections", "probes"):
        _name_group(getattr(network, group), prefix + group, names)


def _name_group(objects, group, names):
    """Add the names of objects that stand in one list."""
    seen = Counter()
    positions = {obj: i for i, obj in enumerate(objects)}
    for obj, position in positions.items():
        text = obj.label
        if text is None and isinstance(obj, Connection):
            text = f"{_end_name(obj.pre, names)} -> {_end_name(obj.post, names)}"
        key = str(position)
        if text is not None:
            seen[text] += 1
            key = repr(text) + (f"#{seen[text]}" if seen[text] > 1 else "")
        names[obj] = f"{group}[{key}]"


def _end_name(end, names):
    """A short name for one end of a connection."""
    obj = end.obj if isinstance(end, ObjView) else end
    if isinstance(obj, Neurons):
        return f"{_end_name(obj.ensemble, names)}.neurons"
    if isinstance(obj, LearningRule):
        return f"rule of {_end_name(obj.connection, names)}"
    if getattr(obj, "label", None) is not None:
        return obj.label
    return names.get(obj, type(obj).__name__)


def initial_value(signal: Signal) -> np.ndarray:
    """The value that a parameter's signal was built with.

    Parameters
    ----------
    signal : ~nengo.builder.Signal
        The signal.

    Returns
    -------
    ndarray
        Its initial value; of a sparse signal, the entries that `sparse_indices` lists.
    """
    return entries(signal)[2] if signal.sparse else signal.initial_value


def sparse_indices(signal: Signal) -> np.ndarray:
    """Where the values of a sparse signal stand in the matrix.

    Parameters
    ----------
    signal : ~nengo.builder.Signal
        A sparse signal.

    Returns
    -------
    ndarray of int
        Row and column of each entry, ``(n_nonzero, 2)``, in the order that values of
        sparse parameters have everywhere in this package.
    """
    rows, columns, _ = entries(signal)
    return np.stack([rows, columns], axis=1)


def live_value(signal: Signal, values: Callable[[Any], Any]) -> np.ndarray:
    """The present value of a parameter.

    Parameters
    ----------
    signal : ~nengo.builder.Signal
        The parameter's signal.
    values : callable
        ``values(signal)`` gives its value as the simulator has it.

    Returns
    -------
    ndarray
        The value, in the signal's own type, of whole numbers in a type of fractions;
        exactly the built value if it differs from it by no more than the rounding to the
        simulator's type.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the value does not have the shape of the parameter.
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

    Parameters
    ----------
    signal : ~nengo.builder.Signal
        The signal of the weights.
    values : callable
        See `live_value`.

    Returns
    -------
    ndarray or ~nengo.transforms.SparseMatrix or scipy.sparse.spmatrix
        The weights, in the form in which core Nengo keeps them.
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
    other = matrix.tocoo()
    other.data = data
    return other.asformat(matrix.format)


def sparse_matrices(signal: Signal, values: np.ndarray) -> np.ndarray:
    """Sparse matrices from the values of their entries.

    Parameters
    ----------
    signal : ~nengo.builder.Signal
        A sparse signal; the matrices have its form.
    values : ndarray
        ``(..., n_nonzero)``, in the order of `sparse_indices`.

    Returns
    -------
    ndarray of object
        ``(...)`` matrices of SciPy; of NumPy where there is no SciPy.
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

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the ensemble was built.
    ens : ~nengo.Ensemble
        The ensemble.
    values : callable
        See `live_value`. Default: the values that signals were built with.
    loaded : tuple of ndarray, optional
        Gains, and the scaled encoders that they go with, from a file: these take the
        place of those of the build.

    Returns
    -------
    ~nengo.builder.ensemble.BuiltEnsemble
        The named tuple that core Nengo gives.
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

    Parameters
    ----------
    model : ~nengo.builder.Model
        The built model.

    Returns
    -------
    frozenset of ~nengo.Ensemble
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

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model in which the connection was built.
    conn : ~nengo.Connection
        The connection.
    values : callable
        See `live_value`. Default: the values that signals were built with.

    Returns
    -------
    ~nengo.builder.connection.BuiltConnection
        The named tuple that core Nengo gives. Its weights are None for a connection
        without any.
    """
    signal = model.sig[conn].get("weights")
    if signal is None:
        return model.params[conn]
    return model.params[conn]._replace(weights=live_matrix(signal, values))
