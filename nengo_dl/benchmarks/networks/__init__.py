"""Networks to measure simulators on.

Every module in this folder is imported, so that a new network is a function with the
decorator `~base.builder` in a file of its own, and nothing else. `BUILDERS` are the
functions by name, `CASES` those with standard sizes.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from nengo_dl.benchmarks.networks.base import (
    BUILDERS,
    CASES,
    DEFAULT,
    PROBE_SYNAPSE,
    SEED,
    Case,
    Waves,
    builder,
    case,
    chosen_cases,
)

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)


def __getattr__(name: str) -> Any:
    """Look up the builder of a network by its name."""
    if name in BUILDERS:
        return BUILDERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BUILDERS",
    "CASES",
    "DEFAULT",
    "PROBE_SYNAPSE",
    "SEED",
    "Case",
    "Waves",
    "builder",
    "case",
    "chosen_cases",
]
