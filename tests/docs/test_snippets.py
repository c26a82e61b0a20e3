"""Everything that pages and docstrings show is run."""

import sys
import warnings

import nengo.builder
import numpy as np
import pytest

from nengo_dl import builder
from nengo_dl.compiler import traits
from tests.docs import snippets

#: at most so many snippets may be marked as not to be run, in all pages and docstrings
MAY_BE_SKIPPED = 6


@pytest.fixture(autouse=True)
def own_world(monkeypatch, tmp_path):
    """What a page registers or draws is forgotten after it; it writes to a folder."""
    monkeypatch.chdir(tmp_path)
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == "nengo_dl":
            for obj in vars(module).values():
                if isinstance(obj, traits.Registry):
                    monkeypatch.setattr(obj, "_entries", dict(obj._entries))
    for owner in (builder.NengoBuilder, nengo.builder.Builder):
        monkeypatch.setattr(owner, "builders", dict(owner.builders))
    monkeypatch.setattr(traits, "structural", dict(traits.structural))
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


def spikes_learn(names):
    """Spikes have learned an exclusive or in time."""
    losses = names["history"].history["loss"]
    assert names["result"]["loss"] < 0.2 * losses[0] and losses[-1] < 0.2 * losses[0]
    h = names["Box"]().derivative(np, np.array([-0.6, 0, 0.2, 1]))
    assert h.tolist() == [0, 1, 1, 0]


#: what has to be true at the end of a page, besides
CHECKS = {"docs/spikes.rst": spikes_learn}


@pytest.mark.parametrize("page", snippets.pages())
def test_page_runs(page):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = snippets.run_page(page)
    if page in CHECKS:
        CHECKS[page](names)


@pytest.mark.parametrize("module", snippets.modules())
def test_docstrings_of_module_run(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snippets.run_module(module)


def test_an_example_that_is_skipped_may_say_why(tmp_path, monkeypatch):
    code = '"""\n>>> 1 / 0  # doctest: +SKIP (divides by zero)\n\n>>> 1 + 1\n2\n"""\n'
    (tmp_path / "skips.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(snippets, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    snippets.run_module("skips.py")
    assert list(snippets.skipped("skips.py")) == [(2, "divides by zero")]
    (tmp_path / "skips.py").write_text(code.replace("2\n", "3\n"), encoding="utf-8")
    with pytest.raises(AssertionError, match="Got:\n    2"):
        snippets.run_module("skips.py")


def test_what_is_not_run_has_a_reason():
    places = [*snippets.pages(), *snippets.modules()]
    skipped = [(place, *mark) for place in places for mark in snippets.skipped(place)]
    without = [mark for mark in skipped if not mark[-1]]
    assert not without
    assert len(skipped) <= MAY_BE_SKIPPED, skipped


PAGE = """\
Title
=====

.. code-block:: python

   a = [1]

.. code-block:: bash

   rm -r /

.. not run: it would never end

.. code-block:: python

   while True:
       a.append(1)

.. code-block:: python
   :caption: a.py

   a.append(2)

   if a:
       a.append(3)

Text

.. code-block:: python

   >>> a
   [1, 2, 3]
"""


def write(tmp_path, monkeypatch, text):
    monkeypatch.setattr(snippets, "ROOT", tmp_path)
    (tmp_path / "page.rst").write_text(text, encoding="utf-8")


def test_blocks_run_in_order_in_one_namespace(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, PAGE)
    names = snippets.run_page("page.rst")
    assert names["a"] == [1, 2, 3]
    assert list(snippets.skipped("page.rst")) == [(16, "it would never end")]


def test_errors_show_the_line_of_the_page(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, PAGE.replace("a.append(2)", "a.append(b)"))
    with pytest.raises(NameError) as error:
        snippets.run_page("page.rst")
    assert error.traceback[-1].lineno + 1 == PAGE.splitlines().index("   a.append(2)") + 1


def test_wrong_results_are_found(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, PAGE.replace("[1, 2, 3]", "[1, 2]"))
    with pytest.raises(AssertionError, match=r"Got:\s+\[1, 2, 3\]"):
        snippets.run_page("page.rst")


def test_a_reason_holds_for_the_next_block_only():
    text = ".. not run: x\n\nText.\n\n.. code-block:: python\n\n   1 / 0\n"
    (block,) = snippets.blocks(text)
    assert block.reason is None
    assert block.code == "1 / 0\n"


def test_pages_and_modules_are_found():
    assert {"README.rst", "docs/training.rst"} <= set(snippets.pages())
    assert "nengo_dl/dists.py" in snippets.modules()
