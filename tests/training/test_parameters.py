"""Parameters of built models: their names, and objects with their live values."""

import warnings

import nengo
import numpy as np
import pytest
import scipy.sparse
from nengo.exceptions import ValidationError
from nengo.solvers import NoSolver

from nengo_dl.config import configure_settings
from nengo_dl.simulator.objects import built_connection, built_ensemble, get_nengo_params
from nengo_dl.training.parameters import (
    collect_parameters,
    initial_value,
    object_names,
    probe_connections,
    sparse_indices,
)


def build(net):
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    return model


def base_network():
    """An input, two ensembles, a node; to be connected by tests."""
    rate = {"neuron_type": nengo.LIFRate()}
    with nengo.Network(seed=3) as net:
        net.inp = nengo.Node([0.5, 1], label="inp")
        net.a = nengo.Ensemble(20, 2, label="a", radius=1.5, **rate)
        net.b = nengo.Ensemble(30, 3, label="b", **rate)
        net.out = nengo.Node(size_in=3, label="out")
        nengo.Connection(net.inp, net.a, transform=[[1, 0.2], [0.1, 0.9]])
        nengo.Connection(net.b, net.out, synapse=None)
    return net


def test_names_follow_labels_ends_and_positions():
    with nengo.Network() as net:
        a = nengo.Ensemble(3, 1, label="a")
        unnamed = nengo.Ensemble(3, 1)
        twin = nengo.Ensemble(3, 1, label="a")
        node = nengo.Node([0], label="in/put")
        c1 = nengo.Connection(a, unnamed)
        c2 = nengo.Connection(a, unnamed[0], synapse=None)
        c3 = nengo.Connection(node, unnamed.neurons, label="bias", transform=[[1]] * 3)
        c4 = nengo.Connection(a, unnamed, learning_rule_type=nengo.PES(), label="pes")
        c5 = nengo.Connection(node, c4.learning_rule)
        with nengo.Network(label="sub") as sub:
            inner = nengo.Ensemble(3, 1)
        c6 = nengo.Connection(unnamed, inner)
        probe = nengo.Probe(a, label="p")

    names = object_names(build(net))
    assert {obj: names[obj] for obj in (a, unnamed, twin, node, sub, inner, probe)} == {
        a: "ensembles['a']",
        unnamed: "ensembles[1]",
        twin: "ensembles['a'#2]",
        node: "nodes['in/put']",
        sub: "networks['sub']",
        inner: "networks['sub'].ensembles[0]",
        probe: "probes['p']",
    }
    assert names[inner.neurons] == "networks['sub'].ensembles[0].neurons"
    assert [names[c] for c in (c1, c2, c3, c4, c5, c6)] == [
        "connections['a -> ensembles[1]']",
        "connections['a -> ensembles[1]'#2]",
        "connections['bias']",
        "connections['pes']",
        "connections['in/put -> rule of pes']",
        """connections["ensembles[1] -> networks['sub'].ensembles[0]"]""",
    ]


def deep_network(seed):
    with nengo.Network(seed=seed) as net:
        ea = nengo.networks.EnsembleArray(5, 3)
        ea2 = nengo.networks.EnsembleArray(5, 3)
        nengo.Connection(ea.output, ea2.input)
        product = nengo.networks.Product(5, 2)
        nengo.Connection(ea.output[:2], product.input_a)
        nengo.Probe(ea.ensembles[0])
        nengo.Probe(ea2.ensembles[0])
    return net


def test_parameter_names_are_unique_and_equal_for_equal_structure():
    first, second = (
        [(p.name, p.shape) for p in collect_parameters(build(deep_network(seed)))]
        for seed in (0, 1)
    )
    assert first == second
    assert len({name for name, _ in first}) == len(first)
    # 6 + 4 ensembles with encoders and biases and one decoded connection each, 2 probes
    assert sum(name.endswith(".encoders") for name, _ in first) == 10
    assert sum(name.endswith(".bias") for name, _ in first) == 10
    assert [name for name, _ in first][-2:] == [
        "probes[0].weights",
        "probes[1].weights",
    ]


def test_collected_parameters(rng):
    net = base_network()
    with net:
        configure_settings(trainable=None)
        direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct())
        nengo.Connection(net.inp, direct)  # no weights
        pes = nengo.Connection(
            net.a, net.out, function=lambda x: [0, 0, 0], learning_rule_type=nengo.PES()
        )
        voja = nengo.Connection(
            net.a, net.b[:2], learning_rule_type=nengo.Voja(), solver=NoSolver()
        )
        scalar = nengo.Connection(net.inp, direct, transform=0.5)
        probe = nengo.Probe(net.a)
    net.config[net.a.neurons].trainable = False
    net.config[probe].trainable = False
    model = build(net)

    parameters = collect_parameters(model)
    found = {(p.obj, p.attr): p for p in parameters}
    assert len(found) == len(parameters)
    p = found[net.a, "encoders"]
    assert p.signal is model.sig[net.a]["encoders"]
    assert p.shape == (20, 2) and p.trainable and not p.learned
    p = found[net.a.neurons, "bias"]
    assert p.name == "ensembles['a'].neurons.bias"
    assert p.shape == (20,) and not p.trainable and not p.learned
    p = found[net.b, "encoders"]
    assert p.learned and not p.trainable
    p = found[pes, "weights"]
    assert p.shape == (3, 20) and p.learned and not p.trainable
    assert found[voja, "weights"].trainable
    assert found[scalar, "weights"].shape == ()
    p = parameters[-1]
    assert p.obj is probe_connections(model)[probe]
    assert p.name == "probes[0].weights" and p.shape == (2, 20) and not p.trainable
    assert not any(p.obj is direct for p in parameters)
    # what comes from ensembles, then the connections that have weights, then the probe
    assert len(parameters) == 4 + 5 + 1


def test_what_the_operators_of_other_builders_change_is_learned():
    net = base_network()
    model = build(net)
    model.sig[net.a]["encoders"].readonly = False
    changed = [p for p in collect_parameters(model) if p.learned]
    assert [(p.obj, p.attr, p.trainable) for p in changed] == [(net.a, "encoders", False)]


def test_parameters_of_a_model_without_a_network():
    with nengo.Network():
        a, b = nengo.Ensemble(5, 1, label="a"), nengo.Ensemble(6, 1)
        pes = nengo.Connection(a, b, learning_rule_type=nengo.PES())
        probe = nengo.Probe(b)
    model = nengo.builder.Model()
    for i, obj in enumerate([a, b, pes, probe]):
        model.seeds[obj], model.seeded[obj] = i, True
        model.build(obj)

    assert model.toplevel is None
    assert [(p.name, p.shape, p.trainable) for p in collect_parameters(model)] == [
        ("ensembles['a'].encoders", (5, 1), True),
        ("ensembles['a'].neurons.bias", (5,), True),
        ("ensembles[1].encoders", (6, 1), True),
        ("ensembles[1].neurons.bias", (6,), True),
        ("connections['a -> ensembles[1]'].weights", (1, 5), False),
        ("probes[0].weights", (1, 6), True),
    ]


def test_values_after_the_build_are_those_of_core():
    net = base_network()
    model = build(net)

    def in_float32(signal):
        return initial_value(signal).astype(np.float32)

    for values in (initial_value, in_float32):
        for ens in (net.a, net.b):
            built = built_ensemble(model, ens, values)
            for live, core in zip(built, model.params[ens], strict=True):
                assert live is core or np.array_equal(live, core)
        for conn in net.connections:
            built = built_connection(model, conn, values)
            assert type(built) is type(model.params[conn])
            assert built.transform is conn.transform
            weights = model.params[conn].weights
            assert built.weights is weights or np.array_equal(built.weights, weights)


def test_live_ensemble(rng, allclose):
    net = base_network()
    model = build(net)
    core = model.params[net.a]
    scaled = core.scaled_encoders * rng.uniform(0.5, 2, size=(20, 1))
    bias = core.bias + 0.1
    live = {
        model.sig[net.a]["encoders"]: scaled,
        model.sig[net.a.neurons]["bias"]: bias,
    }

    built = built_ensemble(model, net.a, live.get)
    assert type(built) is type(core)
    assert np.array_equal(built.scaled_encoders, scaled)
    assert allclose(built.encoders * (built.gain / 1.5)[:, None], scaled)
    assert allclose(np.linalg.norm(built.encoders, axis=1), 1)
    assert not allclose(built.gain, core.gain, record_rmse=False)
    assert np.array_equal(built.bias, bias)
    assert built.eval_points is core.eval_points
    rates, intercepts = net.a.neuron_type.max_rates_intercepts(built.gain, bias)
    assert np.array_equal(built.intercepts, intercepts)
    assert np.array_equal(built.max_rates[rates > 0], rates[rates > 0])
    assert np.all(built.max_rates >= 0)

    live[model.sig[net.a.neurons]["bias"]] = bias[:-1]
    with pytest.raises(
        ValidationError, match=r"bias has shape \(19,\); expected \(20,\)"
    ):
        built_ensemble(model, net.a, live.get)


def test_live_values_are_read_only_and_keep_float64():
    net = base_network()
    model = build(net)
    built = built_connection(
        model, net.connections[1], lambda s: np.ones(s.shape, np.float32)
    )
    assert np.array_equal(built.weights, np.ones((3, 30)))
    assert built.weights.dtype == np.float64
    assert not built.weights.flags.writeable


def test_whole_numbers_are_trained_to_fractions():
    with nengo.Network() as net:
        matrix = scipy.sparse.csr_matrix([[1, 0], [0, 2]])
        a, b = nengo.Node([0, 0]), nengo.Node(size_in=2)
        conn = nengo.Connection(a, b, transform=nengo.Sparse((2, 2), init=matrix))
    model = build(net)
    found = built_connection(model, conn, lambda signal: np.float32([1.5, 2.25]))
    assert np.array_equal(found.weights.toarray(), [[1.5, 0], [0, 2.25]])


@pytest.mark.filterwarnings("error")
def test_live_ensemble_without_gain():
    with nengo.Network() as net:
        gain = np.array([1.0, 0.0, 2.0])
        ens = nengo.Ensemble(3, 1, gain=gain, bias=np.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # core computes intercepts from gains
        model = build(net)
    core = model.params[ens]
    live = {
        model.sig[ens]["encoders"]: core.scaled_encoders * 2,
        model.sig[ens.neurons]["bias"]: core.bias + 0.1,
    }
    built = built_ensemble(model, ens, live.get)
    assert np.array_equal(built.encoders, core.encoders)
    assert np.array_equal(built.gain, [2, 0, 4])
    assert np.allclose(built.intercepts, [-0.05, -np.inf, -0.025])
    assert np.all(built.max_rates > 0)

    live[model.sig[ens]["encoders"]] = np.ones((3, 1))
    given = get_nengo_params(model, ens, live.get)
    assert np.array_equal(given["gain"], [1, 1, 1])
    assert np.array_equal(given["encoders"], np.ones((3, 1)))

    with net:  # what a connection brings to the neurons is multiplied by the gains
        nengo.Connection(nengo.Node([1, 2, 3]), ens.neurons)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(net)
    live = {
        model.sig[ens]["encoders"]: np.ones((3, 1)),
        model.sig[ens.neurons]["bias"]: core.bias,
    }
    with pytest.raises(ValidationError, match=r"neurons \[1\] of .* have a gain of 0"):
        get_nengo_params(model, ens, live.get)


@pytest.mark.parametrize("scipy_matrix", [False, True])
def test_live_sparse_weights(scipy_matrix, rng):
    rows, cols, data = [2, 0, 1], [0, 1, 1], np.array([1.0, 2.0, 3.0])
    init = scipy.sparse.csr_matrix((data, (rows, cols)), shape=(3, 2))
    if scipy_matrix:
        transform = nengo.Sparse((3, 2), init=init)
    else:
        transform = nengo.Sparse((3, 2), np.stack([rows, cols], axis=1), init=data)
    net = base_network()
    with net:
        conn = nengo.Connection(net.inp, net.out, transform=transform)
    model = build(net)
    (parameter,) = (p for p in collect_parameters(model) if p.obj is conn)
    assert parameter.shape == (3,)

    core = built_connection(model, conn).weights
    built = model.params[conn].weights  # Nengo 4.0 samples it once more
    assert type(core) is type(built)
    assert np.array_equal(core.toarray(), built.toarray())
    indices = sparse_indices(parameter.signal)
    dense = np.zeros((3, 2))
    dense[tuple(indices.T)] = [10, 20, 30]
    live = built_connection(model, conn, lambda s: np.array([10.0, 20.0, 30.0])).weights
    assert type(live) is type(core)
    assert np.array_equal(live.toarray(), dense)
