"""What the compiler did, as drawings: networks, operators, graphs, layouts."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np

from nengo_dl.compiler.drawing import Arrow, Box, Drawing
from nengo_dl.compiler.graph import Flow, Graph, Kind
from nengo_dl.compiler.layout import ZERO, Layout, StageLayout, WeightRef
from nengo_dl.compiler.plan import operator_order
from nengo_dl.notices import label_of, text_of

#: drawings with more boxes than this are condensed
LIMIT = 60

#: longest line in a box, in characters
LONGEST = 30

#: how Nengo writes objects -> what is worth reading of it
SHORTER = (
    (re.compile(r"<\w+ '([^']*)'>"), r"\1"),
    (re.compile(r"<(\w+) \(unlabeled\)[^>]*>"), r"\1"),
    (re.compile(r"<Probe of '[^']*' of ([^<>]*)>"), r"probe of \1"),
    (re.compile(r"<(?:Neurons of|Connection) ([^<>]*)>"), r"\1"),
    (re.compile(r"^\w+\(shape=.*?\)\)\.(weighted\.)?"), ""),
)


def short(text: str) -> str:
    """What Nengo calls something, in few words.

    Examples
    --------
    >>> short("<Neurons of <Ensemble 'a'>>.voltage")
    'a.voltage'
    """
    tag = text.rfind(") '")  # operators end with a tag: Name{Signal(...) 'tag'}
    if tag >= 0 and text.endswith("'}"):
        text = text[tag + 3 : -2]
    for pattern, new in SHORTER:
        text = pattern.sub(new, text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def name_of(key: Any) -> str:
    """How to call a signal, a node, a probe or an operator; "" if it has no name."""
    if isinstance(key, tuple):
        return f"{name_of(key[0])}, factor {key[1]}"
    name = getattr(key, "name", None) or getattr(key, "label", None)
    if name is not None and name.startswith("0x"):
        return ""
    return short(str(key) if name is None else name)


def values(*sizes: int) -> str:
    """A count of values in words, by the sizes of arrays."""
    text = " + ".join(map(str, sizes))
    return f"{text} value" if sizes == (1,) else f"{text} values"


def picture_of_network(network: Any) -> Drawing:
    """The objects of a network and its connections."""
    boxes = {}
    for kind, objects in (
        ("Node", network.all_nodes),
        ("Ensemble", network.all_ensembles),
        ("Probe", network.all_probes),
    ):
        for obj in objects:
            lines = [kind, short(str(obj))]
            if kind == "Ensemble":
                lines.append(f"{obj.n_neurons} neurons, {obj.dimensions} d")
            style = {"Node": "input", "Ensemble": "node", "Probe": "probe"}[kind]
            boxes[obj] = Box(obj, tuple(lines), style, str(obj))
    arrows = []
    for conn in network.all_connections:
        ends = _object(conn.pre_obj, boxes), _object(conn.post_obj, boxes)
        label = "" if conn.synapse is None else short(str(conn.synapse))
        arrows.append(Arrow(*ends, label))
    for probe in network.all_probes:
        arrows.append(Arrow(_object(probe.obj, boxes), probe))
    return Drawing(str(network), tuple(boxes.values()), tuple(arrows)).condensed(LIMIT)


def _object(obj, boxes):
    """The object with a box that an object belongs to."""
    while obj not in boxes:
        for part in ("ensemble", "connection", "post_obj"):
            if hasattr(obj, part):
                obj = getattr(obj, part)
                break
    return obj


def picture_of_operators(model: Any) -> Drawing:
    """The operators of a built model, and what they hand on through signals.

    An arrow leads from what sets a signal to what increments it, and from there to what
    reads it; a dashed one from what updates it at the end of a step to what reads it in
    the next one.
    """
    order = operator_order(model.operators)
    uses = {kind: defaultdict(list) for kind in ("sets", "incs", "reads", "updates")}
    boxes = []
    for i, op in enumerate(order):
        for kind, found in uses.items():
            for base in {signal.base for signal in getattr(op, kind)}:
                found[base].append(i)
        text = label_of(op)
        tag = getattr(op, "tag", None)
        lines = [type(op).__name__, *([short(tag)] if tag else [])]
        boxes.append(Box(i, tuple(lines), "node", text))
    arrows = {}
    for base in {**uses["reads"], **uses["incs"], **uses["sets"]}:
        sets, incs = uses["sets"][base], uses["incs"][base]
        reads, updates = uses["reads"][base], uses["updates"][base]
        pairs = [(a, b, False) for a in sets for b in incs]
        pairs += [(a, b, False) for a in incs or sets for b in reads]
        pairs += [(a, b, True) for a in updates for b in reads]
        for a, b, back in pairs:
            arrows[a, b, back] = Arrow(a, b, "", back)
    title = f"{len(order)} operators"
    return Drawing(title, tuple(boxes), tuple(arrows.values())).condensed(LIMIT)


def picture_of_graph(graph: Graph, title: str = "graph") -> Drawing:
    """A graph: its nodes, sums, states, inputs and probes.

    Sums that were written together are one box. Constants have none; boxes say how many
    of them they read. Arrows tell how many elements they stand for; dashed ones lead to
    the state that takes a value for the next step.
    """
    return _GraphPicture(graph).drawing(title).condensed(LIMIT)


class _GraphPicture:
    """Finds a box for each element of a graph, and the arrows between boxes."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.box_of = np.full(graph.size, -1)
        self.boxes: list[tuple] = []
        for source in graph.inputs:
            lines = ("given", name_of(source.key), values(source.size))
            self._add(source.elements, lines, "input")
        for source in graph.parameters:
            lines = ("parameter", name_of(source.key), values(source.size))
            self._add(source.elements, lines, "input")
        self._states()
        self._sums()
        for node in graph.nodes:
            self._node(node)
        self.first_probe = len(self.boxes)
        for reading in graph.probes:
            self._add(np.zeros(0, int), ("probe", name_of(reading.key)), "probe")

    def _add(self, elements, lines, style, tip="") -> None:
        self.box_of[elements] = len(self.boxes)
        self.boxes.append((lines, style, tip))

    def _states(self) -> None:
        graph = self.graph
        for reading in graph.states:
            elements = reading.elements.ravel()
            elements = elements[elements >= 0]
            mine = (graph.kind[elements] == Kind.STATE) & (self.box_of[elements] < 0)
            elements = elements[mine]
            if elements.size == 0:
                continue
            name, after = name_of(reading.key), graph.next[elements[0]]
            if not name and graph.kind[after] == Kind.NODE:
                name = f"inside {graph.nodes[graph.owner[after]].kernel.name}"
            lines = ("state", *([name] if name else []), values(elements.size))
            self._add(elements, lines, "state")

    def _sums(self) -> None:
        """Sums of one block on one level, so that no two boxes depend on each other."""
        graph = self.graph
        level, _ = Flow(graph).levels()
        sums = np.flatnonzero(graph.kind == Kind.SUM)
        for block, n in sorted(
            set(zip(graph.block[sums].tolist(), level[sums].tolist()))
        ):
            mine = sums[(graph.block[sums] == block) & (level[sums] == n)]
            terms = graph.fan_in[mine]
            count = f"{terms[0]}" if (terms == terms[0]).all() else "several"
            count += " term" if count == "1" else " terms"
            more = " + constant" if graph.value[mine].any() else ""
            lines = ("sum", f"of {count}{more}", values(mine.size))
            self._add(mine, lines, "sum")

    def _node(self, node) -> None:
        kernel = node.kernel
        shapes = [node.params[m].shape for m in kernel.matrices if m in node.params]
        first = " ".join([kernel.name, *("×".join(map(str, s)) for s in shapes)])
        sizes = [size for _, size in node.outputs]
        label = text_of(node.label)
        lines = (
            first,
            *([short(label)] if label else []),
            values(*sizes) if sizes else "no output",
        )
        elements = [node.elements(k) for k in range(len(sizes))]
        elements = np.concatenate(elements) if elements else np.zeros(0, int)
        self._add(elements, lines, "python" if kernel.host else "node", label)

    def _edges(self) -> tuple[dict, dict]:
        """(source box, target box) -> elements; and how many constants a box reads."""
        graph = self.graph
        flat, reader = graph.node_inputs()
        first_node = self.first_probe - len(graph.nodes)
        source = [graph.src, flat]
        target = [self.box_of[graph.term_owner], reader + first_node]
        for number, reading in enumerate(graph.probes):
            source.append(reading.elements)
            target.append(np.full(reading.elements.shape, self.first_probe + number))
        pairs = np.stack([np.concatenate(source), np.concatenate(target)])
        pairs = np.unique(pairs.astype(np.int64), axis=1)
        constant = graph.kind[pairs[0]] == Kind.CONSTANT
        boxes, counts = np.unique(pairs[1, constant], return_counts=True)
        constants = dict(zip(boxes.tolist(), counts.tolist()))
        pairs = pairs[:, ~constant]
        ends = np.stack([self.box_of[pairs[0]], pairs[1]])
        edges, counts = np.unique(ends, axis=1, return_counts=True)
        return dict(zip(map(tuple, edges.T.tolist()), counts.tolist())), constants

    def drawing(self, title: str) -> Drawing:
        """The drawing of the whole graph."""
        graph = self.graph
        edges, constants = self._edges()
        boxes = []
        for i, (lines, style, tip) in enumerate(self.boxes):
            if i in constants:
                n = constants[i]
                lines = (*lines, f"reads {n} constant{'s' if n > 1 else ''}")
            boxes.append(Box(i, lines, style, tip))
        arrows = [Arrow(a, b, str(n)) for (a, b), n in edges.items() if a >= 0]
        states = np.flatnonzero((graph.kind == Kind.STATE) & (graph.next >= 0))
        ends = np.stack([self.box_of[graph.next[states]], self.box_of[states]])
        for a, b in np.unique(ends, axis=1).T.tolist():
            if a >= 0 and b >= 0:
                arrows.append(Arrow(a, b, "", back=True))
        return Drawing(title, tuple(boxes), tuple(arrows))


def picture_of_layout(layout: Layout, title: str = "step") -> Drawing:
    """The kernels of a step, and the tensors between them.

    Arrows tell how many rows are read, and whether they have to be gathered one by one.
    Dashed ones lead to the tensor that is carried to the next step. Dashed boxes are what
    one stage hands to the next: rows for each step.
    """
    return _LayoutPicture(layout).drawing(title).condensed(LIMIT)


class _LayoutPicture:
    """Boxes for kernels, and for what stages are given and give."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.boxes: list[Box] = []
        self.arrows: dict = {}
        self.maker: dict[int, object] = {}  # tensor -> key of the box it comes from
        self._given_from_outside()
        self._stage("before", layout.before, layout.loop)
        for key, number in layout.loop.sources.items():
            if isinstance(key, tuple):
                lines = (f"carried {key[1]}", values(layout.sizes[number]))
                self._add(number, lines, "state")
        self._stage("loop", layout.loop, layout.after)
        for k, read in enumerate(layout.loop.next_state):
            target = self.maker[layout.loop.sources["carry", k]]
            for tensor, _, _ in read.parts:
                if tensor in self.maker:
                    source = self.maker[tensor]
                    self.arrows[source, target, True] = Arrow(source, target, "", True)
        self._stage("after", layout.after, None)
        self._probes()

    def _add(self, tensor, lines, style, tip="") -> None:
        key = (len(self.boxes), *lines)
        self.boxes.append(Box(key, tuple(lines), style, tip))
        if tensor is not None:
            self.maker[tensor] = key

    def _given_from_outside(self) -> None:
        number = self.layout.before.sources.get("inputs")
        if number is not None:
            names = [name_of(source.key) for source in self.layout.inputs]
            shown = (
                names if len(names) < 4 else [*names[:2], f"and {len(names) - 2} more"]
            )
            lines = ("given", *shown, values(self.layout.n_inputs))
            self._add(number, lines, "input", ", ".join(names))

    def _stage(self, when: str, stage: StageLayout, reader) -> None:
        for group in stage.groups:
            self._group(when, group)
        if reader is None or "inputs" not in reader.sources:
            return
        number = reader.sources["inputs"]
        to = {"before": "to the loop", "loop": "after the loop"}[when]
        if stage.result.size:
            self._add(number, (to, f"{values(stage.result.size)} a step"), "hand")
            self._reads(stage.result, self.maker[number])

    def _group(self, when: str, group) -> None:
        layout, kernel = self.layout, group.kernel
        merged = group.params.get("groups")
        head = kernel.name if merged in (None, 1) else f"{kernel.name} ({merged} merged)"
        sizes = [layout.sizes[t] for t in group.outputs]
        lines = [head, values(*sizes) if sizes else "no output"]
        for name, value in group.params.items():
            if isinstance(value, WeightRef) and name in kernel.matrices:
                weight = layout.weights[value.number]
                shape = (len(weight.items), *weight.items[0].shape)
                lines.append(f"{name}: " + "×".join(map(str, shape)))
        lines.append(
            {"before": "before the loop", "loop": "in the loop"}.get(
                when, "after the loop"
            )
        )
        tip = "\n".join(map(text_of, group.labels))
        self._add(None, lines, "python" if kernel.host else "node", tip)
        key = self.boxes[-1].key
        for tensor in group.outputs:
            self.maker[tensor] = key
        for read in group.reads:
            self._reads(read, key)

    def _reads(self, read, target) -> None:
        form = " gather" if read.form == "gather" else ""
        for tensor, start, stop in read.parts:
            source = self.maker.get(tensor)
            if tensor == ZERO or source is None:  # constants and parameters
                continue
            label = f"{stop - start}{form}"
            self.arrows[source, target, False] = Arrow(source, target, label)

    def _probes(self) -> None:
        names = [name_of(key) for key, _, _ in self.layout.probes]
        shown = names if len(names) < 4 else [*names[:2], f"and {len(names) - 2} more"]
        if not names:
            return
        self._add(None, ("probes", *shown), "probe", ", ".join(names))
        self._reads(self.layout.after.result, self.boxes[-1].key)

    def drawing(self, title: str) -> Drawing:
        """The drawing of the whole layout, without what nothing reads."""
        used = {key for a, b, _ in self.arrows for key in (a, b)}
        boxes = [b for b in self.boxes if b.key in used or b.style in ("node", "python")]
        return Drawing(title, tuple(boxes), tuple(self.arrows.values()))
