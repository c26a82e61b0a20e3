"""Tasks with their seeds: all at once, or one after the other as they are needed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from nengo.exceptions import ValidationError

from nengo_dl.many.pickles import Translator
from nengo_dl.many.tasks import Item
from nengo_dl.notices import label_of
from nengo_dl.simulator import Simulator
from nengo_dl.simulator.building import SEEDS, seed_number


class Supply:
    """The tasks of one call, pickled.

    Those of a list are pickled when this is made, so that what is wrong with one of them
    is known before any is run. Those of an iterator (a generator, a file) are taken from
    it as workers need them, so that all together may be larger than memory.

    Parameters
    ----------
    sim : Simulator
        It gives the default of the seeds.
    tasks : iterable
        What to call the function with.
    seeds : iterable of int or None
        One for each task.
    translator : Translator
        What pickles them.

    Attributes
    ----------
    count : int or None
        How many tasks there are; None as long as an iterator has not come to its end.
    taken : int
        How many were pickled.
    tasks : dict
        By number, those that may still be asked for.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a task cannot be pickled, or there are not as many seeds.
    """

    def __init__(
        self, sim: Simulator, tasks: Iterable[Any], seeds: Any, translator: Translator
    ) -> None:
        self.translator = translator
        self.tasks: dict[int, Any] = {}
        self.taken = 0
        self._items = sim.minibatch_size or 1
        self._tasks = _iterator("tasks", tasks)
        self._lazy = self._tasks is tasks
        #: what was taken, and not asked for yet
        self._ready: deque[Item] = deque()
        self.count: int | None = None
        if not self._lazy:
            self._tasks = iter(found := list(self._tasks))
            self.count = len(found)
        self._seeds = self._default(sim.seed) if seeds is None else self._given(seeds)
        while not self._lazy and self._take():
            pass

    def next(self) -> Item | None:
        """The next task; None if there is none."""
        return self._ready.popleft() if self.any() else None

    def any(self) -> bool:
        """Whether there is another task."""
        return bool(self._ready) or self._take()

    def put_back(self, items: list[Item]) -> None:
        """Tasks that were not sent after all."""
        self._ready.extendleft(reversed(items))

    def done(self, number: int) -> Any:
        """The task of a number, which is not asked for any more."""
        return self.tasks.pop(number) if self._lazy else self.tasks[number]

    # ----------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Pickle one more, if there is one."""
        number, end = self.taken, object()
        task = next(self._tasks, end)
        if task is end:
            self.count = number
            return False
        seed = next(self._seeds, None)
        if seed is None:
            raise ValidationError(
                f"seeds: expected one for each task; got {number}, and there is a task "
                f"{number}",
                attr="run_many",
            )
        self.tasks[number] = task
        self._ready.append(Item(number, seed, self._pickled(number, task)))
        self.taken = number + 1
        return True

    def _pickled(self, number: int, task: Any) -> bytes:
        try:
            return self.translator.dumps(task)
        except Exception as error:
            raise ValidationError(
                f"task {number}, a {type(task).__name__}, cannot be pickled "
                f"({type(error).__name__}: {label_of(error, 300)}). Give what makes it "
                "instead, and let the function make it",
                attr="run_many",
            ) from error

    # seeds ----------------------------------------------------------------------------

    def _default(self, first: int) -> Iterator[int]:
        limit = SEEDS - self._items + 1
        return ((first + n * self._items) % limit for n in itertools.count())

    def _given(self, seeds: Any) -> Iterator[int]:
        """Seeds of the user, checked; for a list of tasks there have to be as many."""
        numbers = map(self._checked, _iterator("seeds", seeds))
        if self.count is None:
            return numbers
        found = list(itertools.islice(numbers, self.count + 1))
        if len(found) != self.count:
            more = len(seeds) if isinstance(seeds, Sized) else "more"
            got = more if len(found) > self.count else len(found)
            raise ValidationError(
                f"seeds: expected one for each task, {self.count}; got {got}",
                attr="run_many",
            )
        return iter(found)

    def _checked(self, seed: Any) -> int:
        number = seed_number(seed, self._items)
        if number is None:
            raise ValidationError(
                "seeds: expected whole numbers; got None among them", attr="run_many"
            )
        return number


def _iterator(name: str, values: Any) -> Iterator[Any]:
    try:
        return iter(values)
    except TypeError as error:
        raise ValidationError(
            f"{name}: expected a list, or whatever gives one after the other; got "
            f"{label_of(values)}",
            attr="run_many",
        ) from error
