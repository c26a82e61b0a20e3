"""The whole compiler on one page.

operators -> lower -> simplify -> share -> stack -> exact callbacks -> stages -> plan
-> layout
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nengo_dl.compiler.exact_callbacks import add_digits
from nengo_dl.compiler.graph import Flow, Graph
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.layout import Layout, Sorter, layout
from nengo_dl.compiler.lowering import HostSource, LoweringOptions, lower
from nengo_dl.compiler.plan import Planner, Stage, one_stage, plan, stages
from nengo_dl.compiler.simplify import Simplification, share, simplify, simplify_by, stack
from nengo_dl.heap import give_back, keep_freed, without_collecting

logger = logging.getLogger(__name__)

#: what happens to a graph; `share` compares the values of constants, see its docstring
PASSES: tuple[Callable[[Graph], Graph], ...] = (simplify, share, simplify, stack)

#: for a network whose parameters and state may be written: what is equal now need not
#: stay so, not even two states with one first value
PARAMETRIC_PASSES: tuple[Callable[[Graph], Graph], ...] = (simplify, stack)


#: from how many elements on a graph takes so much memory that it is worth a look, some
#: milliseconds, what of it can be given back
LARGE = 1 << 18

#: and twice: of smaller ones, `arrange` takes what the passes have left, which costs less
#: than to give it back and have it again (a sixteenth of a first result, ``first``)
VERY_LARGE = 4 * LARGE


@dataclass(frozen=True)
class Strategies:
    """The user's choice among the strategies of the compiler; None: as it sees fit.

    Parameters
    ----------
    planner, sorter : callable or None
        See `nengo_dl.compiler.plan` and `nengo_dl.compiler.layout`.
    simplifications : sequence of callable or None
        See `nengo_dl.compiler.simplify.simplify_by`.
    """

    planner: Planner | None = None
    sorter: Sorter | None = None
    simplifications: Sequence[Simplification] | None = None

    def passes(self, parametric: bool) -> tuple[Callable[[Graph], Graph], ...]:
        """The passes; ``parametric``, if parameters and state may be written."""
        chosen = PARAMETRIC_PASSES if parametric else PASSES
        if self.simplifications is None:
            return chosen
        own = simplify_by(self.simplifications)
        return tuple(own if step is simplify else step for step in chosen)


@dataclass(frozen=True)
class PassReport:
    """Counts after one pass: elements, nodes, terms of sums; and seconds it took."""

    name: str
    elements: int
    nodes: int
    terms: int
    seconds: float

    @classmethod
    def of(cls, name: str, graph: Graph, seconds: float) -> PassReport:
        """The counts of a graph."""
        return cls(name, graph.size, len(graph.nodes), graph.src.size, seconds)


@dataclass(frozen=True)
class Compiled:
    """A simplified graph, where its inputs come from, and what each pass did."""

    graph: Graph
    sources: tuple[HostSource, ...]
    order: tuple[object, ...]
    stepwise_python: bool
    lasting: tuple[object, ...]
    turned: Mapping
    reports: tuple[PassReport, ...]


@without_collecting()  # nothing that the passes leave behind refers to itself
def compile_model(
    model: Any,
    options: LoweringOptions | None = None,
    passes: tuple[Callable[[Graph], Graph], ...] = PASSES,
) -> Compiled:
    """Lower a built model and simplify the graph.

    Parameters
    ----------
    model : nengo.builder.Model
        Only read.
    options : LoweringOptions
    passes : tuple of functions from Graph to Graph
        Applied in this order.
    """
    checked = os.environ.get("NENGO_DL_VERIFY", "") not in ("", "0")
    started = time.perf_counter()
    options = options or LoweringOptions()
    keep_freed()  # each pass frees what the next one takes
    lowered = lower(model, options)
    graph, lowered = lowered.graph, replace(lowered, graph=None)
    reports = [PassReport.of("lower", graph, time.perf_counter() - started)]
    if checked:
        verify(graph, "lower")
    named = [(transform.__name__, transform) for transform in passes]
    if options.single and any(node.kernel.host for node in graph.nodes):
        functions = {s.signal for s in lowered.sources if s.signal is not s.op}
        last = partial(add_digits, given=functions - {None})
        named.append((add_digits.__name__, last))
    for name, transform in named:
        started = time.perf_counter()
        held = [graph]
        del graph  # a pass holds it as long as it needs it, and no longer
        graph = transform(held.pop())
        reports.append(PassReport.of(name, graph, time.perf_counter() - started))
        logger.debug("%s", reports[-1])
        if checked:
            verify(graph, name)
    graph = graph.compact()
    if reports[0].elements >= VERY_LARGE:
        give_back()  # what the passes took is several times what is left
    return Compiled(
        graph,
        lowered.sources,
        lowered.order,
        lowered.stepwise_python,
        lowered.lasting,
        lowered.turned,
        tuple(reports),
    )


def python_in_loop(graph: Graph, stepwise_python: bool = False) -> bool:
    """Whether the loop over time calls Python functions, see `stages`.

    Parameters
    ----------
    graph : Graph
    stepwise_python : bool
        Keep all Python functions in the loop.
    """
    split = stages(graph, stepwise_python)
    places = zip(graph.nodes, split.node.tolist(), strict=True)
    return any(node.kernel.host and place == Stage.LOOP for node, place in places)


@without_collecting()
def arrange(
    graph: Graph,
    fused: bool = False,
    stepwise_python: bool = False,
    planner: Planner | None = None,
    sorter: Sorter | None = None,
) -> Layout:
    """Merge the operations of a graph and give every element its place.

    Parameters
    ----------
    graph : Graph
    fused : bool
        Everything in one stage, for single steps; else what does not depend on the
        state runs before the loop over time, and what the state does not depend on
        after it.
    stepwise_python : bool
        Keep all Python functions in the loop.
    planner, sorter : callable, optional
        Strategies, see `nengo_dl.compiler.plan` and `nengo_dl.compiler.layout`.
    """
    flow = Flow(graph)
    split = one_stage(graph) if fused else stages(graph, stepwise_python, flow)
    planned = plan(graph, split, planner, flow)
    del flow  # as much memory as the graph
    arranged = layout(planned, sorter)
    if graph.size >= LARGE:
        give_back()
    return arranged
