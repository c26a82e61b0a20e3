"""The directive ``rooms``: the rooms of the package and their imports, as a picture.

``.. rooms::`` draws each room that ``tests/test_architecture.py`` gives a floor, with the
number of its modules and lines, and an arrow to each room that it imports from. Arrows
that follow from others (a room below a room below) are left out. All of it is read from
the source, so the picture cannot go stale.
"""

import ast
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "nengo_dl"


def floors():
    """The rooms of each floor, from the ground up, as the tests have them."""
    tree = ast.parse((ROOT / "tests/test_architecture.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "FLOORS":
            return ast.literal_eval(node.value)
    raise LookupError("tests/test_architecture.py defines no FLOORS")


def files(room):
    """The modules of a room, which is a file or a folder."""
    single = ROOT / PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((ROOT / PACKAGE / room).rglob("*.py"))


def imported(path):
    """Names of the rooms that a module imports from, inside of functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == PACKAGE and rest:
                yield rest.partition(".")[0]


def dependencies():
    """Room -> the rooms that it imports from."""
    rooms = [room for names in floors() for room in names]
    found = {room: {r for path in files(room) for r in imported(path)} for room in rooms}
    return {room: (found[room] & set(rooms)) - {room} for room in rooms}


def reduced(graph):
    """The same without what follows from others; no arrow may lead in a circle."""

    def below(room):
        return {r for near in graph[room] for r in {near} | below(near)}

    return {
        room: {r for r in near if not any(r in below(other) for other in near - {r})}
        for room, near in graph.items()
    }


def picture():
    """The drawing: a box for each room, those that import above what they import."""
    from nengo_dl.compiler.drawing import Arrow, Box, Drawing

    boxes = []
    for room in (room for names in reversed(floors()) for room in names):
        mine = files(room)
        lines = sum(len(path.read_text(encoding="utf-8").split("\n")) for path in mine)
        size = f"{lines} lines" if len(mine) == 1 else f"{len(mine)} files, {lines} lines"
        boxes.append(Box(room, (room, size), "node" if len(mine) > 1 else "plain"))
    arrows = [
        Arrow(room, other)
        for room, near in reduced(dependencies()).items()
        for other in sorted(near)
    ]
    return Drawing("rooms, and what they import", tuple(boxes), tuple(arrows))


class Rooms(SphinxDirective):
    """See the top of this file."""

    def run(self):
        """The picture, as part of the page."""
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        for name in ("tests/test_architecture.py", PACKAGE):
            self.env.note_dependency(str(ROOT / name))
        return [nodes.raw("", picture().svg(), format="html")]


def setup(app):
    """Make the directive known to Sphinx."""
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
