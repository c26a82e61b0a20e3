"""An executor that knows nothing of the others: plain NumPy, kernel by kernel.

It was written from `nengo_dl.runtime.namespace` and `nengo_dl.runtime.executor` alone, to
show that they say all that is needed.
"""

import itertools

import numpy as np
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.runtime import stepwise
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.executor import Capability, ExecutorKind, Seen
from nengo_dl.runtime.host import InputsInterrupted


def function(f):
    """A method of the namespace that is a function of NumPy."""

    def method(self, *args):
        return f(*(self.constant(a) for a in args))

    return method


def places(size, kernel, stride, padding, count=None):
    """How many windows there are along an axis, and how many zeros before the first."""
    if count is None:
        last = size if padding == "same" else size - kernel + 1
        count = -(-last // stride)
    missing = max((count - 1) * stride + kernel - size, 0) if padding == "same" else 0
    return count, missing // 2


class EagerNamespace:
    """The functions of the contract, each on arrays as they are."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        self.returned = []  # by the functions that the present step called
        self.again = []  # what they are to return without being called

    def constant(self, x):
        x = np.asarray(x)
        return x if x.dtype == bool else x.astype(self.dtype, copy=False)

    def float(self, x):
        return self.dtype.type(x)

    def zeros(self, shape):
        return np.zeros(shape, self.dtype)

    def zeros_like(self, x):
        return np.zeros(x.shape, self.dtype)

    def ones_like(self, x):
        return np.ones(x.shape, self.dtype)

    def take(self, x, idx):
        idx = np.asarray(idx) if np.size(idx) else np.zeros(np.shape(idx), int)
        wrong = idx.dtype.kind not in "iu" or (idx < 0).any() or (idx >= len(x)).any()
        if wrong:
            raise ValidationError("no rows of this array", attr="take", obj=self)
        return x[idx]

    def concat(self, arrays):
        return np.concatenate([self.constant(a) for a in arrays])

    def reshape(self, x, shape):
        return np.reshape(x, shape)

    def transpose(self, x, perm):
        return np.transpose(x, perm)

    def broadcast(self, x, shape):
        return np.broadcast_to(x, shape)

    where, relu = function(np.where), function(lambda x: np.maximum(x, 0))
    maximum, minimum = function(np.maximum), function(np.minimum)
    clip = function(lambda x, lo, hi: np.maximum(np.minimum(x, hi), lo))
    abs, sign, sqrt = function(np.abs), function(np.sign), function(np.sqrt)
    floor, exp, log = function(np.floor), function(np.exp), function(np.log)
    tanh, power, matmul = function(np.tanh), function(np.power), function(np.matmul)
    sigmoid = function(lambda x: (np.tanh(x / 2) + 1) / 2)
    matvec = function(lambda a, x: np.einsum("gmkb,gkb->gmb", a, x))
    stop_gradient = materialize = function(lambda x: x)
    zero_unless = function(lambda x, *causes: x)

    def with_gradient(self, x, like):
        return x

    def expm1(self, x, bound=None):
        return np.expm1(self.constant(x))

    def log1p(self, x, bound=None):
        return np.log1p(self.constant(x))

    def sum(self, x, axis):
        return np.sum(x, axis)

    def conv(self, x, w, strides, padding, groups=1):
        x, w = self.constant(x), self.constant(w)
        if groups > 1:
            parts = zip(np.split(x, groups, -1), np.split(w, groups, -1), strict=True)
            each = [self.conv(a, b, strides, padding) for a, b in parts]
            return np.concatenate(each, -1)
        sizes, kernel = x.shape[1:-1], w.shape[:-2]
        found = [places(*a, padding) for a in zip(sizes, kernel, strides, strict=True)]
        y = self.zeros((len(x), *(count for count, _ in found), w.shape[-1]))
        for tap, ours, theirs in self._taps(found, sizes, kernel, strides):
            y[ours] += x[theirs] @ w[tap]
        return y

    def conv_transpose(self, x, w, strides, padding, size):
        x, w = self.constant(x), self.constant(w)
        kernel, counts = w.shape[:-2], x.shape[1:-1]
        axes = zip(size, kernel, strides, counts, strict=True)
        found = [places(n, k, s, padding, count) for n, k, s, count in axes]
        y = self.zeros((len(x), *size, w.shape[-1]))
        for tap, ours, theirs in self._taps(found, size, kernel, strides):
            y[theirs] += x[ours] @ w[tap]
        return y

    @staticmethod
    def _taps(found, sizes, kernel, strides):
        """For each tap of the filters, the windows it is in, and what they see there."""
        for tap in itertools.product(*map(range, kernel)):
            ours, theirs = [slice(None)], [slice(None)]
            axes = zip(found, sizes, strides, tap, strict=True)
            for (count, before), n, stride, t in axes:
                p = np.arange(count)
                p = p[(p * stride + t >= before) & (p * stride + t < before + n)]
                first = p[0] * stride + t - before if p.size else 0
                ours.append(slice(p[0], p[-1] + 1) if p.size else slice(0))
                stop = first + (p.size - 1) * stride + 1
                theirs.append(slice(first, stop, stride) if p.size else slice(0))
            yield tap, tuple(ours), tuple(theirs)

    def host_call(self, fn, inputs, sizes):
        if self.again:
            results = self.again.pop(0)
        else:
            arrays = [np.array(self.constant(x)) for x in inputs]
            for array in arrays:
                array.flags.writeable = False
            results = [np.array(y, self.dtype) for y in fn(arrays)]
        batch = [x.shape[-1] for x in inputs[:1]]
        if [y.shape for y in results] != [(size, *batch) for size in sizes]:
            raise SimulationError("a function returned arrays of other shapes")
        self.returned.append(results)
        return results

    def tensor_call(self, function, inputs, weights, training):
        return self.host_call(function.on_host(training), inputs, function.sizes)


class EagerExecutor:
    """One step after the other; each yields what it saw before the next one begins."""

    def __init__(self, task):
        self.layout, self.feed, self.store = task.layout, task.feed, task.store
        self.weights = list(task.weights)
        self.xp = EagerNamespace(self.store.dtype)
        self.one_step = whole_step(self.layout, self.store.batch)
        probes = [(key, a, a + int(np.prod(s))) for key, a, s in self.layout.probes]
        self.probes = tuple(probes)
        self.carry, self.before, self.half = [], None, (None, [])

    def load(self):
        self.carry = self.store.load(self.layout.states, self.layout.carry)
        self.before, self.half = None, (None, [])

    def save(self):
        self.store.save(self.layout.states, self.carry)

    def write(self, weights):
        self.weights = list(weights)

    def has_compiled(self, n_steps):
        return True

    def run(self, start, n_steps):
        for number in range(start, start + n_steps):
            stepwise.waiting.check()
            try:
                rows = self.feed.chunk(number, 1)
            except InputsInterrupted as interrupted:
                raise interrupted.cause from None
            y = self.advance(number, rows)
            yield Seen(1, ((y[None], self.probes, False),))

    def step(self, start):
        ((rows, _, _),) = next(self.run(start, 1)).parts
        return rows

    def advance(self, number, rows):
        """One step after step ``number``; what failed leaves the state as it was."""
        xp = self.xp
        xp.returned, xp.again = [], self.half[1] if self.half[0] == number else []
        try:
            with np.errstate(all="ignore"):
                x = rows[0] if self.layout.n_inputs else None
                after, y = self.one_step(xp, list(self.carry), x, self.weights)
        except BaseException:
            self.half = number, xp.returned
            self.feed.put_back(number, rows)
            raise
        self.before = number, self.carry, rows, xp.returned
        self.carry = [np.array(c, self.store.dtype) for c in after]
        return np.array(y, self.store.dtype)

    def settle(self, step):
        if self.before is not None and self.before[0] == step:  # nobody took the last one
            _, self.carry, rows, returned = self.before
            self.half, self.before = (step, returned), None
            self.feed.put_back(step, rows)


class EagerKind(ExecutorKind):
    """Runs everything, compiles nothing, and pays always."""

    name = "eager"
    capabilities = Capability.PYTHON_IN_LOOP | Capability.SINGLE_STEPS

    def __init__(self):
        self.made = 0

    def namespace(self, dtype):
        return EagerNamespace(dtype)

    def make(self, task):
        self.made += 1
        return EagerExecutor(task)
