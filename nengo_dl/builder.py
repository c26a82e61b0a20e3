"""Where users register what is their own: operators, neuron types, Nengo objects.

==========================  ===========================================================
to add                      write
==========================  ===========================================================
an object of a network      a build function with ``@NengoBuilder.register(MyObject)``
an operator, natively       an `OpBuilder` with ``@Builder.register(MyOperator)``
an operator, as Python      a `PythonOpBuilder` registered in the same way; it also runs
                            without one, but warns then
a neuron type               a `NeuronKernel` with ``neuron_type = MyNeuronType``
==========================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from nengo.builder import Builder as CoreBuilder

import nengo_dl.kernels  # noqa: F401  so that what there is already is known
from nengo_dl.compiler.lowering import OperatorRule
from nengo_dl.compiler.traits import Kernel, operators
from nengo_dl.kernels.fallback import PythonRule
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.notices import warn

T = TypeVar("T")

__all__ = [
    "Builder",
    "Kernel",
    "NengoBuilder",
    "NeuronKernel",
    "OpBuilder",
    "PythonOpBuilder",
]


class OpBuilder(OperatorRule):
    """How one class of operators is computed; see `Builder`.

    Subclasses say in ``lower(op, low)`` which signals an operator reads and writes, and
    what is computed in between, by calling methods of ``low``, a
    `nengo_dl.compiler.lowering.Lowering`. Computations that are no sums of signals are
    nodes with a `Kernel`.
    """


class PythonOpBuilder(PythonRule, OpBuilder):
    """Runs the operator's own ``make_step``, and does not warn of it.

    A step function may look at what it wrote in the step before, so the operator takes
    part in the loop over time. An operator that always writes all of its ``sets``, and
    never looks at them before, can say so: then it runs before the loop if it depends on
    no state, or after it if no state depends on it, and the loop is compiled.

    Examples
    --------
    >>> class MyOperatorBuilder(PythonOpBuilder):
    ...     def carries(self, op):
    ...         return ()
    """


class Builder:
    """Where operators are given what computes them.

    Examples
    --------
    An operator that limits values to a range:

    >>> from nengo.builder.operator import Operator
    >>> class Clip(Operator):
    ...     def __init__(self, x, y, low, high):
    ...         super().__init__()
    ...         self.low, self.high = low, high
    ...         self.reads, self.sets, self.incs, self.updates = [x], [y], [], []
    >>> class ClipKernel(Kernel):
    ...     name = "clip"
    ...     def step(self, xp, p, x):
    ...         return (xp.clip(x, p.low, p.high),)
    >>> @Builder.register(Clip)
    ... class ClipBuilder(OpBuilder):
    ...     def lower(self, op, low):
    ...         x = low.read(op.reads[0])
    ...         params = {"low": op.low, "high": op.high}
    ...         (y,) = low.node(ClipKernel(), [x], [x.size], params, label=str(op))
    ...         low.define(op.sets[0], y)
    """

    @classmethod
    def register(cls, *operator_classes: type) -> Callable[[type[T]], type[T]]:
        """Class decorator: this `OpBuilder` computes the operators of these classes.

        Operators of subclasses as well, unless they override ``make_step``.

        Parameters
        ----------
        *operator_classes : type
            Subclasses of ``nengo.builder.operator.Operator``.

        Raises
        ------
        TypeError
            If the decorated class is no `OpBuilder` or has no method ``lower``.

        Warns
        -----
        UserWarning
            If one of the classes was registered before; the later one takes its place.
            If the builder is one of NengoDL 3, with ``build_step`` and without ``lower``;
            it is ignored.
        """

        def decorate(op_builder):
            _check(op_builder)
            if _is_older(op_builder):
                names = ", ".join(cls.__name__ for cls in operator_classes)
                warn(
                    f"Builder.register: {op_builder.__name__} was written for NengoDL 3, "
                    f"whose methods build_pre and build_step are not called any more. It "
                    f"is ignored: {names} runs as Python (or as NengoDL computes it, if "
                    "it is one of Nengo's). For a native form write a method "
                    "lower(self, op, low); docs/extending.rst has an example",
                    once=("older operator builder", op_builder),
                )
                return op_builder
            for operator_class in operator_classes:
                _warn_of_overwriting(operator_class, operators.exact(operator_class))
                operators.add(operator_class, op_builder())
            return op_builder

        return decorate


def _check(op_builder) -> None:
    """Refuse what could only fail later.

    Raises
    ------
    TypeError
        If it is no `OpBuilder` that says how to lower an operator.
    """
    fits = isinstance(op_builder, type) and issubclass(op_builder, OperatorRule)
    if not fits:
        raise TypeError(
            f"Builder.register: expected a subclass of nengo_dl.builder.OpBuilder, got "
            f"{op_builder!r}"
        )
    if op_builder.lower is OperatorRule.lower and not _is_older(op_builder):
        raise TypeError(
            f"Builder.register: {op_builder.__name__} has no method lower(op, low), "
            "which says what is read, computed and written (docs/extending.rst has an "
            "example)"
        )


def _is_older(op_builder) -> bool:
    """Whether a class says how to compute an operator in NengoDL 3, and only there."""
    older = any(hasattr(op_builder, name) for name in ("build_pre", "build_step"))
    return older and op_builder.lower is OperatorRule.lower


def _warn_of_overwriting(cls, entry) -> None:
    if entry is not None:
        warn(
            f"{cls.__name__} already has a builder, {type(entry).__name__}. Overwriting. "
            "To keep the first one, register the second for a subclass"
        )


class NengoBuilder(CoreBuilder):
    """What builds the objects of a network for `nengo_dl.Simulator`.

    Build functions that are registered here are looked up first, then those of
    ``nengo.builder.Builder``, each along the object's method resolution order. Core's
    ``nengo.Simulator`` does not see what is registered here.

    Attributes
    ----------
    builders : dict
        Type of object -> build function ``(model, obj, *args, **kwargs)``.

    Examples
    --------
    >>> import nengo
    >>> class Loud(nengo.Node):
    ...     pass
    >>> @NengoBuilder.register(Loud)
    ... def build_loud(model, node):
    ...     print("building", node)
    ...     return nengo.builder.node.build_node(model, node)
    """

    builders: dict = {}

    @classmethod
    def build(cls, model: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Build an object into a model.

        Parameters
        ----------
        model : nengo.builder.Model
        obj : object
        *args, **kwargs
            Passed on to the build function.

        Returns
        -------
        object
            What the build function returns.

        Raises
        ------
        ~nengo.exceptions.BuildError
            If there is no build function for it.
        """
        known = (cls.builders[c] for c in type(obj).__mro__ if c in cls.builders)
        own = next(known, None)
        if own is None or model.has_built(obj):  # the latter is core's to report
            return CoreBuilder.build(model, obj, *args, **kwargs)
        return own(model, obj, *args, **kwargs)
