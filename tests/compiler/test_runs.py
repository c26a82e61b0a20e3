"""Many ranges at a time, compared with one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from nengo_dl.compiler.runs import (
    SLICES,
    joined,
    once_each,
    ranges,
    stable_order,
    starts_of,
    taken,
    true_runs,
)

CASES = {
    "none": ([], []),
    "one": ([3], [7]),
    "empty ones": ([3, 3, 9, 5], [3, 3, 9, 5]),
    "one after the other": ([2, 4, 4, 9], [4, 4, 9, 11]),
    "a few": ([10, 12, 0, 5], [12, 15, 3, 6]),
    "again": ([1, 1, 2], [3, 2, 3]),
    "many": (list(range(0, 6 * SLICES, 3)), list(range(2, 6 * SLICES + 2, 3))),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def pieces(request):
    return tuple(np.array(part, np.int32) for part in request.param)


def one_by_one(starts, stops):
    return [n for pair in zip(starts, stops, strict=True) for n in range(*pair)]


def test_ranges_are_one_after_the_other(pieces):
    assert ranges(*pieces).tolist() == one_by_one(*pieces)
    assert one_by_one(*joined(*pieces)) == one_by_one(*pieces)


def test_what_is_taken_is_what_the_numbers_say(pieces, rng):
    array = rng.standard_normal(6 * SLICES + 2)
    assert taken(array, *pieces).tolist() == array[one_by_one(*pieces)].tolist()


def test_neighbours_are_one_slice():
    starts, stops = joined(np.array([0, 2, 7, 9]), np.array([2, 5, 9, 9]))
    assert (starts.tolist(), stops.tolist()) == ([0, 7], [5, 9])
    array = np.arange(9)
    assert taken(array, np.array([1, 3]), np.array([3, 8])).base is array


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [0, 1, 200])
def test_runs_of_a_mask(chance, size, rng):
    mask = rng.random(size) < chance
    starts, stops = true_runs(mask)
    assert one_by_one(starts, stops) == np.flatnonzero(mask).tolist()
    assert (starts < stops).all()
    assert (starts[1:] > stops[:-1]).all()


@pytest.mark.parametrize("size", [0, 3, 10, 500])
def test_each_number_is_there_once(size, rng):
    numbers = rng.randint(0, 100, size)
    once = once_each(numbers, np.empty(100, np.int32)).tolist()
    assert sorted(once) == sorted(set(numbers.tolist()))


def test_terms_are_counted_part_by_part(monkeypatch, rng):
    rows = np.sort(rng.randint(40, size=25)).astype(np.int32)
    monkeypatch.setattr("nengo_dl.compiler.runs.PART", 4)
    found = starts_of(rows, 50)
    assert found.dtype == np.int32
    assert np.array_equal(np.diff(found), np.bincount(rows, minlength=50))
    assert np.array_equal(starts_of(rows[:0], 2), [0, 0, 0])


@pytest.mark.parametrize("bound", (1, 7, 2**16, 2**16 + 1, 2**31 - 1))
@pytest.mark.parametrize("kind", (np.int32, np.int64))
def test_equal_numbers_stay_in_order(bound, kind, rng):
    for size in (0, 1, 1000):
        numbers = rng.randint(0, bound, size).astype(kind)
        numbers[size // 2 :] = numbers[: size - size // 2]
        expected = np.argsort(numbers, kind="stable")
        assert np.array_equal(stable_order(numbers, bound), expected)
