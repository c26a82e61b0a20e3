"""What users hand in for training, checked and completed for the Keras model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Network, Probe
from nengo.exceptions import ValidationError

from nengo_dl.compiler.memory import source_key
from nengo_dl.notices import warn
from nengo_dl.training.advice import check_data
from nengo_dl.training.inputs import (
    N_STEPS,
    Symbol,
    described,
    probes_names,
    resolve_data,
    resolve_targets,
)

if TYPE_CHECKING:
    from nengo import Node

    from nengo_dl.runtime.program import Program

#: how many batches the preparation of data may be ahead of what uses them
RUN_AHEAD = 100


@dataclass(frozen=True)
class Given:
    """Data, targets and weights of some items, after all checks.

    Parameters
    ----------
    inputs, targets : dict
        Node or probe -> array ``(items, steps, size)``.
    weights : dict or None
        Name of a probe -> weights ``(items,)`` or ``(items, steps)``.
    items, steps : int or None
        None if only running tells.
    """

    inputs: dict[Any, Any]
    targets: dict[Any, Any]
    weights: dict[str, Any] | None
    items: int | None
    steps: int | None


class OwnOutputs:
    """What nodes without data put out, for one batch after the other.

    Parameters
    ----------
    batch : int
        Items in a full batch.
    first : int
        Number of steps that were run before.
    seed : int or None
        Each item of each batch has processes of its own, with the random numbers of
        this seed plus the number of the item. None: batches follow one another in time,
        and each item goes on with the processes of its place in the batch.
    """

    def __init__(
        self,
        program: Program,
        nodes: list[Node],
        batch: int,
        first: int,
        seed: int | None,
    ) -> None:
        self.program, self.nodes, self.batch = program, nodes, batch
        self.first, self.seed = first, seed
        sig = program.model.sig
        self.signals = {node: source_key(sig[node]["out"]) for node in nodes}
        sources = program.sources
        wanted = set(self.signals.values())
        self._processes = {
            s.op for s in sources if s.signal in wanted and program.hosts[s.op].per_item
        }
        #: number of steps -> outputs that all items have in common
        self._same: dict[int, dict[Any, np.ndarray]] = {}
        #: number of steps run -> the processes as they were then
        self._before: dict[int, dict[Any, Any]] = {}

    @property
    def fixed(self) -> bool:
        """Whether all items of all batches have the same."""
        return self.seed is not None and not self._processes

    def __call__(self, items: int, steps: int, number: int = 0) -> dict[Any, np.ndarray]:
        """The outputs of one batch.

        ``number``: of the batch. Returns node -> array ``(items, steps, size)``.
        """
        return self.of_batch(items, steps, number * self.batch)

    def of_batch(self, items: int, steps: int, first_item: int) -> dict[Any, np.ndarray]:
        """The outputs of one batch, by the number of its first item."""
        if self.fixed:
            if steps not in self._same:
                self._same[steps] = self._outputs(1, self.first, steps, self.seed)
            values = self._same[steps]
        elif self.seed is not None:
            seed = self.seed + first_item
            values = self._outputs(items, self.first, steps, seed)
        else:
            self._before[self.first] = self._snapshot()
            if len(self._before) > RUN_AHEAD:
                self._before.pop(next(iter(self._before)))
            values = self._outputs(self.batch, self.first, steps, None)
            self.first += steps
        return {
            node: np.broadcast_to(v[:items], (items, *v.shape[1:]))
            for node, v in values.items()
        }

    def of_items(self, items: int, steps: int) -> dict[Any, np.ndarray]:
        """The outputs of all batches together, of any number of items."""
        if self.seed is not None:
            return self(items, steps)
        parts = [self(self.batch, steps) for _ in range(-(-items // self.batch))]
        return {n: np.concatenate([p[n] for p in parts])[:items] for n in self.nodes}

    def _outputs(self, count: int, first: int, steps: int, seed: int | None) -> dict:
        wanted = set(self.signals.values())
        found = self.program.outputs_of_nodes(wanted, count, first, steps, seed)
        # what is computed step by step inside the network is no input
        none = np.zeros((1, 1, 1), self.program.dtype)
        return {
            node: found[signal]
            if signal in found
            else np.broadcast_to(none, (count, steps, node.size_out))
            for node, signal in self.signals.items()
        }

    def _snapshot(self) -> dict:
        states = self.program.snapshot_hosts() if self._processes else {}
        return {op: state for op, state in states.items() if op in self._processes}

    def settle(self, n_steps: int) -> None:
        """Put processes back to step ``n_steps``, if batches were drawn ahead of it."""
        self.program.restore_hosts(self._before.get(n_steps, {}))


@dataclass(frozen=True)
class TrainingData:
    """What data, targets and weights of one call are checked against and completed with.

    Parameters
    ----------
    side : KerasSide or ForwardSide
        The layer and the model that the data are for, or what stands for them.
    seed : int
        Of the simulation: nodes without data draw their random numbers from it.
    first_step : int
        Number of steps that were run before the call.
    replicas : int
        How many share each batch.
    """

    network: Network | None
    side: Any
    names: ProbeNames
    seed: int
    first_step: int
    replicas: int = 1

    @property
    def program(self) -> Program:
        """The compiled network."""
        return self.side.program

    @property
    def dtype(self) -> np.dtype:
        """The type of all data but numbers of classes."""
        return self.program.dtype

    @property
    def batch(self) -> int:
        """Items in a full batch, of all replicas together."""
        return self.program.batch * self.replicas

    @property
    def largest(self) -> str:
        """The most items of a batch, in words."""
        if self.replicas == 1:
            return f"minibatch_size={self.batch}"
        return f"minibatch_size={self.program.batch} × {self.replicas} replicas"

    @property
    def nodes(self) -> dict[Node, str]:
        """The names of the nodes that data can be given for."""
        return self.side.layer.node_names

    @property
    def shapes(self) -> dict[Probe, tuple[int, ...]]:
        """The shape of what each probe gives in one step; of weights it is a matrix."""
        model = self.program.model
        return {probe: model.sig[probe]["in"].shape for probe in model.probes}

    def steps_of(self, probe: Any, steps: Any) -> Any:
        """How many of ``steps`` steps a probe gives: one if it keeps no history."""
        return steps if self.side.layer.keep_history.get(probe, True) else 1

    def compared(self, probe: Any) -> Any:
        """The losses and metrics that compare a probe with targets."""
        name = self.names.get(probe)
        return () if name is None else self.side.compared.get(name, ())

    def given(
        self,
        x: Any,
        y: Any,
        weight: Any,
        n_steps: int | None,
        where: str,
        targets: bool = True,
        steps_known: bool = True,
        one_item: bool = False,
    ) -> Given:
        """All checks of data, targets and weights.

        ``x``, ``y``, ``weight``: as given by the user, or with a `Symbol` in the place of
        each array. ``where``: for error messages. ``targets``: whether targets are
        expected. ``steps_known``: False: the number of steps may be found later.
        ``one_item``: whether data may be without the axis for items.
        """
        probes = self.program.model.probes
        items, found = None, {}
        if targets and y is None:
            raise ValidationError(
                "there are no targets; give an array, a list, or a dict by probe. "
                "They come with the data only from a tf.data.Dataset, a generator "
                f"or a keras.utils.PyDataset; x is a {type(x).__name__}",
                attr=where,
            )
        inputs, steps = {}, n_steps
        if x is not None:
            about = (where, self.nodes, self.dtype, one_item)
            inputs, steps = resolve_data(x, list(self.nodes), None, n_steps, *about)
        self._check_steps(steps, steps_known, where)
        if targets:
            found = resolve_targets(
                y,
                probes,
                {probe: self.steps_of(probe, steps) for probe in probes},
                next((a.shape[0] for a in inputs.values()), None),
                where,
                self.names,
                shapes=self.shapes,
                compared=self.side.compared,
            )
        known = [a.shape[0] for a in (*inputs.values(), *found.values())]
        items = next((n for n in known if n is not None), None)
        if items is None and not known:
            items = self._items_of_entry(x)
        if items == 0:
            raise ValidationError("expected at least 1 item, got 0", attr=where)
        if targets:
            self._check_needed(found, where)
        weights = None
        if weight is not None and targets:
            weights = self._sample_weights(weight, found, where)
        return Given(inputs, found, weights, items, steps)

    def _check_steps(self, steps: int | None, known: bool, where: str) -> None:
        """Whether so many steps can be run; None if that need not be known yet."""
        if steps is None and known:
            raise ValidationError(
                "the number of steps is not known; give n_steps, or data (items, steps, "
                f"size) for one of {list(self.nodes.values())}",
                attr=where,
            )
        if steps is not None and steps < 1:
            raise ValidationError(f"expected at least 1 step, got {steps}", attr=where)
        fixed = self.side.layer.fixed_steps
        if fixed not in (None, steps):
            raise ValidationError(
                f"got {steps} steps; with the setting use_loop=False, exactly "
                f"unroll_simulation={fixed} are unrolled. Build the Simulator with "
                f"unroll_simulation={steps}, or leave the setting out",
                attr=where,
            )

    def _items_of_entry(self, x: Any) -> int | None:
        """For how many items data tell the number of steps, if they are nothing else."""
        entry = x.get(N_STEPS) if isinstance(x, Mapping) else None
        return None if entry is None or np.ndim(entry) == 0 else len(np.asarray(entry))

    def _check_needed(self, targets: dict[Any, Any], where: str) -> None:
        """Check that there are targets wherever there is a loss or a metric."""
        side, names = self.side, self.names
        missing = {p: n for p, n in names.items() if p not in targets}
        if side.choosing and targets:
            side.leave_out(frozenset(missing.values()), described(missing), where)
        needed = side.model.needs_targets
        missing = {p: n for p, n in missing.items() if n in needed}
        if missing:
            raise ValidationError(
                "there is a loss or metric but no target for the probes "
                f"{', '.join(described(missing))}; give targets, or compile with dicts "
                "of losses and metrics that leave these probes out",
                attr=where,
            )

    def _sample_weights(
        self, value: Any, targets: dict[Any, Any], where: str
    ) -> dict[str, Any]:
        """Weights of items, or of items and steps, for each probe."""
        names = self.names
        if not isinstance(value, Mapping | list | tuple):
            value = {names[probe]: value for probe in targets}
        given = for_probes(names, "sample_weight", value) or {}
        weights = {}
        for probe, target in targets.items():
            weight = given.get(names[probe])
            if weight is None:
                continue
            if not isinstance(weight, Symbol):
                weight = np.asarray(weight, self.dtype)
            elif weight.any_rank:
                weights[names[probe]] = weight
                continue
            shapes = target.shape[:1], target.shape[:2]
            if not any(agree(weight.shape, shape) for shape in shapes):
                raise ValidationError(
                    f"the sample_weight for Probe {names[probe]!r} has shape "
                    f"{weight.shape}; expected {target.shape[:1]}, one for each item, or "
                    f"{target.shape[:2]}, one for each of its steps too",
                    attr=where,
                )
            if not isinstance(weight, Symbol):
                check_data(weight, f"the sample_weight for Probe {names[probe]!r}", where)
            weights[names[probe]] = weight
        return weights

    def class_table(self, class_weight: Any, where: str) -> np.ndarray:
        """The weights of all classes up to the last one that has one."""
        numbers: list[Any] = [None]
        if isinstance(class_weight, Mapping):
            numbers = list(class_weight)
        if not numbers or any(
            isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0
            for n in numbers
        ):
            raise ValidationError(
                "class_weight must be a dict with the numbers of classes (0, 1, …) as "
                f"keys and weights as values; got {class_weight!r}",
                attr=where,
            )
        table = np.ones(max(numbers) + 2, self.dtype)  # the last for all other classes
        table[numbers] = [class_weight[n] for n in numbers]
        wrong = [n for n in numbers if not np.isfinite(table[n])]
        if wrong:
            raise ValidationError(
                f"class_weight must be finite numbers; got {class_weight[wrong[0]]} for "
                f"class {wrong[0]}",
                attr=where,
            )
        return table

    def classes(self, given: Given, where: str) -> Any:
        """The only probe with targets, which must be numbers of classes."""
        if given.weights is not None:
            raise ValidationError(
                "give class_weight or sample_weight, not both; multiply the weights of "
                "items by those of their classes instead",
                attr=where,
            )
        names = self.names
        if len(given.targets) != 1:
            raise ValidationError(
                "class_weight is defined for targets of one probe; got targets for "
                f"{[names[p] for p in given.targets]}. Use sample_weight instead",
                attr=where,
            )
        ((probe, target),) = given.targets.items()
        if target.dtype.kind not in "iu" or target.shape[2] not in (1, None):
            raise ValidationError(
                "class_weight is defined for targets that are numbers of classes, whole "
                f"numbers (items, steps, 1); the target for Probe {names[probe]!r} has "
                f"shape {target.shape} and type {target.dtype}. Use sample_weight "
                "instead",
                attr=where,
            )
        return probe

    def of_classes(self, given: Given, class_weight: Any, where: str) -> Given:
        """``given`` with the weights that belong to the targets' classes."""
        probe = self.classes(given, where)
        table = self.class_table(class_weight, where)
        numbers = given.targets[probe][:, :, 0]
        numbers = np.where(numbers < 0, len(table) - 1, numbers)
        weights = table[np.minimum(numbers, len(table) - 1)]
        return replace(given, weights={self.names[probe]: weights})

    def arrays(self, given: Given, stateful: bool, where: str) -> tuple[Any, Any, Any]:
        """What Keras takes: arrays for all inputs, targets and weights, by name."""
        items = given.items or self.batch
        self.warn_of_synapses(given, where)
        self.feed(given)
        own = self.own_outputs(given, stateful)
        inputs = {**given.inputs, **own.of_items(items, given.steps or 1)}
        return self.by_names(inputs, given, items, given.steps)

    def feed(self, given: Given) -> None:
        """Tell the layer which nodes are given data."""
        self.side.feed([self.nodes[node] for node in given.inputs])

    def own_outputs(self, given: Given, stateful: bool) -> OwnOutputs:
        """What the nodes put out that are given no data."""
        rest = [node for node in self.nodes if node not in given.inputs]
        seed = None if stateful else self.seed
        return OwnOutputs(self.program, rest, self.batch, self.first_step, seed)

    def by_names(
        self, inputs: dict[Any, Any], given: Given, items: int, steps: Any
    ) -> tuple[Any, Any, Any]:
        """(inputs, targets, weights or None) as dicts of arrays by name."""
        by_name = {self.nodes[node]: array for node, array in inputs.items()}
        if not by_name:
            by_name[N_STEPS] = np.ones((items, steps, 1), self.dtype)
        # Keras asks for a target of each output, also of those without a loss
        nothing = np.zeros((items, 1, 1), self.dtype)
        targets = {n: given.targets.get(p, nothing) for p, n in self.names.items()}
        weights = given.weights
        if weights is not None:
            # all of the same rank, or else what Keras has traced is of unknown rank
            ones = np.ones((items, 1), self.dtype)
            weights = {name: weights.get(name, ones) for name in targets}
            weights = {name: w.reshape((items, -1)) for name, w in weights.items()}
        return by_name, targets, weights

    def warn_of_synapses(self, given: Given, where: str) -> None:
        """Warn that one step does not get through a synapse."""
        network = self.network
        if given.steps != 1 or network is None:
            return
        # a probe without target has no influence on what is trained
        probes = given.targets or network.all_probes
        parts = [*network.all_connections, *probes]
        delayed = [part for part in parts if part.synapse is not None]
        if delayed:
            warn(
                f"{where}: running one step, but {len(delayed)} connections or probes "
                "have synapses, which need more steps to pass something on "
                f"({delayed[0]} is one). Did you mean synapse=None?"
            )


def is_stream(value: Any) -> bool:
    """Whether data come batch by batch: a dataset, or an iterator such as a generator."""
    if hasattr(value, "__next__"):
        return True
    # what is not imported has no objects
    tf, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    return (tf is not None and isinstance(value, tf.data.Dataset)) or (
        keras is not None and isinstance(value, keras.utils.PyDataset)
    )


def is_for_all_probes(value: Any, lists: bool = False) -> bool:
    """Whether it is one value for all probes; with ``lists``, that may be a list."""
    if value is None or isinstance(value, Mapping):
        return value is None
    return not isinstance(value, list | tuple) or (
        lists and not any(isinstance(v, list | tuple) for v in value)
    )


def for_probes(
    names: ProbeNames, what: str, value: Any, lists: bool = False
) -> dict[str, Any] | None:
    """One value, a list, or a dict by probe or name -> a dict by name."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        known = {older: names[probe] for older, probe in names.older.items()}
        known |= {**names, **{name: name for name in names.values()}}
        unknown = [key for key in value if key not in known]
        if unknown:
            raise ValidationError(
                f"{unknown} are no probes of this network; its probes are "
                f"{', '.join(described(names))}",
                attr=what,
            )
        return {known[key]: v for key, v in value.items()}
    if is_for_all_probes(value, lists):
        value = [value if i == 0 else _another(value) for i in range(len(names))]
    elif len(value) != len(names):
        raise ValidationError(
            f"got {len(value)} values for {len(names)} probes "
            f"({', '.join(described(names))})",
            attr=what,
        )
    return dict(zip(names.values(), value, strict=True))


def check_sizes(
    batch: int, where: str, n_steps: int | None, kwargs: dict[str, Any]
) -> None:
    """Whole numbers; batches of at most ``minibatch_size``."""
    names = ("batch_size", "validation_batch_size")
    sizes = {"n_steps": n_steps, **{name: kwargs.get(name) for name in names}}
    for name, size in sizes.items():
        if size is None:
            continue
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not whole or size < 1:
            what = "step" if name == "n_steps" else "item"
            got = repr(size) if np.ndim(size) == 0 else f"a {type(size).__name__}"
            raise ValidationError(
                f"expected at least 1 {what} as {name}, a whole number; got {got}",
                attr=where,
            )
        if name != "n_steps" and size > batch:
            warn(
                f"{where}: {name}={size} is more than this simulator's "
                f"minibatch_size ({batch}), which is used instead; leave it "
                "out, or build the Simulator with a larger minibatch_size"
            )
            kwargs[name] = batch
    split = kwargs.get("validation_split") or 0
    if not 0 <= split < 1:
        raise ValidationError(
            f"validation_split is a fraction of the items, at least 0 and less than "
            f"1; got {split!r}",
            attr=where,
        )


def agree(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether two shapes, in which None is unknown, may be the same."""
    return len(shape) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(shape, other, strict=True)
    )


def _another(value: Any) -> Any:
    """An equal metric or list of them: each probe needs its own, as they hold sums."""
    if isinstance(value, list | tuple):
        return [_another(v) for v in value]
    if hasattr(value, "get_config") and hasattr(value, "update_state"):
        return type(value).from_config(value.get_config())
    return value


# names of probes ----------------------------------------------------------------
#
# The probes of a converted network are named after layers, ``dense_output``. In NengoDL
# 3 they had no label, so scripts say ``"probe"`` and ``"probe_1"``. Both are
# understood.


class ProbeNames(dict[Probe, str]):
    """The name of each probe.

    Parameters
    ----------
    network : ~nengo.Network, optional
        It, or networks inside it, may come from a `nengo_dl.Converter`.

    Attributes
    ----------
    older : dict
        Older name -> probe, where no probe has this name today.
    """

    def __init__(self, probes: Iterable[Probe], network: Network | None = None):
        super().__init__(probes_names(probes))
        networks = [] if network is None else [network, *network.all_networks]
        today = set(self.values())
        self.older: dict[str, Probe] = {}
        for net in networks:
            for probe, name in getattr(net, "older_probe_names", {}).items():
                if probe in self and name not in today:
                    self.older.setdefault(name, probe)


class Results(dict[str, Any]):
    """Losses and metrics, which are found by older names of probes, too.

    Parameters
    ----------
    values : mapping
        By the names that they have today, such as ``dense_output_accuracy``.

    Examples
    --------
    >>> from nengo_dl.training.data import ProbeNames, Results
    >>> with nengo.Network() as net:
    ...     probe = nengo.Probe(nengo.Node([0.0]), label="out")
    >>> net.older_probe_names = {probe: "probe"}
    >>> results = Results({"out_loss": 1.5}, ProbeNames([probe], net))
    >>> results["probe_loss"]
    1.5
    """

    def __init__(self, values: Mapping[str, Any], names: ProbeNames):
        super().__init__(values)
        self._today = {older: names[probe] for older, probe in names.older.items()}

    def __missing__(self, key: str) -> Any:
        begin = "val_" if str(key).startswith("val_") else ""
        for older, name in self._today.items():
            rest = str(key).removeprefix(begin).removeprefix(f"{older}_")
            if f"{begin}{older}_{rest}" == key and f"{begin}{name}_{rest}" in self:
                return self[f"{begin}{name}_{rest}"]
        raise KeyError(key)
