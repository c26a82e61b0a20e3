"""What the runtime may ask of whatever runs as Python: the capabilities of callbacks.

A callback is made once for each operator that has no native form, and lives as long as
the simulation. The runtime never looks at its class; it asks for the attributes below,
and calls the methods, which do nothing where there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nengo_dl.kernels.captured_state import CapturedState


class Callback:
    """Base of everything that runs as Python beside the steps, or inside of them.

    Attributes
    ----------
    per_item : bool
        Each batch item has one of its own, with random numbers of its own. What
        ``advance`` returns has an axis for the item then.
    stateful : bool
        `snapshot` and `restore` are about something.
    goes_on : bool
        A step depends on those before, not on the time alone.
    writes_first : bool
        `reset` takes the values that signals start with as a second argument, and adds
        to them.
    draws : bool
        `draw` computes many steps at once, without running code of a user.
    of_tensors : bool
        The state is in variables of TensorFlow.
    states : sequence of dict
        For each batch item, the state in core Nengo: name -> array.
    random_variables : sequence of keras.Variable
        The state of the random numbers of functions of tensors.
    kind : type or None
        The class that has no native form, if messages should name it.
    """

    per_item = False
    stateful = False
    goes_on = True
    writes_first = False
    draws: Any = False
    of_tensors = False
    states: Any = ()
    random_variables: Sequence = ()
    kind: type | None = None

    def reset(self, rngs: Sequence[np.random.RandomState]) -> None:
        """Start afresh, with a generator for each batch item."""

    def snapshot(self) -> Any:
        """The present state, for `restore`."""
        return None

    def restore(self, snapshot: Any, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""

    def captured(self) -> list[CapturedState]:
        """What it keeps beside what `snapshot` is about."""
        return []

    def draw(self, times: Sequence[float]) -> np.ndarray:
        """The next steps, ``(len(times), batch, size)``; only if `draws`."""
        raise NotImplementedError(
            f"{type(self).__name__}.draw is missing: what draws must compute many steps"
        )

    def reseed(self, seed: int, number: int) -> None:
        """Draw random numbers of a seed; ``number`` tells callbacks apart."""

    def random_numbers(self) -> Mapping:
        """The state of `random_variables`, for `go_on_with`."""
        return {}

    def go_on_with(self, numbers: Mapping) -> None:
        """Draw the random numbers that come after; see `random_numbers`."""

    def draw_as_layers_would(self) -> None:
        """Draw what Keras layers would draw next outside of the simulation."""
