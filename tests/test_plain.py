"""Nested plain data go to arrays of numbers and come back."""

import collections
import math

import numpy as np
import pytest

from nengo_dl.archives import NotPlain, difference, from_arrays, to_arrays

DATA = [
    None,
    True,
    -3,
    10**40,
    2.5,
    math.inf,
    "text\n",
    b"bytes\x00",
    2 + 3j,
    [1, [2.0, ()]],
    {"a": {1: "x", ("k", 2): [None]}},
    {1, 2, 3},
    collections.deque([1, 2], maxlen=2),
    np.arange(6).reshape(2, 3),
    np.zeros((0, 3), np.float32),
    np.array(True),
    np.float32(1.5),
    np.array([1j, 2]),
]


@pytest.mark.parametrize("value", DATA, ids=repr)
def test_data_come_back_as_they_were(value):
    arrays = to_arrays({"x": value, "y": [value, value]}, "p")
    assert all(array.ndim == 1 for array in arrays.values())
    found = from_arrays({**arrays, "other": np.zeros(3)}, "p")
    for one in (found["x"], *found["y"]):
        assert type(one) is type(value)
        if isinstance(value, np.ndarray):
            assert (one.shape, one.dtype) == (value.shape, value.dtype)
            assert one.flags.writeable
            assert np.array_equal(one, value)
        else:
            assert one == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.RandomState(3),
        *(
            lambda kind=kind: np.random.Generator(getattr(np.random, kind)(3))
            for kind in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
        ),
    ],
)
def test_generators_go_on(make):
    rng = make()
    rng.standard_normal(3)
    other = from_arrays(to_arrays([rng], "p"), "p")[0]
    assert np.array_equal(rng.standard_normal(5), other.standard_normal(5))


@pytest.mark.parametrize(
    "value, place",
    [
        ({"a": [0, iter([])]}, r"list_iterator at \['a'\]\[1\]"),
        (np.array([{}]), "ndarray at its own place"),
        (collections.OrderedDict(), "OrderedDict"),
        (np.array(["text"]), "ndarray"),
        ([lambda: 0], "function"),
    ],
)
def test_what_is_not_plain_is_named(value, place):
    with pytest.raises(NotPlain, match=place):
        to_arrays(value, "p")


@pytest.mark.parametrize(
    "form",
    [
        '["__init__",{}]',
        '["_value",3]',
        '["array","float64",[-1]]',
        '["array","float64",[4]]',
        '["array","object",[1]]',
        '["array"]',
        '["Generator",["dict",[["bit_generator","System"]]]]',
        '["RandomState",3]',
        '["dict",[[["list",[]],1]]]',
        "[]",
        "{",
        "3",
    ],
)
def test_forms_that_say_nothing_are_refused(form):
    arrays = {"p": np.frombuffer(form.encode(), np.uint8), "p float64": np.zeros(2)}
    with pytest.raises(ValueError, match="^p "):
        from_arrays(arrays, "p")


@pytest.mark.parametrize(
    "found, match",
    [
        ((1, [2], {"a": np.zeros(2)}), None),
        ((1, [2, 3], {"b": 1}), None),
        ((None, [2], {"a": np.zeros(2)}), None),
        ((1, [2]), "has 2 parts; expected 3"),
        ([1], "of type list; expected tuple"),
        ((1.0, [2], {}), r"state\[0\] is of type float; expected int"),
        ((1, [2], {"a": np.zeros(3)}), r"state\[2\]\['a'\] is an array \(3,\)"),
    ],
)
def test_differences_in_form(found, match):
    problem = difference(found, (1, [2], {"a": np.zeros(2)}), "state")
    if match is None:
        assert problem is None
    else:
        import re

        assert re.search(match, problem)
