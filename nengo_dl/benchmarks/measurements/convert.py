"""Converted networks: beside the Keras model that they were made of."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import nengo
import numpy as np
import tensorflow as tf

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.measurements.train import beside_trained, epoch
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.timing import check_positive
from nengo_dl.converter import Converter
from nengo_dl.simulator import Simulator

NOTES = f"""{beside.NOTES} Two convolutions and two dense layers. Training: an epoch of
fit, in milliseconds per batch. Spikes: one step of the converted network for all items of
a batch, beside the forward pass of the model for as many."""


def convolutional(
    size: int = 28, filters: tuple[int, ...] = (16, 32), units: int = 64
) -> keras.Model:
    """A small convolutional network for grey pictures of ten classes.

    ``size``: pixels of each side. ``filters``: (int, int), of both convolutions.
    ``units``: of the hidden dense layer.
    """
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(filters[0], 3, activation="relu")(inputs)
    x = layers.Conv2D(filters[1], 3, strides=2, activation="relu")(x)
    x = layers.Dense(units, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def measure_training(model: keras.Model, batch: int, batches: int, repeats: int) -> Row:
    """Training of a converted model beside that of the model.

    ``batch``, ``batches``: items of a batch, and batches of an epoch. ``repeats``: epochs
    of each.
    """
    converter, items = Converter(model), batch * batches
    rng = np.random.RandomState(0)
    x = rng.rand(items, *model.input_shape[1:]).astype("float32")
    y = rng.randint(model.output_shape[-1], size=(items, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy = keras.models.clone_model(model)
    copy.compile(keras.optimizers.SGD(0.01), loss=loss)
    with Simulator(converter.net, minibatch_size=batch, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.01), loss=loss)
        data = {converter.inputs[model.input]: x.reshape(items, 1, -1)}
        goal = {converter.outputs[model.output]: y[:, None]}
        ours = epoch(lambda **kwargs: sim.fit(data, goal, **kwargs), batches)
        theirs = epoch(lambda **kw: copy.fit(x, y, batch_size=batch, **kw), batches)
        return beside_trained(
            "training", 1, ours, theirs, "keras.Model.fit", repeats, 1.1
        )


def measure_spikes(model: keras.Model, batch: int, steps: int, repeats: int) -> Row:
    """A step of a converted model with spikes beside a forward pass of the model.

    ``batch``: items of a batch. ``steps``: steps of a run, and forward passes.
    ``repeats``: runs of each.
    """
    converter = Converter(
        model,
        swap_activations={"relu": nengo.SpikingRectifiedLinear()},
        scale_firing_rates=100,
        synapse=0.005,
        inference_only=True,
    )
    x = np.random.RandomState(0).rand(batch, *model.input_shape[1:]).astype("float32")
    data = {converter.inputs[model.input]: np.tile(x.reshape(batch, 1, -1), (steps, 1))}
    forward = tf.function(lambda x: model(x, training=False), autograph=False)
    pictures = tf.constant(x)

    def passes():
        for _ in range(steps - 1):
            forward(pictures)
        forward(pictures).numpy()

    with Simulator(converter.net, minibatch_size=batch, progress_bar=False) as sim:
        row = beside.side_by_side(
            "spikes",
            lambda: sim.run_steps(steps, data=data),
            "forward pass of Keras",
            passes,
            "ms/step",
            repeats,
            limit=2.0,
            scale=1e3 / steps,
        )
    return {**row, "item_us": row["ours"] / batch * 1e3}


@measurement(
    (*beside.COLUMNS, beside.Column("us/item", "item_us", ".1f")),
    NOTES,
    beside.goals_met,
    charts.ratio_bars,
)
def convert(
    batch: int = 64, batches: int = 32, steps: int = 48, repeats: int = 9
) -> Iterator[Row]:
    """Measure a converted network beside the Keras model that it was made of.

    Parameters
    ----------
    batch : int
        Items of a batch.
    batches : int
        Batches of an epoch.
    steps : int
        Steps of a run.
    repeats : int
        Rounds.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(batch=batch, batches=batches, steps=steps, repeats=repeats)
    yield measure_training(convolutional(), batch, batches, repeats)
    yield measure_spikes(convolutional(), batch, steps, repeats)
