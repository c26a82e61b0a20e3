"""The time loop as one compiled program, of as many steps as its buffers hold, or fewer.

How many of the steps are run is an argument of the program, so a run of any length
compiles once; see `.executor`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.compiler.graph import Source
from nengo_dl.compiler.layout import Layout
from nengo_dl.notices import warn
from nengo_dl.runtime.tensorflow.costs import KEPT
from nengo_dl.runtime.tensorflow.namespace import Scratch, TensorFlowNamespace, measure

# carried variables --------------------------------------------------------------------


class Kept:
    """Variables that functions in the loop change, carried through it.

    Parameters
    ----------
    layout : Layout
    dtype : dtype
        The program's, which all carried numbers have that are not integers.
    """

    def __init__(self, layout: Any, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.variables: list = []
        self._state: set[int] = set()
        for group in tensor_groups(layout.loop.groups):
            function, training = group.params["function"], group.params["training"]
            self._state |= {id(v) for v in function.state_variables}
            known = {id(v) for v in self.variables}
            new = {id(v): v for v in function.updated(training) if id(v) not in known}
            self.variables += new.values()

    def values(self) -> list[tf.Tensor]:
        """The present values of the variables, as the loop carries them."""
        values = [tf.convert_to_tensor(v.value) for v in self.variables]
        return [tf.cast(x, self.dtype) if x.dtype.is_floating else x for x in values]

    def assign(self, values: Sequence, carrying: Any = True) -> None:
        """Give the variables other values; state takes them only if it is to be kept.

        Parameters
        ----------
        values : list of tensor
        carrying : bool or tensor
        """
        for variable, value in zip(self.variables, values, strict=True):
            value = tf.cast(tf.stop_gradient(value), variable.dtype)
            if id(variable) in self._state and carrying is not True:
                value = tf.where(carrying, value, variable.value)
            variable.assign(value)

    def wrap(self, step: Any, places: int | None = None) -> Any:
        """A step that carries the variables behind everything else.

        Parameters
        ----------
        step : callable or None
        places : int, optional
            For batches that are not full, of so many places: the number of items that
            count is carried, too, behind these.
        """
        if step is None:
            return step
        if places is not None:
            return _counting(self.wrap(step), places)
        if not self.variables:
            return step
        n = len(self.variables)

        def wrapped(xp, carry, x, weights):
            xp.kept = {id(v): c for v, c in zip(self.variables, carry[-n:], strict=True)}
            following, y = step(xp, carry[:-n], x, weights)
            kept, xp.kept = xp.kept, None
            return [*following, *(kept[id(v)] for v in self.variables)], y

        return wrapped


def _counting(step: Callable, places: int) -> Callable:
    """A step that is told, as the last carried array, how many items count."""

    def counting(xp, carry, x, weights):
        *carry, items = carry
        xp.items, xp.batch = items[0], places
        following, y = step(xp, carry, x, weights)
        xp.items = None
        return [*following, items], y

    return counting


def batchwise(groups: Sequence) -> bool:
    """Whether some function among these may look at all items of a batch together."""
    return any(
        group.params["function"].batchwise(group.params["training"])
        for group in tensor_groups(groups)
    )


def tensor_groups(groups: Sequence) -> list:
    """The kernel calls among ``groups`` that call a function of tensors."""
    return [group for group in groups if group.kernel.tensorflow]


def compilable(groups: Sequence, batch: int) -> bool:
    """Whether XLA can compile the functions among these groups; warns if it cannot."""
    for group in tensor_groups(groups):
        function = group.params["function"]
        obstacle = function.obstacle(group.params["training"], batch)
        if obstacle is None:
            continue
        if not function.warned:
            function.warned = True
            label = function.label or "(without label)"
            warn(
                f"TensorNode {label} uses the operation {obstacle}, which XLA "
                "cannot compile, so that the network around it is not compiled either "
                "and runs more slowly. Replace this operation to avoid it"
            )
        return False
    return True


# one of two functions -----------------------------------------------------------------
#
# TensorFlow does not find its way through functions with a gradient of their own inside
# of a condition. Here the condition is inside of the gradient instead.


def either(
    condition: tf.Tensor, first: Callable, second: Callable, args: Sequence
) -> Any:
    """``first(*args)`` if the condition holds, else ``second(*args)``.

    Parameters
    ----------
    condition : scalar tensor of bool
    first, second : callable
        Functions of tensors that return a list of tensors, of the same shapes.
    args : list of tensor

    Returns
    -------
    list of tensor

    Notes
    -----
    The gradient takes another forward pass, so the functions must not call Python.

    Examples
    --------
    >>> x = tf.constant(3.0)
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(x)
    ...     (y,) = either(x > 2, lambda x: [x * x], lambda x: [-x], [x])
    >>> float(tape.gradient(y, x))
    6.0
    """

    @tf.custom_gradient
    def chosen(*args):
        args = [tf.stop_gradient(x) for x in args]
        results = tf.cond(condition, lambda: first(*args), lambda: second(*args))

        def gradient(*upstream: Any) -> list:
            def back(function):
                with tf.GradientTape() as tape:
                    tape.watch(args)
                    pairs = zip(function(*args), upstream, strict=True)
                    pairs = [(y, dy) for y, dy in pairs if y.dtype.is_floating]
                sources = [x for x in args if x.dtype.is_floating]
                return tape.gradient(
                    [y for y, _ in pairs],
                    sources,
                    [dy for _, dy in pairs],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )

            found = iter(tf.cond(condition, lambda: back(first), lambda: back(second)))
            return [next(found) if x.dtype.is_floating else None for x in args]

        return results, gradient

    return chosen(*args)


# loops that fit another network -------------------------------------------------------
#
# A program depends on the structure of a network and not on its numbers: weights,
# gains, biases and states are arguments. So a network that was built again with another
# seed, or another network that looks the same, can run what was compiled before, and be
# trained in it. The key of a program is all that its code is made of; if two keys are
# equal, so is the code.


class Unique(Exception):
    """Raised where something has no key, because it is like nothing else."""


def key_of(layout: Layout) -> Hashable | None:
    """What the program of a layout depends on; None if it can be used only once.

    That is so if it calls functions from outside, which may be different each time.
    """
    groups = layout.groups()
    if any(group.kernel.host or group.kernel.tensorflow for group in groups):
        return None
    bare = without_numbers(layout)
    try:
        return _key(bare), tuple(weight.form for weight in layout.weights)
    except Unique:
        return None


def without_numbers(layout: Layout) -> Layout:
    """The layout as far as programs are made of it.

    A program that is kept would otherwise keep all arrays of the first network.
    """
    inputs = tuple(Source(None, source.start, source.size) for source in layout.inputs)
    stages = {
        name: dataclasses.replace(
            stage,
            groups=tuple(dataclasses.replace(g, labels=()) for g in stage.groups),
        )
        for name in ("before", "loop", "after")
        for stage in [getattr(layout, name)]
    }
    return dataclasses.replace(
        layout,
        **stages,
        inputs=inputs,
        weights=(),
        carry=tuple(np.zeros(len(values)) for values in layout.carry),
        states=(),
        probes=(),
        plan=None,
    )


def _key(value: Any) -> Hashable:
    """A key that is equal only for values that lead to the same code."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool | int):
        return type(value).__name__, value  # True is no 1 here
    if isinstance(value, float):
        return float(value).hex()  # 0.0 is no -0.0
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise Unique
        data: Any = np.ascontiguousarray(value)
        return value.dtype.str, value.shape, hashlib.sha256(data).digest()
    if isinstance(value, np.generic):
        return value.dtype.str, value.tobytes()
    if isinstance(value, tuple | list):
        return tuple(_key(item) for item in value)
    if isinstance(value, Mapping):
        items = [(_key(name), _key(item)) for name, item in value.items()]
        return tuple(sorted(items, key=repr))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return type(value), tuple(_key(field) for field in fields)
    if not isinstance(value, Hashable):
        raise Unique
    return value  # kernels, types: equal if they are the same


class Programs:
    """Programs by key, the last ones that were used.

    Parameters
    ----------
    size : int
        So many are kept.
    """

    def __init__(self, size: int = KEPT) -> None:
        self.size = size
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, key: Hashable | None, make: Callable[[], Any]) -> Any:
        """The program with a key; a new one, if there is none or ``key`` is None."""
        if key is None:
            return make()
        with self._lock:
            if key not in self._programs:
                self._programs[key] = make()
                if len(self._programs) > self.size:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


#: of all simulators in this process
programs = Programs()


# the loop -----------------------------------------------------------------------------

Step = Callable[..., tuple[list, Any]]


def program(function: Callable, jit: bool) -> Callable:
    """A function of tensors as a TensorFlow program, compiled if ``jit``.

    TensorFlow counts traces by the code of the function, so that a few simulators, each
    with its own program, would look like one that is traced over and over, and make it
    warn. It counts those of a partial object by the object.
    """
    return tf.function(partial(function), jit_compile=jit, autograph=False)


def call_step(
    step: Step,
    xp: TensorFlowNamespace,
    carry: Sequence[tf.Tensor],
    x: tf.Tensor | None,
    weights: list[tf.Tensor],
    shape: tuple[int, int],
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """One step while a program is traced, its results checked.

    Returns
    -------
    carry : list of tensor
        The next state, of the same shapes and types as ``carry``.
    y : tensor
        The output, of the ``shape`` ``(n_y, B)``, or ``(B, n_y)`` where arrays lie so;
        of no rows, if ``n_y`` is 0 or if the step returns None.
    """
    after, y = step(xp, list(carry), x, weights)
    if len(after) != len(carry):
        raise ValidationError(
            f"the step returned {len(after)} carried arrays for {len(carry)}",
            attr="carry",
        )
    result = []
    for i, (old, new) in enumerate(zip(carry, after, strict=True)):
        new = tf.convert_to_tensor(new, old.dtype)
        if not new.shape.is_compatible_with(old.shape):
            raise ValidationError(
                f"carried array {i} has shape {tuple(old.shape)} before the step and "
                f"{tuple(new.shape)} after it; expected no change",
                attr="carry",
            )
        result.append(tf.ensure_shape(new, old.shape))
    if y is None:
        y = xp.zeros(shape if 0 in shape else (0, shape[1]))
    if not y.shape.is_compatible_with(shape):
        raise ValidationError(
            f"the step's output has shape {tuple(y.shape)}; expected {tuple(shape)}, "
            "of n_y rows for each batch item",
            attr="y",
        )
    return result, tf.ensure_shape(y, shape)


class ForwardLoop:
    r"""A number of time steps as one program, with stages for all steps at once.

    .. code-block:: text

        inputs [C, n_in, B] -> pre -> loop over n <= C steps -> post -> outputs

    Parameters
    ----------
    step : callable or None
        ``step(xp, carry, x, weights) -> (carry, y)``, one time step; ``carry`` is a
        list of ``(n_i, B)`` arrays, ``x`` is ``(n_x, B)``, or None if there are no
        rows, ``y`` is ``(n_y, B)``, or None if ``n_y`` is 0. None for networks without
        state, which are all stages and no loop.
    n_y : int
        Rows of ``y``.
    dtype : dtype, optional
        ``float32`` or ``float64``.
    jit : bool, optional
        Compile the program with XLA. Not possible if it calls Python (``host_call``).
    unroll : int, optional
        Steps in one trip of the loop. The steps left over make trips of one step, so
        that exactly ``n`` steps run; results do not depend on it.
    unrolled : bool, optional
        All ``C`` steps one after the other, without a loop. Of those from ``n`` on, the
        state is dropped.
    turned : bool, optional
        The step takes carried arrays ``(B, n_i)`` and ``x`` as ``(B, n_x)``, and so are
        they here and in what ``pre`` returns; see `.batch_first`.
    pre : callable, optional
        ``pre(xp, inputs, weights) -> list of arrays``, what can be computed for all
        steps before the loop; the first, ``(C, n_x, B)``, is what the loop reads. By
        default ``[inputs]``.
    post : callable, optional
        ``post(xp, tensors, ys, weights) -> outputs``, what can be computed for all
        steps after the loop, from what ``pre`` returned and from the steps' outputs,
        ``(C, n_y, B)`` (None if there is no loop). By default the outputs are ``ys``.
    xp : TensorFlowNamespace, optional
        The array namespace, by default the fast one if ``jit``.

    Notes
    -----
    The program is traced once for each set of shapes; rows of the buffers from ``n`` on
    are computed on by the stages but have no meaning. A `tf.TensorArray` needs its size
    from the start: with ``dynamic_size=True`` compiled loops return no step at all.

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     total = carry[0] + weights[0] * x
    ...     return [total], total
    >>> loop = ForwardLoop(step, n_y=1, jit=False)
    >>> ys, carry = loop(3, np.ones((4, 1, 1)), [np.zeros((1, 1))], [2.0])
    >>> ys[:3].numpy().ravel()
    array([2., 4., 6.], dtype=float32)
    """

    def __init__(
        self,
        step: Step | None,
        n_y: int,
        dtype: Any = "float32",
        *,
        jit: bool = True,
        unroll: int = 1,
        unrolled: bool = False,
        turned: bool = False,
        pre: Callable | None = None,
        post: Callable | None = None,
        xp: TensorFlowNamespace | None = None,
    ) -> None:
        if unroll < 1:
            raise ValidationError(
                f"expected at least 1, got {unroll}", attr="unroll", obj=self
            )
        self.xp = xp or TensorFlowNamespace(dtype, fast=jit)
        self.step: Any = step
        self.pre, self.post = pre, post
        self.n_y = n_y
        self.unroll, self.unrolled = unroll, unrolled
        self.turned = turned
        self.jit = jit
        self.run: Any = program(self._run, jit)
        self._traced: dict[tuple, Callable] = {}
        self._tracing = threading.Lock()

    def __call__(
        self, n: int, inputs: Any, carry: Sequence, weights: Sequence
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Run ``n`` steps, and return their outputs and the carry after them.

        Parameters
        ----------
        n : int
            How many, at most ``C``.
        inputs : (C, n_in, B) array
            Inputs; ``C`` and ``B`` are the chunk's whatever ``n_in``, which may be 0.
        carry : list of (n_i, B) array
            State before the first step.
        weights : list of array
            Parameters.

        Returns
        -------
        outputs : (C, n_out, B) tensor
            Of which the first ``n`` rows count.
        carry : list of tensor
            State after the last step.
        """
        inputs = self.xp.constant(inputs)
        if not 0 <= n <= inputs.shape[0]:
            raise ValidationError(
                f"{n} steps asked for, but the inputs are {inputs.shape[0]} steps long",
                attr="n",
                obj=self,
            )
        carry, weights = self.tensors(carry), self.tensors(weights)
        with self.xp.reraise_host_errors():
            return self.run(tf.constant(n, tf.int32), inputs, carry, weights)

    def tensors(self, arrays: Sequence) -> list[tf.Tensor]:
        """Tensors as they are, other arrays as constants of the program's type.

        So a state of integers has to be given as a tensor.
        """
        return [self.xp.constant(x) for x in arrays]

    def traced(
        self, chunk: int, n_in: int, batch: int, carry: Sequence, weights: Sequence
    ) -> Callable:
        """The program for chunks of one size, traced in this thread if it is new.

        Parameters and results of the program are those of ``run``: all tensors. To find
        it again costs less than ``run`` does, which looks at all arguments (0.3 ms).
        """
        shapes = (tuple(t.shape) for t in (*carry, *weights))
        key = (chunk, n_in, batch, *shapes)
        with self._tracing:  # simulators in several threads may share this program
            if key not in self._traced:
                self._traced[key] = self.run.get_concrete_function(
                    tf.TensorSpec((), tf.int32),
                    tf.TensorSpec((chunk, n_in, batch), self.xp.dtype),
                    [tf.TensorSpec(c.shape, c.dtype) for c in carry],
                    [tf.TensorSpec(w.shape, w.dtype) for w in weights],
                )
            return self._traced[key]

    def _run(self, n, inputs, carry, weights):
        if None in inputs.shape.as_list():
            raise ValidationError(
                f"inputs have shape {inputs.shape}; expected (steps, size, batch), all "
                "known when the program is built",
                attr="inputs",
                obj=self,
            )
        tensors = self.pre(self.xp, inputs, weights) if self.pre else [inputs]
        ys = None
        if self.step is not None:
            x = tensors[0] if tensors else inputs[:, :0]
            shape = (inputs.shape[0], self.n_y, inputs.shape[2])
            ys, carry = self._loop(n, x, shape, carry, weights)
        if self.post is not None:
            ys = self.post(self.xp, tensors, ys, weights)
        elif ys is None:
            ys = tensors[0]
        return ys, list(carry)

    def _loop(self, n, x, shape, carry, weights):
        buffer = tf.TensorArray(self.xp.dtype, shape[0], element_shape=shape[1:])

        def one(row, carry, weights):
            row = row[0] if row[0].shape[-1 if self.turned else 0] else None
            return call_step(self.step, self.xp, carry, row, weights, shape[1:])

        if self.unrolled:
            ys = []
            for i in range(shape[0]):
                after, y = one([x[i]], carry, weights)
                carry = [tf.where(i < n, a, c) for a, c in zip(after, carry, strict=True)]
                ys.append(y)
            return tf.stack(ys), carry

        kept, flat = [], [tuple(c.shape[1:]) for c in carry]
        if self.jit:
            found = measure(self.xp, one, ([x[0]], carry, weights))
            if found.forms:
                carry = _formed(carry, found.forms)
                found = measure(self.xp, one, ([x[0]], carry, weights))
            kept = found.shapes
        part = tf.minimum(n, 0)

        def steps(count, i, ys, carry, buffers):
            self.xp.scratch = scratch = Scratch(buffers, part) if kept else None
            for _ in range(count):
                if scratch is not None:
                    scratch.used = 0
                carry, y = one([x[i]], carry, weights)
                ys = ys.write(i, y)
                i = i + 1
            self.xp.scratch = None
            return i, ys, carry, scratch.buffers if scratch else buffers

        def loop(stop, count, i, ys, carry, buffers):
            return tf.while_loop(
                lambda i, *_: i < stop,
                partial(steps, count),
                (i, ys, list(carry), buffers),
                parallel_iterations=1,
            )

        buffers = [Scratch.empty(size, self.xp.dtype) for size in kept]
        state = (tf.constant(0), buffer, list(carry), buffers)
        if self.unroll > 1:
            state = loop(n - n % self.unroll, self.unroll, *state)
        _, ys, carry, _ = loop(n, 1, *state)
        return ys.stack(), _formed(carry, flat)


def _formed(carry: Sequence[tf.Tensor], forms: Sequence[tuple]) -> list[tf.Tensor]:
    """Carried arrays ``(batch, *form)``; those without a form as they are."""
    return [
        tf.reshape(c, (c.shape[0], *form)) if form is not None else c
        for c, form in zip_longest(carry, forms)
    ]
