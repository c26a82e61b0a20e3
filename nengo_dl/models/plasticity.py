"""How the rules of `.learning_rules` are built, and what they compute in Nengo.

Each rule has an operator with a step function in NumPy, and a function that adds it to
Nengo's models. Native kernels for the operators are in ``nengo_dl.kernels.learning``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from nengo.base import ObjView
from nengo.builder import Builder, Signal
from nengo.builder.operator import Operator, Reset
from nengo.ensemble import Neurons
from nengo.exceptions import BuildError
from nengo.transforms import Dense, NoTransform

from nengo_dl.models.learning_rules import (
    STDP,
    BoundedRule,
    ModulatedSTDP,
    Normalize,
    TripletSTDP,
)
from nengo_dl.notices import label_of, warn


def inside(dtype: Any) -> float:
    """A factor just below one, for changes of weights that end on a bound.

    The distance from a bound is rounded, and so is the sum of a weight and it: together
    they might leave the bound by the last digit. What is smaller by a few units in its
    last place cannot.

    Examples
    --------
    >>> 0 < 1 - inside("float32") < 1e-6
    True
    """
    return 1.0 - 2.0 * float(np.finfo(dtype).eps)


def bounded(change: np.ndarray, weights: np.ndarray, rule: Any) -> np.ndarray:
    """A change of weights after which they are still between the bounds of a rule."""
    factor = inside(weights.dtype)
    low, high = (rule.w_min - weights) * factor, (rule.w_max - weights) * factor
    return np.minimum(np.maximum(change, low), high)


class SimSTDP(Operator):
    """Updates ``delta`` and the traces of `.STDP`.

    Parameters
    ----------
    pre, post : Signal
        Outputs of the neurons on both sides.
    weights : Signal
        ``(n_post, n_pre)``.
    gate : Signal
        What is connected to the rule, one number.
    delta : Signal
        Change of the weights, which the next step adds.
    traces : dict of Signal
        By their names among what rules can be probed for.
    rule : .LearningRuleType
        With its parameters.
    heights : tuple of float
        Amplitudes of a spike before and behind the connection.
    """

    def __init__(
        self,
        pre: Signal,
        post: Signal,
        weights: Signal,
        gate: Signal,
        delta: Signal,
        traces: dict[str, Signal],
        rule: Any,
        heights: tuple[float, float],
    ) -> None:
        super().__init__(tag=type(rule).__name__)
        self.rule = rule
        self.heights = heights
        self.traces = traces
        self.sets, self.incs = [], []
        self.reads = [pre, post, weights, gate]
        self.updates = [delta, *traces.values()]

    pre = property(lambda self: self.reads[0])
    post = property(lambda self: self.reads[1])
    weights = property(lambda self: self.reads[2])
    gate = property(lambda self: self.reads[3])
    delta = property(lambda self: self.updates[0])

    #: name of a trace -> whether it is of spikes before the connection; its time constant
    TRACES = {"pre_trace": (True, "tau_plus"), "post_trace": (False, "tau_minus")}

    def decay(self, name: str, dt: float) -> float:
        """What is left of a trace after a step."""
        return float(np.exp(-dt / getattr(self.rule, self.TRACES[name][1])))

    def make_step(self, signals: Any, dt: float, rng: Any) -> Callable[[], None]:
        """The step function, in NumPy."""
        sources = [
            (signals[signal], dt / height)
            for signal, height in zip((self.pre, self.post), self.heights, strict=True)
        ]
        traces = [
            (signals[self.traces[name]], self.decay(name, dt), int(not before))
            for name, (before, _) in self.TRACES.items()
        ]
        nearest = self.rule.pairing == "nearest"
        causal = self.rule.coincident == "causal"
        change = self.make_change(signals, dt)

        def step():
            spikes = [output * scale for output, scale in sources]
            for trace, decay, _ in traces:
                trace *= decay
            seen = [trace.copy() for trace, _, _ in traces]
            for trace, _, side in traces:
                if nearest:
                    trace[spikes[side] > 0] = 1
                else:
                    trace += spikes[side]
            if causal:  # spikes before the connection are there already
                seen[0] = traces[0][0]
            change(*spikes, *seen)

        return step

    def make_change(self, signals: Any, dt: float) -> Callable[..., None]:
        """A function of spikes and traces that sets ``delta``."""
        weights, delta = signals[self.weights], signals[self.delta]
        gate, rule = signals[self.gate], self.rule
        causal = rule.coincident == "causal"

        def change(*activity):
            scale, found = rule.learning_rate * gate, weights
            lowered = scale * self.by_pre(weights, *activity)
            if causal:
                lowered = bounded(lowered, weights, rule)
                found = weights + lowered
            raised = scale * self.by_post(found, *activity)
            delta[...] = bounded(lowered + raised, weights, rule)

        return change

    def by_pre(self, w: np.ndarray, s: Any, z: Any, x: Any, y: Any) -> np.ndarray:
        """What spikes before the connection ask for, without the learning rate."""
        up, down = max(self.rule.a_pre, 0), min(self.rule.a_pre, 0)
        change = self.above(w) * np.outer(down - self.rule.a_minus * y, s)
        return change + self.below(w) * up * s if up else change

    def by_post(self, w: np.ndarray, s: Any, z: Any, x: Any, y: Any) -> np.ndarray:
        """What spikes behind the connection ask for, without the learning rate."""
        up, down = max(self.rule.a_post, 0), min(self.rule.a_post, 0)
        change = self.below(w) * np.outer(z, self.rule.a_plus * x + up)
        return change + self.above(w) * down * z[:, None] if down else change

    def below(self, w: np.ndarray) -> np.ndarray | float:
        """How much room there is for growth."""
        rule = self.rule
        if rule.mu_plus == 0:
            return 1.0
        part = (rule.w_max - w) / (rule.w_max - rule.w_min)
        return np.clip(part, 0, 1) ** rule.mu_plus

    def above(self, w: np.ndarray) -> np.ndarray | float:
        """How much there is to shrink."""
        rule = self.rule
        if rule.mu_minus == 0:
            return 1.0
        part = (w - rule.w_min) / (rule.w_max - rule.w_min)
        return np.clip(part, 0, 1) ** rule.mu_minus


class SimModulatedSTDP(SimSTDP):
    """Updates ``delta``, the traces and the eligibility of `.ModulatedSTDP`.

    Parameters
    ----------
    eligibility : Signal
        ``(n_post, n_pre)``.
    *args
        As of `SimSTDP`; the gate is the reward.
    """

    def __init__(self, eligibility: Signal, *args: Any) -> None:
        super().__init__(*args)
        self.updates = [*self.updates, eligibility]

    eligibility = property(lambda self: self.updates[-1])

    def make_change(self, signals: Any, dt: float) -> Callable[..., None]:
        """A function of spikes and traces that sets ``delta`` and the eligibility."""
        weights, delta = signals[self.weights], signals[self.delta]
        reward, eligibility = signals[self.gate], signals[self.eligibility]
        rule, keep = self.rule, np.exp(-dt / self.rule.tau_e)

        def change(*activity):
            both = self.by_pre(weights, *activity) + self.by_post(weights, *activity)
            eligibility[...] = keep * eligibility + rule.learning_rate * both
            delta[...] = bounded((reward * dt) * eligibility, weights, rule)

        return change


class SimTripletSTDP(SimSTDP):
    """Updates ``delta`` and the traces of `.TripletSTDP`; parameters as of `SimSTDP`."""

    TRACES = {
        "pre_trace": (True, "tau_plus"),
        "post_trace": (False, "tau_minus"),
        "slow_pre_trace": (True, "tau_x"),
        "slow_post_trace": (False, "tau_y"),
    }

    def by_pre(  # pyright: ignore[reportIncompatibleMethodOverride]  # two traces more
        self, w: np.ndarray, s: Any, z: Any, r1: Any, o1: Any, r2: Any, o2: Any
    ) -> np.ndarray:
        """What spikes before the connection ask for, without the learning rate."""
        return -np.outer(o1, s * (self.rule.a2_minus + self.rule.a3_minus * r2))

    def by_post(  # pyright: ignore[reportIncompatibleMethodOverride]  # two traces more
        self, w: np.ndarray, s: Any, z: Any, r1: Any, o1: Any, r2: Any, o2: Any
    ) -> np.ndarray:
        """What spikes behind the connection ask for, without the learning rate."""
        return np.outer(z * (self.rule.a2_plus + self.rule.a3_plus * o2), r1)


class SimNormalize(Operator):
    """Updates ``delta`` of `.Normalize`, and the number of steps since the last change.

    Parameters
    ----------
    weights : Signal
        ``(n_post, n_pre)``.
    delta : Signal
        Change of the weights, which the next step adds.
    count : Signal or None
        Steps since the last change. None: there is one in each step.
    rule : .Normalize
    period : int
        Steps between two changes.
    """

    def __init__(
        self, weights: Signal, delta: Signal, count: Signal | None, rule: Any, period: int
    ) -> None:
        super().__init__(tag=type(rule).__name__)
        self.rule = rule
        self.period = period
        self.sets, self.incs, self.reads = [], [], [weights]
        self.updates = [delta] if count is None else [delta, count]

    weights = property(lambda self: self.reads[0])
    delta = property(lambda self: self.updates[0])
    count = property(lambda self: self.updates[1] if len(self.updates) > 1 else None)

    def make_step(self, signals: Any, dt: float, rng: Any) -> Callable[[], None]:
        """The step function, in NumPy."""
        weights, delta = signals[self.weights], signals[self.delta]
        count = None if self.count is None else signals[self.count]
        axis, total = 1 if self.rule.axis == "pre" else 0, self.rule.total

        def step():
            if count is not None:
                count[...] = (count + 1) % self.period
                if count[0] > 0:
                    delta[...] = 0
                    return
            found = np.abs(weights).sum(axis=axis, keepdims=True)
            ratio = total / np.where(found > 0, found, total)
            delta[...] = (ratio - 1) * weights

        return step


# -- building --------------------------------------------------------------------------


def _neurons(conn, rule_type):
    """The neurons on both sides of a connection, all of them.

    Raises
    ------
    BuildError
        If a side is something else.
    """
    name = type(rule_type).__name__
    for side, end in (("pre", conn.pre), ("post", conn.post)):
        if isinstance(end, ObjView) or not isinstance(end, Neurons):
            raise BuildError(
                f"{label_of(conn)}: {name} learns from the spikes of whole populations, "
                f"so '{side}' must be the neurons of an ensemble, ensemble.neurons; "
                f"found {label_of(end)}. For some neurons only, make an ensemble of those"
            )
    return conn.pre_obj, conn.post_obj


def _check_bounds(conn, rule_type, weights):
    """Refuse weights that the rule could not have made.

    Raises
    ------
    BuildError
    """
    low, high = weights.initial_value.min(), weights.initial_value.max()
    if low < rule_type.w_min or high > rule_type.w_max:
        raise BuildError(
            f"{label_of(conn)}: the weights must start between the bounds "
            f"w_min={rule_type.w_min} and w_max={rule_type.w_max} of "
            f"{type(rule_type).__name__}; found weights from {low:.9g} to {high:.9g}. "
            "Choose another transform (nengo.dists.Uniform(w_min, w_max), say), or other "
            "bounds"
        )


def rules_of(conn: Any) -> list[Any]:
    """The types of the rules of a connection, given as one, as a list or as a dict."""
    rules = conn.learning_rule_type
    rules = rules.values() if isinstance(rules, dict) else rules
    if not np.iterable(rules):
        rules = [] if rules is None else [rules]
    return list(rules)


class Bounds(NamedTuple):
    """Between which numbers the rules of a connection keep its weights.

    Attributes
    ----------
    low, high : float
        Those of all rules that have bounds.
    kept_by : str
        The names of these rules.
    alone : bool
        Whether no other rule changes the weights. Others may lead beyond the bounds,
        until the next step.
    """

    low: float
    high: float
    kept_by: str
    alone: bool

    def exceeded(self, weights: np.ndarray) -> bool:
        """Whether weights are outside, by more than single precision rounds."""
        low, high, w = (np.asarray(x, np.float32) for x in (self.low, self.high, weights))
        return bool((w < low).any() or (w > high).any())


def bounds_of(conn: Any) -> Bounds | None:
    """The bounds of the weights of a connection; None if no rule has any."""
    rules = rules_of(conn)
    keeping = [rule for rule in rules if isinstance(rule, BoundedRule)]
    if not keeping:
        return None
    return Bounds(
        float(max(rule.w_min for rule in keeping)),
        float(min(rule.w_max for rule in keeping)),
        " and ".join(dict.fromkeys(type(rule).__name__ for rule in keeping)),
        len(keeping) == len(rules),
    )


def refuse_transforms(network: Any) -> None:
    """Refuse rules of `.learning_rules` on weights that are no matrix.

    Nengo says so, too, but not of which connection.

    Raises
    ------
    BuildError
    """
    for conn in network.all_connections:
        for rule in rules_of(conn):
            ours = isinstance(rule, BoundedRule | Normalize)
            found = _no_matrix(conn.transform) if ours else None
            if found is not None:
                raise BuildError(
                    f"{label_of(conn)}: {type(rule).__name__} changes matrices of "
                    f"weights; found {found}. Give the weights as an array or a "
                    "distribution, with zeros where there is no synapse"
                )


def _no_matrix(transform: Any) -> str | None:
    """What a transform is, if it is no matrix."""
    if not isinstance(transform, Dense | NoTransform):
        return f"a transform of the type {type(transform).__name__}"
    values = getattr(transform, "init", None)
    if isinstance(values, np.ndarray | float | int) and np.ndim(values) < 2:
        what = "one number for each neuron" if np.ndim(values) else "a number"
        return f"{what} as the transform, shape {np.shape(values)}"
    return None


def _warn_of_rates(conn, rule_type, neurons):
    for side, population in zip(("pre", "post"), neurons, strict=True):
        neuron_type = population.ensemble.neuron_type
        if not neuron_type.spiking:
            warn(
                f"{label_of(conn)}: the neurons on the side '{side}' of "
                f"{type(rule_type).__name__} are {neuron_type}, which have rates instead "
                "of spikes: counts are then expected numbers of spikes: no correlations "
                "are learned. Use a spiking type, such as nengo.LIF()"
            )


def _is_connected(model, rule):
    """Whether a connection of the network leads to a rule."""
    network = model.toplevel
    connections = () if network is None else network.all_connections
    return any(conn.post_obj == rule for conn in connections)


def _parts(model, rule, unconnected, operator):
    """The arguments of an operator like `SimSTDP`; what can be probed is kept."""
    conn, rule_type = rule.connection, rule.learning_rule_type
    neurons = _neurons(conn, rule_type)
    weights = model.sig[conn]["weights"]
    _check_bounds(conn, rule_type, weights)
    _warn_of_rates(conn, rule_type, neurons)
    name = type(rule_type).__name__
    gate = Signal(shape=(1,), name=f"{name}:in")
    model.add_op(Reset(gate, value=0.0 if _is_connected(model, rule) else unconnected))
    model.sig[rule]["in"] = gate  # what connections add to
    pre, post = (model.sig[side]["out"] for side in neurons)
    traces = {
        trace: Signal(shape=(pre if before else post).shape, name=f"{name}:{trace}")
        for trace, (before, _) in operator.TRACES.items()
    }
    model.sig[rule].update(traces)
    first, second = (
        float(getattr(side.ensemble.neuron_type, "amplitude", 1.0)) for side in neurons
    )
    heights = (first, second)
    delta = model.sig[rule]["delta"]
    return pre, post, weights, gate, delta, traces, rule_type, heights


@Builder.register(STDP)
def build_stdp(model: Any, stdp: STDP, rule: Any) -> None:
    """Add the operator of `.STDP`; without a connection to it the gate is open."""
    model.add_op(SimSTDP(*_parts(model, rule, 1.0, SimSTDP)))


@Builder.register(TripletSTDP)
def build_triplet_stdp(model: Any, stdp: TripletSTDP, rule: Any) -> None:
    """Add the operator of `.TripletSTDP`; without a connection the gate is open."""
    model.add_op(SimTripletSTDP(*_parts(model, rule, 1.0, SimTripletSTDP)))


@Builder.register(ModulatedSTDP)
def build_modulated_stdp(model: Any, stdp: ModulatedSTDP, rule: Any) -> None:
    """Add the operator of `.ModulatedSTDP`; without a connection there is no reward."""
    if not _is_connected(model, rule):
        warn(
            f"{label_of(rule.connection)}: nothing is connected to its rule "
            "ModulatedSTDP, so there is no reward, and it never changes a weight. "
            "Connect a reward to conn.learning_rule, or use STDP"
        )
    parts = _parts(model, rule, 0.0, SimModulatedSTDP)
    shape = model.sig[rule]["delta"].shape
    eligibility = Signal(shape=shape, name="ModulatedSTDP:eligibility")
    model.sig[rule]["eligibility"] = eligibility
    model.add_op(SimModulatedSTDP(eligibility, *parts))


@Builder.register(Normalize)
def build_normalize(model: Any, normalize: Normalize, rule: Any) -> None:
    """Add the operator of `.Normalize`."""
    conn, period = rule.connection, 1
    _neurons(conn, normalize)
    if normalize.every is not None:
        period = int(np.round(normalize.every / model.dt))
        if period < 1:
            raise BuildError(
                f"{label_of(conn)}: Normalize can change the weights once in a step of "
                f"{model.dt} s at most; found every={normalize.every}. Give a longer "
                "time, or every=None"
            )
    count = None if period == 1 else Signal(shape=(1,), name="Normalize:count")
    weights, delta = model.sig[conn]["weights"], model.sig[rule]["delta"]
    model.add_op(SimNormalize(weights, delta, count, normalize, period))
