"""What pages name in their text, and what they link to, exists."""

import re

import pytest

import nengo_dl
from tests.docs.reference import locate
from tests.docs.snippets import ROOT, blocks, pages

#: what instances of a simulator have, beside the members of the class
SIMULATOR_ATTRIBUTES = {"closed", "data", "minibatch_size", "model", "seed"}
SIMULATOR_ATTRIBUTES |= {"unroll_simulation"}

#: names that pages mention although nothing in Python has them, or has them any more
ABSENT = {
    "nengo.backends",  # a group of entry points
    "nengo_dl.DATA_DIR",
    "nengo_dl.configure_trainable",
    "nengo_dl.utils",
    "sim.dg",
    "sim.rng",
    "sim.sess",
    "sim.step_order",
}

#: folders that are there once something has been written to them
WRITTEN = ("docs/_build", "docs/benchmarks/")

FOLDERS = "docs|examples|nengo_dl|tests"

#: where pages that name a file of Python mean it to be
FOUND_IN = ("", "nengo_dl", "examples")


def text_of(page):
    """A page without its blocks of code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in blocks(text):
        for line in block.code.splitlines():
            text = text.replace(line, "") if len(line) > 10 else text
    return text


def exists(name):
    """Whether a dotted name that starts with a package, or with ``sim``, is there."""
    top, _, rest = name.partition(".")
    if top == "sim":
        attribute = rest.partition(".")[0]
        return attribute in SIMULATOR_ATTRIBUTES or hasattr(nengo_dl.Simulator, attribute)
    try:
        locate(name)
    except (AttributeError, ImportError):
        return False
    return True


def unknown_names(text):
    """Yield names of NengoDL, Nengo and the simulator that do not exist."""
    for name in re.findall(r"``((?:nengo_dl|nengo|sim)(?:\.\w+)+)", text):
        if name not in ABSENT and not exists(name):
            yield name


def anchors(text):
    """What Sphinx makes of the titles of a page, for links within it."""
    titles = re.findall(r"^(.+)\n[=\-*~^]{3,}$", text, re.MULTILINE)
    return {"#" + re.sub(r"[^a-z0-9]+", "-", t.lower()).strip("-") for t in titles}


def missing_files(page, text):
    """Yield files of the repository that do not exist, and links to nowhere."""
    for path in re.findall(rf"``((?:{FOLDERS})/[\w./*]+)``", text):
        if not path.startswith(WRITTEN) and not list(ROOT.glob(path.rstrip("/"))):
            yield path
    for path in re.findall(r"``([\w/]+\.py)``", text):
        if not any((ROOT / folder / path).exists() for folder in FOUND_IN):
            yield path
    for target in re.findall(r"`[^`<]+ <([^>]+)>`__?", text):
        if target.startswith("https://") or target in anchors(text):
            continue
        if target.endswith("_"):  # a title of the page, which docutils checks
            continue
        # pages of the manual link to each other with :doc:, which Sphinx checks
        if page.startswith("docs/") or not (ROOT / page).parent.joinpath(target).exists():
            yield target


@pytest.mark.parametrize("page", pages())
def test_names_and_links_exist(page):
    text = text_of(page)
    assert not list(unknown_names(text))
    assert not list(missing_files(page, text))


def test_absent_names_are_absent():
    assert not [name for name in ABSENT if exists(name)]


def test_problems_are_found():
    text = "``nengo_dl.nothing`` ``sim.fit`` ``sim.fitt(x)`` ``nengo.Ensemble``"
    assert list(unknown_names(text)) == ["nengo_dl.nothing", "sim.fitt"]
    text = "``docs/no.rst`` ``docs/*.rst`` `a <b.rst>`_ `c <https://c.d>`_"
    assert list(missing_files("page", text)) == ["docs/no.rst", "b.rst"]
    text = "``compiler/plan.py`` ``compiler/plans.py`` ``noxfile.py``"
    assert list(missing_files("page", text)) == ["compiler/plans.py"]
    text = "A title\n=======\n\n`a <#a-title>`_, `b <#b-title>`_"
    assert list(missing_files("page", text)) == ["#b-title"]
