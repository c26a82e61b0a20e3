"""The directive ``drawn``: a picture that the code of the page makes.

``.. drawn:: picture_of_graph(graph)`` runs the Python blocks of the page that stand
before it, in one namespace, and shows what the expression gives there: something with a
method ``svg()``, or a figure of matplotlib. So pictures are as up to date as the package,
and are no files.
"""

import contextlib
import importlib
import io
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


class Page:
    """The code of a page, run as far as it is needed.

    Parameters
    ----------
    text : str
        The page.
    name : str
        For error messages.
    """

    def __init__(self, text, name):
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        snippets = importlib.import_module("tests.docs.snippets")
        self.blocks = [block for block in snippets.blocks(text) if not block.reason]
        self.name = name
        self.names = {"__name__": "__main__"}

    def value(self, expression, line):
        """What an expression gives after the blocks above a line; they print nothing."""
        with contextlib.redirect_stdout(io.StringIO()):
            while self.blocks and self.blocks[0].line < line:
                block = self.blocks.pop(0)
                if block.lexer == "python":
                    exec(compile(block.code, self.name, "exec"), self.names)
            return eval(expression, self.names)


def svg(picture):
    """A picture as an element of a web page."""
    if hasattr(picture, "svg"):
        return picture.svg()
    from matplotlib import rc_context

    file = io.StringIO()
    # the same figure gives the same page
    with rc_context({"svg.hashsalt": "nengo_dl"}):
        picture.savefig(file, format="svg", metadata={"Date": None})
    _, _, text = file.getvalue().partition("<svg")  # what is before belongs into files
    return f'<svg style="max-width: 100%; height: auto"{text}'


class Drawn(SphinxDirective):
    """See the top of this file."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """The picture as part of the page; left out where there is no HTML."""
        page = self.env.temp_data.get("drawn")
        if page is None:
            path = Path(self.env.doc2path(self.env.docname))
            page = Page(path.read_text(encoding="utf-8"), self.env.docname)
            self.env.temp_data["drawn"] = page
        picture = page.value(self.arguments[0], self.lineno)
        html = f'<div class="drawn" style="overflow-x: auto">{svg(picture)}</div>'
        return [nodes.raw("", html, format="html")]


def setup(app):
    """Make the directive known to Sphinx."""
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
