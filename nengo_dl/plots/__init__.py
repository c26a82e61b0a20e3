"""Figures of what simulators give: spikes, values, training, accuracy.

Each function draws into the axes that it is given, or into those of a new figure, and
returns them. Titles and labels that the axes have already are kept, so they can be set
before or after; nothing is shown or written to a file, and no setting of matplotlib is
changed. See :doc:`/plots`.

matplotlib is imported when something is drawn for the first time. It comes with the extra
``plots``: ``pip install "nengo-dl[plots]"``.
"""

from __future__ import annotations

from nengo_dl.plots.accuracy import (
    accuracy_over_rates,
    accuracy_over_time,
    step_accuracy,
)
from nengo_dl.plots.activity import firing_rates, raster, traces, tuning_curves
from nengo_dl.plots.training import training_curves

__all__ = [
    "accuracy_over_rates",
    "accuracy_over_time",
    "firing_rates",
    "raster",
    "step_accuracy",
    "traces",
    "training_curves",
    "tuning_curves",
]


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
