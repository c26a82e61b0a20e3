"""In which forms a network runs (neurons as they are, as rates, or trained), and in what.

Executors are asked for what they can do and whether they pay, in the order of the
registry, and never by name; only the user's setting ``executor`` names one. Where one of
machine code can run a network, the choice is a function of network, settings and batch
alone. Otherwise it also goes by the number of steps, since compiling takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.compiler import pipeline
from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.pipeline import Compiled
from nengo_dl.runtime.costs import SHORT_RUN
from nengo_dl.runtime.executor import (
    Capability,
    ExecutorKind,
    Unsupported,
    Work,
    executors,
)
from nengo_dl.surrogates import SpikeTraining

# what a network is compiled for -------------------------------------------------------


class Form(NamedTuple):
    """How a network runs in one call.

    Parameters
    ----------
    training : bool
        Whether Keras layers inside the network behave as in training.
    spikes : SpikeTraining or None
        How neurons are trained: as rates, or with a gradient for their spikes. None:
        neurons as they are.
    """

    training: bool = False
    spikes: SpikeTraining | None = None


AS_THEY_ARE = Form()


def form_of(
    training: bool,
    phase: bool | None,
    trained: SpikeTraining,
    spiking: bool | None = None,
) -> Form:
    """The form of a call.

    Parameters
    ----------
    training : bool
        Whether the call trains, or behaves so for Keras.
    phase : bool or None
        The setting ``learning_phase``: takes the place of ``training``.
    trained : SpikeTraining
        How neurons are trained, as the settings say.
    spiking : bool or None
        Takes the place of both for neurons, not for Keras layers: True for neurons as
        they are, False for their rates.

    Examples
    --------
    >>> form_of(False, None, SpikeTraining())
    Form(training=False, spikes=None)
    >>> form_of(False, None, SpikeTraining(), spiking=False).spikes.spiking
    False
    """
    learning = training if phase is None else phase
    if spiking is None:
        return Form(learning, trained if learning else None)
    if not spiking:
        return Form(learning, replace(trained, spiking=False))
    return Form(learning, trained if learning and trained.spiking else None)


def forward_form(
    phase: bool | None, trains_spikes: bool, spiking: bool | None = None
) -> Form:
    """The form of a call that needs no gradients: what they are is left out."""
    form = form_of(False, phase, SpikeTraining(trains_spikes), spiking)
    if form.spikes is not None and form.spikes.spiking:
        return form._replace(spikes=None)
    return form


def as_rates(spikes: SpikeTraining | None) -> bool:
    """Whether neurons run in their rate form."""
    return spikes is not None and not spikes.spiking


# how often ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Specialization:
    """What a network is compiled for: the key of a compiled program.

    Parameters
    ----------
    open : bool
        Parameters are arguments. False: they are folded into the graph, and what is
        equal because its parameters are equal is computed once. That holds until
        something writes a parameter; then the network is compiled once more, open.
    training : bool
        Keras layers behave as in training.
    spikes : SpikeTraining or None
        Neurons as they are trained; None: as they are (see `Form`).
    fed : frozenset of Signal
        Signals of constant nodes that are given data.
    penalties : bool
        Losses that TensorNodes add to those of training are probed, too.
    whole : bool
        All probes are read in each step, also those that only keep samples. To the
        compiler that makes no difference.
    """

    open: bool = False
    training: bool = False
    fed: frozenset = frozenset()
    spikes: SpikeTraining | None = None
    penalties: bool = False
    whole: bool = False


def _reason(use: Specialization) -> str:
    """What a network is compiled for, in words."""
    parts = ["parameters as arguments" if use.open else "parameters as they were built"]
    if use.training:
        parts.append("Keras layers as in training")
    if use.spikes is not None:
        spiking = use.spikes.spiking
        parts.append("gradients of spikes" if spiking else "neurons in their rate form")
    if use.fed:
        parts.append(f"data for {len(use.fed)} constant nodes")
    if use.penalties:
        parts.append("losses of operators")
    return ", ".join(parts)


class History:
    """What was compiled and arranged since a program was made, in that order.

    To compile is to make a graph of the model's operators; to arrange is to give the
    elements of a graph their places in memory. Both are done once for each use of the
    network, and once more if something else that they depend on has changed.
    """

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.arranged: list[str] = []
        self._again = ""

    def compiles(self, use: Specialization) -> None:
        """The network is compiled for a use."""
        self.compiled.append(_reason(use) + self._again)

    def arranges(self, use: Specialization, fused: bool) -> None:
        """A graph is arranged, for single steps (``fused``) or for many at a time."""
        form = "for single steps" if fused else "for many steps at a time"
        self.arranged.append(f"{_reason(use)}, {form}{self._again}")

    def forget(self, why: str) -> None:
        """Everything is made anew from here on, for some reason."""
        self._again = f" (again: {why})"

    def lines(self) -> Iterator[str]:
        """The history as lines of text."""
        for what, reasons in (("compiled", self.compiled), ("arranged", self.arranged)):
            times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
            yield f"{what} {times}:"
            yield from (f"  {reason}" for reason in reasons)


# the choice ---------------------------------------------------------------------------

#: the setting ``executor`` that leaves the choice to the rule
AUTO = "auto"

#: executors that the setting ``jit=False`` rules out
COMPILED = Capability.COMPILES | Capability.MACHINE_CODE


def look_ahead(executor: str, jit: Any, device: str | None) -> None:
    """Let executors that may be chosen begin what can be done beside the build.

    Parameters
    ----------
    executor, jit, device
        As for `Chooser`. Whether they are right is found out later.
    """
    if device is not None and "cpu" not in device.lower():
        return
    for name in executors.names:
        kind = executors.find(name)
        asked = jit == AUTO and Capability.MACHINE_CODE in kind.capabilities
        if asked if executor == AUTO else kind.family == executor:
            kind.begin()


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
    copies : bool
        Whether steps compute nothing, see `.Layout.computes`.
    """

    kind: ExecutorKind
    reason: str
    steady: bool = True
    forced: bool = False
    copies: bool = False

    @property
    def at_once(self) -> bool:
        """Whether it runs any number of steps, and never waits for a compiler."""
        able = self.kind.capabilities
        quick = self.forced or self.copies or Capability.MACHINE_CODE in able
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
    only : frozenset of str or None
        The names of the kinds to choose among: those of the process that a simulator was
        sent from. None: all that are here.

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
        self.only: frozenset[str] | None = None
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
        """Note how many steps are run by what was chosen."""
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
        if not layout.computes:
            kind = next(k for k in able if not k.capabilities & COMPILED)
            return Choice(kind, "a step computes nothing", copies=True)
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
        if Capability.MACHINE_CODE in kind.capabilities:
            passed_over = []
        return Choice(kind, "; ".join([kind.because(work), *passed_over]), steady)

    # what kinds can do ---------------------------------------------------------------

    def _able(self, use: Specialization) -> list[ExecutorKind]:
        """The kinds that can run the network, in the order in which they are asked."""
        return [
            kind
            for kind in executors.able(Capability.NONE)
            if self._missing(kind) is None
            and (use, kind.name) not in self._refused
            and self._objection(kind, use) is None
        ]

    def _missing(self, kind: ExecutorKind) -> str | None:
        if self.only is not None and kind.name not in self.only:
            return "it is missing where the simulator was sent from"
        return kind.missing()

    def _passed_over(self, use: Specialization) -> list[str]:
        """Which executors of machine code cannot run the network, and why."""
        found = []
        for kind in executors.able(Capability.MACHINE_CODE):
            why = self._missing(kind) or self._refused.get((use, kind.name))
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
