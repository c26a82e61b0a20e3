"""The path that older scripts know `nengo_dl.compat.objectives` by."""

from nengo_dl.compat.objectives import *  # noqa: F403
from nengo_dl.compat.objectives import __all__ as __all__
