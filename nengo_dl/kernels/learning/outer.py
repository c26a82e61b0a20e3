"""Outer products: what the changes that learning rules ask for are made of."""

from __future__ import annotations

from typing import Any

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


class OuterProduct(Kernel):
    r"""A column times a row, for each batch item.

    .. math:: \Delta_{ij} = c\, u_i v_j

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`c`. Inputs: ``u``,
    ``(m, batch)``, and ``v``, ``(n, batch)``. Output: ``(m * n, batch)``, row by row.

    The output is all zeros as long as the inputs are, and larger than both: so the
    compiler carries the two factors to the next step instead of the product.
    """

    name = "outer_product"
    zero_preserving = True
    merge_limit = LARGE_MATRIX

    def step(
        self, xp: ArrayNamespace, p: Params, column: Array, row: Array
    ) -> tuple[Array, ...]:
        """The factor goes to the column, which is the shorter of both as a rule."""
        return (flat(xp, p, columns(xp, p, column * p.factor) * rows(xp, p, row)),)


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
