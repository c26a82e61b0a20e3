"""What runs without importing TensorFlow: everything but training, and its functions."""

import subprocess
import sys

SCRIPT = """
import sys

import nengo
import numpy as np

{before}
import nengo_dl

with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(**{settings})
    node = nengo.Node(lambda t: np.sin(5 * t))
    ens = nengo.Ensemble(20, 1)
    nengo.Connection(node, ens)
    output = nengo.Node(size_in=1)
    conn = nengo.Connection(ens, output, synapse=None)
    probe = nengo.Probe(output, synapse=0.01)
with nengo_dl.Simulator(net, progress_bar=False, seed=1) as sim:
    sim.run_steps(5000)
    sim.step()
    sim.run(0.1)
    assert sim.data[probe].shape == (5101, 1)
    assert sim.data[ens].encoders.shape == sim.data[conn].weights.T.shape == (20, 1)
    sim.freeze_params(net)
    assert "forward steps run in: {name}" in sim.describe()
    {predict}
    found = sim.data[probe]
with nengo.Simulator(net, progress_bar=False, seed=1) as sim:
    sim.run_steps(5101)
    assert np.abs(found - sim.data[probe]).max() < 0.05
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""

PREDICT = "assert sim.predict(np.ones((3, 4, 1)))[probe].shape == (3, 4, 1)"


def script(name, settings=None, before="", predict=PREDICT):
    text = SCRIPT.format(
        name=name, settings=settings or {}, before=before, predict=predict
    )
    subprocess.run([sys.executable, "-c", text], check=True)


def test_running_and_predicting_import_no_tensorflow():
    script("native")


def test_without_llvmlite_all_goes_on():
    script("numpy", before="sys.modules['llvmlite'] = None", predict="")
