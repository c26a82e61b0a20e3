"""The simulator: running, data, inputs, parameters and training."""

from nengo_dl.simulator.data import SimulationData
from nengo_dl.simulator.simulator import Simulator

__all__ = ["SimulationData", "Simulator"]
