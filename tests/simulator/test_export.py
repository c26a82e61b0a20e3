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
model = tf.saved_model.load(sys.argv[1])
x = np.load(sys.argv[2])
y = model.serve({"inp": x})
np.save(sys.argv[3], np.asarray(next(iter(y.values()))))
"""


@pytest.mark.parametrize("synapse", (None, 0.01))
def test_what_is_exported_runs_in_another_process(synapse, rng, tmp_path, allclose):
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0], label="inp")
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(node, ens, synapse=synapse)
        probe = nengo.Probe(ens, synapse=synapse)
    x = rng.uniform(-1, 1, (2, 20, 1)).astype(np.float32)
    data, result = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(data, x)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.keras_model.export(str(tmp_path / "model"), verbose=False)
        expected = sim.predict(x)[probe]
    arguments = [str(tmp_path / "model"), str(data), str(result)]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], check=True)
    assert allclose(np.load(result), expected, atol=1e-5)


def test_networks_with_python_functions_are_not_exported(tmp_path):
    with nengo.Network() as net:
        node = nengo.Node(lambda t, x: x + 1, size_in=1, label="adder")
        nengo.Connection(node, node)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match="cannot be exported.*adder"):
            sim.keras_model.export(str(tmp_path / "model"), verbose=False)
    assert not (tmp_path / "model").exists()
