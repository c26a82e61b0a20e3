"""What happens between the epochs of a training.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from nengo.exceptions import SimulationError

from nengo_dl.notices import warn
from nengo_dl.training.finite import WAY_OUT, not_finite


class FiniteParameters(keras.callbacks.Callback):
    """Ends a training whose parameters are no numbers any more.

    A loss may hide it: a neuron whose current is NaN does not fire. It looks before all
    other callbacks, so that none of them writes such parameters over good ones.

    Parameters
    ----------
    side : KerasSide
    stop : bool
        End it with a warning instead of an error, as `keras.callbacks.TerminateOnNaN`
        does.
    """

    def __init__(self, side: Any, stop: bool) -> None:
        super().__init__()
        self.side, self.stop = side, stop

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at all parameters."""
        wrong = self.side.not_finite()
        if not wrong:
            return
        text = f"Simulator.fit: after epoch {epoch + 1}, {not_finite(wrong)} {WAY_OUT}"
        if not self.stop:
            raise SimulationError(
                f"{text}. With the callback keras.callbacks.TerminateOnNaN training ends "
                "without an error"
            )
        warn(text)
        self.side.model.stop_training = True


@contextlib.contextmanager
def with_callbacks(given: Any, first: Callable[[list[Any]], list[Any]]) -> Iterator[Any]:
    """The user's callbacks, behind some more.

    Parameters
    ----------
    given : keras.callbacks.Callback or list of them or CallbackList or None
    first : callable
        ``first(callbacks)`` makes the list of the others.

    Yields
    ------
    list of keras.callbacks.Callback or CallbackList
        What Keras is to be given.
    """
    lists = isinstance(given, keras.callbacks.CallbackList)
    users = given.callbacks if lists else keras.tree.flatten(given)
    users = [callback for callback in users if callback is not None]
    own = first(users)
    if not lists:
        yield [*own, *users]
        return
    for callback in own:  # a list that the user made has all that they need
        callback.set_model(given.model)
        callback.set_params(given.params)
    given.callbacks[:0] = own
    try:
        yield given
    finally:
        del given.callbacks[: len(own)]
