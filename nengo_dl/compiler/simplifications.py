"""The simplifications of a graph one by one, to be chosen from.

Each is a function from a `Graph` to one with the same values. `simplify` applies them in
turn until nothing changes. The first five do what rules of the same names did with
operators in earlier versions; without a setting the others do their work in fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from nengo.exceptions import BuildError, ValidationError

from nengo_dl.compiler.graph import Graph, Kind
from nengo_dl.compiler.simplify import (
    alias,
    fold,
    inline,
    retime,
    simplify,
    sparsify,
)
from nengo_dl.compiler.verify import GraphError, verify

Simplification = Callable[[Graph], Graph]


def remove_unmodified_resets(graph: Graph) -> Graph:
    """What is set and never added to is a constant.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    return _constants(graph, (graph.kind == Kind.SUM) & (graph.fan_in == 0))


def remove_zero_incs(graph: Graph) -> Graph:
    """Nothing is added where a factor or a constant is zero.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    nothing = (graph.kind == Kind.CONSTANT) & (graph.value == 0)
    rest = ~nothing[graph.src] & (graph.scale != 0)
    if rest.all():
        return graph
    return graph.with_terms(graph.term_owner[rest], graph.src[rest], graph.scale[rest])


def remove_identity_muls(graph: Graph) -> Graph:
    """A product with an identity matrix is its other factor.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    mapping = np.arange(graph.size)
    for node in graph.nodes:
        matrix = node.params.get(node.kernel.matrix)
        if not isinstance(matrix, np.ndarray) or matrix.shape[0] != matrix.shape[1]:
            continue
        if np.array_equal(matrix, np.eye(len(matrix))):
            mapping[node.elements()] = node.inputs[0]
    if np.array_equal(mapping, np.arange(graph.size)):
        return graph
    while not np.array_equal(mapping, mapping[mapping]):  # one behind the other
        mapping = mapping[mapping]
    return graph.rename(mapping)


def remove_constant_copies(graph: Graph) -> Graph:
    """A sum of constants is a constant.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    rows, constant = graph.term_owner, graph.kind[graph.src] == Kind.CONSTANT
    varying = np.bincount(rows[~constant], minlength=graph.size)
    known = (graph.kind == Kind.SUM) & (graph.fan_in > 0) & (varying == 0)
    if not known.any():
        return graph
    value, mine = graph.value.copy(), known[rows]
    np.add.at(value, rows[mine], graph.scale[mine] * graph.value[graph.src[mine]])
    others = ~mine
    summed = graph.with_terms(
        rows[others], graph.src[others], graph.scale[others], value=value
    )
    return _constants(summed, known)


def remove_reset_incs(graph: Graph) -> Graph:
    """What is set to zero and then added to once is what was added.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    return alias(graph)


default_simplifications: list[Simplification] = [
    remove_unmodified_resets,
    remove_zero_incs,
    remove_identity_muls,
    remove_constant_copies,
    remove_reset_incs,
    sparsify,
    fold,
    alias,
    inline,
    retime,
]
"""All simplifications, in the order in which they are applied."""


def _constants(graph: Graph, chosen: np.ndarray) -> Graph:
    """The graph with the chosen sums, which have no terms, as constants."""
    if not chosen.any():
        return graph
    kind = np.where(chosen, Kind.CONSTANT, graph.kind).astype(graph.kind.dtype)
    return graph.with_terms(graph.term_owner, graph.src, graph.scale, kind=kind)


def simplify_by(rules: Sequence[Simplification]) -> Simplification:
    """A pass that applies the user's choice of simplifications until nothing changes.

    Parameters
    ----------
    rules : sequence of callable

    Returns
    -------
    callable
        From a `Graph` to a `Graph`. It raises `~nengo.exceptions.ValidationError` if a
        rule returns something else, and `~nengo.exceptions.BuildError` if what it returns
        is no valid graph.
    """

    def checked(rule: Simplification) -> Simplification:
        name = getattr(rule, "__name__", repr(rule))

        def apply(graph: Graph) -> Graph:
            simpler = rule(graph)
            if not isinstance(simpler, Graph):
                raise ValidationError(
                    f"the simplification {name} returned {simpler!r}; expected a "
                    "nengo_dl.compiler.graph.Graph, the one that it was given if there "
                    "is nothing to change",
                    attr="simplifications",
                )
            if simpler is not graph:
                try:
                    verify(simpler, name)
                except GraphError as error:
                    raise BuildError(
                        f"the simplification {name} returned a graph that breaks a rule, "
                        f"{error}; the rules are in nengo_dl.compiler.verify"
                    ) from error
            return simpler

        return apply

    chosen = tuple(checked(rule) for rule in rules)

    def simplify_as_set(graph: Graph) -> Graph:
        return simplify(graph, chosen)

    return simplify_as_set
