"""What Python functions kept at one moment, for going back to it within this process."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from nengo_dl.kernels.functions import warn_of_hidden_state

if TYPE_CHECKING:
    from nengo_dl.runtime.program import Program


class HostsThen:
    """What the Python functions of a program kept at one moment of this process.

    Parameters
    ----------
    program : Program
    """

    def __init__(self, program: Program):
        self._program = program
        self._snapshot = program.snapshot_hosts()
        captured = {op: host.captured() for op, host in program.hosts.items()}
        self._own = [[item.own() for item in items] for items in captured.values()]
        self._others = {op: [i.others() for i in items] for op, items in captured.items()}
        self._waiting = {e.feed: e.feed.waiting for e in program.executors}
        self._pending = program.pending
        self._changed: dict = {}

    def between_batches(self, first_item: int = 0, noting: bool = True) -> None:
        """Go back within a call of the Keras model: all but Keras variables."""
        hosts = self._program.hosts
        tensors = {op for op in self._snapshot if hosts[op].of_tensors}
        self.put_back(first_item, noting, tensors)

    def put_back(
        self, first_item: int = 0, noting: bool = False, but: Collection = ()
    ) -> None:
        """Go back: the batch items from ``first_item`` on.

        Parameters
        ----------
        first_item : int
        noting : bool
            Whether `report` is to tell what could not be put back.
        but : collection of Operator
            What is left as it is.
        """
        snapshot = {op: kept for op, kept in self._snapshot.items() if op not in but}
        self._program.restore_hosts(snapshot, first_item)
        self._program.pending = self._pending
        for items in self._own:
            for contents in items[first_item:]:
                contents.put_back()
        for feed, rows in self._waiting.items():
            feed.wait(rows)
        for op, items in self._others.items() if noting else ():
            names = dict.fromkeys(name for item in items for name in item.changed())
            if names:
                self._changed.setdefault(op, {}).update(names)

    def report(self) -> None:
        """Warn of what could not be put back, once for each cause."""
        for op, names in self._changed.items():
            warn_of_hidden_state(self._program.hosts[op], list(names))
        self._changed = {}
