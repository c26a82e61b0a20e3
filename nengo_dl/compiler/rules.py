"""How one kind of operator becomes elements, and which rule is for which operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from nengo.builder.signal import Signal

from nengo_dl.compiler.registry import operators as rules
from nengo_dl.compiler.registry import refuse_abstract
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


R = TypeVar("R", bound="OperatorRule")


class OperatorRule(ABC):
    """How operators ``op`` of one kind become elements; see `lowers`."""

    def covers(self, op: Any, registered: type) -> bool:
        """Whether the rule of the class ``registered`` is right for the operator ``op``.

        By default operators of a subclass are lowered by the rule of their base class
        unless they have a ``make_step`` of their own, and so do something else.
        """
        own = getattr(type(op), "make_step", None)
        return own is getattr(registered, "make_step", None)

    def carries(self, op: Any) -> Iterable[Signal]:
        """Signals whose previous value the operator uses, although it sets them."""
        return ()

    def reaches(self, op: Any) -> frozenset | None:
        """Tokens of the objects that the operator's Python code may share with others.

        None: any object. Empty: it runs no Python, or nothing that could be shared.
        """
        return frozenset()

    def stepwise(self, op: Any) -> bool:
        """Whether the operator runs Python that needs other signals of its step."""
        return False

    def penalizes(self, op: Any, training: bool) -> bool:
        """Whether the operator adds to the losses, with ``low.penalize`` in `lower`.

        Parameters
        ----------
        op : nengo.builder.Operator
        training : bool
            To those of training; else to those of testing.
        """
        return False

    def trains_otherwise(self, op, training: bool, spikes) -> bool:
        """Whether `lower` makes something else of the operator than without training.

        Where no operator of a network is trained otherwise than it runs, what was
        compiled for the one is used for the other. A rule whose `lower` asks
        ``low.options`` for ``training`` or ``spikes`` has to say so here.

        Parameters
        ----------
        op : nengo.builder.Operator
        training : bool
            ``low.options.training``: Keras layers behave as in training.
        spikes : SpikeTraining or None
            ``low.options.spikes``: how neurons are trained.
        """
        return False

    @abstractmethod
    def lower(self, op: Any, low: Lowering) -> None:
        """Describe one operator to ``low``, a `nengo_dl.compiler.lowering.Lowering`."""


def lowers(*operator_classes: type) -> Callable[[type[R]], type[R]]:
    """Class decorator: this `OperatorRule` lowers these operators.

    Operators of subclasses, too, if the rule `covers <OperatorRule.covers>` them.

    Raises
    ------
    TypeError
        If the rule has no method ``lower``.
    """

    def decorate(rule_class: type[R]) -> type[R]:
        refuse_abstract(rule_class)
        for cls in operator_classes:
            rules.add(cls, rule_class())
        return rule_class

    return decorate


def rule_of(op: Any) -> OperatorRule | None:
    """The rule for an operator: of its class, of an ancestor, or of all others.

    None if there is none at all (the kernels, which bring the rules, are not imported).
    """
    for cls in type(op).__mro__:
        rule = rules.exact(cls)
        if rule is not None and rule.covers(op, cls):
            return rule
    return rules.default


def trains_otherwise(model, training: bool, spikes) -> bool:
    """Whether any operator of a model does, see `OperatorRule.trains_otherwise`."""
    rules = ((rule_of(op), op) for op in model.operators)
    return any(r.trains_otherwise(op, training, spikes) for r, op in rules if r)


def unknown_operator(op: Any) -> str:
    """What to tell about an operator without a rule and without a step function."""
    name = type(op).__name__
    known = ", ".join(sorted(cls.__name__ for cls, _ in rules.items()))
    return (
        f"NengoDL has no rule for the operator {name} ({label_of(op)}"
        f"), and cannot run it as "
        f"Python either, since {name} has no make_step(signals, dt, rng). Add that "
        f"method, or a rule: a subclass of nengo_dl.builder.OpBuilder with the decorator "
        f"@nengo_dl.builder.Builder.register({name}), anywhere that is imported before "
        f"the Simulator is made. Known operators: {known}"
    )
