"""Linear filters: Lowpass, Alpha and any other transfer function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.synapses import LinearFilter

from nengo_dl.compiler.costs import LONG_ARRAY, WRITTEN_OUT
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.processes.base import process_rules

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class OneStateFilter(Kernel):
    r"""A filter with one state variable and no direct path, such as ``Lowpass``.

    .. math:: y_t = a\, y_{t-1} + b\, u_t

    Parameters (one value per entry): ``a``, ``b``. Inputs: ``u``, previous ``y``.
    """

    name = "filter"
    vectors = ("a", "b")
    zero_preserving = True
    merge_limit = LONG_ARRAY

    def step(
        self, xp: ArrayNamespace, p: Params, u: Array, y: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        return (y * p.a + u * p.b,)


class StateSpaceFilter(Kernel):
    r"""A filter of any order.

    Without a direct path (``D = 0``) the new state is read out,

    .. math:: x_t = A x_{t-1} + B u_t, \quad y_t = C x_t,

    and with one the old state is, as in ``nengo.synapses.LinearFilter``:

    .. math:: x_{t+1} = A x_t + B u_t, \quad y_t = C x_t + D u_t.

    Parameters: ``A`` (tuple of rows), ``B``, ``C`` (tuples), ``D`` (float). Inputs:
    ``u``, then the state variables; outputs: ``y``, then the next ones; all
    ``(n, batch)``.
    """

    name = "state_space_filter"
    zero_preserving = True
    merge_limit = LONG_ARRAY

    def step(
        self, xp: ArrayNamespace, p: Params, u: Array, *x: Array
    ) -> tuple[Array, ...]:
        """One time step."""
        next_state = tuple(_combination((*row, b), (*x, u)) for row, b in zip(p.A, p.B))
        if p.D == 0:
            return (_combination(p.C, next_state), *next_state)
        return (_combination((*p.C, p.D), (*x, u)), *next_state)


class DenseFilter(Kernel):
    r"""A filter of high order, as products of matrices.

    The same equations as those of `StateSpaceFilter`. Parameters: the matrices ``A``,
    ``(q, q)``, ``B``, ``(q, 1)``, ``C``, ``(1, q)``, and ``D``, ``(1, 1)``; ``direct``,
    whether the last is not zero. Inputs: ``u``, ``(n, batch)``, then all state variables,
    one below the other, ``(q n, batch)``; outputs: ``y``, then the next ones.
    """

    name = "dense_filter"
    matrices = ("A", "B", "C", "D")
    zero_preserving = True

    def cost(self, node: Node) -> float:
        """Every signal is multiplied with each entry."""
        return float(node.params["A"].size * node.size)

    def step(
        self, xp: ArrayNamespace, p: Params, u: Array, x: Array
    ) -> tuple[Array, ...]:
        """One time step."""
        batch = x.shape[1]
        if u.shape[1] != batch:  # a constant
            u = xp.broadcast(u, (u.shape[0], batch))
        columns = u.shape[0] // p.groups * batch
        shape = (p.groups, p.A.shape[-1], columns)
        states, inputs = xp.reshape(x, shape), xp.reshape(u, (p.groups, 1, columns))
        next_state = xp.matmul(p.A, states) + inputs * p.B
        if p.direct:
            y = xp.matmul(p.C, states) + inputs * p.D
        else:
            y = xp.matmul(p.C, next_state)
        return xp.reshape(y, u.shape), xp.reshape(next_state, x.shape)


def _combination(factors, arrays):
    """Sum of products, without the terms whose factor is zero."""
    terms = [x * float(f) for f, x in zip(factors, arrays) if f != 0]
    if not terms:
        return arrays[0] * 0.0
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


ONE_STATE = OneStateFilter()
STATE_SPACE = StateSpaceFilter()
DENSE = DenseFilter()

#: how far rounding may move a filter's poles, relative to the distance of the outermost
#: one from the unit circle, which is about the relative error of its output
POLES_MAY_MOVE = 1e-4


def state_space(
    filter_: Any, low: Lowering, at_rest: bool = True
) -> tuple[np.ndarray, ...]:
    """The matrices of a filter, in coordinates that the simulation's precision allows.

    A filter that is given in discrete time has its coefficients in ``A``. Where its poles
    lie close together (high order, or low frequencies) the least change of a coefficient
    moves them far, over the unit circle even. Schur's form has the poles on its diagonal,
    and rounding moves each by no more than the rounding. The state is turned with the
    matrices, ``x' = Q^T x``; so it has to start with zeros (``at_rest``).
    """
    A, B, C, D = filter_._get_ss(low.dt)
    turn = turn_of(filter_, low, at_rest)
    if turn is None:
        return A, B, C, D
    triangular, Q = turn
    return triangular, Q.T @ B, C @ Q, D


def turn_of(filter_: Any, low: Lowering, at_rest: bool = True) -> np.ndarray | None:
    """Schur's form of a filter's matrix, if `state_space` takes it; else None."""

    def make():
        if not (low.options.single and at_rest and not filter_.analog):
            return None
        A = filter_._get_ss(low.dt)[0]
        return real_schur(A) if _is_sensitive(A) else None

    return low.memo(("turn", id(filter_), at_rest), make)


def real_schur(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Schur's form of a matrix: ``A = Q T Q^T``.

    One eigenvalue after the other, or pair of them, is split off: in coordinates that
    begin with its eigenvector, the matrix has zeros below it, and the rest is smaller.

    Parameters
    ----------
    A : (n, n) ndarray

    Returns
    -------
    T : (n, n) ndarray
        Eigenvalues, or blocks of two rows with a complex pair, on the diagonal, and zeros
        below.
    Q : (n, n) ndarray
        Orthogonal.
    """
    T, Q = np.array(A, np.float64), np.eye(len(A))
    first = 0
    while first < len(A) - 1:
        values, vectors = np.linalg.eig(T[first:, first:])
        plane = _invariant(values[0], vectors[:, 0])
        turn = np.linalg.qr(plane, mode="complete")[0]
        for matrix in (T, Q):
            matrix[:, first:] = matrix[:, first:] @ turn
        T[first:] = turn.T @ T[first:]
        size = plane.shape[1]
        T[first + size :, first : first + size] = 0.0
        first += size
    return T, Q


def _invariant(value, vector):
    """Real vectors, one or two, that a matrix maps to combinations of themselves."""
    vector = vector * np.exp(-0.5j * np.angle(np.sum(vector**2)))  # the parts orthogonal
    # of a pair that is one to rounding, the imaginary part is nothing but rounding
    if abs(value.imag) * np.sum(vector.imag**2) < np.finfo(np.float64).eps:
        return vector.real[:, None]
    return np.stack([vector.real, vector.imag], axis=1)


def _is_sensitive(A) -> bool:
    """Whether rounding ``A`` to single precision changes what it does."""
    if len(A) < 2:
        return False
    poles, moved = (
        np.sort_complex(np.linalg.eigvals(matrix.astype(np.float64)))
        for matrix in (A, A.astype(np.float32))
    )
    margin = abs(1 - np.abs(poles).max())
    return bool(np.abs(moved - poles).max() > POLES_MAY_MOVE * margin)


@dataclass(frozen=True)
class Form:
    """What all filters of one kind and size become.

    Attributes
    ----------
    kernel : Kernel or None
        None: the output is a multiple of the input.
    params : dict
        Of the node; of a multiple, the ``factor``.
    order : int
        Number of state variables of each entry.
    turn : ndarray or None
        The state is kept in other coordinates: `turn_of`.
    """

    kernel: Kernel | None
    params: dict[str, Any]
    order: int
    turn: np.ndarray | None

    @cached_property
    def fingerprint(self) -> tuple:
        """Equal for forms with which a filter does the same."""
        params = self.params.items()
        return self.kernel, self.order, *[(k, np.asarray(v).tobytes()) for k, v in params]


def form_of(filter_: Any, low: Lowering, at_rest: bool, size: int) -> Form:
    """The form of a filter of ``size`` entries; ``at_rest``: see `state_space`."""
    A, B, C, D = low.memo(
        (id(filter_), at_rest), lambda: state_space(filter_, low, at_rest)
    )
    turn = turn_of(filter_, low, at_rest)
    kept, order = None if turn is None else turn[1], len(A)
    if order == 0:
        return Form(None, {"factor": np.float64(D.item())}, order, kept)
    if order == 1 and not np.any(D):
        factors = {"a": A.item(), "b": B.item() * C.item()}
        params = {k: np.full(size, v, np.float64) for k, v in factors.items()}
        return Form(ONE_STATE, params, order, kept)
    if order > WRITTEN_OUT:
        params = {"A": A, "B": B, "C": C, "D": D.reshape(1, 1), "direct": bool(D.any())}
        return Form(DENSE, params, order, kept)
    params = {
        "A": tuple(map(tuple, A.tolist())),
        "B": tuple(np.ravel(B).tolist()),
        "C": tuple(np.ravel(C).tolist()),
        "D": float(np.ravel(D)[0]),
    }
    return Form(STATE_SPACE, params, order, kept)


@process_rules.register(LinearFilter)
def lower_linear_filter(op: Any, low: Lowering) -> np.ndarray:
    """The output of a linear filter; its state goes to the next step."""
    filter_, state = op.process, op.state
    at_rest = not any(signal.initial_value.any() for signal in state.values())
    u = low.read(op.input).ravel()
    form = low.memo(
        (id(filter_), at_rest, u.size), lambda: form_of(filter_, low, at_rest, u.size)
    )
    if form.kernel is None:
        rows, factor = np.arange(u.size), form.params["factor"]
        return low.affine(np.zeros(u.size), rows, u, np.full(u.size, factor))
    signal = state["X"]
    if form.turn is not None:
        low.turned[signal.base] = form.turn
    return low.lasting(
        (form.fingerprint, u.tobytes()), signal, lambda: _filtered(op, low, form, u)
    )


def _filtered(op: Any, low: Lowering, form: Form, u: np.ndarray) -> np.ndarray:
    """A node for a filter with a state, which it updates."""
    assert form.kernel is not None
    signal = op.state["X"]
    x = low.previous(signal).reshape(form.order, u.size)
    inputs = [u, x.ravel()] if form.kernel is DENSE else [u, *x]
    if form.kernel is ONE_STATE:
        (y,) = low.node(ONE_STATE, inputs, [u.size], form.params, label=op)
        low.update(signal, y)
        return y
    sizes = [u.size, *(each.size for each in inputs[1:])]
    y, *kept = low.node(form.kernel, inputs, sizes, form.params, label=op)
    low.update(signal, np.stack(kept))
    return y
