"""Pictures on pages are what the code above them makes."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="pages are built with the extra 'docs'")

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "docs" / "extensions" / "drawn.py"
DIRECTIVE = re.compile(r"^\.\. drawn:: (.+)$")


@pytest.fixture(scope="module")
def drawn():
    spec = importlib.util.spec_from_file_location("drawn", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = """\
.. code-block:: python

   values = [1]
   print("not seen")

.. drawn:: values

.. not run: there is no such thing

.. code-block:: python

   values.append(missing)

.. code-block:: text

   no Python

.. code-block:: python

   values = values + [2]

.. drawn:: values
"""


def test_blocks_above_a_picture_are_run_once(drawn, capsys):
    page = drawn.Page(PAGE, "page")
    lines = PAGE.splitlines()
    first, second = (n for n, line in enumerate(lines, 1) if DIRECTIVE.match(line))
    assert page.value("values", first) == [1]
    assert page.value("values", second) == [1, 2]
    assert page.value("len(values)", second) == 2
    assert capsys.readouterr().out == ""


def test_figures_of_matplotlib(drawn):
    pytest.importorskip("matplotlib", reason="comes with the extra 'plots'")
    text = (ROOT / "docs" / "plots.rst").read_text(encoding="utf-8")
    page, labels = drawn.Page(text, "plots"), []
    for number, line in enumerate(text.splitlines(), start=1):
        if (found := DIRECTIVE.match(line)) and len(labels) < 2:  # those without training
            figure = page.value(found[1], number)
            assert drawn.svg(figure).startswith("<svg")
            labels.append([ax.get_ylabel() for ax in figure.axes])
    assert labels == [["neuron, by first spike", "value"], ["firing rate (Hz)"]]


def test_pictures_of_how_it_works(drawn):
    text = (ROOT / "docs" / "inside.rst").read_text(encoding="utf-8")
    page, sizes = drawn.Page(text, "inside"), {}
    for number, line in enumerate(text.splitlines(), start=1):
        if found := DIRECTIVE.match(line):
            picture = page.value(found[1], number)
            assert picture.svg().startswith("<svg")
            sizes[found[1]] = len(picture.boxes)
    page.names["sim"].close()
    # each pass of which there is a picture makes the graph smaller, and the page says so
    graphs = [n for name, n in sizes.items() if name.startswith("picture_of_graph")]
    assert len(graphs) == 3
    assert all(later < earlier for earlier, later in zip(graphs, graphs[1:]))
