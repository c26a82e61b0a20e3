"""Spikes or rates, as each call says: the same in all methods, from one state."""

import keras
import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl import notices

STEPS = 12

#: with NumPy, and compiled
EXECUTORS = pytest.mark.parametrize("jit", [False, True], ids=["numpy", "tensorflow"])


def network(neuron_type, **settings):
    """An ensemble with a probe of its neurons, and one behind a filter."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        net.node = nengo.Node([0.7], label="node")
        ens = nengo.Ensemble(10, 1, neuron_type=neuron_type)
        nengo.Connection(net.node, ens, synapse=None)
        net.neurons = nengo.Probe(ens.neurons, label="neurons")
        net.decoded = nengo.Probe(ens, synapse=0.01, label="decoded")
    return net


def core(neuron_type, n_steps=STEPS):
    """What core gives: the data of both probes."""
    net = network(neuron_type)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(n_steps)
        return sim.data[net.neurons], sim.data[net.decoded]


def assert_runs_as(neuron_type, sim, net, allclose):
    for found, expected in zip(
        (sim.data[net.neurons], sim.data[net.decoded]), core(neuron_type), strict=True
    ):
        assert allclose(found, expected)


def running(sim, way, **options):
    """Run in one of the ways that there are."""
    if way == "run":
        sim.run(STEPS * sim.dt, **options)
    elif way == "run_steps":
        sim.run_steps(STEPS, **options)
    else:
        for _ in range(STEPS):
            sim.step(**options)


WAYS = pytest.mark.parametrize("way", ["run", "run_steps", "step"])


@EXECUTORS
@WAYS
def test_learning_phase_reaches_all_that_runs(way, jit, allclose):
    net = network(nengo.LIF(), learning_phase=True, jit=jit)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        running(sim, way)
        assert_runs_as(nengo.LIFRate(), sim, net, allclose)


@EXECUTORS
def test_learning_phase_reaches_keras_layers_that_run(jit, allclose):
    class Doubling(keras.layers.Layer):
        def call(self, x, training=False):
            return 2 * x if training else x

    for phase, expected in ((True, 2.0), (False, 1.0), (None, 1.0)):
        with nengo.Network() as net:
            nengo_dl.configure_settings(learning_phase=phase, jit=jit)
            one = nengo.Node([1.0])
            layer = nengo_dl.Layer(Doubling())(one)
            probe = nengo.Probe(layer)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)
            sim.run_steps(3, spiking=False)  # which is about neurons alone
            assert allclose(sim.data[probe], expected)
            assert allclose(sim.predict(n_steps=2)[probe], expected)


@EXECUTORS
@WAYS
@pytest.mark.parametrize("settings", [{}, {"spiking_training": True}], ids=str)
def test_rates_for_all_that_runs(settings, way, jit, allclose):
    net = network(nengo.LIF(), jit=jit, **settings)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        running(sim, way, spiking=False)
        assert_runs_as(nengo.LIFRate(), sim, net, allclose)
        sim.reset()
        running(sim, way)
        assert_runs_as(nengo.LIF(), sim, net, allclose)


@WAYS
def test_spikes_stand_above_the_learning_phase(way, allclose):
    net = network(nengo.LIF(), learning_phase=True, jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        running(sim, way, spiking=True)
        assert_runs_as(nengo.LIF(), sim, net, allclose)


def test_spikes_are_what_spiking_training_trains(allclose):
    net = network(nengo.LIF(), learning_phase=True, spiking_training=True, jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        assert_runs_as(nengo.LIF(), sim, net, allclose)


@pytest.mark.parametrize("spiking_training", [False, True])
def test_both_forms_from_keras(spiking_training, allclose):
    net = network(nengo.LIF(), spiking_training=spiking_training, executor="tensorflow")
    rates, spikes = core(nengo.LIFRate()), core(nengo.LIF())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(loss={net.decoded: "mse"})
        traced = set()
        for spiking, expected in ((None, spikes), (False, rates), (True, spikes)) * 2:
            options = {"n_steps": STEPS, "spiking": spiking}
            for method in (sim.predict, sim.predict_on_batch):
                found = method(**options)
                assert allclose(found[net.neurons][0], expected[0])
                assert allclose(found[net.decoded][0], expected[1])
            target = {net.decoded: expected[1][None]}
            loss = sim.evaluate(y=target, verbose=0, **options)["loss"]
            assert loss < 1e-12
            with sim._trainer.keras.form(spiking):
                traced.add(sim.keras_model.predict_function)
        assert len(traced) == 3  # one for each form, and each of them once
        assert sim.n_steps == 0


def test_learning_phase_and_keras_forms(allclose):
    net = network(nengo.LIF(), learning_phase=True)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for spiking, kind in ((None, nengo.LIFRate), (True, nengo.LIF)):
            found = sim.predict(n_steps=STEPS, spiking=spiking)[net.neurons][0]
            assert allclose(found, core(kind())[0])


def test_compiling_anew_counts_for_all_forms():
    net = network(nengo.LIF())
    target = {net.decoded: np.ones((1, STEPS, 1))}
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        options = {"y": target, "n_steps": STEPS, "spiking": False, "verbose": 0}
        sim.compile(loss={net.decoded: "mse"})
        first = sim.evaluate(**options)["loss"]
        sim.compile(loss={net.decoded: lambda y, z: 3 * (y - z) ** 2})
        assert np.isclose(sim.evaluate(**options)["loss"], 3 * first)


@EXECUTORS
def test_voltages_wait_while_rates_run(jit, allclose):
    net = network(nengo.LIF(), jit=jit)
    spikes, rates = core(nengo.LIF(), 2 * STEPS), core(nengo.LIFRate())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        sim.run_steps(STEPS, spiking=False)
        sim.run_steps(STEPS)
        found = sim.data[net.neurons]
    assert allclose(found[:STEPS], spikes[0][:STEPS])
    assert allclose(found[STEPS : 2 * STEPS], rates[0])
    assert allclose(found[2 * STEPS :], spikes[0][STEPS:])


def test_voltages_wait_while_rates_run_in_keras(allclose):
    net = network(nengo.LIF())
    spikes = core(nengo.LIF(), 2 * STEPS)[0]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        first = sim.predict(n_steps=STEPS, stateful=True)[net.neurons][0]
        sim.predict(n_steps=STEPS, stateful=True, spiking=False)
        sim.run_steps(STEPS)
        assert sim.n_steps == 3 * STEPS
        assert allclose(np.concatenate([first, sim.data[net.neurons]]), spikes)


def test_adaptation_goes_on_in_both_forms(allclose):
    """What the two forms of a neuron share is one state."""
    net = network(nengo.AdaptiveLIF(), jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(50, spiking=False)
        later = sim.data[net.neurons]
        sim.run_steps(1, spiking=False, stateful=False)
        adapted = sim.data[net.neurons][50:]
    assert (later[-1] < later[0]).any()
    assert (adapted <= later[-1] + 1e-9).all()


@EXECUTORS
@pytest.mark.parametrize("keras_side", [False, True], ids=["run", "predict"])
def test_states_that_agree_in_one_form_only(keras_side, jit, allclose):
    """As rates both populations are equal, but their filters are not, after spikes."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        node = nengo.Node(lambda t: -1.0 if t < 0.006 else 1.0)
        probes = []
        for floor in (0.0, -1.0):
            ens = nengo.Ensemble(
                4,
                1,
                neuron_type=nengo.LIF(min_voltage=floor),
                gain=np.full(4, 3.0),
                bias=np.zeros(4),
                encoders=np.ones((4, 1)),
            )
            nengo.Connection(node, ens, synapse=None)
            probes.append(nengo.Probe(ens.neurons, synapse=0.05))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        if keras_side:
            found = sim.predict(n_steps=25, stateful=True)
            before = [found[probe][0, -1] for probe in probes]
        else:
            sim.run_steps(25)
            before = [sim.data[probe][-1] for probe in probes]
        assert abs(before[0] - before[1]).max() > 0.1
        sim.run_steps(2, spiking=False)  # the first one filters the last spikes
        before, after = np.swapaxes([sim.data[probe][-2:] for probe in probes], 0, 1)
        assert abs(before[0] - before[1]).max() > 0.1
        rate = nengo.LIFRate().rates(1.0, 3.0, 0.0).ravel()
        decay = np.exp(-0.001 / 0.05)
        for old, new in zip(before, after, strict=True):
            assert allclose(new, decay * old + (1 - decay) * rate)


def test_neurons_that_have_no_rate_form():
    notices.forget()
    net = network(nengo.Izhikevich(), jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.warns(UserWarning, match="spiking=False: .*Izhikevich.*rate form"):
            sim.run_steps(STEPS, spiking=False)
        assert np.array_equal(sim.data[net.neurons], core(nengo.Izhikevich())[0])


@pytest.mark.parametrize("method", ["run", "run_steps", "predict", "evaluate"])
def test_what_spiking_may_be(method):
    net = network(nengo.LIF())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(loss={net.decoded: "mse"})
        options = {"n_steps": 1} if method != "run" else {"time_in_seconds": 0.1}
        if method == "evaluate":
            options["y"] = {net.decoded: np.zeros((1, 1, 1))}
        with pytest.raises(ValidationError, match="spiking.*True, False or None"):
            getattr(sim, method)(spiking="rates", **options)
        assert sim.n_steps == 0
