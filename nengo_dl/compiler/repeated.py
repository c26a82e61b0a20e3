"""What is made of equal operators that read the same elements: once, while lowering.

Large networks decode one function of an ensemble for many connections, and filter each of
them alike. All of that is equal for ever, because of what it is made of. It could be
lowered, and `nengo_dl.compiler.simplify.share` would find out that it is equal; not to
make it costs a small part of that. `share` finds all else that is equal.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nengo_dl.compiler.graph import INDEX, GraphBuilder, ParameterRef
from nengo_dl.compiler.traits import Kernel

#: with how many of one kind that read the same a node is compared; `share` compares more
FEW = 8


@dataclass(frozen=True)
class Lasting:
    """What was made of an operator with a state.

    Attributes
    ----------
    state, after : ndarray of int
        The elements of the state, and those that hold its next values.
    out : ndarray of int
        The elements that it puts out.
    numbers : int
        How many numbers of the builder's order it took.
    """

    state: np.ndarray
    after: np.ndarray
    out: np.ndarray
    numbers: int


class Repeated:
    """The nodes that a builder has, and a second one in place of an equal one.

    Nodes that are not made leave a gap in the builder's order, so that all others have
    the place that they would have.

    Parameters
    ----------
    builder : GraphBuilder

    Attributes
    ----------
    lasting : dict
        Of operators with a state, what was made of them; by whatever that depends on.

    Examples
    --------
    >>> from nengo_dl.kernels.algebra import PRODUCT
    >>> builder = GraphBuilder()
    >>> x, made = builder.input("x", 2), Repeated(builder)
    >>> made.node(PRODUCT, [x, x], [2], {})
    [array([2, 3], dtype=int32)]
    >>> made.node(PRODUCT, [x, x], [2], {})
    [array([2, 3], dtype=int32)]
    """

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.lasting: dict[Hashable, Lasting] = {}
        self._nodes: dict[tuple, list[tuple[Mapping, list[np.ndarray]]]] = {}

    def node(
        self,
        kernel: Kernel,
        inputs: Sequence[np.ndarray],
        sizes: Sequence[int],
        params: Mapping[str, Any],
        label: object = "",
    ) -> list[np.ndarray]:
        """The outputs of an equal node if there is one, else of one that is made now.

        Parameters
        ----------
        kernel, inputs, sizes, params, label
            As for `.graph.GraphBuilder.node`.
        """
        make = self.builder.node
        if type(kernel).fingerprint is not Kernel.fingerprint or kernel.host:
            return make(kernel, inputs, sizes, params, label=label)
        if kernel.side_effects:
            return make(kernel, inputs, sizes, params, label=label)
        inputs = [np.asarray(elements, INDEX) for elements in inputs]
        key = (kernel, *sizes, *[elements.tobytes() for elements in inputs])
        alike = self._nodes.setdefault(key, [])  # of most no other reads the same
        for others, outputs in alike:
            if _same(params, others):
                self.builder.counter += 1
                return [array.copy() for array in outputs]
        outputs = make(kernel, inputs, sizes, params, label=label)
        if len(alike) < FEW:
            alike.append((params, [array.copy() for array in outputs]))
        return outputs


def _same(params: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two nodes with these parameters have one `Kernel.fingerprint`."""
    return params is others or (
        params.keys() == others.keys()
        and all(_equal(value, others[name]) for name, value in params.items())
    )


def _equal(value: Any, other: Any) -> bool:
    """Whether two values of a parameter are equal; arrays, bit by bit."""
    if type(value) is not type(other):
        return False
    if isinstance(value, ParameterRef):
        return value.fingerprint == other.fingerprint
    if not isinstance(value, np.ndarray):
        return bool(value == other)
    alike = value.shape == other.shape and value.dtype == other.dtype
    return alike and value.tobytes() == other.tobytes()
