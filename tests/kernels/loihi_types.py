"""The two neuron types of ``nengo_loihi``, which needs an older NumPy than the tests.

They have its names and constructors, and compute the equations that are written in
``nengo_dl/kernels/neurons/loihi.py``, neuron by neuron. Like the originals they register
themselves with NengoDL 3 when one is made.
"""

import math

import nengo
import numpy as np

import nengo_dl

DT = 0.001


def decaying(tau_rc, dt):
    """A time constant as the chip has it."""
    lost = round((1 - math.exp(-dt / tau_rc)) * 4095) / 4095
    return -dt / math.log(1 - lost)


def resting(tau_ref, dt):
    """A refractory time as the chip has it."""
    return dt * round(tau_ref / dt)


def _register(neurons):
    builders = nengo_dl.neuron_builders.SimNeuronsBuilder.TF_NEURON_IMPL
    builders[type(neurons)] = nengo_dl.neuron_builders.LIFBuilder


class LoihiLIF(nengo.LIF):
    """Spikes at the end of a step."""

    __module__ = "nengo_loihi.neurons"
    state = {
        "voltage": nengo.dists.Choice([0]),
        "refractory_time": nengo.dists.Choice([0]),
    }

    def __init__(
        self,
        tau_rc=0.02,
        tau_ref=0.002,
        min_voltage=0,
        amplitude=1,
        nengo_dl_noise=None,
        **kwargs,
    ):
        super().__init__(tau_rc, tau_ref, min_voltage, amplitude, **kwargs)
        self.nengo_dl_noise = nengo_dl_noise
        _register(self)

    def rates(self, x, gain, bias, dt=DT):
        """See `nengo.neurons.NeuronType`."""
        tau_rc, tau_ref = decaying(self.tau_rc, dt), resting(self.tau_ref, dt)
        current = self.current(x, gain, bias)
        out = np.zeros_like(current)
        for place in np.argwhere(current > 1):
            j = current[tuple(place)] - 1
            steps = math.ceil((tau_ref + tau_rc * math.log1p(1 / j)) / dt)
            out[tuple(place)] = self.amplitude / dt / steps
        return out

    def step(self, dt, J, output, voltage, refractory_time):
        """See `nengo.neurons.NeuronType`."""
        tau_rc, tau_ref = decaying(self.tau_rc, dt), resting(self.tau_ref, dt)
        for i in np.ndindex(J.shape):
            refractory_time[i] -= dt
            active = min(max(dt - refractory_time[i], 0), dt)
            voltage[i] -= (J[i] - voltage[i]) * math.expm1(-active / tau_rc)
            output[i] = 0
            if voltage[i] > 1:
                output[i], voltage[i] = self.amplitude / dt, 0
                refractory_time[i] = tau_ref + dt
            voltage[i] = max(voltage[i], self.min_voltage)


class LoihiSpikingRectifiedLinear(nengo.SpikingRectifiedLinear):
    """Spikes at the end of a step, once at most."""

    __module__ = "nengo_loihi.neurons"
    state = {"voltage": nengo.dists.Choice([0])}

    def __init__(self, amplitude=1, **kwargs):
        super().__init__(amplitude=amplitude, **kwargs)
        _register(self)

    def rates(self, x, gain, bias, dt=DT):
        """See `nengo.neurons.NeuronType`."""
        current = self.current(x, gain, bias)
        out = np.zeros_like(current)
        for place in np.argwhere(current > 0):
            steps = math.ceil(1 / current[tuple(place)] / dt)
            out[tuple(place)] = self.amplitude / dt / steps
        return out

    def step(self, dt, J, output, voltage):
        """See `nengo.neurons.NeuronType`."""
        for i in np.ndindex(J.shape):
            voltage[i] = max(voltage[i] + J[i] * dt, 0)
            output[i] = 0
            if voltage[i] > 1:
                output[i], voltage[i] = self.amplitude / dt, 0


class LIFInWholeSteps(nengo.LIFRate):
    """What `LoihiLIF` is in training."""

    def step(self, dt, J, output):
        """See `nengo.neurons.NeuronType`."""
        neurons = LoihiLIF(self.tau_rc, self.tau_ref, amplitude=self.amplitude)
        output[...] = neurons.rates(J.ravel()[:, None], 1, 0, dt=dt).reshape(J.shape)


class RectifiedInWholeSteps(nengo.RectifiedLinear):
    """What `LoihiSpikingRectifiedLinear` is in training."""

    def step(self, dt, J, output):
        """See `nengo.neurons.NeuronType`."""
        neurons = LoihiSpikingRectifiedLinear(self.amplitude)
        output[...] = neurons.rates(J.ravel()[:, None], 1, 0, dt=dt).reshape(J.shape)
