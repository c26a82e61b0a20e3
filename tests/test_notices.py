"""Warnings that point at the user's own line, once for each cause."""

import inspect
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from nengo_dl.notices import forget, warn


def this_line():
    return inspect.currentframe().f_back.f_lineno


def test_a_warning_names_the_line_of_the_user():
    with pytest.warns(UserWarning, match="a thing") as caught:
        line = this_line() + 1
        warn("a thing")
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_calls_of_libraries_in_between_are_passed_over():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # the standard library calls back, as Keras does from fit
        sorted([1], key=partial(lambda x: warn("a thing") or x))
    assert caught[0].filename == __file__


def test_without_a_frame_of_the_user_it_warns_all_the_same():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(warn, "a thing").result()
    assert [str(w.message) for w in caught] == ["a thing"]


def test_a_cause_is_told_once_until_it_is_forgotten():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in "abc":
            warn(text, once="cause")
        warn("d", once="another cause")
        forget()
        warn("e", once="cause")
    assert [str(w.message) for w in caught] == ["a", "d", "e"]


def test_the_category_is_that_of_the_caller():
    with pytest.warns(DeprecationWarning, match="older"):
        warn("older", DeprecationWarning)
