"""TensorFlow functions and Keras layers as part of a network.

What is called is an object of `nengo_dl.runtime.tensorflow.tensor_function`. This module
does not look into it, and hands it on to the array namespace.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class SimTensorNode(Operator):
    """Set ``output`` to a TensorFlow function of the time and of an input.

    Parameters
    ----------
    function : TensorFunction
        What is called.
    output : Signal
        What it gives, flattened.
    t, x : Signal or None
        Its arguments.
    states : sequence of Signal
        What it is given from its last call, if it is a cell.
    weights : sequence of Signal
        One for each of ``function.weights``, the Keras variables that may be trained.
    others : dict
        Signal -> Keras variable, for those that training does not change.
    tag : str, optional

    Notes
    -----
    1. sets ``[output]``
    2. incs ``[]``
    3. reads ``t``, ``x`` and the weights
    4. updates the states
    """

    def __init__(
        self,
        function: Any,
        output: Signal,
        t: Signal | None = None,
        x: Signal | None = None,
        states: Sequence[Signal] = (),
        weights: Sequence[Signal] = (),
        others: Mapping[Signal, Any] | None = None,
        tag: str | None = None,
    ):
        super().__init__(tag=tag)
        self.function = function
        self.output, self.t, self.x = output, t, x
        self.states, self.weights = list(states), list(weights)
        self.others = dict(others or {})
        self.node: Any = None
        self.sets, self.incs, self.updates = [output], [], self.states
        self.reads = [s for s in (t, x) if s is not None] + self.weights

    @property
    def _descstr(self):
        return f"{self.function.label} -> {self.output}"

    @property
    def variables(self) -> dict[Signal, Any]:
        """Signal -> Keras variable, for all variables of floating point numbers."""
        return {**dict(zip(self.weights, self.function.weights)), **self.others}

    def make_step(
        self, signals: Any, dt: float, rng: np.random.RandomState
    ) -> Callable[[], None]:
        """For core Nengo: call TensorFlow in each step, for one item."""
        read = [signals[s] for s in (self.t, self.x, *self.states) if s is not None]
        written = [signals[s] for s in (self.output, *self.states)]
        call = self.function.on_host(False)

        def step_tensor_node():
            results = call([np.reshape(value, (-1, 1)) for value in read])
            for target, result in zip(written, results):
                target[...] = np.reshape(result, target.shape)

        return step_tensor_node


class TensorCall(Kernel):
    """Calls a TensorFlow function.

    Parameters: ``function``; ``training``, whether layers are to behave as they do in
    training; and the weights, ``w0``, ``w1``, ... Inputs are those of ``function``,
    ``(n, batch)`` each; the first output is what it returns, flattened, the others are
    its state. If losses are asked for (`.LoweringOptions`), the last output is the sum of
    those that it adds, the same for the whole batch.

    Parameters
    ----------
    n_weights : int
        Number of weights.
    stepwise : bool
        Whether it has to run step by step, although it may depend on no state.
    """

    name = "tensor_call"
    tensorflow = True
    batch_first = 1

    def __init__(self, n_weights: int = 0, stepwise: bool = False):
        self.matrices = tuple(f"w{i}" for i in range(n_weights))
        self.stepwise = stepwise

    def merge_key(self, node: Node) -> Hashable:
        """Functions of tensors are merged with nothing."""
        return (self.name, id(node))

    def cost(self, node: Node) -> float:
        """The cost of a call, which in NumPy is that of millions of operations."""
        return 1e6 + sum(np.prod(node.params[name].shape) for name in self.matrices)

    def step(self, xp: ArrayNamespace, p: Params, *inputs: Array) -> tuple[Array, ...]:
        """One call; every array is ``(n, batch)``."""
        weights = [getattr(p, name)[0] for name in self.matrices]
        return tuple(xp.tensor_call(p.function, list(inputs), weights, p.training))


@lowers(SimTensorNode)
class LowerTensorNode(OperatorRule):
    """Sets a signal to what the function returns, and updates the states."""

    def carries(self, op: SimTensorNode) -> Iterable[Signal]:
        """The states that a cell is given from its last call."""
        return op.states

    def trains_otherwise(self, op: Any, training: bool, spikes: Any) -> bool:
        """Keras layers may behave otherwise in training."""
        return training

    def penalizes(self, op: SimTensorNode, training: bool) -> bool:
        """Whether layers of the function hand something to ``add_loss``."""
        return op.function.penalized(training)

    def lower(self, op: SimTensorNode, low: Lowering) -> None:
        """One node. The weights are arguments of the program, never constants."""
        function = op.function
        low.host(op, lambda: function.state())
        inputs = [low.read(s).ravel() for s in (op.t, op.x) if s is not None]
        inputs += [low.previous(s).ravel() for s in op.states]
        params = {"function": function, "training": low.options.training}
        for i, signal in enumerate(op.weights):
            params[f"w{i}"] = ParameterRef(signal, signal.shape)
        stepwise = op.t is not None or bool(function.state_variables)
        kernel = low.memo(
            ("tensor_call", len(op.weights), stepwise),
            lambda: TensorCall(len(op.weights), stepwise),
        )
        sizes = [op.output.size, *(s.size for s in op.states)]
        if low.options.penalties and function.penalized(low.options.training):
            params["function"] = function.with_penalties()
            sizes.append(1)
        y, *others = low.node(kernel, inputs, sizes, params, label=function.label)
        low.define(op.output, y)
        for penalty in others[len(op.states) :]:
            low.penalize(op, penalty)
        for signal, elements in zip(op.states, others):
            low.update(signal, elements)


# arguments ----------------------------------------------------------------------------

BY_NAME = ("training", "mask")
"""Arguments that Keras hands over by name."""


def parameters_of(function: Callable) -> list[inspect.Parameter] | None:
    """All parameters of a function; None if they are not known."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def takes_training(function: Callable) -> bool:
    """Whether it has an argument ``training``."""
    return any(p.name == "training" for p in parameters_of(function) or ())


def wrong_arguments(function: Callable, given: list[str]) -> str | None:
    """Why a function cannot be called with so many arguments; None if it can.

    Parameters
    ----------
    function : callable
    given : list of str
        Names of the arguments that it would be given by position, among them ``"t"`` and
        ``"x"``.
    """
    known = parameters_of(function)
    if known is None or any(p.kind is p.VAR_POSITIONAL for p in known):
        return None
    known = [p for p in known if p.kind is not p.VAR_KEYWORD and p.name not in BY_NAME]
    taken = [p for p in known if p.kind is not p.KEYWORD_ONLY]
    least = sum(p.default is p.empty for p in taken)
    if least <= len(given) <= len(taken):
        return None
    hint = ""
    if len(given) > least and "t" in given:
        hint = "; with pass_time=False it is not given the time"
    elif len(given) < least and "t" not in given:
        hint = "; with pass_time=True it is given the time, too"
    elif len(given) < least and "x" not in given:
        hint = "; with a shape_in it is given an input, too"
    names = ", ".join(p.name for p in taken)
    return f"takes ({names}), but is called as f({', '.join(given)}){hint}"
