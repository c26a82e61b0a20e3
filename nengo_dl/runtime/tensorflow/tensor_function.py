"""TensorFlow functions and Keras layers, called from inside a step.

Variables of Keras layers come in as arguments and go out as results wherever a program
must be a function of its arguments: weights are among the arguments of the program, so
that gradients reach them, and what a call changes (moving statistics, seeds, the state of
recurrent layers) is carried through the loop over time and then written back. All other
variables are read where they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.kernels.callbacks import Callback
from nengo_dl.kernels.tensor_function import takes_training, wrong_arguments
from nengo_dl.notices import warn
from nengo_dl.runtime.tensorflow.cells import CellStates, dropout_of_one_call
from nengo_dl.runtime.tensorflow.loop import program
from nengo_dl.runtime.tensorflow.randomness import (
    Found,
    RandomStates,
    first_weights,
    is_seed,
    own_seeds,
)

TRACE_BATCH = 3
"""Batch size with which functions are tried out: one that is no usual size of data."""

OPERATION = re.compile(r"on XLA\w*: (\w+)|: (\w+) \(No registered")
"""Where XLA names an operation that it cannot compile."""


class _Reading(keras.StatelessScope):
    """Inside, no variable is changed; notes which ones are read, and what they become."""

    def __init__(self) -> None:
        super().__init__(collect_losses=True)
        self.read: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        """The value within the scope; None if it was not given another one."""
        self.read[id(variable)] = variable
        return super().get_current_value(variable)

    def add_update(self, update):
        """Take a variable's new value."""
        self.read[id(update[0])] = update[0]
        super().add_update(update)


class Outermost(keras.layers.Layer):
    """A layer around one whose ``call`` has no argument ``training``.

    Layers inside that one ask whether they are being trained. Keras before 3.10 forgets
    what such a layer itself is told, but not what a layer around it is.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(dtype=layer.dtype_policy, autocast=False)
        self.inner = layer
        self.built = True

    def call(self, *arguments: Any, training: bool | None = None) -> Any:
        """What the layer gives."""
        return self.inner(*arguments)


class Trace(NamedTuple):
    """What is known of a function after it was tried out."""

    shape: tuple  # of its output, without the batch
    read: list  # Keras variables that it reads
    updated: list  # Keras variables that it changes
    penalized: bool  # whether layers in it add losses to those of training
    random: Found  # which random operations it consists of
    operations: frozenset = frozenset()  # the names of all its operations


class TensorFunction:
    """A function of tensors, for arrays ``(n, batch)``.

    Parameters
    ----------
    function : callable
        ``f(t, x)``, ``f(t)`` or, without ``pass_time``, ``f(x)``; perhaps a Keras layer
        or model. ``t`` is a number, ``x`` a tensor ``(batch, *shape_in)``; it returns a
        tensor ``(batch, *shape_out)``. If it has an argument ``training``, it is told
        whether it is being trained. A Keras cell, which has a ``state_size``, is given
        its last state and returns the next one as well.
    shape_in : tuple of int or None
    shape_out : tuple of int or None
        None: found out when it is first asked for.
    pass_time : bool
    label : str, optional
        What to call it in messages.
    dtype : dtype, optional
        The type of the arrays.
    entropy : sequence of int, optional
        What the first weights of a layer follow; by default they are as Keras sees fit.
    """

    def __init__(
        self,
        function: Callable,
        shape_in: tuple | None,
        shape_out: tuple | None = None,
        pass_time: bool = True,
        label: str | None = None,
        dtype: Any = "float32",
        entropy: Sequence[int] | None = None,
    ) -> None:
        self.function = function
        self.entropy = entropy
        self.shape_in, self.pass_time = shape_in, pass_time
        name = getattr(function, "name", None) or getattr(function, "__name__", None)
        self.label = label or name or type(function).__name__
        is_layer = isinstance(function, keras.layers.Layer)
        self.layer: Any = function if is_layer else None
        self._states = CellStates(self.layer)
        self.state_shapes = self._states.shapes
        self._expected = shape_out
        self._takes_training = self.layer is not None or takes_training(function)
        alone = self.layer is None or takes_training(self.layer.call)
        self._told = function if alone else Outermost(self.layer)
        self.dtype = np.dtype(dtype).name
        self._traces: dict[bool, Trace] = {}
        self._on_host: dict[bool, Callable] = {}
        self._obstacles: dict[tuple, str | None] = {}
        self._only_compiled: dict[bool, bool] = {}
        self._weights: list | None = None
        self._random: dict[bool, RandomStates] = {}
        self._began: list = []  # what random numbers were last started with
        self._penalties = False
        self._fixed_batch: list = []  # found by trying out
        self.warned = False

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        found = {"_traces": {}, "_on_host": {}, "_obstacles": {}, "_weights": None}
        return {**state, **found, "_only_compiled": {}, "_random": {}, "_began": []}

    def in_simulation(self) -> TensorFunction:
        """A copy of this function with random numbers that only one simulation uses."""
        return self._with(_on_host={}, _obstacles={}, _random={}, _began=[])

    def _with(self, **attributes: Any) -> TensorFunction:
        """A copy of this object with some attributes changed."""
        function = object.__new__(type(self))
        function.__dict__.update(self.__dict__, **attributes)
        return function

    def with_penalties(self) -> TensorFunction:
        """A copy of this function with one more row of results: the sum of its losses.

        They are what layers in it hand to ``add_loss``, activity regularization
        included. All columns have the same value.
        """
        return self._with(_penalties=True, _on_host={}, _obstacles={})

    # trying out ------------------------------------------------------------------

    @property
    def shape_out(self) -> tuple:
        """Shape of the output of one item.

        Raises
        ------
        ValidationError
            If it does not return a tensor of the right batch size, shape and type.
        """
        return self.trace(False).shape

    @property
    def sizes(self) -> list[int]:
        """Numbers of rows of all results: the output, and the states of a cell."""
        sizes = [math.prod(s) for s in (self.shape_out, *self.state_shapes)]
        return [*sizes, 1] if self._penalties else sizes

    def penalized(self, training: bool) -> bool:
        """Whether calls add losses to those of training."""
        return self.trace(training).penalized

    @property
    def variables(self) -> list:
        """The Keras variables that belong to the function.

        Those of a layer, and those that a plain function reads.
        """
        if self.layer is None:
            return self.trace(False).read
        self.trace(False)  # builds it
        return self.layer.variables

    @property
    def weights(self) -> list:
        """The variables that may be trained, which are the arguments of the calls.

        They stay the same, also if their layer is not to be trained any more.
        """
        if self._weights is None:
            found = [v for v in self.variables if v.trainable and _is_float(v)]
            self._weights = found
        return self._weights

    @property
    def state_variables(self) -> list:
        """The variables that the function changes although it is not being trained.

        Such a function has a memory, so it runs step by step.
        """
        return self.updated(False)

    def updated(self, training: bool) -> list:
        """The Keras variables that a call changes."""
        updated = self.trace(training).updated
        return [v for v in updated if not is_seed(v)] + self.random(training).variables

    def batchwise(self, training: bool) -> bool:
        """Whether what it gives for an item may depend on the others of the batch.

        Layers of Keras do so only as ``BatchNormalization`` does, in training, and where
        they add losses; of all others it cannot be known. What is made for one size of
        batches cannot be called with fewer items.
        """
        if self.shape_in is None or self._trace_batch() != TRACE_BATCH:
            return False
        if any(not is_seed(v) for v in self.trace(False).updated):
            return False
        if self.layer is None or (self._penalties and self.penalized(training)):
            return True
        return any(_looks_at_all(part, training) for part in self.layer._flatten_layers())

    def random(self, training: bool) -> RandomStates:
        """The random numbers of the function; those of training go on by themselves."""
        if training not in self._random:
            trace = self.trace(training)
            seeds = [v for v in trace.read if is_seed(v)]
            own = own_seeds(self.function) if seeds else set()
            states = RandomStates(trace.random, seeds, own)
            if self._began:
                states.restart([*self._began, training])
            self._random[training] = states
        return self._random[training]

    def restart(self, entropy: Sequence[int]) -> None:
        """Random numbers as at the beginning of a simulation; see `RandomStates`."""
        self._began[:] = entropy
        for training, states in self._random.items():
            states.restart([*entropy, training])

    def trace(self, training: bool) -> Trace:
        """What is found out by calling the function while nothing is computed."""
        if training not in self._traces:
            self._check_arguments()
            try:
                self._build()
                self._traces[training] = self._try(training)
            except NotImplementedError as error:
                if "numpy" not in str(error).lower():
                    raise
                raise self._error(self._numpy_advice()) from error
            except ValueError as error:
                if self.layer is None or isinstance(error, ValidationError):
                    raise
                raise self._refused_input(error) from error
        return self._traces[training]

    def _numpy_advice(self) -> str:
        """What to write instead of a function of NumPy."""
        name = getattr(self.function, "__name__", "")
        new = f"tf.{name}" if hasattr(tf, name) else f"tf.math.{name}"
        of_numpy = isinstance(self.function, np.ufunc) or name in dir(np)
        if of_numpy and (hasattr(tf, name) or hasattr(tf.math, name)):
            return f"is np.{name}, which takes arrays, not tensors; write {new}"
        return (
            "calls a function of NumPy, which takes arrays, not tensors; use those of "
            "TensorFlow or of keras.ops (tf.sin or keras.ops.sin for np.sin), or put the "
            "function as it is into a nengo.Node"
        )

    def _refused_input(self, error: Exception) -> ValidationError:
        """The error for a layer that does not take what it is given."""
        return self._error(
            f"does not take items of the shape {self.shape_in}: {error} (Its "
            "shape_in is the shape of one item, without the batch: for images "
            "(height, width, channels).)"
        )

    def _check_arguments(self) -> None:
        """Check that the function takes the arguments that it is going to be given."""
        given = ["t"] if self.pass_time else []
        given += [] if self.shape_in is None else ["x"]
        given += ["states"] if self.state_shapes else []
        function = self.function if self.layer is None else self.layer.call
        wrong = wrong_arguments(function, given)
        if wrong is not None:
            raise self._error(wrong)

    def _build(self) -> None:
        """Let Keras make the variables of a layer."""
        if self.layer is None or self.layer.built:
            return
        arguments = []
        if self.pass_time:
            arguments.append(keras.KerasTensor((), self.dtype))
        if self.shape_in is not None:
            arguments.append(keras.KerasTensor((None, *self.shape_in), self.dtype))
        states = [keras.KerasTensor((None, *s), self.dtype) for s in self.state_shapes]
        more = [self._states.arranged(states)] if states else []
        try:
            with first_weights(self.layer, self.entropy):
                self.layer(*arguments, *more)
        except (TypeError, ValueError) as error:
            raise self._refused_input(error) from error

    def _try(self, training: bool) -> Trace:
        found: list[Trace] = []

        def body(*arrays):
            random = Found()
            with _Reading() as scope, random.watching():
                y, states = self._apply(list(arrays), training)
                read = list(scope.read.values())
            self._check_states(states)
            shape = self._checked(y, arrays)
            values = keras.StatelessScope.get_current_value
            updated = [v for v in read if values(scope, v) is not None]
            found.append(Trace(shape, read, updated, bool(scope.losses), random))
            return y

        concrete = self._try_sizes(tf.function(body, autograph=False))
        if training:
            self._warn_of_constants(concrete.graph.trainable_variables)
        if found[-1].random.hidden:
            warn(
                f"TensorNode {self.label!r} draws random numbers inside a loop of its "
                "own (tf.while_loop, tf.map_fn) or a tf.function. There they follow "
                "neither the seed of the simulator nor its reset; draw them outside of "
                "it, or with tf.random.stateless_uniform and the like",
                once=("hidden random numbers", self.label),
            )
        return found[-1]._replace(operations=_operations(concrete.graph))

    def _warn_of_constants(self, used: Sequence[tf.Variable]) -> None:
        """Say that variables of TensorFlow's own are not trained."""
        of_keras = {id(variable.value) for variable in self.variables}
        names = [v.name.partition(":")[0] for v in used if id(v) not in of_keras]
        if names:
            warn(
                f"the function of TensorNode {self.label!r} uses tf.Variable objects "
                f"({', '.join(sorted(names))}), which are constants here, and are not "
                "trained. To train them, make them keras.Variable objects, or weights "
                "of a keras.layers.Layer (self.add_weight)",
                once=("tf.Variable", self.label),
            )

    def _try_sizes(self, function: Any) -> Any:
        """Trace a function with some batch size, or with one that its layers take.

        A layer may have a state of the size of the batch, and take no other.
        """
        size = self._trace_batch()
        try:
            return function.get_concrete_function(*self._specs(size))
        except ValidationError:
            raise
        except Exception as error:
            others = self._sizes_of_variables() - {size}
            if not others:
                raise
            first = error
        for other in sorted(others):
            try:
                concrete = function.get_concrete_function(*self._specs(other))
            except Exception:  # that is not the size
                continue
            self._fixed_batch.append(other)
            return concrete
        raise first

    def _sizes_of_variables(self) -> set[int]:
        """The first axes of all variables, one of which may be the size of the batch."""
        if self.layer is None:
            return set()
        parts = [v for v in self.layer.variables if len(v.shape)]
        return {v.shape[0] for v in parts}

    def _trace_batch(self) -> int:
        """Some batch size; of a layer that has a fixed one, this."""
        if self._fixed_batch:
            return self._fixed_batch[-1]
        known = [*(getattr(self.layer, "inputs", None) or ())]
        if getattr(self.layer, "stateful", False):
            known += keras.tree.flatten(getattr(self.layer, "states", None) or ())
        sizes = [x.shape[0] for x in known if len(x.shape)]
        return next((size for size in sizes if size is not None), TRACE_BATCH)

    def _specs(self, batch: int) -> list[tf.TensorSpec]:
        """The forms of the arrays that the function is given."""
        sizes = [1] if self.pass_time else []
        sizes += [] if self.shape_in is None else [math.prod(self.shape_in)]
        sizes += [math.prod(shape) for shape in self.state_shapes]
        return [tf.TensorSpec((size, batch), self.dtype) for size in sizes]

    def _checked(self, y: Any, arrays: Sequence) -> tuple:
        """The shape of one item of the output.

        Raises
        ------
        ValidationError
        """
        if not tf.is_tensor(y):
            raise self._error(
                f"returned {type(y).__name__} {y!r}; expected a TensorFlow tensor "
                "(batch, ...)"
            )
        batch = arrays[0].shape[1] if self.shape_in is not None else None
        where = f"a tensor of shape {tuple(y.shape) if y.shape.rank is not None else '?'}"
        if not y.shape.rank:
            raise self._error(
                f"returned {where}; expected one that is known and starts with the batch "
                f"size, (batch, ...), such as {('batch', *(self._expected or (1,)))}"
            )
        if batch is not None and y.shape[0] not in (batch, None):
            raise self._error(
                f"returned {where} for a batch of {batch} items; expected its first axis "
                f"to be the batch size, {batch}"
            )
        shape = tuple(y.shape[1:])
        if None in shape:
            raise self._error(
                f"returned {where}; expected that all sizes but that of the batch are "
                "known. Use static shapes in it (tf.ensure_shape, or -1 for the batch "
                "alone in tf.reshape)"
            )
        if self._expected is not None and shape != tuple(self._expected):
            raise self._error(
                f"returned {where}, {math.prod(shape)} numbers for each item; expected "
                f"shape_out={tuple(self._expected)} for each item, without the batch"
            )
        wanted = arrays[0].dtype
        other = self.layer is None and y.dtype != wanted
        if other or not y.dtype.is_floating:
            raise self._error(
                f"returned a tensor of dtype {y.dtype.name}; expected {wanted.name}, the "
                "simulator's. Make constants with dtype=x.dtype, or use tf.cast"
            )
        return shape

    def _check_states(self, states: Sequence) -> None:
        if len(states) != len(self.state_shapes):
            raise self._error(
                f"returned {len(states)} states; expected {len(self.state_shapes)}, as "
                f"its state_size says"
            )

    def _error(self, text: str) -> ValidationError:
        return ValidationError(
            f"the function of TensorNode {self.label!r} {text}", attr="tensor_func"
        )

    # calling ---------------------------------------------------------------------

    def __call__(
        self, arrays: Sequence, values: Sequence[tuple] = (), training: bool = False
    ) -> tuple[list[tf.Tensor], list[tuple]]:
        """Call the function.

        Parameters
        ----------
        arrays : list of (n, batch) tensor
            Time, input and states, as far as it has them. All columns have the same
            time.
        values : list of (variable, tensor)
            What to use in place of variables.
        training : bool

        Returns
        -------
        results : list of (size, batch) tensor
            The output, the states, and losses if it is to give them.
        updates : list of (variable, tensor)
            What variables are to become.
        """
        if not self.only_compiled(training):
            return self._called(arrays, values, training)
        changed: list = []

        def compiled(*arrays):
            results, updates = self._called(list(arrays), values, training)
            changed[:] = [variable for variable, _ in updates]
            return results, [value for _, value in updates]

        results, after = program(compiled, jit=True)(*arrays)
        return results, list(zip(changed, after, strict=True))

    def _called(self, arrays, values, training):
        """Call the function in whatever program is being made; see `__call__`."""
        batch, dtype = arrays[0].shape[1], arrays[0].dtype
        if self.layer is None:  # layers see to it themselves
            arrays = [tf.cast(x, self.dtype) for x in arrays]
        random = self.random(training)
        scope = keras.StatelessScope(
            state_mapping=[*values, *random.in_place_of(values)],
            collect_losses=self._penalties,
        )
        with scope, random.replacing(values):
            y, states = self._apply(list(arrays), training)
        shape = self._checked(y, arrays)
        if self.shape_in is None and None not in (y.shape[0], batch):
            if y.shape[0] not in (1, batch):
                raise self._error(
                    f"returned a tensor of shape {tuple(y.shape)}, of {y.shape[0]} "
                    f"items; expected {batch}, or 1 for all of them"
                )
        shapes = [shape, *self.state_shapes]
        results = []
        for value, shape in zip([y, *states], shapes, strict=True):
            flat = tf.reshape(value, (value.shape[0] or -1, math.prod(shape)))
            flat = tf.transpose(tf.cast(flat, dtype))
            results.append(tf.broadcast_to(flat, (flat.shape[0], tf.shape(arrays[0])[1])))
            results[-1].set_shape((None, batch))
        if self._penalties:
            penalty = _total(scope.losses, dtype)
            results.append(tf.broadcast_to(penalty, (1, tf.shape(arrays[0])[1])))
        updated = [v for v in self.trace(training).updated if not is_seed(v)]
        updates = [(v, scope.get_current_value(v)) for v in updated]
        updates = [(v, value) for v, value in updates if value is not None]
        return results, updates + random.updates(scope)

    def in_program(
        self, xp: Any, inputs: Sequence, weights: Sequence, training: bool
    ) -> list[tf.Tensor]:
        """Call it with the weights of a program, and see to what it changes."""
        kept = xp.kept or {}
        values = list(zip(self.weights, weights, strict=True))
        read = [*self.trace(training).read, *self.random(training).variables]
        values += [(v, kept[id(v)]) for v in read if id(v) in kept]
        inputs = [xp.constant(x) for x in inputs]
        if xp.items is None or not self.batchwise(training):
            results, updates = self(inputs, values, training)
        else:
            real = [_first_items(x, xp.items, xp.batch) for x in inputs]
            results, updates = self(real, values, training)
            results = [
                _all_items(y, xp.items, xp.batch, inputs[0].shape[1]) for y in results
            ]
        for variable, value in updates:
            if id(variable) in kept:
                kept[id(variable)] = tf.cast(value, kept[id(variable)].dtype)
            else:
                variable.assign(tf.stop_gradient(value))
        return results

    def _apply(self, arrays: list, training: bool) -> tuple[Any, list]:
        """The function on arrays ``(n, batch)``: its output, and the next states."""
        arguments = []
        if self.pass_time:
            arguments.append(arrays.pop(0)[0, 0])
        if self.shape_in is not None:
            arguments.append(_items(arrays.pop(0), self.shape_in))
        states = [_items(x, s) for x, s in zip(arrays, self.state_shapes, strict=True)]
        if states:
            arguments.append(self._states.arranged(states))
        options = {"training": training} if self._takes_training else {}
        with dropout_of_one_call(self.layer, training):
            result = self._told(*arguments, **options)
        if not states:
            return result, []
        y, after = result
        return y, self._states.flat(after)

    def on_host(self, training: bool) -> Callable:
        """A function of NumPy arrays that calls this one."""
        if training not in self._on_host:

            def call(*arrays):
                results, updates = self(arrays, (), training)
                for variable, value in updates:
                    variable.assign(value)
                return results

            called = program(call, jit=False)

            def run(arrays):
                tensors = [tf.constant(x) for x in arrays]
                return [result.numpy() for result in called(*tensors)]

            self._on_host[training] = run
        return self._on_host[training]

    # compiling -------------------------------------------------------------------

    def obstacle(self, training: bool, batch: int) -> str | None:
        """What XLA cannot compile of it, and of its gradient; None if it can."""
        key = (training, batch)
        if key not in self._obstacles:
            self._obstacles[key] = self._find_obstacle(training, batch)
        return self._obstacles[key]

    def only_compiled(self, training: bool) -> bool:
        """Whether TensorFlow can compute it in no other way than compiled by XLA.

        On a CPU that is so of transposed convolutions with a dilation, and of gradients
        of convolutions with channels first; which CPUs have other code for them cannot
        be asked. So what consists of convolutions is tried once, on zeros.
        """
        if training not in self._only_compiled:
            convolves = any("Conv" in op for op in self.trace(training).operations)
            self._only_compiled[training] = convolves and self._fails(training)
        return self._only_compiled[training]

    def _fails(self, training: bool) -> bool:
        size = self._trace_batch()
        with tf.init_scope():
            arrays = [tf.zeros(s.shape, s.dtype) for s in self._specs(size)]
            called = partial(self._differentiated, self._called, training)
            try:
                program(called, jit=False)(*arrays)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
                return True
        return False

    def _differentiated(self, function, training, *arrays):
        """What a call gives, and in training its gradients."""
        weights = [tf.convert_to_tensor(v.value) for v in self.weights]
        with tf.GradientTape() as tape:
            tape.watch([*arrays, *weights])
            values = list(zip(self.weights, weights, strict=True))
            results, _ = function(list(arrays), values, training)
        gradients = tape.gradient(results, [*arrays, *weights]) if training else []
        return results, [g for g in gradients if g is not None]

    def _find_obstacle(self, training: bool, batch: int) -> str | None:
        call = partial(self._differentiated, self, training)
        compiled: Any = program(call, jit=True)
        specs = self._specs(batch)
        try:
            compiled.experimental_get_compiler_ir(*specs)(stage="hlo")
        except (ValueError, tf.errors.OpError) as error:
            found = [a or b for a, b in OPERATION.findall(str(error))]
            return found[0] if found else str(error).partition("\n")[0]
        return None

    # state -----------------------------------------------------------------------

    def state(self) -> VariableState:
        """The memory of the function, for whoever resets and restores simulations."""
        return VariableState(self.state_variables, self)


class VariableState(Callback):
    """The variables of a layer that change from step to step, as part of a simulation.

    Between the batches of one call the loop itself looks after them.

    Parameters
    ----------
    variables : list of keras.Variable
    function : TensorFunction, optional
        Whose random numbers start with those of the simulation.
    """

    stateful = of_tensors = True

    def __init__(self, variables: list, function: Any = None) -> None:
        self.variables = variables
        self.label = f"the Keras variables {', '.join(v.path for v in variables)}"
        self.initial = self.snapshot()
        self._function = function

    @property
    def goes_on(self) -> bool:
        """Whether there is anything that changes from step to step."""
        return bool(self.variables)

    def reset(self, rngs: Sequence) -> None:
        """The values of the beginning."""
        self.restore(self.initial)

    def reseed(self, seed: int, number: int) -> None:
        """Random numbers of a seed; ``number`` tells those of a simulation apart."""
        if self._function is not None:
            self._function.restart([seed, number])

    @property
    def random_variables(self) -> list:  # pyright: ignore[reportIncompatibleVariableOverride]  # looked up when asked
        """The state of random numbers, also of those that are for training only."""
        function = self._function
        if function is None:
            return []
        return [*function.random(False).variables, *function.random(True).variables]

    def random_numbers(self) -> dict[bool, list[np.ndarray]]:
        """The state of random numbers in both forms, as far as they have been run."""
        made = {} if self._function is None else self._function._random
        return {form: [v.numpy() for v in r.variables] for form, r in made.items()}

    def go_on_with(self, numbers: Mapping[bool, list[np.ndarray]]) -> None:
        """Draw what comes after; see `random_numbers`."""
        made = {form: self._function.random(form).variables for form in numbers}
        pairs = [
            pair
            for form, values in numbers.items()
            for pair in zip(made[form], values, strict=True)
        ]
        for variable, value in pairs:
            now = variable.numpy()
            if (np.shape(value), value.dtype) != (now.shape, now.dtype):
                raise ValueError(f"random numbers have a state of shape {value.shape}")
        for variable, value in pairs:
            variable.assign(value)

    def draw_as_layers_would(self) -> None:
        """Draw what the layers would draw next, were they called outside."""
        if self._function is not None:
            for form in (False, True):
                self._function.random(form).as_layers_would()

    def snapshot(self) -> list[np.ndarray]:
        """The present values of the variables."""
        return [v.numpy() for v in self.variables]

    def restore(self, snapshot: Sequence[np.ndarray], first_item: int = 0) -> None:
        """Go back to a snapshot; all batch items together."""
        for variable, value in zip(self.variables, snapshot, strict=True):
            variable.assign(value)


def _operations(graph: Any) -> frozenset[str]:
    """The names of all operations in a graph and in the functions that it calls."""
    names = {operation.type for operation in graph.get_operations()}
    for function in graph.as_graph_def().library.function:
        names |= {node.op for node in function.node_def}
    return frozenset(names)


def _looks_at_all(layer: Any, training: bool) -> bool:
    """Whether a layer, leaving aside those inside, may look at all items together."""
    if type(layer).__module__.partition(".")[0] != "keras":
        return True
    if isinstance(layer, keras.layers.BatchNormalization):
        return training
    return isinstance(layer, keras.layers.Lambda)


def _first_items(x: tf.Tensor, items: Any, batch: int) -> tf.Tensor:
    """The columns of the first items of each step, of ``(n, steps * batch)``."""
    n = x.shape[0]
    return tf.reshape(tf.reshape(x, (n, -1, batch))[:, :, :items], (n, -1))


def _all_items(y: tf.Tensor, items: Any, batch: int, columns: Any) -> tf.Tensor:
    """The inverse: the first items once more in the places of those that are missing."""
    n = y.shape[0]
    by_step = tf.reshape(y, (n, -1, items))
    everywhere = tf.gather(by_step, tf.range(batch) % items, axis=2)
    return tf.ensure_shape(tf.reshape(everywhere, (n, -1)), (n, columns))


def _items(x: tf.Tensor, shape: tuple) -> tf.Tensor:
    """From ``(n, batch)`` to ``(batch, *shape)``."""
    batch = x.shape[1]
    return tf.reshape(tf.transpose(x), (-1 if batch is None else batch, *shape))


def _total(losses: Sequence, dtype: tf.DType) -> tf.Tensor:
    """The sum of what layers gave as losses: tensors, or lists of them, several times."""
    unique = {id(x): x for x in keras.tree.flatten(losses)}
    sums = [tf.cast(tf.reduce_sum(x), dtype) for x in unique.values()]
    return tf.add_n([tf.zeros((), dtype), *sums])


def _is_float(variable: Any) -> bool:
    return tf.as_dtype(variable.dtype).is_floating
