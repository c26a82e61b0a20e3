"""Paths of older releases lead to what is there now."""

import importlib
import pickle
import sys

import pytest

import nengo_dl
from nengo_dl.compat.moved import MOVED, MovedModules, find_moved_modules


@pytest.mark.parametrize("old", sorted(MOVED))
def test_old_path_is_the_new_module(old):
    assert importlib.import_module(old) is importlib.import_module(MOVED[old])


def test_pickles_by_the_old_path_load():
    name = b"cnengo_dl.compiler.planners\nnoop_planner\n."
    assert pickle.loads(name) is nengo_dl.graph_optimizer.noop_planner


def test_what_has_not_moved_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="nengo_dl.compiler.nowhere"):
        importlib.import_module("nengo_dl.compiler.nowhere")


def test_there_is_one_finder_behind_all_others():
    find_moved_modules()
    finders = [isinstance(finder, MovedModules) for finder in sys.meta_path]
    assert finders.count(True) == 1


@pytest.mark.parametrize("name", ["graph_optimizer", "neuron_builders", "objectives"])
def test_older_modules_have_the_names_of_compat(name):
    old = importlib.import_module(f"nengo_dl.{name}")
    new = importlib.import_module(f"nengo_dl.compat.{name}")
    assert new.__all__
    assert all(getattr(old, each) is getattr(new, each) for each in new.__all__)
