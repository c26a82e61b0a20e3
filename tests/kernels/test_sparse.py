"""Sparse matrices against core Nengo."""

import nengo
import numpy as np
import pytest
import scipy.sparse
from nengo.builder.operator import Copy, Reset, SparseDotInc
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError
from nengo.transforms import SparseMatrix

import nengo_dl
from nengo_dl.compiler.graph import Kind
from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.kernels.sparse import _tables, entries
from tests.kernels.kernel_harness import Case, bench_of


def compiled(matrix, trained=False):
    """The graph of one product of a sparse matrix and an input."""

    def build(bench, variant):
        signal = Signal(matrix, name="sparse", readonly=True)
        y = bench.signal((matrix.shape[0],))
        bench.add(Reset(y), SparseDotInc(signal, bench.feed(matrix.shape[1]), y))
        bench.watch(y)
        if trained:
            bench.parameters[signal] = entries(signal)[2]

    bench = bench_of(Case("product", build))
    return compile_model(bench.model, bench.options()).graph


def random_matrix(rng, m, n, share, form="csr"):
    matrix = scipy.sparse.random(m, n, share, "coo", random_state=rng.randint(1000))
    return matrix.asformat(form)


@pytest.mark.parametrize("form", ("coo", "csr", "csc", "bsr"))
def test_entries_make_the_matrix(form, rng, allclose):
    signal = Signal(random_matrix(rng, 7, 5, 0.4, form), name="sparse")
    rows, columns, values = entries(signal)
    found = scipy.sparse.coo_matrix((values, (rows, columns)), (7, 5)).toarray()
    assert allclose(found, signal.initial_value.toarray())
    assert values.any()


def test_entries_keep_the_order_of_the_user():
    indices = np.array([[2, 0], [0, 1], [2, 0]])
    signal = Signal(SparseMatrix(indices, [1.0, 2.0, 3.0], (3, 2)), name="sparse")
    rows, columns, values = entries(signal)
    assert np.array_equal(np.stack([rows, columns], 1), indices)
    assert values.tolist() == [1, 2, 3]


def test_tables():
    rows = np.array([5, 0, 5, 2, 2, 5, 7, 2, 2])
    found = {tuple(chosen): table.tolist() for chosen, table in _tables(rows, 9)}
    assert found == {(0, 7): [[1, 6]], (2, 5): [[3, 0], [4, 2], [7, 5], [8, -1]]}
    assert list(_tables(rows[:0], 9)) == []


def test_constant_matrices_become_terms(rng):
    matrix = random_matrix(rng, 60, 60, 0.02)
    graph = compiled(matrix)
    assert graph.nodes == ()
    assert graph.src.size == matrix.nnz
    filled = np.count_nonzero(np.diff(matrix.indptr))
    assert np.count_nonzero(graph.kind == Kind.SUM) == filled


def test_full_matrices_are_multiplied_as_such(rng):
    graph = compiled(random_matrix(rng, 60, 60, 0.2))
    assert [node.kernel.name for node in graph.nodes] == ["matmul"]


def test_trained_matrices_have_a_sum_for_each_number_of_entries(rng):
    matrix = random_matrix(rng, 60, 60, 0.05)
    counts = np.diff(matrix.indptr)
    sizes = {int(np.ceil(2 * np.log2(n))) for n in counts[counts > 0]}
    graph = compiled(matrix, trained=True)
    assert {node.kernel.name for node in graph.nodes} == {"weighted_sum"}
    assert len(graph.nodes) == len(sizes) > 1


def test_empty_matrix():
    matrix = scipy.sparse.csr_matrix((4, 3))
    for trained in (False, True):
        graph = compiled(matrix, trained)
        assert graph.nodes == ()
        assert not graph.value[graph.probes[0].elements].any()


def test_a_matrix_that_changes_is_refused(rng):
    signal = Signal(random_matrix(rng, 4, 3, 0.5), name="changing")

    def build(bench, variant):
        y = bench.signal((4,))
        bench.add(Reset(y), SparseDotInc(signal, bench.feed(3), y))
        bench.add(Copy(bench.feed(4), bench.signal((4,))))
        bench.model.operators[-1].sets.append(signal)
        bench.watch(y)

    with pytest.raises(BuildError, match="changing.*changed by another operator"):
        compiled_bench = bench_of(Case("changing", build))
        compile_model(compiled_bench.model, compiled_bench.options())


@pytest.mark.parametrize("jit, minibatch_size", ((False, None), (True, 3)))
def test_networks_equal_core(jit, minibatch_size, rng, allclose):
    """Constant and with parameters as arguments, in feedback and outside of it."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        stimulus = nengo.Node(lambda t: np.sin(60 * t + np.arange(50)))
        layer = nengo.Ensemble(80, 1, gain=np.ones(80), bias=np.ones(80))
        matrix = random_matrix(rng, 80, 50, 0.3)
        sparse = nengo.Sparse((80, 50), init=matrix)
        nengo.Connection(stimulus, layer.neurons, transform=sparse, synapse=None)
        recurrent = nengo.Sparse(
            (80, 80),
            indices=rng.randint(0, 80, size=(200, 2)),
            init=nengo.dists.Uniform(-0.01, 0.01),
        )
        nengo.Connection(layer.neurons, layer.neurons, transform=recurrent)
        node = nengo.Node(size_in=4)
        readout = nengo.Sparse((4, 80), indices=[[0, 3], [2, 7], [0, 79], [0, 3]], init=2)
        nengo.Connection(layer.neurons, node, transform=readout, synapse=0.01)
        probes = [nengo.Probe(layer.neurons), nengo.Probe(node)]
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run(0.05)
    for opened in (False, True):
        sim = nengo_dl.Simulator(net, progress_bar=False, minibatch_size=minibatch_size)
        with sim:
            if opened:
                sim._program.written()
            sim.run(0.05)
            for probe in probes:
                assert np.abs(core.data[probe]).max() > 0.1
                found = np.reshape(sim.data[probe], (-1, *core.data[probe].shape))
                for item in found:
                    assert allclose(item, core.data[probe], rtol=1e-10, atol=1e-10)
