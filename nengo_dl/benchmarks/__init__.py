"""Networks to measure simulators on, and the measurements.

The builders (`cconv`, `integrator`, `pes`, `basal_ganglia`, `random_network`, `chain`)
make networks of any size; `CASES` are those with the sizes measured by default.
`measure` sets `nengo_dl.Simulator` beside `nengo.Simulator`, `run_profile` times and
traces it alone. Both can be had from the command line::

    python -m nengo_dl.benchmarks compare --networks chain,integrator16
    python -m nengo_dl.benchmarks build cconv --dimensions 16 profile --n-steps 200
"""

from nengo_dl.benchmarks.compare import Row, measure, measure_cases, run_profile
from nengo_dl.benchmarks.networks import (
    BUILDERS,
    CASES,
    Case,
    basal_ganglia,
    cconv,
    chain,
    integrator,
    pes,
    random_network,
)

__all__ = [
    "BUILDERS",
    "CASES",
    "Case",
    "Row",
    "basal_ganglia",
    "cconv",
    "chain",
    "integrator",
    "measure",
    "measure_cases",
    "pes",
    "random_network",
    "run_profile",
]
