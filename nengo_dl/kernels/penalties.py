"""What activities add to the losses of training."""

from nengo.builder.operator import Operator

from nengo_dl.compiler.rules import OperatorRule, lowers


class SimPenalty(Operator):
    """Add a function of a signal to the losses of training; nothing at other times.

    Parameters
    ----------
    x : Signal
    penalty : callable
        ``penalty(y)`` gives a scalar for what the signal was, ``(items, steps, size)``.
    tag : str, optional

    Notes
    -----
    1. sets ``[]``
    2. incs ``[]``
    3. reads ``[x]``
    4. updates ``[]``
    """

    def __init__(self, x, penalty, tag=None):
        super().__init__(tag=tag)
        self.x, self.penalty = x, penalty
        self.sets, self.incs, self.reads, self.updates = [], [], [x], []

    @property
    def _descstr(self):
        return f"{self.x} -> {self.penalty}"

    def make_step(self, signals, dt, rng):
        """A step for core Nengo, which does not train: it does nothing."""
        return lambda: None


@lowers(SimPenalty)
class LowerPenalty(OperatorRule):
    """Probes the signal, if losses are asked for."""

    def penalizes(self, op, training):
        """Always True: the operator does nothing else."""
        return True

    def lower(self, op, low):
        """No node: what is made of the values is not part of a step."""
        if low.options.penalties:
            low.penalize(op, low.read(op.x))
