"""Names of what a model becomes, which are the same whenever the model is made."""

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.graph_walk import Names


class Unnamed(layers.Layer):
    """A layer whose weights have no names."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="uniform")
        self.offset = self.add_weight(shape=(shape[-1],), initializer="uniform")

    def call(self, x):
        return self.factor * x + self.offset


def made():
    """Layers that nobody named, in a model within a model, within another layer."""
    inside = keras.Sequential([layers.Dense(3, activation="relu"), layers.Dense(3)])
    inputs = keras.Input((4,))
    x = inside(inputs)
    x = layers.Reshape((3, 1))(layers.Dense(3, activation="relu")(x) + 1)
    x = layers.TimeDistributed(layers.Dense(2))(x)
    x = Unnamed()(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def simulated(model):
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    converter.net.seed = 0
    sim = nengo_dl.Simulator(converter.net, minibatch_size=2, progress_bar=False)
    return converter, sim


def all_names(sim):
    """Names of parameters, inputs and probes, and labels of all objects."""
    net = sim.network
    objects = [*net.all_objects, net]
    return (
        [p.name for p in sim._files.entries],
        [sim.get_name(obj) for obj in (*net.all_probes, net.all_nodes[0])],
        [obj.label for obj in objects],
    )


def test_a_model_that_is_made_again_has_the_names_and_takes_the_parameters(tmp_path):
    x = np.random.RandomState(0).uniform(size=(2, 1, 4))
    first, other = made(), made()
    assert first.layers[1].name != other.layers[1].name
    converter, sim = simulated(first)
    with sim:
        names = all_names(sim)
        sim.save_params(tmp_path / "params")
        expected = sim.predict(x, verbose=0)[converter.probes[0]]
    again, sim = simulated(other)
    with sim:
        assert all_names(sim) == names
        assert not np.allclose(sim.predict(x, verbose=0)[again.probes[0]], expected)
        sim.load_params(tmp_path / "params")
        found = sim.predict(x, verbose=0)
        assert np.array_equal(found[again.probes[0]], expected)
    assert again.layers[other.layers[2].name] is again.layers[other.layers[2]]


def test_so_has_a_model_that_was_saved_and_one_within_another_network(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    copies = [model, keras.models.load_model(tmp_path / "model.keras")]
    copies.append(keras.models.clone_model(model))
    found = []
    for one in copies:
        with nengo.Network() as net:
            nengo_dl.Converter(one)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            found.append(all_names(sim))
            if one is model:
                sim.save_params(tmp_path / "params")
            sim.load_params(tmp_path / "params")
    assert found[0] == found[1] == found[2]
    assert any(name.startswith("networks['sequential']") for name in found[0][0])


@pytest.mark.parametrize("earlier", (0, 8))
def test_files_with_the_numbers_of_keras_are_read(tmp_path, monkeypatch, earlier):
    """Also if a number is that of another layer now, or a digit more."""
    path = tmp_path / "params"
    x = np.random.RandomState(0).uniform(size=(2, 1, 4))
    for _ in range(earlier):
        layers.Dense(2)
    with monkeypatch.context() as patched:
        patched.setattr(Names, "__getitem__", lambda self, operation: operation.name)
        converter, sim = simulated(made())
        with sim:
            before = all_names(sim)
            expected = sim.predict(x, verbose=0)[converter.probes[0]]
            sim.save_params(path)
    again, sim = simulated(made())
    with sim:
        assert set(before[0]) != set(all_names(sim)[0])
        sim.load_params(path)
        assert np.array_equal(sim.predict(x, verbose=0)[again.probes[0]], expected)


def test_names_that_were_given_stay():
    inputs = keras.Input((4,), name="in")
    x = layers.Dense(2, name="hidden_7")(layers.Dense(2, name="conv2d_3")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x), name="mine")
    names = Names(model)
    given = [names[layer] for layer in (model, *model.layers)]
    assert given == ["mine", "in", "conv2d_3", "hidden_7", "dense"]
    assert names.automatic == {"dense"}
