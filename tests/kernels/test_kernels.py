"""Every kernel against core Nengo: tiers, types, batches, merging, gradients, traits."""

from functools import cache
from itertools import combinations

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.kernels.algebra import MatVec
from nengo_dl.kernels.neurons.lif import LIFKernel
from nengo_dl.kernels.neurons.rectified_linear import RectifiedLinearKernel
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from tests.kernels.kernel_cases import CASES
from tests.kernels.kernel_coverage import (
    all_kernels,
    benches_without_merging,
    covered_by,
    forgotten,
    registered,
    runs_python,
)
from tests.kernels.kernel_gradients import GRADIENT, Point, analytic, gradient_errors
from tests.kernels.kernel_harness import (
    ITEMS,
    MANY_STEPS,
    NAMESPACES,
    ONE_STEP,
    Step,
    bench_of,
    merged,
    mismatches,
    one_step,
    scale,
    simulate,
    trajectory,
)

COMPILED = tuple(case for case in CASES if not runs_python(case))
MEMORYLESS = tuple(
    case for case in CASES if not (case.own_state or runs_python(case, ahead=True))
)
SMOOTH = tuple(
    case
    for case in COMPILED
    if all(kernel.differentiable for kernel in covered_by(case)["kernel"])
)
BY_NAME = {case.name: case for case in CASES}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_compiled = pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
each_dtype = pytest.mark.parametrize("dtype", ("float32", "float64"))
each_batch = pytest.mark.parametrize("batch", (1, ITEMS))


@cache
def prepared(cases, variants=1, rough=True):
    """A bench, and what core makes of it: ``(items, steps, size)`` for each watch."""
    bench = bench_of(*cases, variants=variants, rough=rough)
    items = [trajectory(bench, item)[0] for item in range(ITEMS)]
    return bench, [np.stack(watched) for watched in zip(*items)]


def assert_equals_core(cases, variants, tier, dtype, batch):
    bench, core = prepared(cases, variants)
    ours = simulate(bench, tier, dtype, batch)
    expected = [values[:batch] for values in core]
    assert mismatches(bench.watches, ours, expected, MANY_STEPS, dtype) == []


# -- nothing is forgotten --------------------------------------------------------------


def test_everything_registered_has_a_case():
    wanted = registered()
    assert {len(classes) > 0 for classes in wanted.values()} == {True}
    assert forgotten(wanted, CASES) == []


def test_what_has_no_case_is_named():
    wanted = {"neuron type": {nengo.LIF, nengo.Tanh}, "kernel": {MatVec, LIFKernel}}
    cases = [BY_NAME["lif"], BY_NAME["matrix"]]
    assert forgotten(wanted, cases) == ["neuron type Tanh"]
    assert forgotten(wanted, cases[:1]) == ["neuron type Tanh", "kernel MatVec"]


def test_case_names_are_unique():
    assert len(BY_NAME) == len(CASES)


# -- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", MEMORYLESS, ids=lambda case: case.name)
@each_dtype
def test_one_step(case, dtype):
    bench, _ = prepared((case,))
    for namespace in NAMESPACES:
        ours, core = one_step(bench, namespace, dtype)
        assert mismatches(bench.watches, ours, core, ONE_STEP, dtype) == []


@each_case
@each_dtype
@each_batch
@pytest.mark.parametrize("variants", (1, 2), ids=("alone", "merged"))
def test_many_steps_in_numpy(case, dtype, batch, variants):
    assert_equals_core((case,), variants, "numpy", dtype, batch)


# Compiling takes a second, so many cases are compiled at once: in groups in which none is
# merged with another, and all of them, twice. Each two of type, batch and merging meet.


@pytest.mark.parametrize("group", benches_without_merging(COMPILED))
@pytest.mark.parametrize(
    "tier, dtype, batch",
    (
        ("jitted", "float32", 1),
        ("jitted", "float64", ITEMS),
        ("tensorflow", "float64", 1),
        ("tensorflow", "float32", ITEMS),
        ("native", "float64", ITEMS),
    ),
)
def test_many_steps_alone(group, tier, dtype, batch):
    assert_equals_core(group, 1, tier, dtype, batch)


@pytest.mark.parametrize(
    "tier, dtype, batch",
    (
        pytest.param("jitted", "float64", 1, marks=pytest.mark.as_users),
        pytest.param("jitted", "float32", ITEMS, marks=pytest.mark.as_users),
        ("tensorflow", "float32", 1),
        ("tensorflow", "float64", ITEMS),
        ("native", "float32", 1),
    ),
)
def test_many_steps_merged(tier, dtype, batch):
    assert_equals_core(COMPILED, 2, tier, dtype, batch)


@pytest.mark.parametrize(
    "tier, dtype, batch",
    (
        ("tensorflow", "float64", 1),
        ("tensorflow", "float32", ITEMS),
        ("program", "float32", 1),
        ("program", "float64", ITEMS),
        ("native", "float64", ITEMS),
    ),
)
def test_python_with_what_is_compiled(tier, dtype, batch):
    python = tuple(case for case in CASES if runs_python(case))
    assert_equals_core(python, 1, tier, dtype, batch)


@each_case
def test_variants_are_merged(case):
    alone, both = merged(bench_of(case)), merged(bench_of(case, variants=2))
    if case.merges:
        expected = {name: [2 * n for n in counts] for name, counts in alone.items()}
    else:
        expected = {name: sorted(counts * 2) for name, counts in alone.items()}
    assert both == expected


def test_groups_are_not_merged():
    groups = benches_without_merging(COMPILED)
    assert sorted(c.name for g in groups for c in g) == sorted(c.name for c in COMPILED)
    for group in groups:
        alone = [merged(bench_of(case)) for case in group]
        together = merged(bench_of(*group))
        for name, counts in together.items():
            assert counts == sorted(n for one in alone for n in one.get(name, ()))


# -- gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
@pytest.mark.parametrize("variants", (1, 2), ids=("alone", "merged"))
def test_gradients_equal_differences(case, variants):
    point = Point.of(bench_of(case, variants=variants, rough=False))
    for fast, turn in ((False, False), (True, False), (True, True)):
        gradients = analytic(point, fast, turn=turn)
        errors = gradient_errors(point, gradients)
        assert max(errors) < GRADIENT, (errors, fast, turn)
        assert max(np.abs(g).max(initial=0) for g in gradients) > 0.01


@each_compiled
def test_gradients_are_finite_on_kinks(case):
    point = Point.of(bench_of(case), mixed=False)
    for fast in (False, True):
        assert all(np.isfinite(g).all() for g in analytic(point, fast))


def covering(cases):
    """Those of the cases that have a kernel which none before has, four at a time."""
    chosen, covered = [], set()
    for case in cases:
        mine = covered_by(case)["kernel"]
        if not mine <= covered:
            chosen.append(case)
            covered |= mine
    assert covered == {k for k in all_kernels() if not k.host}
    return [tuple(chosen[k : k + 4]) for k in range(0, len(chosen), 4)]


# Compiling all cases takes too long. Those that remain are shared among the processes.


@pytest.mark.parametrize("group", covering(COMPILED))
def test_jitted_gradients(group):
    point = Point.of(bench_of(*group, variants=2, rough=False))
    gradients = analytic(point, fast=True, jit=True)
    for found, expected in zip(gradients, analytic(point, fast=False), strict=True):
        assert np.abs(found - expected).max(initial=0) <= 1e-12 * scale(expected)


@pytest.mark.parametrize("kernel", [k for k in all_kernels() if not k.differentiable])
def test_no_gradient(kernel):
    case = next(c for c in CASES if covered_by(c)["kernel"] == {kernel})
    bench = bench_of(case, rough=False)
    assert {type(k) for k in Step(bench, 1).kernels()} == {kernel}
    gradients = analytic(Point.of(bench), fast=False)
    assert all(not g.any() for g in gradients)


# -- traits ----------------------------------------------------------------------------


@each_case
def test_zeros_stay_zeros(case):
    step = Step(bench_of(case), ITEMS)
    for namespace in (NumpyNamespace("float64"), TensorFlowNamespace("float32")):
        dtype = namespace.dtype.name
        for kernel, p, read, written in step.applications(dtype):
            if kernel.host:
                assert not kernel.zero_preserving
                continue
            zeros = [np.zeros((size, ITEMS), dtype) for size in read]
            outputs = kernel.step(namespace, p, *zeros)
            assert [np.shape(y)[0] for y in outputs] == written
            if kernel.zero_preserving:
                assert not any(np.any(y) for y in outputs), kernel
            if kernel.zero_inputs is not None:
                some = [np.ones((size, ITEMS), dtype) for size in read]
                for k in kernel.zero_inputs:
                    some[k] = zeros[k]
                assert kernel.zero_preserving
                assert not any(np.any(y) for y in kernel.step(namespace, p, *some))


@each_case
def test_traits_fit_the_nodes(case):
    for node in Step(bench_of(case, variants=2), 1).nodes():
        kernel = node.kernel
        assert set(kernel.vectors) | set(kernel.matrices) <= set(node.params)
        for name in kernel.vectors:
            assert np.shape(node.params[name]) == (node.size,)
        for name in kernel.matrices:
            assert isinstance(node.params[name], (np.ndarray, ParameterRef))
        if kernel.matrix is not None:
            assert kernel.matrices == (kernel.matrix,) and len(node.inputs) == 1
            shape = node.params[kernel.matrix].shape
            assert shape == (node.size, node.inputs[0].size)
        assert hash(kernel.static(node)) == hash(kernel.static(node))
        assert hash(kernel.merge_key(node)) == hash(kernel.merge_key(node))
        assert (kernel.fingerprint(node) is None) == (kernel.host or kernel.side_effects)
        assert kernel.cost(node) >= 0
        assert all(0 <= i < len(node.inputs) for i in kernel.materialize)


def test_fingerprints_tell_parameters_apart():
    nodes = Step(bench_of(*COMPILED, variants=2), 1).nodes()
    equal = 0
    for a, b in combinations(nodes, 2):
        if a.kernel is not b.kernel:
            continue
        sizes = [size for _, size in a.outputs] == [size for _, size in b.outputs]
        expected = sizes and same_parameters(a.params, b.params)
        assert (a.kernel.fingerprint(a) == b.kernel.fingerprint(b)) == expected, (a, b)
        equal += expected
    assert equal > 5


def same_parameters(a, b):
    """Whether two nodes of one kernel have the same parameters."""

    def same(x, y):
        if isinstance(x, ParameterRef) or isinstance(y, ParameterRef):
            return x is y
        return np.array_equal(x, y)

    return all(same(a[name], b[name]) for name in {*a, *b})


def test_names_are_unique_and_everything_is_described():
    found = all_kernels()
    names = [kernel.name for kernel in found]
    assert len(set(names)) == len(names)
    for kernel in found:
        assert kernel.__doc__ and len(kernel.__doc__) > 20, kernel
        assert kernel.step.__doc__, kernel


# -- the harness itself ----------------------------------------------------------------


def spoil(monkeypatch, change):
    """Change the output of one kernel; returns a bench with it."""
    step = RectifiedLinearKernel.step

    def wrong(self, xp, p, current):
        return (change(xp, step(self, xp, p, current)[0]),)

    monkeypatch.setattr(RectifiedLinearKernel, "step", wrong)
    return bench_of(BY_NAME["rectified_linear"], rough=False)


def test_wrong_values_are_noticed(monkeypatch):
    bench = spoil(monkeypatch, lambda xp, y: y * (1 + 1e-9))
    for namespace in NAMESPACES:
        ours, core = one_step(bench, namespace, "float64")
        found = mismatches(bench.watches, ours, core, ONE_STEP, "float64")
        assert len(found) == 1 and "rectified_linear[0]" in found[0]


def test_missing_values_are_noticed(monkeypatch):
    bench = spoil(monkeypatch, lambda xp, y: y / xp.sign(y))
    ours, core = one_step(bench, "numpy", "float64")
    assert len(mismatches(bench.watches, ours, core, ONE_STEP, "float64")) == 1


def test_wrong_gradients_are_noticed(monkeypatch):
    bench = spoil(monkeypatch, lambda xp, y: 1.5 * y - 0.5 * xp.stop_gradient(y))
    point = Point.of(bench)
    assert max(gradient_errors(point, analytic(point, fast=True))) > 1e4 * GRADIENT
