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


VECTOR, HALF = np.array([0.1, 20, -3, 7, 1e-3]), np.array([0.5])
WHOLE, SINGLE, MATRIX = np.array([1, 2]), np.ones(2, "f4"), np.ones((1, 2))
ONE, TWO = np.ones(1), np.ones(2)


class Waves:
    """A function of time with attributes."""

    def __init__(self, angular, phase, scale=2):
        self.angular, self.phase, self.scale = angular, phase, scale

    def __call__(self, t):
        return self.scale * np.sin(self.angular * t + self.phase)

    def cosine(self, t, shift=HALF):
        return np.cos(self.phase + t) - shift


def local(vector):
    def function(t):
        x = vector - t
        x *= 2
        return -(abs(x) ** 2) / (t + vector) + np.exp(-vector)

    return function


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
    "object": Waves(VECTOR, np.sqrt(np.arange(5.0))),
    "method": Waves(None, np.array([0.3])).cosine,
    "vector": lambda t: np.tanh(VECTOR * t) + VECTOR,
    "vector in closure": local(np.linspace(0.2, 3, 33)),
    "always the same vector": lambda t: VECTOR,
    "vector for some time": lambda t: np.sqrt(abs(VECTOR)) if t > 0.1 else -VECTOR,
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


class Odd:
    """Methods that look like those of `Waves`."""

    default = 1.0

    def __init__(self):
        self.own, self.list = VECTOR.copy(), [1.0]

    @property
    def computed(self):
        return 1.0

    def changes(self, t):
        x = self.own
        x += t
        return x

    def of_property(self, t):
        return self.computed * t

    def of_default(self, t):
        return self.default * t

    def of_list(self, t):
        return self.list * 2

    def of_method(self, t):
        return self.of_default(t)

    def missing(self, t):
        return self.nothing if t < 0 else t


class Finds(Waves):
    def __getattr__(self, name):
        return 2.0


class Writes(Waves):
    def __call__(self, t):
        self.phase = self.phase + t
        return self.phase


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
    "changed vector": Odd().changes,
    "property": Odd().of_property,
    "default of a class": Odd().of_default,
    "list": Odd().of_list,
    "another method": Odd().of_method,
    "attributes of its own": Finds(VECTOR, VECTOR),
    "changed attribute": Writes(VECTOR, VECTOR),
    "whole numbers": lambda t: WHOLE * t,
    "single precision": lambda t: SINGLE * t,
    "matrix": lambda t: MATRIX * t,
    "vectors of two sizes": lambda t: ONE * t + TWO,
    "truth of a vector": lambda t: t if ONE > 0 else 0,
    "max of a vector": lambda t: max(ONE * t, 0),
    "powers of a vector": lambda t: (TWO + t) ** 3,
    "vector in a list": lambda t: [ONE * t],
    "method of a vector": lambda t: TWO.sum() * t,
    "class": Waves,
}


@pytest.mark.parametrize("name", NOT_SIMPLE)
def test_what_is_not_simple_is_called(name):
    function = NOT_SIMPLE[name]
    for size in (1, 2, 5):
        assert not may_be(function) or at_once(function, TIMES, size) is None
    assert np.array_equal(VECTOR, [0.1, 20, -3, 7, 1e-3])


def test_a_vector_is_only_read():
    odd = Odd()
    assert may_be(odd.changes) and at_once(odd.changes, TIMES, 5) is None
    assert np.array_equal(odd.own, VECTOR)


def test_attributes_may_change_between_calls():
    waves = Waves(VECTOR, VECTOR)
    first = at_once(waves, TIMES, 5)
    waves.scale, waves.angular = 3.0, waves.angular + 1
    second = at_once(waves, TIMES, 5)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, [waves(t) for t in TIMES])


def test_many_numbers_are_computed_step_by_step():
    vector = np.ones(module.MOST_NUMBERS // len(TIMES) + 1)
    assert at_once(lambda t: vector * t, TIMES, len(vector)) is None


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
