"""The parameters of a built model: their names, their values, and all else that changes.

A parameter is a signal that training or an online learning rule can change: the
(scaled) encoders of an ensemble, the biases of its neurons, the weights or decoders of
a connection.
`nengo_dl.simulator.objects` writes their values into Nengo objects, and
`nengo_dl.simulator.files` into files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Connection, Direct, Ensemble, Probe
from nengo.base import ObjView
from nengo.builder import Model, Signal
from nengo.connection import LearningRule
from nengo.ensemble import Neurons
from nengo.exceptions import SimulatorClosed

from nengo_dl.compiler.memory import entries, memory_shape, signal_index
from nengo_dl.compiler.records import record
from nengo_dl.config import learned_objects, resolve_penalties, resolve_trainable
from nengo_dl.tensor_node import layer_parameters, layers_of

if TYPE_CHECKING:
    from nengo_dl.runtime.host import HostsThen
    from nengo_dl.runtime.program import Program
    from nengo_dl.runtime.tensorflow.variables import ParameterBanks, StartingValues


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

    ``model``: the model. It need not have been built from a network (``model.toplevel``
    may be None); then objects are named by the order in which they were built. Returns:
    encoders and biases of all ensembles, then the weights of all connections, then those
    of decoded probes, each in the order in which they were built. Ensembles in
    `~nengo.Direct` mode and connections without weights have none.
    """
    network = model.toplevel
    names = object_names(model)
    learned = set() if network is None else learned_objects(network)
    owners = list(_parameter_owners(model))
    changed = set(_changed(model, owners)) - learned
    trainable = {} if network is None else resolve_trainable(network, changed)
    regularizers, constraints = (
        {} if network is None else resolve_penalties(network, name)
        for name in ("regularizer", "constraint")
    )

    parameters = []
    for obj, attr, owner in owners:
        signal = model.sig[obj][attr]
        parameters.append(
            record(
                Parameter,
                name=f"{names[owner]}.{attr}",
                obj=obj,
                attr=attr,
                signal=signal,
                shape=memory_shape(signal),
                trainable=trainable.get(owner, owner not in changed),
                learned=owner in learned or owner in changed,
                regularizer=regularizers.get(owner),
                constraint=constraints.get(owner),
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


def _parameter_owners(model) -> Iterator[tuple[Any, str, Any]]:
    """Object and attribute of each parameter, and whose settings count; probes last.

    Those of the object itself; of a connection that was built for a probe, the probe's.
    """
    last = []
    for obj in model.params:
        if isinstance(obj, Ensemble) and not isinstance(obj.neuron_type, Direct):
            yield obj, "encoders", obj
            yield obj.neurons, "bias", obj.neurons
    for obj in model.params:
        if isinstance(obj, Connection) and model.sig[obj].get("weights") is not None:
            if _is_of_probe(obj):
                last.append((obj, "weights", obj.post_obj))
            else:
                yield obj, "weights", obj
    yield from last


def _changed(model, owners):
    """Objects of which operators change what Nengo's leave constant."""
    for obj, attr, owner in owners:
        if not model.sig[obj][attr].readonly:
            yield owner


def _is_of_probe(obj):
    """Whether an object is a connection that was built to decode what a probe reads."""
    return isinstance(obj, Connection) and isinstance(obj.post_obj, Probe)


def probe_connections(model: Model) -> dict[Probe, Connection]:
    """The connections that were built to decode what probes read.

    Returns the connection of each decoded `~nengo.Probe`.
    """
    return {obj.post_obj: obj for obj in model.params if _is_of_probe(obj)}


def object_names(model: Model) -> dict[Any, str]:
    """Names of the built objects that say where in the network they are.

    Returns: unique names, also of networks. ``networks['memory'].ensembles[2]`` is the
    third ensemble, without a label, in the network labelled ``memory``. Objects with a
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

    Returns: its initial value; of a sparse signal, the entries that `sparse_indices`
    lists.
    """
    value = signal.initial_value
    if type(value) is np.ndarray:  # nearly always; to ask Nengo takes longer
        return value
    return entries(signal)[2] if signal.sparse else value


def sparse_indices(signal: Signal) -> np.ndarray:
    """Where the values of a sparse signal stand in the matrix.

    ``signal``: a sparse signal. Returns: row and column of each entry, ``(n_nonzero,
    2)``, in the order that values of sparse parameters have everywhere in this package.
    """
    rows, columns, _ = entries(signal)
    return np.stack([rows, columns], axis=1)


# the present values of all parameters -------------------------------------------


class ParameterStore(Mapping[Signal, np.ndarray]):
    """Base signal -> value, for every parameter that no operator changes.

    Parameters
    ----------
    dtype : dtype
        The simulator's.

    Attributes
    ----------
    entries : list of Parameter
        All parameters, those that are learned online included; these are no keys,
        because their values are part of the simulation's state. In a model that core's
        optimizer has changed, several may be parts of one base signal.
    learned : frozenset of Signal
        Base signals of those.
    initial : dict
        The values that the parameters were built with.
    layers : LayerVariables
        Those that are variables of Keras layers.
    version : int
        Grows with every change.
    """

    def __init__(self, model: Model, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.entries = collect_parameters(model)
        self.learned = frozenset(p.signal.base for p in self.entries if p.learned)
        self.version = 0
        self._held: dict[Signal, np.ndarray] = {}
        written: set[Signal] = set()
        for op in model.operators:
            written.update(op.sets, op.incs, op.updates)
        changed = {signal.base for signal in written}
        bases = dict.fromkeys(p.signal.base for p in self.entries)
        with np.errstate(over="ignore"):
            self.initial = {
                base: np.asarray(initial_value(base), self.dtype)
                for base in bases
                if base not in changed
            }
        self._values = dict(self.initial)
        self.layers = LayerVariables(model, self.entries)

    def __getitem__(self, signal: Signal) -> np.ndarray:
        return self._values[signal] if signal in self._values else self._held[signal]

    def __iter__(self) -> Iterator[Signal]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, signal: object) -> bool:
        return signal in self._values or signal in self._held

    @property
    def fixed(self) -> set[Signal]:
        """Base signals that training leaves as they are, at least in part."""
        return {entry.signal.base for entry in self.entries if not entry.trainable}

    @property
    def penalized(self) -> dict[Signal, dict[str, Any]]:
        """Base signal -> its regularizer and constraint, where it has any.

        Several connections may have one array of weights; the first that says something
        counts. Parts of an array have none, see `penalized_parts`.
        """
        found = {}
        for entry in self.entries:
            own = {"regularizer": entry.regularizer, "constraint": entry.constraint}
            if any(own.values()) and not entry.signal.is_view:
                found.setdefault(entry.signal, own)
        return found

    def overflown(self) -> list[Parameter]:
        """Parameters that were built with numbers that the type cannot hold."""
        if self.dtype == np.float64:
            return []
        infinite = {s for s, value in self.initial.items() if np.isinf(value).any()}
        return [
            entry
            for entry in self.entries
            if entry.signal.base in infinite
            and np.isfinite(initial_value(entry.signal)).all()
        ]

    def penalized_parts(self) -> list[Parameter]:
        """Parameters whose regularizer or constraint cannot be obeyed.

        They are parts of one signal with others, see `merged_with_fixed`.
        """
        return [
            entry
            for entry in self.entries
            if entry.signal.is_view and (entry.regularizer or entry.constraint)
        ]

    def merged_with_fixed(self) -> list[Parameter]:
        """Parameters that can only be trained together with what must not be.

        They are parts of one signal with what is not trainable, or with what operators
        change, which happens where core Nengo optimizes a model.
        """
        fixed = self.fixed
        both = self.trained_and_learned
        return [
            entry
            for entry in self.entries
            if entry.trainable
            and entry.signal not in both
            and (entry.signal.base in fixed or entry.signal.base not in self._values)
        ]

    @property
    def trained_and_learned(self) -> dict[Signal, Parameter]:
        """Base signal -> what is to be trained although operators change it."""
        return {
            entry.signal: entry
            for entry in self.entries
            if entry.trainable
            and not entry.signal.is_view
            and entry.signal not in self._values
        }

    def write(self, values: Mapping[Signal, Any]) -> bool:
        """Take over other values; returns whether any is different."""
        different = {
            signal: np.array(value, self.dtype)
            for signal, value in values.items()
            if not np.array_equal(value, self._values[signal])
        }
        for signal, value in different.items():
            value.setflags(write=False)
            self._values[signal] = value
        self.version += bool(different)
        return bool(different)

    def written(self) -> dict[Signal, np.ndarray]:
        """Base signal -> present value, for those that have another than at first."""
        return {s: v for s, v in self._values.items() if v is not self.initial[s]}

    def held(self) -> dict[Signal, np.ndarray]:
        """What was given to `hold`."""
        return dict(self._held)

    def hold(self, values: Mapping[Signal, np.ndarray]) -> None:
        """Keep last values of what is learned online, for a closed simulator."""
        self._held = dict(values)


# variables of Keras layers among the parameters ---------------------------------


class LayerVariables:
    """Keras variables that users brought, and what the simulator knows of their values.

    They stay where they are, in the user's layers, so that what is trained here is seen
    there, and the other way round.

    Parameters
    ----------
    entries : list of Parameter
        The parameters of the model; those of layers among them.

    Attributes
    ----------
    variables : dict
        Signal -> Keras variable.
    objects : list
        The layers; of plain functions, the variables that they use.
    """

    def __init__(self, model: Model, entries: list[Parameter]) -> None:
        self.variables = {s: variable for _, _, s, variable in layer_parameters(model)}
        self.objects = layers_of(model)
        self._trainable = {e.signal: e.trainable for e in entries}
        self._memories: dict[Signal, Any] = {}
        self._frozen = [v for v in self.variables.values() if not v.trainable]

    def thawed(self) -> list[Any]:
        """Variables that were made trainable since, which has no effect."""
        return [variable for variable in self._frozen if variable.trainable]

    def untrained(self, used: Set[Signal]) -> frozenset[int]:
        """Variables that Keras would train, and the network does not.

        ``used``: parameters that the probes depend on. Returns what ``id`` gives for
        them.
        """
        return frozenset(
            id(variable)
            for signal, variable in self.variables.items()
            if signal not in used or not self._trainable[signal]
        )

    def push(self, store: ParameterStore) -> None:
        """The variables take the values of the store, where it has others."""
        for signal, variable in self.variables.items():
            value = store[signal]
            if not np.array_equal(variable.numpy().astype(store.dtype), value):
                variable.assign(value)

    def changed(self, store: ParameterStore) -> dict[Signal, np.ndarray]:
        """The values that are not those of the store: signal -> array."""
        found = {}
        for signal, memory in self._places().items():
            if memory.changed():
                array = np.asarray(memory.array, store.dtype)
                if not np.array_equal(array, store[signal]):
                    found[signal] = array
        return found

    def _places(self) -> dict[Signal, Any]:
        """Where the values lie, to see quickly which ones were written."""
        if not self._memories and self.variables:
            from nengo_dl.runtime.tensorflow.variables import VariableMemory

            self._memories = {s: VariableMemory(v) for s, v in self.variables.items()}
        return self._memories


# what a simulation is at present: time, parameters, state -----------------------


class LiveState:
    """The present values of everything that changes.

    A parameter has its value in up to three places: in the store, in the Keras variables
    that training writes, and, if a learning rule changes it, in the state of the
    simulation. Whoever needs values goes through here, so that the places agree.

    Attributes
    ----------
    seed : int
        Of what is random while the simulation runs.
    process_seed : int
        The one that the processes that run now were made with.
    n_steps : int
        Number of steps run so far.
    epochs : int
        Number of epochs trained since the last reset.
    banks : ParameterBanks or None
        The Keras variables, once there are some.
    starting : StartingValues or None
        Those of what is both trained and learned online, likewise.
    loaded : dict
        Ensemble -> gains and scaled encoders, as they were loaded from a file.
    """

    def __init__(self, program: Program, parameters: ParameterStore, seed: int) -> None:
        self._program: Program | None = program
        self.parameters = parameters
        self.seed = self.process_seed = seed
        self.banks: ParameterBanks | None = None
        self.starting: StartingValues | None = None
        self.loaded: dict[Any, Any] = {}
        self.n_steps = 0
        self.epochs = 0

    @property
    def program(self) -> Program:
        """(Program) The compiled network, as long as the simulation is not closed."""
        if self._program is None:
            raise SimulatorClosed("the simulator is closed")
        return self._program

    @property
    def closed(self) -> bool:
        """(bool) Whether the compiled network was let go of."""
        return self._program is None

    # parameters ------------------------------------------------------------------

    def pull(self) -> None:
        """Take over what was written to the Keras variables, by whomever."""
        if self._program is None:
            return
        if self.banks is not None and self.banks.pull():
            self.program.written()
        if self.starting is not None and self.starting.pull():
            self.program.state_written()
            self.parameters.version += 1
        layers = self.parameters.layers
        if layers.variables and self.parameters.write(layers.changed(self.parameters)):
            self.program.refreshed()

    def write(self, values: Mapping[Signal, Any]) -> None:
        """Give parameters other values.

        ``values``: base signal -> array.
        """
        self.pull()  # or what is in the variables would come back afterwards
        if self.parameters.write(values):
            self.program.written()
            if self.banks is not None:
                self.banks.push()
            self.parameters.layers.push(self.parameters)

    def write_learned(self, values: Mapping[Signal, Any]) -> None:
        """Give parameters that are learned online other values, in all batch items."""
        self.program.settle()
        store = self.program.store
        for signal, value in values.items():
            column = np.ravel(value).astype(store.dtype)[:, None]
            store.values[signal] = np.repeat(column, store.batch, axis=1)

    def reset_parameters(self) -> None:
        """Give all parameters but the learned ones the values they were built with."""
        self.write(self.parameters.initial)
        self.loaded.clear()
        self.program.unwritten()

    def value(self, signal: Signal) -> np.ndarray:
        """The present value of a parameter's signal.

        Of one that is learned online, each batch item has its own copy; this is that of
        the first item.
        """
        base = signal.base
        self.pull()
        if base in self.parameters:
            value = self.parameters[base]
        else:
            state = None if self._program is None else self._program.state(base)
            if state is None:
                return np.asarray(initial_value(signal), self.parameters.dtype)
            value = state[:, 0].reshape(base.shape)
        return value if not signal.is_view else np.ravel(value)[signal_index(signal)]

    def version(self) -> tuple[int, int]:
        """What differs whenever a value may have changed."""
        self.pull()
        return (self.parameters.version, self.n_steps)

    # state -----------------------------------------------------------------------

    def learned(self) -> dict[Signal, np.ndarray]:
        """What learning rules made of the parameters that they change, by signal."""
        self.program.settle()
        values = self.program.store.values
        return {s: values[s] for s in self.parameters.learned if s in values}

    def snapshot(self) -> tuple[int, Any, HostsThen]:
        """Time, state and processes as they are now, for `restore`."""
        self.program.settle()
        return self.n_steps, self.program.store.copy(), self.program.hosts_now()

    def restore(self, snapshot: tuple[int, Any, HostsThen]) -> None:
        """Go back to a snapshot, but keep what was learned since."""
        self.program.settle()
        self.n_steps, values, hosts = snapshot
        self.program.store.restore(values, keep=self.parameters.learned)
        hosts.put_back(noting=True)
        hosts.report()

    def close(self) -> None:
        """Let go of everything but the last values of the parameters."""
        self.pull()
        learned = [p.signal for p in self.parameters.entries if p.learned]
        self.parameters.hold({s.base: self.value(s.base) for s in learned})
        self.let_go()

    def let_go(self) -> None:
        """Let go of the compiled network and of the Keras variables."""
        self._program = self.banks = self.starting = None
