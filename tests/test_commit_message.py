"""Commit messages are checked where they are written."""

import subprocess
import sys

import pytest

from tests.commit_message import main, problems
from tests.docs.snippets import ROOT

BODY = "\n\nBecause a reason is what a reader looks for later.\n"


@pytest.mark.parametrize(
    "message",
    [
        "Add a page on gradients" + BODY,
        "Pass states on in one array" + BODY,
        "Bring the parts together" + BODY + "# Please enter the message\n# ed;\n",
        "Feed batches" + BODY + "\n" + "https://" + "x" * 100,
        "Fix it" + BODY + "\n# ------------------------ >8 ------------------------\n;.",
        "Merge branch 'other'",
        'Revert "Added; something."',
        "fixup! Add a page",
    ],
)
def test_what_is_right(message):
    assert not list(problems(message))


@pytest.mark.parametrize(
    "message, expected",
    [
        ("Added a page" + BODY, "no imperative"),
        ("Adding a page" + BODY, "no imperative"),
        ("Adds a page" + BODY, "no imperative"),
        ("add a page" + BODY, "capital"),
        ("Add a page." + BODY, "full stop"),
        ("Add a page; move another" + BODY, "two acts"),
        ("Add " + "x" * 69 + BODY, "73 characters"),
        ("Add" + BODY, "does not say"),
        ("Add a page", "no body"),
        ("Add a page\n\nIt helps.", "no body"),
        ("Add a page\nand another one here", "second line"),
        ("Add a page\n\n" + "long words " * 20, "a line of the body"),
        ("", "does not say"),
    ],
)
def test_what_is_wrong(message, expected):
    assert any(expected in problem for problem in problems(message))


def test_the_program_fails_and_says_why(tmp_path, capsys):
    path = tmp_path / "message"
    path.write_text("Added a page" + BODY, encoding="utf-8")
    assert main(path) == 1
    assert "no imperative" in capsys.readouterr().out
    path.write_text("Add a page" + BODY, encoding="utf-8")
    command = [sys.executable, ROOT / "tests/commit_message.py", path]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b""


def test_it_is_a_hook():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "entry: python tests/commit_message.py" in hooks
    assert "stages: [commit-msg]" in hooks
    assert "default_install_hook_types: [pre-commit, commit-msg]" in hooks
