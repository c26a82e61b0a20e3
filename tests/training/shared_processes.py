"""One of two processes that train together.

``python -m tests.training.shared_processes NUMBER PORTS FOLDER`` writes what it finds as
JSON, step by step, since the second one is killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tests import quickly

X = np.random.RandomState(0).uniform(-1, 1, (9, 3, 1))
Y = X**2


def shifted(t, x):
    """A Python function, which each process calls for its own items."""
    return x + 0.1


def network(seed):
    """Each process has other values at first."""
    import nengo

    import nengo_dl

    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        inp = nengo.Node([0.0], label="inp")
        ens = nengo.Ensemble(6, 1, neuron_type=nengo.LIFRate())
        node = nengo.Node(shifted, size_in=1)
        nengo.Connection(inp, node, synapse=None)
        nengo.Connection(node, ens, synapse=None)
        nengo.Connection(ens, ens, synapse=0.01)
        nengo.Probe(ens, synapse=0.005, label="p")
    return net


def stop():
    """Ends a training after three epochs, since none is so much better than the first."""
    import keras

    return keras.callbacks.EarlyStopping(monitor="loss", min_delta=10.0, patience=2)


def train(number, strategy, callbacks=(), x=X, epochs=4):
    """(history, weights) of one training, in the first process or in another one."""
    import keras

    import nengo_dl

    keras.utils.set_random_seed(number)
    about = {"minibatch_size": 2 if strategy else 4, "seed": 1 + number}
    with nengo_dl.Simulator(network(number), progress_bar=False, **about) as sim:
        sim.compile(keras.optimizers.Adam(1e-3), loss="mse")
        options = {"callbacks": [stop(), *callbacks], "epochs": epochs, "verbose": 0}
        history = sim.fit(x, Y, strategy=strategy, **options).history
        return history, [v.numpy().tolist() for v in sim.keras_model.weights]


def main(number, ports, folder):
    """Everything that two processes do together, in this order."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports.split(",")]}
    task = {"type": "worker", "index": number}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    quickly.in_child()
    import keras

    from nengo_dl.callbacks import Resume

    class Stop(keras.callbacks.Callback):
        def __init__(self, at, kill=False):
            super().__init__()
            self.at, self.kill = at, kill

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) != (self.at, 1):
                return
            if self.kill:
                note("killed", time.time())
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError("stopped")

    def note(name, value):
        (Path(folder) / f"{name}-{number}.json").write_text(json.dumps(value))

    def message(**kwargs):
        began = time.time()
        try:
            train(number, strategy, **kwargs)
        except Exception as error:
            return type(error).__name__, str(error), began, time.time()

    note("differ", message(epochs=2 + number))
    note("failed", message(x=X if number == 0 else X[:, :, :0]))
    written = Path(folder) / f"own-{number}"
    written.mkdir()
    both = [Resume(written / "resume", every=1), keras.callbacks.CSVLogger(written / "c")]
    note("stopped", message(callbacks=[*both, Stop(2)]))
    note("whole", train(number, strategy, both))
    note("lost", message(callbacks=[Stop(1, kill=True)] if number else []))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
