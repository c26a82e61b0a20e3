"""Brian2 and NEST beside ours, on webs of neurons that give one another spikes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import nengo
import numpy as np

from nengo_dl.benchmarks import beside
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import warm_up
from nengo_dl.benchmarks.timing import (
    check_positive,
    chosen_names,
    no_collection,
    seconds,
)
from nengo_dl.simulator import Simulator

COLUMNS = (
    *beside.COLUMNS,
    Column("spikes, ours", "spikes", ".2%", 7),
    Column("theirs", "their_spikes", ".2%", 7),
)

NOTES = f"""{beside.NOTES} LIF neurons that give one another their spikes, through weights
drawn at random and a filter of 5 ms; steps of 1 ms, one item, one thread. Spikes: neurons
that fire in a step. Brian2 is what it compiles to C++, in single precision, with the time
of its own clock around the run; NEST is its model iaf_psc_exp. Those that are not
installed are left out. Weights, drive, threshold and time constants are the same, the
order in which a step does things is not, so single spikes differ."""

TAU_RC, TAU_REF, TAU_SYNAPSE, DT = 0.02, 0.002, 0.005, 0.001
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class Web:
    """Neurons, and which of them give spikes to which.

    Parameters
    ----------
    n : int
        Neurons.
    fan_in : int or None
        From how many others each has its input; None: from all.
    """

    n: int
    fan_in: int | None = None

    @property
    def bias(self) -> np.ndarray:
        """What drives each of them: the threshold is 1."""
        return np.random.RandomState(1).uniform(0.9, 1.15, self.n) * 1.05

    @property
    def targets(self) -> np.ndarray:
        """The neuron behind each weight."""
        return np.repeat(np.arange(self.n), self.fan_in or self.n)

    @property
    def sources(self) -> np.ndarray:
        """The neuron before each weight; each pair comes once."""
        if self.fan_in is None:
            return np.tile(np.arange(self.n), self.n)
        rng = np.random.RandomState(2)
        rows = [rng.choice(self.n, self.fan_in, replace=False) for _ in range(self.n)]
        return np.concatenate(rows)

    @property
    def weights(self) -> np.ndarray:
        """What a spike adds to the integral of a target's input, in seconds."""
        fan_in = self.fan_in or self.n
        return np.random.RandomState(3).randn(self.n * fan_in) * 0.01 / np.sqrt(fan_in)


WEBS = {"sparse4000": Web(4000, 80), "dense1000": Web(1000)}
"""The webs that are measured."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """A simulator with a web in it.

    Parameters
    ----------
    name : str
        With its version.
    run : callable
        Runs some steps; returns the seconds that they took.
    share : callable
        The fraction of neurons that fired in a step of the last run.
    """

    name: str
    run: Callable[[], float]
    share: Callable[[], float]


def in_nengo(web: Web) -> nengo.Network:
    """The web as a network, with its spikes in ``spikes``.

    ``web``: which one.
    """
    with nengo.Network(seed=0) as net:
        neurons = nengo.LIF(tau_rc=TAU_RC, tau_ref=TAU_REF)
        ens = nengo.Ensemble(
            web.n, 1, gain=np.ones(web.n), bias=web.bias, neuron_type=neurons
        )
        shape = web.n, web.n
        if web.fan_in is None:
            transform: Any = web.weights.reshape(shape)
        else:
            places = np.column_stack([web.targets, web.sources])
            transform = nengo.Sparse(shape, indices=places, init=web.weights)
        nengo.Connection(
            ens.neurons, ens.neurons, transform=transform, synapse=TAU_SYNAPSE
        )
        net.spikes = ens.neurons
        nengo.Probe(ens.neurons[:16], synapse=0.01)
    return net


def _share_in_nengo(web: Web, steps: int) -> float:
    """The fraction of neurons that fire in a step."""
    net = in_nengo(web)
    with net:
        probe = nengo.Probe(net.spikes)
    with Simulator(net, progress_bar=False) as sim:
        sim.run_steps(steps, progress_bar=False)
        return float(np.count_nonzero(sim.data[probe]) / (steps * web.n))


def _of_nengo(simulator: type, net: nengo.Network, steps: int) -> Callable[[], float]:
    """Runs of a simulator of Nengo's networks."""
    sim = simulator(net, progress_bar=False)
    return lambda: seconds(lambda: sim.run_steps(steps, progress_bar=False))


def _core(web: Web, steps: int) -> Rival:
    return Rival(
        "nengo.Simulator",
        _of_nengo(nengo.Simulator, in_nengo(web), steps),
        lambda: _share_in_nengo(web, steps),
    )


def _brian2(web: Web, steps: int) -> Rival:
    """The web in Brian2, as a program in C++."""
    brian2 = import_module("brian2")
    brian2.BrianLogger.log_level_error()
    brian2.prefs.core.default_float_dtype = np.float32
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    brian2.device.reinit()
    brian2.set_device("cpp_standalone", directory=folder.name, build_on_run=False)
    brian2.start_scope()
    brian2.defaultclock.dt = DT * brian2.second
    neurons = brian2.NeuronGroup(
        web.n,
        """dv/dt = (bias + synapse - v) / tau_rc : 1 (unless refractory)
        dsynapse/dt = -synapse / tau_synapse : 1
        bias : 1""",
        threshold="v > 1",
        reset="v = 0",
        refractory=TAU_REF * brian2.second,
        method="exact",
        namespace={
            "tau_rc": TAU_RC * brian2.second,
            "tau_synapse": TAU_SYNAPSE * brian2.second,
        },
    )
    neurons.bias = web.bias
    synapses = brian2.Synapses(neurons, neurons, "w : 1", on_pre="synapse_post += w")
    synapses.connect(i=web.sources, j=web.targets)
    synapses.w = web.weights / TAU_SYNAPSE
    count = brian2.SpikeMonitor(neurons, record=False)
    net = brian2.Network(neurons, synapses, count)
    net.run(steps * DT * brian2.second, report=None, namespace={})
    device = brian2.device
    device.build(directory=folder.name, compile=True, run=False, with_output=False)

    def run(folder: Any = folder) -> float:  # which is there as long as this is
        device.run(directory=folder.name, with_output=False)
        return float(device._last_run_time)

    return Rival(
        f"Brian2 {brian2.__version__}",
        run,
        lambda: float(count.num_spikes / (web.n * steps)),
    )


def _nest(web: Web, steps: int) -> Rival:
    """The web in NEST."""
    with contextlib.redirect_stdout(io.StringIO()):
        nest: Any = import_module("nest")
    if hasattr(nest, "VerbosityLevel"):  # since NEST 3.10
        nest.verbosity = nest.VerbosityLevel.ERROR
    else:
        nest.set_verbosity("M_ERROR")
    nest.ResetKernel()
    nest.SetKernelStatus({"resolution": DT * 1000, "local_num_threads": 1})
    like_ours = {
        "tau_m": TAU_RC * 1000,
        "C_m": TAU_RC * 1000,
        "t_ref": TAU_REF * 1000,
        "tau_syn_ex": TAU_SYNAPSE * 1000,
        "tau_syn_in": TAU_SYNAPSE * 1000,
        "E_L": 0.0,
        "V_m": 0.0,
        "V_reset": 0.0,
        "V_th": 1.0,
    }
    neurons = nest.Create("iaf_psc_exp", web.n, params=like_ours)
    neurons.I_e = web.bias
    first = neurons[0].global_id
    nest.Connect(
        web.sources + first,
        web.targets + first,
        conn_spec="one_to_one",
        syn_spec={
            "weight": web.weights / TAU_SYNAPSE,
            "delay": np.full(len(web.weights), DT * 1000),
        },
    )

    def run() -> float:
        return seconds(lambda: nest.Simulate(steps * DT * 1000))

    def share() -> float:  # it counts anew in each run
        return float(nest.GetKernelStatus("local_spike_counter") / (web.n * steps))

    return Rival(f"NEST {nest.__version__}", run, share)


RIVALS: dict[str, Callable[[Web, int], Rival]] = {
    "core": _core,
    "brian2": _brian2,
    "nest": _nest,
}
"""What makes each of them."""


@measurement(COLUMNS, NOTES, beside.goals_met)
def rivals(
    webs: Names | None = None,
    simulators: Names | None = None,
    steps: int = 2000,
    repeats: int = 7,
) -> Iterator[Row]:
    """Measure webs of spiking neurons beside core, Brian2 and NEST, where these are.

    Parameters
    ----------
    webs : list of str or None
        By default all that are known here.
    simulators : list of str or None
        Which to measure beside ours; by default all that are installed.
    steps : int
        Of each run.
    repeats : int
        Rounds.

    Yields
    ------
    dict
        For each web and simulator.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    """
    check_positive(steps=steps, repeats=repeats)
    chosen = chosen_names("simulators", simulators, RIVALS)
    if simulators is None:
        chosen = [name for name in chosen if name == "core" or find_spec(name)]
    warm_up()
    for name in chosen_names("webs", webs, WEBS):
        web = WEBS[name]
        share = _share_in_nengo(web, steps)
        ours = _of_nengo(Simulator, in_nengo(web), steps)
        ours()
        for kind in chosen:
            yield _row(name, ours, RIVALS[kind](web, steps), steps, repeats, share)


def _row(
    name: str,
    ours: Callable[[], float],
    rival: Rival,
    steps: int,
    repeats: int,
    share: float,
) -> Row:
    """The figures of one of them."""
    rival.run()
    with no_collection():
        times = [(ours(), rival.run()) for _ in range(repeats)]
    return beside.beside_row(
        name,
        [t[0] for t in times],
        rival.name,
        [t[1] for t in times],
        "us/step",
        1.0,
        1e6 / steps,
        spikes=share,
        their_spikes=rival.share(),
    )
