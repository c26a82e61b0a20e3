"""The rate of leaky integrate-and-fire neurons, smoothed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.lif import LIFRateKernel
from nengo_dl.neurons import LINEAR_TAIL, SoftLIFRate


def tail_of(dtype: Any) -> float:
    """Below how many ``sigma`` softplus equals the exponential to rounding.

    In single precision that is earlier, and has to be: the square of its inverse, of
    which gradients are made, would soon be too large for a number.

    Parameters
    ----------
    dtype : dtype
    """
    return LINEAR_TAIL + float(np.log(np.finfo(dtype).eps / np.finfo(np.float64).eps))


class SoftLIFRateKernel(LIFRateKernel):
    r"""Firing rate of the LIF neuron, with the softplus function at its threshold.

    .. math::

       r = \frac{a}{\tau_{ref} + \tau_{rc} \ln(1 + 1 / s)}, \quad
       s = \sigma \ln(1 + e^{(J - 1) / \sigma})

    Parameters (one value per neuron): ``sigma``, :math:`\sigma`, in units of current;
    ``tau_rc`` and ``tau_ref`` in seconds; ``amplitude`` in output units.

    References: Hunsberger & Eliasmith (2015), Spiking deep networks with LIF neurons,
    arXiv:1510.08829.
    """

    neuron_type = SoftLIFRate
    params = (*LIFRateKernel.params, "sigma")
    zero_preserving = False

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The logarithm of the smoothing."""
        return dict(params, log_sigma=np.log(params["sigma"]))

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        x = (current - 1) / p.sigma
        # two branches, with the slope of softplus at zero, too; where it is far smaller
        # than one it must be no difference of larger slopes, which might be added up in
        # any order
        distance = xp.where(x > 0, x, -x)
        drive = p.sigma * (xp.relu(x) + xp.log1p(xp.exp(-distance)))
        # far below the threshold the drive underflows, its logarithm does not
        tail = x < tail_of(xp.dtype)
        log = xp.log1p(1 / xp.where(tail, xp.ones_like(drive), drive))
        log = xp.where(tail, drive - x - p.log_sigma, log)
        return (p.amplitude / (p.tau_ref + p.tau_rc * log),)
