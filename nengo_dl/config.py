"""How the settings of a network are made, and looked up.

Settings live in the ``config`` of the Nengo network they were made in, so they are
copied and pickled with it. Those of single objects (``trainable``, ``keep_history``,
``surrogate``, ...) are parameters of the objects' classes, ``net.config[obj].trainable``;
all others concern the whole network and are read from the outermost one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import nengo
import numpy as np
from nengo import Network, Probe
from nengo.exceptions import ConfigError, NetworkContextError

from nengo_dl.notices import names_keywords, warn
from nengo_dl.settings import (
    REMOVED,
    SETTINGS,
    SettingParam,
    Settings,
    validate_setting,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


@names_keywords(Settings)
def configure_settings(**settings: Unpack[Settings]) -> None:
    """Set how the current network is built, simulated and trained.

    To be called in a ``with`` block of a `nengo.Network`. Calling it again changes the
    named settings and leaves the others as they are.

    Parameters
    ----------
    trainable : bool or None
        Whether `.Simulator.fit` changes the parameters of ensembles (encoders), neurons
        (biases) and connections (weights or decoders) in this network and those inside
        it. With None (default) it does, except for what an online learning rule
        modifies. Afterwards ``net.config[nengo.Ensemble].trainable`` and
        ``net.config[obj].trainable`` set it for a class or for one object (only the
        latter makes something trainable that a learning rule modifies). The decoders that
        a probe of an ensemble brings along are trained only if
        ``net.config[probe].trainable = True``. Keras layers have their own ``trainable``;
        ``net.config[tensor_node].trainable = False`` freezes those of a node.
    regularizer, constraint : function or None
        What `.Simulator.fit` and ``evaluate`` add to the loss for each array of trained
        parameters, and what each array becomes after a step of training, such as
        ``keras.regularizers.L2(1e-4)`` and ``keras.constraints.NonNeg()``; None (default)
        for nothing. Afterwards they are set for classes and objects like ``trainable``.
    keep_history : bool
        False keeps only the last step of a probe's data (default: True). Afterwards
        ``net.config[probe].keep_history`` sets it for one probe.
    shared_learning : "sum", "mean" or None
        What online learning rules do with the items of a batch. With None (default) each
        item learns by itself. Otherwise all items have the same weights, and each step
        changes them by the sum (or the mean) of what the items ask for: so a batch of
        examples is learned from at once, by products of matrices. Afterwards
        ``net.config[conn].shared_learning`` sets it for one connection; None there stands
        above the network's setting. With ``net.config[ens.neurons].shared_learning``, and
        only then, `.AdaptiveThresholdLIF` neurons have thresholds that the spikes of all
        items raise. Batches have to be full.
    inference_only : bool
        True: the network will never be trained, so parameters may be folded and shared
        (default: False).
    dtype : str
        ``"float32"`` (default) or ``"float64"``.
    stateful : bool
        False: nothing is carried from one call to the next (default: True).
    use_loop : bool
        False: unroll exactly ``unroll_simulation`` steps instead of looping over them
        (default: True). Calls of Keras take that many steps then, and keep each one for
        gradients; `.Simulator.run_steps` runs any number, that many at a time.
    lif_smoothing : float or None
        The ``sigma`` of the `.SoftLIFRate` whose gradient is used for the rates of
        `nengo.LIF` and `nengo.LIFRate` neurons, which stay as they are; None (default)
        uses the gradient of the rate itself.
    learning_phase : bool or None
        Force the behaviour of training (True) or inference (False) in all methods, those
        of Keras and ``run``, for neurons and Keras layers. With None (default),
        `.Simulator.fit` trains. The argument ``spiking`` of a call stands above it.
    planner, sorter : function or None
        The compiler's strategies that choose what is computed together and in which order
        it lies in memory, from `nengo_dl.graph_optimizer` or of one's own. With None
        (default) the compiler does as it sees fit.
    simplifications : list of function or None
        The simplifications that the compiler makes, from `nengo_dl.graph_optimizer` or of
        one's own; None (default) makes all.
    validation : "auto", "spikes" or "rates"
        How neurons run on the ``validation_data`` of `.Simulator.fit`. With ``"auto"``
        (default) as in ``evaluate``, which is as spikes; as rates if rates are trained
        and the data have one step, in which spikes say little.
    spiking_training : bool
        True: `.Simulator.fit` runs spiking neurons as such, with a surrogate gradient;
        False (default): it runs their rate form.
    surrogate : .Surrogate or type or str or None
        The shape of the surrogate gradient, from `nengo_dl.surrogates`, or its class or
        its name (``"fast_sigmoid"``) for that with default parameters; None (default)
        uses the gradient of the rate form. Afterwards ``net.config[ens].surrogate`` sets
        it for one ensemble.
    tensor_float_32 : bool
        True: an NVIDIA GPU may round the factors of matrix products and convolutions in
        float32 to 10 bits (TensorFloat-32), which is faster; results then differ from
        those of a CPU by about 3e-4 of their size. False (default): float32 is float32.
        TensorFlow's own default, and its function ``tf.config.experimental.``
        ``enable_tensor_float_32_execution``, apply outside of simulators.
    executor : str
        What runs forward steps (``run``, ``step``, ``predict`` of arrays): ``"native"``,
        ``"numpy"`` or ``"tensorflow"``. With ``"auto"`` (default) it follows from the
        network, the other settings and ``minibatch_size``; `.Simulator.describe` says
        what runs, and why. Training and ``evaluate`` run in TensorFlow always.
    decoder_executor : concurrent.futures.Executor or None
        What solves for decoders while the network is built, in processes or threads,
        such as a ``ProcessPoolExecutor``. The decoders are the same to the last bit. With
        None (default) the build does it. Pickles of networks and simulators leave it out.
    jit : bool or "auto"
        Whether XLA compiles the loop over time where TensorFlow runs it (default:
        ``"auto"``). Unless ``executor`` says something else, True is ``"tensorflow"`` for
        forward steps, wherever that can run the network, and False is ``"numpy"``.
    checkpoint : int, "auto" or None
        How many steps lie between two states that training keeps; the ones between are
        computed again. None keeps each step's state. Default: ``"auto"``.
    truncate : int or None
        The number of steps that gradients flow back in time at most; None (default) for
        no limit.

    Raises
    ------
    ~nengo.exceptions.NetworkContextError
        If called outside of a ``with`` block of a network.
    ~nengo.exceptions.ConfigError
        If a setting's name is unknown.
    ~nengo.exceptions.ValidationError
        If a setting's value is not one it takes. No setting is changed then.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     nengo_dl.configure_settings(dtype="float64", trainable=False)
    ...     ens = nengo.Ensemble(10, 1)
    >>> net.config[ens].trainable = True
    """
    if not Network.context:
        raise NetworkContextError(
            "configure_settings was called outside of a network; call it inside a "
            "'with nengo.Network():' block, whose settings it changes"
        )
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ConfigError(
            f"configure_settings: unknown {', '.join(map(repr, unknown))}; the "
            f"settings are {', '.join(map(repr, sorted(SETTINGS)))}"
            + "".join(f". {REMOVED[name]}" for name in unknown if name in REMOVED)
        )

    checked = {name: validate_setting(name, val) for name, val in settings.items()}
    config = Network.context[-1].config
    for name, setting in SETTINGS.items():
        if setting.of_objects or name in checked:
            for cls in (*setting.classes, *setting.more_classes):
                _make_known(config, cls, name)
    for name, value in checked.items():
        for cls in SETTINGS[name].classes:
            setattr(config[cls], name, value)


def _make_known(config, cls, name):
    """Make a setting a parameter of a class."""
    if cls not in config.params:
        config.configures(cls)
    if name not in config[cls].extra_params:
        config[cls].set_param(name, SettingParam(name))


def _class_setting(network, cls, name):
    """The setting of a class (or its nearest ancestor) as a list of no or one value."""
    params = network.config.params
    for base in cls.__mro__:
        if base in params and name in params[base].extra_params:
            clsparams = params[base]
            if clsparams in clsparams.get_param(name):
                return [getattr(clsparams, name)]
    return []


def _object_setting(network, obj, name):
    """The setting of one object as a list of no or one value."""
    instparams = network.config.params.get(obj)
    # an object's parameters exist as soon as they have been looked at; `in` tells
    # whether a value was also given
    for base in type(obj).__mro__ if instparams is not None else ():
        clsparams = network.config.params.get(base)
        if clsparams is not None and name in clsparams.extra_params:
            param = clsparams.get_param(name)
            return [getattr(instparams, name)] if instparams in param else []
    return []


def get_setting(source: Any, name: str) -> Any:
    """The value of a setting that concerns the whole network.

    Parameters
    ----------
    source : ~nengo.Network or ~nengo.builder.Model or None
        The outermost network, or the model built from it.
    name : str
        A key of `SETTINGS`.

    Returns
    -------
    object
        The value, or the setting's default if none was given. For settings of single
        objects this is the value of the class (see `resolve_trainable` and
        `resolve_keep_history`).

    Raises
    ------
    ~nengo.exceptions.ConfigError
        If a setting's name is unknown.
    """
    if name not in SETTINGS:
        raise ConfigError(f"unknown setting {name!r}; known: {sorted(SETTINGS)}")
    network = getattr(source, "toplevel", source)
    if network is not None:
        for value in _class_setting(network, SETTINGS[name].classes[0], name):
            return value
    return SETTINGS[name].default


def warn_misplaced_settings(network: nengo.Network) -> None:
    """Warn of settings of inner networks that have no effect.

    Settings of the whole network count where they are made in the outermost one. Those
    of a network inside it are passed over; the user is told so if they differ.
    """
    for inner in network.all_networks:
        for name, setting in SETTINGS.items():
            if setting.of_objects:
                continue
            for value in _class_setting(inner, Network, name):
                used = get_setting(network, name)
                if value is not used and value != used:
                    warn(
                        f"the setting '{name}' = {value!r} of {inner} has no effect, "
                        f"because that network is inside {network}, where it is "
                        f"{used!r}; call configure_settings in the outermost network"
                    )


def _with_ancestors(network, outer=()):
    """All networks, each with those that enclose it: ``(nearest, …, outermost)``."""
    chain = (network, *outer)
    yield chain
    for inner in network.networks:
        yield from _with_ancestors(inner, chain)


def _own_objects(network):
    """The objects that can have settings, without those of inner networks."""
    for ens in network.ensembles:
        yield ens
        yield ens.neurons
    yield from network.nodes
    yield from network.connections
    yield from network.probes


def _choices(network, objects, name):
    """Values that a setting of single objects may take, the one that counts first.

    Yields each object with those of its own and those of its class, both from the
    nearest network to the outermost. None counts as no setting.
    """
    for chain in _with_ancestors(network):
        for obj in objects(chain[0]):
            own = (v for net in chain for v in _object_setting(net, obj, name))
            of_class = (v for net in chain for v in _class_setting(net, type(obj), name))
            yield (
                obj,
                [v for v in own if v is not None],
                [v for v in of_class if v is not None],
            )


def learned_objects(network: nengo.Network) -> Any:
    """The objects whose parameters an online learning rule modifies.

    Returns: connections (whose weights or decoders are learned) and ensembles (whose
    encoders are).
    """
    learned = set()
    for conn in network.all_connections:
        rules = conn.learning_rule_type
        if rules is None:
            continue
        rules = rules.values() if isinstance(rules, dict) else rules
        for rule in rules if np.iterable(rules) else [rules]:
            learned.add(conn.post_obj if rule.modifies == "encoders" else conn)
    return learned


def resolve_trainable(network: nengo.Network, changed: Iterable[Any] = ()) -> Any:
    """Whether each object's parameters are trained.

    A setting of the object comes before one of its class; among those, the one in the
    nearest enclosing network counts. None counts as no setting. Without any, parameters
    are trained unless an online learning rule modifies them; to train these, the
    setting must be made on the object itself. Decoders of probes are not: they see
    the activities of neurons, hundreds of Hz, and diverge at usual learning rates.

    ``changed``: what operators modify that belong to no learning rule; it counts like
    what rules modify. Returns for each object, True or False: an `~nengo.Ensemble` stands
    for its encoders, ``ens.neurons`` for their biases, a `~nengo.Connection` for its
    weights or decoders, a `~nengo.Probe` for its decoders, a `~nengo.Node` for what else
    it may hold.
    """
    learned = learned_objects(network).union(changed)
    if not _is_given(network, "trainable"):
        # as in most networks: there is nothing to choose from
        networks = (network, *network.all_networks)
        objects = (obj for net in networks for obj in _own_objects(net))
        return {obj: not isinstance(obj, Probe) and obj not in learned for obj in objects}
    trainable = {}
    for obj, own, by_class in _choices(network, _own_objects, "trainable"):
        by_default = not isinstance(obj, Probe)
        by_class = [False] if obj in learned else by_class
        trainable[obj] = [*own, *by_class, by_default][0]
    return trainable


def _is_given(network, name):
    """Whether any class or object was given a value of a setting."""
    for net in (network, *network.all_networks):
        for cls in (*SETTINGS[name].classes, *SETTINGS[name].more_classes):
            params = net.config.params.get(cls)
            if params is not None and name in params.extra_params:
                if params.get_param(name).given:
                    return True
    return False


def resolve_penalties(network: nengo.Network, name: str) -> Any:
    """The ``regularizer`` or ``constraint`` of each object that has one.

    Looked up as in `resolve_trainable`, and for the same parameters.
    """
    if not _is_given(network, name):
        return {}  # which is found out without looking at all objects
    choices = _choices(network, _own_objects, name)
    found = {obj: [*own, *by_class, None][0] for obj, own, by_class in choices}
    return {obj: function for obj, function in found.items() if function is not None}


def resolve_shared_learning(network: nengo.Network) -> Any:
    """How items of a batch share what connections and neurons learn.

    A setting of the object comes before one of its class; None is one, too.

    Returns: ``"sum"`` or ``"mean"`` by connection that learns, and by `~nengo.ensemble.
    Neurons`, of which the setting has to be made by name.
    """
    found: dict[Any, str] = {}
    if not _is_given(network, "shared_learning"):
        return found
    for chain in _with_ancestors(network):
        for obj in _own_objects(chain[0]):
            settings = [_object_setting(net, obj, "shared_learning") for net in chain]
            settings += [
                _class_setting(net, type(obj), "shared_learning") for net in chain
            ]
            how = next((value for values in settings for value in values), None)
            if how is not None and getattr(obj, "learning_rule_type", True) is not None:
                found[obj] = how
    return found


def resolve_surrogates(network: nengo.Network) -> Any:
    """`.Surrogate` by ensemble, looked up as in `resolve_trainable`; None for none."""
    choices = _choices(network, lambda net: net.ensembles, "surrogate")
    return {ens: [*own, *by_class, None][0] for ens, own, by_class in choices}


def resolve_keep_history(network: nengo.Network) -> Any:
    """Whether each probe keeps the data of all steps, or of the last one only.

    Returns: True or False for each `~nengo.Probe`.
    """
    choices = _choices(network, lambda net: net.probes, "keep_history")
    default = SETTINGS["keep_history"].default
    return {probe: [*own, *by_class, default][0] for probe, own, by_class in choices}
