"""Matrices of connections, built with what is equal for all of them looked up once.

Nengo looks its precision up in its settings for each array, and writes the text of a
transform three times for each connection: with 90,000 connections that is a fifth of what
they take.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from nengo import Dense
from nengo.builder import Model, Signal
from nengo.builder.connection import build_no_solver
from nengo.builder.operator import DotInc, ElementwiseInc, Reset
from nengo.builder.transforms import build_dense, build_no_transform, multiply
from nengo.rc import rc
from nengo.solvers import NoSolver
from nengo.transforms import NoTransform


class Transforms:
    """Builds dense matrices, and decoders that are given, as core Nengo does.

    Examples
    --------
    >>> import nengo
    >>> transforms = Transforms()
    >>> transforms.build(nengo.builder.Model(), nengo.transforms.NoTransform(1), "signal")
    ('signal', None)
    """

    def __init__(self) -> None:
        self._dtype = rc.float_dtype
        self._identity = cache(lambda rows, columns: Dense((rows, columns)))
        #: core's function -> the one that does the same here
        self.instead = {
            build_dense: self.build,
            build_no_transform: self.build,
            build_no_solver: self.build_given,
        }

    def build(
        self,
        model: Model,
        transform: Any,
        sig_in: Any,
        decoders: np.ndarray | None = None,
        encoders: np.ndarray | None = None,
        rng: Any = np.random,
    ) -> tuple[Any, Any]:
        """Add the product with a matrix to a model.

        Parameters
        ----------
        model : nengo.builder.Model
        transform : nengo.transforms.Dense or nengo.transforms.NoTransform
        sig_in : nengo.builder.Signal
            What is multiplied.
        decoders, encoders : ndarray, optional
            Factors of the matrix, on the right and on the left.
        rng : numpy.random.RandomState
            Where a transform takes random numbers from.

        Returns
        -------
        product, matrix : nengo.builder.Signal
            Without a matrix: what was given, and None.
        """
        if isinstance(transform, NoTransform):
            if decoders is None and encoders is None:
                return sig_in, None
            transform = self._identity(transform.size_out, transform.size_in)
        matrix, dtype = transform.sample(rng=rng).astype(self._dtype), self._dtype
        if decoders is not None:
            matrix = multiply(matrix, decoders.astype(dtype))
        if encoders is not None:
            matrix = multiply(encoders.astype(dtype).T, matrix)
        text, rows = str(transform), len(matrix) if matrix.ndim else 1
        size = transform.size_out if encoders is None else rows
        factor = Signal(matrix, name=f"{text}.weights", readonly=True)
        product = Signal(np.zeros(size, dtype), name=f"{text}.weighted")
        kind = DotInc if matrix.ndim > 1 else ElementwiseInc
        model.add_op(Reset(product))
        model.add_op(kind(factor, sig_in, product, tag=f"{text}.apply_weights"))
        return product, factor

    @staticmethod
    def build_given(model: Model, solver: NoSolver, conn: Any, rng: Any) -> Any:
        """Evaluation points (none), decoders and solver information of a connection."""
        if type(solver) is NoSolver and solver.values is not None:
            return None, solver.values.T, {}
        return build_no_solver(model, solver, conn, rng)
