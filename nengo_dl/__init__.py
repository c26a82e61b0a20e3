"""Nengo networks, compiled: fast simulation, and deep learning with TensorFlow.

Replace ``nengo.Simulator`` with :class:`nengo_dl.Simulator`, and the same network runs
as a few batched kernels and can be trained like a Keras model.
"""

import importlib as _importlib
import sys as _sys
import typing as _typing

from nengo_dl import environment as _environment
from nengo_dl import program_cache as _program_cache
from nengo_dl.compat.moved import find_moved_modules as _find_moved_modules

# before anything below imports Keras or TensorFlow
_environment.select_keras_backend()
_environment.quiet_tensorflow()
_program_cache.keep_programs_on_disk()
_find_moved_modules()

from nengo_dl.heap import without_collecting as _without_collecting  # noqa: E402

with _without_collecting():
    from nengo_dl import dists, surrogates
    from nengo_dl.config import configure_settings
    from nengo_dl.neurons import (
        ClippedReLU,
        LeakyReLU,
        SoftLIFRate,
        SpikingLeakyReLU,
    )
    from nengo_dl.simulator import Simulator
    from nengo_dl.tensor_node import Layer, TensorNode, tensor_layer
    from nengo_dl.version import version as __version__

if (
    _typing.TYPE_CHECKING
):  # what is imported when it is first used, as type checkers see it
    from nengo_dl import benchmarks as benchmarks
    from nengo_dl import builder as builder
    from nengo_dl import callbacks as callbacks
    from nengo_dl import converter as converter
    from nengo_dl import graph_optimizer as graph_optimizer
    from nengo_dl import losses as losses
    from nengo_dl import neuron_builders as neuron_builders
    from nengo_dl import objectives as objectives
    from nengo_dl import plots as plots
    from nengo_dl.analysis import readout as readout
    from nengo_dl.converter import Converter as Converter
    from nengo_dl.many import Failed as Failed
    from nengo_dl.many import iter_many as iter_many
    from nengo_dl.many import run_many as run_many
    from nengo_dl.models import learning_rules as learning_rules
    from nengo_dl.models.neurons import AdaptiveThresholdLIF as AdaptiveThresholdLIF
    from nengo_dl.models.neurons import (
        AdaptiveThresholdLIFRate as AdaptiveThresholdLIFRate,
    )

__copyright__ = "2026, NengoDL contributors"
__license__ = "MIT"

__all__ = [
    "AdaptiveThresholdLIF",
    "AdaptiveThresholdLIFRate",
    "ClippedReLU",
    "Converter",
    "Failed",
    "Layer",
    "LeakyReLU",
    "Simulator",
    "SoftLIFRate",
    "SpikingLeakyReLU",
    "TensorNode",
    "__version__",
    "callbacks",
    "configure_settings",
    "converter",
    "dists",
    "iter_many",
    "learning_rules",
    "losses",
    "plots",
    "readout",
    "run_many",
    "surrogates",
    "tensor_layer",
]

#: modules that are imported when they are first used; most of them import Keras, which
#: takes seconds
_LAZY_MODULES = (
    "benchmarks",
    "callbacks",
    "converter",
    "graph_optimizer",
    "learning_rules",
    "losses",
    "neuron_builders",
    "objectives",
    "plots",
    "readout",
)

#: what is found in them
_LAZY_NAMES = {
    "AdaptiveThresholdLIF": "models.neurons",
    "AdaptiveThresholdLIFRate": "models.neurons",
    "Converter": "converter",
    "Failed": "many",
    "iter_many": "many",
    "run_many": "many",
}

#: what users import from, beside what is in ``__all__``
_MODULES = ("benchmarks", "builder", "graph_optimizer", "neurons")


if not _typing.TYPE_CHECKING:  # else nothing would be unknown to a type checker

    def __getattr__(name: str) -> object:
        if name in _LAZY_MODULES:
            return _importlib.import_module(f"{__name__}.{name}")
        if name in _LAZY_NAMES:
            module = _importlib.import_module(f"{__name__}.{_LAZY_NAMES[name]}")
            return getattr(module, name)
        from nengo_dl.compat.older import GONE

        advice = f": {GONE[name]}" if name in GONE else ""
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}{advice}",
            name=name,
            obj=_sys.modules[__name__],
        )


def __dir__() -> list[str]:
    # what completion offers, and what Python looks through for "Did you mean ...?"
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*__all__, *_MODULES, *special})
