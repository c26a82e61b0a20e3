"""Exact callbacks: double precision between Python functions, also in single precision.

A Python function computes in double precision. What it returns is rounded for the
simulation; if another function then reads it in the same step, unchanged, it would get
another number than the first one returned, and comparisons of the two fail. So where the
input of a function is an output of another one (the same element, or a copy of it), it
is given the number itself, as four *digits* to the base 65,536: its 64 bits, 16 at a
time. Single precision holds such integers exactly.

Digits are ordinary elements. Whatever the stages, the executors and the chunks are, they
arrive where they are needed, and nothing is kept aside.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace

import numpy as np

from nengo_dl.compiler.graph import Graph, GraphBuilder, Kind

#: the precision in which numbers are passed on as digits; double precision needs none
SINGLE = np.dtype(np.float32)

#: digits of one number
COUNT = 4


@dataclass(frozen=True)
class Digits:
    """Key of the rows that hold the digits of another source of a graph."""

    key: Hashable

    @property
    def name(self) -> str:
        """What these rows are called in descriptions."""
        return f"digits of {getattr(self.key, 'name', self.key)}"


def to_digits(values: np.ndarray) -> np.ndarray:
    """The digits of numbers in double precision.

    Parameters
    ----------
    values : ndarray
        ``(..., n, columns)``.

    Returns
    -------
    ndarray of uint16
        ``(..., 4 * n, columns)``: the digits of each row below one another.

    Examples
    --------
    >>> digits = to_digits(np.array([[0.1], [2.0]]))
    >>> from_digits(digits.astype(np.float32))
    array([[0.1],
           [2. ]])
    """
    *leading, n, columns = values.shape
    if columns == 1:
        digits = values.astype(np.float64).view(np.uint16)
    else:
        digits = np.ascontiguousarray(values, np.float64).view(np.uint16)
        digits = digits.reshape(*leading, n, columns, COUNT).swapaxes(-1, -2)
    return digits.reshape(*leading, COUNT * n, columns)


def from_digits(digits: np.ndarray) -> np.ndarray:
    """The numbers whose digits these are; the inverse of `to_digits`.

    Parameters
    ----------
    digits : ndarray
        ``(4 * n, columns)``, of any type.

    Returns
    -------
    ndarray of float64
        ``(n, columns)``.
    """
    columns = digits.shape[1]
    if columns != 1:
        digits = digits.reshape(-1, COUNT, columns).swapaxes(1, 2)
    return digits.astype(np.uint16, "C").reshape(-1).view(np.float64).reshape(-1, columns)


def add_digits(graph: Graph, given: Collection[Hashable]) -> Graph:
    """Give Python functions digits instead of rounded numbers, where these are known.

    Parameters
    ----------
    graph : Graph
        After all simplifications, so that most copies are the same element.
    given : collection of keys
        Inputs of the graph that come from Python functions, called ahead of the steps.

    Returns
    -------
    Graph
        A function that others read has one more output, and what they read of it (and of
        ``given`` inputs and constants) is in one more input.
    """
    readers = [i for i, node in enumerate(graph.nodes) if node.kernel.in_double(node)]
    if not readers:
        return graph
    origin = _origins(graph)
    wanted = np.zeros(graph.size, bool)
    for i in readers:
        for elements in graph.nodes[i].inputs:
            wanted[origin[elements]] = True
    wanted &= _known(graph, frozenset(given))
    if not wanted.any():
        return graph
    builder = GraphBuilder.extending(graph)
    digits = _make(graph, builder, wanted)
    for i in readers:
        _read(builder, i, origin, digits)
    return builder.build()


def _origins(graph: Graph) -> np.ndarray:
    """For each element the one that it is a copy of, or itself."""
    origin = np.arange(graph.size)
    copies = (graph.kind == Kind.SUM) & (graph.fan_in == 1) & (graph.value == 0)
    copies = np.flatnonzero(copies)
    copies = copies[graph.scale[graph.ptr[copies]] == 1]
    origin[copies] = graph.src[graph.ptr[copies]]
    while True:
        further = origin[origin]
        if np.array_equal(further, origin):
            return origin
        origin = further


def _known(graph: Graph, given: frozenset) -> np.ndarray:
    """Elements of which more is known than single precision holds."""
    known = np.zeros(graph.size, bool)
    for node in graph.nodes:
        if node.kernel.in_double(node):
            known[_outputs(node)] = True
    for source in graph.inputs:
        if source.key in given:
            known[source.elements] = True
    constant = graph.kind == Kind.CONSTANT
    values = graph.value[constant]
    with np.errstate(over="ignore"):
        known[constant] = values != values.astype(SINGLE)
    return known


def _outputs(node) -> np.ndarray:
    """The elements of all outputs of a node."""
    found = [node.elements(output) for output in range(len(node.outputs))]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _make(graph: Graph, builder: GraphBuilder, wanted: np.ndarray) -> np.ndarray:
    """Elements of the digits of all elements that are wanted, ``(n, 4)``; else -1."""
    digits = np.full((graph.size, COUNT), -1, np.int64)
    constants = np.flatnonzero(wanted & (graph.kind == Kind.CONSTANT))
    values = to_digits(graph.value[constants][:, None])
    digits[constants] = builder.constant(values).reshape(-1, COUNT)
    for source in graph.inputs:
        if wanted[source.elements].any():
            made = builder.input(Digits(source.key), COUNT * source.size)
            digits[source.elements] = made.reshape(-1, COUNT)
    for i, node in enumerate(graph.nodes):
        mine = _outputs(node)
        rows = np.flatnonzero(wanted[mine])
        if rows.size:
            made = builder.widen(i, COUNT * rows.size)
            digits[mine[rows]] = made.reshape(-1, COUNT)
            params = node.kernel.giving_digits(node.params, rows)
            builder.nodes[i] = replace(builder.nodes[i], params=params)
    return digits


def _read(builder: GraphBuilder, i: int, origin: np.ndarray, digits: np.ndarray) -> None:
    """A function reads the digits of its inputs, where there are some."""
    node = builder.nodes[i]
    found = [digits[origin[elements]] for elements in node.inputs]
    masks = tuple(each[:, 0] >= 0 for each in found)
    if not any(mask.any() for mask in masks):
        return
    rest = [e[~mask] for e, mask in zip(node.inputs, masks) if not mask.all()]
    exact = [each[mask].ravel() for each, mask in zip(found, masks)]
    params = node.kernel.taking_digits(node.params, masks)
    inputs = (*rest, np.concatenate(exact))
    builder.nodes[i] = replace(node, inputs=inputs, params=params)
