"""Examples have the form that their pages are made of, and each of them is tested."""

import ast
import importlib
import importlib.metadata
import re

import pytest

from tests.docs import gallery
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


PAGE = """
.. code-block:: Python


    print("accuracy: 0.9")

.. rst-class:: sphx-glr-script-out

 .. code-block:: none

    accuracy: 0.9

       0.1
    end



.. code-block:: Python

    figure

.. rst-class:: sphx-glr-script-out

 .. code-block:: none

    saved





.. rst-class:: sphx-glr-timing

   **Total running time of the script:** (0 minutes 14.010 seconds)
"""


@pytest.fixture
def page(tmp_path):
    """The page of an example that has run, with a picture."""
    path = tmp_path / EXAMPLES[0]
    gallery.note(path)
    path.with_suffix(".rst").write_text(PAGE, encoding="utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"sphx_glr_{path.stem}_001.png").write_bytes(b"picture")
    return path


def test_what_an_example_printed_for_its_page(page):
    found = gallery.ran(page.name, page.parent)
    lines = [line for line in found.printed.splitlines() if line]
    assert lines == ["accuracy: 0.9", "   0.1", "end", "saved"]
    assert found.picture.read_bytes() == b"picture"


@pytest.mark.parametrize(
    "changed", ("another form", "new package", "not done", "failed anew", "no picture")
)
def test_what_ran_in_another_way_runs_again(changed, page, monkeypatch):
    if changed == "another form":
        monkeypatch.setenv("NENGO_DL_EXAMPLES_QUICK", "other")
    elif changed == "new package":
        found = importlib.metadata.distributions()
        installed = [d for d in found if d.metadata["Name"] != "nengo"]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: installed)
    elif changed == "not done":
        page.with_suffix(".rst").unlink()
    elif changed == "failed anew":
        gallery.note(page)  # and no page after it
    else:
        for picture in page.parent.glob("images/*"):
            picture.unlink()
    assert gallery.ran(page.name, page.parent) is None


def test_digest_is_of_the_example_and_of_all_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    script, source = tmp_path / "examples" / "a.py", tmp_path / "nengo_dl" / "b" / "c.py"
    for path in (script, source):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    digests = {gallery.digest("a.py")}
    script.write_text("2")
    digests.add(gallery.digest("a.py"))
    source.write_text("2")
    digests.add(gallery.digest("a.py"))
    assert len(digests) == 3
    script.with_name("other.py").write_text("another example")
    assert gallery.digest("a.py") in digests


def test_digest_is_the_same_wherever_packages_are_found(monkeypatch):
    """Who builds the manual and who runs tests have folders in their path twice."""
    found = list(importlib.metadata.distributions())
    once = gallery.digest(EXAMPLES[0])
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found + found)
    assert gallery.digest(EXAMPLES[0]) == once


def test_pictures_go_to_the_page_of_their_example(monkeypatch, tmp_path):
    """Two examples run at a time, in one folder."""
    pytest.importorskip("sphinx_gallery", reason="comes with the extra 'docs'")
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    scrape = importlib.import_module("written_figures").scrape
    monkeypatch.chdir(tmp_path)
    for name in EXAMPLES[:2]:
        tmp_path.joinpath(name).with_suffix(".png").write_bytes(name.encode())
    for name in EXAMPLES[1::-1]:
        target = tmp_path / "page" / name
        target.parent.mkdir(exist_ok=True)
        place = target.with_suffix(".moved")
        block = {"target_file": target, "image_path_iterator": iter([place])}
        assert scrape(None, block, {"src_dir": tmp_path})
        assert place.read_bytes() == name.encode()
