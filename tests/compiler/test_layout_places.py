"""Places: how operations find their inputs, and what the arguments of a program are."""

import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, ParameterRef
from nengo_dl.compiler.layout import WeightRef
from nengo_dl.compiler.pipeline import arrange
from nengo_dl.kernels.algebra import MATVEC, SUM
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from tests.compiler.helpers import SQUASH, TWIST, add, case, copy, matvec, probe
from tests.compiler.programs import compare_random, compiled, layouts


def test_reads_are_slices_in_the_order_of_the_readers(rng, allclose):
    """Sums that two ensembles read lie as those read them, however they were made."""
    b = GraphBuilder()
    x = b.input("x", 8)
    first, second = copy(b, x[4:], bias=1), copy(b, x[:4], bias=1)
    outputs = [b.node(SQUASH, [currents], [4], {})[0] for currents in (second, first)]
    graph = b.build([probe(*outputs)])
    for it in compare_random(allclose, rng, graph):
        squash = next(g for g in it.groups() if g.kernel is SQUASH)
        assert squash.reads[0].form == "slice"


def test_reads_of_few_runs_are_concatenated_of_many_gathered(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 40)
    few = matvec(b, np.ones((7, 20)), np.concatenate([x[20:30], x[:10]]))
    many = matvec(b, np.ones((9, 20)), x[::2])
    graph = b.build([probe(few, many)])
    for it in compare_random(allclose, rng, graph):
        forms = {
            g.reads[0].size + it.sizes[g.outputs[0]]: g.reads[0] for g in it.groups()
        }
        assert (forms[27].form, forms[29].form) == ("concat", "gather")
        assert len(forms[27].parts) == 2
        assert len(forms[29].parts) == 1


@pytest.mark.parametrize("name", ["mixed", "filtered_rates", "sigmoid"])
def test_plain_networks_gather_nothing(name):
    for it in layouts(compiled(case(name).graph)):
        reads = [read.form for group in it.groups() for read in group.reads]
        assert reads and "gather" not in reads


def sum_groups(it):
    return [group for group in it.groups() if group.kernel is SUM]


def test_sums_are_bucketed_by_their_number_of_terms(rng, allclose):
    b = GraphBuilder()
    x, n_terms = b.input("x", 4), [0, 1, 1, 2, 3, 4, 5, 8, 9]
    rows = np.repeat(np.arange(9), n_terms)
    y = b.sum(np.ones(9), rows, x[rng.randint(4, size=rows.size)], np.ones(rows.size))
    for it in compare_random(allclose, rng, b.build([probe(y)])):
        buckets = {g.params["terms"]: it.sizes[g.outputs[0]] for g in sum_groups(it)}
        assert buckets == {0: 1, 1: 2, 2: 1, 4: 2, 8: 2, 9: 1}


@pytest.mark.parametrize(
    "scales, bias, expected",
    [
        ([1, 1], [0, 0], (None, None)),
        ([2, 2], [0, 0], (2.0, None)),
        ([1, 2], [0, 3], ("weight", "weight")),
    ],
)
def test_factors_and_biases_are_left_out_where_they_can_be(
    rng, allclose, scales, bias, expected
):
    b = GraphBuilder()
    y = b.sum(bias, np.arange(2), b.input("x", 2), np.array(scales, float))
    for it in compare_random(allclose, rng, b.build([probe(y)])):
        (group,) = sum_groups(it)
        params = [group.params[name] for name in ("scale", "bias")]
        found = ["weight" if isinstance(p, WeightRef) else p for p in params]
        assert tuple(found) == expected


def weights_of(it, group, name):
    ref = group.params[name]
    return it.weights[ref.number] if isinstance(ref, WeightRef) else ref


def test_vectors_with_equal_entries_are_one_number(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 3), b.input("y", 2)
    outputs = []
    for elements, a in ((x, np.full(3, 0.9)), (y, np.array([0.8, 0.7]))):
        params = {"a": a, "b": np.full(elements.size, 0.1)}
        outputs += b.node(ONE_STATE, [elements, elements], [elements.size], params)
    for it in compare_random(allclose, rng, b.build([probe(*outputs)])):
        (group,) = it.groups()
        assert weights_of(it, group, "b") == 0.1
        weight = weights_of(it, group, "a")
        assert weight.form == "column" and weight.constant
        assert np.array_equal(np.concatenate(weight.items), [0.9, 0.9, 0.9, 0.8, 0.7])


@pytest.mark.parametrize("width", [1, 3])
def test_equal_constant_matrices_are_stored_once(rng, allclose, width):
    b = GraphBuilder()
    matrix, outputs = rng.uniform(1, 2, size=(5, width)), []
    for k in range(3):
        outputs.append(matvec(b, matrix.copy(), b.input(f"x{k}", width)))
    for it in compare_random(allclose, rng, b.build([probe(*outputs)])):
        (group,) = it.groups()
        assert group.params["groups"] == 3
        assert len(weights_of(it, group, "A").items) == 1


def test_matrices_that_may_change_are_stored_one_by_one(rng, allclose):
    """Other values, or the same parameter twice; next to a constant."""
    b = GraphBuilder()
    matrices = [ParameterRef("v", (5, 3)), ParameterRef("v", (5, 3), np.arange(15)[::-1])]
    matrices += [rng.uniform(size=(5, 3)), ParameterRef("w", (5, 3))]
    outputs = [matvec(b, m, b.input(k, 3)) for k, m in enumerate(matrices)]
    for it in compare_random(allclose, rng, b.build([probe(*outputs)])):
        (group,) = (g for g in it.groups() if g.kernel is MATVEC)
        weight = weights_of(it, group, "A")
        assert weight.form == "stack" and not weight.constant
        assert [item is m for item, m in zip(weight.items, matrices)] == [True] * 4


def test_all_parameters_are_one_column(rng, allclose):
    b = GraphBuilder()
    v, x, w = b.parameter("v", 2), b.input("x", 2), b.parameter("w", 3)
    graph = b.build([probe(add(b, v, x), copy(b, w, bias=1))])
    for it in compare_random(allclose, rng, graph):
        (weight,) = (weight for weight in it.weights if not weight.constant)
        assert weight.form == "column"
        assert [(item.key, item.shape) for item in weight.items] == [
            ("v", (2,)),
            ("w", (3,)),
        ]


def test_labels_are_those_of_the_nodes():
    b = GraphBuilder()
    x = b.input("x", 2)
    nodes = [b.node(SQUASH, [x], [2], {}, label=f"node {k}")[0] for k in range(3)]
    (group,) = arrange(b.build([probe(*nodes)])).groups()
    assert group.labels == ("node 0", "node 1", "node 2")


def test_kernels_with_several_outputs_write_several_tensors(rng, allclose):
    b = GraphBuilder()
    outputs, next_states = [], []
    for n in (2, 3):
        x, state = b.input(n, n), b.state(np.zeros(n))
        y, z = b.node(TWIST, [x, state], [n, n], {"gain": rng.uniform(size=n)})
        outputs.append(z)
        next_states.append((state, y))
    graph = b.build([probe(*outputs)], next_states=next_states)
    for it in compare_random(allclose, rng, graph):
        (group,) = it.loop.groups
        assert [it.sizes[n] for n in group.outputs] == [5, 5]
