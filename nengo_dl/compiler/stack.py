"""Stacking of matrices that read the same vector."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from nengo_dl.compiler.graph import Graph, GraphBuilder
from nengo_dl.compiler.simplify import prune


def stack(graph: Graph) -> Graph:
    """Make one matrix of all fixed matrices that are applied to the same elements.

    The decoders of one ensemble for several functions become one product. Only where the
    kernel is nothing but a product (trait ``matrix``) and the matrices are constants.
    """
    readers = defaultdict(list)
    for node in graph.nodes:
        if isinstance(node.matrix, np.ndarray):
            readers[(node.kernel.name, node.inputs[0].tobytes())].append(node)
    groups = [nodes for nodes in readers.values() if len(nodes) > 1]
    if not groups:
        return graph
    builder = GraphBuilder.extending(graph)
    mapping = np.arange(graph.size)
    for nodes in groups:
        first = min(nodes, key=lambda node: node.order)
        name = first.kernel.matrix
        matrix = np.concatenate([node.params[name] for node in nodes])
        (out,) = builder.node(
            first.kernel,
            first.inputs,
            [matrix.shape[0]],
            {**first.params, name: matrix},
            order=first.order,
            label=first.label,
        )
        mapping[np.concatenate([node.elements() for node in nodes])] = out
    extended = builder.build()
    mapping = np.concatenate([mapping, np.arange(graph.size, extended.size)])
    return prune(extended.rename(mapping))
