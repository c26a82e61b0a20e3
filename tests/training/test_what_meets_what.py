"""The table of the manual that says what goes with what: each cell is tried."""

import re
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nengo
import numpy as np
import pytest
from nengo.exceptions import NengoException

import nengo_dl
from nengo_dl.runtime.native.compile import available

PAGE = Path(__file__).parent.parent.parent / "docs" / "scaling.rst"
X = np.random.RandomState(0).uniform(-1, 1, (4, 2, 1))


def twice(t, x):
    return 2 * x


def squashed(t, x):
    import tensorflow as tf

    return tf.tanh(x)


def network(feature, **settings):
    """A network with one of the things that the rows of the table are about."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        if feature == "shared learning":
            nengo_dl.configure_settings(shared_learning="sum")
        inp = nengo.Node([0.0], label="inp")
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.LIFRate())
        conn = nengo.Connection(inp, ens)
        out = ens
        if feature in ("online rules", "shared learning"):
            out = nengo.Ensemble(5, 1, neuron_type=nengo.LIFRate())
            conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES())
            nengo.Connection(out, conn.learning_rule)
        elif feature == "TensorNode":
            out = nengo_dl.TensorNode(squashed, shape_in=(1,))
            nengo.Connection(ens, out)
        elif feature == "Python functions":
            node = nengo.Node(twice, size_in=1)
            nengo.Connection(inp, node)
            nengo.Connection(node, ens)
        nengo.Probe(out, label="p")
    return net


def task(sim, value):
    """What a run and, of a network with a layer, a training give."""
    (probe,) = sim.network.all_probes
    sim.run_steps(3, data={sim.network.all_nodes[0]: np.full((2, 3, 1), value)})
    found = [sim.data[probe].copy()]
    if isinstance(probe.target, nengo_dl.TensorNode):
        sim.compile("adam", loss="mse")
        found += [sim.fit(X, X, epochs=2, verbose=0).history["loss"]]
        found += [sim.data[sim.network.all_ensembles[0]].bias]
    return found


def assert_same_elsewhere(sim, pool):
    """A worker process gives what this process gives, to the bit."""
    options = {"tasks": [0.1, 0.9], "on_error": "return"}
    here, there = (
        nengo_dl.run_many(sim, task, executor=executor, **options)
        for executor in (lambda: ThreadPoolExecutor(1), pool)
    )
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, list), one
        assert isinstance(other, list), other
        assert all(map(np.array_equal, one, other))
    assert not np.array_equal(here[0][0], here[1][0])


@pytest.fixture(autouse=True, scope="module")
def graphs_run_as_they_are_traced():
    """As for users: worker processes, whose digits are compared, run them so."""


@pytest.fixture(scope="module")
def pool():
    """A worker process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def trial(feature, column, pool):
    """Whether they go together: "yes", or "error" if that says so."""
    executor = column if column in ("numpy", "native", "tensorflow") else None
    settings = {"jit": False} if executor is None else {"executor": executor}
    try:
        with nengo_dl.Simulator(
            network(feature, **settings), minibatch_size=2, progress_bar=False
        ) as sim:
            if executor is not None:
                sim.run_steps(2)
                assert np.isfinite(sim.data[sim.network.all_probes[0]]).all()
                return "yes"
            if column == "run_many":
                assert_same_elsewhere(sim, pool)
                return "yes"
            sim.compile("sgd", loss="mse")
            options = {"verbose": 0}
            if column == "strategy":
                import tensorflow as tf

                options["strategy"] = tf.distribute.OneDeviceStrategy("CPU:0")
            if column == "stream":
                found = sim.fit(iter([(X[:2], X[:2])]), steps_per_epoch=1, **options)
            else:
                options["stateful"] = column == "stateful"
                found = sim.fit(X, X, **options)
            assert np.isfinite(found.history["loss"]).all()
            return "yes"
    except NengoException as error:
        assert len(str(error)) > 40
        return "error"


def table():
    """(feature, column) -> what the table says."""
    text = PAGE.read_text(encoding="utf-8")
    text = text[text.index("What meets what\n====") :]
    text = text[text.index(".. list-table::") :]
    rows = re.split(r"\n   \* - ", text.split("\n\n   * - ", 1)[-1].split("\n\n")[0])
    cells = [[c.strip() for c in re.split(r"\n     - ", row)] for row in rows]
    columns = [c.strip("`").split()[0].strip("`") for c in cells[0][1:]]
    return {
        (row[0], column): cell
        for row in cells[1:]
        for column, cell in zip(columns, row[1:], strict=True)
    }


@pytest.mark.parametrize(("feature", "column"), list(table()))
def test_the_table_says_what_happens(feature, column, pool):
    if column == "native" and available() is not None:
        pytest.skip(f"no machine code here: {available()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = trial(feature, column, pool)
    assert re.match(r"\w+", table()[feature, column])[0] == found
