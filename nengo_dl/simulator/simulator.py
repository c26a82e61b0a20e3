"""The drop-in replacement for ``nengo.Simulator``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import ReadonlyError, SimulatorClosed, ValidationError
from nengo.utils.numpy import maxint

import nengo_dl.kernels  # noqa: F401  (registers all kernels)
from nengo_dl import program_cache
from nengo_dl.compiler.memory import source_key
from nengo_dl.config import (
    get_setting,
    warn_misplaced_settings,
)
from nengo_dl.notices import label_of, warn
from nengo_dl.runtime.forms import forward_form
from nengo_dl.runtime.interrupts import between_steps
from nengo_dl.runtime.program import Program
from nengo_dl.runtime.sampling import Seen
from nengo_dl.simulator.building import (
    available_device,
    built_model,
    no_attribute,
    pass_on_advice,
    positive_int,
    probe_logs,
    sampling_of,
    strategies,
    warn_of_overflow,
    whole_steps,
)
from nengo_dl.simulator.checks import seed_number, steps_of
from nengo_dl.simulator.data import RecordedSteps, SimulationData
from nengo_dl.simulator.host_state import Beginning
from nengo_dl.simulator.legacy import OlderNames, older_data, older_options
from nengo_dl.simulator.pickling import PicklingMethods
from nengo_dl.simulator.progress import progress
from nengo_dl.simulator.saving import SavingMethods
from nengo_dl.simulator.signals import SignalValues
from nengo_dl.simulator.summary import count, summary
from nengo_dl.simulator.training import TrainingMethods
from nengo_dl.training.defaults import tensorflow_defaults
from nengo_dl.training.gradients import GradientMethods
from nengo_dl.training.inputs import input_nodes, nodes_names, resolve_data
from nengo_dl.training.live import LiveState
from nengo_dl.training.parameter_store import ParameterStore
from nengo_dl.training.turns import Turns, in_turn

if TYPE_CHECKING:
    import keras
    from nengo import Network, Node, Probe
    from nengo.builder import Model
    from nengo.utils.progress import ProgressBar
    from typing_extensions import Self, Unpack

    from nengo_dl.simulator.arguments import OlderOptions, RunArguments, StepArguments
    from nengo_dl.training.tensor_graph import TensorGraph


class Simulator(
    TrainingMethods, GradientMethods, SavingMethods, PicklingMethods, OlderNames
):
    """Simulates a Nengo network, and trains it.

    Replaces ``nengo.Simulator``: the same script with this class gives the same output,
    faster. In addition several inputs run side by side, and the methods of
    ``keras.Model`` train the network.

    Parameters
    ----------
    network : ~nengo.Network or None
        The network to build and simulate. If None, ``model`` must be given.
    dt : float
        Length of a time step in seconds.
    seed : int, optional
        Seed of everything that is random while the simulation runs. Default: the
        network's seed plus one if it has one, else a random number.
    model : ~nengo.builder.Model, optional
        A model to build ``network`` into; without a network, a built one.
    device : str, optional
        TensorFlow device, such as ``"/cpu:0"`` or ``"/gpu:0"``. Default: TensorFlow's
        choice.
    unroll_simulation : int
        Steps in one round of the compiled loop. Any number of steps can be run.
    minibatch_size : int, optional
        Number of inputs that run side by side. None: one, and data without an axis for
        it, as in core Nengo.
    progress_bar : bool or ~nengo.utils.progress.ProgressBar
        Whether (or where) to show the progress of building and running.
    optimize : bool
        Taken, and kept as an attribute, so that scripts for core Nengo run as they are.
        How a network is compiled does not depend on it.
    **older
        Older arguments (``dtype``, ``tensorboard``), with a ``DeprecationWarning``.

    Attributes
    ----------
    data : SimulationData
        Probe data ``(steps, size)``, or ``(minibatch_size, steps, size)``; parameters.
    model : ~nengo.builder.Model
        The built model.
    seed : int
    minibatch_size : int or None
    closed : bool

    Raises
    ------
    ~nengo.exceptions.BuildError
        If the network contains something that there is no kernel for.
    ~nengo.exceptions.ValidationError
        If an argument has a value that it cannot have.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Ensemble(50, 1)
    ...     p = nengo.Probe(a, synapse=0.01)
    >>> with nengo_dl.Simulator(net) as sim:
    ...     sim.run(0.5)
    >>> sim.data[p].shape
    (500, 1)
    """

    def __init__(
        self,
        network: Network | None,
        dt: float = 0.001,
        seed: int | None = None,
        model: Model | None = None,
        device: str | None = None,
        unroll_simulation: int = 1,
        minibatch_size: int | None = None,
        progress_bar: bool | ProgressBar | None = True,
        *,
        optimize: bool = True,
        **older: Unpack[OlderOptions],
    ) -> None:
        self.closed = True  # until everything below has worked
        self._older = older_options(older)
        self.minibatch_size = minibatch_size
        if minibatch_size is not None:
            self.minibatch_size = positive_int("minibatch_size", minibatch_size, self)
        self.unroll_simulation = positive_int(
            "unroll_simulation", unroll_simulation, self
        )
        self.device = available_device(device)
        self.progress_bar = progress_bar
        self.optimize = optimize
        seed = seed_number(seed, self.minibatch_size or 1)
        self.model = built_model(network, dt, model, progress_bar)
        self.network = self.model.toplevel if network is None else network
        if seed is None:
            own = None if network is None else network.seed
            seed = np.random.randint(maxint) if own is None else own + 1
        self.seed = seed
        with progress(progress_bar, "Compiling"):
            self._assemble()
            self._start(self.seed)

    def _assemble(self):
        """Everything around the built model, with the values that it was built with."""
        self._turns = Turns(self)
        self._batch = self.minibatch_size or 1
        if self.network is not None:
            warn_misplaced_settings(self.network)
            pass_on_advice(self.network)
        self.dtype = np.dtype(self._older["dtype"] or get_setting(self.network, "dtype"))
        self.stateful = get_setting(self.network, "stateful")
        self.inference_only = get_setting(self.network, "inference_only")
        parameters = ParameterStore(self.model, self.dtype)
        warn_of_overflow(parameters)
        self._program = Program(
            self.model,
            parameters,
            self._batch,
            self.dtype,
            jit=get_setting(self.network, "jit"),
            unroll=self.unroll_simulation,
            device=self.device,
            use_loop=get_setting(self.network, "use_loop"),
            strategies=strategies(self.network),
            observed=parameters.learned,
            form=self._form(None),
        )
        self._live = LiveState(self._program, parameters)
        self._logs = probe_logs(self.model, self.network, self.minibatch_size, self.dtype)
        self._program.sampling = sampling_of(self._logs)
        self._recorded = RecordedSteps()
        self.data = SimulationData(
            self.model,
            self._logs,
            values=self._live.value,
            version=self._live.version,
            reading=self._turns.reading,
            loaded=self._live.loaded,
        )
        self._nodes = input_nodes(self.network)
        self._node_names = nodes_names(self._nodes)
        self._keras = None
        self._defaults = contextlib.ExitStack()

    def _form(self, spiking):
        """In which form a call that needs no gradients runs."""
        return forward_form(
            get_setting(self.network, "learning_phase"),
            get_setting(self.network, "spiking_training"),
            self._spiking(spiking),
        )

    def _start(self, seed):
        """The first state, with processes of a seed: from here on it can run."""
        self._process_seed = seed
        self._program.reset(seed)
        self._beginning = Beginning(self._program)
        self.closed = False

    # state -----------------------------------------------------------------------

    if not TYPE_CHECKING:  # a type checker would believe that it has any attribute

        def __getattr__(self, name):
            if hasattr(type(self), name):  # a property that failed: its error says why
                return object.__getattribute__(self, name)
            raise no_attribute(self, name)

    def __repr__(self) -> str:
        kind = type(self).__name__
        if "_live" not in vars(self):  # something failed while it was made
            return f"<{kind}, not built>"
        label = getattr(self.network, "label", None)
        name = "a network" if label is None else repr(label)
        state = "closed" if self.closed else "open"
        return (
            f"<{kind} of {name}: dt={self.dt:g}, "
            f"minibatch_size={self.minibatch_size}, {self.n_steps} steps run "
            f"({self.time:g} s), {state}>"
        )

    @property
    def dt(self) -> float:
        """(float) Length of a time step in seconds; cannot be changed."""
        return self.model.dt

    @dt.setter
    def dt(self, value):
        raise ReadonlyError(attr="dt", obj=self)

    @property
    def n_steps(self) -> int:
        """(int) Number of steps run so far."""
        return self._live.n_steps

    @property
    def time(self) -> float:
        """(float) Simulated time in seconds."""
        return self.n_steps * self.dt

    @property
    def signals(self) -> SignalValues:
        """(SignalValues) Present values of all signals; see there for what it costs."""
        self._require_open("look at signals")
        if not self._program.observation.on:
            self._turns.call("signals", self._observe)
        return self._signals

    def _observe(self):
        self._live.pull()
        self._program.observation.switch_on(self.n_steps)
        self._signals = SignalValues(self)

    @property
    def tensor_graph(self) -> TensorGraph:
        """The Keras layer that holds the network; see also its ``describe()``."""
        return self._keras_side("tensor_graph").layer

    @property
    def keras_model(self) -> keras.Model:
        """The ``keras.Model`` that trains and evaluates the network."""
        return self._keras_side("keras_model").model

    @in_turn
    def describe(self, html: bool = False) -> str:
        """What the compiler made of the network: passes, kernels, sizes, timings.

        Parameters
        ----------
        html : bool
            Give a web page with drawings, to be written to a file, instead of text.

        Returns
        -------
        str
        """
        self._require_open("describe")
        return self._program.describe(html)

    def summary(self) -> str:
        """The parameters of the network, object by object: shapes, numbers, training.

        Returns
        -------
        str
            A table, which notebooks and the Python prompt show in lines. Below it is how
            many numbers training changes, how many an online learning rule changes (those
            that both do count as training's), and how many stay as they are. What was
            compiled is told by `describe`.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     ens = nengo.Ensemble(50, 1, label="ens")
        ...     out = nengo.Node(size_in=1)
        ...     conn = nengo.Connection(ens, out, label="read-out")
        >>> with nengo_dl.Simulator(net) as sim:
        ...     print(sim.summary().splitlines()[2])
        ensembles['ens']         50 LIF   encoders (50, 1), bias (50,)  100    training
        """
        return summary(self._live.parameters.entries)

    def count_params(self) -> int:
        """How many numbers the parameters of the network consist of, trained or not.

        Encoders, biases, and weights or decoders of connections and probes; variables of
        Keras layers in the network. See `summary`.

        Returns
        -------
        int
        """
        return count(self._live.parameters.entries)

    # running ---------------------------------------------------------------------

    @in_turn
    def run(
        self,
        time_in_seconds: float,
        progress_bar: bool | ProgressBar | None = None,
        **kwargs: Unpack[RunArguments],
    ) -> None:
        """Simulate for a length of time, rounded to the nearest number of steps.

        Parameters
        ----------
        time_in_seconds : float
            At least 0.
        progress_bar : bool or ~nengo.utils.progress.ProgressBar, optional
            Overrides the simulator's.
        **kwargs
            See `run_steps`.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the time is negative, infinite, or no number.
        ~nengo.exceptions.SimulatorClosed
        """
        self._require_open("run")
        n_steps = steps_of(time_in_seconds, self.dt, self)
        if n_steps == 0:
            warn(
                f"{time_in_seconds} results in running for 0 timesteps. Simulator still "
                f"at time {self.time}. A step takes {self.dt} seconds"
            )
            return
        self.run_steps(n_steps, progress_bar=progress_bar, **kwargs)

    @in_turn
    def run_steps(
        self,
        n_steps: int | None = None,
        data: Any = None,
        progress_bar: bool | ProgressBar | None = None,
        stateful: bool = True,
        *,
        spiking: bool | None = None,
        **older: Any,
    ) -> None:
        """Simulate exactly this number of steps.

        Parameters
        ----------
        n_steps : int
            How many; core Nengo's name for it, ``steps``, is taken as well.
        data : array or list or dict, optional
            Values of input nodes, ``(minibatch_size, n_steps, size)``, without a
            ``minibatch_size`` also ``(n_steps, size)``: one array, a list in the order of
            the nodes, or a dict by node or name. Nodes without data run their own output.
        progress_bar : bool or ~nengo.utils.progress.ProgressBar, optional
            Overrides the simulator's.
        stateful : bool
            False: the state, time included, is put back afterwards.
        spiking : bool, optional
            False: spiking neurons run in their rate form, which is what `fit` trains by
            default. True: as spikes, also with ``learning_phase=True``. None: as the
            setting ``learning_phase`` says, spikes by default. Other neurons run as they
            are, and Keras layers behave in all of these as ``learning_phase`` says.
        **older
            ``input_feeds``, the older name of ``data``, with a ``DeprecationWarning``.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the data do not fit.
        ~nengo.exceptions.SimulatorClosed

        Notes
        -----
        If a Python function of the network raises, the data of the steps before are
        kept, and the simulation can go on.

        One thread at a time: another one that runs or changes the simulator waits.

        What a neuron's two forms have in common (filters behind it, the adaptation of
        `nengo.AdaptiveLIF`) goes on when steps of one follow steps of the other. Rates
        have no membrane potential: voltages and refractory times wait until spikes run
        again, and go on as they were.

        Examples
        --------
        The same network with spikes and with rates, from the same state:

        >>> with nengo.Network(seed=0) as net:
        ...     ens = nengo.Ensemble(10, 1)
        ...     probe = nengo.Probe(ens.neurons)
        >>> with nengo_dl.Simulator(net) as sim:
        ...     sim.run_steps(20, stateful=False, spiking=False)
        ...     rates = sim.data[probe]
        ...     sim.clear_probes()
        ...     sim.run_steps(20)
        ...     spikes = sim.data[probe]
        >>> len(np.unique(spikes)), len(np.unique(rates)) > 2
        (2, True)
        """
        self._require_open("run")
        form = None if spiking is None else self._form(spiking)
        n_steps = older.pop("steps", None) if n_steps is None else n_steps
        n_steps = whole_steps(n_steps, self)
        data = older_data("run_steps", data, older) if older else data
        arrays = self._data_by_signal(data, n_steps)
        live, program = self._live, self._program
        live.pull()
        before = None if stateful and self.stateful else live.snapshot()
        shown = self.progress_bar if progress_bar is None else progress_bar
        try:
            with progress(shown, "Simulating", n_steps) as bar, between_steps() as ctrl_c:
                done = 0
                steps = (live.n_steps, n_steps)
                for seen in program.run(*steps, arrays, form, bar.compiling):
                    self._record_seen(seen)
                    done += seen.steps
                    bar.update(done)
                    ctrl_c.check()
        except BaseException:
            program.settle_at(live.n_steps)
            raise
        finally:
            if before is not None:
                live.restore(before)
                self.data.reset()

    def step(self, **kwargs: Unpack[StepArguments]) -> None:
        """Advance the simulation by one step (``dt`` seconds).

        Parameters
        ----------
        **kwargs
            See `run_steps`; no progress is shown.
        """
        if self.closed:
            raise SimulatorClosed("Simulator cannot run because it is closed.")
        # as `in_turn`, without the cost of a wrapper
        turns = self._turns
        if turns.holder is not None:
            turns.refuse_inside("step")
        with turns.lock:
            before, turns.holder = turns.holder, "step"
            try:
                self._step(kwargs)
            except Exception as error:
                turns.add_place(error)
                raise
            finally:
                turns.holder = before

    def _step(self, kwargs):
        """See `step`; quickly, if nothing but a step of NumPy is to be done."""
        rows = None
        if not kwargs and self.stateful:
            live = self._live
            if live.banks is not None or live.parameters.layers.variables:
                live.pull()
            try:
                rows = self._program.step(live.n_steps)
                if type(rows) is Seen:
                    self._record_seen(rows)
                elif rows is not None:
                    self._record(rows)
            except BaseException:
                self._program.settle_at(live.n_steps)
                raise
        if rows is None:
            self.run_steps(1, **{"progress_bar": False, **kwargs})

    def _record_seen(self, seen):
        """Store what probes saw and move time on."""
        first = self._live.n_steps + 1
        marks = [log.mark() for log in self._logs.values()]
        try:
            for rows, probes, sampled in seen.parts:
                for probe, start, stop in probes:
                    log, values = self._logs[probe], rows[:, start:stop]
                    if sampled:
                        log.add(values)
                    else:
                        log.append(values, first)
            self._recorded.add(first, seen.steps)
            self._live.n_steps += seen.steps
        except BaseException:  # an interrupt: all of it, or nothing
            if self._live.n_steps < first:
                for log, mark in zip(self._logs.values(), marks, strict=True):
                    log.undo(mark)
                self._recorded.undo(first)
            raise

    def _record(self, rows):
        """Store probe data of one step ``(1, rows, batch)`` and move time on."""
        first = self._live.n_steps + 1
        try:
            for probe, start, stop in self._program.probe_rows:
                self._logs[probe].append(rows[:, start:stop], first)
            self._recorded.add(first, len(rows))
            self._live.n_steps += len(rows)
        except BaseException:  # an interrupt: all of it, or nothing
            if self._live.n_steps < first:
                for log in self._logs.values():
                    log.undo_step(rows)
                self._recorded.undo(first)
            raise

    def _data_by_signal(self, data, n_steps):
        if data is None:
            return {}
        arrays, _ = resolve_data(
            data,
            self._nodes,
            self._batch,
            n_steps,
            where="Simulator.run_steps",
            names=self._node_names,
            dtype=self.dtype,
            one_item=self.minibatch_size is None,
        )
        return {source_key(self.model.sig[node]["out"]): a for node, a in arrays.items()}

    @in_turn
    def reset(
        self,
        seed: int | None = None,
        include_trainable: bool = True,
        include_probes: bool = True,
        include_processes: bool = True,
    ) -> None:
        """Back to the first step.

        Parameters
        ----------
        seed : int, optional
            A new seed; see `Simulator`. It changes what is random while running, not the
            built objects.
        include_trainable : bool
            Also give all parameters the values that they were built with. False keeps
            what was trained, loaded or learned online.
        include_probes : bool
            Also forget all probe data.
        include_processes : bool
            Also start all processes and random numbers afresh.

        Raises
        ------
        ~nengo.exceptions.SimulatorClosed
        """
        if self.closed:
            raise SimulatorClosed("Cannot reset closed Simulator.")
        if seed is not None:
            self.seed = seed_number(seed, self._batch)
        kept = {}
        if include_trainable:
            self._live.reset_parameters()
        else:
            kept = self._live.learned()
        if include_processes:
            self._process_seed = self.seed
            self._live.epochs = 0
        self._program.reset(self.seed, processes=include_processes)
        if include_processes:
            self._beginning = Beginning(self._program)
        self._program.store.values.update(kept)
        self._live.n_steps = 0
        if include_probes:
            self.clear_probes()
        self.data.reset()

    @in_turn
    def clear_probes(self) -> None:
        """Forget all probe data; the simulation goes on where it is."""
        for log in self._logs.values():
            log.clear()
        self._recorded.clear()
        self.data.reset()

    def trange(
        self, sample_every: float | None = None, dt: float | None = None
    ) -> np.ndarray:
        """The times of the probe data that there are.

        These are all steps run so far, but for those before probes were cleared, or
        before state was loaded into this simulator.

        Parameters
        ----------
        sample_every : float, optional
            A probe's sampling period in seconds, if it has one.
        dt : float, optional
            Older name of ``sample_every``.

        Returns
        -------
        ndarray
            In seconds; the first step ends at ``dt``.
        """
        if dt is not None:
            if sample_every is not None:
                raise ValidationError(
                    "Cannot specify both `dt` and `sample_every`. Use `sample_every` "
                    "only.",
                    attr="dt",
                    obj=self,
                )
            warn("`dt` is deprecated. Use `sample_every` instead.", DeprecationWarning)
            sample_every = dt
        period = 1 if sample_every is None else sample_every / self.dt
        steps = self._recorded.numbers
        return self.dt * steps[steps % period < 1]

    def get_name(self, obj: Node | Probe) -> str:
        """The name of an input node or a probe, unique in its network.

        It is the name of the node's input or the probe's output in `keras_model`, and a
        key for the data of nodes and the targets of probes.

        Parameters
        ----------
        obj : ~nengo.Node or ~nengo.Probe
            An input node (one without inputs itself), or a probe.

        Returns
        -------
        str

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If it is something else, or not of this network.
        """
        names = {**self._node_names, **self._probe_names()}
        if obj not in names:
            raise ValidationError(
                f"{obj} has no name here; input nodes and probes of this network have: "
                f"{', '.join(map(repr, names.values())) or 'there are none'}",
                attr="get_name",
                obj=self,
            )
        return names[obj]

    # closing ---------------------------------------------------------------------

    @in_turn
    def close(self) -> None:
        """Free the simulator; its data stay readable, nothing can be run any more."""
        if self.closed:
            return
        self._live.close()
        self.closed = True
        program_cache.publish()
        self._program = None
        self._keras = None

    def _require_open(self, what):
        if self.closed:
            raise SimulatorClosed(f"Simulator cannot {what} because it is closed.")

    def __enter__(self) -> Self:
        if self.closed:
            raise SimulatorClosed("Cannot re-open after simulator is closed")
        self._defaults.enter_context(tensorflow_defaults(self.device, self.dtype))
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        try:
            self._defaults.close()
        finally:
            self.close()

    def __del__(self):
        if not getattr(self, "closed", True):
            warn(
                f"Simulator of {label_of(self.network)} was deallocated while open. "
                "Please close simulators manually to ensure resources are properly "
                "freed: sim.close(), or a with block",
                ResourceWarning,
            )
