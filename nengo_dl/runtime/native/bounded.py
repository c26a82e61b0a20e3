r"""Sums that stay between bounds: what was there, and a change that is kept so small.

Rules that keep weights between bounds ask for a change that is no larger than the
distance from the bound, times a number just below one, so that the sum of a weight and
its change cannot leave the bound by its last digit:

.. math:: w + \min(\max(d, (a - w) f), (b - w) f)

Where only the sum is wanted, that is :math:`\min(\max(w + d, a), b)`, in three
operations instead of seven, and just as certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from nengo_dl.runtime.native.events import Place
from nengo_dl.runtime.native.recorder import Unless
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import Ufunc

#: how much less than one the factor of the distance may be, in units of its last place
LESS = 4


@dataclass(frozen=True)
class Between:
    """What a sum is.

    Attributes
    ----------
    change : (Instruction, int)
        The operand that is what is added, before it is kept small.
    old : int
        Which operand of the sum it is added to.
    low, high : float
        The bounds of the sum.
    """

    change: Place
    old: int
    low: float
    high: float


def between(makers: Mapping[Value, Instruction], ins: Instruction) -> Between | None:
    """A sum of numbers and of changes that keep them between bounds; else None.

    Parameters
    ----------
    makers : dict
        What computes each value.
    ins : Instruction
    """
    if not _is(ins, np.add):
        return None
    for old, view in enumerate(ins.operands):
        added = _computed(makers, ins.operands[1 - old])
        if added is not None and isinstance(added.operation, Unless):
            added = _computed(makers, added.operands[1])
        upper = _of_two(makers, added, np.minimum, view)
        if upper is None:
            continue
        (extreme, k), high = upper
        least = _computed(makers, extreme.operands[k])
        lower = _of_two(makers, least, np.maximum, view)
        if lower is not None and view.whole and lower[1] <= high:
            return Between(lower[0], old, lower[1], high)
    return None


def _is(ins: Instruction | None, function: np.ufunc) -> bool:
    operation = None if ins is None else ins.operation
    return isinstance(operation, Ufunc) and operation.function is function


def _computed(makers: Mapping[Value, Instruction], view: View) -> Instruction | None:
    """What computes all of an operand, in its order."""
    return makers.get(view.value) if view.whole else None


def _of_two(
    makers: Mapping[Value, Instruction],
    ins: Instruction | None,
    function: np.ufunc,
    old: View,
) -> tuple[Place, float] | None:
    """One operand of an extreme, and the bound that the other is the distance from."""
    if ins is None or not _is(ins, function):
        return None
    for k, view in enumerate(ins.operands):
        bound = _bound(makers, view, old)
        if bound is not None:
            return (ins, 1 - k), bound
    return None


def _bound(makers: Mapping[Value, Instruction], view: View, old: View) -> float | None:
    """The bound ``a`` of an operand that is ``(a - old) * f``."""
    product = _computed(makers, view)
    if product is None or not _is(product, np.multiply):
        return None
    distance = _computed(makers, product.operands[0])
    if distance is None or not _is(distance, np.subtract):
        return None
    factor, mine = _number(product.operands[1]), distance.operands[1]
    least = 1 - LESS * float(np.finfo(mine.value.dtype).eps)
    if factor is None or not least <= factor <= 1:
        return None
    same = mine.value is old.value and mine.whole and prod(mine.shape) == prod(old.shape)
    return _number(distance.operands[0]) if same else None


def _number(view: View) -> float | None:
    """The number that an operand is for ever."""
    array = view.value.array
    if view.value.kind != "constant" or array is None or array.size != 1:
        return None
    return float(array.reshape(-1)[0])
