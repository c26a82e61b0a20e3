"""Settings: where they may be made, what they may be, and which of them counts."""

import pickle
import warnings

import nengo
import numpy as np
import pytest
from nengo.ensemble import Neurons
from nengo.exceptions import ConfigError, NetworkContextError, ValidationError

from nengo_dl import config
from nengo_dl.config import configure_settings, get_setting, resolve_trainable
from nengo_dl.surrogates import ArcTan, Triangle


def nested_network():
    """A network with an ensemble, a connection and a probe on each of two levels."""
    with nengo.Network(label="outer") as net:
        net.a = nengo.Ensemble(5, 1, label="a")
        with nengo.Network(label="inner") as net.inner:
            net.b = nengo.Ensemble(5, 1, label="b")
            net.rec = nengo.Connection(net.b, net.b)
            net.p_b = nengo.Probe(net.b)
        net.conn = nengo.Connection(net.a, net.b)
        net.p_a = nengo.Probe(net.a)
    return net


def test_defaults_without_any_setting():
    net = nested_network()

    assert get_setting(net, "dtype") == "float32"
    assert get_setting(net, "jit") == "auto"
    assert get_setting(net, "stateful") is True
    assert get_setting(net, "truncate") is None
    assert get_setting(None, "checkpoint") == "auto"
    trainable = config.resolve_trainable(net)
    assert not trainable.pop(net.p_a) and not trainable.pop(net.p_b)
    assert all(trainable.values())
    assert config.resolve_keep_history(net) == {net.p_a: True, net.p_b: True}


def test_get_setting_reads_the_network_of_a_model():
    with nengo.Network() as net:
        configure_settings(dtype="float64", truncate=np.int64(5))
    model = nengo.builder.Model()

    assert get_setting(model, "dtype") == "float32"  # nothing is built yet
    model.build(net)
    assert get_setting(model, "dtype") == "float64"
    assert get_setting(model, "truncate") == 5
    assert type(get_setting(model, "truncate")) is int


def test_second_call_changes_only_what_it_names():
    net = nested_network()
    with net:
        configure_settings(trainable=False, dtype="float64")
        net.config[net.a].trainable = True
        configure_settings(trainable=None, keep_history=False)

    assert get_setting(net, "dtype") == "float64"
    assert net.config[net.a].trainable is True
    assert net.config[nengo.Ensemble].trainable is None
    assert net.config[nengo.Probe].keep_history is False


def test_outside_of_a_network():
    with pytest.raises(NetworkContextError, match="inside a 'with nengo.Network"):
        configure_settings(dtype="float64")


def test_unknown_names_are_listed_with_the_known_ones():
    with nengo.Network() as net:
        with pytest.raises(
            ConfigError, match=r"unknown 'dtyp', 'plan';.*'dtype', 'executor', 'inf"
        ):
            configure_settings(dtyp="float32", plan=None, jit=False)
    assert get_setting(net, "jit") == "auto"

    with pytest.raises(ConfigError, match="unknown setting 'nope'"):
        get_setting(net, "nope")


def test_trainable_of_object_class_and_network():
    net = nested_network()
    with net:
        configure_settings(trainable=None)
    net.config[nengo.Connection].trainable = False
    net.config[net.conn].trainable = True
    net.config[net.a.neurons].trainable = False
    net.config[Neurons].trainable = True
    net.config[net.p_a].trainable = False

    trainable = config.resolve_trainable(net)
    assert trainable[net.a] and not trainable[net.a.neurons]
    assert trainable[net.b] and trainable[net.b.neurons]
    assert trainable[net.conn] and not trainable[net.rec]
    assert not trainable[net.p_a] and not trainable[net.p_b]


@pytest.mark.parametrize("general", [None, True, False])
def test_decoders_of_probes_are_trained_if_that_is_asked_for(general):
    net = nested_network()
    with net:
        configure_settings(trainable=general)
    trainable = config.resolve_trainable(net)
    assert not trainable[net.p_a] and not trainable[net.p_b]
    net.config[net.p_b].trainable = True
    trainable = config.resolve_trainable(net)
    assert not trainable[net.p_a] and trainable[net.p_b]
    net.config[nengo.Probe].trainable = True
    assert config.resolve_trainable(net)[net.p_a]


def test_layers_are_frozen_by_name_alone():
    net = nested_network()
    with net:
        node, other = nengo.Node(size_in=1), nengo.Node(size_in=1)
        configure_settings(trainable=False)
    trainable = config.resolve_trainable(net)
    assert {obj for obj, value in trainable.items() if value} == {node, other}
    net.config[node].trainable = False
    trainable = config.resolve_trainable(net)
    assert not trainable[node] and trainable[other]
    net.config[nengo.Node].trainable = False
    assert not any(config.resolve_trainable(net).values())


def test_any_setting_makes_those_of_objects_known():
    net = nested_network()
    with net:
        configure_settings(dtype="float64")
    net.config[net.p_a].keep_history = False
    net.config[net.a].trainable = False
    net.config[net.b].surrogate = Triangle()
    assert config.resolve_keep_history(net) == {net.p_a: False, net.p_b: True}
    assert not config.resolve_trainable(net)[net.a]
    assert config.resolve_surrogates(net)[net.b] == Triangle()
    assert config.resolve_penalties(net, "regularizer") == {}
    net.config[net.conn].regularizer = abs
    assert config.resolve_penalties(net, "regularizer") == {net.conn: abs}


def test_trainable_of_the_nearest_network_counts():
    net = nested_network()
    with net:
        configure_settings(trainable=False)
        with net.inner:
            configure_settings(trainable=True)
    trainable = config.resolve_trainable(net)
    assert trainable[net.b] and trainable[net.rec] and not trainable[net.p_b]
    assert not trainable[net.a] and not trainable[net.conn]

    net.inner.config[nengo.Ensemble].trainable = None  # None counts as no setting
    trainable = config.resolve_trainable(net)
    assert not trainable[net.b] and trainable[net.b.neurons]

    # an object's own setting counts before its class's, also from further out
    net.config[net.rec].trainable = False
    assert not config.resolve_trainable(net)[net.rec]


def test_looking_at_a_setting_does_not_make_one():
    net = nested_network()
    with net:
        configure_settings(trainable=True)
    assert net.config[net.b].trainable is True
    with net.inner:
        configure_settings(trainable=False)
    assert not config.resolve_trainable(net)[net.b]


def test_trainable_of_a_subclass():
    class MyNode(nengo.Node):
        """A kind of node."""

    with nengo.Network() as net:
        configure_settings(trainable=True)
        net.config[nengo.Node].trainable = False
        node = MyNode(size_in=1)
    assert config.resolve_trainable(net) == {node: False}


def learning_network():
    with nengo.Network() as net:
        net.a, net.b = nengo.Ensemble(5, 1), nengo.Ensemble(5, 1)
        net.pes = nengo.Connection(net.a, net.b, learning_rule_type=nengo.PES())
        net.voja = nengo.Connection(
            net.a, net.b, learning_rule_type={"v": nengo.Voja()}, synapse=None
        )
        net.both = nengo.Connection(
            net.b, net.a, learning_rule_type=[nengo.PES(), nengo.Voja()]
        )
    return net


def test_what_learning_rules_modify_is_not_trained():
    net = learning_network()
    assert config.learned_objects(net) == {net.pes, net.b, net.both, net.a}

    with net:
        configure_settings(trainable=True)
    trainable = config.resolve_trainable(net)
    assert not trainable[net.pes] and not trainable[net.both]
    assert not trainable[net.a] and not trainable[net.b]
    assert trainable[net.voja] and trainable[net.a.neurons]

    net.config[net.pes].trainable = True
    assert config.resolve_trainable(net)[net.pes]


def test_keep_history_of_single_probes():
    net = nested_network()
    with net:
        configure_settings(keep_history=False)
    net.config[net.p_b].keep_history = True
    assert config.resolve_keep_history(net) == {net.p_a: False, net.p_b: True}

    net = nested_network()
    with net.inner:
        configure_settings(keep_history=False)
    assert config.resolve_keep_history(net) == {net.p_a: True, net.p_b: False}


def test_surrogates_of_ensembles_classes_and_networks():
    net = nested_network()
    assert set(config.resolve_surrogates(net).values()) == {None}
    with net:
        configure_settings(surrogate=Triangle())
    assert config.resolve_surrogates(net) == {net.a: Triangle(), net.b: Triangle()}
    assert get_setting(net, "surrogate") == Triangle()
    with net.inner:
        configure_settings(surrogate=ArcTan())
    assert config.resolve_surrogates(net) == {net.a: Triangle(), net.b: ArcTan()}
    net.config[net.b].surrogate = Triangle(0.5)
    net.config[net.a].surrogate = None  # counts as no setting
    assert config.resolve_surrogates(net) == {net.a: Triangle(), net.b: Triangle(0.5)}
    copy = pickle.loads(pickle.dumps(net))
    assert list(config.resolve_surrogates(copy).values()) == [Triangle(), Triangle(0.5)]
    with pytest.raises(ValidationError, match="'surrogate' must be None or one of"):
        net.config[net.a].surrogate = 3


def test_penalties_of_objects_classes_and_networks():
    net = nested_network()
    assert config.resolve_penalties(net, "regularizer") == {}
    with net.inner:
        configure_settings(regularizer=len)
    inner = config.resolve_penalties(net, "regularizer")
    assert set(inner.values()) == {len} and net.b in inner and net.a not in inner
    assert config.resolve_penalties(net, "constraint") == {}
    with net:
        configure_settings(regularizer=None)
    net.config[net.a].regularizer = max
    net.config[net.b].regularizer = min
    found = config.resolve_penalties(net, "regularizer")
    assert found == {**inner, net.a: max, net.b: min}
    assert list(config.resolve_penalties(net.copy(), "regularizer").values()) == list(
        found.values()
    )


@pytest.mark.parametrize(
    "copy", [lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.copy()]
)
def test_settings_are_copied_with_the_network(copy):
    with nengo.Network() as net:
        configure_settings(trainable=None, dtype="float64", keep_history=False)
        a, b = nengo.Ensemble(5, 1), nengo.Ensemble(5, 1)
        nengo.Connection(a, b)
        probe = nengo.Probe(b)
    net.config[nengo.Connection].trainable = False
    net.config[a].trainable = False
    net.config[b.neurons].trainable = False
    net.config[probe].keep_history = True

    net = copy(net)
    del a, b, probe
    trainable = config.resolve_trainable(net)
    a, b = net.ensembles
    assert get_setting(net, "dtype") == "float64"
    assert not trainable[a] and trainable[a.neurons]
    assert trainable[b] and not trainable[b.neurons]
    assert not trainable[net.connections[0]]
    assert config.resolve_keep_history(net) == {net.probes[0]: True}


def test_settings_of_inner_networks_without_effect_are_named():
    net = nested_network()
    with net:
        configure_settings(dtype="float64")
    with net.inner:
        configure_settings(dtype="float64", trainable=False, jit=False)
    with pytest.warns(
        UserWarning, match=r"'jit' = False of .*inner.*no effect"
    ) as record:
        config.warn_misplaced_settings(net)
    assert len(record) == 1  # an equal value, or one for objects, does no harm

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config.warn_misplaced_settings(nested_network())


def test_trainable_is_the_same_with_a_setting_that_says_nothing():
    with nengo.Network() as net:
        a = nengo.Ensemble(3, 1)
        with nengo.Network():
            b = nengo.Ensemble(3, 1)
            nengo.Connection(b, b.neurons, transform=np.ones((3, 1)))
        nengo.Connection(a, b, learning_rule_type=nengo.PES())
        nengo.Probe(a)
    before = resolve_trainable(net, [a])
    with net:
        configure_settings(trainable=None)
    after = resolve_trainable(net, [a])
    assert list(before.items()) == list(after.items())
    assert not before[a] and before[b]


def test_trainable_where_objects_have_other_settings():
    """Objects with settings of somebody else's, as of nengo.spa, are in a config, too."""
    with nengo.Network() as net:
        net.config[nengo.Node].set_param("location", nengo.params.Parameter("location"))
        node, net.a = nengo.Node([1.0]), nengo.Ensemble(3, 1)
        net.config[node].location = "here"
    assert resolve_trainable(net)[net.a] and resolve_trainable(net)[node]
