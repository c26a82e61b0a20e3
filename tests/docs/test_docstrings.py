"""Docstrings say what a thing is, in words that stand alone."""

import ast
import re

import pytest

from tests.docs.snippets import ROOT

#: beginnings that point at something outside of the docstring
POINTING = re.compile(
    r"(They|It|Its|Their|Them|That|Those|These|This|Of|As|If|Also|So|Both|Alone"
    r"|The same|All of (it|them)|Around|Itself)\b"
)

#: what an override may say
OF_THE_BASE = re.compile(r"See \S+?[.;]?( |$)")


def docstrings(source):
    """Yield (name, first paragraph) of everything that has a docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text:
                first = " ".join(text.split("\n\n")[0].split())
                yield getattr(node, "name", "the module"), first


def pointing(source):
    """Yield the docstrings that need something else to be understood."""
    for name, first in docstrings(source):
        alone = len(first.split()) > 1 or OF_THE_BASE.match(first)
        if POINTING.match(first) or not alone:
            yield f"{name}: {first}"


@pytest.mark.parametrize(
    "text",
    ["They do.", "It as it lies in memory.", "All of them.", "Alone.", "As there."],
)
def test_what_points_elsewhere_is_found(text):
    assert list(pointing(f'def f():\n    """{text}"""\n'))


@pytest.mark.parametrize("text", ["See `Base.f`.", "The area of a circle.", "Add one."])
def test_what_stands_alone_is_left(text):
    assert not list(pointing(f'def f():\n    """{text}"""\n'))


def test_docstrings_stand_alone():
    found = [
        f"{path.relative_to(ROOT)}: {what}"
        for path in sorted((ROOT / "nengo_dl").rglob("*.py"))
        for what in pointing(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
