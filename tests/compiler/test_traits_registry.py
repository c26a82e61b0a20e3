"""Registries: entries by class, found along the method resolution order."""

import pytest
from nengo.builder.operator import Copy, Reset

from nengo_dl import kernels  # noqa: F401, registers all of them
from nengo_dl.compiler.lowering import OperatorRule
from nengo_dl.compiler.traits import Kernel, Registry, operators, structural


class Animal:
    pass


class Bird(Animal):
    pass


class Fish(Animal):
    pass


class FlyingFish(Bird, Fish):
    pass


@pytest.fixture
def sounds():
    made = Registry("sounds")
    made.add(Animal, "...")
    made.add(Bird, "tweet")
    made.add(Fish, "blub")
    return made


def test_find_takes_the_closest_ancestor(sounds):
    assert sounds.find(Animal) == "..."
    assert sounds.find(FlyingFish) == "tweet"
    assert sounds.find(int) is None


def test_exact_does_not_look_at_ancestors(sounds):
    assert sounds.exact(Bird) == "tweet"
    assert sounds.exact(FlyingFish) is None


def test_a_later_entry_replaces_an_earlier_one(sounds):
    sounds.add(Bird, "caw")
    assert sounds.find(FlyingFish) == "caw"
    assert len(sounds) == 3


def test_decorator_registers_for_all_classes_and_returns_its_object():
    made = Registry("sounds")

    @made.register(Bird, Fish)
    def silence():
        return ""

    assert silence() == ""
    assert made.exact(Bird) is made.exact(Fish) is silence
    assert Animal not in made


def test_contains_asks_for_classes_only(sounds):
    assert FlyingFish in sounds
    assert int not in sounds
    assert FlyingFish() not in sounds
    assert "Bird" not in sounds


def test_items_in_order_of_registration_and_safe_against_changes(sounds):
    for cls, _ in sounds.items():
        sounds.add(FlyingFish, cls.__name__)
    assert [cls for cls, _ in sounds.items()] == [Animal, Bird, Fish, FlyingFish]


@pytest.mark.parametrize("entry", [Bird(), "Bird", None, [Bird]])
def test_only_classes_can_be_registered(sounds, entry):
    with pytest.raises(TypeError, match="Registry of sounds: expected a class, got"):
        sounds.add(entry, "boo")


def test_operators_and_structural_kernels_are_registered():
    rules = dict(operators.items())
    assert {Reset, Copy} <= set(rules)
    assert all(isinstance(rule, OperatorRule) for rule in rules.values())
    assert isinstance(structural["sum"], Kernel)
