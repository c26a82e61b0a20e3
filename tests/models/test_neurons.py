"""A LIF neuron with a threshold of its own, in Nengo."""

import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl import AdaptiveThresholdLIF, AdaptiveThresholdLIFRate

DT = 0.001


def simulate(kind, current, **state):
    """Spikes of neurons whose current is ``(steps, n)``, and the state at the end."""
    n = current.shape[1]
    state = {name: np.full(n, float(state.get(name, 0))) for name in kind.state}
    output, seen = np.zeros(n), []
    for J in current:
        kind.step(DT, J, output, **state)
        seen.append(output.copy())
    return np.array(seen), state


def test_without_adaptation_it_is_a_lif_neuron(rng):
    current = rng.uniform(0, 5, (300, 10))
    expected, before = simulate(nengo.LIF(min_voltage=-1), current)
    found, after = simulate(AdaptiveThresholdLIF(min_voltage=-1, inc_theta=0), current)
    assert np.array_equal(found, expected) and expected.any()
    for name in before:
        assert np.abs(before[name] - after[name]).max() < 1e-12


def test_threshold_rises_with_each_spike_and_comes_down():
    kind = AdaptiveThresholdLIF(tau_theta=0.1, inc_theta=0.05)
    spikes, state = simulate(kind, np.full((100, 1), 10.0))
    times = np.flatnonzero(spikes)
    expected = (0.05 * np.exp(-(99 - times) * DT / 0.1)).sum()
    assert state["theta"][0] == pytest.approx(expected, rel=1e-12)
    intervals = np.diff(times)
    assert intervals[-1] > intervals[0]
    _, rested = simulate(kind, np.zeros((100, 1)), theta=expected)
    assert rested["theta"][0] == pytest.approx(expected * np.exp(-1), rel=1e-12)


def test_a_threshold_that_does_not_grow_stays():
    kind = AdaptiveThresholdLIF(tau_theta=0.01, inc_theta=0)
    spikes, state = simulate(kind, np.full((200, 1), 4.0), theta=0.7)
    assert state["theta"][0] == 0.7
    easier, _ = simulate(kind, np.full((200, 1), 4.0))
    assert 0 < np.count_nonzero(spikes) < np.count_nonzero(easier)


@pytest.mark.parametrize("current", (0.5, 1.2, 1.41, 3.0))
def test_a_threshold_that_meets_the_voltage(current):
    """Then the spike is at the beginning of the step, and everything stays finite."""
    kind = AdaptiveThresholdLIF(tau_theta=1e-3, inc_theta=0.1, tau_ref=0.005)
    spikes, state = simulate(kind, np.full((1, 1), current), theta=0.9, voltage=1.5)
    assert spikes[0, 0] == 1 / DT
    assert state["refractory_time"][0] == pytest.approx(0.005, abs=1e-12)
    assert state["voltage"][0] == 0


def test_rates_are_those_of_spikes(allclose):
    current, theta = np.array([[0.5, 1.5, 2.0, 6.0]]), 0.4
    start = AdaptiveThresholdLIF(inc_theta=0)
    spikes, _ = simulate(start, np.repeat(current, 4000, axis=0), theta=theta)
    rates, _ = simulate(AdaptiveThresholdLIFRate(inc_theta=0), current, theta=theta)
    assert allclose(spikes.mean(0), rates[0], atol=0.5)
    assert rates[0, 0] == 0 and (rates[0, 1:] > 1).all()


def test_rates_drive_the_threshold():
    kind = AdaptiveThresholdLIFRate(tau_theta=0.1, inc_theta=0.05, amplitude=2)
    rates, state = simulate(kind, np.full((1, 1), 5.0))
    assert state["theta"][0] == pytest.approx(0.05 * rates[0, 0] / 2 * DT)


@pytest.mark.parametrize("kind", (AdaptiveThresholdLIF, AdaptiveThresholdLIFRate))
def test_as_objects(kind):
    neurons = kind(tau_theta=0.5, inc_theta=0.1)
    assert pickle.loads(pickle.dumps(neurons)) == neurons != kind()
    assert repr(neurons) == f"{kind.__name__}(tau_theta=0.5, inc_theta=0.1)"
    assert (kind().tau_theta, kind().inc_theta) == (1e4, 0.004)
    with pytest.raises(ValidationError, match="tau_theta"):
        kind(tau_theta=0)
    with pytest.raises(ValidationError, match="inc_theta"):
        kind(inc_theta=-1)
    assert kind().spiking == (kind is AdaptiveThresholdLIF)


def test_thresholds_of_one_network_in_another():
    """As a learned network is tested; natively, too."""
    found = []
    for start in ({}, {"theta": np.array([0.1, 0.2, 0.3])}):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(jit=False, dtype="float64")
            kind = AdaptiveThresholdLIF(inc_theta=0, initial_state=start)
            ens = nengo.Ensemble(3, 1, neuron_type=kind, gain=[0] * 3, bias=[3.0] * 3)
            spikes = nengo.Probe(ens.neurons)
            theta = nengo.Probe(ens.neurons, "theta")
        for simulator in (nengo.Simulator, nengo_dl.Simulator):
            with simulator(net, progress_bar=False) as sim:
                sim.run_steps(200)
            found.append((sim.data[spikes], sim.data[theta]))
    assert np.array_equal(found[2][0], found[3][0])
    assert np.array_equal(found[2][1], np.broadcast_to([0.1, 0.2, 0.3], (200, 3)))
    assert np.array_equal(found[3][1], found[2][1])
    assert (np.diff(found[2][0].sum(0)) < 0).all() and (np.ptp(found[0][0].sum(0)) < 1001)
