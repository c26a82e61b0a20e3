"""Which arguments functions of tensors take."""

import functools

import keras
import numpy as np
import pytest

from nengo_dl.kernels.tensor_function import takes_training, wrong_arguments


def timed(t, x, scale=1.0, *, bias=0.0, **options):
    """Takes two arguments, or three."""


class Called(keras.layers.Layer):
    def call(self, x, training, mask=None):
        return x


FUNCTIONS = {
    "timed": timed,
    "partial": functools.partial(timed, 0.5),
    "any": lambda *arguments: arguments,
    "none": lambda: None,
    "ufunc": np.exp,
    "layer": Called().call,
    "model": keras.Sequential([keras.Input((2,))]).call,
}


@pytest.mark.parametrize(
    "name, given",
    (
        ("timed", "t x"),
        ("timed", "t x states"),
        ("partial", "x"),
        ("any", "t x"),
        ("none", ""),
        ("ufunc", "t x"),
        ("layer", "x"),
        ("model", "x"),
    ),
)
def test_what_is_right(name, given):
    assert wrong_arguments(FUNCTIONS[name], given.split()) is None


@pytest.mark.parametrize(
    "name, given, message",
    (
        ("timed", "t", "(t, x, scale), but is called as f(t); with a shape_in"),
        ("timed", "x", "called as f(x); with pass_time=True it is given the time"),
        ("layer", "t x", "(x), but is called as f(t, x); with pass_time=False it is"),
        ("model", "t x", "(inputs), but is called as f(t, x); with pass_time=False"),
        ("none", "x", "takes (), but is called as f(x)"),
    ),
)
def test_what_is_wrong(name, given, message):
    assert message in wrong_arguments(FUNCTIONS[name], given.split())


def test_training():
    assert takes_training(lambda x, training: x)
    assert not takes_training(timed) and not takes_training(print)
