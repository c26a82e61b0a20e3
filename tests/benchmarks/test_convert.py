"""Measurements of converted networks."""

from nengo_dl.benchmarks.measurements.convert import (
    convolutional,
    measure_spikes,
    measure_training,
)


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
