"""The path that older scripts know `nengo_dl.compat.graph_optimizer` by."""

from nengo_dl.compat.graph_optimizer import *  # noqa: F403
from nengo_dl.compat.graph_optimizer import __all__ as __all__
