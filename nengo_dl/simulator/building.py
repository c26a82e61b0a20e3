"""What a simulator is made of, checked, and the build."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Network
from nengo.builder import Model
from nengo.builder.operator import Operator
from nengo.cache import NoDecoderCache
from nengo.ensemble import Neurons
from nengo.exceptions import BuildError, ValidationError
from nengo.rc import rc

from nengo_dl.builder import NengoBuilder
from nengo_dl.compiler.common import Common
from nengo_dl.compiler.pipeline import Strategies
from nengo_dl.config import (
    get_setting,
    resolve_keep_history,
    resolve_shared_learning,
)
from nengo_dl.heap import without_collecting
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.models.plasticity import refuse_transforms
from nengo_dl.notices import label_of, warn
from nengo_dl.runtime.choice import forward_form, look_ahead
from nengo_dl.runtime.executor import Sampling
from nengo_dl.runtime.program import Program
from nengo_dl.simulator.data import ProbeLog
from nengo_dl.simulator.decoders import default_decoder_cache, solved_once
from nengo_dl.simulator.run import progress, real_number

#: neurons of networks up to which the first result is so near that it pays to begin with
#: what executors need; of larger ones some cannot use machine code, whose library takes
#: 40 MB
SOON_BUILT = 50_000

if TYPE_CHECKING:
    from nengo import Probe
    from nengo.utils.progress import ProgressBar

    from nengo_dl.simulator.simulator import Simulator
    from nengo_dl.training.parameters import ParameterStore

#: a device as TensorFlow writes it: kind and number of "/job:x/task:0/device:GPU:1"
DEVICE = re.compile(
    r"(?:/job:[^/]+)?(?:/replica:\d+)?(?:/task:\d+)?/?(?:device:)?"
    r"(?P<kind>[A-Za-z_]+):(?P<number>\d+)"
)

#: what the simulator of core Nengo has and a compiled network does not, and the way out
INSTEAD = {
    "dg": "operators were compiled; they are in sim.model.operators, and sim.describe() "
    "shows what became of them",
    "step_order": "no step functions are called one by one; sim.describe() shows what "
    "runs in which order",
    "rng": "random numbers are drawn where they are needed; np.random.RandomState("
    "sim.seed) gives what core Nengo starts from",
    "sess": "TensorFlow has no sessions any more; what a network computes is "
    "sim.keras_model, and its values are in sim.data and sim.signals",
}


def pass_on_advice(network: Network) -> None:
    """Warn of what those who made a network have left to be said when it is run.

    ``network``: it, or networks inside it, may have texts in an attribute ``advice``, as
    those of a `nengo_dl.Converter` do.
    """
    for net in (network, *network.all_networks):
        for text in getattr(net, "advice", ()):
            warn(text, once=("advice", text))


def no_attribute(sim: Any, name: str) -> AttributeError:
    """The error for an attribute that a simulator does not have."""
    advice = f": {INSTEAD[name]}" if name in INSTEAD else ""
    text = f"{type(sim).__name__!r} object has no attribute {name!r}{advice}"
    return AttributeError(text, name=name, obj=sim)


def positive_int(name: str, value: Any, obj: Any = None) -> int:
    """A whole number of at least 1.

    Raises `ValidationError` if it is something else.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValidationError(
            f"expected a whole number of at least 1, got {value!r}", attr=name, obj=obj
        )
    return int(value)


class PortableModel(Model):
    """A model whose pickles leave out the cache of decoders.

    Its index says where on this machine all decoders are that were ever cached, which is
    larger than most models. What is unpickled is built already.
    """

    _tries_steps = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tries_steps = rc["nengo.Simulator"].getboolean("fail_fast")
        super().__init__(*args, **kwargs)

    def add_op(self, op: Operator) -> None:
        """Add an operator; see ``nengo.builder.Model.add_op``.

        Nengo's setting ``fail_fast`` is looked up once, not for each operator.
        """
        if self._tries_steps:
            super().add_op(op)
        else:
            self.operators.append(op)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "decoder_cache": NoDecoderCache()}


def _soon_computes(network: Network) -> bool:
    """Whether a network is built soon, and has something to be computed in its steps."""
    neurons = network.n_neurons
    return 0 < neurons <= SOON_BUILT or (not neurons and bool(network.all_connections))


def built_model(
    network: Network | None,
    dt: float,
    model: Model | None,
    progress_bar: bool | ProgressBar | None,
    device: str | None = None,
) -> Model:
    """The model, with the network built into it, for a device.

    Raises `ValidationError` if there is neither a network nor a model, or something else,
    `BuildError` if rules that learn from spikes are to change weights that are no matrix.
    """
    check_network(network, model)
    setting = partial(get_setting, model if network is None else network)
    whole = model.toplevel if network is None and model is not None else network
    if whole is None or _soon_computes(whole):
        look_ahead(setting("executor"), setting("jit"), device)
    built: Any = model
    if model is None:
        built = PortableModel(
            dt=step_length(dt),
            label=f"{network}, dt={float(dt):f}",
            decoder_cache=default_decoder_cache(),
            builder=NengoBuilder(),
        )
    if network is not None:
        # the builder enters the task, as soon as it has counted the objects
        task = progress(progress_bar, "Building", last=False, slow_steps=True)
        workers = setting("decoder_executor")
        executor = None if workers is None else workers.executor
        with solved_once(built, network, executor), without_collecting():
            try:
                built.build(network, progress=task)
            except (NotImplementedError, BuildError):  # which do not name the connection
                refuse_transforms(network)
                raise
    return built


def probe_logs(
    model: Model, network: Network | None, minibatch_size: int | None, dtype: np.dtype
) -> dict[Probe, ProbeLog]:
    """The empty `ProbeLog` of each probe."""
    keep = {} if network is None else resolve_keep_history(network)
    return {
        probe: ProbeLog.of_probe(
            model, probe, minibatch_size, keep.get(probe, True), dtype
        )
        for probe in model.probes
    }


def sampling_of(logs: dict[Probe, ProbeLog]) -> Sampling:
    """Which probes are not recorded in each step.

    ``logs``: the `ProbeLog` of each probe.
    """
    last = {probe for probe, log in logs.items() if not log.keep_history}
    periods = {
        probe: log.period
        for probe, log in logs.items()
        if log.period > 1 or probe in last
    }
    return Sampling(periods, last)


def warn_of_overflow(parameters: ParameterStore) -> None:
    """Warn of what was built with numbers that single precision cannot hold."""
    names = [entry.name for entry in parameters.overflown()]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        limit = np.finfo(parameters.dtype).max
        warn(
            f"Simulator: {', '.join(names[:5])}{more} were built with numbers that "
            f"{parameters.dtype} cannot hold (it ends at {limit:.2g}), so they are "
            "infinite. Choose smaller units (a smaller radius), or call "
            "nengo_dl.configure_settings(dtype='float64') in the network"
        )


def strategies(network: Network | None) -> Strategies:
    """The settings of a network that choose among strategies of the compiler."""
    names = ("planner", "sorter", "simplifications")
    return Strategies(**{name: get_setting(network, name) for name in names})


def new_program(
    sim: Simulator, parameters: ParameterStore, logs: dict[Probe, ProbeLog]
) -> Program:
    """The built network of a simulator, to be compiled as its settings say."""
    setting = partial(get_setting, sim.network)
    program = Program(
        sim.model,
        parameters,
        sim.minibatch_size or 1,
        sim.dtype,
        jit=setting("jit"),
        unroll=sim.unroll_simulation,
        device=sim.device,
        use_loop=setting("use_loop"),
        strategies=strategies(sim.network),
        observed=parameters.learned,
        form=forward_form(setting("learning_phase"), setting("spiking_training")),
        executor=setting("executor"),
        tensor_float_32=setting("tensor_float_32"),
        common=learned_together(sim.model, sim.network),
    )
    program.sampling = sampling_of(logs)
    return program


def learned_together(model: Model, network: Network | None) -> dict[Any, Common]:
    """What is learned that all items of a batch share, by base signal.

    Those are the weights (or encoders), and the changes that each rule asks for; and
    thresholds of neurons.
    """
    found = {}
    shared = {} if network is None else resolve_shared_learning(network)
    for conn, how in shared.items():
        if isinstance(conn, Neurons):
            for name in _adapting(conn):
                found[model.sig[conn][name].base] = Common(how, conn)
            continue
        rules = conn.learning_rule
        rules = rules.values() if isinstance(rules, dict) else rules
        for rule in rules if isinstance(rules, Iterable) else [rules]:
            encoders = rule.learning_rule_type.modifies == "encoders"
            obj, attr = (conn.post_obj, "encoders") if encoders else (conn, "weights")
            for signal in (model.sig[obj][attr], model.sig[rule]["delta"]):
                found[signal.base] = Common(how, conn)
    return found


def _adapting(neurons: Neurons) -> tuple[str, ...]:
    """The state of neurons that items can share; `ValidationError` if there is none."""
    kernel = NeuronKernel.of(neurons.ensemble.neuron_type)
    names = () if kernel is None else kernel.adapting
    if not names:
        raise ValidationError(
            f"{label_of(neurons)} of type {type(neurons.ensemble.neuron_type).__name__} "
            "have nothing that the items of a batch could share; expected a type with "
            "thresholds that adapt, nengo_dl.AdaptiveThresholdLIF",
            attr="shared_learning",
        )
    return names


def available_device(device: str | None) -> str | None:
    """A device that there is.

    ``device``: what the user asks for. Returns: the same; the CPU if this machine does
    not have it. Raises `ValidationError` if this is no name of a device. Warns if this
    machine does not have it.
    """
    if device is None:
        return None
    match = DEVICE.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise ValidationError(
            f"expected a TensorFlow device such as '/cpu:0' or '/gpu:0', got {device!r}",
            attr="device",
        )
    kind, number = match["kind"].upper(), int(match["number"])
    if (kind, number) == ("CPU", 0):
        return device
    import tensorflow as tf  # it alone knows what there is

    found = tf.config.list_logical_devices(kind)
    if number < len(found):
        return device
    warn(
        f"the device {device!r} was asked for, but TensorFlow finds "
        f"{len(found) or 'no'} {kind}{'s' if len(found) > 1 else ''} here; running on "
        "the CPU instead. Leave device out to take what is there",
        once=("device", device),
    )
    return "/cpu:0"


# what simulators are called with: networks, times, seeds ------------------------

#: one more than the largest number that NumPy's generators take as a seed
SEEDS = 2**32


def step_length(dt: Any) -> float:
    """The length of a step in seconds: finite, and more than 0.

    Raises `ValidationError` if it is anything else.
    """
    seconds = real_number(dt)
    if seconds is None or not (math.isfinite(seconds) and seconds > 0):
        raise ValidationError(
            f"expected the length of a step in seconds, more than 0, such as 0.001; got "
            f"{dt!r}",
            attr="dt",
        )
    return seconds


def seed_number(seed: Any, items: int = 1) -> int | None:
    """A seed of random numbers, or None.

    ``items``: how many seeds there have to be from this one on: one for each batch item.
    Raises `ValidationError` if it is anything else.
    """
    if seed is None:
        return None
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= SEEDS - items:
        raise ValidationError(
            f"expected a whole number from 0 to {SEEDS - items}, or None for a random "
            f"one; got {seed!r}",
            attr="seed",
        )
    return int(seed)


def check_network(network: Any, model: Any) -> None:
    """What is to be simulated: a network, a built model, or both.

    Raises `ValidationError` if it is anything else.
    """
    if network is None and model is None:
        raise ValidationError(
            "either a network or a built model must be given; got None for both",
            attr="network",
        )
    if network is not None and not isinstance(network, Network):
        advice = "put what is to be simulated into a `with nengo.Network() as net:`"
        if isinstance(network, type):
            advice = f"make one: {network.__name__}(...)"
        elif isinstance(network, Model):
            advice = "write Simulator(None, model=...)"
        kind = type(network).__name__
        raise ValidationError(
            f"expected a nengo.Network, got {network!r} ({kind}); {advice}",
            attr="network",
        )
    if model is not None and not isinstance(model, Model):
        raise ValidationError(
            f"expected a nengo.builder.Model, got {model!r} ({type(model).__name__})",
            attr="model",
        )
