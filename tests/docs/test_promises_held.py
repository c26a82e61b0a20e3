"""What pages promise, and which tests of the package hold it."""

from pathlib import Path

import pytest

from tests.docs.promises import defines, stands


def held():
    """Page, words and test of each entry of the list beside this file."""
    text = Path(__file__).with_name("promises_held.txt").read_text(encoding="utf-8")
    page = None
    for block in text.split("\n\n"):
        lines = block.strip().split("\n")
        if lines[-1].startswith("===="):
            page = lines[0]
        elif page is not None:
            yield page, " ".join(lines[:-1]), lines[-1].strip()


@pytest.mark.parametrize("page, words, test", held(), ids=lambda text: text[:40])
def test_a_promise_stands_and_is_held(page, words, test):
    assert stands(page, words), f"{page} does not say: {words}"
    assert defines(test), f"there is no test {test}"


def test_all_pages_of_the_guide_make_promises():
    assert {page for page, _, _ in held()} >= {
        f"docs/{name}.rst"
        for name in "performance large_models tensor_node simulator training spikes "
        "converter saving settings faq migrating extending plots".split()
    }
