"""Networks to measure simulators on, and the measurements.

The builders (`cconv`, `integrator`, `pes`, `basal_ganglia`, `mnist`, `random_network`,
`lmu`, `chain`) make networks of any size; `CASES` are those with standard sizes.
`run_profile` times and traces `nengo_dl.Simulator` alone, `MEASUREMENTS` (after
`load_measurements`) is everything that the command line measures beside
`nengo.Simulator`, Keras and others::

    python -m nengo_dl.benchmarks compare --networks chain,integrator16
    python -m nengo_dl.benchmarks build cconv --dimensions 16 --neurons-per-d 50 profile
"""

from nengo_dl.benchmarks.networks import BUILDERS, CASES, Case
from nengo_dl.benchmarks.networks.action_selection import basal_ganglia
from nengo_dl.benchmarks.networks.chains import chain
from nengo_dl.benchmarks.networks.convolution import cconv
from nengo_dl.benchmarks.networks.digits import mnist
from nengo_dl.benchmarks.networks.integrators import integrator
from nengo_dl.benchmarks.networks.learning import pes
from nengo_dl.benchmarks.networks.legendre import lmu
from nengo_dl.benchmarks.networks.random_web import random_network
from nengo_dl.benchmarks.profiling import run_profile
from nengo_dl.benchmarks.registry import MEASUREMENTS, load_measurements

__all__ = [
    "BUILDERS",
    "CASES",
    "MEASUREMENTS",
    "Case",
    "basal_ganglia",
    "cconv",
    "chain",
    "integrator",
    "lmu",
    "load_measurements",
    "mnist",
    "pes",
    "random_network",
    "run_profile",
]
