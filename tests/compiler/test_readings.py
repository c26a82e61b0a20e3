"""Readings in columns are the readings that they are made of."""

import numpy as np
import pytest

from nengo_dl.compiler.readings import Reading, Readings


def some():
    """Readings of all kinds: of nothing, of what is not held, and with each flag."""
    elements = ([4, 2], [], [-1, 3, -1], [5])
    flags = ({"observed": True}, {"written": True}, {"common": True}, {})
    return [
        Reading(name, np.array(own, np.int32), (len(own),), **flag)
        for name, own, flag in zip("abcd", elements, flags, strict=True)
    ]


def fields(readings):
    return [
        (r.key, r.elements.tolist(), r.shape, r.observed, r.written, r.common)
        for r in readings
    ]


@pytest.mark.parametrize("chosen", [slice(None), slice(2, 3), slice(0)])
def test_are_those_that_they_are_made_of(chosen):
    readings = Readings.of(some()[chosen])
    assert fields(readings) == fields(some()[chosen])
    assert len(readings) == len(some()[chosen])
    assert Readings.of(readings) is readings
    assert bool(readings) == bool(some()[chosen])


def test_one_by_one():
    readings = Readings.of(some())
    assert fields([readings[2]]) == fields(some()[2:3])
    assert fields(readings[1:]) == fields(some()[1:])
    assert all(type(reading.observed) is bool for reading in readings)
    assert repr(readings) == "<Readings of 4>"
    with pytest.raises(IndexError):
        readings[4]


def test_renaming_keeps_what_is_not_held():
    mapping = np.arange(10, 16, dtype=np.int32)
    renamed = Readings.of(some()).renamed(mapping)
    assert [r.elements.tolist() for r in renamed] == [[14, 12], [], [-1, 13, -1], [15]]
    assert [r.common for r in renamed] == [False, False, True, False]
    readings = Readings.of(some())
    assert readings.renamed(np.arange(6, dtype=np.int32)) is readings


def test_held_elements_of_some():
    readings = Readings.of(some())
    assert readings.held(readings.observed).tolist() == [4, 2]
    assert readings.held(readings.common).tolist() == [3]
    assert readings.held(readings.written).size == 0
    assert readings.held(np.zeros(4, bool)).size == 0
    assert not any(reading.observed for reading in readings.unobserved())
    assert any(reading.observed for reading in readings)
