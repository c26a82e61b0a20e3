"""Exported Keras models run in other programs, or are refused."""

import subprocess
import sys

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError

import nengo_dl

keras = pytest.importorskip("keras")

ELSEWHERE = """
import sys, numpy as np, tensorflow as tf
x = np.load(sys.argv[1])
for model in sys.argv[2:]:
    loaded = tf.saved_model.load(model)
    (y,) = loaded.serve({"inp": x}).values()
    np.save(model + ".npy", np.asarray(y))
"""

SYNAPSES = (None, 0.01)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Of networks with and without a state: what another process gives, and this one."""
    folder = tmp_path_factory.mktemp("exported")
    x = np.random.RandomState(0).uniform(-1, 1, (2, 20, 1)).astype(np.float32)
    np.save(folder / "x.npy", x)
    models, expected = [], []
    for number, synapse in enumerate(SYNAPSES):
        with nengo.Network(seed=0) as net:
            node = nengo.Node([0.0], label="inp")
            ens = nengo.Ensemble(10, 1)
            nengo.Connection(node, ens, synapse=synapse)
            probe = nengo.Probe(ens, synapse=synapse)
        models.append(str(folder / f"model{number}"))
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            sim.keras_model.export(models[-1], verbose=False)
            expected.append(sim.predict(x)[probe])
    command = [sys.executable, "-c", ELSEWHERE, str(folder / "x.npy"), *models]
    subprocess.run(command, check=True)
    found = [np.load(f"{model}.npy") for model in models]
    return dict(zip(SYNAPSES, zip(found, expected, strict=True), strict=True))


@pytest.mark.parametrize("synapse", SYNAPSES)
def test_what_is_exported_runs_in_another_process(synapse, served, allclose):
    found, expected = served[synapse]
    assert allclose(found, expected, atol=1e-5)


def test_networks_with_python_functions_are_not_exported(tmp_path):
    with nengo.Network() as net:
        node = nengo.Node(lambda t, x: x + 1, size_in=1, label="adder")
        nengo.Connection(node, node)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match="cannot be exported.*adder"):
            sim.keras_model.export(str(tmp_path / "model"), verbose=False)
    assert not (tmp_path / "model").exists()
