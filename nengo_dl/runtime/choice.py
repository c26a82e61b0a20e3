"""Which executor runs the steps of a network, and why.

Executors are asked for what they can do and whether they pay, in the order of the
registry, and never by name; only the user's setting ``executor`` names one. Where one of
machine code can run a network, the choice is a function of network, settings and batch
alone. Otherwise it also goes by the number of steps, since compiling takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.compiler import pipeline
from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.pipeline import Compiled
from nengo_dl.runtime.executor import (
    SHORT_RUN,
    Capability,
    ExecutorKind,
    Unsupported,
    Work,
    executors,
)
from nengo_dl.runtime.forms import Specialization

#: the setting ``executor`` that leaves the choice to the rule
AUTO = "auto"

#: executors that the setting ``jit=False`` rules out
COMPILED = Capability.COMPILES | Capability.MACHINE_CODE


@dataclass(frozen=True)
class Choice:
    """An executor, and why it was chosen.

    Attributes
    ----------
    kind : ExecutorKind
    reason : str
        In words.
    steady : bool
        Whether it is the same for any number of steps.
    forced : bool
        Whether the setting ``executor`` names it.
    """

    kind: ExecutorKind
    reason: str
    steady: bool = True
    forced: bool = False

    @property
    def at_once(self) -> bool:
        """Whether it runs any number of steps, and never waits for a compiler."""
        able = self.kind.capabilities
        quick = self.forced or Capability.MACHINE_CODE in able
        return self.steady and quick and Capability.COMPILES not in able


class Chooser:
    """Chooses what runs the steps of one network.

    Parameters
    ----------
    executor : str
        The setting: the family of an executor, or ``"auto"``.
    jit : bool or "auto"
        The setting. It counts if ``executor`` is ``"auto"``: True for what is compiled
        wherever that can run the network, False for what is not.
    batch : int
    device : str or None
        What the user asked for.
    compiled, layout : callable
        Those of `.program.Program`.

    Attributes
    ----------
    asked : int
        Steps of runs that could be compiled, asked for since the last reset.
    last : Choice or None
        What ran last.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there is no such executor.
    ~nengo.exceptions.SimulationError
        If what it needs is missing in this process.
    """

    def __init__(
        self,
        executor: str,
        jit: Any,
        batch: int,
        device: str | None,
        compiled: Callable[[Specialization], Compiled],
        layout: Callable[..., Layout],
    ) -> None:
        self.executor, self.jit = executor, jit
        self.batch, self.device = batch, device
        self.asked = 0
        self.last: Choice | None = None
        self._compiled, self._layout = compiled, layout
        self._python_loops: dict[Specialization, bool] = {}
        self._steady: dict[Specialization, Choice] = {}
        #: (use, name of a kind) -> why it cannot run that
        self._refused: dict[tuple[Specialization, str], str] = {}
        if executor != AUTO:
            self._require_known()

    def _require_known(self) -> None:
        families = dict.fromkeys(executors.find(name).family for name in executors.names)
        if self.executor not in families:
            raise ValidationError(
                f"there is no executor {self.executor!r}; the setting takes 'auto', "
                f"{', '.join(sorted(map(repr, families)))}",
                attr="configure_settings(executor)",
            )
        missing = [kind.missing() for kind in self._named()]
        if all(missing):
            raise SimulationError(
                f"the setting executor={self.executor!r}: {missing[0]}. Without the "
                "setting, the network runs in another executor"
            )

    def _named(self) -> list[ExecutorKind]:
        """The kinds that the setting names."""
        kinds = map(executors.find, executors.names)
        return [kind for kind in kinds if kind.family == self.executor]

    @property
    def forced(self) -> bool:
        """Whether the setting names an executor, for all forward steps."""
        return self.executor != AUTO

    @property
    def xla(self) -> bool:
        """Whether what is compiled may be compiled by XLA."""
        return self.jit is not False

    def forget(self) -> None:
        """What was compiled is not right any more."""
        for made in (self._python_loops, self._steady, self._refused):
            made.clear()

    # choosing ----------------------------------------------------------------------

    def choose(self, use: Specialization, n_steps: int) -> Choice:
        """What runs the next steps of a network that is compiled for a use."""
        if use not in self._steady:
            choice = self._forced(use) if self.forced else self._by_rule(use, n_steps)
            if not choice.steady:
                return choice
            self._steady[use] = choice
        return self._steady[use]

    def runs(self, choice: Choice, n_steps: int) -> None:
        """So many steps are run by what was chosen."""
        self.last = choice
        if not choice.steady and n_steps > SHORT_RUN:
            self.asked += n_steps

    def refuse(self, use: Specialization, kind: ExecutorKind, error: Unsupported) -> None:
        """A kind turned out not to be able to run a network.

        Raises
        ------
        ~nengo.exceptions.SimulationError
            If the user asked for that one.
        """
        if self.forced:
            raise SimulationError(self._cannot(str(error))) from error
        self._refused[use, kind.name] = str(error)
        self._steady.pop(use, None)

    def _cannot(self, why: str) -> str:
        return (
            f"the setting executor={self.executor!r} does not fit this network: {why}. "
            "Leave the setting out, and what can run the network does"
        )

    def _forced(self, use: Specialization) -> Choice:
        """The kind that the setting names."""
        why = ""
        for kind in self._named():
            if kind.missing() is None and self._objection(kind, use) is None:
                why = f"the setting executor={self.executor!r}"
                return Choice(kind, why, forced=True)
            why = self._objection(kind, use) or ""
        raise SimulationError(self._cannot(why))

    def _by_rule(self, use: Specialization, n_steps: int) -> Choice:
        """The first kind that can run the network, and says that it pays."""
        able = self._able(use)
        if self.jit is False:
            kind = next(k for k in able if not k.capabilities & COMPILED)
            return Choice(kind, "the setting jit=False")
        if self.jit is True:
            for kind in able:
                if Capability.COMPILES in kind.capabilities:
                    return Choice(kind, "the setting jit=True")
        passed_over = self._passed_over(use)
        if len(able) == 1:
            return Choice(able[0], "; ".join([*passed_over, "nothing else can run it"]))
        asked = self.asked + (n_steps if n_steps > SHORT_RUN else 0)
        layout = self._layout(use, fused=True)
        work = Work(layout, self.batch, n_steps, asked, self.device)
        for kind in able:
            if Capability.MACHINE_CODE in kind.capabilities:
                if kind.pays(work):
                    rival = kind.seconds_per_step(work)
                    work = Work(layout, self.batch, n_steps, asked, self.device, rival)
                    break
                passed_over.append(f"not {kind.name}: {kind.because(work)}")
        kind = next(kind for kind in able if kind.pays(work))
        direct = all(Capability.COMPILES not in k.capabilities for k in able)
        steady = direct or work.rival is not None
        return Choice(kind, "; ".join([kind.because(work), *passed_over]), steady)

    # what kinds can do ---------------------------------------------------------------

    def _able(self, use: Specialization) -> list[ExecutorKind]:
        """The kinds that can run the network, in the order in which they are asked."""
        return [
            kind
            for kind in executors.able(Capability.NONE)
            if kind.missing() is None
            and (use, kind.name) not in self._refused
            and self._objection(kind, use) is None
        ]

    def _passed_over(self, use: Specialization) -> list[str]:
        """Which executors of machine code cannot run the network, and why."""
        found = []
        for kind in executors.able(Capability.MACHINE_CODE):
            why = kind.missing() or self._refused.get((use, kind.name))
            if why is not None:
                found.append(f"not {kind.name}: {why}")
        return found

    def _objection(self, kind: ExecutorKind, use: Specialization) -> str | None:
        """Why a kind cannot run a network; None if it can."""
        if not any(node.kernel.host for node in self._compiled(use).graph.nodes):
            return None
        # without stages, all that is Python is called inside a step
        if Capability.STAGES not in kind.capabilities or self._python_in_loop(use):
            needs = Capability.PYTHON_IN_LOOP
        else:
            needs = Capability.PYTHON_AROUND_LOOP
        if needs in kind.capabilities:
            return None
        where = "inside" if needs == Capability.PYTHON_IN_LOOP else "around"
        return f"Python functions are called {where} the loop over time, where it cannot"

    def _python_in_loop(self, use: Specialization) -> bool:
        if use not in self._python_loops:
            compiled = self._compiled(use)
            found = pipeline.python_in_loop(compiled.graph, compiled.stepwise_python)
            self._python_loops[use] = found
        return self._python_loops[use]

    # telling -----------------------------------------------------------------------

    def lines(self, use: Specialization) -> Sequence[str]:
        """What runs forward steps, and why, as lines of text."""
        choice = self.last if self.last is not None else self.choose(use, 1)
        return [f"forward steps run in: {choice.kind.name} ({choice.reason})"]
