"""Cases of kernels that only concern gradients, through an operator of their own."""

from nengo.builder.operator import Operator

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.kernels.algebra import with_gradients
from tests.kernels.kernel_cases import CASES
from tests.kernels.kernel_harness import Case


class Same(Operator):
    """Sets a signal to another one."""

    def __init__(self, x, y):
        super().__init__()
        self.sets, self.incs, self.reads, self.updates = [y], [], [x], []

    def make_step(self, signals, dt, rng):
        """See `nengo.builder.Operator`."""
        x, y = signals[self.reads[0]], signals[self.sets[0]]

        def step():
            y[...] = x

        return step


@lowers(Same)
class LowerSame(OperatorRule):
    """The values, with the gradients of the values."""

    def lower(self, op, low):
        """One node."""
        (y,), x = op.sets, low.read(op.reads[0])
        low.define(y, with_gradients(low, {y: x}, {y: x})[y])


def with_gradient(bench, variant):
    """Numbers from outside."""
    y = bench.signal((7 + variant,))
    bench.add(Same(bench.feed(7 + variant), y))
    bench.watch(y)


CASES.append(Case("with_gradient", with_gradient))
