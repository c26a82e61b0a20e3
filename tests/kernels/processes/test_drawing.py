"""Drawing many steps ahead: the very numbers that the step functions return."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.processes import SimProcess
from nengo.dists import (
    PDF,
    Choice,
    Exponential,
    Gaussian,
    SqrtBeta,
    Uniform,
    UniformHypersphere,
)
from nengo.processes import (
    BrownNoise,
    FilteredNoise,
    Piecewise,
    PresentInput,
    WhiteNoise,
    WhiteSignal,
)
from nengo.synapses import Alpha, LinearFilter, Lowpass, Triangle

from nengo_dl.kernels.processes.base import PythonProcess, draw_rules, unchanged_rule

ITEMS = 3
POINTS = {0.003: [0.5, 2], 0.02: [-1, 3], 0.021: [0, 0], 0.05: [1, -1]}


def piecewise(interpolation):
    return Piecewise({0: [0.1, 0.2], **POINTS}, interpolation=interpolation)


DRAWN = {
    "white noise": WhiteNoise(),
    "white noise, unscaled": WhiteNoise(Gaussian(1, 2), scale=False),
    "white noise of seed 5": WhiteNoise(seed=5),
    "uniform noise": WhiteNoise(Uniform(-1, 3)),
    "whole numbers": WhiteNoise(Uniform(-5, 9, integer=True), scale=False),
    "exponential noise": WhiteNoise(Exponential(0.3, shift=0.1, high=2)),
    "noise of a density": WhiteNoise(PDF(np.arange(4), np.array([1, 2, 2, 1]) / 6)),
    "noise of a choice": WhiteNoise(Choice([[1, 2], [3, 4], [5, 6]], [1, 2, 3])),
    "beta noise": WhiteNoise(SqrtBeta(3, 2)),
    "filtered noise": FilteredNoise(),
    "alpha noise": FilteredNoise(Alpha(0.01), Uniform(0, 1)),
    "noise through a triangle": FilteredNoise(Triangle(0.004), scale=False),
    "noise with a direct path": FilteredNoise(LinearFilter([0.01, 1], [0.02, 1])),
    "amplified noise": FilteredNoise(LinearFilter([3], [1])),
    "Brownian noise": BrownNoise(),
    "filtered whole numbers": FilteredNoise(
        Lowpass(0.02), Uniform(0, 5, integer=True), scale=False
    ),
    "white signal": WhiteSignal(0.03, high=60),
    "long white signal": WhiteSignal(1.0, high=20, rms=2),
    "white signal from y0": WhiteSignal(0.05, high=90, y0=-0.3),
    "frames": PresentInput([[1, 2], [3, 4], [5, 6]], 0.005),
    "frames of odd length": PresentInput(np.arange(10).reshape(5, 2, 1), 0.0037),
    "short frames": PresentInput([[1.5, 2], [3, 4], [5, 6]], 0.0004),
    "pieces": Piecewise(POINTS),
    "pieces from whole numbers": Piecewise({0: [1, 2], 1: [2, 2]}),
    "linear": piecewise("linear"),
    "nearest": piecewise("nearest"),
    "slinear": piecewise("slinear"),
    "quadratic": piecewise("quadratic"),
    "cubic": piecewise("cubic"),
}


class OwnGaussian(Gaussian):
    def sample(self, n, d=None, rng=np.random):
        assert n == 1
        return super().sample(n, d, rng)


class OwnLowpass(Lowpass):
    def make_step(self, *args, **kwargs):
        step = super().make_step(*args, **kwargs)
        return lambda t, x: -step(t, x)


class OwnSignal(WhiteSignal):
    def make_step(self, *args, **kwargs):
        step = super().make_step(*args, **kwargs)
        return lambda t: -step(t)


NOT_DRAWN = {
    "normalized by rows": WhiteNoise(UniformHypersphere()),
    "own distribution": WhiteNoise(OwnGaussian(0, 1)),
    "own synapse": FilteredNoise(OwnLowpass(0.01)),
    "own subclass": OwnSignal(0.1, high=50),
    "functions": Piecewise({0: lambda t: [t, 2 * t], 0.02: [1, 2]}),
}

each_drawn = pytest.mark.parametrize("name", DRAWN)


def running(process, dt=0.001, seed=1, size=2, items=ITEMS):
    """A `PythonProcess` that has been started, and its times."""
    model = Model(dt=dt)
    with nengo.Network() as net:
        nengo.Node(process, size_out=size)
    model.build(net)
    (op,) = (op for op in model.operators if isinstance(op, SimProcess))
    runner = PythonProcess(op, dt)
    runner.reset([process.get_rng(np.random.RandomState(seed + i)) for i in range(items)])
    return runner


def step_times(dt, n_steps):
    return [i * dt for i in range(1, n_steps + 1)]


def stepped(runner, times):
    return np.array([runner.advance(t) for t in times])


def is_equal(ours, theirs):
    return ours.shape == theirs.shape and np.array_equal(ours, theirs)


def test_every_rule_is_tested():
    tested = {type(process) for process in DRAWN.values()}
    assert {cls for cls, _ in draw_rules.items()} <= tested


@each_drawn
@pytest.mark.parametrize("dt", (0.001, 0.0007, 0.002))
def test_equals_the_step_functions(name, dt):
    times = step_times(dt, 150)
    by_steps = stepped(running(DRAWN[name], dt), times)
    at_once = running(DRAWN[name], dt)
    assert at_once.draws
    assert np.ptp(by_steps) > 0
    assert is_equal(at_once.draw(times), by_steps)


@each_drawn
def test_pieces_and_steps_in_turn(name):
    times = step_times(0.001, 150)
    by_steps = stepped(running(DRAWN[name]), times)
    runner = running(DRAWN[name])
    pieces = [
        runner.draw(times[:70]),
        stepped(runner, times[70:75]),
        runner.draw([]),
        runner.draw(times[75:76]),
        stepped(runner, times[76:80]),
        runner.draw(times[80:]),
    ]
    assert is_equal(np.concatenate(pieces), by_steps)


@each_drawn
def test_going_back_to_a_snapshot(name):
    times = step_times(0.001, 60)
    runner = running(DRAWN[name])
    runner.draw(times[:20])
    kept = runner.snapshot()
    first = runner.draw(times[20:40])
    runner.draw(times[40:])
    runner.restore(kept)
    assert is_equal(runner.draw(times[20:40]), first)
    assert is_equal(runner.draw(times[40:]), stepped_after(name, times, 40))


def stepped_after(name, times, first):
    return stepped(running(DRAWN[name]), times)[first:]


@each_drawn
def test_one_dimension_one_item(name):
    process = DRAWN[name]
    if process.default_size_out not in (None, 1) or name == "noise of a choice":
        size = 2
    else:
        size = 1
    times = step_times(0.001, 50)
    by_steps = stepped(running(process, size=size, items=1), times)
    assert is_equal(running(process, size=size, items=1).draw(times), by_steps)


@pytest.mark.parametrize("name", NOT_DRAWN)
def test_what_cannot_be_vouched_for_goes_step_by_step(name):
    runner = running(NOT_DRAWN[name])
    assert not runner.draws
    assert np.isfinite(stepped(runner, step_times(0.001, 3))).all()


def test_a_choice_of_another_size_fails_as_in_core():
    runner = running(WhiteNoise(Choice([[1, 2, 3]])))
    assert not runner.draws
    with pytest.raises(nengo.exceptions.ValidationError, match="dimensionality"):
        runner.advance(0.001)


def test_single_precision_state_goes_as_core_rounds_it(monkeypatch):
    monkeypatch.setitem(nengo.rc["precision"], "bits", "32")
    for size in (1, 2):
        noise = FilteredNoise(Lowpass(0.02))
        by_steps, at_once = running(noise, size=size), running(noise, size=size)
        times = step_times(0.001, 50)
        assert at_once.states[0]["X"].dtype == np.float32
        assert is_equal(at_once.draw(times), stepped(by_steps, times))


def test_as_a_function_of_columns():
    """Where Keras runs a network: all steps of all items side by side."""
    runner = running(WhiteNoise())
    times = np.repeat(step_times(0.001, 20), ITEMS)[None].astype(np.float32)
    (values,) = runner([times])
    assert values.shape == (2, 20 * ITEMS) and values.dtype == np.float32
    expected = stepped(running(WhiteNoise()), step_times(0.001, 20))
    found = values.reshape(2, 20, ITEMS).transpose(1, 2, 0)
    assert is_equal(found, expected.astype(np.float32))


def test_rules_hold_for_subclasses_that_change_nothing():
    class Plain(WhiteSignal):
        pass

    assert unchanged_rule(draw_rules, Plain(1, 5)) is draw_rules.exact(WhiteSignal)
    assert unchanged_rule(draw_rules, OwnSignal(1, 5)) is None
    assert unchanged_rule(draw_rules, BrownNoise()) is draw_rules.exact(FilteredNoise)
