"""The compiled network: which graph runs in which executor, with which parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from nengo_dl.compiler import chain, pipeline
from nengo_dl.compiler.chain import Chain
from nengo_dl.compiler.exact_callbacks import SINGLE
from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.lowering import LoweringOptions, may_wait, trains_otherwise
from nengo_dl.compiler.memory import check_views, overlap, writes_of
from nengo_dl.compiler.pipeline import Compiled
from nengo_dl.runtime.choice import (
    AS_THEY_ARE,
    AUTO,
    Chooser,
    Form,
    History,
    Specialization,
    as_rates,
)
from nengo_dl.runtime.executor import (
    Capability,
    Executor,
    ExecutorKind,
    Sampling,
    Seen,
    StateStore,
    Task,
    Unsupported,
    first_of,
    individual,
    pack,
    start_equal,
)
from nengo_dl.runtime.host import (
    HostsThen,
    InputFeed,
    InputsInterrupted,
    has_constant_inputs,
    seed_processes,
)
from nengo_dl.runtime.native import executor as _native  # noqa: F401  (registers itself)
from nengo_dl.runtime.numpy import executor as _numpy  # noqa: F401  (likewise)
from nengo_dl.runtime.observation import Observation
from nengo_dl.runtime.tensorflow import kinds as _kinds  # noqa: F401  (likewise)
from nengo_dl.surrogates import SpikeTraining

#: the compiler does as it sees fit
NO_CHOICE = pipeline.Strategies()


class Program:
    """Everything that is compiled from one built model, made when it is needed.

    Parameters
    ----------
    model : nengo.builder.Model
    parameters : mapping
        Base signal -> array: the present values of all parameters. Shared with whoever
        writes them; after a change of values call `written`.
    batch : int
    dtype : dtype
    jit : bool or "auto"
        Whether XLA may compile the loop over time; see also `.choice.Chooser`.
    unroll : int
    device, tensor_float_32 : str, optional, and bool
        TensorFlow device for what is compiled; whether a GPU may round to 10 bits.
    use_loop : bool
        False: ``unroll`` steps without a loop.
    strategies : pipeline.Strategies
        The user's choice of how the compiler simplifies, merges and sorts.
    observed : frozenset of Signal
        Base signals whose present values somebody may ask `state` for, whether or not
        anything that is probed depends on them.
    form : Form
        In which form the network runs if a call does not say it.
    executor : str
        What runs forward steps; "auto" chooses by the rule of `.choice.Chooser`.
    common : mapping
        What is learned of all items of a batch together, see `.LoweringOptions`.
    """

    def __init__(
        self,
        model: Any,
        parameters: Mapping,
        batch: int,
        dtype: Any,
        jit: Any = "auto",
        unroll: int = 1,
        device: str | None = None,
        use_loop: bool = True,
        strategies: Any = NO_CHOICE,
        observed: frozenset = frozenset(),
        form: Form = AS_THEY_ARE,
        executor: str = AUTO,
        tensor_float_32: bool = False,
        common: Mapping = MappingProxyType({}),
    ) -> None:
        self.model, self.common = model, common
        self.parameters = parameters
        self.dtype = np.dtype(dtype)
        self.batch = batch
        self.unroll = unroll
        self.device, self.tensor_float_32 = device, tensor_float_32
        self.use_loop = use_loop
        self.strategies = strategies
        self.observed = self.written_outside = observed
        self.form = form
        self.last_use = Specialization()  # what ran last
        #: what is known of all signals, once somebody has looked at one
        self.observation: Observation | None = None
        self.store = StateStore(batch, dtype)
        self.hosts: dict = {}
        self._first: list[dict] = [{} for _ in range(batch)]
        self._individual: frozenset = frozenset()
        #: another number each time that what was compiled is no longer right
        self.generation = 0
        self.is_open = False
        #: which probes have samples in some steps only; set by whoever records them
        self.sampling = Sampling({})
        self.history = History()
        about = (executor, jit, batch, device, self.compiled, self.layout)
        self.chooser = Chooser(*about)
        #: (training, spikes) -> what of it makes a difference
        self._differences: dict[tuple, tuple] = {}
        self._compiled: dict[Specialization, Compiled] = {}
        self._layouts: dict[tuple, Any] = {}  # and chains
        self._executors: dict[tuple[Specialization, str], Executor] = {}
        self._active: tuple[Specialization, str] | None = None
        #: the method ``step`` of what is active, if single steps need nothing else
        self._single: Callable[[int], Any] | None = None
        self._stale: set = set()
        self._form = form  # of what ran last
        self._rates: bool | None = False  # whether they left the state; None: who knows
        self._probe_rows: tuple | None = None
        #: see `wait_with`
        self.pending: tuple[int, Mapping] | None = None

    # compiling -------------------------------------------------------------------

    def compile(self) -> None:
        """Compile the network, unless data may still take the place of its constants."""
        if self.is_plain and has_constant_inputs(self.model):
            check_views({s: s for op in self.model.operators for s in op.all_signals})
        else:
            self.compiled(Specialization(self.is_open))

    @cached_property
    def is_plain(self) -> bool:
        """Whether there is neither Python nor anything random."""
        return may_wait(self.model)

    def compiled(self, use: Specialization) -> Compiled:
        """The graph for a use."""
        use = self._distinct(use)
        if use not in self._compiled:
            self.history.compiles(use)
            options = LoweringOptions(
                training=use.training,
                spikes=use.spikes,
                parameters=frozenset(self.parameters) if use.open else frozenset(),
                inputs=use.fed,
                hosts=self.hosts,
                penalties=use.penalties,
                single=self.dtype == SINGLE,
                observed=self.observed,
                first=self._first[0],
                individual=self._individual,
                written=self.written_outside,
                common=self.common,
                equal_once=not use.open,
            )
            passes = self.strategies.passes(use.open)
            self._compiled[use] = pipeline.compile_model(self.model, options, passes)
        return self._compiled[use]

    def _distinct(self, use: Specialization) -> Specialization:
        """A use without what makes no difference to this network."""
        use = replace(use, whole=False) if use.whole else use
        asked = use.training, use.spikes
        if asked == (False, None):
            return use
        if asked not in self._differences:
            forms = (use.training, None), (False, use.spikes)
            layers, neurons = (trains_otherwise(self.model, *form) for form in forms)
            self._differences[asked] = layers, use.spikes if neurons else None
        training, spikes = self._differences[asked]
        return replace(use, training=training, spikes=spikes)

    def layout(self, use: Specialization, fused: bool = False) -> Layout:
        """The layout for a use, for single steps (``fused``) or with stages."""
        use = self._distinct(use)
        key = (use, fused)
        if key not in self._layouts:
            compiled = self.compiled(use)
            self.history.arranges(use, fused)
            self._layouts[key] = pipeline.arrange(
                compiled.graph,
                fused,
                compiled.stepwise_python,
                self.strategies.planner,
                self.strategies.sorter,
            )
        return self._layouts[key]

    def chain(self, use: Specialization, cut: bool) -> Chain:
        """The chain for a use: of one link, the `layout`, unless it is to be ``cut``."""
        key = (Chain, self._distinct(use), cut)
        if key not in self._layouts:
            compiled, chosen = self.compiled(use), self.strategies
            about = compiled.stepwise_python, chosen.planner, chosen.sorter
            found = chain.cut(compiled.graph, *about) if cut else None
            self._layouts[key] = found or chain.whole(self.layout(use))
        return self._layouts[key]

    def feed(self, use: Specialization, layout: Layout) -> InputFeed:
        """The object that gives a layout its inputs, step by step."""
        return InputFeed(
            layout.inputs,
            self.compiled(use).sources,
            self.hosts,
            self.model.dt,
            self.batch,
            self.dtype,
            time=self.model.time.base,
            step=self.model.step.base,
        )

    def weights(self, layout: Layout) -> list[np.ndarray]:
        """The program's arguments with the present values of the parameters."""
        return [pack(w, self.parameters.__getitem__, self.dtype) for w in layout.weights]

    @property
    def executors(self) -> list[Executor]:
        """All executors that were needed so far."""
        return list(self._executors.values())

    @property
    def sources(self) -> Sequence:
        """What runs ahead of the steps."""
        plain = self.is_plain
        return () if plain else self.compiled(Specialization(self.is_open)).sources

    # running ---------------------------------------------------------------------

    def run(
        self,
        start: int,
        n_steps: int,
        data: Mapping | None = None,
        form: Form | None = None,
        compiling: Callable[[], None] | None = None,
    ) -> Iterator[Seen]:
        """Advance the simulation; yields what probes saw, some steps at a time.

        Parameters
        ----------
        start : int
            Number of steps already run.
        n_steps : int
        data : mapping, optional
            Signal -> array ``(batch, steps, size)`` for nodes that are given data.
        form : Form, optional
        compiling : callable, optional
            Called before something is compiled, which takes seconds.
        """
        use = self._use_of(self.fed_among(data or {}), form)
        return self.ready(start, n_steps, data or {}, use, compiling).run(start, n_steps)

    def for_batch(
        self, start: int, data: Mapping, given: Collection, form: Form
    ) -> Executor:
        """The executor for one batch, ready to run; it reads all probes in each step.

        Parameters
        ----------
        start : int
            Number of steps already run.
        data : mapping
            Signal -> array ``(batch, steps, size)``; with the key None, what nodes
            without output do has been done.
        given : collection of Signal
            Those that the user gave data for; the network would compute the others.
        form : Form
        """
        use = self._use_of(self.fed_among(given), form, bool(self.sampling.periods))
        return self.ready(start, 1, data, use)

    def runs_batches(self, given: Collection, form: Form) -> bool:
        """Whether `for_batch` runs forward steps; see the setting ``executor``.

        Not if TensorFlow does, whose Keras model is quicker at batches, or if it depends
        on the number of steps what does.
        """
        whole = bool(self.sampling.periods)
        fed = self.fed_among(given)
        use = Specialization(self.is_open, form.training, fed, form.spikes, whole=whole)
        while True:
            choice = self.chooser.choose(use, 1)
            if not choice.at_once:
                return False
            try:
                self._executor((use, choice.kind.name), choice.kind)
            except Unsupported as error:
                self.chooser.refuse(use, choice.kind, error)
            else:
                return True

    def _use_of(
        self, fed: frozenset, form: Form | None, whole: bool = False
    ) -> Specialization:
        """What the next steps are run for."""
        form = self.form if form is None or form == self.form else form
        self._form = form
        use = Specialization(self.is_open, form.training, fed, form.spikes, whole=whole)
        return self._holding(use)

    def step(self, start: int) -> np.ndarray | Seen | None:
        """One step without data: ``(1, rows, batch)``, or what probes saw.

        None if it is not ready for that: then `run` has to be called, which makes it so.
        """
        if self._single is None or self._form is not self.form:
            return None
        return self._single(start)

    def settle_at(self, step: int) -> None:
        """After an interruption: the state is that at the end of a step.

        Parameters
        ----------
        step : int
            The last one of which the outputs were taken.
        """
        if self._active is not None:
            self._executors[self._active].settle(step)

    @property
    def probe_rows(self) -> tuple[tuple[object, int, int], ...]:
        """Each probe's rows of what `run` yields: (probe, first, after the last)."""
        if self._probe_rows is None:
            first, rows = 0, []
            for probe in self.model.probes:
                size = self.model.sig[probe]["in"].size
                rows.append((probe, first, first + size))
                first += size
            self._probe_rows = tuple(rows)
        return self._probe_rows

    def ready(
        self,
        start: int,
        n_steps: int,
        data: Mapping,
        use: Specialization,
        compiling: Callable[[], None] | None = None,
    ) -> Executor:
        """The executor of the next steps, compiled and with the state in it."""
        key, kind, executor = self._ready_executor(use, n_steps, compiling)
        if key != self._active:
            self._hand_inputs_over(executor.feed, start)
        executor.feed.use(data, start)
        self._activate(key, kind)
        return executor

    def _holding(self, use: Specialization) -> Specialization:
        """``use``, open if that is needed to hold the state as it is.

        While parameters are folded, states that always agree share a place. Those of
        neurons that ran in another form may differ: in their rate form, two populations
        are equal whose resets are not.
        """
        if as_rates(use.spikes) == self._rates:
            return use
        self.settle()
        self._rates = as_rates(use.spikes)
        if use.open:
            return use
        layout = self.layout(use, fused=True)
        if not self.store.fits(layout.states, layout.carry):
            self.written()
        return replace(use, open=self.is_open)

    def stored(self, spikes: SpikeTraining | None) -> None:
        """The store was given the state of neurons that ran in this form."""
        self._rates = as_rates(spikes)

    @property
    def stepwise_python(self) -> bool:
        """Whether all Python functions of the network run step by step."""
        compiled = None if self.is_plain else self.compiled(Specialization(self.is_open))
        return compiled is not None and compiled.stepwise_python

    def fed_among(self, signals: Iterable) -> frozenset:
        """The signals among those given data for which a network is compiled anew.

        They are the ones that are no inputs otherwise: constants, and everything if
        functions of time run inside the step.
        """
        everything = self.stepwise_python
        return frozenset(s for s in signals if everything or not self._is_written(s))

    @cached_property
    def _writes(self) -> Mapping[Any, list]:
        return writes_of(self.model.operators)

    def _is_written(self, signal) -> bool:
        """Whether an operator sets or updates some of a signal."""
        return any(overlap(signal, other) for other in self._writes.get(signal.base, ()))

    def outputs_of_nodes(
        self, signals: set, count: int, start: int, n_steps: int, seed: int | None = None
    ) -> dict:
        """What nodes without data put out.

        Parameters
        ----------
        signals : set of Signal
            Outputs of the nodes.
        count : int
            For how many items.
        start, n_steps : int
        seed : int, optional
            Each item gets processes of its own, which start afresh; those of item ``i``
            with the random numbers of the seed ``seed + i``. None: the processes of the
            simulation go on, for its own number of items.

        Returns
        -------
        dict
            Signal -> array ``(count, n_steps, size)``. Those are missing that can only
            be computed step by step.
        """
        values = {}
        for signal in signals:
            if self._is_written(signal):
                continue
            value = np.ravel(signal.initial_value).astype(self.dtype)
            values[signal] = np.broadcast_to(value, (count, n_steps, value.size))
        hosts = self.hosts
        if seed is not None:
            hosts = {s.op: self._fresh_host(s.op) for s in self.sources}
            self._seed_processes(hosts, seed, count)
        sources = [s for s in self.sources if s.signal in signals or s.signal is None]
        differ = any(hosts[s.op].per_item for s in sources)
        items = count if differ else 1
        feed = InputFeed.of_sources(sources, hosts, self.model.dt, items, self.dtype)
        try:
            rows = feed.chunk(start, n_steps)
        except InputsInterrupted as interrupted:
            raise interrupted.cause from None
        for source in feed.inputs:
            part = rows[:, source.start : source.start + source.size]
            shape = (count, n_steps, source.size)
            values[source.key] = np.broadcast_to(part.transpose(2, 0, 1), shape)
        return values

    def _fresh_host(self, op):
        host = self.hosts[op]
        return type(host)(op, self.model.dt) if host.per_item else host

    def _ready_executor(
        self, use: Specialization, n_steps: int, compiling: Callable[[], None] | None
    ) -> tuple[tuple[Specialization, str], ExecutorKind, Executor]:
        """What runs the next steps, made if need be: its key, its kind, and itself."""
        while True:
            choice = self.chooser.choose(use, n_steps)
            kind, key = choice.kind, (use, choice.kind.name)
            known = self._executors.get(key)
            if compiling is not None and Capability.COMPILES in kind.capabilities:
                if known is None or not known.has_compiled(n_steps):
                    compiling()
            try:
                executor = self._executor(key, kind)
            except Unsupported as error:
                self.chooser.refuse(use, kind, error)
                continue
            self.chooser.runs(choice, n_steps)
            return key, kind, executor

    def _executor(self, key: tuple[Specialization, str], kind: ExecutorKind) -> Executor:
        if key not in self._executors:
            self._executors[key] = self._new_executor(key[0], kind)
        elif key in self._stale:
            executor = self._executors[key]
            executor.write(self.weights(executor.layout))
        self._stale.discard(key)
        return self._executors[key]

    def _new_executor(self, use: Specialization, kind: ExecutorKind) -> Executor:
        layout = self.layout(use, fused=Capability.STAGES not in kind.capabilities)
        task = Task(
            layout,
            self.feed(use, layout),
            self.store,
            self.weights(layout),
            Sampling({}) if use.whole else self._sampled(layout, kind),
            self.unroll,
            self.use_loop,
            self.device,
            self.chooser.xla,
            self.tensor_float_32,
        )
        return kind.make(task)

    def _sampled(self, layout: Layout, kind: ExecutorKind) -> Sampling:
        """The probes that are read at their samples only."""
        sampling = self.sampling
        size = {key: int(np.prod(shape)) for key, _, shape in layout.probes}
        step = self.batch * self.dtype.itemsize
        return sampling.among(
            {
                probe
                for probe, period in sampling.periods.items()
                if kind.reads_samples_only(
                    size[probe] * step,
                    float("inf") if probe in sampling.last else period,
                )
            }
        )

    def _activate(self, key: tuple[Specialization, str], kind: ExecutorKind) -> None:
        """Hand the state over from the executor that ran last."""
        if self._active == key:
            return
        self.settle()
        executor: Any = self._executors[key]
        executor.load()
        self._active, self.last_use = key, key[0]
        single = Capability.SINGLE_STEPS in kind.capabilities
        if single and not key[0].fed and not key[0].whole:
            self._single = executor.step

    def settle(self) -> None:
        """Put the state of what runs into the store, which is then in charge."""
        if self._active is not None:
            self._executors[self._active].save()
            self._active = self._single = None

    def written(self) -> None:
        """Parameters have other values from now on."""
        self.settle()
        self.is_open = True
        self._stale = set(self._executors)

    def refreshed(self) -> None:
        """Parameters that are never folded have other values from now on."""
        self.settle()
        self._stale = set(self._executors)

    def state_written(self) -> None:
        """The store was given values from outside: open the program if it must be.

        States that always agree are one state while parameters are folded, and one that
        never changes is a constant. If the values do not agree any more, each state needs
        a place of its own.
        """
        self._rates = None
        self._holding(Specialization(self.is_open))

    def unwritten(self) -> None:
        """All parameters have the values again that they were built with."""
        self.settle()
        self.is_open = False

    def snapshot_hosts(self) -> dict:
        """The state of all processes that run as Python, for `restore_hosts`."""
        return {op: h.snapshot() for op, h in self.hosts.items() if h.stateful}

    def hosts_now(self) -> HostsThen:
        """What all Python functions keep, for going back to it within this process."""
        return HostsThen(self)

    def random_variables(self) -> list:
        """Keras variables with the state of random numbers of functions of tensors."""
        return [v for host in self.hosts.values() for v in host.random_variables]

    def random_numbers(self) -> dict:
        """The state of `random_variables`, for `go_on_with_numbers`."""
        return {op: h.random_numbers() for op, h in self.hosts.items() if h.of_tensors}

    def go_on_with_numbers(self, numbers: Mapping) -> None:
        """Functions of tensors draw what comes after."""
        for op, found in numbers.items():
            self.hosts[op].go_on_with(found)

    def draw_as_layers_would(self) -> None:
        """Keras layers draw what they would draw next outside of the simulation."""
        for host in self.hosts.values():
            host.draw_as_layers_would()

    def restore_hosts(self, snapshot: Mapping, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""
        self._forget_inputs()
        self.settle()  # what runs may have its state in their arrays
        for op, kept in snapshot.items():
            self.hosts[op].restore(kept, first_item)

    def waiting_inputs(self, start: int) -> Mapping | None:
        """What was made for steps after step ``start`` that were not run after all.

        Returns
        -------
        dict or None
            Rows ``(steps, size, batch)`` of each source.
        """
        found = [e.feed.waiting_by_source for e in self.executors]
        for waiting in (*found, self.pending):
            if waiting is not None and waiting[0] == start:
                return waiting[1]
        return None

    def wait_with(self, start: int, rows: Mapping | None) -> None:
        """Begin with these `waiting_inputs`."""
        self.pending = None if rows is None else (start, rows)

    def _hand_inputs_over(self, feed: InputFeed, start: int) -> None:
        """Give a feed what waits in another one."""
        rows = self.waiting_inputs(start)
        self.pending = None
        if rows is not None and feed.waiting is None:
            self._forget_inputs()
            feed.wait_by_source(start, rows)

    def _forget_inputs(self) -> None:
        """What was made for steps that were not run does not fit any more."""
        self.pending = None
        for executor in self.executors:
            executor.feed.forget()

    def reset(self, seed: int, state: bool = True, processes: bool = True) -> None:
        """First values again, and fresh random numbers.

        Batch item ``b`` gets the numbers that ``nengo.Simulator`` gets with the seed
        ``seed + b``.
        """
        self._forget_inputs()
        self.chooser.asked = 0
        if state:
            self._active = self._single = None
            self.store.clear()
        self.settle()  # what runs may have its state in arrays of Python functions
        if processes:
            self._reset_processes(seed)
        if state:
            self._store_first()
            if self.observation is not None:
                self.observation.forget(0)

    def _reset_processes(self, seed: int) -> None:
        if not self.is_plain:
            self.compiled(Specialization(self.is_open))  # so that the hosts are there
        before, self._first = self._first, [{} for _ in range(self.batch)]
        known = self._individual
        self._seed_processes(self.hosts, seed, self.batch)
        written = {base for first in self._first for base in first}
        # parameters of which the values are no longer those that others know
        self._individual = individual(self._first) | written & set(self.parameters)
        if self._individual != known or not start_equal(before, self._first):
            self._forget_programs("operators start with other values")

    def observe(self, signals: frozenset) -> None:
        """Keep these base signals from now on, whether or not anything depends on them.

        What was compiled before does not do that.
        """
        self.observed |= signals
        self._forget_programs("all signals are looked at")

    def _forget_programs(self, why: str) -> None:
        """What was compiled is not right any more."""
        self.settle()
        self.history.forget(why)
        self.generation += 1
        self.chooser.forget()
        made_of_graphs = (self._compiled, self._layouts)
        for made in (*made_of_graphs, self._executors, self._stale):
            made.clear()

    def _store_first(self) -> None:
        """Signals start with what operators wrote to them as they made their steps."""
        written = {base for first in self._first for base in first}
        for base in written:
            values = np.stack([first_of(base, first) for first in self._first], axis=1)
            self.store.values[base] = values.astype(self.dtype)
        if written:
            self.state_written()

    def _seed_processes(self, hosts: Mapping, seed: int, count: int) -> None:
        """Random numbers for each item as core gives them, in core's order."""
        if not self.is_plain:
            order = self.compiled(Specialization(self.is_open)).order
            seed_processes(order, self.model.operators, hosts, self._first, seed, count)

    def describe(self, html: bool = False) -> str:
        """What the compiler made of the network; see `compiler.describe` and ``page``."""
        # what draws is imported when somebody looks
        from nengo_dl.compiler.describe import chain_lines, describe, page

        use = Specialization(self.is_open, self.form.training, spikes=self.form.spikes)
        layout, compiled = self.layout(use), self.compiled(use)
        counts = (len(self.model.operators), self.dtype.itemsize, self.batch)
        lines = [*self.chooser.lines(use), *self.history.lines()]
        cut = [key for key in self._layouts if key[0] is Chain]
        lines += [line for key in cut for line in chain_lines(self._layouts[key])]
        if not html:
            return describe(layout, compiled.reports, *counts, lines)
        title = str(getattr(self.model, "label", None) or "network")
        about = (*counts, title, lines)
        return page(layout, compiled.graph, compiled.reports, *about)

    # looking ---------------------------------------------------------------------

    def state(self, signal: Any) -> np.ndarray | None:
        """A signal's present state, ``(size, batch)``; None if it has none.

        Of what all items have in common ``(size, 1)``.
        """
        if self._active is not None:
            executor = self._executors[self._active]
            if any(slot.key is signal for slot in executor.layout.states):
                executor.save()
        return self.store.values.get(signal)

    def all_states(self) -> dict:
        """Every state of the network.

        Returns
        -------
        dict
            Name -> (key in the store, array as in the store), in a fixed order. Names
            only depend on the network: on the order in which signals are written.
        """
        self.settle()
        use = self._holding(Specialization(self.is_open))
        layout = self.layout(use, fused=True)
        self.store.save(layout.states, self.store.load(layout.states, layout.carry))
        states = {}
        for name, slot in self._by_name(use, layout.states):
            value = self.store.values.get(slot.key)
            if value is None:
                factor = isinstance(slot.key, tuple)
                first = np.zeros(slot.shape) if factor else slot.key.initial_value
                first = np.ravel(first).astype(self.dtype)
                columns = 1 if slot.common else self.batch
                value = np.repeat(first[:, None], columns, axis=1)
            states[name] = (slot.key, value)
        return states

    def _by_name(self, use: Specialization, states) -> Iterator[tuple[str, Any]]:
        """States of a graph or of a layout with names that the network alone decides.

        What is a state only because it is observed has none.
        """
        number = {signal: i for i, signal in enumerate(self.compiled(use).lasting)}
        for state in states:
            # a state may be carried as the factors that it is a product of
            signal, *part = state.key if isinstance(state.key, tuple) else (state.key,)
            if signal in number:
                yield ".".join(map(str, [number[signal], *part])), state

    def idle_states(self, whatever_weights: bool = False) -> dict[str, np.ndarray]:
        """States that are not simulated, since nothing depends on them.

        If they only make no difference because some weights are 0, they do not count:
        whoever has these weights can do without them as well. ``whatever_weights`` asks
        for states on which nothing depends with any weights, simulated or not.

        Returns
        -------
        dict
            For each name of such a state, as in `all_states`, which of its entries.
        """
        use = self._holding(Specialization(self.is_open))
        found = self._idle(replace(use, open=use.open or whatever_weights))
        if not found or use.open or whatever_weights:
            return found
        always = self.idle_states(whatever_weights=True)
        both = {name: found[name] & always[name] for name in found if name in always}
        return {name: mask for name, mask in both.items() if mask.any()}

    def _idle(self, use: Specialization) -> dict[str, np.ndarray]:
        """The states of one graph that `idle_states` asks for."""
        states = self.compiled(use).graph.states
        products = {state.key[0] for state in states if isinstance(state.key, tuple)}
        return {
            name: state.elements.ravel() < 0
            for name, state in self._by_name(use, states)
            if state.key not in products and (state.elements < 0).any()
        }
