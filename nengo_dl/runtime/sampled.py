"""Both tiers for networks with large probes that are read at their samples only.

Steps without a sample run in a program that leaves these probes out, steps with one in a
program that does not; see `.sampling` and `nengo_dl.compiler.looks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.looks import looking_at
from nengo_dl.runtime import interrupts
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.host import InputFeed
from nengo_dl.runtime.numpy.step import NumpyStep
from nengo_dl.runtime.sampling import Sampling, Seen
from nengo_dl.runtime.state import StateStore
from nengo_dl.runtime.tiers import NumpyTier, TensorFlowTier

#: so many sets of probes that are read together get a program of their own in NumPy
SETS = 8


class Look:
    """Which rows of a result belong to which probe, those of each step first.

    Parameters
    ----------
    layout : Layout
        The whole step.
    sampled : frozenset
        Its probes that are read at their samples only.
    due : frozenset
        Those of them that are read.
    """

    def __init__(self, layout: Layout, sampled: frozenset, due: frozenset) -> None:
        probes = [key for key, _, _ in layout.probes]
        every = [key for key in probes if key not in sampled]
        self.layout = looking_at(layout, [*every, *(k for k in probes if k in due)])
        rows = [(k, a, a + int(np.prod(s))) for k, a, s in self.layout.probes]
        self.every = tuple(rows[: len(every)])
        #: rows of each step
        self.n_every = self.every[-1][2] if self.every else 0
        self.due = tuple((k, a - self.n_every, b - self.n_every) for k, a, b in rows)
        self.due = self.due[len(every) :]

    def part(self, rows: np.ndarray) -> tuple:
        """The samples in ``(steps, n, batch)``, as a part of `Seen`."""
        return rows[:, self.n_every :], self.due, True


class SampledNumpyTier(NumpyTier):
    """The NumPy tier with a program for each set of probes that are read together.

    Parameters
    ----------
    layout, feed, store, weights
        See `NumpyTier`.
    sampling : Sampling
        Of probes of the layout.
    """

    def __init__(
        self,
        layout: Layout,
        feed: InputFeed,
        store: StateStore,
        weights: Sequence[np.ndarray],
        sampling: Sampling,
    ) -> None:
        self.sampling = sampling
        self.whole = layout
        self.sampled = frozenset(sampling.periods)
        self.between = Look(layout, self.sampled, frozenset())
        self._looks: dict[frozenset, tuple[Look, NumpyStep]] = {}
        super().__init__(self.between.layout, feed, store, weights)
        bytes_of = {k: np.prod(s) * store.dtype.itemsize for k, _, s in layout.probes}
        #: held for each step, on average
        self.held = sum(
            bytes_of[probe] / period
            for probe, period in sampling.periods.items()
            if probe not in sampling.last
        )
        self.held *= store.batch

    def write(self, weights: Sequence[np.ndarray]) -> None:
        """See `NumpyTier`."""
        super().write(weights)
        for _, program in self._looks.values():
            program.refresh()

    def _look(self, due: frozenset) -> tuple[Look, NumpyStep]:
        """The program that reads at least the probes that are due."""
        if due not in self._looks:
            if len(self._looks) >= SETS:
                due = self.sampled
            look = Look(self.whole, self.sampled, due)
            step = whole_step(look.layout, self.store.batch)
            program = NumpyStep.beside_it(step, self.weights, self.program)
            self._looks[due] = look, program
        return self._looks[due]

    def bytes_per_step(self) -> float:
        """See `NumpyTier`."""
        return super().bytes_per_step() + self.held

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Advance by ``n_steps`` after step ``start``; yields what probes saw."""
        self._samples = self.sampling.samples(start, n_steps)
        self._next = next(self._samples, None)
        yield from super().run(start, n_steps)

    def step(self, start: int) -> Seen:
        """One step after step ``start``, without data."""
        due = self.sampling.due(start + 1)
        if not due:
            return Seen(1, ((super().step(start), self.between.every, False),))
        look, program = self._look(due)
        self.journal.begin(start, 1)
        self.feed_one(start)
        row = None if self.program.x is None else self.program.x.copy()
        with np.errstate(all="ignore"):
            self.journal.run(row, program)
        rows = program.y[None].copy()
        return Seen(1, ((rows[:, : look.n_every], look.every, False), look.part(rows)))

    def _steps(self, rows: np.ndarray, start: int) -> Iterator[Seen]:
        """See `NumpyTier`."""
        between, run = self.program, self.journal.run
        self.journal.begin(start, len(rows))
        out = np.empty((len(rows), *between.y.shape), self.store.dtype)
        parts: list[tuple] = []
        sampled: list[int] = []  # steps of which there are parts
        done, waiting = 0, interrupts.waiting
        try:
            with np.errstate(all="ignore"):
                for row in rows:
                    if waiting.came is not None:
                        waiting.check()
                    if between.x is not None:
                        between.x[...] = row
                    if self._next is None or self._next[0] != start + done + 1:
                        run(row)
                        out[done] = between.y
                    else:
                        look, program = self._look(self._next[1])
                        run(row, program)
                        out[done] = program.y[: look.n_every]
                        samples = program.y[look.n_every :].copy()
                        wanted = self._next[1]
                        due = tuple(p for p in look.due if p[0] in wanted)
                        sampled.append(start + done + 1)
                        parts.append((samples[None], due, True))
                        self._next = next(self._samples, None)
                    done += 1
        except BaseException:  # interrupts too: what was computed is not lost
            self.journal.back(start + done)
            del parts[sum(step <= start + done for step in sampled) :]
            self.feed.put_back(start + done, rows[done:])
            if done:
                yield Seen(done, ((out[:done], self.between.every, False), *parts))
            raise
        yield Seen(done, ((out, self.between.every, False), *parts))


class SampledTensorFlowTier:
    """The compiled loop, from one sample to the next; the step with it by itself.

    Parameters
    ----------
    layout, feed, store, weights, **options
        See `TensorFlowTier`.
    sampling : Sampling
        Of probes of the layout.
    """

    def __init__(
        self,
        layout: Layout,
        feed: InputFeed,
        store: StateStore,
        weights: Sequence,
        sampling: Sampling,
        **options,
    ) -> None:
        self.layout, self.feed, self.store = layout, feed, store
        self.sampling = sampling
        sampled = frozenset(sampling.periods)
        self.looks = [Look(layout, sampled, due) for due in (frozenset(), sampled)]
        arguments = (feed, store, weights)
        self.between, self.single = (
            TensorFlowTier(look.layout, *arguments, **options) for look in self.looks
        )
        self.single.longest = 1
        self._owner = self.between

    def load(self) -> None:
        """Take the state from the store."""
        self._owner = self.between
        self.between.load()

    def save(self) -> None:
        """Put the state into the store."""
        self._owner.save()

    def settle(self, step: int) -> None:
        """See `TensorFlowTier`."""
        self._owner.settle(step)

    def write(self, weights: Sequence) -> None:
        """Use other values of the parameters from now on."""
        self.between.write(weights)
        self.single.write(weights)

    def has_compiled(self, n_steps: int) -> bool:
        """See `TensorFlowTier`; of stretches of any length, once samples were taken."""
        return self.single.has_compiled(1)

    def _hand_over(self, tier: TensorFlowTier) -> TensorFlowTier:
        """Let one of both have the state."""
        if tier is not self._owner:
            carry = self._owner.carry
            if tier.turned != self._owner.turned:
                from tensorflow import transpose

                carry = [transpose(c) for c in carry]
            tier.carry, self._owner = carry, tier
        return tier

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Advance by ``n_steps`` after step ``start``; yields what probes saw."""
        done = 0
        for step, due in self.sampling.samples(start, n_steps):
            if step > start + done + 1:
                yield from self._stretch(start + done, step - 1 - start - done)
            yield from self._sample(step - 1, due)
            done = step - start
        if done < n_steps:
            yield from self._stretch(start + done, n_steps - done)

    def _stretch(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Steps without a sample."""
        tier = self._hand_over(self.between)
        for rows in tier.run(start, n_steps):
            yield Seen(len(rows), ((rows, self.looks[0].every, False),))

    def _sample(self, start: int, due: frozenset) -> Iterator[Seen]:
        """The step with a sample of some probes."""
        look = self.looks[1]
        for rows in self._hand_over(self.single).run(start, 1):
            samples, probes, _ = look.part(rows)
            probes = tuple(probe for probe in probes if probe[0] in due)
            every = (rows[:, : look.n_every], look.every, False)
            yield Seen(len(rows), (every, (samples, probes, True)))
