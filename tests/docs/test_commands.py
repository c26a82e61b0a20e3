"""Commands on pages name what exists."""

import pytest

from tests.docs import commands

COMMANDS = list(commands.shell_commands())


@pytest.mark.parametrize(
    "page, command", COMMANDS, ids=[f"{page}-{n}" for n, (page, _) in enumerate(COMMANDS)]
)
def test_command_names_what_exists(page, command):
    assert not list(commands.problems(command))


def test_commands_are_found():
    assert ("README.rst", ".venv/bin/python -m pytest -n 2") in COMMANDS
    assert {"docs", "tests"} <= set(commands.nox_sessions())


@pytest.mark.parametrize(
    "command, expected",
    [
        (".venv/bin/python -m pytest -n 2", []),
        ("A=1 python examples/spiking_digits.py", []),
        ("python examples/nothing.py", ["examples/nothing.py does not exist"]),
        ("python -m nengo_dl.nothing", ["there is no module nengo_dl.nothing"]),
        ("python -m os", ["there is no module os"]),
        ("python -m nengo_dl.benchmarks compare --step-calls 5 --no-memory", []),
        (
            "python -m nengo_dl.benchmarks compare --step 5",
            ["the command compare of nengo_dl.benchmarks has no --step"],
        ),
        ("python -m tests.nengo_suite --dtype float64 -n 2", []),
        (
            "python -m tests.nengo_suite --type float64",
            ["tests.nengo_suite has no option --type"],
        ),
        ('pip install -e ".[docs,tests]"', []),
        ('pip install -e ".[dogs]"', ["there is no extra dogs"]),
        ("make docs", ["make is a program that nothing installs"]),
        ("nox -s nothing", ["noxfile.py has no session nothing"]),
        (".ci/nothing", [".ci/nothing does not exist"]),
    ],
)
def test_problems_are_found(command, expected):
    assert list(commands.problems(command)) == expected
