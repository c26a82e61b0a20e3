"""Examples have the form that their pages are made of, and each of them is tested."""

import ast
import re

import pytest

from tests.docs.snippets import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
TESTS = "".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "tests").rglob("*.py")
    if "example" in path.relative_to(ROOT).as_posix()
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_has_the_form_of_a_page(name):
    source = (ROOT / "examples" / name).read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    title, underline, empty, text = docstring.split("\n", 3)
    assert re.fullmatch("=+", underline) and len(underline) == len(title)
    assert not empty and text
    assert f"python examples/{name}" in docstring  # how to run it
    assert "NENGO_DL_EXAMPLES_QUICK" in source  # its reduced form, see GALLERY_HEADER


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_tested(name):
    assert f'"{name}"' in TESTS


def test_examples_are_found():
    assert "spiking_digits.py" in EXAMPLES
