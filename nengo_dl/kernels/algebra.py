"""Sums, products and matrices: what connections and views are made of; time and probes.

==================  ==================================================================
operator            becomes
==================  ==================================================================
``Reset``           a constant
``Copy``            terms with factor one
``ElementwiseInc``  terms with a constant factor, or a `Product`
``DotInc``          a `MatVec` (fixed or trained matrix) or a `VaryingMatVec` (learned)
``TimeUpdate``      inputs
``SimProbe``        a mark
==================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Reset, TimeUpdate
from nengo.builder.probe import SimProbe
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.memory import spread
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params, structural
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class SumKernel(Kernel):
    r"""Sums of the same number of terms.

    .. math:: y_i = b_i + \sum_j s_{ji} x_{ji}

    Parameters: ``terms`` (number of terms), ``scale`` (``(terms * n, 1)`` or None if all
    are one), ``bias`` (``(n, 1)`` or None if all are zero). Input: the terms, all first
    ones, then all second ones, and so on; or one input for all first ones, one for all
    second ones, and so on.
    """

    name = "sum"

    # a short chain of additions fuses with its neighbours; a long one is a reduction
    longest_chain = 4

    def step(self, xp: ArrayNamespace, p: Params, *inputs: Array) -> tuple[Array, ...]:
        """Add up the scaled terms."""
        if not inputs:
            return (p.bias,)
        y, *others = inputs
        if others:
            y = self._chain(self._scaled(p, inputs))
        else:
            y = y if p.scale is None else y * p.scale
            n = y.shape[0] // p.terms
            if 1 < p.terms <= self.longest_chain:
                y = self._chain([y[j * n : (j + 1) * n] for j in range(p.terms)])
            elif p.terms > 1:
                y = xp.sum(xp.reshape(y, (p.terms, n, -1)), 0)
        if p.bias is not None:
            y = y + p.bias
        return (y,)

    @staticmethod
    def _scaled(p, inputs):
        """Each input times its part of the factors."""
        if p.scale is None:
            return inputs
        if isinstance(p.scale, float):
            return [x * p.scale for x in inputs]
        n = inputs[0].shape[0]
        return [x * p.scale[j * n : (j + 1) * n] for j, x in enumerate(inputs)]

    @staticmethod
    def _chain(terms):
        # what is the same for all items is one column, and cheaper to add up by itself
        y, *rest = sorted(terms, key=lambda term: term.shape[1] != 1)
        for term in rest:
            y = y + term
        return y


class MatVec(Kernel):
    r"""A matrix that no operator changes: decoders, encoders, weights.

    .. math:: y = A x

    Parameters: ``A``, ``(m, k)``. Input: ``x``, ``(k, batch)``. Merged matrices of one
    shape are stacked to ``(groups, m, k)``; equal ones are stored once, ``(1, m, k)``.
    """

    name = "matmul"
    matrices = ("A",)
    matrix = "A"
    zero_preserving = True

    def step(self, xp: ArrayNamespace, p: Params, x: Array) -> tuple[Array, ...]:
        """One product for all merged matrices."""
        groups = p.groups
        _, m, k = p.A.shape
        if k == 1:
            y = p.A * xp.reshape(x, (groups, 1, -1))
            return (xp.reshape(y, (groups * m, -1)),)
        if groups == 1:
            return (xp.matmul(xp.reshape(p.A, (m, k)), x),)
        y = xp.matmul(p.A, xp.reshape(x, (groups, k, -1)))
        return (xp.reshape(y, (groups * m, -1)),)


class VaryingMatVec(Kernel):
    r"""A matrix that changes in a simulation: one for each batch item, or for all.

    .. math:: y_i = \sum_j A_{ij} x_j

    Parameters: ``shape``, ``(m, k)``. Inputs: ``A`` flattened, ``(m * k, batch)``, with
    one column if all items have it in common; ``x``, ``(k, batch)``.
    """

    name = "varying_matmul"
    zero_preserving = True
    batch_first = 2**14

    def cost(self, node: Node) -> float:
        """One multiplication for each entry of the matrix."""
        return float(node.inputs[0].size)

    def merge_key(self, node: Node) -> Hashable:
        """Matrices so large that reading them dominates stay where they are."""
        alone = node.inputs[0].size > LARGE_MATRIX
        return (self.name, id(node)) if alone else super().merge_key(node)

    def step(
        self, xp: ArrayNamespace, p: Params, a: Array, x: Array
    ) -> tuple[Array, ...]:
        """Row by row; a matrix that all items have in common is an ordinary one."""
        m, k = p.shape
        if a.shape[1] == 1:
            matrix = xp.reshape(a, (p.groups, m, k))
            y = xp.matmul(matrix, xp.reshape(x, (p.groups, k, -1)))
        else:
            matrix = xp.reshape(a, (p.groups, m, k, -1))
            y = xp.matvec(matrix, xp.reshape(x, (p.groups, k, -1)))
        return (xp.reshape(y, (p.groups * m, -1)),)


class Product(Kernel):
    """Two signals multiplied entry by entry."""

    name = "product"
    zero_preserving = True

    def step(
        self, xp: ArrayNamespace, p: Params, a: Array, x: Array
    ) -> tuple[Array, ...]:
        """One time step of the product ``a * x``, element by element."""
        return (a * x,)


SUM = SumKernel()
MATVEC = MatVec()
VARYING_MATVEC = VaryingMatVec()
PRODUCT = Product()
structural["sum"] = SUM


@lowers(Reset)
class LowerReset(OperatorRule):
    """Lowers ``Reset``: ``dst[...] = value``."""

    def may_wait(self, op: Any) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: Reset, low: Lowering) -> None:
        """Cover the signal with a constant."""
        low.fill(op.dst, np.asarray(op.value, np.float64))


@lowers(Copy)
class LowerCopy(OperatorRule):
    """``dst[dst_slice] = src[src_slice]``, or ``+=``."""

    def carries(self, op: Copy) -> Iterable[Signal]:
        """A signal of which only a part is set keeps the rest."""
        return () if op.inc or op.dst_slice is None else (op.dst,)

    def may_wait(self, op: Any) -> bool:
        """Not where indices are to be looked at."""
        return op.inc or op.dst_slice is None

    def lower(self, op: Copy, low: Lowering) -> None:
        """Add the elements read as terms of the elements written."""
        if not op.inc and _repeats(op.dst_slice, op.dst):
            raise BuildError(
                f"{label_of(op)}"
                f": Cannot have repeated indices in dst_slice when copy is not an "
                f"increment; got {op.dst_slice}"
            )
        constant = not op.inc and low.is_constant(op.src)
        copied = low.value(op.src) if constant else low.read(op.src)
        if op.src_slice is not None:
            copied = copied[op.src_slice]
        if constant:  # such as a bias: elements of its own would be read by nobody
            low.fill(op.dst, copied + 0.0, index=op.dst_slice)  # as a sum, without -0.0
        elif op.inc:
            low.increment(op.dst, copied, index=op.dst_slice)
        else:
            low.set(op.dst, copied, index=op.dst_slice)


def _repeats(index, signal):
    """Whether a list of indices (or None) names an entry of a signal twice."""
    if index is None:
        return False
    entries = np.arange(signal.shape[0])[index]
    return np.unique(entries).size < entries.size


@lowers(ElementwiseInc)
class LowerElementwiseInc(OperatorRule):
    """``Y += A * X``."""

    def may_wait(self, op: Any) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: ElementwiseInc, low: Lowering) -> None:
        """A constant factor scales terms; two varying factors are a product."""
        factor, signal = op.A, op.X
        if low.is_constant(signal) and not low.is_constant(factor):
            factor, signal = signal, factor
        x = spread(low.read(signal), op.Y.shape)
        if low.is_constant(factor):
            low.increment(op.Y, x, spread(low.value(factor), op.Y.shape))
            return
        a = np.broadcast_to(low.read(factor), op.Y.shape)
        (y,) = low.node(PRODUCT, [a, x], [x.size], {}, label=op)
        low.increment(op.Y, y.reshape(op.Y.shape))


@lowers(DotInc)
class LowerDotInc(OperatorRule):
    """Lowers ``DotInc``: ``Y += A.dot(X)``."""

    def covers(self, op: Any, registered: type) -> bool:
        """Subclasses, of sparse and blocked products, store ``A`` differently."""
        return type(op) is registered

    def may_wait(self, op: Any) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: DotInc, low: Lowering) -> None:
        """One node, and its output as a term of ``Y``."""
        x = low.read(op.X).ravel()
        if op.A.ndim == 0:
            self._scaled(op, low, x)
            return
        shape = (op.A.size // x.size, x.size)
        matrix = low.matrix(op.A)
        if matrix is None:
            a = low.read(op.A)
            params = {"shape": shape}
            (y,) = low.node(VARYING_MATVEC, [a, x], [shape[0]], params, label=op)
        else:
            matrix = _with_shape(matrix, shape)
            (y,) = low.node(MATVEC, [x], [shape[0]], {"A": matrix}, label=op)
        low.increment(op.Y, y.reshape(op.Y.shape))

    @staticmethod
    def _scaled(op, low, x):
        """A 0-d matrix is a factor."""
        if low.is_constant(op.A):
            low.increment(op.Y, x.reshape(op.Y.shape), low.value(op.A))
            return
        a = np.broadcast_to(low.read(op.A), x.shape)
        (y,) = low.node(PRODUCT, [a, x], [x.size], {}, label=op)
        low.increment(op.Y, y.reshape(op.Y.shape))


def _with_shape(matrix, shape):
    """A constant or a reference as an ``(m, k)`` matrix."""
    if isinstance(matrix, np.ndarray):
        return np.ascontiguousarray(matrix.reshape(shape))
    return type(matrix)(matrix.key, shape, matrix.index)


# other gradients ----------------------------------------------------------------------


class WithGradient(Kernel):
    """A value with the gradient of something else, which is about the same.

    For training only, where it joins spikes with rates. Parameters: none. Inputs: the
    value; what gets the gradient in its place. All are ``(n, batch)``.
    """

    name = "with_gradient"
    operations = 1
    cut_inputs = (0,)

    def step(
        self, xp: ArrayNamespace, p: Params, value: Array, like: Array
    ) -> tuple[Array, ...]:
        """One time step."""
        return (xp.with_gradient(value, like),)


WITH_GRADIENT = WithGradient()


def with_gradients(
    low: Lowering, values: Mapping[Signal, np.ndarray], likes: Mapping[Signal, np.ndarray]
) -> dict[Signal, np.ndarray]:
    """Signals with the gradients of others.

    Parameters
    ----------
    low : Lowering
    values : dict
        Signal -> elements.
    likes : dict
        The same, for those signals whose gradients are replaced.

    Returns
    -------
    dict
        Signal -> elements, equal to ``values``.
    """
    joined = dict(values)
    for signal, like in likes.items():
        pair = [values[signal], like]
        (joined[signal],) = low.node(WITH_GRADIENT, pair, [like.size], {})
    return joined


# time and probes ----------------------------------------------------------------------


@lowers(TimeUpdate)
class LowerTimeUpdate(OperatorRule):
    """``step += 1; time = step * dt``: both are given to every step from outside."""

    def may_wait(self, op: Any) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: TimeUpdate, low: Lowering) -> None:
        """Declare them as inputs, as far as something may read them."""
        for signal in (op.step, op.time):
            low.tick(signal)


@lowers(SimProbe)
class LowerProbe(OperatorRule):
    """Marks a signal as read; what a probe records is taken at the end of a step."""

    def may_wait(self, op: Any) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: SimProbe, low: Lowering) -> None:
        """Freeze the signal, as the operator's place in core's order demands."""
        low.read(op.signal)
