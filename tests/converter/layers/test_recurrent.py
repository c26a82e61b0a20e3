import keras
import pytest
from keras import layers

import nengo_dl
from tests.converter.models import verified


def test_time_distributed(rng):
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Reshape((2, 2)), layers.Dense(2), layers.Flatten()]
    )
    inputs = keras.Input((3, 4))
    x = layers.TimeDistributed(layers.Dense(4, activation="tanh"))(inputs)
    converter = verified(
        keras.Model(inputs, layers.TimeDistributed(inner)(x)), rng, native=True
    )
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        sizes = [v.shape.num_elements() for v in sim.keras_model.trainable_weights]
    assert sum(sizes) == 4 * 4 + 4 + 2 * 2 + 2  # the same for all entries


def test_recurrent_layers_step_by_step(rng):
    inputs = keras.Input((5, 3))
    x = layers.LSTM(4, return_sequences=True)(inputs)
    x = layers.TimeDistributed(layers.Dense(3, activation="tanh"))(x)
    x = layers.Concatenate()([x, inputs])
    y = layers.GRU(3, return_sequences=True)(x)
    z = layers.Dense(2)(layers.SimpleRNN(3)(y))
    cells = [layers.SimpleRNNCell(2), layers.LSTMCell(3)]
    w = layers.RNN(cells)(x)
    model = keras.Model(inputs, [y, z, w])
    converter = verified(model, rng, training=False, temporal_model=True)
    assert converter.net.config[converter.outputs[y]].keep_history
    assert not converter.net.config[converter.outputs[z]].keep_history


def test_recurrent_layers_are_trained_alike(rng):
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(2)(inputs)))
    verified(model, rng, temporal_model=True)


def test_whole_sequences_outside_of_temporal_models(rng):
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.SimpleRNN(2)(inputs))
    with pytest.warns(UserWarning, match="temporal_model=True it runs step by step"):
        verified(model, rng, native=False)


def sequences(**kwargs):
    return layers.LSTM(2, return_sequences=True, **kwargs)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Flatten(),
        layers.Conv1D(2, 3),
        layers.Permute((2, 1)),
        layers.Concatenate(axis=1),
        layers.BatchNormalization(axis=1),
        layers.Bidirectional(layers.LSTM(2)),
        sequences(go_backwards=True),
        sequences(dropout=0.5),
        layers.Softmax(axis=1),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_that_mix_steps_are_refused(layer):
    inputs = keras.Input((4, 3))
    x = [inputs, inputs] if isinstance(layer, layers.Concatenate) else inputs
    model = keras.Model(inputs, layer(x))
    with pytest.raises(TypeError, match="axis 1 is the time"):
        nengo_dl.Converter(model, temporal_model=True)


def test_what_would_help_is_told():
    model = keras.Sequential([keras.Input((4, 3)), sequences(dropout=0.5)])
    message = "inference_only=True leaves it out. Nor can it be a TensorNode: .* axis 1"
    with pytest.raises(TypeError, match=message):
        nengo_dl.Converter(model, temporal_model=True)
    options = {"temporal_model": True, "inference_only": True}
    assert nengo_dl.Converter(model, **options).verify(atol=1e-6)


def test_normalization_step_by_step(rng):
    inputs = keras.Input((4, 3))
    x = layers.LayerNormalization()(layers.Rescaling(2.0)(inputs))
    x = layers.Softmax()(layers.BatchNormalization()(x))
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        verified(
            keras.Model(inputs, x), rng, training=False, native=False, temporal_model=True
        )


def test_masks_are_refused():
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.Masking()(inputs))
    with pytest.raises(TypeError, match="masks of time steps"):
        nengo_dl.Converter(model, temporal_model=True)


class Decay(layers.Layer):
    """A cell that does not say what it starts with: then it is zero."""

    state_size = 3
    output_size = 3

    def build(self, shape):
        self.rate = self.add_weight(shape=(3,), name="rate")

    def call(self, x, states):
        state = self.rate * states[0] + x
        return keras.ops.tanh(state), [state]


def test_own_cells(rng):
    inputs = keras.Input((None, 3))
    x = layers.RNN(Decay(), return_sequences=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2, activation="tanh")(x))
    verified(model, rng, temporal_model=True)


def test_slopes_that_differ_between_steps(rng):
    inputs = keras.Input((4, 3))
    with pytest.raises(TypeError, match="axis 1 is the time"):
        nengo_dl.Converter(
            keras.Model(inputs, layers.PReLU()(inputs)), temporal_model=True
        )
    model = keras.Model(inputs, layers.PReLU(shared_axes=[1])(inputs))
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        verified(model, rng, native=False, temporal_model=True)
