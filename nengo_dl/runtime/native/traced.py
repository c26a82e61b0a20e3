r"""One step of a loop as elementwise operations, and what pulls gradients back.

A step of neurons is arithmetic of numbers that belong to one neuron and one item. Run
with `Tracer` in the place of an array namespace, it leaves behind which operations these
are; going through them from the last to the first gives those of its gradient,

.. math::

    \bar a = \sum_{r = f(a, \ldots)} \frac{\partial r}{\partial a} \bar r,

which are elementwise as well. What is no such step is `Unsupported`. Conventions where a
derivative is not defined are those of TensorFlow, which does the same elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nengo_dl.runtime.executor import Unsupported

#: operations that give truth values
COMPARISONS = ("greater", "greater_equal", "less", "less_equal")
LOGICAL = ("logical_and", "logical_or")


class Value:
    """What an operation gives: one number for each neuron and item, or each neuron.

    Parameters
    ----------
    tracer : Tracer
    operation : str
        ``"leaf"`` is read from memory, ``"constant"`` is known.
    args : tuple
        Values that it is computed from; of a leaf, what it is read from and which rows.
    size : int
        Rows; a constant has as many as are wanted.
    items : int
        Columns: one for each item, or 1.
    """

    __array_ufunc__ = None  # NumPy arrays on the left leave operators to this class

    def __init__(
        self, tracer: Tracer, operation: str, args: tuple, size: int, items: int
    ) -> None:
        self.tracer, self.operation, self.args = tracer, operation, args
        self.shape, self.dtype = (size, items), tracer.dtype
        self.number = len(tracer.values)
        tracer.values.append(self)

    @property
    def truth(self) -> bool:
        """Whether it is a truth value."""
        return self.operation in COMPARISONS or self.operation in LOGICAL

    def __getitem__(self, key: Any) -> Value:
        if not (isinstance(key, slice) and self.operation == "leaf") or key.step:
            raise Unsupported("rows of something that is computed")
        source, start = self.args
        first, last, _ = key.indices(self.shape[0])
        return self.tracer.leaf(source, start + first, last - first, self.shape[1])

    def __neg__(self) -> Value:
        return self.tracer.apply("negative", self)


def _operator(name: str, reflected: bool = False) -> Callable:
    def operate(self: Value, other: Any) -> Value:
        pair = (other, self) if reflected else (self, other)
        return self.tracer.apply(name, *pair)

    return operate


for _name, _function in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "and": "logical_and",
    "or": "logical_or",
}.items():
    setattr(Value, f"__{_name}__", _operator(_function))
    setattr(Value, f"__r{_name}__", _operator(_function, True))
for _name, _function in zip(("gt", "ge", "lt", "le"), COMPARISONS, strict=True):
    setattr(Value, f"__{_name}__", _operator(_function))


class Tracer:
    """An array namespace that takes down what is computed with it.

    Parameters
    ----------
    dtype : dtype
    batch : int
        Items.

    Attributes
    ----------
    values : list of Value
        All that was computed, in this order.
    """

    fast = False

    def __init__(self, dtype: Any, batch: int) -> None:
        self.dtype, self.batch = np.dtype(dtype), batch
        self.eps = np.finfo(self.dtype).eps
        self.float = self.dtype.type
        self.values: list[Value] = []
        self._known: dict[tuple, Value] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"{name} is no elementwise operation")

    # what is there -----------------------------------------------------------------

    def leaf(self, source: Any, start: int, size: int, items: int) -> Value:
        """Rows of what lies in memory."""
        return self._shared("leaf", (source, start), size, items)

    def _shared(self, operation: str, args: tuple, size: int, items: int) -> Value:
        key = operation, args, size
        if key not in self._known:
            self._known[key] = Value(self, operation, args, size, items)
        return self._known[key]

    def constant(self, x: Any) -> Value:
        """A number that is known, the same for all neurons."""
        if isinstance(x, Value):
            return x
        x = np.asarray(x)
        if x.dtype.kind not in "fiu" or not x.size or (x != x.flat[0]).any():
            raise Unsupported("constants that differ from neuron to neuron")
        number = float(self.dtype.type(x.flat[0]))
        if number != number:
            raise Unsupported("NaN")
        return self._shared("constant", (number, np.signbit(number)), 1, 1)

    def apply(self, operation: str, *args: Any) -> Value:
        """An operation on numbers of the same neurons and items."""
        values = [self.constant(x) for x in args]
        sizes = {v.shape[0] for v in values if v.operation != "constant"}
        if not sizes and hasattr(np, operation) and operation != "where":
            numbers = [self.dtype.type(v.args[0]) for v in values]
            return self.constant(getattr(np, operation)(*numbers))
        if len(sizes) > 1:
            raise Unsupported("operands of different neurons")
        if any(v.operation == "concat" for v in values):
            raise Unsupported("rows of something that is computed")
        items = max(v.shape[1] for v in values)
        return Value(self, operation, tuple(values), max(sizes, default=1), items)

    # what kernels call -------------------------------------------------------------

    def zeros(self, shape: Sequence[int]) -> Value:
        """An array of zeros."""
        return self.constant(0.0)

    def zeros_like(self, x: Any) -> Value:
        """An array of zeros, shaped as ``x``."""
        return self.constant(0.0)

    def ones_like(self, x: Any) -> Value:
        """An array of ones, shaped as ``x``."""
        return self.constant(1.0)

    def broadcast(self, x: Any, shape: Sequence[int]) -> Value:
        """The array itself: what belongs to a neuron belongs to all items."""
        return self.constant(x)

    def materialize(self, x: Value) -> Value:
        """The array itself: everything is computed once."""
        return x

    def zero_unless(self, x: Value, *causes: Any) -> Value:
        """The array itself."""
        return x

    def concat(self, arrays: Sequence[Any]) -> Value:
        """Arrays one below the other, of which only results are made."""
        values = [self.constant(x) for x in arrays]
        size = sum(v.shape[0] for v in values)
        return Value(self, "concat", tuple(values), size, self.batch)

    def where(self, c: Any, a: Any, b: Any) -> Value:
        """``a`` where ``c``, else ``b``."""
        if not (isinstance(c, Value) and c.truth):
            raise Unsupported("a choice by what is no truth value")
        return self.apply("where", c, a, b)

    def clip(self, x: Any, lo: Any, hi: Any) -> Value:
        """See `.ArrayNamespace.clip`."""
        return self.maximum(self.minimum(x, hi), lo)

    def maximum(self, a: Any, b: Any) -> Value:
        """The larger one."""
        return self.apply("maximum", a, b)

    def minimum(self, a: Any, b: Any) -> Value:
        """The smaller one."""
        return self.apply("minimum", a, b)

    def relu(self, x: Any) -> Value:
        """The positive part."""
        x = self.constant(x)
        return self.where(x > 0, x, 0.0)

    def abs(self, x: Any) -> Value:
        """Absolute value."""
        return self.apply("absolute", x)

    def sign(self, x: Any) -> Value:
        """-1, 0 or 1."""
        return self.apply("sign", x)

    def floor(self, x: Any) -> Value:
        """The largest integer that is not larger."""
        return self.apply("floor", x)

    def sqrt(self, x: Any) -> Value:
        """Square root."""
        return self.apply("sqrt", x)

    def exp(self, x: Any) -> Value:
        """The exponential."""
        return self.apply("exp", x)

    def log(self, x: Any) -> Value:
        """Natural logarithm."""
        return self.apply("log", x)

    def tanh(self, x: Any) -> Value:
        """Hyperbolic tangent."""
        return self.apply("tanh", x)

    def expm1(self, x: Any, bound: float | None = None) -> Value:
        """``exp(x) - 1``."""
        return self.apply("expm1", x)

    def log1p(self, x: Any, bound: float | None = None) -> Value:
        """``log(1 + x)``."""
        return self.apply("log1p", x)

    def stop_gradient(self, x: Any) -> Value:
        """The array itself, through which no gradient flows."""
        x = self.constant(x)
        return x if x.operation == "constant" else self.apply("stop_gradient", x)

    def with_gradient(self, x: Any, like: Any) -> Value:
        """``x`` with the gradient of ``like``."""
        return self.apply("with_gradient", x, like)


# gradients ----------------------------------------------------------------------------


def _of_divide(g: Any, y: Any, a: Any, b: Any) -> tuple:
    return g / b, g * ((-a / b) / b)


def _of_extreme(better: str) -> Callable:
    def rule(g: Any, y: Any, a: Any, b: Any) -> tuple:
        first = g.tracer.apply(better, a, b)
        return g.tracer.where(first, g, 0.0), g.tracer.where(first, 0.0, g)

    return rule


def _of_absolute(g: Any, y: Any, x: Any) -> tuple:
    return (g * g.tracer.apply("sign", x),)


def _of_where(g: Any, y: Any, c: Any, a: Any, b: Any) -> tuple:
    return None, g.tracer.where(c, g, 0.0), g.tracer.where(c, 0.0, g)


#: operation -> the gradients of its operands, from that of its result
RULES: dict[str, Callable[..., tuple]] = {
    "add": lambda g, y, a, b: (g, g),
    "subtract": lambda g, y, a, b: (g, -g),
    "multiply": lambda g, y, a, b: (g * b, g * a),
    "divide": _of_divide,
    "negative": lambda g, y, x: (-g,),
    "maximum": _of_extreme("greater_equal"),
    "minimum": _of_extreme("less_equal"),
    "absolute": _of_absolute,
    "where": _of_where,
    "sign": lambda g, y, x: (None,),
    "floor": lambda g, y, x: (None,),
    "sqrt": lambda g, y, x: (g * 0.5 / y,),
    "exp": lambda g, y, x: (g * y,),
    "log": lambda g, y, x: (g / x,),
    "tanh": lambda g, y, x: (g * (1.0 - y * y),),
    "expm1": lambda g, y, x: (g * (y + 1.0),),
    "log1p": lambda g, y, x: (g / (1.0 + x),),
    "with_gradient": lambda g, y, x, like: (None, g),
    "stop_gradient": lambda g, y, x: (None,),
}


def pulled_back(results: Sequence[tuple[Value, Value]]) -> dict[int, Value]:
    """The gradients of all values that results depend on.

    Parameters
    ----------
    results : list of (Value, Value)
        Each with its gradient.

    Returns
    -------
    dict
        Number of a value -> its gradient, where there is one.
    """
    found: dict[int, Any] = {}

    def add(value: Value, gradient: Any) -> None:
        if gradient is None or value.operation == "constant" or value.truth:
            return
        before = found.get(value.number)
        found[value.number] = gradient if before is None else before + gradient

    for value, gradient in results:
        add(value, gradient)
    last = max((value.number for value, _ in results), default=-1)
    tracer = results[0][0].tracer
    for value in reversed(tracer.values[: last + 1]):
        gradient = found.get(value.number)
        if gradient is None or value.operation == "leaf":
            continue
        rule = RULES[value.operation]
        for arg, g in zip(value.args, rule(gradient, value, *value.args), strict=True):
            add(arg, g)
    return found


def operands(value: Value) -> tuple:
    """The values that one is computed from; what only has a gradient is none."""
    if value.operation in ("leaf", "constant"):
        return ()
    return value.args[:1] if value.operation == "with_gradient" else value.args


def needed(results: Sequence[Value]) -> list[Value]:
    """What has to be computed for some results, in order, the results included."""
    wanted: set[int] = set()
    pending = list(results)
    while pending:
        value = pending.pop()
        if value.number in wanted:
            continue
        wanted.add(value.number)
        pending += operands(value)
    return [v for v in results[0].tracer.values if v.number in wanted] if results else []
