"""Which Python functions may influence each other."""

import functools
import math

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.compiler.lowering import lower
from nengo_dl.kernels.callbacks import reachable

counter = 0
log = []
FACTOR = 2.5


class Environment:
    """An object that a node's function may be a method of."""

    def __init__(self):
        self.state = [0.0]

    def act(self, t, x):
        self.state[0] += x[0]
        return self.state[0]

    def __call__(self, t):
        return self.state[0]


def count(t):
    global counter
    counter += 1
    return counter


def waves(frequency):
    phase = 0.5
    return lambda t: math.sin(frequency * t + phase) + FACTOR * np.cos(t)


@pytest.mark.parametrize("function", [waves(3.0), np.sin, math.cos, lambda t, x: x * 2])
def test_functions_of_their_arguments_reach_nothing(function):
    assert reachable(function) == frozenset()


def test_objects_that_can_change_are_tokens():
    environment, array = Environment(), np.zeros(3)
    assert reachable(lambda t: log.append(t)) == {id(log)}
    assert reachable(lambda t: array[0]) == {id(array)}
    for function in (environment, environment.act, lambda t: environment(t)):
        assert id(environment) in reachable(function)
    assert id(array) in reachable(functools.partial(lambda a, t: a[0], array))
    view = array[1:]
    assert id(array) in reachable(lambda t: view[0])
    assert reachable(lambda t: np.random.uniform()) == {"random numbers"}


def test_what_cannot_be_seen_through_may_reach_anything():
    total = 0

    def add(t):
        nonlocal total
        total += 1
        return total

    for function in (print, count, add, lambda t: print(t), lambda t: pytest.approx(t)):
        assert reachable(function) is None


def stepwise(*, stimulus, reader):
    """Whether a network with these two functions has to run step by step."""
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(stimulus)
        out = nengo.Node(reader, size_in=1, size_out=1)
        nengo.Connection(inp, out)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        return lower(sim.model).stepwise_python


def test_functions_that_share_an_object_run_step_by_step():
    environment = Environment()
    assert stepwise(stimulus=environment, reader=environment.act)
    assert stepwise(stimulus=count, reader=lambda t, x: counter + x)
    assert stepwise(stimulus=lambda t: log.append(t) or 0.0, reader=lambda t, x: len(log))


def test_functions_that_share_nothing_need_not():
    assert not stepwise(stimulus=waves(2.0), reader=lambda t, x: x + FACTOR)
    assert not stepwise(stimulus=Environment(), reader=lambda t, x: x + FACTOR)


def test_functions_of_numpy_need_not_wait_for_what_may_reach_anything():
    assert not stepwise(stimulus=np.sin, reader=lambda t, x: count(t) + x)
    assert stepwise(stimulus=lambda t: np.sin(t), reader=lambda t, x: count(t) + x)
