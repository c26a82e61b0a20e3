"""Outer products: what the changes that learning rules ask for are made of."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from nengo.exceptions import BuildError

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.notices import label_of


def columns(xp: ArrayNamespace, p: Params, x: Array) -> Array:
    """One factor of each row of merged matrices: ``(m, batch)`` to broadcast.

    Parameters
    ----------
    xp : array namespace
    p : namespace
        With ``shape``, ``(m, n)``, and ``groups``, the number of matrices.
    x : array ``(groups * m, batch)``

    Returns
    -------
    array ``(groups, m, 1, batch)``
    """
    return xp.reshape(x, (p.groups, p.shape[0], 1, -1))


def rows(xp: ArrayNamespace, p: Params, x: Array) -> Array:
    """One factor of each column of merged matrices, ``(groups, 1, n, batch)``."""
    return xp.reshape(x, (p.groups, 1, p.shape[1], -1))


def matrices(xp: ArrayNamespace, p: Params, x: Array) -> Array:
    """Merged matrices that were flattened, ``(groups, m, n, batch)``."""
    return xp.reshape(x, (p.groups, *p.shape, -1))


def flat(xp: ArrayNamespace, p: Params, x: Array) -> Array:
    """What `matrices` was given: the entries row by row, ``(groups * m * n, batch)``."""
    m, n = p.shape
    return xp.reshape(x, (p.groups * m * n, -1))


class Change(Kernel):
    """What a learning rule asks of weights in one step.

    Parameters
    ----------
    items : str or None
        What becomes of all that the items of a batch ask for: ``"sum"`` or ``"mean"``,
        if they have the weights in common. None: each has weights of its own.

    Attributes
    ----------
    by_item : tuple of int
        The inputs that each item has of its own in any case.
    """

    by_item: tuple[int, ...] = ()

    def __init__(self, items: str | None = None) -> None:
        self.items = items
        if items is not None:
            self.name = f"{self.name}, {items} of items"
            self.joins_items = self.by_item

    def outer(self, xp: ArrayNamespace, p: Params, column: Array, row: Array) -> Array:
        """Products of each entry of a column with each one of a row, over the items.

        Parameters
        ----------
        xp : array namespace
        p : namespace
            See `columns`.
        column, row : array
            ``(groups * m, batch)`` and ``(groups * n, batch)``, in any shape.

        Returns
        -------
        array ``(groups, m, n, batch)``
            One column for all items if they have the weights in common.
        """
        if self.items is None or column.shape[-1] == 1:
            return columns(xp, p, column) * rows(xp, p, row)
        m, n = p.shape
        column = xp.reshape(self._weighted(column), (p.groups, m, -1))
        row = xp.transpose(xp.reshape(row, (p.groups, n, -1)), (0, 2, 1))
        if p.groups == 1:
            product = xp.matmul(column[0], row[0])
        else:
            product = xp.matmul(column, row)
        return xp.reshape(product, (p.groups, m, n, 1))

    def joined(self, xp: ArrayNamespace, x: Array) -> Array:
        """What the items ask for, ``(..., batch)``, in one if they have it in common."""
        if self.items is None or x.shape[-1] == 1:
            return x
        total = xp.sum(self._weighted(x), len(x.shape) - 1)
        return xp.reshape(total, (*x.shape[:-1], 1))

    def _weighted(self, x: Array) -> Array:
        """Each item with its part in the result."""
        return x * (1 / x.shape[-1]) if self.items == "mean" else x


C = TypeVar("C", bound=Change)


def ways(kernel: type[C]) -> dict[str | None, C]:
    """A kernel for each way in which items may learn: by themselves, or together.

    Returns
    -------
    dict
        What `.Lowering.joined` gives -> kernel.
    """
    return {items: kernel(items) for items in (None, "sum", "mean")}


class OuterProduct(Change):
    r"""A column times a row, for each batch item, or added up over the items.

    .. math:: \Delta_{ij} = c\, u_i v_j

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`c`. Inputs: ``u``,
    ``(m, batch)``, and ``v``, ``(n, batch)``. Output: ``(m * n, batch)``, row by row.

    The output is all zeros as long as the inputs are, and larger than both: so the
    compiler carries the two factors to the next step instead of the product.
    """

    name = "outer_product"
    zero_preserving = True
    merge_limit = LARGE_MATRIX
    by_item = (0, 1)

    def step(
        self, xp: ArrayNamespace, p: Params, column: Array, row: Array
    ) -> tuple[Array, ...]:
        """The factor goes to the column, which is the shorter of both as a rule."""
        return (flat(xp, p, self.outer(xp, p, column * p.factor, row)),)


OUTER_PRODUCT = OuterProduct()


#: the way out where a rule reads more than there are weights
WHOLE = (
    "This rule reads all neurons of an object: connect whole objects, for instance an "
    "ensemble of the wanted neurons alone, or use PES, which heeds slices"
)


def spread(
    op: Any, name: str, elements: np.ndarray, size: int, way_out: str = WHOLE
) -> np.ndarray:
    """Elements that fit one axis of a rule's weights, repeated as core would.

    Parameters
    ----------
    op : ~nengo.builder.Operator
        The rule.
    name : str
        What the elements are, for the error message.
    elements : ndarray of int
    size : int
        The length of the axis.
    way_out : str
        What to do if they do not fit.

    Returns
    -------
    ndarray of int
        ``size`` elements.

    Raises
    ------
    ~nengo.exceptions.BuildError
        If their number is neither one nor ``size``.
    """
    if elements.size not in (1, size):
        raise BuildError(
            f"{label_of(op)}"
            f": the weights that this rule changes have shape {op.delta.shape}, so "
            f"{name} must have {size} entries, but it has {elements.size}. {way_out}"
        )
    return np.broadcast_to(elements.ravel(), (size,))
