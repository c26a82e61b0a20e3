"""What pages promise in words, and the tests that hold it.

A sentence of the manual that says what the package does (not how fast it is) stands
either above a test in ``test_promises*.py``, as ``@promise(page, words)``, or in
``promises_held.txt``, with the test elsewhere that holds it. The words are those of the
page, so a page that changes its mind fails here.
"""

import functools
import re

import nengo_dl
from tests.docs.snippets import ROOT


def plain(text):
    """The words alone, however their lines are broken."""
    return " ".join(text.split())


def stands(page, words):
    """Whether a page has these words."""
    return plain(words) in plain((ROOT / page).read_text(encoding="utf-8"))


def promise(page, *sentences):
    """Decorator of a test of what a page says; the test fails if the page does not."""

    def decorate(test):
        @functools.wraps(test)
        def run(*args, **kwargs):
            for words in sentences:
                assert stands(page, words), f"{page} does not say: {words}"
            return test(*args, **kwargs)

        return run

    return decorate


def simulator(net, **kwargs):
    """A simulator that shows no progress."""
    return nengo_dl.Simulator(net, progress_bar=False, **kwargs)


@functools.cache
def names_of_tests():
    """How the tests of the package are called."""
    files = (ROOT / "tests").rglob("test_*.py")
    texts = (path.read_text(encoding="utf-8") for path in files)
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.M)}


def defines(test):
    """Whether a file of the tests, wherever it lies, defines this test."""
    return test in names_of_tests()
