"""Nengo networks compiled to TensorFlow: fast simulation and deep learning.

Replace ``nengo.Simulator`` with :class:`nengo_dl.Simulator`, and the same network runs
as a few batched kernels and can be trained like a Keras model.
"""

import importlib

from nengo_dl.environment import (
    keep_programs_on_disk,
    quiet_tensorflow,
    select_keras_backend,
)

# before anything below imports Keras or TensorFlow
select_keras_backend()
quiet_tensorflow()
keep_programs_on_disk()

from nengo_dl import dists, surrogates  # noqa: E402
from nengo_dl.config import configure_settings  # noqa: E402
from nengo_dl.neurons import LeakyReLU, SoftLIFRate, SpikingLeakyReLU  # noqa: E402
from nengo_dl.simulator import Simulator  # noqa: E402
from nengo_dl.tensor_node import Layer, TensorNode, tensor_layer  # noqa: E402
from nengo_dl.version import version as __version__  # noqa: E402

__copyright__ = "2026, NengoDL contributors"
__license__ = "MIT"

__all__ = [
    "Converter",
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
    "losses",
    "plots",
    "surrogates",
    "tensor_layer",
]

#: modules that are imported when they are first used; most of them import Keras, which
#: takes seconds
LAZY_MODULES = (
    "callbacks",
    "converter",
    "graph_optimizer",
    "losses",
    "objectives",
    "plots",
)

#: what is found in them
LAZY_NAMES = {"Converter": "converter"}


def __getattr__(name):
    if name in LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in LAZY_NAMES:
        module = importlib.import_module(f"{__name__}.{LAZY_NAMES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
