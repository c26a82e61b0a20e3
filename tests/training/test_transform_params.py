"""Weights of sparse and convolutional connections as parameters."""

import nengo
import numpy as np
import pytest
import scipy.sparse
from nengo.transforms import SparseMatrix

import nengo_dl


def network():
    """Connections with all kinds of transforms whose weights can be trained."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        rates = nengo.RectifiedLinear()
        net.stimulus = nengo.Node(np.zeros(24))
        a = nengo.Ensemble(24, 1, neuron_type=rates, gain=np.ones(24), bias=np.ones(24))
        b = nengo.Ensemble(27, 1, neuron_type=rates, gain=np.ones(27), bias=np.ones(27))
        c, d = nengo.Node(size_in=10), nengo.Node(size_in=4)
        matrix = scipy.sparse.random(10, 24, 0.2, "csr", random_state=0)
        forth = nengo.Convolution(2, (4, 3, 2), padding="same")
        back = nengo.ConvolutionTranspose(
            3, (2, 2, 2), kernel_size=(2, 2), output_shape=(3, 3, 3)
        )
        readout = nengo.Sparse(
            (4, 27),
            indices=[[0, 1], [0, 26], [2, 5], [2, 5], [1, 7], [2, 2]],
            init=nengo.dists.Uniform(-1, 1),
        )
        net.trained = [
            nengo.Connection(pre, post, transform=transform, synapse=None)
            for pre, post, transform in (
                (net.stimulus, a.neurons, forth),
                (a.neurons, c, nengo.Sparse((10, 24), init=matrix)),
                (net.stimulus[:8], b.neurons, back),
                (b.neurons, d, readout),
            )
        ]
        for node in (c, d):
            nengo.Probe(node)
    return net


def dense(weights):
    return weights.toarray() if hasattr(weights, "toarray") else np.asarray(weights)


def trained(net, rng, **options):
    """A simulator after a little training, and the weights before and after it."""
    sim = nengo_dl.Simulator(net, progress_bar=False, minibatch_size=3, **options)
    before = [sim.data[conn].weights for conn in net.trained]
    sim.compile("adam", loss="mse")
    x = rng.normal(size=(6, 2, 24))
    y = {probe: rng.normal(size=(6, 2, probe.size_in)) for probe in net.probes}
    losses = sim.fit({net.stimulus: x}, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    return sim, x, before, [sim.data[conn].weights for conn in net.trained]


def test_training_saving_loading_freezing(rng, allclose, tmp_path):
    net = network()
    sim, x, before, after = trained(net, rng)
    with sim:
        names = [variable.name for variable in sim.keras_model.trainable_variables]
        assert sum(name.endswith("weights") for name in names) == 4
        for old, new in zip(before, after, strict=True):
            assert type(old) is type(new)
            assert np.abs(dense(old) - dense(new)).max() > 1e-3
            assert np.array_equal(dense(old) != 0, dense(new) != 0)
        expected = sim.predict({net.stimulus: x})
        sim.save_params(tmp_path / "params")
        sim.freeze_params(net)

    other = network()
    with nengo_dl.Simulator(other, progress_bar=False, minibatch_size=3) as sim:
        sim.load_params(tmp_path / "params")
        found = sim.predict({other.stimulus: x})
        for probe, theirs in zip(other.probes, net.probes, strict=True):
            assert np.array_equal(found[probe], expected[theirs])

    net.stimulus.output = nengo.processes.PresentInput(x[0], 0.001)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(2)
    for probe in net.probes:
        assert allclose(core.data[probe], expected[probe][0], atol=1e-12)


def test_parameters_of_new_objects(rng):
    net = network()
    sim, _, _, after = trained(net, rng)
    with sim:
        params = sim.get_nengo_params(net.trained)
    for conn, weights, arguments in zip(net.trained, after, params, strict=True):
        assert list(arguments) == ["transform"]
        transform = arguments["transform"]
        assert type(transform) is type(conn.transform)
        assert np.array_equal(dense(transform.sample()), dense(weights))
    assert isinstance(params[3]["transform"].init, SparseMatrix)
    assert scipy.sparse.issparse(params[1]["transform"].init)


@pytest.mark.parametrize("number", range(4))
def test_weights_that_are_not_trained_stay(number, rng):
    net = network()
    with net:
        nengo_dl.configure_settings(trainable=None)
        net.config[net.trained[number]].trainable = False
    sim, _, before, after = trained(net, rng)
    sim.close()
    same = [np.array_equal(dense(a), dense(b)) for a, b in zip(before, after)]
    assert same == [i == number for i in range(4)]


# -- models that core has changed ------------------------------------------------------


def optimized():
    """A model after core's optimizer, which merges signals and operators."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        stimulus = nengo.Node(lambda t: [np.sin(60 * t), np.cos(60 * t)])
        net.ensembles_in_a_row = [nengo.Ensemble(20, 2) for _ in range(4)]
        for ens in net.ensembles_in_a_row:
            nengo.Connection(stimulus, ens, synapse=None)
        pairs = zip(net.ensembles_in_a_row[:-1], net.ensembles_in_a_row[1:])
        net.between = []
        for pre, post in pairs:
            net.between.append(nengo.Connection(pre, post, function=np.square))
            nengo.Connection(pre, post, transform=[[0.1, 0.4], [0.2, 0.3]])
        learned = nengo.Connection(pre, post, learning_rule_type=nengo.PES())
        nengo.Connection(stimulus, learned.learning_rule)
        for ens in net.ensembles_in_a_row:
            nengo.Probe(ens, synapse=0.01)
    core = nengo.Simulator(net, progress_bar=False)
    kinds = {type(op).__name__ for op in core.model.operators}
    assert "BsrDotInc" in kinds
    assert any(core.model.sig[conn]["weights"].is_view for conn in net.between)
    return net, core


@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_models_that_core_has_optimized(minibatch_size, allclose):
    net, core = optimized()
    with core:
        core.run(0.05)
    with nengo_dl.Simulator(
        None, model=core.model, progress_bar=False, minibatch_size=minibatch_size
    ) as sim:
        for opened in (False, True):
            if opened:
                sim.reset()
                sim._program.written()
            sim.run(0.05)
            for probe in net.probes:
                found = np.reshape(sim.data[probe], (-1, *core.data[probe].shape))
                for item in found:
                    assert allclose(item, core.data[probe], atol=1e-10)
        for obj in (*net.ensembles_in_a_row, *net.between):
            for mine, theirs in zip(sim.data[obj], core.data[obj], strict=True):
                assert np.array_equal(mine, theirs)


def test_saving_and_training_optimized_models(tmp_path):
    net, core = optimized()
    with nengo_dl.Simulator(None, model=core.model, progress_bar=False) as sim:
        first = [sim.data[conn].weights.copy() for conn in net.between]
        sim.save_params(tmp_path / "params")
        sim.compile("sgd", loss="mse")
        y = {probe: np.ones((1, 3, 2)) for probe in net.probes}
        sim.fit(np.zeros((1, 3, 2)), y, verbose=0)
        # which of them core has merged with what is not trained differs between runs
        parameters = sim._live.parameters
        trained = {entry.signal for entry in parameters.entries if entry.trainable}
        trained -= {entry.signal for entry in parameters.merged_with_fixed()}
        assert trained
        moves = [core.model.sig[conn]["weights"] in trained for conn in net.between]
        now = [sim.data[conn].weights for conn in net.between]
        assert moves == [(a != b).any() for a, b in zip(now, first, strict=True)]
        sim.load_params(tmp_path / "params")
        now = [sim.data[conn].weights for conn in net.between]
        assert all(np.array_equal(a, b) for a, b in zip(now, first, strict=True))
    core.close()
