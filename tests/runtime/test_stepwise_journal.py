"""Undoing steps of the NumPy tier."""

import numpy as np
import pytest

from nengo_dl.runtime.costs import JOURNAL_BYTES, JOURNAL_STEPS
from nengo_dl.runtime.numpy.executor import NumpyStep
from nengo_dl.runtime.stepwise import Journal


def stepper(batch=1, most=None):
    """Two filters, and functions in between that fail when they are told to."""
    calls = {"f": 0, "g": 0, "fail": None}

    def function(name):
        def call(arrays):
            if calls["fail"] == (name, calls[name]):
                calls["fail"] = None
                raise ValueError(name)
            calls[name] += 1
            return [arrays[0] + 0.1 * calls[name]]

        return call

    f, g = function("f"), function("g")

    def step(xp, carry, x, weights):
        first = 0.5 * carry[0] + x
        (y,) = xp.host_call(f, [first], [2])
        second = 0.5 * carry[1] + y
        (z,) = xp.host_call(g, [second], [2])
        return [first, second], z

    zeros = np.zeros((2, batch))
    program = NumpyStep(step, [zeros, zeros], 2, batch, [], "float64")
    journal = Journal(program)
    if most is not None:
        journal.most = most
    return program, journal, calls


def run(program, journal, start, rows):
    journal.begin(start, len(rows))
    out = []
    for row in rows:
        program.x[...] = row
        journal.run(row)
        out.append(program.y.copy())
    return out


@pytest.mark.parametrize("name", "fg")
@pytest.mark.parametrize("most", (4, None))
def test_a_step_that_failed_is_undone(name, most, rng):
    rows = rng.uniform(size=(12, 2, 1))
    program, journal, calls = stepper(most=most)
    expected = [run(program, journal, i, rows[i : i + 1])[0] for i in range(12)]
    counts = dict(calls)
    program, journal, calls = stepper(most=most)
    calls["fail"] = name, 7
    found = []
    for i in range(12):
        try:
            found += run(program, journal, i, rows[i : i + 1])
        except ValueError:
            assert journal.back(i) == []
            if i:
                assert np.array_equal(program.y, found[-1])
            found += run(program, journal, i, rows[i : i + 1])
    assert np.array_equal(found, expected)
    assert calls == counts


def test_steps_that_nobody_took_are_undone(rng):
    """They run again without calling anything."""
    rows = rng.uniform(size=(10, 2, 1))
    program, journal, calls = stepper()
    expected = run(program, journal, 0, rows)
    later = journal.back(6)
    assert np.array_equal(later, rows[6:])
    assert np.array_equal(program.y, expected[5])
    journal.back(6)  # once more, which changes nothing
    assert np.array_equal(run(program, journal, 6, rows[6:8]), expected[6:8])
    assert calls["f"] == calls["g"] == 10
    assert np.array_equal(run(program, journal, 8, rows[8:]), expected[8:])
    run(program, journal, 10, rows[:1])
    assert calls["f"] == 11


def test_after_a_change_from_outside_nothing_is_undone(rng):
    rows = rng.uniform(size=(3, 2, 1))
    program, journal, _ = stepper()
    run(program, journal, 0, rows)
    program.set_carry([np.ones((2, 1)), np.ones((2, 1))])
    journal.forget()
    assert journal.back(1) == []
    assert np.array_equal(program.carry[0], np.ones((2, 1)))


def test_what_is_kept_is_bounded():
    program, journal, _ = stepper()
    assert journal.most == JOURNAL_STEPS
    for i in range(3 * JOURNAL_STEPS):
        run(program, journal, i, np.ones((1, 2, 1)))
    assert len(journal._steps) <= JOURNAL_STEPS
    assert stepper(batch=JOURNAL_BYTES // 64)[1].most == 1
