import json

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import runs
from nengo_dl.benchmarks.measurements import compare
from nengo_dl.runtime.tensorflow import costs
from tests.benchmarks import tiny

FEW = {"seeds": 2, "steps": 20, "repeats": 2, "step_calls": 2, "memory": False}


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch):
    monkeypatch.setattr(compare, "warm_up", lambda *args, **kwargs: 0.0)
    monkeypatch.setattr(compare, "settle", lambda sim, steps: None)


def test_warm_up():
    assert runs.warm_up(3, jit=False) > 0


@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_compare(minibatch_size, monkeypatch, allclose):
    tiny.add_tiny(monkeypatch)
    core, ours = compare.compare(
        ["tiny"], dtype="float64", minibatch_size=minibatch_size, **FEW
    )
    assert (core["backend"], ours["backend"]) == ("core", "dl")
    assert core["seeds"] == ours["seeds"] == 2
    assert core["kernels"] is None and ours["kernels"] > 0
    assert ours["operators"] > 10
    for row in (core, ours):
        for key in ("us", "step_us", "build", "first", "second"):
            assert row[key] > 0
        assert row["us_low"] <= row["us"] <= row["us_high"]
    assert core["difference"] == 0 and ours["difference"] < 1e-8
    assert ours["minibatch_size"] == (minibatch_size or 1)
    assert ours["speedup_low"] <= ours["speedup"] <= ours["speedup_high"]
    assert "speedup" not in core and "memory" not in ours


def test_runs_are_compared_once_ours_has_settled(monkeypatch, no_machine_code):
    tiny.add_tiny(monkeypatch)
    monkeypatch.setattr(compare, "settle", runs.settle)
    monkeypatch.setattr(costs, "COMPILE_SECONDS", 0.01)
    seen, tiers = [], []

    def run_times(sims, steps, repeats):
        seen.extend(sim.n_steps for sim in sims)
        tiers.append(sims[1]._program._active[1])
        return [(1.0,)] * len(sims)

    monkeypatch.setattr(compare, "run_times", run_times)
    list(compare.compare(["tiny"], **{**FEW, "seeds": 1, "repeats": 1}))
    assert seen == [40, 60]
    assert tiers == ["tensorflow"]


def test_float32_and_each_tier(monkeypatch):
    tiny.add_tiny(monkeypatch)
    few = {**FEW, "seeds": 1, "repeats": 1}
    for tier in ("numpy", "native", "tensorflow"):
        _, ours = compare.compare(["tiny"], tier=tier, **few)
        assert 0 < ours["difference"] < 1e-5
    assert runs.known_tiers() == tuple(runs.TIERS)


def test_speedup_is_for_as_many_items(monkeypatch, allclose):
    results = [{"runs": (1.0, 2.0), "steps": (1.0,), "operators": 5, "kernels": None}]
    results[0] |= {"build": 1, "first": 1, "second": 1, "difference": 0.0}
    core = [{**results[0], "runs": (4.0, 4.0), "steps": (3.0,)}]
    backend = compare.chosen()[1]
    row = compare._row("x", backend, results, core, 10)
    assert allclose(row["us"], 1.5e6)
    assert allclose(row["speedup"], 10 * (4 + 2) / 2)  # median of 4 / 1 and 4 / 2
    assert allclose(row["step_speedup"], 30)


def test_networks_that_only_ours_can_run(monkeypatch):
    tiny.add_tiny(monkeypatch, everywhere=False)
    (row,) = compare.compare(["tiny"], **{**FEW, "seeds": 1, "repeats": 1})
    assert row["backend"] == "dl" and row["difference"] == 0 and "speedup" not in row


def test_memory_is_measured_in_another_process(monkeypatch):
    tiny.add_tiny(monkeypatch)
    asked = []

    def in_new_process(function, *args):
        asked.append(function)
        return function(*args)

    monkeypatch.setattr(compare, "in_new_process", in_new_process)
    few = {**FEW, "seeds": 1, "repeats": 1, "memory": True}
    rows = list(compare.compare(["tiny"], **few))
    assert asked == [compare.memory_of] * 2
    assert all(0 <= row["memory"] < 2000 for row in rows)


def test_mistakes(monkeypatch):
    with pytest.raises(ValidationError, match="networks: unknown: huge"):
        next(compare.compare(["huge"]))
    with pytest.raises(ValidationError, match="seeds: must be at least 1"):
        next(compare.compare(["chain"], seeds=0))

    def silent():
        with nengo.Network() as net:
            net.p = nengo.Probe(nengo.Node([0.0]))
        return net

    tiny.add_tiny(monkeypatch, builder=silent, sizes={})
    with pytest.raises(ValidationError, match="driven with a signal"):
        next(compare.compare(["tiny"], steps=5, memory=False))


def test_relative_difference(rng, allclose):
    expected = rng.uniform(-1, 1, size=(20, 3))
    expected[7, 1] = -2
    found = np.stack([expected, expected])
    assert runs.relative_difference(found, expected) == 0
    found[1, 3, 2] += 0.5
    assert allclose(runs.relative_difference(found, expected), 0.25)
    with pytest.raises(ValidationError, match="has to be driven with a signal"):
        runs.relative_difference(np.zeros((5, 1)), np.zeros((5, 1)))


def test_summary():
    rows = [
        {"network": "a", "backend": "core"},
        {"network": "a", "backend": "dl", "speedup": 2.0},
        {"network": "b", "backend": "dl", "speedup": 8.0},
        {"network": "a", "backend": "other"},
    ]
    summary = compare._speedup_summary(rows)
    assert summary["dl, times as fast as core, geometric mean"] == pytest.approx(4)
    assert summary["dl, times as fast as core, at least"] == "2.00 (a)"
    assert len(summary) == 2


def test_command(monkeypatch, capsys, tmp_path):
    tiny.add_tiny(monkeypatch)
    few = ["--seeds", 1, "--steps", 10, "--repeats", 1, "--step-calls", 1, "--no-memory"]
    outputs = ["--json", tmp_path / "c.json", "--rst", tmp_path / "c.rst"]
    outputs += ["--plot", tmp_path / "c.svg"]
    tiny.run_command("compare", "--networks", "tiny", *few, *outputs)

    lines = capsys.readouterr().out.splitlines()
    assert nengo.__version__ in lines[0]
    assert lines[1].split()[:2] == ["network", "backend"]
    assert [line.split()[:2] for line in lines[2:4]] == [["tiny", "core"], ["tiny", "dl"]]
    assert lines[4].startswith("dl, times as fast as core, geometric mean: ")
    done = json.loads((tmp_path / "c.json").read_text())
    assert done["measurement"] == "compare"
    assert done["command"] == (
        "python -m nengo_dl.benchmarks compare --networks tiny --seeds 1 --steps 10 "
        "--repeats 1 --step-calls 1 --no-memory"
    )
    assert [row["backend"] for row in done["rows"]] == ["core", "dl"]
    assert "image:: c.svg" in (tmp_path / "c.rst").read_text()
    assert (tmp_path / "c.svg").stat().st_size > 1000
