import warnings

import keras
import nengo
import numpy as np
import pytest

from nengo_dl.converter.options import Options


def test_synapse():
    assert Options(synapse=0.1).synapse == nengo.Lowpass(0.1)
    assert Options(synapse=nengo.Alpha(0.1)).synapse == nengo.Alpha(0.1)
    assert Options().synapse is None
    with pytest.raises(TypeError, match="synapse must be a Nengo synapse"):
        Options(synapse="slow")


def test_scales():
    a, b = keras.layers.ReLU(name="a"), keras.layers.ReLU(name="b")
    options = Options(scale_firing_rates={a: 2, "b": 3, "c": 4})
    assert [options.scale_of(layer) for layer in (a, b)] == [2, 3]
    assert list(options.unused()) == [("scale_firing_rates", "c")]
    assert Options(scale_firing_rates=5).scale_of(a) == 5
    for wrong in (0, -1, "much", True, np.inf, np.nan):
        with pytest.raises(ValueError, match="must be a number greater than 0"):
            Options(scale_firing_rates=wrong)


def test_swaps_are_neuron_types():
    with pytest.raises(TypeError, match=r"swap_activations\['relu'\] must be"):
        Options(swap_activations={"relu": nengo.LIF})
    with pytest.raises(TypeError, match="must be .* a Keras activation .*; got 'rleu'"):
        Options(swap_activations={"relu": "rleu"})
    with pytest.raises(TypeError, match=r"must be a dict .*; got LIF\(\)"):
        Options(swap_activations=nengo.LIF())


def test_warnings_point_at_the_caller():
    options = Options()
    with pytest.warns(UserWarning, match="something") as found:
        options.warn("something")
        options.warn("something")
    assert [warning.filename for warning in found] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options.warn("something")
        with pytest.raises(UserWarning, match="something else"):
            options.warn("something else")


def test_factors_by_name_and_unused_ones():
    layer = keras.layers.ReLU(name="a")
    options = Options(
        scale_firing_rates={"a": 2},
        swap_activations={"tanh": nengo.LIF(), "relu": None},
    )
    assert options.scale_of(layer) == 2
    assert options.scale_of(keras.layers.ReLU(name="b")) == 1
    assert list(options.unused()) == [
        ("swap_activations", "tanh"),
        ("swap_activations", "relu"),
    ]
