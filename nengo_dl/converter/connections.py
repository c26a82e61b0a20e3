"""Connections that use the same weights."""

from __future__ import annotations

from typing import Any

import nengo
from nengo.builder import Builder
from nengo.builder.connection import build_connection
from nengo.exceptions import BuildError

from nengo_dl.notices import label_of

__all__ = ["TiedConnection"]


class TiedConnection(nengo.Connection):
    """A connection whose weights are those of another one.

    A layer that is called twice has one array of weights. Two ordinary connections would
    each have their own, which training makes different. This one has none of its own: it
    reads those of ``tied_to``, so that training changes both, with the sum of both
    gradients. It also works in ``nengo.Simulator``.

    Parameters
    ----------
    pre, post, **kwargs
        See `nengo.Connection`. The transform has to have weights of the same shape as
        that of ``tied_to``; their values are not used.
    tied_to : ~nengo.Connection
        The connection that has the weights. It has to be made before this one.
    """

    tied_to = None

    def __init__(self, pre: Any, post: Any, *, tied_to: nengo.Connection, **kwargs: Any):
        super().__init__(pre, post, **kwargs)
        self.tied_to = tied_to


@Builder.register(TiedConnection)
def build_tied_connection(model: Any, conn: TiedConnection) -> None:
    """Build the connection, then let its operators read the weights of the other.

    Raises `BuildError` if the other connection is not built yet, or has weights of
    another shape.
    """
    first = len(model.operators)
    build_connection(model, conn)
    own = model.sig[conn]["weights"]
    shared = model.sig[conn.tied_to].get("weights")
    if shared is None or own is None or shared.shape != own.shape:
        raise BuildError(
            f"{label_of(conn)} is tied to {label_of(conn.tied_to)}, which has "
            f"{'no weights' if shared is None else f'weights of shape {shared.shape}'}; "
            f"expected {None if own is None else own.shape}"
        )
    for op in model.operators[first:]:
        op.reads = [shared if signal is own else signal for signal in op.reads]
    model.sig[conn]["weights"] = shared
    model.params[conn] = model.params[conn]._replace(weights=shared.initial_value)
