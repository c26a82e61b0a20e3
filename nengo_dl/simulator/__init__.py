"""The simulator: running, data, inputs, parameters and training."""

from nengo_dl.simulator.simulator import Simulator

__all__ = ["Simulator"]
