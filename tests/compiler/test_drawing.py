"""Boxes and arrows as SVG."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from nengo_dl.compiler.drawing import GAP_X, Arrow, Box, Drawing, layers, spread

SVG = "{http://www.w3.org/2000/svg}"


def drawing(edges, back=(), lines=None):
    """Boxes ``0 .. n - 1`` with these arrows."""
    count = 1 + max(max(e) for e in [*edges, *back, (0, 0)])
    boxes = tuple(Box(i, (lines or {}).get(i, (f"box {i}",))) for i in range(count))
    arrows = [Arrow(*e, label="x") for e in edges]
    arrows += [Arrow(*e, back=True) for e in back]
    return Drawing("a <title>", boxes, tuple(arrows))


def rectangles(svg):
    """(left, top, right, bottom) of all boxes, in their order."""
    found = []
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def test_layers_go_down_and_sources_come_close():
    #    0 -> 1 -> 2 -> 3, and 4 -> 3
    edges = [(0, 1), (1, 2), (2, 3), (4, 3)]
    assert layers(5, edges).tolist() == [0, 1, 2, 3, 2]


def test_layers_of_a_cycle_are_finite():
    layer = layers(3, [(0, 1), (1, 2), (2, 1)])
    assert layer[0] < layer[1]
    assert layer.max() <= 2


def test_spread_keeps_order_and_distance(rng):
    width = rng.uniform(10, 50, size=20)
    x = spread(rng.uniform(0, 100, size=20), width)
    assert (np.diff(x) >= (width[1:] + width[:-1]) / 2 + GAP_X - 1e-9).all()


def test_spread_leaves_what_fits(allclose):
    wanted = np.array([0.0, 200.0, 500.0])
    assert allclose(spread(wanted, np.full(3, 20.0)), wanted)


def test_spread_is_the_least_squares_solution(allclose):
    # two boxes that want the same place give way to both sides alike
    x = spread(np.array([100.0, 100.0]), np.array([20.0, 40.0]))
    assert allclose(x, [100 - (30 + GAP_X) / 2, 100 + (30 + GAP_X) / 2])


def test_boxes_do_not_overlap(rng):
    edges = {tuple(sorted(rng.choice(30, 2, replace=False))) for _ in range(50)}
    boxes = rectangles(drawing(sorted(edges)).svg())
    assert len(boxes) >= 29
    for i, (left, top, right, bottom) in enumerate(boxes):
        for a, b, c, d in boxes[i + 1 :]:
            assert right <= a or c <= left or bottom <= b or d <= top


def test_arrows_lead_down_and_back_ones_need_room():
    chain = [(0, 1), (1, 2), (0, 2)]
    boxes = rectangles(drawing(chain).svg())
    assert all(a[3] < b[1] for a, b in pairwise(boxes))
    svg = drawing(chain, back=[(2, 0)]).svg()
    assert svg.count("stroke-dasharray") == 1
    root = ElementTree.fromstring(svg)
    width, height = (float(v) for v in root.get("viewBox").split()[2:])
    assert width > max(b[2] for b in rectangles(svg)) + 5
    assert height > max(b[3] for b in rectangles(svg)) + 5


def test_arrow_to_itself_is_drawn():
    assert drawing([(0, 0)]).svg().count("<path") == 2  # a line and its head


def test_picture_needs_nothing_from_elsewhere():
    svg = drawing([(0, 1)], lines={0: ("<&>", "two")}).svg()
    root = ElementTree.fromstring(svg)
    assert "href" not in svg and "url(" not in svg
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {"<&>", "two", "box 1", "x"} == set(texts)
    assert root.find(f"{SVG}title").text == "a <title>"


def test_notebooks_show_the_picture():
    picture = drawing([(0, 1)])
    assert picture._repr_svg_() == picture.svg()


def test_empty_drawing():
    svg = Drawing("nothing", (), ()).svg()
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"


def test_too_many_boxes_are_condensed():
    # one box leads to many of two kinds, which lead to one
    edges = [(0, i) for i in range(1, 41)] + [(i, 41) for i in range(1, 41)]
    lines = {i: ("even" if i % 2 == 0 else "odd", f"no. {i}") for i in range(1, 41)}
    picture = drawing(edges, back=[(41, 0)], lines=lines)
    assert picture.condensed(100) is picture
    small = picture.condensed(10)
    names = sorted(box.lines[0] for box in small.boxes)
    assert names == ["20 × even", "20 × odd", "box 0", "box 41"]
    assert len(small.arrows) == 5
    assert sum(arrow.back for arrow in small.arrows) == 1
    assert len(rectangles(small.svg())) == 4


@pytest.mark.parametrize("style", ["input", "state", "sum", "node", "probe", "python"])
def test_styles_have_colours(style):
    picture = Drawing("", (Box(0, ("a",), style, "a tip"),), ())
    (rect,) = ElementTree.fromstring(picture.svg()).iter(f"{SVG}rect")
    assert rect.get("fill").startswith("#")
    assert "<title>a tip</title>" in picture.svg()
