"""Spikes that come at given rates: at regular intervals, or at random.

Core Nengo builds two operators for such neurons: the base type gives the rates, and the
operator of the types here makes spikes of them. So any base type will do, and the two
are merged each with its own kind.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import nengo
import numpy as np
from nengo.builder.signal import Signal

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.functions import Attempt, HostFunction, item_generators
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class SpikesOfRates(NeuronKernel):
    """What the types that make spikes of rates share.

    Their rate form passes the rates on, times ``amplitude``: the mean of the spikes.
    """

    params = ("amplitude",)
    zero_preserving = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step."""
        return dict(params, spike=params["amplitude"] / params["dt"])

    def rates(
        self, op: Any, low: Lowering, current: np.ndarray
    ) -> dict[Signal, np.ndarray]:
        """No more than a factor."""
        n = current.size
        scale = np.full(n, op.neurons.amplitude)
        return {op.output: low.affine(np.zeros(n), np.arange(n), current, scale)}

    def has_rates(self) -> bool:
        """Always True: spikes are made of the rates of the base type."""
        return True


class RegularSpikingKernel(SpikesOfRates):
    r"""Integrates the rate and fires once for each unit of it.

    .. math:: v \leftarrow v + r\, dt, \quad
              s = \frac{a}{dt} \lfloor v \rfloor, \quad v \leftarrow v - \lfloor v \rfloor

    Parameters (one value per neuron): ``amplitude``, :math:`a`, in output units. The
    input is :math:`r`, in Hz; negative rates give negative spikes.

    State: ``voltage``, the fraction of a spike that is due, in [0, 1).

    A surrogate gradient is as that of `nengo.SpikingRectifiedLinear`.

    References: Voelker, Rasmussen & Eliasmith (2020), A spike in performance: training
    hybrid-spiking neural networks with quantized activation functions,
    arXiv:2002.03553.
    """

    neuron_type = nengo.RegularSpiking
    state = ("voltage",)
    crosses_threshold = True

    def step(
        self, xp: ArrayNamespace, p: Params, rate: Array, voltage: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        voltage = voltage + p.dt * rate
        n_spikes = xp.floor(voltage)
        # upwards there is a spike at one, downwards a negative one at zero
        nearest = xp.floor(voltage + 0.5)
        upward = voltage - xp.maximum(nearest, 1)
        above = xp.where(voltage < 0, voltage - xp.minimum(nearest, 0), upward)
        n_spikes = self.spikes(xp, p, n_spikes, above, 1.0)
        return p.spike * n_spikes, voltage - n_spikes


class UniformDraws(HostFunction):
    """A random number in [0, 1) for each neuron, drawn ahead of the steps.

    The first batch item has the numbers that core Nengo would draw: a copy of the
    generator that the builder made, whose seed is the ensemble's. The other items have
    generators that are seeded with numbers drawn from such a copy.

    Parameters
    ----------
    op : SimNeurons
    dt : float
        Length of a time step in seconds.
    """

    per_item = stateful = True
    #: many steps may be drawn at once; nothing else draws from these generators
    draws = True

    def __init__(self, op: Any, dt: float):
        self.op = op
        self.dt = dt
        self.size = op.output.size
        self._first = copy.deepcopy(op.state_extra["rng"])
        self._rngs: list[np.random.RandomState] = []

    @property
    def label(self) -> str:
        """What the random numbers are called in messages."""
        return f"random numbers of {label_of(self.op.neurons)}"

    def reset(self, rngs: Sequence[np.random.RandomState]) -> None:
        """Start afresh with as many items as there are ``rngs``.

        As in core, the seed of the simulator makes no difference to neurons: their seed
        is part of the network.
        """
        self._rngs = item_generators(self._first, len(rngs))

    def snapshot(self) -> list:
        """Where the random numbers are now, for `restore`."""
        return [rng.get_state() for rng in self._rngs]

    def restore(self, snapshot: Any, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""
        for rng, state in islice(zip(self._rngs, snapshot), first_item, None):
            rng.set_state(state)

    def advance(self, t: float) -> np.ndarray:
        """The numbers of one step: ``(batch, size)``."""
        return np.array([rng.random_sample(self.size) for rng in self._rngs])

    def draw(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """The numbers of many steps: ``(len(times), batch, size)``."""
        shape = (len(times), self.size)
        return np.stack([rng.random_sample(shape) for rng in self._rngs], axis=1)

    def attempt(
        self, arrays: Sequence[np.ndarray], dtype: Any = None, begun: Any = None
    ) -> Attempt:
        """See `nengo_dl.kernels.functions.HostFunction`; columns go step by step."""
        (time,) = arrays
        columns = time.shape[1]
        values = self.draw(time[0, :: len(self._rngs)]).reshape(columns, self.size)
        return values.T.astype(dtype or time.dtype), columns, None


class StochasticSpikingKernel(SpikesOfRates):
    r"""Rounds the number of spikes of a step up or down at random.

    .. math::

       e = |r|\, dt, \quad
       s = \frac{a}{dt} \operatorname{sign}(r)
           \left(\lfloor e \rfloor + [u < e - \lfloor e \rfloor]\right)

    with :math:`u` uniform in [0, 1), so that :math:`a r` is the mean.

    Parameters: ``amplitude``, :math:`a`, in output units (one value per neuron), and
    ``signed``, whether rates may be negative. The input is :math:`r`, in Hz.

    The random numbers are those of core Nengo, see `UniformDraws`. (Core's optimizer
    joins populations of equal types, which then share one generator, and warns of it;
    the numbers are those without it, ``nengo.Simulator(network, optimize=False)``.)

    Gradients are zero; in training they are those of the rates.
    """

    neuron_type = nengo.StochasticSpiking
    draws = UniformDraws
    differentiable = False

    def values(self, neurons: Any, n_neurons: int) -> dict[str, Any]:
        """Parameters of each neuron, and whether the base type has negative rates."""
        values = super().values(neurons, n_neurons)
        return dict(values, signed=bool(neurons.negative))

    def step(
        self, xp: ArrayNamespace, p: Params, rate: Array, uniform: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        expected = p.dt * (xp.abs(rate) if p.signed else rate)
        whole = xp.floor(expected)
        n_spikes = xp.where(uniform < expected - whole, whole + 1, whole)
        if p.signed:
            n_spikes = n_spikes * xp.sign(rate)
        return (p.spike * n_spikes,)
