"""Surrogate gradients: their formulas and parameters, and what makes them values."""

import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError
from scipy import stats

import nengo_dl
from nengo_dl import surrogates
from nengo_dl.config import get_setting
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.surrogates import (
    ArcTan,
    FastSigmoid,
    Gaussian,
    RateDerivative,
    SpikeTraining,
    StraightThrough,
    Surrogate,
    Triangle,
)

#: each surrogate with the smooth step whose derivative it is
SMOOTH_STEPS = [
    (FastSigmoid(4.0), lambda x: x / (1 + 4 * np.abs(x))),
    (FastSigmoid(), lambda x: x / (1 + 10 * np.abs(x))),
    (ArcTan(3.0), lambda x: np.arctan(np.pi / 2 * 3 * x) / np.pi),
    (ArcTan(), lambda x: np.arctan(np.pi * x) / np.pi),
    (Triangle(0.5, 0.3), lambda x: _ramp(x / 0.5) * 0.5 * 0.3),
    (Triangle(), lambda x: _ramp(x)),
    (Gaussian(0.2), lambda x: _normal(x / 0.2)),
    (Gaussian(), lambda x: _normal(x / 0.5)),
    (StraightThrough(0.7), lambda x: np.clip(x, -0.7, 0.7)),
    (StraightThrough(), lambda x: x),
]


def _ramp(x):
    x = np.clip(x, -1, 1)
    return x - np.sign(x) * x**2 / 2


def _normal(x):
    return stats.norm.cdf(x)


def str_of_surrogate(value):
    """A name for a test, the same in each process (a function's address is not)."""
    return repr(value) if isinstance(value, Surrogate) else "step"


@pytest.mark.parametrize("surrogate, step", SMOOTH_STEPS, ids=str_of_surrogate)
def test_derivatives_of_smooth_steps(surrogate, step, rng, allclose):
    x = rng.uniform(-2, 2, (40, 3))
    h = 1e-6
    expected = (step(x + h) - step(x - h)) / (2 * h)
    assert allclose(surrogate.derivative(np, x), expected, rtol=1e-6, atol=1e-8)
    for make in (NumpyNamespace, TensorFlowNamespace):
        found = surrogate.derivative(make("float64"), x + make("float64").zeros((40, 3)))
        assert allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("surrogate", [s for s, _ in SMOOTH_STEPS], ids=repr)
def test_shape_of_derivatives(surrogate):
    x = np.arange(-24, 25) / 8  # exact numbers
    h = surrogate.derivative(np, x)
    assert h.shape == x.shape and (h >= 0).all()
    assert np.allclose(h, h[::-1], rtol=1e-12, atol=1e-300)
    assert h[24] == h.max() > 0
    assert (np.diff(h[24:]) <= 0).all()


def test_those_by_default_are_at_most_one():
    # a soft reset takes the surrogate away: with more it would turn gradients round
    for name in set(surrogates.__all__) - {"Surrogate"}:
        surrogate = getattr(surrogates, name)()
        if surrogate.of_membrane:
            assert 0.5 < surrogate.derivative(np, np.zeros(1))[0] <= 1, name


@pytest.mark.parametrize("surrogate", [RateDerivative(), *(s for s, _ in SMOOTH_STEPS)])
def test_surrogates_are_values(surrogate):
    copy = pickle.loads(pickle.dumps(surrogate))
    assert copy == surrogate and hash(copy) == hash(surrogate)
    assert eval(repr(surrogate), vars(surrogates)) == surrogate


def test_different_surrogates_differ():
    different = [RateDerivative(), *(s for s, _ in SMOOTH_STEPS)]
    assert len(set(different)) == len(different)
    assert Triangle() != "Triangle()" and Triangle(1) == Triangle(1.0)
    assert StraightThrough() != StraightThrough(1)


@pytest.mark.parametrize(
    "make, name",
    (
        (FastSigmoid, "slope"),
        (ArcTan, "alpha"),
        (Triangle, "width"),
        (Triangle, "height"),
        (Gaussian, "sigma"),
        (StraightThrough, "width"),
    ),
)
@pytest.mark.parametrize("value", (0, -1.0, np.inf, np.nan, "1", True))
def test_parameters_are_positive_numbers(make, name, value):
    with pytest.raises(ValidationError, match=f"{make.__name__}.{name}: expected a fin"):
        make(**{name: value})
    assert getattr(make(**{name: np.float32(0.5)}), name) == 0.5


def test_a_surrogate_says_what_it_lacks():
    class Nothing(Surrogate):
        """Of no use."""

    with pytest.raises(TypeError, match="abstract class Nothing .* '?derivative'?"):
        Nothing()
    with pytest.raises(TypeError, match="RateDerivative .* has no derivative"):
        nengo_dl.surrogates.RateDerivative().derivative(np, np.zeros(1))


def test_surrogates_of_populations():
    spikes = SpikeTraining(True, Triangle(), (("a", ArcTan()),))
    assert spikes.surrogate_of("a") == ArcTan()
    assert spikes.surrogate_of("b") == Triangle()
    assert spikes == SpikeTraining(True, Triangle(), (("a", ArcTan()),))
    assert len({spikes, SpikeTraining(), SpikeTraining()}) == 2


@pytest.mark.parametrize("name", [n for n in surrogates.__all__ if n != "Surrogate"])
def test_surrogates_by_name_and_class(name):
    cls = getattr(surrogates, name)
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    for given in (name, snake, cls, cls()):
        with nengo.Network() as net:
            nengo_dl.configure_settings(surrogate=given)
            ens = nengo.Ensemble(3, 1)
        assert get_setting(net, "surrogate") == cls()
        net.config[ens].surrogate = given
        assert net.config[ens].surrogate == cls()


@pytest.mark.parametrize("wrong", ["fast", "surrogate", int, 3])
def test_what_is_no_surrogate(wrong):
    with nengo.Network(), pytest.raises(ValidationError, match="name 'fast_sigmoid'"):
        nengo_dl.configure_settings(surrogate=wrong)
