"""Closing a simulator, and failures while it runs: what is left is kept."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import (
    SimulationError,
    SimulatorClosed,
    ValidationError,
)

import nengo_dl
from tests.networks import small


def test_a_closed_simulator_says_so_and_keeps_its_data():
    net = small()
    sim = nengo_dl.Simulator(net, progress_bar=False)
    sim.run_steps(7)
    data = sim.data[net.probe].copy()
    layer = sim.tensor_graph
    assert layer is sim.keras_model.get_layer("TensorGraph")
    sim.close()
    sim.close()  # again: nothing happens
    assert sim.closed
    calls = [
        lambda: sim.run(0.1),
        lambda: sim.run_steps(1),
        sim.step,
        sim.reset,
        lambda: sim.keras_model,
        lambda: sim.tensor_graph,
        lambda: sim.predict(n_steps=1),
        lambda: sim.predict_on_batch(n_steps=1),
        lambda: sim.compile("sgd", "mse"),
        lambda: sim.fit(n_steps=1, y=np.zeros((1, 1, 1))),
        lambda: sim.evaluate(n_steps=1, y=np.zeros((1, 1, 1))),
        lambda: sim.save_params("nowhere"),
        lambda: sim.load_params("nowhere"),
        sim.describe,
        sim.__enter__,
    ]
    for call in calls:
        with pytest.raises(SimulatorClosed):
            call()
    assert np.array_equal(sim.data[net.probe], data)
    assert sim.n_steps == 7
    assert sim.time == 0.007
    assert len(sim.trange()) == 7
    assert sim.data[net.ens].encoders.shape == (10, 1)


def test_leaving_the_with_block_closes():
    with nengo_dl.Simulator(small(), progress_bar=False) as sim:
        assert not sim.closed
    assert sim.closed
    with pytest.raises(SimulatorClosed), sim:
        pass


def test_an_error_in_the_with_block_closes_too():
    with pytest.raises(RuntimeError, match="mine"):
        with nengo_dl.Simulator(small(), progress_bar=False) as sim:
            sim.run_steps(3)
            raise RuntimeError("mine")
    assert sim.closed
    assert len(sim.data[sim.network.probe]) == 3


def test_a_simulator_that_is_dropped_open_warns():
    sim = nengo_dl.Simulator(small(), progress_bar=False)
    sim.run_steps(2)
    with pytest.warns(ResourceWarning, match="deallocated while open"):
        del sim  # nothing else holds it: no waiting for the garbage collector


def test_a_simulator_that_could_not_be_made_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValidationError):
            nengo_dl.Simulator(small(), minibatch_size=0)


# Python functions -----------------------------------------------------------------------


class Boom(Exception):
    pass


def fails_after(n_steps, result=None):
    """A function of time that raises in one step, or returns ``result``."""

    def function(t, *x):
        if round(t * 1000) == n_steps + 1:
            if result is None:
                raise Boom(f"at {t:g}")
            return result
        return np.sin(10 * t)

    return function


@pytest.mark.parametrize("jit", (True, False))
@pytest.mark.parametrize("with_input", (False, True))
def test_a_function_that_raises_leaves_all_steps_before_it(jit, with_input):
    n_before = 70
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=jit)
        ens = nengo.Ensemble(10, 1)
        node = nengo.Node(
            fails_after(n_before), size_in=1 if with_input else 0, size_out=1
        )
        if with_input:
            nengo.Connection(ens, node)
        nengo.Connection(node, ens)
        probe = nengo.Probe(ens, synapse=0.01)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(Boom, match="at 0.071"):
            sim.run_steps(100)
        assert sim.n_steps == n_before
        assert sim.data[probe].shape == (n_before, 1)
        with pytest.raises(Boom):  # the step is tried again
            sim.step()
        assert sim.n_steps == n_before
        data = sim.data[probe].copy()
        sim.reset()
        sim.run_steps(n_before)
        assert np.array_equal(sim.data[probe], data)


@pytest.mark.parametrize("bad", ([1.0, 2.0], "text", float("nan")))
@pytest.mark.parametrize("with_input", (False, True))
def test_a_function_that_returns_what_does_not_fit(bad, with_input):
    with nengo.Network(seed=0) as net:
        node = nengo.Node(
            fails_after(20, bad),
            size_in=1 if with_input else 0,
            size_out=1,
            label="culprit",
        )
        probe = nengo.Probe(node)
        if with_input:
            nengo.Connection(nengo.Node([1]), node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match="function"):
            sim.run_steps(30)
        assert sim.n_steps == len(sim.data[probe]) == 20
        with pytest.raises(SimulationError, match="function"):
            sim.predict(n_steps=30)
        assert sim.n_steps == 20
        sim.reset()
        sim.run_steps(20)
        assert len(sim.data[probe]) == 20


def test_a_function_that_raises_in_predict_and_fit():
    with nengo.Network(seed=0) as net:
        switch = {"on": True}

        def function(t, x):
            if switch["on"]:
                raise Boom("in the network")
            return x

        inp = nengo.Node([1.0])
        node = nengo.Node(function, size_in=1, size_out=1)
        ens = nengo.Ensemble(10, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(inp, ens)
        nengo.Connection(ens, node)
        probe = nengo.Probe(ens)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", loss={probe: "mse"})
        y = {probe: np.zeros((1, 5, 1))}
        for _ in range(2):
            with pytest.raises(Boom, match="in the network"):
                sim.predict(n_steps=5)
            with pytest.raises(Boom, match="in the network"):
                sim.fit(n_steps=5, y=y, verbose=0)
        switch["on"] = False
        assert sim.predict(n_steps=5)[probe].shape == (1, 5, 1)
        history = sim.fit(n_steps=5, y=y, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert sim.n_steps == 0
