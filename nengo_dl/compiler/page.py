"""What the compiler did, as a web page that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nengo_dl.compiler.describe import STAGES, summarize, weight_size
from nengo_dl.compiler.drawing import COLOURS
from nengo_dl.compiler.graph import Graph
from nengo_dl.compiler.layout import Layout, WeightRef
from nengo_dl.compiler.pictures import picture_of_graph, picture_of_layout, short

if TYPE_CHECKING:
    from nengo_dl.compiler.describe import PassReport

STYLE = """\
:root { color-scheme: light dark; }
body { font-family: sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: 0.2em 0.8em; text-align: right; border-bottom: 1px solid #8885; }
th.text, td.text { text-align: left; }
figure { margin: 1em 0; overflow-x: auto; }
.key { display: inline-block; padding: 0 0.5em; margin-right: 0.5em; border-radius: 4px; }
"""

#: what the colours of boxes mean
LEGEND = (
    ("input", "given from outside"),
    ("state", "state"),
    ("node", "kernel"),
    ("sum", "sum"),
    ("python", "runs as Python"),
    ("probe", "probe"),
)


def _table(head, rows) -> str:
    """Rows of cells as a table; columns of text are aligned to the left."""
    text = [isinstance(cell, str) for cell in (rows or [head])[0]]

    def line(row, tag):
        cells = []
        for cell, left in zip(row, text):
            kind = ' class="text"' if left else ""
            cells.append(f"<{tag}{kind}>{escape(str(cell))}</{tag}>")
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line(head, "th"), *(line(row, "td") for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _legend() -> str:
    items = [
        f'<span class="key" style="border: 1px solid {COLOURS[style]}; '
        f'background: {COLOURS[style]}30">{text}</span>'
        for style, text in LEGEND
    ]
    return f"<p>{''.join(items)}</p>"


def _kernels(layout: Layout):
    """For each kernel call: when, what, how much, how it reads, whence."""
    for stage, when in STAGES.items():
        for group in getattr(layout, stage).groups:
            weights = sum(
                weight_size(layout.weights[value.number])
                for value in group.params.values()
                if isinstance(value, WeightRef)
            )
            labels = list(dict.fromkeys(map(short, group.labels)))
            more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
            yield (
                when,
                group.kernel.name,
                group.params.get("groups") or 1,
                sum(layout.sizes[tensor] for tensor in group.outputs),
                weights,
                ", ".join(read.form for read in group.reads),
                ", ".join(labels[:3]) + more,
            )


def page(
    layout: Layout,
    graph: Graph,
    reports: Sequence[PassReport],
    operators: int,
    itemsize: int,
    batch: int,
    title: str = "network",
    history: Iterable[str] = (),
) -> str:
    """A page with tables and drawings: passes, kernels, the step, the graph.

    Parameters
    ----------
    layout : Layout
    graph : Graph
        What the layout was made of.
    reports : sequence of PassReport
    operators : int
        Number of operators of the Nengo model.
    itemsize : int
        Bytes of one number.
    batch : int
        Number of batch items.
    title : str
    history : iterable of str
        Lines about how often the network was compiled.

    Returns
    -------
    str
        HTML, to be written to a file and opened in a browser.
    """
    found = summarize(layout, operators, itemsize, batch)
    passes = [(r.name, r.elements, r.nodes, r.terms, f"{r.seconds:.3f}") for r in reports]
    head = ("when", "kernel", "merged nodes", "values", "weights", "reads", "of")
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{operators} operators &rarr; {found.kernels} kernels. Carried from step to "
        f"step: {found.carried_bytes} bytes; weights: {found.weight_bytes} bytes.</p>",
    ]
    if found.python:
        names = [escape(f"{short(label)} ({why})") for label, why in found.python]
        parts.append(f"<p>Runs as Python: {'; '.join(names)}.</p>")
    if lines := "\n".join(history):
        parts.append(f"<pre>{escape(lines)}</pre>")
    parts += [
        "<h2>Passes</h2>",
        _table(("pass", "elements", "nodes", "terms", "seconds"), passes),
        "<h2>Kernels</h2>",
        _table(head, list(_kernels(layout))),
        "<h2>One step</h2>",
        _legend(),
        f"<figure>{picture_of_layout(layout, 'One step').svg()}</figure>",
        "<h2>The graph that the kernels were merged from</h2>",
        f"<figure>{picture_of_graph(graph, 'Graph').svg()}</figure>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"
