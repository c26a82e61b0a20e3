"""The page on the source code shows the floors as the code has them."""

import importlib.util
import re

import pytest

pytest.importorskip("sphinx", reason="pages are built with the extra 'docs'")

from tests.docs.snippets import ROOT
from tests.test_architecture import FLOORS


@pytest.fixture(scope="module")
def rooms():
    path = ROOT / "docs" / "extensions" / "rooms.py"
    spec = importlib.util.spec_from_file_location("rooms", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_floors_are_those_of_the_rule(rooms):
    assert rooms.floors() == FLOORS
    assert all(rooms.files(room) for floor in FLOORS for room in floor)


def test_arrows_lead_down(rooms):
    number = {room: n for n, floor in enumerate(FLOORS) for room in floor}
    arrows = [(a, b) for a, near in rooms.dependencies().items() for b in near]
    assert ("kernels", "compiler") in arrows and ("runtime", "kernels") in arrows
    assert all(number[a] > number[b] for a, b in arrows)


def test_what_follows_is_left_out(rooms):
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert rooms.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_picture_has_all_rooms(rooms):
    svg = rooms.picture().svg()
    assert all(f">{room}<" in svg for floor in FLOORS for room in floor)


def test_the_page_lists_all_floors():
    page = (ROOT / "docs/layout.rst").read_text(encoding="utf-8")
    text = page[page.index("\nFloors\n") : page.index("\nRooms\n")] + "\n\n"
    block = re.search(r"\.\. code-block:: text\n\n(.*?)\n\n", text, re.S).group(1)
    listed = tuple(
        tuple(re.split(r"\s{3,}|:", line.strip())[0].split())
        for line in reversed(block.split("\n"))
    )
    assert listed == FLOORS
