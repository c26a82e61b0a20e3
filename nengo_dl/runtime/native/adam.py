"""The update of Adam for one array of parameters, in one pass over memory.

Keras computes it with twelve operations of TensorFlow, each of which writes an array as
large as the parameters. The same arithmetic in the same order is done here on one vector
after the other, so that the numbers are the same to the bit.
"""

from __future__ import annotations

import functools

import numpy as np

from nengo_dl.runtime.native.code import Code, module_text
from nengo_dl.runtime.native.compile import compile_text, host_width
from nengo_dl.runtime.native.costs import UPDATE_PIECE, UPDATE_SHARED
from nengo_dl.runtime.native.crew import PARAMETERS, Work, shared
from nengo_dl.runtime.native.elementwise import UFUNCS
from nengo_dl.runtime.native.reuse import reused_array
from nengo_dl.runtime.native.tables import Table, parts_of, table_of


def update_code(code: Code) -> None:
    """The body of ``update(table, task, thread)``, for some of the numbers.

    Parameters
    ----------
    code : Code
        What it is written to. The table: parameters, momentum, velocity and gradient;
        where the first three are written to; where the numbers of `updated` are; how
        many parameters there are, how many belong to a task, and how many tasks: each
        has as many as a vector at least.
    """
    table = Table(code)
    given, written = (
        [table.pointer() for _ in range(4)],
        [table.pointer() for _ in range(3)],
    )
    place = table.pointer()
    alpha, some_m, some_v, epsilon = (
        code.splat(code.load_scalar(code.at(place, k * code.size))) for k in range(4)
    )
    first, count = table.stretch()

    def vector(start: str) -> None:
        places = [code.at(base, code.times(start, code.size)) for base in given]
        p, m, v, g = map(code.load, places)
        m = code.op("fadd", m, code.op("fmul", code.op("fsub", g, m), some_m))
        change = code.op("fsub", code.op("fmul", g, g), v)
        v = code.op("fadd", v, code.op("fmul", change, some_v))
        root = code.op("fadd", UFUNCS["sqrt"](code, v), epsilon)
        p = code.op("fsub", p, code.op("fdiv", code.op("fmul", m, alpha), root))
        for base, new in zip(written, (p, m, v), strict=True):
            code.store(new, code.at(base, code.times(start, code.size)))

    end = str(code.plus(first, count))
    last = code.emit(f"sub nsw i64 {end}, {code.width}")
    with code.loop(count, code.width) as loop:
        # the last vector ends where the stretch does: some numbers are computed twice
        start = str(code.plus(loop.i, first))
        less = code.emit(f"icmp slt i64 {start}, {last}")
        vector(code.emit(f"select i1 {less}, i64 {start}, i64 {last}"))


@functools.lru_cache(maxsize=2)
def _work(dtype: np.dtype) -> Work:
    """The machine code for one type."""
    code = Code(dtype, host_width(dtype))
    update_code(code)
    text = module_text([code.function("update", PARAMETERS)])
    return Work(compile_text(text), "update")


def updated(
    parameters: np.ndarray,
    momentum: np.ndarray,
    velocity: np.ndarray,
    gradient: np.ndarray,
    numbers: np.ndarray,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""What an update of Adam makes of parameters and of what it keeps.

    .. math::

        m' &= m + (1 - \beta_1) (g - m) \\
        v' &= v + (1 - \beta_2) (g^2 - v) \\
        p' &= p - \alpha m' / (\sqrt{v'} + \epsilon)

    Parameters
    ----------
    parameters, momentum, velocity, gradient : ndarray
        Of one shape and type. There are at least as many numbers as in a vector.
    numbers : (4,) array
        Of the same type: :math:`\alpha, 1 - \beta_1, 1 - \beta_2, \epsilon`.
    threads : int, optional
        How many may compute, if there is enough to do for them.

    Returns
    -------
    parameters, momentum, velocity : ndarray

    Examples
    --------
    >>> p, m, v, g = np.zeros((4, 100), "float32") + [[1], [0], [0], [2]]
    >>> p, m, v = updated(p, m, v, g, np.array([0.5, 0.5, 0.25, 0]))
    >>> float(p[0]), float(m[0]), float(v[0])
    (0.5, 1.0, 1.0)
    """
    given = [np.ascontiguousarray(x) for x in (parameters, momentum, velocity, gradient)]
    dtype, count = parameters.dtype, parameters.size
    written = [reused_array(parameters.shape, dtype) for _ in range(3)]
    parts = parts_of(count, host_width(dtype), -(-count // UPDATE_PIECE))
    table = table_of(*given, *written, np.ascontiguousarray(numbers, dtype), parts)
    _work(dtype)(table, parts[2], shared(threads, count, UPDATE_SHARED))
    return written[0], written[1], written[2]
