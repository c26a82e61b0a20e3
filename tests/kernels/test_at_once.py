"""Functions of time for many steps at once: the very numbers of single calls."""

import math
from math import cos

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.kernels import at_once as module
from nengo_dl.kernels.at_once import at_once, may_be, pays

TIMES = (np.arange(1, 301) * 0.001).tolist()

FREQUENCY, SHIFT, EIGHTH = 7, np.float64(0.3), TIMES[7]


def pieces(t):
    if t < 0.05:
        return [0, 0.5]
    elif 0.05 <= t < 0.2 and not t == 0.1:
        x = 3 * t
        x += 1
        return [x, -x]
    return [np.sin(t), 2**t]


def closure(a):
    return lambda t: a * np.sin(2 * np.pi * t)


SIMPLE = {
    "sine": lambda t: np.sin(8 * t),
    "list": lambda t: [np.sin(t), np.cos(t)],
    "array": lambda t: np.array((t, 1)),
    "repeated": lambda t: [np.cos(t)] * 3,
    "step": lambda t: 1 if t < 0.1 else 0,
    "window": lambda t: 0.5 if 0.1 < t < 0.2 or t == 0.25 else -0.5,
    "pieces": pieces,
    "closure": closure(2.5),
    "default": lambda t, k=3: t * k,
    "globals": lambda t: np.sqrt(1) * FREQUENCY / (t + SHIFT),
    "math": lambda t: math.sin(6 * t) + cos(t) - math.pi * abs(-t),
    "powers": lambda t: t**2 + np.cos(t) ** 3 - t**0.5,
    "remainder": lambda t: t % 0.03 + np.cos(t) % 0.1,
    "rectified": lambda t: max(0, np.sin(50 * t)),
    "condition": lambda t: t > 0.1,
    "product": lambda t: (t > 0.1) * 2.0 + float(np.cos(t) > 0.98),
    "decay": lambda t: np.exp(-t) * np.sqrt(t) + np.floor(10 * t) + np.tanh(t),
    "constant": lambda t: -1,
    "numpy of numbers": lambda t: t * np.sqrt(2) + np.pi,
}


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_functions_give_the_bits_of_single_calls(name):
    function = SIMPLE[name]
    expected = np.array([np.ravel(function(t)) for t in TIMES], np.float64)
    assert may_be(function)
    found = at_once(function, TIMES, expected.shape[1])
    assert found is not None
    assert found.tobytes() == expected.tobytes()


def guarded(t):
    try:
        return t.missing
    except AttributeError:
        return 1.0


def looped(t):
    total = 0.0
    for k in range(3):
        total += t * k
    return total


LOG, NUMBERS = [], {"a": 1.0}

NOT_SIMPLE = {
    "type": lambda t: 1.0 if isinstance(t, float) else 0.0,
    "identity": lambda t: 1.0 if t is None else 2.0,
    "try": guarded,
    "loop": looped,
    "comprehension": lambda t: [t * k for k in range(2)],
    "item": lambda t: NUMBERS["a"] * t,
    "effect": lambda t: LOG.append(t) or 0.0,
    "text": lambda t: float(str(t)),
    "whole": lambda t: int(10 * t),
    "random": lambda t: np.random.uniform(),
    "other module": lambda t: nengo.utils.numpy.norm(t),
    "attribute": lambda t: t.real,
    "method": lambda t: 1.0 if t.is_integer() else 0.0,
    "own function": lambda t: pieces(t)[0],
    "starred": lambda *t: t[0],
    "arithmetic of arrays": lambda t: np.array([t, t]) * 2,
    "large": lambda t: t * (2**60 + 1),
    "int of conditions": lambda t: (t > 0.1) * 2,
    "broadcast": lambda t: [[t, t]],
    "many parts": lambda t: 1 if np.sin(1000 * t) > 0 else 0,
}


@pytest.mark.parametrize("name", NOT_SIMPLE)
def test_what_is_not_simple_is_called(name):
    function = NOT_SIMPLE[name]
    assert not may_be(function) or at_once(function, TIMES, 2) is None
    assert not may_be(function) or at_once(function, TIMES, 1) is None


@pytest.mark.parametrize(
    "function",
    (
        lambda t: 1 / (t - EIGHTH),
        lambda t: np.sin(t) / (np.sin(t) - np.sin(EIGHTH)),
        lambda t: math.exp(1e5 * t),
        lambda t: np.exp(1e5 * t),
        lambda t: (t - 0.1) ** 0.5,
        lambda t: math.sqrt(t - 0.1),
        lambda t: 1e308 * (10 * t + 1) * 10,
    ),
)
def test_what_python_and_numpy_do_differently_is_called(function):
    assert may_be(function)
    assert at_once(function, TIMES, 1) is None


def test_functions_of_numpy_that_treat_arrays_in_another_way_are_called(monkeypatch):
    monkeypatch.setattr(module, "alike", lambda function: False)
    assert at_once(lambda t: np.sin(t), TIMES, 1) is None
    assert at_once(lambda t: np.sqrt(t), TIMES, 1) is not None
    monkeypatch.undo()
    monkeypatch.setattr(np, "sin", np.arcsin)
    assert at_once(lambda t: np.sin(t), TIMES, 1) is None


def test_an_unexpected_difference_is_noticed(monkeypatch):
    monkeypatch.setattr(module._Values, "__mul__", module._Values.__add__)
    assert at_once(lambda t: t * 5, TIMES, 1) is None


def test_quick_functions_are_called():
    assert pays(SIMPLE["sine"]) and pays(SIMPLE["rectified"]) and pays(SIMPLE["array"])
    assert not pays(SIMPLE["step"]) and not pays(SIMPLE["constant"])


def run(*functions, steps=300, **options):
    """The outputs of nodes, and those of core."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False, dtype="float64")
        probes = [nengo.Probe(nengo.Node(function)) for function in functions]
    outputs = []
    for simulator in (nengo_dl.Simulator, nengo.Simulator):
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(steps)
            outputs.append([sim.data[p] for p in probes])
    return outputs


def test_networks_have_the_numbers_of_core():
    ours, core = run(*list(SIMPLE.values())[:9])
    assert all(np.array_equal(a, b) for a, b in zip(ours, core, strict=True))


def test_functions_beside_one_that_has_to_be_called_are_called_in_turn():
    level = [0.0]

    def count(t):
        global FREQUENCY
        FREQUENCY += 1
        level[0] += t
        return level[0]

    try:
        ours, core = run(count, SIMPLE["globals"], steps=40)
    finally:
        globals()["FREQUENCY"] = 7
    # core goes on where ours has stopped
    first, second = (np.ravel(outputs[1]) for outputs in (ours, core))
    numbers = 8 + np.arange(1, 81)  # the node has called it once
    times = np.tile(np.array(TIMES[:40]), 2) + SHIFT
    assert np.array_equal(np.concatenate([first, second]), numbers / times)


def test_slow_functions_are_called_a_few_times_only(monkeypatch):
    calls = []

    def counted(function):
        calls.append(function)
        return may_be(function)

    monkeypatch.setattr("nengo_dl.kernels.functions.may_be", counted)
    monkeypatch.setattr("nengo_dl.runtime.host.InputFeed._call", None)
    ours, core = run(SIMPLE["sine"], SIMPLE["step"])
    assert calls
    assert all(np.array_equal(a, b) for a, b in zip(ours, core, strict=True))


def test_errors_are_those_of_single_calls():
    with nengo.Network() as net:
        nengo_dl.configure_settings(jit=False)
        probe = nengo.Probe(nengo.Node(lambda t: 1 / (t - 0.1) + np.sin(t)))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ZeroDivisionError):
            sim.run_steps(300)
        assert sim.n_steps == 99 and len(sim.data[probe]) == 99


def test_values_beyond_single_precision_are_errors_as_before():
    with nengo.Network() as net:
        nengo_dl.configure_settings(jit=False)
        nengo.Probe(nengo.Node(lambda t: 1e300 * np.sqrt(t)))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.warns(Warning, match="float64"):
            sim.run_steps(50)
