"""A network and options so small that measurements take no time."""

import dataclasses

import pytest

from nengo_dl.benchmarks.__main__ import main
from nengo_dl.benchmarks.networks import Case, base
from nengo_dl.benchmarks.networks.integrators import integrator

TINY = Case(integrator, {"dimensions": 2, "neurons_per_d": 10})


def add_tiny(monkeypatch, name="tiny", **changes):
    """Make the small network one of the standard ones."""
    case = dataclasses.replace(TINY, **changes)
    monkeypatch.setitem(base.CASES, name, case)
    return case


def run_command(*arguments):
    """Run a command that succeeds."""
    with pytest.raises(SystemExit) as info:
        main([str(argument) for argument in arguments])
    assert info.value.code == 0


def fail_command(*arguments):
    """Run a command that fails; returns the exit code."""
    with pytest.raises(SystemExit) as info:
        main([str(argument) for argument in arguments])
    assert info.value.code not in (0, None)
    return info.value.code
