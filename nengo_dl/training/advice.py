"""How neurons are to be trained, what to warn of before, and numbers that are none."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.exceptions import ValidationError

from nengo_dl.compiler.blocked_gradients import blocked_gradients
from nengo_dl.config import get_setting, resolve_surrogates
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.notices import text_of, warn
from nengo_dl.surrogates import RateDerivative, SpikeTraining
from nengo_dl.training.mapped import in_blocks

if TYPE_CHECKING:
    from nengo import Ensemble, Network, Probe
    from nengo.builder import Model, Signal

    from nengo_dl.training.parameters import ParameterStore
    from nengo_dl.training.tensor_graph import TensorGraph
    from nengo_dl.training.variant import Variant

#: of what there are many, so many are named
NAMED = 5


def spike_training(network: Network | None, model: Model) -> SpikeTraining:
    """What the settings of a network say about training spikes.

    ``model``: built from the network.
    """
    if network is None:
        return SpikeTraining()
    general = get_setting(network, "surrogate") or RateDerivative()
    own = {
        model.sig[ens.neurons]["out"]: surrogate or RateDerivative()
        for ens, surrogate in resolve_surrogates(network).items()
        if "out" in model.sig[ens.neurons]
    }
    return SpikeTraining(
        get_setting(network, "spiking_training"),
        general,
        tuple((signal, s) for signal, s in own.items() if s != general),
        get_setting(network, "lif_smoothing"),
    )


def warn_of_spikes_without_rates(model: Model) -> None:
    """Warn of neurons that spike also where rates are asked for."""
    for op in model.operators:
        if isinstance(op, SimNeurons) and op.neurons.spiking:
            kernel = NeuronKernel.of(op.neurons)
            if kernel is None or not kernel.has_rates():
                name = type(op.neurons).__name__
                warn(
                    f"spiking=False: neurons of the type {name} run as they are, with "
                    "spikes, because they have no rate form; to give them one, set "
                    "rate_form in their nengo_dl.builder.NeuronKernel",
                    once=("no rate form", name),
                )


def form_asked_for(model: Model, spiking: Any) -> bool | None:
    """The argument ``spiking`` of a call: True, False or None, as it is.

    ``model``: what is to run. Neurons without a rate form are warned of. Raises
    `ValidationError` if it is anything else.
    """
    if spiking is None:
        return None
    if not isinstance(spiking, bool | np.bool_):
        raise ValidationError(
            f"expected True, False or None, got {spiking!r}", attr="Simulator.spiking"
        )
    if not spiking:
        warn_of_spikes_without_rates(model)
    return bool(spiking)


def seldom_spiking(network: Network | None, model: Model) -> list[Ensemble]:
    """Ensembles whose neurons spike, but not in each step: one step says little.

    ``model``: built from the network. Returns those that have a rate form, and on average
    not one spike in a step at their highest rates.
    """
    found = []
    for ens in [] if network is None else network.all_ensembles:
        kernel = NeuronKernel.of(ens.neuron_type)
        if ens.neuron_type.spiking and kernel is not None and kernel.has_rates():
            rates = getattr(model.params.get(ens), "max_rates", None)
            if rates is not None and np.mean(rates) * model.dt < 1:
                found.append(ens)
    return found


def form_of_validation(
    network: Network | None, model: Model, steps: int | None
) -> bool | None:
    """Whether neurons spike while `Simulator.fit` validates; None: as they do otherwise.

    ``model``: built from the network. ``steps``: of the validation data, if there are
    some and if that is known.
    """
    choice = get_setting(network, "validation")
    if choice != "auto":
        return choice == "spikes"
    trains_rates = not get_setting(network, "spiking_training")
    undecided = get_setting(network, "learning_phase") is None
    if steps != 1 or not trains_rates or not undecided:
        return None
    seldom = seldom_spiking(network, model)
    if not seldom:
        return None
    warn(
        "Simulator.fit: the validation data have one step, so they are measured with the "
        f"rates that are trained: in one step, most neurons of {_label(seldom[0])} give "
        "no spike. To measure spikes, give validation data of more steps, or write "
        "nengo_dl.configure_settings(validation='spikes'); with validation='rates' this "
        "is not said again",
        once=("validation", "rates"),
    )
    return False


def warn_of_one_step(network: Network | None, model: Model, where: str) -> None:
    """Warn of spikes that are looked at for one step only.

    ``model``: built from the network. ``where``: the method.
    """
    if get_setting(network, "spiking_training") or get_setting(network, "learning_phase"):
        return
    seldom = seldom_spiking(network, model)
    if seldom:
        warn(
            f"{where}: running one step of spikes, in which most neurons of "
            f"{_label(seldom[0])} give none: at its highest rates, a neuron spikes in "
            f"{np.mean(model.params[seldom[0]].max_rates) * model.dt:.2g} of the steps. "
            "Give data of more steps, or spiking=False to run the rates that "
            "Simulator.fit trains",
            once=("one step of spikes",),
        )


def _label(ens: Ensemble) -> str:
    return f"Ensemble {ens.label!r}" if ens.label else "an ensemble without label"


def warn_before_training(
    layer: TensorGraph, store: ParameterStore, probes: Iterable[Probe]
) -> None:
    """Warn of what the user may not expect of training.

    ``probes``: those with a loss.
    """
    _warn_of_rules(store)
    _warn_of_merged(store)
    _warn_of_penalized_parts(store)
    _warn_of_thawed(store)
    trained = _trained(layer)
    if not layer.trainable_weights:
        warn(
            "Simulator.fit: there is nothing to train. Either all parameters of the "
            "network have the setting trainable=False or are changed by online learning "
            "rules, or the probes depend on none of them"
        )
    _warn_of_blocked_gradients(layer.variant(True), probes, trained)


def warn_of_memory(variant: Variant, n_steps: int) -> None:
    """Warn if what passes between the loops of a training is more than memory holds.

    Parameters
    ----------
    variant : Variant
        That of training.
    n_steps : int
        Steps of each item.
    """
    there, links = physical_memory(), len(variant.links)
    if links < 2 or there is None:
        return
    needed = variant.bytes_of_steps(variant.segment_of(n_steps) or n_steps)
    if needed <= there:
        return
    every = math.isqrt(n_steps)
    warn(
        f"Simulator.fit: what passes between the {links} loops over time takes "
        f"{needed / 2**30:.1f} GiB for {n_steps} steps of {variant.program.batch} items, "
        f"and there are {there / 2**30:.1f} on this machine. nengo_dl.configure_settings("
        f"checkpoint={every}) makes it a single loop that keeps the states of some steps "
        "only; fewer items (minibatch_size) or shorter examples take less as well",
        once=("memory of training", variant.program.generation, n_steps),
    )


def physical_memory() -> int | None:
    """Bytes of memory of this machine; None where Python cannot tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _trained(layer: TensorGraph) -> set[Signal]:
    banks = layer.banks
    pairs = zip(banks.signals, banks.variables, strict=True)
    trained = {s for signals, variable in pairs if variable.trainable for s in signals}
    starting = layer.starting.variables.items()
    return trained | {signal for signal, variable in starting if variable.trainable}


def _warn_of_rules(store: ParameterStore) -> None:
    both = store.trained_and_learned.values()
    if both:
        warn(
            f"Simulator.fit: {_names(entry.name for entry in both)} will be trained "
            "(trainable=True) and learned online, too: training changes what all items "
            "start from, and the rule goes on from there in each of them. To leave it to "
            "one of both, remove the setting or the rule"
        )


def _warn_of_merged(store: ParameterStore) -> None:
    merged = store.merged_with_fixed()
    if merged:
        warn(
            f"Simulator.fit: {_names(entry.name for entry in merged)} should be trained, "
            "but will not be: core Nengo optimized this model, and put them into one "
            "signal with what must not change. Build the simulator from the network, "
            "nengo_dl.Simulator(network), or from a model that is not optimized, as "
            "after nengo.Simulator(network, optimize=False)"
        )


def _warn_of_penalized_parts(store: ParameterStore) -> None:
    parts = store.penalized_parts()
    if parts:
        warn(
            f"Simulator.fit: the regularizer or constraint of "
            f"{_names(entry.name for entry in parts)} has no effect: core Nengo "
            "optimized this model, and put what it is for into one signal with other "
            "parameters. Build the simulator from the network, "
            "nengo_dl.Simulator(network), or from a model that is not optimized, as "
            "after nengo.Simulator(network, optimize=False)"
        )


def _warn_of_thawed(store: ParameterStore) -> None:
    thawed = store.layers.thawed()
    if thawed:
        warn(
            f"Simulator.fit: {_names(variable.path for variable in thawed)} will not be "
            "trained: their layers were not trainable when the simulator was made. Make "
            "a new Simulator of the network, in which they are"
        )


def _warn_of_blocked_gradients(
    variant: Variant, probes: Iterable[Probe], trained: set[Signal]
) -> None:
    graph = variant.program.compiled(variant.use).graph
    blocked = blocked_gradients(graph, probes, trained)
    if not blocked:
        return
    advice = []
    if any(node.kernel.host for node in blocked):
        advice.append(
            "Python functions have no gradient (write them in TensorFlow, as a "
            "nengo_dl.TensorNode, to give them one)"
        )
    if any(not node.kernel.host for node in blocked):
        advice.append(
            "spikes have one in their rate form, or with "
            "nengo_dl.configure_settings(spiking_training=True, surrogate=...) (see "
            "nengo_dl.surrogates)"
        )
    names = _names(text_of(node.label) or node.kernel.name for node in blocked)
    warn(
        f"Simulator.fit: no gradient goes through {names}; what is behind is"
        f" not trained by that way: {'; '.join(advice)}"
    )


def _names(names: Iterable[Any]) -> str:
    names = list(dict.fromkeys(map(str, names)))
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


# numbers that are none: NaN and infinity ----------------------------------------
#
# One NaN spreads to everything that is computed from it, and is hard to trace back;
# some neuron types even hide it, because a current that is no number is not above the
# threshold. So it is looked for where values come in and where they go out, once each.

AXES = ("item", "step", "dimension")
"""What the axes of data count."""

WAY_OUT = (
    "sim.reset() or sim.load_params(path) gives good values back, and sim.compile a "
    "fresh optimizer; a lower learning rate, or an optimizer with clipnorm, may keep "
    "them good"
)


def is_finite(array: np.ndarray, dtype: Any = None) -> bool:
    """Whether all entries of an array are numbers.

    The sum tells it in one pass without another array: it is a number unless an entry is
    none, or it overflows, which is seen to.

    Examples
    --------
    >>> is_finite(np.array([1.0, np.nan])), is_finite(np.full(9, 1e308))
    (False, True)
    """
    if array.dtype.kind not in "fc":
        return True
    return all(_is_finite(block, dtype) for block in in_blocks(array))


def _is_finite(array: np.ndarray, dtype: Any) -> bool:
    with np.errstate(all="ignore"):
        array = array if dtype is None else array.astype(dtype, copy=False)
        if np.isfinite(array.sum()):
            return True
    return bool(np.isfinite(array).all())


def check_data(array: np.ndarray, what: str, where: str, way_out: str = "") -> None:
    """Refuse NaN and infinity.

    ``array``: ``(items, steps, ...)``, or ``(items,)``. ``what``: such as ``"data for
    Node 'a'"``. ``where``: the method that they were given to. ``way_out``: what to do
    about it, instead of what is said of data. Raises `ValidationError`: names the item
    and the step of the first one.
    """
    if is_finite(array):
        return
    wrong = np.argwhere(~np.isfinite(array))
    first = tuple(wrong[0])
    names = (*AXES, *["axis"] * array.ndim)
    place = ", ".join(f"{name} {i}" for name, i in zip(names, first, strict=False))
    rest = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    way_out = way_out or (
        "Everything that is computed from it would be no number either; drop or replace "
        "it (np.nan_to_num, or leave out these items)"
    )
    raise ValidationError(
        f"{what} must be finite numbers; got {array[first]} at {place} (counted from "
        f"0){rest}. {way_out}",
        attr=where,
    )


def way_out_of_overflow(given: np.ndarray, array: np.ndarray) -> str:
    """What to do about numbers that only became infinite in the network's precision.

    ``given``, ``array``: as the user gave them, and in that precision. Returns: empty if
    they were no numbers before.
    """
    if not is_finite(given):
        return ""
    return (
        f"The number that was given is beyond {array.dtype.name}, which ends at "
        f"{np.finfo(array.dtype).max:.2g}; scale the data, or call "
        "nengo_dl.configure_settings(dtype='float64') in the network"
    )


def check_targets(
    array: np.ndarray, what: str, where: str, functions: Iterable[Any]
) -> None:
    """Refuse NaN and infinity in targets, if a loss of Keras is going to read them.

    ``array``: ``(items, steps, ...)``. ``what``, ``where``: see `check_data`.
    ``functions``: the losses and metrics that compare them with outputs.

    Notes
    -----
    Losses from elsewhere may have a meaning for NaN, as `nengo_dl.losses.nan_mse` has, or
    may not look at targets at all, as `nengo_dl.losses.Regularize`.
    """
    strict = [f for f in functions if of_keras(f)]
    if not strict:
        return
    name = getattr(strict[0], "name", None) or getattr(strict[0], "__name__", strict[0])
    check_data(
        array,
        what,
        where,
        f"The loss {name!r} gives NaN for it. Where there is no target, use "
        "nengo_dl.losses.nan_mse, for which NaN is no error, or a sample_weight of 0 "
        "with a target of any value",
    )


def of_keras(function: Any) -> bool:
    """Whether a loss or metric is one of Keras' own, which all need numbers."""
    if isinstance(function, str):
        return True
    inner = getattr(function, "fn", None) or getattr(function, "_fn", None)
    if inner is not None:
        function = inner
    named = hasattr(function, "__qualname__")
    module = function.__module__ if named else type(function).__module__
    # code that was run from a string has no module
    return (module or "").partition(".")[0] == "keras"


def check_parameters(values: Iterable[tuple[Any, np.ndarray]], where: str) -> None:
    """Refuse parameters with NaN or infinity.

    Raises `ValidationError`: names all of them.
    """
    wrong = [parameter for parameter, value in values if not is_finite(value)]
    if wrong:
        raise ValidationError(f"{not_finite(wrong)} {WAY_OUT}", attr=where)


def not_finite(parameters: list) -> str:
    """A sentence that names the parameters that are not finite."""
    shown = [f"{p.name!r} ({p.attr} of {p.obj})" for p in parameters[:5]]
    more = f" and {len(parameters) - 5} more" if len(parameters) > 5 else ""
    word, has = ("parameters", "have") if len(parameters) > 1 else ("parameter", "has")
    return f"the {word} {', '.join(shown)}{more} {has} values that are NaN or infinite."


def checked(value: Callable, parameters: Iterable, where: str) -> Callable:
    """``value``, which gives signals their values, with a check of what it gives.

    ``value``: ``value(signal) -> array``.
    """
    by_base: dict = {}
    for parameter in parameters:
        by_base.setdefault(parameter.signal.base, []).append(parameter)

    def finite(signal):
        array = np.asarray(value(signal))
        if not is_finite(array):
            found = by_base.get(signal.base, [])
            check_parameters([(p, array) for p in found], where)
        return array

    return finite
