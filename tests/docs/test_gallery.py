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


def reads_arguments(source):
    """Whether a script would read the command line, which a notebook's kernel has too."""
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(source)}
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(source)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {n.module for n in ast.walk(source) if isinstance(n, ast.ImportFrom)}
    return "argv" in names or bool({"argparse", "click", "optparse", "absl"} & imported)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_as_a_notebook(name):
    """It has cells, ends with its figure, and reads no arguments."""
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    source = ast.parse(text)
    assert not reads_arguments(source)
    assert "__main__" not in text  # what stands under it would not be a cell
    end = source.body[-1]
    assert isinstance(end, ast.Expr) and end.value.id == "figure"
    cells = re.split(r"^# %%.*\n(?:#.*\n)*", text, flags=re.MULTILINE)
    assert len(cells) >= 5
    assert max(len(cell.splitlines()) for cell in cells[1:]) <= 75


@pytest.mark.parametrize("name", EXAMPLES)
def test_notebook_of_example(name, tmp_path):
    pytest.importorskip("sphinx_gallery", reason="comes with the extra 'docs'")
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    _, blocks = split_code_and_text_blocks(str(ROOT / "examples" / name))
    conf = {**DEFAULT_GALLERY_CONF, "first_notebook_cell": "%matplotlib inline"}
    book = jupyter_notebook(blocks, conf, str(tmp_path))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert len(code) >= 5
    assert code[0] == "%matplotlib inline"  # which shows what a cell ends with
    for cell in code[1:]:
        compile(cell, name, "exec")
    assert code[-1].rstrip().endswith("\nfigure")
    titles = [c for c in book["cells"] if c["cell_type"] == "markdown"]
    assert len(titles) >= 4


def test_arguments_are_found():
    assert reads_arguments(ast.parse("import argparse"))
    assert reads_arguments(ast.parse("from argparse import ArgumentParser"))
    assert reads_arguments(ast.parse("import sys\nf(sys.argv[1:])"))
    assert not reads_arguments(ast.parse("import sys\nsys.exit()"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_tested(name):
    assert f'"{name}"' in TESTS


def test_examples_are_found():
    assert "spiking_digits.py" in EXAMPLES
