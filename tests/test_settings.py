"""Settings: their defaults, and the values they take."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.config import configure_settings, get_setting
from nengo_dl.settings import SETTINGS, validate_setting


def test_every_setting_accepts_its_default_and_is_read_back():
    for name, setting in SETTINGS.items():
        with nengo.Network() as net:
            configure_settings(**{name: setting.default})
        assert get_setting(net, name) == setting.default


@pytest.mark.parametrize(
    "name, value",
    [
        ("trainable", "yes"),
        ("trainable", 1),
        ("regularizer", "l2"),
        ("constraint", 1),
        ("inference_only", None),
        ("dtype", "float16"),
        ("dtype", None),
        ("dtype", "no dtype"),
        ("dtype", object()),
        ("keep_history", 0),
        ("stateful", None),
        ("use_loop", "x"),
        ("lif_smoothing", 0),
        ("lif_smoothing", True),
        ("lif_smoothing", float("inf")),
        ("lif_smoothing", "0.1"),
        ("learning_phase", 1.0),
        ("planner", "greedy"),
        ("sorter", 3),
        ("simplifications", [None]),
        ("simplifications", 3),
        ("spiking_training", None),
        ("surrogate", "triangel"),
        ("surrogate", int),
        ("executor", True),
        ("executor", ""),
        ("jit", "always"),
        ("jit", None),
        ("checkpoint", 0),
        ("checkpoint", 2.0),
        ("checkpoint", "sqrt"),
        ("truncate", -1),
        ("truncate", True),
    ],
)
def test_invalid_values_name_the_setting(name, value):
    with nengo.Network() as net:
        with pytest.raises(ValidationError, match=f"'{name}' must be .*; got"):
            configure_settings(**{"use_loop": False, "dtype": "float64", name: value})
    # nothing is set by a call that fails
    assert get_setting(net, "use_loop") is True
    assert get_setting(net, "dtype") == "float32"


@pytest.mark.parametrize(
    "name, value, stored",
    [
        ("dtype", np.float64, "float64"),
        ("dtype", np.dtype("float32"), "float32"),
        ("jit", np.True_, True),
        ("lif_smoothing", np.float32(0.5), 0.5),
        ("checkpoint", None, None),
        ("checkpoint", 16, 16),
        ("simplifications", (len, max), [len, max]),
        ("planner", len, len),
    ],
)
def test_valid_values_are_normalised(name, value, stored):
    with nengo.Network() as net:
        configure_settings(**{name: value})
    assert get_setting(net, name) == stored
    assert type(get_setting(net, name)) is type(stored)


def test_config_attributes_are_validated_too():
    with nengo.Network() as net:
        configure_settings(trainable=None, dtype="float32")
    with pytest.raises(ValidationError, match="'trainable' must be"):
        net.config[nengo.Connection].trainable = "no"
    with pytest.raises(ValidationError, match="'dtype' must be"):
        net.config[nengo.Network].dtype = "int32"


def test_a_value_is_checked_without_a_network_too():
    assert validate_setting("truncate", np.int64(3)) == 3
    with pytest.raises(ValidationError, match=r"'truncate' must be None or an integer"):
        validate_setting("truncate", 0)
