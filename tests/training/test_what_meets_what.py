"""The table of the manual that says what goes with what: each cell is tried."""

import re
import warnings
from pathlib import Path

import nengo
import numpy as np
import pytest
from nengo.exceptions import NengoException

import nengo_dl

PAGE = Path(__file__).parent.parent.parent / "docs" / "scaling.rst"
X = np.random.RandomState(0).uniform(-1, 1, (4, 2, 1))


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
            import tensorflow as tf

            out = nengo_dl.TensorNode(tf.tanh, shape_in=(1,), pass_time=False)
            nengo.Connection(ens, out)
        elif feature == "Python functions":
            node = nengo.Node(lambda t, x: 2 * x, size_in=1)
            nengo.Connection(inp, node)
            nengo.Connection(node, ens)
        nengo.Probe(out, label="p")
    return net


def trial(feature, column):
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
def test_the_table_says_what_happens(feature, column):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = trial(feature, column)
    assert re.match(r"\w+", table()[feature, column])[0] == found
