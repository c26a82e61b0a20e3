"""What the compiler did, for people: as text, or as a web page of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from nengo_dl.compiler.chain import Chain
from nengo_dl.compiler.drawing import COLOURS
from nengo_dl.compiler.graph import Graph
from nengo_dl.compiler.layout import Layout, Weight, WeightRef
from nengo_dl.compiler.pictures import picture_of_graph, picture_of_layout, short
from nengo_dl.compiler.pipeline import PassReport
from nengo_dl.notices import text_of

STAGES = {"before": "before the loop", "loop": "in the loop", "after": "after the loop"}
"""The stages of a layout, and how they are called."""


@dataclass(frozen=True)
class Summary:
    """Figures of a finished layout."""

    operators: int
    kernels: int
    carried_bytes: int
    weight_bytes: int
    reads: dict[str, int]
    stages: dict[str, int]
    python: tuple[tuple[str, str], ...]


def weight_size(weight: Weight) -> int:
    """Number of entries of a program argument."""
    return int(sum(np.prod(item.shape) for item in weight.items))


def summarize(layout: Layout, operators: int, itemsize: int, batch: int) -> Summary:
    """Count what runs in a step and how large it is."""
    groups = layout.groups()
    return Summary(
        operators=operators,
        kernels=len(groups),
        carried_bytes=sum(c.size for c in layout.carry) * itemsize * batch,
        weight_bytes=sum(weight_size(w) for w in layout.weights) * itemsize,
        reads=dict(Counter(read.form for g in groups for read in g.reads)),
        stages={name: len(getattr(layout, name).groups) for name in STAGES},
        python=tuple(
            (
                text_of(label),
                getattr(g.params.get("function"), "why", "a function with input"),
            )
            for g in groups
            if g.kernel.host
            for label in g.labels
        ),
    )


def describe(
    layout: Layout,
    reports: Iterable[PassReport],
    operators: int,
    itemsize: int,
    batch: int,
    history: Iterable[str] = (),
) -> str:
    """A page of text: passes with their counts, kernels, memory, what runs as Python.

    Parameters
    ----------
    layout : Layout
    reports : sequence of PassReport
    operators : int
        Number of operators of the Nengo model.
    itemsize : int
        Bytes of one number.
    batch : int
        Number of batch items.
    history : iterable of str
        Lines about how often the network was compiled.
    """
    summary = summarize(layout, operators, itemsize, batch)
    lines = [f"{operators} operators -> {summary.kernels} kernels"]
    lines.append("pass          elements    nodes    terms  seconds")
    for r in reports:
        lines.append(
            f"{r.name:<12}{r.elements:>10}{r.nodes:>9}{r.terms:>9}{r.seconds:>9.3f}"
        )
    for name, when in STAGES.items():
        groups = getattr(layout, name).groups
        if groups:
            lines.append(f"{when}:")
        for group in groups:
            rows = sum(layout.sizes[t] for t in group.outputs)
            merged = group.params.get("groups")
            count = "" if merged is None else f" of {merged} nodes"
            lines.append(f"  {group.kernel.name}{count}, {rows} rows")
    lines.append(
        f"carried: {summary.carried_bytes} bytes; weights: {summary.weight_bytes} bytes"
    )
    lines.append(f"reads: {summary.reads}")
    for label, why in summary.python:
        lines.append(f"runs as Python, step by step ({why}): {label}")
    return "\n".join([*lines, *history])


def chain_lines(chain: Chain) -> Iterator[str]:
    """Lines about a chain of several links: what each holds, and why it was cut there.

    There are none about a chain of one.

    Parameters
    ----------
    chain : Chain
    """
    n = len(chain.links)
    if n == 1:
        return
    yield f"for batches of training, {n} loops run one after the other:"
    for number, link in enumerate(chain.links, 1):
        if link.reason:
            yield f"  cut, as a product is worth it: {link.reason}"
        for name, when in STAGES.items():
            groups = getattr(link.layout, name).groups
            if groups:
                names = ", ".join(group.kernel.name for group in groups)
                yield f"  {when.replace('the loop', f'loop {number}')}: {names}"
        carried = sum(values.size for values in link.layout.carry)
        yield f"    {carried} values carried, {link.layout.n_probed} given for each step"


# as a web page ------------------------------------------------------------------------

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
            labels = list(dict.fromkeys(map(short, map(text_of, group.labels))))
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
    layout, reports, operators, itemsize, batch, history
        As for `describe`.
    graph : Graph
        What the layout was made of.
    title : str

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
