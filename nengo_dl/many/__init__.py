"""Many independent runs of one simulator, in other processes or on other machines."""

from nengo_dl.many.calls import iter_many, run_many
from nengo_dl.many.tasks import Failed

__all__ = ["Failed", "iter_many", "run_many"]
