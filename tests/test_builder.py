"""What users register: operators, objects of networks; the examples of the manual."""

import re
import warnings
from pathlib import Path

import nengo
import numpy as np
import pytest
from nengo.builder import Builder as CoreBuilder
from nengo.builder import Model
from nengo.builder.operator import Operator, Reset
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl.builder import (
    Builder,
    Kernel,
    NengoBuilder,
    NeuronKernel,
    OpBuilder,
    PythonOpBuilder,
)
from nengo_dl.compiler.traits import operators
from nengo_dl.kernels.neurons.base import neuron_kernels
from tests import networks
from tests.runtime.native_code import pytestmark_native

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(autouse=True)
def own_registries(monkeypatch):
    """What is registered is forgotten after the test."""
    for owner, name in (
        (operators, "_entries"),
        (neuron_kernels, "_entries"),
        (NengoBuilder, "builders"),
        (CoreBuilder, "builders"),
    ):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))


class Scale(Operator):
    """``y = 3 x``."""

    def __init__(self, x, y):
        super().__init__()
        self.reads, self.sets, self.incs, self.updates = [x], [y], [], []

    def make_step(self, signals, dt, rng):
        x, y = signals[self.reads[0]], signals[self.sets[0]]

        def step():
            y[...] = 3 * x

        return step


class Scaler(nengo.Node):
    """A node that scales."""


def build_scaler(model, node):
    x, y = Signal(shape=(2,), name="x"), Signal(shape=(2,), name="y")
    model.sig[node]["in"], model.sig[node]["out"] = x, y
    model.params[node] = "scaler"
    model.add_op(Reset(x))
    model.add_op(Scale(x, y))


def network(synapse=0.01):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp, node = nengo.Node(networks.waves(2)), Scaler(size_in=2)
        out = nengo.Node(size_in=2)
        nengo.Connection(inp, node, synapse=0.01)
        nengo.Connection(node, out, transform=[[0, 1], [1, 0]], synapse=synapse)
        nengo.Probe(out)
    return net


def output(sim, n_steps=30):
    with sim:
        sim.run_steps(n_steps)
        return sim.data[sim.model.probes[0]]


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, progress_bar=False, **kwargs)


# -- operators -------------------------------------------------------------------------


@pytest.mark.parametrize("jit", (False, True))
def test_a_native_operator(allclose, jit):
    class ScaleKernel(Kernel):
        name = "scale"

        def step(self, xp, p, x):
            return (p.factor * x,)

    @Builder.register(Scale)
    class ScaleBuilder(OpBuilder):
        def lower(self, op, low):
            x = low.read(op.reads[0])
            params = {"factor": 3.0}
            (y,) = low.node(ScaleKernel(), [x], [x.size], params, label=str(op))
            low.define(op.sets[0], y)

    CoreBuilder.register(Scaler)(build_scaler)
    net = network()
    expected = output(nengo.Simulator(net, progress_bar=False))
    with net:
        nengo_dl.configure_settings(jit=jit)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sim = simulator(net)
    assert allclose(output(sim), expected, atol=1e-12)
    assert np.ptp(expected) > 0.1


@pytestmark_native
@pytest.mark.parametrize("complete", (False, True))
def test_a_python_operator_without_a_warning(allclose, complete):
    """It is called outside of the compiled loop if it needs nothing of the past."""

    @Builder.register(Scale)
    class ScaleBuilder(PythonOpBuilder):
        def carries(self, op):
            return () if complete else super().carries(op)

    CoreBuilder.register(Scaler)(build_scaler)
    net = network(synapse=None)
    expected = output(nengo.Simulator(net, progress_bar=False))
    with net:
        nengo_dl.configure_settings(jit=True)
    for batch in (None, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            sim = simulator(net, minibatch_size=batch)
        program = sim._program
        found = output(sim)
        assert allclose(found, np.broadcast_to(expected, found.shape), atol=1e-12)
        (name,) = {name for _, name in program._executors}
        assert name == ("staged" if complete else "native")


def test_what_is_registered_twice_warns():
    @Builder.register(Scale)
    class First(PythonOpBuilder):
        """The first."""

    with pytest.warns(UserWarning, match="Scale already has a builder, First") as found:

        @Builder.register(Scale)
        class Second(PythonOpBuilder):
            """The second."""

    assert found[0].filename == __file__
    assert isinstance(operators.exact(Scale), Second)
    with pytest.warns(UserWarning, match="Reset already has a builder"):
        Builder.register(Reset)(Second)


def test_what_is_no_builder_is_refused():
    class NoLower(OpBuilder):
        pass

    with pytest.raises(TypeError, match=r"NoLower has no method lower\(op, low\)"):
        Builder.register(Scale)(NoLower)
    for wrong in (Scale, PythonOpBuilder(), lambda op, low: None):
        with pytest.raises(TypeError, match="expected a subclass of .*OpBuilder"):
            Builder.register(Scale)(wrong)
    with pytest.raises(TypeError, match="expected a class"):
        Builder.register("Scale")(PythonOpBuilder)
    assert operators.exact(Scale) is None


def test_operator_builders_of_earlier_versions_are_ignored_aloud(allclose):
    """The module that has one can be imported, and the operator runs as Python."""
    with pytest.warns(
        UserWarning, match="Older was written for NengoDL 3.*Scale"
    ) as found:

        @Builder.register(Scale, Reset)
        class Older(OpBuilder):
            def __init__(self, ops, signals, config):
                super().__init__()

            def build_step(self, signals):
                """As it was in NengoDL 3."""

    assert found[0].filename == __file__ and "lower(self, op, low)" in str(
        found[0].message
    )
    assert operators.exact(Scale) is None
    assert operators.exact(Reset) is not None
    CoreBuilder.register(Scaler)(build_scaler)
    net = network()
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(20)
    with (
        pytest.warns(UserWarning, match="no native form of the operator Scale"),
        nengo_dl.Simulator(net, progress_bar=False) as sim,
    ):
        sim.run_steps(20)
    (probe,) = net.probes
    assert allclose(sim.data[probe], core.data[probe], atol=1e-12)
    assert core.data[probe].any()


# -- objects ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:NengoDL knows no native form")
def test_objects_of_ones_own(allclose):
    """A build function for our simulator only; core's has its own or none."""
    NengoBuilder.register(Scaler)(build_scaler)
    net = network()
    sim = simulator(net)
    assert isinstance(sim.model.builder, NengoBuilder)
    (scaler,) = [node for node in net.nodes if isinstance(node, Scaler)]
    assert sim.model.params[scaler] == "scaler"
    found = output(sim)
    core = output(nengo.Simulator(net, progress_bar=False))  # an ordinary node
    assert Scaler not in CoreBuilder.builders
    assert allclose(found, 3 * core, atol=1e-12)


def test_the_closest_class_is_built_and_ours_come_first():
    built = []

    class Sub(Scaler):
        """A subclass of an object of one's own."""

    class SubSub(Sub):
        """And one of that."""

    @NengoBuilder.register(Sub)
    def build_sub(model, node, *args, **kwargs):
        built.append((node, args, kwargs))
        model.params[node] = None
        return "result"

    @CoreBuilder.register(SubSub)
    def build_in_core(model, node):
        raise AssertionError("core's come second")

    with nengo.Network():
        node, plain = SubSub(size_in=1), nengo.Node(size_in=1)
    model = Model(builder=NengoBuilder())
    assert model.build(node, 1, a=2) == "result"
    assert built == [(node, (1,), {"a": 2})]
    with pytest.warns(UserWarning, match="already been built"):
        assert model.build(node) is None
    model.build(plain)
    assert plain in model.params and len(built) == 1
    with pytest.raises(BuildError, match="Cannot build object of type 'int'"):
        model.build(1)


def test_build_functions_registered_twice_warn():
    NengoBuilder.register(Scaler)(build_scaler)
    with pytest.warns(UserWarning, match="already has a builder"):
        NengoBuilder.register(Scaler)(build_scaler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NengoBuilder.register(nengo.Node)(build_scaler)  # in core there is another one


def test_a_model_keeps_its_builder():
    model = Model()
    with nengo.Network() as net:
        nengo.Node(size_in=1)
    with nengo_dl.Simulator(net, model=model, progress_bar=False) as sim:
        assert sim.model is model
        assert type(sim.model.builder) is CoreBuilder


# -- the manual ------------------------------------------------------------------------


def code_blocks(page):
    """The Python code of a page of the manual, as one program with the same lines."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    code, inside = [], False
    for line in lines:
        if line.startswith(".. code-block:: python"):
            inside = True
            line = ""
        elif re.match(r"\S", line):
            inside = False
        code.append(line[3:] if inside else "")
    return "\n".join(code)


def test_the_examples_of_the_manual(allclose):
    """`docs/extending.rst` runs from top to bottom, and warns where it says so."""
    code = code_blocks("extending.rst")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        names = {}
        exec(compile(code, DOCS / "extending.rst", "exec"), names)
    messages = [str(w.message) for w in found if "no native form" in str(w.message)]
    assert len(messages) == len(re.findall("# warns", code)) == 3
    assert "neuron type Habituating" in messages[0] and "operator Limit" in messages[1]
    assert "operator SimSTDP" in messages[2]
    assert isinstance(names["HabituatingKernel"](), NeuronKernel)
    rule = operators.exact(names["Measure"])
    assert isinstance(rule, PythonOpBuilder) and rule.carries(None) == ()
    assert np.ptp(names["as_python"]) > 0.5
