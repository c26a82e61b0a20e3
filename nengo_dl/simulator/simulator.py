"""The drop-in replacement for ``nengo.Simulator``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import ReadonlyError, SimulatorClosed, ValidationError
from nengo.utils.numpy import maxint

import nengo_dl.kernels  # noqa: F401  (registers all kernels)
from nengo_dl import program_cache
from nengo_dl.compat.older import (
    OLDER,
    as_keras_optimizer,
    older_options,
    older_saving,
)
from nengo_dl.config import (
    get_setting,
    warn_misplaced_settings,
)
from nengo_dl.heap import without_collecting
from nengo_dl.notices import checks_keywords, label_of, warn
from nengo_dl.runtime.observation import Observation
from nengo_dl.simulator.arguments import (
    CompileArguments,
    EvaluateArguments,
    FitArguments,
    PredictArguments,
)
from nengo_dl.simulator.building import (
    available_device,
    built_model,
    new_program,
    no_attribute,
    pass_on_advice,
    positive_int,
    probe_logs,
    seed_number,
    warn_of_overflow,
)
from nengo_dl.simulator.data import SignalValues, count, summary
from nengo_dl.simulator.parts import describe_parts
from nengo_dl.simulator.run import Run, progress, run, run_steps, step, trange
from nengo_dl.simulator.saving import Files, set_state, state_of
from nengo_dl.training.inputs import input_nodes, nodes_names
from nengo_dl.training.parameters import LiveState, ParameterStore
from nengo_dl.training.sharing import Turns, in_turn, tensorflow_defaults
from nengo_dl.training.trainer import ProbeDict, Trainer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from nengo import Network, Node, Probe
    from nengo.builder import Model
    from nengo.utils.progress import ProgressBar
    from typing_extensions import Self, Unpack

    from nengo_dl.runtime.program import Program
    from nengo_dl.simulator.arguments import OlderOptions, RunArguments, StepArguments
    from nengo_dl.training.tensor_graph import TensorGraph


class Simulator:
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
        TensorFlow device, such as ``"/cpu:0"`` or ``"/gpu:0"``. Default: the CPU for
        forward steps outside of TensorFlow, else TensorFlow's choice.
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
        If the network contains something that cannot be run, not even as Python.
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

    #: what `train` of earlier versions compiled last
    _older_compiled: tuple[Any, Any, Any] | None = None

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
        self._older = older_options(older, Simulator.__init__)
        self.minibatch_size = minibatch_size
        if minibatch_size is not None:
            self.minibatch_size = positive_int("minibatch_size", minibatch_size, self)
        self.unroll_simulation = positive_int(
            "unroll_simulation", unroll_simulation, self
        )
        self.device = available_device(device)
        self.progress_bar = progress_bar
        self.optimize = optimize
        number: Any = seed_number(seed, self.minibatch_size or 1)
        self.model = built_model(network, dt, model, progress_bar, self.device)
        self.network = self.model.toplevel if network is None else network
        own: Any = None if network is None else network.seed
        if number is None:
            number = np.random.randint(maxint) if own is None else own + 1
        with progress(progress_bar, "Compiling"), without_collecting():
            self._assemble(number)
            self._program.compile()
            self._run.begin(self.seed)
        self.closed = False

    def _assemble(self, seed: int) -> None:
        """Everything around the built model, with the values that it was built with."""
        network, model, batch = self.network, self.model, self.minibatch_size
        if network is not None:
            warn_misplaced_settings(network)
            pass_on_advice(network)
        self.dtype = np.dtype(self._older["dtype"] or get_setting(network, "dtype"))
        self.stateful = get_setting(network, "stateful")
        self.inference_only = get_setting(network, "inference_only")
        parameters = ParameterStore(model, self.dtype)
        warn_of_overflow(parameters)
        logs = probe_logs(model, network, batch, self.dtype)
        nodes = nodes_names(input_nodes(network))
        self._turns = Turns(model)
        program = new_program(self, parameters, logs)
        self._live = LiveState(program, parameters, seed)
        about = (network, model, self._live)
        self._run = Run(*about, logs, nodes, self._turns, batch is None)
        self.data = self._run.data
        keep_history = {probe: log.keep_history for probe, log in logs.items()}
        more = (keep_history, self._turns, batch is None, progress)
        self._trainer = Trainer(*about, nodes, *more)
        self._files = Files(self._run)
        self._defaults = contextlib.ExitStack()

    # state -----------------------------------------------------------------------

    if not TYPE_CHECKING:  # a type checker would believe that it has any attribute

        def __getattr__(self, name):
            if hasattr(type(self), name):  # a property that failed: its error says why
                return object.__getattribute__(self, name)
            raise no_attribute(self, name)

    def __dir__(self) -> list[str]:
        """All names but the older ones, which completion need not offer."""
        return sorted(set(super().__dir__()) - OLDER.keys())

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
    def dt(self, value: float) -> None:
        raise ReadonlyError(attr="dt", obj=self)

    @property
    def n_steps(self) -> int:
        """(int) Number of steps run so far."""
        return self._live.n_steps

    @property
    def seed(self) -> int:
        """(int) Seed of what is random while the simulation runs."""
        return self._live.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self._live.seed = value

    @property
    def _program(self) -> Program:
        return self._live.program

    @property
    def time(self) -> float:
        """(float) Simulated time in seconds."""
        return self.n_steps * self.dt

    @property
    def signals(self) -> SignalValues:
        """(SignalValues) Present values of all signals; see there for what it costs."""
        self._require_open("look at signals")
        if self._program.observation is None:
            self._turns.call("signals", self._observe)
        return self._signals

    def _observe(self) -> None:
        self._live.pull()
        self._program.observation = Observation(self._program, self.n_steps)
        self._signals = SignalValues(self)

    @property
    def tensor_graph(self) -> TensorGraph:
        """The Keras layer that holds the network; see also its ``describe()``."""
        return self._trainer.side("tensor_graph").layer

    @property
    def keras_model(self) -> keras.Model:
        """The ``keras.Model`` that trains and evaluates the network."""
        return self._trainer.side("keras_model").model

    @in_turn
    def describe(self, html: bool = False, *, parts: int | None = None) -> str:
        """What the compiler made of the network: passes, kernels, sizes, timings.

        At the end is how often the network was compiled and arranged since the simulator
        was made, and what for: once for each of its uses, such as training.

        Parameters
        ----------
        html : bool
            Give a web page with drawings, to be written to a file, instead of text.
        parts : int, optional
            Tell instead what the network would be in so many parts, on several machines:
            its strongly connected components, and for each part its neurons, the values
            that would cross in each step, and between how many parts.

        Returns
        -------
        str
        """
        self._require_open("describe")
        if parts is not None:
            number = positive_int("parts", parts, self)
            return describe_parts(self.network, number)
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
        run(self, time_in_seconds, {"progress_bar": progress_bar, **kwargs})

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
        run_steps(self, n_steps, data, progress_bar, stateful, spiking, older)

    def step(self, **kwargs: Unpack[StepArguments]) -> None:
        """Advance the simulation by one step (``dt`` seconds).

        Parameters
        ----------
        **kwargs
            See `run_steps`; no progress is shown.
        """
        step(self, kwargs)

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
        number = seed_number(seed, self.minibatch_size or 1)
        self.seed = self.seed if number is None else number
        self._run.reset(include_trainable, include_probes, include_processes)

    @in_turn
    def clear_probes(self) -> None:
        """Forget all probe data; the simulation goes on where it is."""
        self._run.clear_probes()

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

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the period is no positive number.
        """
        return trange(self, sample_every, dt)

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
        names: dict[Any, str] = {**self._run.nodes, **self._trainer.names}
        if obj not in names:
            raise ValidationError(
                f"{label_of(obj)} has no name here; input nodes and probes of this "
                "network have: "
                f"{', '.join(map(repr, names.values())) or 'there are none'}",
                attr="get_name",
                obj=self,
            )
        return names[obj]

    # training --------------------------------------------------------------------

    @in_turn
    @checks_keywords(CompileArguments)
    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **kw: Unpack[CompileArguments],
    ) -> None:
        """Choose how to train and evaluate.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
        loss, loss_weights : optional
            One value for all probes, a list in the order of the probes, or a dict by
            probe or its name. Probes without a loss need no targets. Of one loss for all
            probes, those take part that targets are given for.
        metrics : optional
            A list of metrics for all probes, a list of such lists in the order of the
            probes, or a dict of them by probe or its name.
        **kw
            See ``keras.Model.compile``. ``jit_compile`` concerns what is around the
            network; the network's own loop is compiled according to the setting ``jit``.
            With "auto", the default, XLA compiles whole training steps where it makes
            them faster: networks without state and without convolutions, trained on
            arrays. Give False if a loss or a metric cannot be compiled.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a probe is unknown, or a list does not have one value for each probe.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     probe = nengo.Probe(nengo.Ensemble(20, 1))
        >>> with nengo_dl.Simulator(net) as sim:
        ...     sim.compile(keras.optimizers.Adam(1e-3), loss={probe: "mse"})
        """
        optimizer = as_keras_optimizer(optimizer, "Simulator.compile")
        self._trainer.compile(optimizer, loss, metrics, loss_weights, {**kw})

    @in_turn
    @checks_keywords(FitArguments)
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        strategy: tf.distribute.Strategy | None = None,
        **kwargs: Unpack[FitArguments],
    ) -> keras.callbacks.History:
        """Train the network; see ``keras.Model.fit``.

        Spiking neurons run in their rate form, or as spikes if the network has the
        setting ``spiking_training``. What gets no gradient is named in a warning.

        Parameters
        ----------
        x : array or list or dict or tf.data.Dataset or iterator or PyDataset
            Data for the input nodes, ``(items, steps, size)``: one array, a list in the
            order of the nodes, or a dict by node or its name. Any number of items.
            Nodes without data run their own output.

            Or batch by batch, each of at most ``minibatch_size`` items: elements of a
            ``tf.data.Dataset``, of a generator or of a ``keras.utils.PyDataset`` are
            ``(x, y)`` or ``(x, y, sample_weight)``, each in the form that the argument
            has. They may differ in their number of items and steps.
        y : array or list or dict
            Targets for the probes, ``(items, steps, size)``, of weights and encoders
            ``(items, steps, rows, columns)``; one step for probes that keep no history.
            Whole numbers ``(items, steps, 1)`` are numbers of classes. None, if ``x``
            gives them.
        n_steps : int, optional
            Number of steps, if the data do not tell it.
        stateful : bool
            Carry the state from batch to batch, and keep it afterwards. False: each
            batch starts from the state as it is now.
        strategy : tf.distribute.Strategy, optional
            What shares the items of each batch between devices or processes. Losses,
            metrics and weights are those of one process with the whole batch; see
            :doc:`/scaling`. ``minibatch_size`` is then that of each replica, and
            ``batch_size`` that of all together, by default ``minibatch_size`` times their
            number. Nothing has to be made in ``strategy.scope()``.
        **kwargs
            See ``keras.Model.fit``. ``validation_data`` are ``(x, y)``, ``(x, y,
            sample_weight)``, or come batch by batch like ``x``. ``sample_weight`` is one
            array for all probes or a list or dict of them, ``(items,)`` or ``(items,
            steps)``. ``class_weight`` is for targets of one probe that are numbers of
            classes. Validation runs neurons as ``evaluate`` does, or as the setting
            ``validation`` says: by default as rates, if these are trained and the
            validation data have one step. By default ``batch_size`` is
            ``minibatch_size``, and items are shuffled unless the call is stateful. The
            order of arrays follows the simulator's seed and the number of the epoch,
            which counts on from call to call until ``reset``, or from ``initial_epoch``.

        Returns
        -------
        keras.callbacks.History
            With the keys ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``, and
            the same with ``"val_"`` in front.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If data or targets do not fit, or are NaN or infinite.
        ~nengo.exceptions.SimulationError
            If the network is set to ``inference_only`` or was not compiled; or if, after
            an epoch, some parameter has values that are NaN or infinite. With the
            callback ``keras.callbacks.TerminateOnNaN`` training then ends with a warning.
            If the processes of a strategy were given different things, or one of them
            was lost.

        Notes
        -----
        Weights that are learned online go on to be learned, also with
        ``stateful=False``.

        Losses and metrics are means over all items, also if the last batch has fewer.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     a = nengo.Node([0.0], label="in")
        ...     b = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
        ...     connection = nengo.Connection(a, b, synapse=None)
        ...     probe = nengo.Probe(b, label="out")
        >>> x = np.random.uniform(-1, 1, size=(64, 1, 1))
        >>> with nengo_dl.Simulator(net, minibatch_size=32) as sim:
        ...     sim.compile("adam", loss="mse")
        ...     history = sim.fit(x[:32], x[:32] ** 2, epochs=2, verbose=0)

        The same data in another form:

        >>> data = tf.data.Dataset.from_tensor_slices(({"in": x}, {"out": x**2}))
        >>> with nengo_dl.Simulator(net, minibatch_size=32) as sim:
        ...     sim.compile("adam", loss="mse")
        ...     history = sim.fit(data.batch(32), epochs=2, verbose=0)
        >>> len(history.history["loss"])
        2
        """
        return self._trainer.fit(x, y, n_steps, stateful, strategy, {**kwargs})

    @in_turn
    @checks_keywords(EvaluateArguments)
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
        strategy: tf.distribute.Strategy | None = None,
        **kwargs: Unpack[EvaluateArguments],
    ) -> dict[str, float]:
        """Losses and metrics on data; see ``keras.Model.evaluate``.

        Parameters
        ----------
        x, y, n_steps, stateful, strategy
            See `fit`. Neurons run as they are, spiking ones with spikes.
        spiking : bool, optional
            False: spiking neurons run in their rate form; see `run_steps`.

        Returns
        -------
        dict
            ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``.
        """
        about = (x, y, n_steps, stateful, spiking, strategy)
        return self._trainer.evaluate(*about, {**kwargs})

    @in_turn
    @checks_keywords(PredictArguments)
    def predict(
        self,
        x: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
        **kwargs: Unpack[PredictArguments],
    ) -> ProbeDict:
        """Run the network on data; see ``keras.Model.predict``.

        Parameters
        ----------
        x, n_steps, stateful
            See `fit`.
        spiking : bool, optional
            False: spiking neurons run in their rate form; see `run_steps`.

        Returns
        -------
        dict
            Probe (or its name) -> array ``(items, steps, size)``; of one step for
            probes that keep no history, else of all steps, whatever ``sample_every`` the
            probe has.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     a = nengo.Node([0.0])
        ...     b = nengo.Ensemble(20, 2)
        ...     connection = nengo.Connection(a, b[0])
        ...     probe = nengo.Probe(b, synapse=0.01)
        >>> with nengo_dl.Simulator(net, minibatch_size=8) as sim:
        ...     outputs = sim.predict(np.ones((20, 100, 1)))
        >>> outputs[probe].shape
        (20, 100, 2)
        """
        about = (x, n_steps, stateful, spiking, {"verbose": 0, **kwargs})
        return self._trainer.predict("predict", *about)

    @in_turn
    def predict_on_batch(
        self,
        x: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
    ) -> ProbeDict:
        """Run one batch of at most ``minibatch_size`` items as `predict` does."""
        about = (x, n_steps, stateful, spiking, {})
        return self._trainer.predict("predict_on_batch", *about)

    @in_turn
    def check_gradients(
        self,
        inputs: Any = None,
        outputs: Probe | Sequence[Probe] | None = None,
        atol: float = 1e-5,
        rtol: float = 1e-3,
    ) -> None:
        r"""Compare analytic gradients with numeric ones.

        For each probe, its data :math:`y` over all steps and items are weighted at
        random, :math:`L = \sum_i r_i y_i / \sqrt n`. Every array :math:`a` that training
        may change, and every input, is moved by a small :math:`\epsilon` in a few
        directions :math:`d`, some of them along single elements. Then

        .. math::

           \frac{L(a + \epsilon d) - L(a - \epsilon d)}{2 \epsilon}
           \approx \sum_i \frac{\partial L}{\partial a_i} d_i

        has to hold, where the right side is computed by going back through time, as in
        `fit`. All is computed in float64, whatever the network's type, from the present
        state and the present parameters; the simulation is not changed. Functions of
        tensors compute in their own type; in float32, :math:`\epsilon` is larger, and so
        is what is lost to rounding: ``atol`` is at least 1e-4 then.

        Parameters
        ----------
        inputs : array or list or dict, optional
            Data for the input nodes, as for `fit`, of at most ``minibatch_size`` items.
            Default: what the nodes put out by themselves, for 10 steps.
        outputs : list of ~nengo.Probe or ~nengo.Probe, optional
            The probes to look at. Default: all.
        atol, rtol : float
            Two derivatives :math:`p` (analytic) and :math:`q` may differ by
            :math:`\mathrm{atol} + \mathrm{rtol} |q|`.

        Raises
        ------
        ~nengo.exceptions.SimulationError
            If they differ by more. The message names the probe, the parameter or input,
            and the operations of a step whose own gradient is wrong.
        ~nengo.exceptions.ValidationError
            If data or probes do not fit.

        Notes
        -----
        Spiking neurons are checked in their rate form, because the gradient of a spike
        is a surrogate and not the derivative of anything; with ``lif_smoothing``, too,
        the derivative of the rates themselves is compared. Python functions are called
        many times, and have no gradient: what depends on parameters through one of them
        is reported as different. Where a small move crosses a kink (of a neuron at its
        threshold, say), any derivative between those of both sides is right.

        Examples
        --------
        >>> with nengo.Network(seed=0) as net:
        ...     nengo_dl.configure_settings(dtype="float64")
        ...     node = nengo.Node([0.5])
        ...     ens = nengo.Ensemble(5, 1, neuron_type=nengo.Tanh())
        ...     connection = nengo.Connection(node, ens, synapse=None)
        ...     probe = nengo.Probe(ens)
        >>> data = {node: np.ones((1, 2, 1))}
        >>> with nengo_dl.Simulator(net) as sim:
        ...     sim.check_gradients(data, outputs=[probe], rtol=1e-4)
        """
        from nengo_dl.training.gradients import check_gradients  # it needs TensorFlow

        check_gradients(self._trainer, inputs, outputs, atol, rtol)

    # parameters ------------------------------------------------------------------

    @in_turn
    def save_params(
        self, path: str | os.PathLike[str], include_state: bool = False, **older: bool
    ) -> None:
        """Write all parameters to a file.

        Parameters
        ----------
        path : str or path-like or binary file
            ``.npz`` is added if it is missing. A file of this name keeps its mode, owner
            and links. Or a file that is open for writing, such as an ``io.BytesIO``.
        include_state : bool
            Also write the state of the simulation: voltages, filters, random numbers,
            what processes keep, time. `load_params` then goes on where this was.
        **older
            Its names in earlier versions, with a ``DeprecationWarning``.

        Raises
        ------
        OSError
            If the file cannot be written; one that was there stays as it was.
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite, or, with
            ``include_state``, if something keeps state that no file can hold. Nothing is
            written then.
        ~nengo.exceptions.SimulatorClosed
        """
        include_state = older_saving("save_params", include_state, older)
        self._require_open("save parameters")
        self._files.save(path, include_state)

    @in_turn
    def load_params(
        self, path: str | os.PathLike[str], include_state: bool = False, **older: bool
    ) -> None:
        """Read parameters that `save_params` wrote, for a network of the same form.

        The network may differ in what has no parameters: in the types of its neurons
        (trained as rates, run with spikes), in its synapses, in ``minibatch_size`` and
        in ``dtype``.

        Parameters
        ----------
        path : str or path-like or binary file
            Or a file that is open for reading, such as an ``io.BytesIO``.
        include_state : bool
            Also read the state of the simulation. It depends on ``minibatch_size`` and
            on the types of neurons and synapses. False: if there is state in the file,
            it is passed over.
        **older
            Its names in earlier versions, with a ``DeprecationWarning``.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the file does not fit, is damaged, or holds what parameters cannot be
            (NaN, infinite or complex numbers, numbers too large for ``dtype``, weights
            beyond the bounds of their learning rule). Nothing is changed then.
        ~nengo.exceptions.SimulatorClosed

        Warns
        -----
        UserWarning
            If weights are beyond the bounds of their rule where another one may have led
            them, such as `.learning_rules.Normalize`; they start on the bounds.
        """
        include_state = older_saving("load_params", include_state, older)
        self._require_open("load parameters")
        self._files.load(path, include_state)

    @in_turn
    def freeze_params(self, objs: Any) -> None:
        """Write the present parameters into Nengo objects.

        The network then gives the same output in core ``nengo.Simulator``.

        Parameters
        ----------
        objs : Network, Ensemble, Connection or Probe, or a list of them
            Of a network, everything inside.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite; nothing is changed.
        """
        self._files.freeze(objs)

    @in_turn
    def get_nengo_params(self, objs: Any, as_dict: bool = False) -> Any:
        """The present parameters as keyword arguments for new Nengo objects.

        Parameters
        ----------
        objs : Ensemble, its neurons, or Connection, or a list of them
        as_dict : bool
            Give a dict by the objects' labels instead of a list.

        Returns
        -------
        dict or list of dict

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite.
        """
        return self._files.nengo_params(objs, as_dict)

    # copies ----------------------------------------------------------------------

    @in_turn
    def __getstate__(self) -> dict[str, Any]:
        return state_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_state(self, state)

    # closing ---------------------------------------------------------------------

    @in_turn
    def close(self) -> None:
        """Free the simulator; its data stay readable, nothing can be run any more."""
        if self.closed:
            return
        self._live.close()
        self.closed = True
        program_cache.publish()
        self._trainer.close()

    def _require_open(self, what: str) -> None:
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

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            warn(
                f"Simulator of {label_of(self.network)} was deallocated while open. "
                "Please close simulators manually to ensure resources are properly "
                "freed: sim.close(), or a with block",
                ResourceWarning,
            )


for _name, _member in OLDER.items():
    setattr(Simulator, _name, _member)
