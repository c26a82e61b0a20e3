import gc

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import beside, timing


def test_take_turns_goes_back_and_forth():
    order = []
    functions = [lambda: order.append("a"), lambda: order.append("b")]
    times = timing.take_turns(functions, 3)
    assert "".join(order) == "abbaab"
    assert [len(row) for row in times] == [3, 3]
    assert np.all(np.array(times) >= 0)
    with pytest.raises(ValidationError, match="repeats: must be at least 1; got 0"):
        timing.take_turns(functions, 0)


def test_take_turns_gives_each_function_its_times(monkeypatch):
    costs = {"a": 1.0, "b": 10.0}
    monkeypatch.setattr(timing, "seconds", lambda name: costs[name])
    assert timing.take_turns("ab", 3) == [(1.0,) * 3, (10.0,) * 3]


def test_figures(allclose):
    assert timing.median([3, 1, 100]) == 3
    assert timing.ratio([1, 2, 30], [2, 4, 10]) == 0.5  # of each round, not of sums
    assert timing.quartiles([0, 1, 2, 3, 4]) == (1, 3)
    assert allclose(timing.geometric_mean([2, 8]), 4)


def test_exponent(rng, allclose):
    sizes = np.array([10, 100, 1000])
    assert allclose(timing.exponent(sizes, 3 * sizes**1.5), 1.5)
    assert allclose(timing.exponent(sizes, np.full(3, 7.0)), 0, atol=1e-12)
    with pytest.raises(ValidationError, match="at least two different sizes"):
        timing.exponent([5, 5], [1, 2])


def test_check_positive():
    timing.check_positive(steps=1)
    with pytest.raises(ValidationError, match="steps: must be at least 1; got 0"):
        timing.check_positive(repeats=2, steps=0)


def test_private_decoder_cache():
    before = dict(nengo.rc["decoder_cache"])
    with pytest.raises(ZeroDivisionError), timing.private_decoder_cache():
        assert nengo.rc.getboolean("decoder_cache", "enabled")
        assert nengo.rc.get("decoder_cache", "path") != before["path"]
        raise ZeroDivisionError
    assert dict(nengo.rc["decoder_cache"]) == before
    with timing.no_decoder_cache():
        assert not nengo.rc.getboolean("decoder_cache", "enabled")
    assert dict(nengo.rc["decoder_cache"]) == before


def test_no_collection():
    assert gc.isenabled()
    with timing.no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_beside_row(allclose):
    row = beside.beside_row(
        "case", [1, 2, 3], "core", [10, 10, 10], "us", limit=0.25, scale=2, more=5
    )
    assert (row["ours"], row["theirs"], row["more"], row["rounds"]) == (4, 20, 5, 3)
    assert allclose(
        [row["ratio"], row["ratio_low"], row["ratio_high"]], [0.2, 0.15, 0.25]
    )
    assert row["goal"] == "<= 0.25"
    assert beside.beside_row("case", [1], "core", [1], "us")["goal"] is None

    other = {**row, "ratio": 0.3}
    assert beside.goals_met([row, other, {}]) == {"goals reached": "1 of 2"}
    assert beside.goals_met([{}]) == {}


def test_side_by_side_runs_both_once_before():
    calls = []
    ours, theirs = lambda: calls.append("o"), lambda: calls.append("t")
    row = beside.side_by_side("case", ours, "other", theirs, "s", 2, limit=1e9)
    assert "".join(calls) == "ot" + "otto"
    assert row["rounds"] == 2 and row["ratio"] > 0
