"""Plasticity by the times of spikes: of pairs, of triplets, and with a reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.algebra import PRODUCT
from nengo_dl.kernels.learning.outer import (
    Change,
    columns,
    flat,
    matrices,
    rows,
    ways,
)
from nengo_dl.models.plasticity import (
    SimModulatedSTDP,
    SimNormalize,
    SimSTDP,
    SimTripletSTDP,
    inside,
)
from nengo_dl.notices import label_of, warn

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


#: what `STDPDelta.asked` returns
Asked: TypeAlias = tuple[Array, Array, Array | None]


class SpikeTrace(Kernel):
    r"""What is left of earlier spikes.

    .. math:: x \leftarrow x e^{-dt / \tau}, \quad x \leftarrow x + s

    or, of the nearest spike alone, :math:`x \leftarrow 1` where :math:`s > 0`.

    Parameters: ``decay``, :math:`e^{-dt / \tau}`, one value per neuron; ``nearest``.
    Inputs: the trace of the step before, :math:`x`, and the number of spikes :math:`s`,
    ``(n, batch)``. Outputs: the trace before and after the spikes of this step.

    References: Morrison, Diesmann & Gerstner (2008), Phenomenological models of synaptic
    plasticity based on spike timing, Biological Cybernetics 98.
    """

    name = "spike_trace"
    vectors = ("decay",)
    zero_preserving = True

    def step(
        self, xp: ArrayNamespace, p: Params, trace: Array, spikes: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        seen = trace * p.decay
        if p.nearest:
            return seen, xp.where(spikes > 0, xp.ones_like(seen), seen)
        return seen, seen + spikes


class STDPDelta(Change):
    r"""The change of the weights that one step of STDP asks for.

    .. math::

       \Delta_{ij} = g \eta \left[ f_+ z_i (a_+ x_j + a_{post})
                     - f_- s_j (a_- y_i - a_{pre}) \right], \qquad
       \delta_{ij} = \min(\max(w_{ij} + \Delta_{ij}, w_{min}), w_{max}) - w_{ij}

    Parameters: ``shape``, ``(m, n)``; those of the rule. Inputs: spikes before the
    connection ``s``, ``(n, batch)``, and behind it ``z``, ``(m, batch)``; their traces
    ``x`` and ``y``; the weights ``w``, ``(m * n, batch)``; the gate ``g``,
    ``(1, batch)``. Output: ``(m * n, batch)``, row by row.

    With ``causal``, what spikes before the connection ask for is done before what those
    behind it do, and :math:`x` has them already.

    Weights start between the bounds, so that without spikes they stay what they are.
    Executors may rely on it if nothing else changes the weights (``alone``), or only
    something that tells in which steps it did: further inputs, ``(1, batch)``, are not
    zero in the step after one of those.

    References: Song, Miller & Abbott (2000), Competitive Hebbian learning through
    spike-timing-dependent synaptic plasticity, Nature Neuroscience 3.
    """

    name = "STDP"
    zero_preserving = True
    zero_inputs = (0, 1)
    merge_limit = LARGE_MATRIX
    operations = 8
    by_item = (0, 1, 2, 3, 5)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # inputs by name
        self,
        xp: ArrayNamespace,
        p: Params,
        pre: Array,
        post: Array,
        pre_trace: Array,
        post_trace: Array,
        weights: Array,
        gate: Array,
        *scaled: Array,
    ) -> tuple[Array, ...]:
        """What belongs to a neuron is computed before anything of the matrix's size."""
        w = matrices(xp, p, weights)
        gain = xp.reshape(gate * p.learning_rate, (p.groups, 1, -1))
        before = self.by_pre(xp, p, gain, pre, post_trace)
        behind = self.by_post(xp, p, gain, post, pre_trace)
        found, lowered = w, None
        if before is not None:
            lowered = self.lowered(xp, p, w, *before)
        elif p.causal and (scaled or not p.alone):  # others may have left the bounds
            lowered = xp.zeros_like(w)
        if p.causal and lowered is not None:
            lowered = _bounded(xp, p, lowered, w)
            found = w + lowered
        change = self.raised(xp, p, found, *behind)
        change = change if lowered is None else change + lowered
        change = _bounded(xp, p, change, w)
        if p.alone:  # nothing changes but where there was a spike, if the gate is open
            causes = [columns(xp, p, behind[0])]
            causes += [xp.reshape(x, (p.groups, 1, 1, -1)) for x in scaled]
            causes += [] if before is None else [rows(xp, p, before[0])]
            change = xp.zero_unless(change, *causes)
        return (flat(xp, p, change),)

    def by_pre(
        self,
        xp: ArrayNamespace,
        p: Params,
        gain: Array | float,
        pre: Array,
        post_trace: Array,
    ) -> Asked | None:
        """What spikes before the connection ask for; None if they never do anything."""
        if p.a_minus == 0 and p.a_pre == 0:
            return None
        spikes = xp.reshape(pre, (p.groups, p.shape[1], -1)) * gain
        return self.asked(xp, p, spikes, post_trace * -p.a_minus, p.a_pre, min)

    def by_post(
        self,
        xp: ArrayNamespace,
        p: Params,
        gain: Array | float,
        post: Array,
        pre_trace: Array,
    ) -> Asked:
        """What spikes behind the connection ask for."""
        spikes = xp.reshape(post, (p.groups, p.shape[0], -1)) * gain
        return self.asked(xp, p, spikes, pre_trace * p.a_plus, p.a_post, max)

    def asked(
        self,
        xp: ArrayNamespace,
        p: Params,
        spikes: Array,
        pairs: Array,
        single: float,
        extreme: Callable[[float, float], float],
    ) -> Asked:
        """Changes neuron by neuron.

        The spikes; what they are multiplied with; and what single spikes do the other way
        than pairs, to all weights alike, which depends on the other bound, or None.
        """
        along = extreme(single, 0.0)
        if not (p.mu_plus or p.mu_minus):  # nothing depends on the weight
            along = single
        against = self.joined(xp, spikes * single) if along != single else None
        return spikes, pairs + along, against

    def lowered(
        self,
        xp: ArrayNamespace,
        p: Params,
        w: Array,
        spikes: Array,
        trace: Array,
        raising: Array | None,
    ) -> Array:
        """The change that `by_pre` leads to, where pairs lower weights."""
        change = self.shrinking(xp, p, w, self.outer(xp, p, trace, spikes))
        if raising is None:
            return change
        return change + self.growing(xp, p, w, rows(xp, p, raising))

    def raised(
        self,
        xp: ArrayNamespace,
        p: Params,
        w: Array,
        spikes: Array,
        trace: Array,
        lowering: Array | None,
    ) -> Array:
        """The change that `by_post` leads to, where pairs raise weights."""
        change = self.growing(xp, p, w, self.outer(xp, p, spikes, trace))
        if lowering is None:
            return change
        return change + self.shrinking(xp, p, w, columns(xp, p, lowering))

    def growing(self, xp: ArrayNamespace, p: Params, w: Array, change: Array) -> Array:
        """A change, the smaller the nearer the upper bound is."""
        if p.mu_plus == 0:
            return change
        part = (p.w_max - w) * (1 / (p.w_max - p.w_min))
        return change * _power(xp, part, p.mu_plus)

    def shrinking(self, xp: ArrayNamespace, p: Params, w: Array, change: Array) -> Array:
        """A change, the smaller the nearer the lower bound is."""
        if p.mu_minus == 0:
            return change
        part = (w - p.w_min) * (1 / (p.w_max - p.w_min))
        return change * _power(xp, part, p.mu_minus)


def _bounded(xp, p, change, w):
    """A change after which the weights are still between the bounds."""
    factor = inside(xp.dtype)
    change = xp.maximum(change, (p.w_min - w) * factor)
    return xp.minimum(change, (p.w_max - w) * factor)


def _power(xp, part, exponent):
    """A part of one to a power; other rules may have led beyond it."""
    part = xp.clip(part, 0, 1)
    if exponent == 1:
        return part
    some = part > 0  # at zero the power has no finite slope
    power = xp.power(xp.where(some, part, xp.ones_like(part)), exponent)
    return xp.where(some, power, xp.zeros_like(part))


class Eligibility(STDPDelta):
    r"""What STDP would have changed of late.

    .. math:: c_{ij} \leftarrow c_{ij} e^{-dt / \tau_e} + D_{ij}

    Parameters: those of `STDPDelta`, and ``keep``, :math:`e^{-dt / \tau_e}`. Inputs:
    those of `STDPDelta`, with the eligibility of the step before, ``c``,
    ``(m * n, batch)``, in place of the gate. Output: the eligibility, row by row.

    References: Izhikevich (2007), Solving the distal reward problem through linkage of
    STDP and dopamine signaling, Cerebral Cortex 17.
    """

    name = "eligibility"
    zero_inputs = None

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # inputs by name
        self,
        xp: ArrayNamespace,
        p: Params,
        pre: Array,
        post: Array,
        pre_trace: Array,
        post_trace: Array,
        weights: Array,
        eligibility: Array,
    ) -> tuple[Array, ...]:
        """One time step; matrices are flattened row by row."""
        w, gain = matrices(xp, p, weights), p.learning_rate
        before = self.by_pre(xp, p, gain, pre, post_trace)
        change = self.raised(xp, p, w, *self.by_post(xp, p, gain, post, pre_trace))
        if before is not None:
            change = change + self.lowered(xp, p, w, *before)
        return (eligibility * p.keep + flat(xp, p, change),)


class RewardedDelta(Change):
    r"""The change of the weights that a reward makes.

    .. math:: \delta_{ij} = \min(\max(w_{ij} + M c_{ij}\, dt, w_{min}), w_{max}) - w_{ij}

    Parameters: ``shape``, ``(m, n)``; ``dt``; ``w_min``, ``w_max``. Inputs: the reward
    ``M``, ``(1, batch)``; the eligibility ``c`` and the weights ``w``,
    ``(m * n, batch)``. Output: ``(m * n, batch)``, row by row.

    Weights start between the bounds, so that without a reward they stay what they are.

    References: Florian (2007), Reinforcement learning through modulation of spike-timing-
    dependent synaptic plasticity, Neural Computation 19.
    """

    name = "rewarded change"
    zero_preserving = True
    zero_inputs = (0,)
    merge_limit = LARGE_MATRIX
    operations = 4
    by_item = (0, 1)

    def step(
        self, xp: ArrayNamespace, p: Params, reward: Array, made: Array, weights: Array
    ) -> tuple[Array, ...]:
        """One time step; matrices are flattened row by row."""
        w = matrices(xp, p, weights)
        factor = xp.reshape(reward * p.dt, (p.groups, 1, 1, -1))
        change = self.joined(xp, matrices(xp, p, made) * factor)
        return (flat(xp, p, _bounded(xp, p, change, w)),)


class IsZero(Kernel):
    r"""Whether numbers are zero.

    .. math:: y = [x = 0]

    Parameters: none. Input and output: ``(n, batch)``; ones and zeros.
    """

    name = "is_zero"

    def step(self, xp: ArrayNamespace, p: Params, x: Array) -> tuple[Array, ...]:
        """One time step."""
        there = xp.abs(x) > 0
        return (xp.where(there, xp.zeros_like(x), xp.ones_like(x)),)


IS_ZERO = IsZero()
SPIKE_TRACE = SpikeTrace()
STDP_DELTAS = ways(STDPDelta)
ELIGIBILITY = Eligibility()
REWARDED_DELTAS = ways(RewardedDelta)


@lowers(SimSTDP)
class LowerSTDP(OperatorRule):
    """Updates the traces, and ``delta``, which the next step adds to the weights."""

    def trains_otherwise(self, op, training, spikes):
        """Rates are no spikes: then nothing is learned from them."""
        return spikes is not None and not spikes.spiking

    def lower(self, op: SimSTDP, low: Lowering) -> None:
        """A node for each trace, and one from spikes, traces, weights and gate."""
        if low.options.spikes is not None and not low.options.spikes.spiking:
            self.suspend(op, low)
            return
        spikes = [
            _scaled(low, low.read(signal).ravel(), low.dt / height)
            for signal, height in zip((op.pre, op.post), op.heights, strict=True)
        ]
        seen = {
            name: self.trace(op, low, name, spikes[0 if before else 1])
            for name, (before, _) in op.TRACES.items()
        }
        self.change(op, low, spikes, seen)

    def suspend(self, op: SimSTDP, low: Lowering) -> None:
        """Leave everything as it is; a warning says so."""
        warn(
            f"{label_of(op.rule)} is suspended where neurons run as rates: it learns "
            "from spikes. To train with spikes while it learns, call "
            "nengo_dl.configure_settings(spiking_training=True)",
            once=("suspended", label_of(op.rule), label_of(op.weights)),
        )
        for signal in op.updates:
            if signal is op.delta:
                low.update(signal, _constant(low, signal.size, 0.0))
            else:
                low.update(signal, low.previous(signal))

    def trace(
        self, op: SimSTDP, low: Lowering, name: str, spikes: np.ndarray
    ) -> np.ndarray:
        """Update a trace; elements of what spikes of the other side find of it."""
        signal, n = op.traces[name], spikes.size
        params = {
            "decay": np.full(n, op.decay(name, low.dt)),
            "nearest": op.rule.pairing == "nearest",
        }
        inputs, label = [low.previous(signal).ravel(), spikes], label_of(op)
        seen, after = low.node(SPIKE_TRACE, inputs, [n, n], params, label=label)
        low.update(signal, after)
        causal = name == "pre_trace" and op.rule.coincident == "causal"
        return after if causal else seen

    def change(
        self,
        op: SimSTDP,
        low: Lowering,
        spikes: list[np.ndarray],
        seen: dict[str, np.ndarray],
    ) -> None:
        """One node."""
        m, n = op.delta.shape
        params = self.params(op, low)
        inputs = [*spikes, seen["pre_trace"], seen["post_trace"]]
        inputs += [low.read(op.weights), low.read(op.gate)]
        alone, counts = others(op, low)
        params["alone"] = alone
        inputs += [_just_counted(low, count) for count in counts if alone]
        kernel = STDP_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)

    def params(self, op: SimSTDP, low: Lowering) -> dict[str, Any]:
        """What the kernel has to know of the rule."""
        names = ("a_plus", "a_minus", "a_pre", "a_post", "mu_plus", "mu_minus")
        values = {name: float(getattr(op.rule, name)) for name in names}
        return {**values, **_bounds(op)}


def _bounds(op):
    """Parameters that rules of pairs and of triplets have."""
    rule = op.rule
    return {
        "shape": op.delta.shape,
        "learning_rate": float(rule.learning_rate),
        "w_min": float(rule.w_min),
        "w_max": float(rule.w_max),
        "causal": rule.coincident == "causal",
        "alone": False,
    }


def others(op: SimSTDP, low: Lowering) -> tuple[bool, list[Any]]:
    """Whether it is known when something else changes the weights.

    And the counters of steps of all that does, which are 0 after a step in which it did.
    """
    writers = {s.base: o for o in low.order for s in o.updates}
    counts = []
    for source in low.sources_of(op.weights):
        writer = None if source is None else writers.get(source.base)
        if isinstance(writer, SimNormalize) and writer.count is not None:
            counts.append(writer.count)
        elif writer is not op:
            return False, []
    return True, counts


def _just_counted(low, count):
    """1 if a counter was set to 0 at the end of the step before, else 0."""
    (found,) = low.node(IS_ZERO, [low.previous(count).ravel()], [1], {})
    return found


def _scaled(low, elements, factor, bias=0.0):
    """Elements times a number, plus another one."""
    n = elements.size
    return low.affine(np.full(n, bias), np.arange(n), elements, np.full(n, factor))


def _constant(low, size, value):
    """Elements that hold one value for ever."""
    nothing = np.zeros(0, int)
    return low.affine(np.full(size, value), nothing, nothing, np.zeros(0))


@lowers(SimModulatedSTDP)
class LowerModulatedSTDP(LowerSTDP):
    """Updates the traces, the eligibility and ``delta``."""

    def change(
        self,
        op: SimSTDP,
        low: Lowering,
        spikes: list[np.ndarray],
        seen: dict[str, np.ndarray],
    ) -> None:
        """One node for the eligibility, and one for what the reward makes of it."""
        assert isinstance(op, SimModulatedSTDP)
        m, n = op.delta.shape
        params, label = self.params(op, low), label_of(op)
        params["keep"] = float(np.exp(-low.dt / op.rule.tau_e))
        weights = low.read(op.weights)
        inputs = [*spikes, seen["pre_trace"], seen["post_trace"], weights]
        inputs.append(low.previous(op.eligibility))
        (made,) = low.node(ELIGIBILITY, inputs, [m * n], params, label=label)
        low.update(op.eligibility, made)
        params = {key: params[key] for key in ("shape", "w_min", "w_max")}
        inputs, params["dt"] = [low.read(op.gate), made, weights], low.dt
        kernel = REWARDED_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=label)
        low.update(op.delta, delta)


@lowers(SimTripletSTDP)
class LowerTripletSTDP(LowerSTDP):
    """Lowers triplets as pairs of spikes that are as strong as slow traces make them."""

    def change(
        self,
        op: SimSTDP,
        low: Lowering,
        spikes: list[np.ndarray],
        seen: dict[str, np.ndarray],
    ) -> None:
        """Two products, and what pairs have."""
        rule = op.rule
        down, up = (rule.a2_minus, rule.a3_minus), (rule.a2_plus, rule.a3_plus)
        strong = [
            self.strong(op, low, spikes[0], seen["slow_pre_trace"], down),
            self.strong(op, low, spikes[1], seen["slow_post_trace"], up),
        ]
        super().change(op, low, strong, seen)

    def strong(
        self,
        op: SimSTDP,
        low: Lowering,
        spikes: np.ndarray,
        slow: np.ndarray,
        sizes: tuple[float, float],
    ) -> np.ndarray:
        """Spikes times what one of them does, by itself and with earlier ones."""
        pair, triplet = sizes
        inputs = [spikes, _scaled(low, slow, triplet, pair)]
        (product,) = low.node(PRODUCT, inputs, [spikes.size], {}, label=op)
        return product

    def params(self, op: SimSTDP, low: Lowering) -> dict[str, Any]:
        """Pairs of one strength, whatever the weight."""
        ones = {"a_plus": 1.0, "a_minus": 1.0}
        zeros = dict.fromkeys(("a_pre", "a_post", "mu_plus", "mu_minus"), 0.0)
        return {**ones, **zeros, **_bounds(op)}
