"""Generators that are seeded again give the numbers of those that are made anew."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.exceptions import BuildError

from nengo_dl.builder import NengoBuilder
from nengo_dl.simulator import seeding
from nengo_dl.simulator.decoders import SharingBuilder, solved_once


class Keeping(nengo.dists.Distribution):
    """A user's distribution: it may keep the generator, and draw from it later."""

    kept = ()

    def sample(self, n, d=None, rng=np.random):
        Keeping.kept = (*self.kept, rng)
        return rng.uniform(0.1, 0.9, size=n if d is None else (n, d))


class Weird(nengo.LIF):
    """A user's neuron type."""


@pytest.fixture
def made(monkeypatch):
    """What is built with a generator that was made before, in this order."""
    objects = []
    build = seeding.Generators.build

    def noted(self, function, model, obj):
        objects.append(obj)
        return build(self, function, model, obj)

    monkeypatch.setattr(seeding.Generators, "build", noted)
    return objects


def built(net):
    model = Model(builder=NengoBuilder())
    with solved_once(model, net):
        model.build(net)
    return model


def test_a_generator_starts_with_the_numbers_of_each_seed():
    numbers = seeding._Reseeded()
    for seed in (0, 5, 2**32 - 1, 7, 5):
        rng = np.random.RandomState(numbers.start(seed))
        expected = np.random.RandomState(seed)
        for found, wanted in zip(rng.get_state(), expected.get_state(), strict=True):
            assert np.array_equal(found, wanted)
        assert rng.normal() == expected.normal()  # which leaves a second one behind
        assert rng.randint(2**31) == expected.randint(2**31)


def test_a_wrong_seed_is_the_error_of_numpy():
    with pytest.raises(ValueError) as expected:
        np.random.RandomState(-1)
    with pytest.raises(ValueError) as found:
        seeding._Reseeded().start(-1)
    assert str(found.value) == str(expected.value)


def test_most_objects_need_no_generator_of_their_own(made):
    with nengo.Network(seed=1) as net:
        node = nengo.Node([0.5])
        ensembles = [nengo.Ensemble(10, 1), nengo.Ensemble(10, 1, seed=4)]
        own = nengo.Ensemble(10, 1, neuron_type=Weird())
        poisson = nengo.Ensemble(10, 1, neuron_type=nengo.PoissonSpiking(nengo.LIFRate()))
        connections = [
            nengo.Connection(node, ensembles[0]),
            nengo.Connection(*ensembles),
            nengo.Connection(*ensembles, solver=nengo.solvers.NoSolver()),
            nengo.Connection(*ensembles, transform=nengo.dists.Uniform(0, 1)),
            nengo.Connection(
                ensembles[0], ensembles[1].neurons, transform=np.ones((10, 1))
            ),
        ]
        learning = nengo.Connection(*ensembles, learning_rule_type=nengo.PES())
    model = built(net)
    assert made == [*ensembles, *connections]
    assert not {own, poisson, learning} & set(made)
    assert all(isinstance(seed, int | np.integer) for seed in model.seeds.values())


@pytest.mark.parametrize("place", ["transform", "eval_points", "encoders", "voltage"])
def test_who_may_keep_a_generator_gets_one(place, made):
    Keeping.kept = ()
    keeping = Keeping()
    with nengo.Network(seed=1) as net:
        lif = nengo.LIF(
            initial_state={"voltage": keeping} if place == "voltage" else None
        )
        encoders = {"encoders": keeping} if place == "encoders" else {}
        ensembles = [nengo.Ensemble(10, 1, neuron_type=lif, **encoders) for _ in "ab"]
        given = {place: keeping} if place in ("transform", "eval_points") else {}
        for _ in "ab":
            nengo.Connection(*ensembles, **given)
    built(net)
    assert not [obj for obj in made if (type(obj) is nengo.Connection) == bool(given)]
    drawn = [rng.uniform() for rng in Keeping.kept]
    model = Model()
    Keeping.kept = ()
    model.build(net)
    assert drawn == [rng.uniform() for rng in Keeping.kept]
    assert len(set(drawn)) == 2


def test_seeds_are_seeds_after_an_error():
    with nengo.Network(seed=1) as net:
        silent = nengo.Ensemble(
            5, 1, gain=np.ones(5), bias=np.full(5, -9.0), encoders=np.ones((5, 1))
        )
        conn = nengo.Connection(silent, nengo.Node(size_in=1))
    model = Model(builder=NengoBuilder())
    with pytest.raises(BuildError), solved_once(model, net):
        model.build(net)
    assert isinstance(model.seeds[conn], int | np.integer)


def test_own_builders_see_seeds():
    class Own(NengoBuilder):
        builders = {}

    seen = []

    def build_ensemble(model, ens):
        seen.append(model.seeds[ens])
        return nengo.builder.ensemble.build_ensemble(model, ens)

    Own.builders[nengo.Ensemble] = build_ensemble
    with nengo.Network(seed=1) as net:
        ens = nengo.Ensemble(5, 1)
    model = Model()
    model.builder = SharingBuilder(Own())
    model.build(net)
    assert seen == [model.seeds[ens]]
