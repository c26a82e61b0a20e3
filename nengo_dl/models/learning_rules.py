"""Learning from spikes: rules beyond those of Nengo; they run in ``nengo.Simulator`` too.

All rules here change the weights of a connection from neurons to neurons by their spikes,
within bounds. They speak of *numbers of spikes*, whatever the time step and the height of
a spike are: the learning rate is the change of a weight for one pair of spikes.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal

import numpy as np
from nengo.exceptions import ValidationError
from nengo.learning_rules import LearningRuleType
from nengo.params import EnumParam, NumberParam

__all__ = ["STDP", "ModulatedSTDP", "Normalize", "TripletSTDP"]

#: which of the earlier spikes count
PAIRINGS = ("all", "nearest")

#: what spikes of both sides in one step do
COINCIDENCES = ("ignored", "causal")

#: parameters of `TripletSTDP`: Pfister & Gerstner (2006), table 4, all-to-all
TRIPLET_FITS = {
    "visual": {},
    "hippocampal": {
        "a2_plus": 6.1e-3,
        "a3_plus": 6.7e-3,
        "a2_minus": 1.6e-3,
        "a3_minus": 1.4e-3,
        "tau_x": 0.946,
        "tau_y": 0.027,
    },
}


class Quantity(NumberParam):
    """A number that is none of the numbers that are not any (NaN).

    Parameters
    ----------
    name : str
        The attribute.
    infinite : bool
        Whether it may be infinite.
    **options
        Of `nengo.params.NumberParam`.
    """

    def __init__(self, name: str, infinite: bool = False, **options: Any) -> None:
        super().__init__(name, **options)
        self.infinite = infinite

    def coerce(self, instance: Any, num: Any) -> Any:
        """The number, checked."""
        if isinstance(num, float | np.floating):
            if math.isnan(num):
                raise ValidationError("Must be a number; got nan", self.name, instance)
            if math.isinf(num) and not self.infinite:
                raise ValidationError(f"Must be finite; got {num}", self.name, instance)
        return super().coerce(instance, num)


def _positive(name):
    """A parameter in seconds."""
    return Quantity(name, infinite=True, low=0, low_open=True, readonly=True)


class BoundedRule(LearningRuleType):
    """What rules share that change weights between bounds by spikes.

    Parameters
    ----------
    learning_rate : float
        Factor of all changes.
    w_min, w_max : float
        Bounds of the weights.
    pairing : str
        "all" or "nearest": which earlier spikes count.
    coincident : str
        "ignored" or "causal": what spikes of both sides in one step do.
    """

    modifies = "weights"

    w_min = Quantity("w_min", infinite=True, readonly=True)
    w_max = Quantity("w_max", infinite=True, readonly=True)
    pairing = EnumParam("pairing", values=PAIRINGS, readonly=True)
    coincident = EnumParam("coincident", values=COINCIDENCES, readonly=True)

    def __init__(
        self,
        learning_rate: float,
        w_min: float,
        w_max: float,
        pairing: str,
        coincident: str,
    ) -> None:
        super().__init__(learning_rate, size_in=1)
        self.w_min = w_min
        self.w_max = w_max
        self.pairing = pairing
        self.coincident = coincident
        if not self.w_min < self.w_max:
            raise ValidationError(
                f"the lower bound must be smaller than the upper one: w_min={w_min}, "
                f"w_max={w_max}",
                attr="w_min",
                obj=self,
            )


class STDP(BoundedRule):
    r"""Spike-timing dependent plasticity of pairs of spikes.

    A weight grows where a spike of the neuron before it was followed by one of the neuron
    behind it, and shrinks where it was the other way round, each the more the nearer the
    spikes were. With the number of spikes in a step :math:`s_j` before the connection and
    :math:`z_i` behind it, and a trace of those before this step on either side,

    .. math::

       x_j &\leftarrow x_j e^{-dt / \tau_+}, \qquad
       y_i \leftarrow y_i e^{-dt / \tau_-} \\
       \Delta_{ij} &= g \eta \left[ f_+ z_i (a_+ x_j + a_{post})
                      - f_- s_j (a_- y_i - a_{pre}) \right] \\
       w_{ij} &\leftarrow \min(\max(w_{ij} + \Delta_{ij}, w_{min}), w_{max}) \\
       x_j &\leftarrow x_j + s_j, \qquad y_i \leftarrow y_i + z_i

    where :math:`\eta` is the learning rate, and :math:`g` the *gate*: what is connected
    to ``conn.learning_rule``, 1 without a connection. With a gate of 0 nothing is
    learned, with -1 everything the other way round. Weights depend on themselves by

    .. math::

       f_+ = \left( \frac{w_{max} - w}{w_{max} - w_{min}} \right)^{\mu_+}, \qquad
       f_- = \left( \frac{w - w_{min}}{w_{max} - w_{min}} \right)^{\mu_-}

    (a negative :math:`a_{post}` has :math:`f_-`, a positive :math:`a_{pre}` has
    :math:`f_+`). The weights of the next step are the first to be changed.

    Parameters
    ----------
    learning_rate : float, optional
        :math:`\eta`. Times ``a_plus`` (``a_minus``) it is by how much one pair of spikes
        without a delay would raise (lower) a weight, whatever the time step.
    a_plus, a_minus : float, optional
        Sizes of what pairs do: those in which the spike behind the connection is the
        later one, and those in which it is the earlier one.
    tau_plus, tau_minus : float, optional
        Time constants in seconds, of the traces before and behind the connection.
    a_pre, a_post : float, optional
        What a single spike does, before and behind the connection, whatever there was on
        the other side.
    mu_plus, mu_minus : float, optional
        Exponents; 0: what is added does not depend on the weight (additive), 1: it is
        proportional to the distance from the bound (multiplicative).
    w_min, w_max : float, optional
        Bounds of the weights, in units of the connection's transform. May be infinite if
        no exponent needs them.
    pairing : str, optional
        "all": each spike is paired with all earlier ones. "nearest": with the last one.
    coincident : str, optional
        What spikes of both sides in one step do. "ignored": they are no pair (as in
        NEST), whatever the order in which things are computed. "causal": the spike before
        the connection counts as the earlier one (as in Brian2 by default), right where
        ``synapse=None``: depression comes first, and potentiation finds its result.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a time constant is not positive, ``w_min`` is not smaller than ``w_max``, an
        infinite bound has to be known, another number is infinite, or a word is none of
        those above.
    ~nengo.exceptions.BuildError
        When a simulator is made: if the connection is not from all neurons of an ensemble
        to all of another, or if a weight is outside of the bounds.

    Warns
    -----
    UserWarning
        If the neurons on one side do not spike: their rates are taken for expected
        numbers of spikes, so that no correlations are learned.

    Notes
    -----
    Some well-known rules are special cases:

    ==========================  =========================================================
    additive, multiplicative    ``mu_plus=mu_minus=0``, ``mu_plus=mu_minus=1``
    Gütig et al. (2003)         ``mu_plus=mu_minus`` between 0 and 1
    van Rossum et al. (2000)    ``mu_plus=0, mu_minus=1``
    Diehl & Cook (2015)         `diehl_cook`
    Vogels et al. (2011)        `vogels`
    ==========================  =========================================================

    Probes can show ``"delta"``, the change that is added in the next step,
    ``"pre_trace"``, :math:`x`, and ``"post_trace"``, :math:`y`.

    References
    ----------
    S. Song, K. D. Miller and L. F. Abbott (2000). Competitive Hebbian learning through
    spike-timing-dependent synaptic plasticity. Nature Neuroscience 3.

    R. Gütig, R. Aharonov, S. Rotter and H. Sompolinsky (2003). Learning input
    correlations through nonlinear temporally asymmetric Hebbian plasticity. Journal of
    Neuroscience 23.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network(seed=0) as net:
    ...     pre, post = nengo.Ensemble(5, 1), nengo.Ensemble(4, 1)
    ...     conn = nengo.Connection(
    ...         pre.neurons,
    ...         post.neurons,
    ...         transform=nengo.dists.Uniform(0, 0.1),
    ...         synapse=0.005,
    ...         learning_rule_type=nengo_dl.learning_rules.STDP(0.01),
    ...     )
    ...     weights = nengo.Probe(conn, "weights")
    >>> with nengo.Simulator(net, progress_bar=False) as sim:
    ...     sim.run(0.1)
    >>> sim.data[weights].shape
    (100, 4, 5)
    """

    probeable = ("delta", "pre_trace", "post_trace")

    learning_rate = Quantity("learning_rate", low=0, readonly=True, default=1e-2)
    a_plus = Quantity("a_plus", readonly=True)
    a_minus = Quantity("a_minus", readonly=True)
    tau_plus = _positive("tau_plus")
    tau_minus = _positive("tau_minus")
    a_pre = Quantity("a_pre", readonly=True)
    a_post = Quantity("a_post", readonly=True)
    mu_plus = Quantity("mu_plus", low=0, readonly=True)
    mu_minus = Quantity("mu_minus", low=0, readonly=True)

    def __init__(
        self,
        learning_rate: float = 1e-2,
        a_plus: float = 1.0,
        a_minus: float = 1.0,
        tau_plus: float = 0.02,
        tau_minus: float = 0.02,
        a_pre: float = 0.0,
        a_post: float = 0.0,
        mu_plus: float = 0.0,
        mu_minus: float = 0.0,
        w_min: float = 0.0,
        w_max: float = 1.0,
        pairing: Literal["all", "nearest"] = "all",
        coincident: Literal["ignored", "causal"] = "ignored",
    ) -> None:
        super().__init__(learning_rate, w_min, w_max, pairing, coincident)
        self.a_plus = a_plus
        self.a_minus = a_minus
        self.tau_plus = tau_plus
        self.tau_minus = tau_minus
        self.a_pre = a_pre
        self.a_post = a_post
        self.mu_plus = mu_plus
        self.mu_minus = mu_minus
        for exponent in ("mu_plus", "mu_minus"):
            if getattr(self, exponent) > 0 and math.isinf(self.w_max - self.w_min):
                raise ValidationError(
                    f"{exponent}={getattr(self, exponent)} needs finite bounds, since "
                    "changes depend on how far a weight is from them; found "
                    f"w_min={w_min}, w_max={w_max}. Give bounds, or {exponent}=0",
                    attr=exponent,
                    obj=self,
                )

    @classmethod
    def diehl_cook(
        cls,
        learning_rate: float = 0.01,
        target: float = 0.3,
        tau: float = 0.02,
        mu: float = 1.0,
        w_max: float = 1.0,
    ) -> STDP:
        r"""The rule with which digits were learned without labels.

        Only spikes behind the connection change weights, towards what was active before:

        .. math:: \Delta_{ij} = \eta z_i \left[ f_+ x_j - f_- x_{tar} \right]

        where the trace :math:`x` is set to 1 by each spike.

        Parameters
        ----------
        learning_rate : float, optional
            :math:`\eta`.
        target : float, optional
            :math:`x_{tar}`; weights from neurons whose trace is below it shrink.
        tau : float, optional
            Time constant of the trace in seconds.
        mu : float, optional
            Exponent of both :math:`f`. With 1 the weights of a neuron stay apart from the
            bounds, and no `Normalize` is needed.
        w_max : float, optional
            Upper bound; the lower one is zero.

        Returns
        -------
        STDP

        References
        ----------
        P. U. Diehl and M. Cook (2015). Unsupervised learning of digit recognition using
        spike-timing-dependent plasticity. Frontiers in Computational Neuroscience 9.

        Examples
        --------
        >>> nengo_dl.learning_rules.STDP.diehl_cook().a_post
        -0.3
        """
        return cls(
            learning_rate,
            a_minus=0.0,
            a_post=-target,
            tau_plus=tau,
            mu_plus=mu,
            mu_minus=mu,
            w_max=w_max,
            pairing="nearest",
            coincident="causal",
        )

    @classmethod
    def vogels(
        cls,
        target_rate: float,
        learning_rate: float = 1e-3,
        tau: float = 0.02,
        w_min: float = -1.0,
    ) -> STDP:
        r"""Inhibition that learns to hold neurons at a firing rate.

        .. math:: \Delta_{ij} = \eta \left[ s_j (2 r \tau - y_i) - z_i x_j \right]

        Weights are negative, as inhibition is in Nengo: where a neuron fires more often
        than at the rate :math:`r`, they become more negative.

        Parameters
        ----------
        target_rate : float
            :math:`r` in Hz.
        learning_rate : float, optional
            :math:`\eta`.
        tau : float, optional
            Time constant of both traces in seconds.
        w_min : float, optional
            The strongest inhibition; the upper bound is zero.

        Returns
        -------
        STDP

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the rate is no number or negative; see also `STDP`.

        References
        ----------
        T. P. Vogels, H. Sprekeler, F. Zenke, C. Clopath and W. Gerstner (2011).
        Inhibitory plasticity balances excitation and inhibition in sensory pathways and
        memory networks. Science 334.

        Examples
        --------
        >>> rule = nengo_dl.learning_rules.STDP.vogels(target_rate=5)
        >>> rule.w_min, rule.w_max
        (-1.0, 0.0)
        """
        if not isinstance(target_rate, Real) or target_rate < 0:
            raise ValidationError(
                f"STDP.vogels: expected a firing rate in Hz, at least 0; got "
                f"{target_rate!r}",
                attr="target_rate",
            )
        return cls(
            learning_rate,
            a_plus=-1.0,
            a_minus=1.0,
            tau_plus=tau,
            tau_minus=tau,
            a_pre=2 * target_rate * tau,
            w_min=w_min,
            w_max=0.0,
        )


class ModulatedSTDP(STDP):
    r"""`STDP` that only prepares changes, which a reward makes, if it comes in time.

    What `STDP` would have added to a weight, :math:`D`, is added to its *eligibility*,
    which fades away; the reward :math:`M` turns eligibility into a change:

    .. math::

       c_{ij} &\leftarrow c_{ij} e^{-dt / \tau_e} + D_{ij} \\
       w_{ij} &\leftarrow \min(\max(w_{ij} + M c_{ij}\, dt, w_{min}), w_{max})

    The reward is what is connected to ``conn.learning_rule``, 0 without a connection; a
    negative one punishes. :math:`D` is as in `STDP` with a gate of one, with the present
    weight in :math:`f_+` and :math:`f_-`; eligibility itself has no bounds.

    Parameters
    ----------
    learning_rate, a_plus, a_minus, tau_plus, tau_minus, a_pre, a_post : float, optional
        As in `STDP`. A reward of 1 for a time :math:`T \ll \tau_e` right after a pair of
        spikes changes the weight by :math:`T` (in seconds) times what `STDP` would.
    mu_plus, mu_minus, w_min, w_max : float, optional
        As in `STDP`.
    pairing, coincident : str, optional
        As in `STDP`.
    tau_e : float, optional
        Time constant of the eligibility in seconds: for how long a reward may be late.

    Raises
    ------
    ~nengo.exceptions.ValidationError, ~nengo.exceptions.BuildError
        As in `STDP`.

    Warns
    -----
    UserWarning
        As in `STDP`; and if nothing is connected to the rule, since it never changes a
        weight then.

    Notes
    -----
    Probes can show ``"eligibility"``, :math:`c`, and what those of `STDP` can.

    References
    ----------
    E. M. Izhikevich (2007). Solving the distal reward problem through linkage of STDP and
    dopamine signaling. Cerebral Cortex 17.

    R. V. Florian (2007). Reinforcement learning through modulation of spike-timing-
    dependent synaptic plasticity. Neural Computation 19.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network(seed=0) as net:
    ...     pre, post = nengo.Ensemble(5, 1), nengo.Ensemble(4, 1)
    ...     reward = nengo.Node(lambda t: t > 0.05)
    ...     conn = nengo.Connection(
    ...         pre.neurons,
    ...         post.neurons,
    ...         transform=nengo.dists.Uniform(0, 0.1),
    ...         learning_rule_type=nengo_dl.learning_rules.ModulatedSTDP(tau_e=0.5),
    ...     )
    ...     reaches = nengo.Connection(reward, conn.learning_rule, synapse=None)
    """

    probeable = ("delta", "pre_trace", "post_trace", "eligibility")

    tau_e = _positive("tau_e")

    def __init__(
        self,
        learning_rate: float = 1e-2,
        a_plus: float = 1.0,
        a_minus: float = 1.0,
        tau_plus: float = 0.02,
        tau_minus: float = 0.02,
        a_pre: float = 0.0,
        a_post: float = 0.0,
        mu_plus: float = 0.0,
        mu_minus: float = 0.0,
        w_min: float = 0.0,
        w_max: float = 1.0,
        pairing: Literal["all", "nearest"] = "all",
        coincident: Literal["ignored", "causal"] = "ignored",
        tau_e: float = 1.0,
    ) -> None:
        super().__init__(
            learning_rate,
            a_plus,
            a_minus,
            tau_plus,
            tau_minus,
            a_pre,
            a_post,
            mu_plus,
            mu_minus,
            w_min,
            w_max,
            pairing,
            coincident,
        )
        self.tau_e = tau_e


class TripletSTDP(BoundedRule):
    r"""Plasticity of pairs and triplets of spikes, which depends on firing rates, too.

    With the number of spikes in a step :math:`s_j` before the connection and :math:`z_i`
    behind it, two traces on either side (a fast one, :math:`r_1` and :math:`o_1`, and a
    slow one, :math:`r_2` and :math:`o_2`), each of the spikes before this step,

    .. math::

       \Delta_{ij} = g \eta \left[ z_i\, r_{1j} (a_2^+ + a_3^+ o_{2i})
                     - s_j\, o_{1i} (a_2^- + a_3^- r_{2j}) \right]

    and the weight is kept between its bounds. The gate :math:`g` is that of `STDP`.

    Parameters
    ----------
    learning_rate : float, optional
        :math:`\eta`; 1 for amplitudes as they were measured.
    a2_plus, a3_plus : float, optional
        By how much a pair raises a weight, and a triplet (after, before, after).
    a2_minus, a3_minus : float, optional
        By how much a pair lowers it, and a triplet (before, after, before).
    tau_plus, tau_x : float, optional
        Time constants of the traces before the connection,
        :math:`r_1` and :math:`r_2`, in seconds.
    tau_minus, tau_y : float, optional
        Those of the traces behind it, :math:`o_1` and :math:`o_2`.
    w_min, w_max : float, optional
        Bounds of the weights, in units of the connection's transform; may be infinite.
    pairing, coincident : str, optional
        As in `STDP`.

    Raises
    ------
    ~nengo.exceptions.ValidationError, ~nengo.exceptions.BuildError
        As in `STDP`.

    Warns
    -----
    UserWarning
        As in `STDP`.

    Notes
    -----
    The defaults are what was found in visual cortex; `fit` knows another set.

    Probes can show ``"delta"``, the change that is added in the next step,
    ``"pre_trace"`` and ``"post_trace"``, the fast traces, and ``"slow_pre_trace"`` and
    ``"slow_post_trace"``.

    The first code of Diehl & Cook (2015) has a triplet rule of nearest neighbours:
    ``TripletSTDP(0.01, a2_plus=0, a3_plus=1, a2_minus=0.01, a3_minus=0, tau_plus=0.02,
    tau_minus=0.02, tau_y=0.04, pairing="nearest")``.

    References
    ----------
    J.-P. Pfister and W. Gerstner (2006). Triplets of spikes in a model of spike
    timing-dependent plasticity. Journal of Neuroscience 26.

    Examples
    --------
    >>> rule = nengo_dl.learning_rules.TripletSTDP.fit("hippocampal", w_max=2.0)
    >>> rule.tau_y, rule.w_max
    (0.027, 2.0)
    """

    probeable = (
        "delta",
        "pre_trace",
        "post_trace",
        "slow_pre_trace",
        "slow_post_trace",
    )

    learning_rate = Quantity("learning_rate", low=0, readonly=True, default=1.0)
    a2_plus = Quantity("a2_plus", readonly=True)
    a3_plus = Quantity("a3_plus", readonly=True)
    a2_minus = Quantity("a2_minus", readonly=True)
    a3_minus = Quantity("a3_minus", readonly=True)
    tau_plus = _positive("tau_plus")
    tau_x = _positive("tau_x")
    tau_minus = _positive("tau_minus")
    tau_y = _positive("tau_y")

    def __init__(
        self,
        learning_rate: float = 1.0,
        a2_plus: float = 5e-10,
        a3_plus: float = 6.2e-3,
        a2_minus: float = 7e-3,
        a3_minus: float = 2.3e-4,
        tau_plus: float = 0.0168,
        tau_x: float = 0.101,
        tau_minus: float = 0.0337,
        tau_y: float = 0.125,
        w_min: float = 0.0,
        w_max: float = 1.0,
        pairing: Literal["all", "nearest"] = "all",
        coincident: Literal["ignored", "causal"] = "ignored",
    ) -> None:
        super().__init__(learning_rate, w_min, w_max, pairing, coincident)
        self.a2_plus = a2_plus
        self.a3_plus = a3_plus
        self.a2_minus = a2_minus
        self.a3_minus = a3_minus
        self.tau_plus = tau_plus
        self.tau_x = tau_x
        self.tau_minus = tau_minus
        self.tau_y = tau_y

    @classmethod
    def fit(cls, preparation: str = "visual", **changes: Any) -> TripletSTDP:
        """What Pfister & Gerstner (2006) fitted to experiments, with all spikes paired.

        Parameters
        ----------
        preparation : str
            "visual" (slices of visual cortex, the defaults of the rule) or "hippocampal"
            (cultures of hippocampal neurons).
        **changes
            Arguments of the rule that are other ones, such as ``learning_rate``.

        Returns
        -------
        TripletSTDP

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the preparation is another one.

        Examples
        --------
        >>> nengo_dl.learning_rules.TripletSTDP.fit("visual").a3_plus
        0.0062
        """
        if preparation not in TRIPLET_FITS:
            raise ValidationError(
                f"TripletSTDP.fit: there are fits for {sorted(TRIPLET_FITS)}, found "
                f"{preparation!r}",
                attr="preparation",
            )
        return cls(**{**TRIPLET_FITS[preparation], **changes})


class Normalize(LearningRuleType):
    r"""Scales the weights of each neuron so that their sum is given.

    .. math:: \Delta_{ij} = \left( \frac{W}{\sum_j |w_{ij}|} - 1 \right) w_{ij}

    Neurons all of whose weights are zero keep them. Put it into a list behind a rule that
    learns: ``learning_rule_type=[STDP(), Normalize(78.4, every=0.35)]``. The changes of
    all rules of a step are added up; `STDP` takes what leaves its bounds by that back in
    the step after.

    Parameters
    ----------
    total : float
        :math:`W`, the sum of the absolute values of the weights, in units of the
        connection's transform.
    every : float, optional
        Time between two changes in seconds, of which the first comes after that time.
        None: in each step.
    axis : str, optional
        Over which neurons the sum is taken. "pre": over those before the connection, so
        that all neurons behind it get as much. "post": over those behind it.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If ``total`` or ``every`` is not positive, or ``axis`` is another word.
    ~nengo.exceptions.BuildError
        When a simulator is made: if ``every`` is shorter than half a time step.

    Notes
    -----
    Probes can show ``"delta"``, the change that is added in the next step.

    References
    ----------
    G. J. Goodhill and H. G. Barrow (1994). The role of weight normalization in
    competitive learning. Neural Computation 6.

    Examples
    --------
    >>> rules = [nengo_dl.learning_rules.STDP(), nengo_dl.learning_rules.Normalize(2.0)]
    """

    modifies = "weights"
    probeable = ("delta",)

    total = Quantity("total", low=0, low_open=True, readonly=True)
    every = Quantity("every", low=0, low_open=True, optional=True, readonly=True)
    axis = EnumParam("axis", values=("pre", "post"), readonly=True)

    def __init__(
        self,
        total: float,
        every: float | None = None,
        axis: Literal["pre", "post"] = "pre",
    ) -> None:
        super().__init__(learning_rate=1.0, size_in=0)
        self.total = total
        self.every = every
        self.axis = axis


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
