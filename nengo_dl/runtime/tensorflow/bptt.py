"""Gradients through time: a loop over steps that can be differentiated.

TensorFlow cannot differentiate a loop that XLA has compiled, and differentiating one
that it has not keeps every intermediate result of every step. Here the forward loop
keeps the carried state alone, of each step or of some of them; the backward loop starts
from it, computes a step again and pulls the gradient back through that one step.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.costs import KEEP_BYTES
from nengo_dl.runtime.tensorflow.loop import Step, program
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.runtime.tensorflow.walk import Walk, floats, spread, write


class _Saved(NamedTuple):
    """What the backward pass needs of the forward one."""

    carries: list[tf.Tensor]  # of each carried array, at the start of each segment
    host: tf.Tensor  # what host functions returned, (T, rows, B)


class Scan:
    r"""Many time steps as one function with a gradient.

    .. math:: (c_{t+1}, y_t) = f(c_t, x_t, w), \qquad t = 0 \ldots T - 1

    From the gradients of the outputs :math:`\bar y_t` and of the last state
    :math:`\bar c_T`, the backward loop computes, from the last step to the first,

    .. math::

       \bar c_t = \frac{\partial f_c}{\partial c_t}^{\!\top} \bar c_{t+1}
           + \frac{\partial f_y}{\partial c_t}^{\!\top} \bar y_t, \quad
       \bar x_t = \frac{\partial f}{\partial x_t}^{\!\top} (\bar c_{t+1}, \bar y_t),
       \quad
       \bar w = \sum_t \frac{\partial f}{\partial w}^{\!\top} (\bar c_{t+1}, \bar y_t)

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (carry, y)``, as in `.loop.ForwardLoop`. It has
        to be a function of its arguments alone. Variables must come in through
        ``weights``: a gradient does not reach one that the step reads by itself.
    n_y : int
        Rows of ``y``.
    dtype : dtype, optional
        ``float32`` or ``float64``.
    checkpoint : "auto", int or None, optional
        The forward pass keeps the state of each ``checkpoint``-th step; the backward
        pass recomputes those between, at the cost of one more forward pass. None keeps
        all. "auto" keeps all if they take at most ``keep_bytes``, else those of each
        :math:`\lceil \sqrt T \rceil`-th step, which makes the memory for ``T`` steps
        that of :math:`2 \sqrt T` states.
    truncate : int or None, optional
        Cut the gradient of the state before each step whose number is a multiple of
        ``truncate`` (not before the first, number 0). So the sequence falls into
        windows of that length, counted from its start, and no gradient flows from one
        window to the one before; within a window it is exact. The gradient of the
        initial state comes from the first window, that of the last state goes into the
        last.
    jit : bool, optional
        Compile both passes with XLA. Not possible if the step calls Python
        (``host_call``).
    input_gradient : bool, optional
        If False, no gradient of the inputs is computed (it is zero).
    keep_bytes : int, optional
        See ``checkpoint``; 4 MiB by default.
    turned : bool, optional
        The step takes carried arrays ``(B, n_i)`` and inputs ``(B, n_in)``, and so are
        they here; see `.batch_first`.
    xp : TensorFlowNamespace, optional
        The array namespace, by default the fast one if ``jit``.

    Notes
    -----
    Host functions are called once for each step: the backward pass gets their results
    from the forward pass, and their gradient is zero.

    Gradients of gradients are not available. Carried arrays and weights of integers are
    handed on and have no gradient.

    References
    ----------
    .. [1] A. Griewank and A. Walther (2000). Algorithm 799: revolve: an implementation
       of checkpointing for the reverse or adjoint mode of computational
       differentiation. ACM Transactions on Mathematical Software 26(1).
    .. [2] T. Chen, B. Xu, C. Zhang and C. Guestrin (2016). Training deep nets with
       sublinear memory cost. arXiv:1604.06174.
    .. [3] R. J. Williams and J. Peng (1990). An efficient gradient-based algorithm for
       on-line training of recurrent network trajectories. Neural Computation 2(4).

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     c = carry[0] * weights[0]
    ...     return [c], c
    >>> scan = Scan(step, n_y=1, jit=False)
    >>> w = tf.Variable(2.0)
    >>> with tf.GradientTape() as tape:
    ...     ys, carry = scan(None, [tf.ones((1, 1))], [w], n_steps=3, training=True)
    >>> float(tape.gradient(carry[0], w))  # of w ** 3
    12.0
    """

    def __init__(
        self,
        step: Step,
        n_y: int,
        dtype: Any = "float32",
        *,
        checkpoint: str | int | None = "auto",
        truncate: int | None = None,
        jit: bool = True,
        input_gradient: bool = True,
        keep_bytes: int = KEEP_BYTES,
        turned: bool = False,
        xp: TensorFlowNamespace | None = None,
    ) -> None:
        self.xp = xp or TensorFlowNamespace(dtype, fast=jit)
        self.step = step
        self.n_y = n_y
        self.checkpoint = self._interval_setting("checkpoint", checkpoint, ("auto",))
        self.truncate = self._interval_setting("truncate", truncate)
        self.jit = jit
        self.input_gradient = input_gradient
        self.keep_bytes = keep_bytes
        self.axes = (2, 1) if turned else (1, 2)  # of the inputs' rows and batch
        self._differentiable = program(self._run, False)
        self._plain = program(self._run_plain, jit)
        self._saving = program(self._run_saving, jit)
        self._backward = program(self._run_backward, jit)

    def __call__(
        self,
        xs: Any,
        carry: Sequence,
        weights: Sequence,
        n_steps: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Run all steps, and return their outputs and the last state.

        Parameters
        ----------
        xs : (T, n_in, B) array or None
            Inputs. ``T`` may be unknown while the caller is traced.
        carry : list of (n_i, B) array
            State before the first step. Shapes have to be known.
        weights : list of array or variable
            Parameters.
        n_steps : int or tensor, optional
            ``T``, if there are no inputs.
        training : bool, optional
            Whether gradients are going to be asked for. If True, the forward pass keeps
            what the backward pass needs. If False, it keeps nothing; gradients are
            right all the same, but take another forward pass, which calls host
            functions again.

        Returns
        -------
        ys : (T, n_y, B) tensor
            Outputs.
        carry : list of tensor
            State after the last step.
        """
        carry = [self._tensor("carried array", i, c) for i, c in enumerate(carry)]
        weights = [self._tensor("weight", i, w) for i, w in enumerate(weights)]
        xs = self._inputs(xs, carry, n_steps)
        with self.xp.reraise_host_errors():
            return self._differentiable(xs, carry, weights, bool(training))

    def interval(self, carry: Sequence, n_steps: int) -> int:
        """Number of steps between the states that are kept, see ``checkpoint``."""
        xs = tf.zeros((n_steps, 0, carry[0].shape[-1]), self.xp.dtype)
        return Walk(self, xs, []).interval(carry)

    # ---- arguments ----------------------------------------------------------------

    def _interval_setting(self, name: str, value: Any, words: tuple = ()) -> Any:
        """A positive integer, None, or one of some words."""
        if value is None or (isinstance(value, str) and value in words):
            return value
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            if value >= 1:
                return int(value)
        allowed = " or ".join([*map(repr, words), "None", "an integer of at least 1"])
        raise ValidationError(f"expected {allowed}; got {value!r}", attr=name, obj=self)

    def _tensor(self, what: str, i: int, x: Any) -> tf.Tensor:
        """An argument as a tensor: floating point ones of the program's type."""
        x = self.xp.constant(x)
        if x.dtype.is_floating and x.dtype != self.xp.dtype:
            raise ValidationError(
                f"{what} {i} is of type {x.dtype.name}; expected {self.xp.dtype.name}",
                attr="dtype",
                obj=self,
            )
        if what == "carried array" and not x.shape.is_fully_defined():
            raise ValidationError(
                f"{what} {i} has shape {x.shape}; expected one that is known when the "
                "program is built. Give a fixed batch size",
                attr="carry",
                obj=self,
            )
        return x

    def _inputs(self, xs: Any, carry: list, n_steps: Any) -> tf.Tensor:
        """The inputs as ``(T, n_in, B)``; of no rows if there are none.

        Their shape is how the programs get to know the number of steps.
        """
        if xs is None:
            if n_steps is None or not carry:
                raise ValidationError(
                    "without inputs, the number of steps has to be given, and there "
                    "must be some state",
                    attr="n_steps",
                    obj=self,
                )
            xs = tf.zeros((n_steps, 0, carry[0].shape[-1]), self.xp.dtype)
        xs = self._tensor("input", 0, xs)
        if xs.shape.rank != 3 or None in xs.shape[1:].as_list() or xs.shape[0] == 0:
            raise ValidationError(
                f"the inputs have shape {xs.shape}; expected (steps, size, batch), of "
                "which only the first may be unknown when the program is built, with "
                "one step at least",
                attr="xs",
                obj=self,
            )
        known = isinstance(n_steps, (int, np.integer)) and xs.shape[0] is not None
        if known and n_steps != xs.shape[0]:
            raise ValidationError(
                f"got {n_steps}, but the inputs are {xs.shape[0]} steps long",
                attr="n_steps",
                obj=self,
            )
        return xs

    # ---- the programs -------------------------------------------------------------

    def _run(self, xs, carry, weights, training):
        """Outputs and last state, with the gradient that the backward pass computes.

        TensorFlow keeps what defines a gradient, and with it the whole program around,
        until the process ends. Here that is this small program, which is traced once,
        and not the training step of each model that calls it, with all its variables.
        """
        n = 1 + len(carry)
        this = weakref.ref(self)

        @tf.custom_gradient
        def scan(*args):
            # a tape that is recording must not look into what is called here
            args = [tf.stop_gradient(a) for a in args]
            parts = args[0], args[1:n], args[n:]
            if training:
                ys, last, saved = this()._saving(*parts)
            else:
                ys, last = this()._plain(*parts)

            def grad(*upstream, variables=()):
                """``variables``: those of TensorFlow's own in functions of the user."""
                state = saved if training else this()._saving(*parts)[2]
                d = [
                    tf.zeros_like(y) if g is None else tf.convert_to_tensor(g)
                    for y, g in zip([ys, *last], upstream, strict=True)
                ]
                d_xs, d_carry, d_weights = this()._backward(
                    parts[0], parts[2], state, d[0], floats(d[1:], last)
                )
                gradients = [
                    d_xs,
                    *spread(d_carry, parts[1]),
                    *spread(d_weights, parts[2]),
                ]
                # they are constants in the loop
                return (gradients, [None] * len(variables)) if variables else gradients

            return [ys, *last], grad

        ys, *last = scan(xs, *carry, *weights)
        return ys, last

    def _run_plain(self, xs, carry, weights):
        """Outputs and last state."""
        walk = Walk(self, xs, weights)
        ys = walk.buffers(walk.length, [walk.spec((self.n_y, walk.batch))])
        _, carry, ys, _, _ = walk.forward(0, walk.length, carry, ys, [], [])
        return ys[0].stack(), carry

    def _run_saving(self, xs, carry, weights):
        """Outputs, last state, and what the backward pass needs."""
        walk = Walk(self, xs, weights)
        every = walk.interval(carry)
        segments = (walk.length + every - 1) // every
        kept = walk.buffers(segments, carry)
        ys = walk.buffers(walk.length, [walk.spec((self.n_y, walk.batch))])
        host = [] if self.jit else walk.buffers(walk.length, [walk.spec(None)])
        if walk.keeps_all(every):
            state = walk.forward(0, walk.length, carry, ys, kept, host)
        else:

            def segment(start, carry, ys, kept, host):
                kept = write(kept, start // every, carry)
                stop = tf.minimum(start + every, walk.length)
                _, carry, ys, _, host = walk.forward(start, stop, carry, ys, [], host)
                return stop, carry, ys, kept, host

            state = tf.while_loop(
                lambda start, *_: start < walk.length,
                segment,
                (tf.constant(0), carry, ys, kept, host),
                parallel_iterations=1,
            )
        _, carry, ys, kept, host = state
        saved = _Saved([array.stack() for array in kept], walk.host_results(host))
        return ys[0].stack(), carry, saved

    def _run_backward(self, xs, weights, saved, d_ys, d_carry):
        """Gradients of the inputs, the initial state and the weights."""
        walk = Walk(self, xs, weights, saved.host)
        specs = [tf.TensorSpec(c.shape[1:], c.dtype) for c in saved.carries]
        every = walk.interval(specs)
        totals = [tf.zeros_like(w) for w in floats(weights, weights)]
        inputs = [walk.spec(xs.shape[1:])] if walk.to_inputs else []
        d_xs = walk.buffers(walk.length, inputs)
        if walk.keeps_all(every):
            carries = saved.carries
            state = walk.backward(0, walk.length, carries, d_ys, d_carry, totals, d_xs)
        else:

            def segment(s, d_carry, totals, d_xs):
                start = s * every
                stop = tf.minimum(start + every, walk.length)
                kept = walk.buffers(every, specs)
                carry = [c[s] for c in saved.carries]
                # the states before each step; what the last one leads to is known
                _, carry, _, kept, _ = walk.forward(start, stop - 1, carry, [], kept, [])
                kept = write(kept, stop - 1 - start, carry)
                carries = [array.stack() for array in kept]
                state = walk.backward(start, stop, carries, d_ys, d_carry, totals, d_xs)
                return s - 1, *state[1:]

            last = tf.convert_to_tensor((walk.length - 1) // every)
            state = tf.while_loop(
                lambda s, *_: s >= 0,
                segment,
                (last, d_carry, totals, d_xs),
                parallel_iterations=1,
            )
        _, d_carry, totals, d_xs = state
        return d_xs[0].stack() if d_xs else tf.zeros_like(xs), d_carry, totals
