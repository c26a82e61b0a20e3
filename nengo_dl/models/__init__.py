"""Neuron types and learning rules of our own: plain Nengo objects, in NumPy.

They run in ``nengo.Simulator`` as they do here: each has a step function of its own, and
kernels that compute the same are in ``nengo_dl.kernels``.
"""

from nengo_dl.models import plasticity  # registers the rules with Nengo's builder

__all__ = ["plasticity"]
