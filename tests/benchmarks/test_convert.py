"""Measurements of converted networks."""

from functools import partial

from nengo_dl.benchmarks.measurements.convert import (
    convolutional,
    measure_spikes,
    measure_training,
)
from nengo_dl.benchmarks.measurements.deep import convolutions, measure_conversion


def small():
    return convolutional(size=8, filters=(2, 3), units=4)


def test_the_network():
    model = small()
    assert model.input_shape == (None, 8, 8, 1) and model.output_shape == (None, 10)


def test_measure_training():
    row = measure_training(small(), batch=4, batches=2, repeats=1)
    assert row["ours"] > 0 and row["theirs"] > 0 and row["limit"] == 1.1
    assert row["beside"] == "keras.Model.fit" and row["unit"] == "ms/batch"


def test_measure_spikes():
    row = measure_spikes(small(), batch=4, steps=3, repeats=1)
    assert row["ours"] > 0 and row["theirs"] > 0 and row["limit"] == 2.0
    assert row["item_us"] == row["ours"] / 4 * 1e3


def test_measure_conversion():
    model = partial(convolutions, size=6, filters=2, layers=2)
    rows = measure_conversion("small", model)
    assert [row["phase"] for row in rows] == ["converted", "built", "predicted"]
    assert all(row["neurons"] == rows[0]["neurons"] >= 2 * 6 * 6 * 2 for row in rows)
    for figure in ("seconds", "peak"):
        found = [row[figure] for row in rows]
        assert found == sorted(found) and found[0] >= 0
