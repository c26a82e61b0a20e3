"""What functions keep: what is theirs is put back, what else they change is named."""

import collections
import itertools

import numpy as np
import pytest

from nengo_dl.kernels.callbacks import MOST_BYTES, CapturedState, reached

LOG = []


class Tally:
    def __init__(self):
        self.total, self.parts = 0, {}

    def __call__(self):
        self.total += 1
        self.parts[self.total] = [self.total]
        return self.total + sum(map(len, self.parts.values()))


def a_variable():
    count = 0

    def step():
        nonlocal count
        count += 1
        return count

    return step


def a_new_array():
    past = np.zeros(3)

    def step():
        nonlocal past
        past = np.roll(past, 1)
        past[0] += 1
        return past.tolist()

    return step


def an_array_without_axes():
    count = np.zeros(())

    def step():
        count[...] += 1
        return float(count)

    return step


def containers():
    kept = collections.deque([np.zeros(2), np.ones(2)]), [[]], set(), bytearray(2)
    counts = collections.Counter()

    def step():
        kept[0].rotate()
        kept[0][0][:] += 1
        kept[1][0].append(len(kept[2]))
        kept[2].add(len(kept[2]))
        kept[3][0] += 1
        counts["a"] += 2
        return [x.tolist() for x in kept[0]], kept[1][0][:], kept[3][0], counts["a"]

    return step


def an_object():
    tally = Tally()
    return lambda: tally()


def a_callable_object():
    return Tally()


def a_bound_method():
    return Tally().__call__


def a_default():
    def step(past=[0]):  # noqa: B006
        past.append(len(past))
        return past[-1]

    return step


def an_attribute():
    def step():
        step.count += 1
        return step.count

    step.count = 0
    return step


def generators():
    old, new = np.random.RandomState(0), np.random.default_rng(0)
    return lambda: (old.normal(), new.normal())


@pytest.mark.parametrize(
    "make",
    (
        a_variable,
        a_new_array,
        an_array_without_axes,
        containers,
        an_object,
        a_callable_object,
        a_bound_method,
        a_default,
        an_attribute,
        generators,
    ),
)
def test_what_is_their_own_is_put_back(make):
    before = reached([make])
    step = make()
    state = CapturedState([step], before)
    step()
    own, others = state.own(), state.others()
    for _ in range(3):
        values = [step() for _ in range(4)]
        own.put_back()
        assert [step() for _ in range(4)] == values
        assert len({repr(value) for value in values}) > 1
        own.put_back()
    step()
    assert others.changed() == []


def shared_list():
    def step():
        LOG.append(1)

    return step


def shared_object(tally=Tally()):  # noqa: B008
    return lambda: tally()


def iterator():
    values = itertools.count()
    return lambda: next(values)


def method_of_what_was_there():
    return LOG.append.__self__ is LOG and (lambda: LOG.append(2))


@pytest.mark.parametrize(
    "make, name",
    [
        (shared_list, ["LOG"]),
        (shared_object, ["tally.total", "tally.parts"]),
        (iterator, ["values"]),
        (method_of_what_was_there, ["LOG"]),
    ],
)
def test_what_others_may_look_at_is_named(make, name):
    before = reached([make])
    step = make()
    state = CapturedState([step], before)
    step()
    own, others = state.own(), state.others()
    step()
    size = len(LOG)
    own.put_back()
    assert len(LOG) == size  # it is not the function's own
    assert others.changed()[: len(name)] == name


def test_of_functions_that_were_there_nothing_is_their_own():
    past = []
    state = CapturedState([lambda: past.append(len(past))], None)
    own, others = state.own(), state.others()
    state.functions[0]()
    own.put_back()
    assert past == [0]
    assert others.changed() == ["past"]


def test_what_is_only_read_has_not_changed():
    data, table, names = np.arange(10.0), {"a": (1, [2])}, ["a"]
    data[3] = np.nan

    def step():
        return data[0] + table["a"][0] + len(names)

    others = CapturedState([step], None).others()
    step()
    assert others.changed() == []


def test_large_arrays_are_not_compared():
    large, small = np.zeros(MOST_BYTES // 8 + 1), np.zeros(3)

    def step():
        small[0] += 1
        large[0] += 1

    others = CapturedState([step], None).others()
    step()
    assert others.changed() == ["small"]


def test_what_is_given_is_left_alone():
    given = np.zeros(3)

    def make():
        def step():
            given[0] += 1

        return step

    state = CapturedState([make()], reached([]), [given])
    own, others = state.own(), state.others()
    state.functions[0]()
    own.put_back()
    assert given[0] == 1
    assert others.changed() == []
