"""Linear filters, made discrete once where many connections have the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from nengo.builder import Model, Signal
from nengo.builder.processes import SimProcess
from nengo.rc import rc
from nengo.synapses import Alpha, LinearFilter, Lowpass

#: Filters whose first state depends on nothing but their parameters, shapes and the
#: length of a step. Exactly these; a subclass may do anything.
KNOWN = frozenset({Alpha, LinearFilter, Lowpass})


class _Made(NamedTuple):
    """A filter, held so that its ``id`` stays its own, and what it was built with.

    ``signals`` is where the model notes them: to look it up compares parameters.
    """

    filter_: LinearFilter
    state: Mapping[str, np.ndarray]
    text: str
    signals: dict


class Filters:
    """Builds linear filters as ``nengo.builder.processes.build_process`` does.

    To find the state of a filter Nengo makes it discrete, which takes half of the time
    that a connection takes. The state has a shape and starts with zeros: it is found once
    for all connections that share the filter.

    Examples
    --------
    >>> import nengo
    >>> Filters().covers(nengo.Lowpass(0.1))
    True
    """

    def __init__(self) -> None:
        self._made: dict[tuple, _Made] = {}
        self._dtype = rc.float_dtype

    @staticmethod
    def covers(process: Any) -> bool:
        """Whether `build` knows all that building a process does."""
        return type(process) in KNOWN

    def build(
        self,
        model: Model,
        filter_: LinearFilter,
        sig_in: Any,
        sig_out: Any = None,
        mode: str = "set",
    ) -> Any:
        """Add a filter to a model; the signal that it writes.

        Parameters
        ----------
        model : nengo.builder.Model
        filter_ : nengo.synapses.LinearFilter
        sig_in, sig_out : nengo.builder.Signal
            What it reads and writes; without the latter a signal is made.
        mode : str
            ``"set"``, ``"inc"`` or ``"update"``.
        """
        if sig_out is None:
            name = f"{sig_in.name}.{filter_}"
            sig_out = Signal(np.zeros(sig_in.shape, self._dtype), name=name)
        key = (id(filter_), sig_in.shape, sig_out.shape, model.dt, sig_out.dtype)
        if key not in self._made:
            shapes = sig_in.shape, sig_out.shape
            first = filter_.make_state(*shapes, model.dt, dtype=sig_out.dtype)
            self._made[key] = _Made(filter_, first, str(filter_), model.sig[filter_])
        made = self._made[key]
        state = {name: Signal(value.copy()) for name, value in made.state.items()}
        made.signals.update((f"_state_{name}", s) for name, s in state.items())
        model.add_op(
            SimProcess(
                filter_,
                sig_in,
                sig_out,
                model.time,
                mode=mode,
                state=state,
                tag=made.text,
            )
        )
        return sig_out
