"""Traits: what may be merged with what, what equals what."""

import numpy as np
import pytest

from nengo_dl.compiler.graph import Node, ParameterRef
from nengo_dl.compiler.traits import Kernel, Params
from nengo_dl.kernels import algebra, functions
from nengo_dl.kernels.learning import pes
from tests.compiler.helpers import NOISE


class Gain(Kernel):
    name = "gain"
    vectors = ("gain",)
    matrices = ("A",)
    merge_limit = 10

    def step(self, xp, p, x):
        return (p.gain * x,)


class Plain(Kernel):
    """Says nothing of itself."""

    def step(self, xp, p, x):
        return (x,)


GAIN = Gain()


def node(kernel=GAIN, size=3, n_inputs=1, **params):
    params = {"gain": np.ones(size), "A": np.ones((size, 2)), "mode": "x", **params}
    inputs = tuple(np.arange(2) for _ in range(n_inputs))
    return Node(kernel, inputs, ((10, size),), params, order=1)


def test_static_are_the_parameters_that_are_no_arrays():
    assert GAIN.static(node(dt=0.1)) == (("dt", 0.1), ("mode", "x"))


def test_merge_key_ignores_the_values_of_arrays():
    a, b = node(), node(gain=np.zeros(3), A=np.zeros((3, 2)))
    assert GAIN.merge_key(a) == GAIN.merge_key(b)


@pytest.mark.parametrize(
    "other",
    [
        node(mode="y"),
        node(A=np.ones((3, 1))),
        node(n_inputs=2),
        Node(GAIN, (np.arange(3),), ((0, 3),), node().params, 1),
        Node(GAIN, (np.arange(2),), ((0, 3), (3, 3)), node().params, 1),
    ],
    ids=["static", "shape of a matrix", "inputs", "size of an input", "outputs"],
)
def test_merge_key_differs(other):
    assert GAIN.merge_key(node()) != GAIN.merge_key(other)


def test_nodes_beyond_the_merge_limit_run_alone():
    a, b = node(size=11), node(size=11)
    assert GAIN.merge_key(a) != GAIN.merge_key(b)
    assert GAIN.merge_key(node(size=10)) == GAIN.merge_key(node(size=10))


def test_python_is_never_merged():
    params = {"function": print, "sizes": (2,)}
    nodes = [Node(functions.PYTHON, (), ((0, 2),), params, 1) for _ in range(2)]
    assert len({functions.PYTHON.merge_key(n) for n in nodes}) == 2


def test_matrices_that_are_parameters_merge_with_constants():
    a, b = node(), node(A=ParameterRef("w", (3, 2)))
    assert GAIN.merge_key(a) == GAIN.merge_key(b)


def test_fingerprint_is_equal_for_equal_values():
    a, b = node(gain=np.arange(3.0)), node(gain=np.arange(3.0))
    assert GAIN.fingerprint(a) == GAIN.fingerprint(b)
    assert hash(GAIN.fingerprint(a)) == hash(GAIN.fingerprint(b))


@pytest.mark.parametrize(
    "other",
    [
        node(mode="y"),
        node(gain=np.zeros(3)),
        node(A=np.zeros((3, 2))),
        node(A=np.ones((2, 3))),
        node(A=ParameterRef("w", (3, 2))),
        node(size=4),
    ],
)
def test_fingerprint_differs_with_any_value(other):
    assert GAIN.fingerprint(node()) != GAIN.fingerprint(other)


def test_fingerprint_of_references():
    """Equal for the same part of the same parameter only, whatever its value is."""
    key, equal = ["w"], ["w"]

    def print_of(key, index=None):
        return GAIN.fingerprint(node(A=ParameterRef(key, (3, 2), index)))

    assert print_of(key) == print_of(key)
    assert print_of(key) != print_of(equal)
    assert print_of(key) != print_of(key, np.arange(6))
    assert print_of(key, np.arange(6)) == print_of(key, np.arange(6))
    assert print_of(key, np.arange(6)) != print_of(key, np.arange(1, 7))


def test_what_has_side_effects_or_draws_equals_nothing():
    class Effect(Plain):
        side_effects = True

    assert functions.PYTHON.fingerprint(node(functions.PYTHON)) is None
    assert Effect().fingerprint(node(Effect())) is None
    assert NOISE.fingerprint(node(NOISE)) is None


def test_cost_counts_entries_of_matrices_else_outputs():
    def cost(*sizes):
        outputs = tuple((0, size) for size in sizes)
        return Plain().cost(Node(Plain(), (), outputs, {}, 1))

    assert GAIN.cost(node(size=3)) == 6
    assert cost(3, 4) == cost(7) == cost(14) / 2 > 0


def test_derive_passes_on_parameters():
    params = {"a": 1}
    assert Plain().derive(params) == params


def test_step_has_to_be_written():
    class Idle(Kernel):
        pass

    with pytest.raises(TypeError, match="abstract class Idle .* '?step'?"):
        Idle()


def test_params_are_attributes():
    p = Params(dt=0.1, groups=2)
    assert (p.dt, p.groups) == (0.1, 2)
    assert not hasattr(p, "other")


def test_repr_names_the_kernel():
    assert repr(GAIN) == "<Gain gain>"


def test_defaults_are_the_careful_ones():
    """What says nothing may be compiled, but keeps nothing zero and merges freely."""
    assert not (Kernel.zero_preserving or Kernel.host or Kernel.side_effects)
    assert Kernel.differentiable
    assert Kernel.matrix is None and Kernel.merge_limit is None


def test_large_learned_matrices_stay_where_they_are():
    def varying(m, k):
        inputs = (np.arange(m * k), np.arange(k))
        kernel = algebra.VARYING_MATVEC
        return Node(kernel, inputs, ((0, m),), {"shape": (m, k)}, 1)

    merge_key = algebra.VARYING_MATVEC.merge_key
    assert merge_key(varying(4, 8)) == merge_key(varying(4, 8))
    assert merge_key(varying(100, 100)) != merge_key(varying(100, 100))


def test_outer_products_of_one_shape_and_factor_merge():
    def delta(size=6, factor=0.1):
        params = {"shape": (2, 3), "factor": factor}
        inputs = (np.arange(2), np.arange(3))
        return Node(pes.PES_DELTA, inputs, ((0, size),), params, 1)

    merge_key = pes.PES_DELTA.merge_key
    assert merge_key(delta()) == merge_key(delta())
    assert merge_key(delta()) != merge_key(delta(factor=0.2))
    large = pes.PES_DELTA.merge_limit + 1
    assert merge_key(delta(large)) != merge_key(delta(large))
