"""Distributions: their limits, shapes and moments, by themselves and in networks."""

import inspect
import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.dists import Glorot, He, TruncatedNormal, VarianceScaling

ALL = [TruncatedNormal(), VarianceScaling(), Glorot(), He()]


def density_moment(limit, power, n=200001):
    """A moment of the standard normal distribution within +-limit, by integration."""
    x = np.linspace(-limit, limit, n)
    p = np.exp(-0.5 * x**2)
    return np.sum(p * x**power) / np.sum(p)


@pytest.mark.parametrize("dist", ALL, ids=repr)
def test_shape_and_generator(dist):
    draw = [dist.sample(3, 4, rng=np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert draw[0].shape == (3, 4)
    assert np.array_equal(draw[0], draw[1])
    assert not np.any(draw[0] == draw[2])
    assert dist.sample(5).shape == (5,)
    assert dist.sample(0, 2).shape == (0, 2)


@pytest.mark.parametrize("dist", ALL, ids=repr)
def test_equality_copies_and_pickles(dist, rng):
    again = pickle.loads(pickle.dumps(dist))
    assert again == dist and hash(again) == hash(dist) and repr(again) == repr(dist)
    assert again != type(dist)(3)
    assert np.array_equal(
        again.sample(2, 2, np.random.RandomState(1)),
        dist.sample(2, 2, np.random.RandomState(1)),
    )


@pytest.mark.parametrize("limit", [None, 0.3, 1.0, 1.5, 5.0])
@pytest.mark.parametrize("mean, stddev", [(0, 1), (-2, 0.1)])
def test_truncated_normal(mean, stddev, limit, rng, allclose):
    dist = TruncatedNormal(mean, stddev, None if limit is None else limit * stddev)
    scaled = (dist.sample(20000, 2, rng=rng) - mean) / stddev
    limit = 2 if limit is None else limit
    assert np.abs(scaled).max() <= limit * (1 + 1e-12)
    assert np.abs(scaled).max() > 0.9 * min(limit, 4)
    assert allclose(scaled.mean(), 0, atol=0.02)
    for power in (2, 4):
        expected = density_moment(limit, power)
        assert allclose((scaled**power).mean(), expected, rtol=0.05)


@pytest.mark.parametrize("stddev, limit", [(0, None), (0, 1), (1, 0)])
def test_truncated_normal_without_width(stddev, limit, rng):
    assert np.array_equal(TruncatedNormal(3, stddev, limit).sample(4, 2, rng), 3 * ones)


ones = np.ones((4, 2))


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(
    "mode, fan", [("fan_in", 500), ("fan_out", 100), ("fan_avg", 300)]
)
def test_variance_scaling(mode, fan, distribution, rng, allclose):
    """Of a matrix (n, d), n are the outputs and d the inputs."""
    samples = VarianceScaling(3, mode, distribution).sample(100, 500, rng)
    assert allclose(samples.mean(), 0, atol=0.002)
    assert allclose(samples.var(), 3 / fan, rtol=0.03)
    fourth = (samples**4).mean() / samples.var() ** 2
    cut = density_moment(2, 4) / density_moment(2, 2) ** 2
    assert allclose(fourth, {"uniform": 9 / 5, "normal": cut}[distribution], rtol=0.03)


def test_vectors_have_one_input(rng, allclose):
    assert allclose(
        VarianceScaling(2, "fan_in").sample(20000, rng=rng).var(), 2, rtol=0.05
    )


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_glorot_and_he(distribution, rng, allclose):
    glorot = Glorot(distribution=distribution).sample(100, 300, rng)
    assert allclose(glorot.var(), 2 / 400, rtol=0.03)
    he = He(distribution=distribution).sample(100, 300, rng)
    assert allclose(he.var(), 2 / 300, rtol=0.03)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_scale_of_he_is_read_as_scripts_write_it(distribution, rng, allclose):
    """Without it the paper's variance, which others write as the root of two."""

    def variance(*scale):
        return He(*scale, distribution=distribution).sample(200, 300, rng).var() * 300

    assert allclose(variance(), 2, rtol=0.03)
    assert allclose(variance(np.sqrt(2)), 2, rtol=0.03)
    assert allclose(variance(1), 1, rtol=0.03)
    assert allclose(variance(0.5), 0.25, rtol=0.03)
    assert He() == He(np.sqrt(2)) != He(1)
    assert inspect.signature(He).parameters["scale"].default == 1
    assert pickle.loads(pickle.dumps(He())) == He()


@pytest.mark.parametrize(
    "make",
    [
        lambda: TruncatedNormal(stddev=-1),
        lambda: TruncatedNormal(limit=-1),
        lambda: VarianceScaling(scale=-1),
        lambda: VarianceScaling(mode="fan"),
        lambda: Glorot(distribution="gaussian"),
    ],
)
def test_wrong_values_are_refused(make):
    with pytest.raises(ValidationError):
        make()


def test_in_a_network(allclose):
    """Weights are drawn by Nengo's builder: rows are outputs."""
    with nengo.Network(seed=0) as net:
        a, b = (nengo.Ensemble(n, 1).neurons for n in (60, 30))
        conn = nengo.Connection(a, b, transform=nengo_dl.dists.He())
    with nengo.Simulator(net, progress_bar=False) as sim:
        expected = sim.data[conn].weights
    assert expected.shape == (30, 60) and 0.8 < expected.var() * 30 < 1.2
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert allclose(sim.data[conn].weights, expected, rtol=1e-6)
