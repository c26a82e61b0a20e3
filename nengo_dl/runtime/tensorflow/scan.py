"""Gradients through time: a loop over steps that can be differentiated.

TensorFlow cannot differentiate a loop that XLA has compiled, and differentiating one
that it has not keeps every intermediate result of every step. Here the forward loop
keeps the carried state alone, of each step or of some of them; the backward loop starts
from it, computes a step again and pulls the gradient back through that one step (as in T.
Chen et al. (2016), Training deep nets with sublinear memory cost, arXiv:1604.06174).

`Scan` is that pair of loops, and `Unrolled` the same without a loop. Python functions may
have a state of their own (an environment, a log), so they are not called again when a
step is computed again: `Recording` keeps what the functions of a step return, and
`Replaying` returns it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.costs import KEEP_BYTES
from nengo_dl.runtime.tensorflow.loop import Step, call_step, program
from nengo_dl.runtime.tensorflow.namespace import (
    Array,
    GradientPlace,
    TensorFlowNamespace,
)


class Recording(TensorFlowNamespace):
    """A namespace that keeps what the host functions of one step return.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace to be like.
    """

    def __init__(self, xp: TensorFlowNamespace) -> None:
        super().__init__(xp.dtype, xp.fast)
        self.host_errors = xp.host_errors
        self.results: list[tf.Tensor] = []

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int]
    ) -> list[tf.Tensor]:
        """Call the function, and keep the results."""
        results = super().host_call(fn, inputs, sizes)
        self.results += results
        return results

    def rows(self, batch: int) -> tf.Tensor:
        """All results of the step so far, one below the other, ``(rows, batch)``."""
        return self.concat(self.results) if self.results else self.zeros((0, batch))


class Replaying(TensorFlowNamespace):
    """A namespace whose host functions return what they returned before.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace to be like.
    rows : (rows, batch) tensor or None
        What `Recording.rows` was at the end of the step, if it was anything.
    """

    def __init__(self, xp: TensorFlowNamespace, rows: tf.Tensor | None) -> None:
        super().__init__(xp.dtype, xp.fast)
        self.rows: Any = rows

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int]
    ) -> list[tf.Tensor]:
        """The next recorded results, in place of a call."""
        results = []
        for size in sizes:
            results.append(self.rows[:size])
            self.rows = self.rows[size:]
        return results


def chosen(arrays: Sequence, which: Sequence[bool]) -> list:
    """The ``arrays`` that are chosen."""
    return [x for x, wanted in zip(arrays, which, strict=True) if wanted]


def floats(arrays: Sequence[tf.Tensor], like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The ``arrays`` whose companion in ``like`` is of floating point type."""
    pairs = zip(arrays, like, strict=True)
    return [x for x, companion in pairs if companion.dtype.is_floating]


def spread(grads: Sequence, which: Sequence[bool]) -> list[tf.Tensor | None]:
    """The inverse of `chosen`, with None for the others."""
    rest = iter(grads)
    return [next(rest) if wanted else None for wanted in which]


def write(arrays: list, i: Any, values: Sequence[tf.Tensor]) -> list:
    """Write one value into each array of tensors."""
    return [array.write(i, x) for array, x in zip(arrays, values, strict=True)]


class Walk:
    """The loops that the two passes of a `Scan` are made of, while it is traced.

    Parameters
    ----------
    scan : Scan
        What is being traced.
    xs : (T, n_in, B) tensor
        Inputs.
    weights : list of tensor
        Parameters.
    host : (T, rows, B) tensor, optional
        Results that host functions are to return; without it they are called.
    """

    def __init__(self, scan: Scan, xs: Any, weights: Sequence, host: Any = None) -> None:
        self.scan = scan
        self.xs, self.weights, self.host = xs, weights, host
        self.n_in, self.batch = (xs.shape[axis] for axis in scan.axes)
        self.length: Any = tf.shape(xs)[0] if xs.shape[0] is None else xs.shape[0]
        self.to_inputs = scan.input_gradient and self.n_in > 0
        self.host_rows = 0

    def buffers(self, size: Any, specs: Sequence) -> list[tf.TensorArray]:
        """Arrays of ``size`` tensors, one for each tensor (or specification) given."""
        return [
            tf.TensorArray(x.dtype, size, element_shape=x.shape, clear_after_read=False)
            for x in specs
        ]

    @property
    def output_shape(self) -> tuple:
        """Shape of what a step gives."""
        shape = (self.scan.n_y, self.batch)
        return shape[::-1] if self.scan.turned else shape

    def spec(self, shape: Any) -> tf.TensorSpec:
        """What floating point tensors of one shape look like."""
        return tf.TensorSpec(shape, self.scan.xp.dtype)

    def interval(self, carry: Sequence) -> Any:
        """Number of steps between kept states, for the carried arrays given."""
        every = self.scan.checkpoint
        if every is None:
            return 1
        if every != "auto":
            return every
        size = sum(c.dtype.size * c.shape.num_elements() for c in carry)
        longest = self.scan.keep_bytes // max(size, 1)
        if isinstance(self.length, int):
            longer = self.length > longest
            return math.isqrt(self.length - 1) + 1 if longer else 1
        root = tf.math.ceil(tf.sqrt(tf.cast(self.length, tf.float32)))
        return tf.where(self.length > longest, tf.cast(root, tf.int32), 1)

    @staticmethod
    def keeps_all(every: Any) -> bool:
        """Whether it is known that the state of every step is kept."""
        return isinstance(every, int) and every == 1

    def at(self, sequence: tf.Tensor, i: Any) -> tf.Tensor:
        """Step ``i`` of a sequence.

        XLA gets one slice for a gather of one index, and some 40 operations, which check
        and clip both ends, for ``sequence[i]``: four of these were a third of a loop
        backward. Without XLA, ``sequence[i]`` copies nothing.
        """
        return tf.gather(sequence, i) if self.scan.jit else sequence[i]

    def step(
        self,
        i: Any,
        carry: Sequence,
        x: Any,
        weights: Sequence,
        place: GradientPlace | None = None,
    ) -> tuple:
        """Step ``i``: next state, output, results of host functions."""
        host = self.host
        xp: Any
        if host is None:
            xp = Recording(self.scan.xp)
        else:
            xp = Replaying(self.scan.xp, self.at(host, i) if host.shape[1] else None)
        xp.place = place
        x = x if self.n_in else None
        shape = self.output_shape
        carry, y = call_step(self.scan.step, xp, carry, x, list(weights), shape)
        if host is not None:
            return carry, y, None
        rows = xp.rows(self.batch)
        self.host_rows = rows.shape[0]
        return carry, y, rows

    def host_results(self, host: list) -> tf.Tensor:
        """All that host functions returned; nothing if none was called."""
        if not host or not self.host_rows:
            return tf.zeros((self.length, 0, self.batch), self.scan.xp.dtype)
        shape = (self.xs.shape[0], self.host_rows, self.batch)
        return tf.ensure_shape(host[0].stack(), shape)

    def forward(
        self, start: Any, stop: Any, carry: list, ys: list, kept: list, host: list
    ) -> tuple:
        """Steps ``start`` to ``stop - 1``.

        Each of the buffers ``ys`` (outputs), ``kept`` (state before each step, counted
        from ``start``, and that after the last) and ``host`` may be an empty list. A
        state is kept as it is made: one that is kept when it is replaced has to be copied
        first, since XLA puts the next one in its place.
        """
        kept = write(kept, 0, carry if kept else [])

        def body(i, carry, ys, kept, host):
            x = self.at(self.xs, i)
            carry, y, rows = self.step(i, carry, x, self.weights)
            kept = write(kept, i + 1 - start, carry if kept else [])
            ys = write(ys, i, [y] if ys else [])
            host = write(host, i, [rows] if host else [])
            return i + 1, carry, ys, kept, host

        return tf.while_loop(
            lambda i, *_: i < stop,
            body,
            (tf.convert_to_tensor(start), carry, ys, kept, host),
            parallel_iterations=1,
        )

    def backward(
        self,
        start: Any,
        stop: Any,
        carries: Sequence,
        d_ys: Any,
        d_carry: list,
        totals: list,
        d_xs: list,
    ) -> tuple:
        """The pull-back of steps ``stop - 1`` to ``start``.

        ``carries`` are the states before each of them; ``d_carry``, ``totals`` (of
        weights) and ``d_xs`` accumulate gradients.
        """

        def body(i, zero, d_carry, totals, d_xs):
            before = i - start if tf.is_tensor(start) or start else i
            carry = [self.at(c, before) for c in carries]
            d = [self.at(d_ys, i), *d_carry]
            place = self.place(d_xs, i, zero)
            grads = self.pulled_back(i, carry, d, place)
            there = False
            if place is not None and place.holds(grads[-1]):
                there, d_xs = True, [place.array]
            elif place is not None:  # what was written is no gradient of the input
                grads = self.pulled_back(i, carry, d)
            n = len(d_carry)
            d_carry = self.cut(i, grads[:n])
            totals = [t + g for t, g in zip(totals, grads[n:], strict=False)]
            rest = grads[n + len(totals) :]
            d_xs = d_xs if there else write(d_xs, i, rest)
            return i - 1, 2 * zero, d_carry, totals, d_xs

        i, _, d_carry, totals, d_xs = tf.while_loop(
            lambda i, *_: i >= start,
            body,
            (tf.convert_to_tensor(stop) - 1, tf.constant(0), d_carry, totals, d_xs),
            parallel_iterations=1,
        )
        return i, d_carry, totals, d_xs

    def pulled_back(
        self, i: Any, carry: Sequence, d: Sequence, place: GradientPlace | None = None
    ) -> list[tf.Tensor]:
        """Gradients of the state before step ``i``, of weights, and of its input.

        ``d``: those of its output and of the state after it. ``place``: where one of an
        array inside is written and read.
        """
        x = self.at(self.xs, i)
        weights = chosen(self.weights, self.scan.trained(self.weights))
        sources = floats(carry, carry) + weights
        sources += [x] if self.to_inputs else []
        with tf.GradientTape() as tape:
            tape.watch(sources)
            after, y, _ = self.step(i, carry, x, self.weights, place)
        grads = tape.gradient(
            [y, *floats(after, after)],
            sources,
            output_gradients=list(d),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [tf.convert_to_tensor(g) for g in grads]  # makes sparse ones dense

    def place(self, d_xs: list, i: Any, zero: Any) -> GradientPlace | None:
        """Where step ``i`` may write a gradient that others are made of, if anywhere."""
        if not (d_xs and self.scan.places and self.scan.jit):
            return None
        return GradientPlace(d_xs[0], tuple(self.xs.shape[1:]), i, zero)

    def cut(self, i: tf.Tensor, d_carry: list) -> list:
        """Gradients of the state before step ``i``, zero if a window starts there."""
        every = self.scan.truncate
        if every is None:
            return d_carry
        ends = (i > 0) & (i % every == 0)
        return [tf.where(ends, tf.zeros_like(d), d) for d in d_carry]


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
        See ``checkpoint``; 64 MiB by default.
    turned : bool, optional
        The step takes carried arrays ``(B, n_i)`` and inputs ``(B, n_in)``, gives outputs
        ``(B, n_y)``, and so are they here; see `.batch_first`.
    trained : sequence of bool, optional
        For each weight, whether its gradient is computed; by default that of all. There
        is none of the others.
    xp : TensorFlowNamespace, optional
        The array namespace, by default the fast one if ``jit``.
    places : bool, optional
        Whether gradients may have places to be read from, see `.GradientPlace`, which is
        faster on a CPU. A step may be traced twice, so it has to draw nothing.
    native : callable, optional
        What may run it where it is trained, a `.native_loops.NativeLoop`.

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
        trained: Sequence[bool] | None = None,
        xp: TensorFlowNamespace | None = None,
        places: bool = False,
        native: Callable | None = None,
    ) -> None:
        self.native = native
        self.xp = xp or TensorFlowNamespace(dtype, fast=jit)
        self.step = step
        self.n_y = n_y
        self._trained = trained
        self.checkpoint = self._interval_setting("checkpoint", checkpoint, ("auto",))
        self.truncate = self._interval_setting("truncate", truncate)
        self.jit = jit
        self.input_gradient = input_gradient
        self.keep_bytes = keep_bytes
        self.turned = turned
        self.places = places
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
        by_items: tf.Tensor | None = None,
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
        by_items : (B, T, n_in) tensor, optional
            What ``xs`` was turned from, for what can read it as it lies.

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
        if training and self.native is not None:
            walk = Walk(self, xs, [])
            if self.truncate is None and walk.keeps_all(walk.interval(carry)):
                found = self.native(xs, carry, weights, by_items)
                if found is not None:
                    return found
        with self.xp.reraise_host_errors():
            return self._differentiable(xs, carry, weights, bool(training))

    def trained(self, weights: Sequence[tf.Tensor]) -> list[bool]:
        """Which of the weights there is a gradient of."""
        asked = self._trained or [True] * len(weights)
        pairs = zip(weights, asked, strict=True)
        return [bool(wanted) and w.dtype.is_floating for w, wanted in pairs]

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

        What the backward pass needs is one of the outputs for tapes outside of programs,
        and TensorFlow prepares to differentiate these as well, if the tape is persistent
        or the program was differentiated within another one before. That ends where a
        gradient is stopped; XLA refuses it for an unknown number of steps.
        """
        n = 1 + len(carry)
        this: Any = weakref.ref(self)

        @tf.custom_gradient
        def scan(*args):
            # a tape that is recording must not look into what is called here
            stopped = partial(tf.nest.map_structure, tf.stop_gradient)
            args = stopped(list(args))
            parts = args[0], args[1:n], args[n:]
            if training:
                ys, last, saved = stopped(this()._saving(*parts))
            else:
                (ys, last), saved = stopped(this()._plain(*parts)), None

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
                    *spread(d_carry, [c.dtype.is_floating for c in parts[1]]),
                    *spread(d_weights, this().trained(parts[2])),
                ]
                # they are constants in the loop
                return (gradients, [None] * len(variables)) if variables else gradients

            return [ys, *last], grad

        ys, *last = scan(xs, *carry, *weights)
        return ys, last

    def _run_plain(self, xs, carry, weights):
        """Outputs and last state."""
        walk = Walk(self, xs, weights)
        ys = walk.buffers(walk.length, [walk.spec(walk.output_shape)])
        _, carry, ys, _, _ = walk.forward(0, walk.length, carry, ys, [], [])
        return ys[0].stack(), carry

    def _run_saving(self, xs, carry, weights):
        """Outputs, last state, and what the backward pass needs."""
        walk = Walk(self, xs, weights)
        every = walk.interval(carry)
        segments = (walk.length + every - 1) // every
        keeps_all = walk.keeps_all(every)
        kept = walk.buffers(walk.length + 1 if keeps_all else segments, carry)
        ys = walk.buffers(walk.length, [walk.spec(walk.output_shape)])
        host = [] if self.jit else walk.buffers(walk.length, [walk.spec(None)])
        if keeps_all:
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
        totals = [tf.zeros_like(w) for w in chosen(weights, self.trained(weights))]
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
                _, _, _, kept, _ = walk.forward(start, stop - 1, carry, [], kept, [])
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


class Unrolled:
    """A fixed number of time steps as one function with a gradient.

    Computes what `Scan` does, for a number of steps that is known from the start:
    the program holds each of them anew. So it takes the longer to compile the more there
    are, and keeps all that a backward pass may need. In return XLA optimizes across
    steps, and gradients of gradients are available.

    Parameters
    ----------
    step, n_y, dtype, truncate, jit, turned, xp
        See `Scan`.
    n_steps : int
        The number of steps.

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     c = carry[0] * weights[0]
    ...     return [c], c
    >>> three = Unrolled(step, n_y=1, n_steps=3, jit=False)
    >>> ys, carry = three(tf.zeros((3, 0, 1)), [tf.ones((1, 1))], [2.0])
    >>> ys.numpy().ravel()
    array([2., 4., 8.], dtype=float32)
    """

    def __init__(
        self,
        step: Step,
        n_y: int,
        dtype: Any = "float32",
        *,
        n_steps: int,
        truncate: int | None = None,
        jit: bool = True,
        turned: bool = False,
        xp: TensorFlowNamespace | None = None,
    ) -> None:
        self.xp = xp or TensorFlowNamespace(dtype, fast=jit)
        self.axes = (2, 1) if turned else (1, 2)  # of rows and of the batch
        self.step = step
        self.n_y = n_y
        self.n_steps = n_steps
        self.truncate = truncate
        self.run = program(self._run, jit)

    def __call__(
        self,
        xs: Any,
        carry: Sequence,
        weights: Sequence,
        training: bool = False,
        by_items: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Run all steps, and return their outputs and the last state.

        Parameters
        ----------
        xs : (n_steps, n_in, B) array
            Inputs; their number may be unknown while the caller is traced.
        carry : list of (n_i, B) array
            State before the first step.
        weights : list of array or variable
            Parameters.
        training : bool, optional
            Not needed; as for `Scan`.
        by_items : tensor, optional
            Likewise.

        Returns
        -------
        ys : (n_steps, n_y, B) tensor
            Outputs.
        carry : list of tensor
            State after the last step.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If there are more or fewer steps, and their number is known.
        """
        xs = self.xp.constant(xs)
        if xs.shape[0] not in (None, self.n_steps):
            raise ValidationError(
                f"got {xs.shape[0]} steps; expected {self.n_steps}, the number that the "
                "program was built for",
                attr="xs",
                obj=self,
            )
        xs = tf.ensure_shape(xs, (self.n_steps, *xs.shape[1:]))
        carry = [self.xp.constant(c) for c in carry]
        with self.xp.reraise_host_errors():
            return self.run(xs, carry, [self.xp.constant(w) for w in weights])

    def _run(self, xs, carry, weights):
        ys = []
        for i in range(self.n_steps):
            if self.truncate and i and i % self.truncate == 0:
                carry = [tf.stop_gradient(c) for c in carry]
            rows, batch = (xs.shape[axis] for axis in self.axes)
            x = xs[i] if rows else None
            shape = (batch, self.n_y) if self.axes == (2, 1) else (self.n_y, batch)
            carry, y = call_step(self.step, self.xp, carry, x, weights, shape)
            ys.append(y)
        return tf.stack(ys), carry
