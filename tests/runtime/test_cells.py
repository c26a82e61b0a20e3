"""Keras cells: the form of their states, and dropout."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.runtime.tensorflow.cells import CellStates, dropout_of_one_call


@pytest.mark.parametrize(
    "layer, shapes, arranged",
    (
        (keras.layers.GRUCell(3), [(3,)], ["a"]),
        (keras.layers.LSTMCell(3), [(3,), (3,)], ["a", "b"]),
        (
            keras.layers.StackedRNNCells(
                [keras.layers.LSTMCell(2), keras.layers.SimpleRNNCell(4)]
            ),
            [(2,), (2,), (4,)],
            [["a", "b"], "c"],
        ),
        (keras.layers.GRU(3), [], []),
        (None, [], []),
    ),
)
def test_states(layer, shapes, arranged):
    states = CellStates(layer)
    assert states.shapes == shapes
    names = ["a", "b", "c"][: len(shapes)]
    assert states.arranged(names) == arranged
    assert states.flat(arranged) == names


def test_states_that_are_no_vectors():
    class Cell(keras.layers.Layer):
        state_size = ((2, 3), 4)

    assert CellStates(Cell()).shapes == [(2, 3), (4,)]


def test_what_is_dropped_is_of_one_call(rng):
    cell = keras.layers.SimpleRNNCell(2, dropout=0.5, seed=0)
    x, state = rng.uniform(size=(3, 50)).astype("float32"), [tf.zeros((3, 2))]
    cell.build((3, 50))
    cell.get_dropout_mask(tf.ones((7, 50)))  # of other data
    found = []
    for _ in range(2):
        with dropout_of_one_call(cell, training=True):
            found.append(cell(x, state, training=True)[0].numpy())
    assert not np.allclose(*found)
    with pytest.raises(ZeroDivisionError), dropout_of_one_call(cell, training=True):
        cell.get_dropout_mask(x)
        raise ZeroDivisionError
    assert cell._dropout_mask is None


def test_nothing_is_drawn_where_nothing_is_dropped(rng):
    cell = keras.layers.GRUCell(2, recurrent_dropout=0.5, seed=0)
    x, state = rng.uniform(size=(3, 4)).astype("float32"), [tf.zeros((3, 2))]
    with dropout_of_one_call(cell, training=False):
        cell(x, state, training=False)
    (seed,) = cell.non_trainable_variables
    assert np.array_equal(seed.numpy(), [0, 0])
    assert cell.recurrent_dropout == 0.5


def test_training_with_dropout(rng, allclose):
    cells = [
        keras.layers.GRUCell(3, dropout=0.5),
        keras.layers.LSTMCell(2, recurrent_dropout=0.5),
    ]
    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node([0.0, 0.0])
        cell = keras.layers.StackedRNNCells(cells)
        probe = nengo.Probe(nengo_dl.Layer(cell)(stimulus))
    x = rng.uniform(-1, 1, size=(4, 5, 2)).astype("float32")
    with nengo_dl.Simulator(net, minibatch_size=4) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        history = sim.fit(x, x, epochs=3, verbose=0).history["loss"]
        assert len(set(history)) == 3  # others are dropped each time
        expected = keras.layers.RNN(cell, return_sequences=True)(x)
        assert allclose(sim.predict(x)[probe], expected, atol=1e-6)
