"""The settings with which Nengo's own tests run: few exceptions, each with a reason."""

import configparser
import importlib
import re
import shlex
from pathlib import Path

import nengo
import pytest

SETTINGS = Path(__file__).parent / "nengo_suite" / "pytest.ini"


@pytest.fixture
def settings():
    parser = configparser.ConfigParser()
    parser.read(SETTINGS)
    return parser["pytest"]


def unsupported(settings):
    words = shlex.split(settings["nengo_test_unsupported"].replace("\n", " "))
    return dict(zip(words[::2], words[1::2], strict=True))


def assert_is_a_test(pattern):
    path, name = pattern.split("::")
    path = Path(nengo.__file__).parent.parent / path
    name = re.match(r"\w+", name)[0]
    assert re.search(rf"^ *def {name}", path.read_text(), re.MULTILINE), pattern


def test_what_is_left_out_has_a_test_here(settings):
    left_out = unsupported(settings)
    assert len(left_out) <= 6
    for pattern, reason in left_out.items():
        assert_is_a_test(pattern)
        (module, name) = re.search(r"(tests/\S+)\.py::(\w+)$", reason).groups()
        assert callable(getattr(importlib.import_module(module.replace("/", ".")), name))


def test_tolerances_are_few_and_small(settings):
    lines = settings["allclose_tolerances"].split("\n")
    lines = [line for line in lines if line.strip()]
    assert len(lines) <= 8
    for line in lines:
        pattern, *options = line.split()
        assert_is_a_test(pattern)
        for option in options:
            name, value = option.split("=")
            assert name in ("atol", "rtol")
            assert float(value) <= 1e-4
