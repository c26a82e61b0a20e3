"""Writes the samples in this folder: files and pickles that users may have.

They were made with the code of commit 64abcee, the first that wrote such files, with
Python 3.11, Nengo 4.1, NumPy 2.3 and Keras 3, so that tests can tell whether later code
reads them. Do not make them anew with later code: that is what they are there to test.
For a form of files that comes later, add functions and make those alone::

    python -m tests.simulator.samples.make FOLDER NAME ...

Each sample is a file and ``NAME.expected.npz``: the values of all parameters, and what a
simulator puts out in the steps after it has read the file.
"""

import gzip
import pickle
import sys
from pathlib import Path

import nengo
import numpy as np

import nengo_dl

HERE = Path(__file__).parent
STEPS = 20

OPTIONS = {"seed": 5, "progress_bar": False}

FLAT = {"neuron_type": nengo.LIFRate(), "max_rates": nengo.dists.Uniform(50, 100)}


def rules(dtype):
    """Each learning rule; of one of them no probe shows what it does."""
    with nengo.Network(seed=1, label="rules") as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node(nengo.processes.WhiteSignal(0.1, 30, seed=2), label="inp")
        pre = nengo.Ensemble(6, 1, label="pre")
        post = nengo.Ensemble(4, 1, label="post")
        nengo.Connection(inp, pre, synapse=None)
        for kind in (nengo.PES(1e-2), nengo.RLS(1e-2), nengo.PES(2e-2)):
            out = nengo.Node(size_in=1)
            conn = nengo.Connection(pre, out, learning_rule_type=kind)
            nengo.Connection(inp, conn.learning_rule, transform=-1)
            if kind.learning_rate < 2e-2:
                nengo.Probe(out)
        nengo.Connection(inp, post, learning_rule_type=nengo.Voja(), synapse=0.003)
        for kind in (nengo.BCM(1e-7), nengo.Oja(1e-5)):
            conn = nengo.Connection(
                pre.neurons, post.neurons, transform=np.full((4, 6), 1e-4)
            )
            conn.learning_rule_type = kind
            nengo.Probe(conn, "weights", sample_every=0.01)
        nengo.Probe(post.neurons)
    return net


def structure(dtype):
    """Sparse weights, a convolution, networks in networks, and noise."""
    with nengo.Network(seed=1, label="structure") as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node(nengo.processes.WhiteNoise(), size_out=4, label="inp")
        sparse = nengo.Sparse((3, 4), indices=[(0, 1), (2, 3), (1, 0)], init=[1, 2, 3])
        ens = nengo.Ensemble(5, 3, neuron_type=nengo.AdaptiveLIF(), noise=None)
        ens.noise = nengo.processes.FilteredNoise(nengo.Alpha(0.005))
        nengo.Connection(inp, ens, transform=sparse, synapse=nengo.Alpha(0.01))
        pixels = nengo.Ensemble(4, 1, neuron_type=nengo.RegularSpiking(nengo.LIFRate()))
        filters = nengo.Convolution(2, (2, 2, 1), kernel_size=(1, 1))
        image = nengo.Ensemble(8, 1, neuron_type=nengo.Izhikevich())
        nengo.Connection(inp, pixels.neurons, synapse=0.002)
        nengo.Connection(pixels.neurons, image.neurons, transform=filters)
        for label in ("one", "two"):
            with nengo.Network(label=label):
                random = nengo.Ensemble(4, 1, label="random")
                random.neuron_type = nengo.PoissonSpiking(nengo.LIFRate(), amplitude=0.1)
                with nengo.Network():
                    array = nengo.networks.EnsembleArray(3, 2)
                nengo.Connection(random, array.input[0])
                nengo.Connection(array.output[1], array.input[1], synapse=0.01)
            nengo.Connection(ens[1], random)
            nengo.Probe(array.output, synapse=0.002)
        nengo.Probe(ens)
        nengo.Probe(image.neurons)
    return net


def tensors(dtype):
    """A Keras layer with weights, and a model with moving averages."""
    import keras

    keras.utils.set_random_seed(0)
    with nengo.Network(seed=1, label="tensors") as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node(nengo.processes.WhiteSignal(0.1, 30, seed=2), size_out=3)
        ens = nengo.Ensemble(5, 3, label="ens", **FLAT)
        nengo.Connection(inp, ens, synapse=0.002)
        layer = keras.layers.Dense(4, activation="tanh", name="layer")
        x = nengo_dl.Layer(layer)(ens)
        normed = keras.Sequential(
            [
                keras.layers.Input((4,)),
                keras.layers.BatchNormalization(name="normed"),
                keras.layers.Dense(2, name="last"),
            ],
            name="model",
        )
        nengo.Probe(nengo_dl.Layer(normed)(x, synapse=0.005))
    return net


def keras_model():
    """A model with the names that Keras gives to the second layer of a kind."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1), name="input_layer_1")
    x = keras.layers.Conv2D(2, 3, activation="relu", name="conv2d_1")(inputs)
    x = keras.layers.Flatten(name="flatten_1")(x)
    x = keras.layers.Dense(3, activation="relu", name="dense_2")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="dense_3")(x))


def converted(dtype):
    """A network made of a Keras model."""
    net = nengo_dl.Converter(keras_model()).net
    with net:
        nengo_dl.configure_settings(dtype=dtype)
    return net


def portable(dtype):
    """Of what a pickle needs, no functions but those of NumPy."""
    with nengo.Network(seed=1, label="portable") as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node(nengo.processes.WhiteNoise(seed=None), label="inp")
        ens = nengo.Ensemble(6, 1, noise=nengo.processes.FilteredNoise())
        out = nengo.Node(size_in=1)
        random = nengo.Ensemble(4, 1, neuron_type=nengo.StochasticSpiking(nengo.Tanh()))
        nengo.Connection(inp, ens, synapse=0.01)
        nengo.Connection(ens, random, function=np.square)
        conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES())
        nengo.Connection(out, conn.learning_rule)
        nengo.Probe(out)
        nengo.Probe(random.neurons)
        nengo.Probe(conn, "weights", sample_every=0.005)
    return net


def rates(dtype):
    """Something that can be trained in one step."""
    with nengo.Network(seed=1, label="rates") as net:
        nengo_dl.configure_settings(dtype=dtype)
        inp = nengo.Node([0.5, -0.5], label="inp")
        ens = nengo.Ensemble(6, 2, label="ens", **FLAT)
        nengo.Connection(inp, ens, synapse=None)
        nengo.Probe(ens, label="probe")
    return net


#: name -> (network, dtype, minibatch_size, include_state)
FILES = {
    "rules_float64_state": (rules, "float64", None, True),
    "rules_float32_batch": (rules, "float32", 3, False),
    "rules_float32_batch_state": (rules, "float32", 3, True),
    "structure_float32": (structure, "float32", None, False),
    "structure_float32_state": (structure, "float32", None, True),
    "structure_float64_batch_state": (structure, "float64", 3, True),
    "tensors_float32_state": (tensors, "float32", None, True),
    "tensors_float64_batch": (tensors, "float64", 3, False),
    "converted_float32": (converted, "float32", None, False),
    "converted_float32_batch_state": (converted, "float32", 3, True),
}

#: name -> (network, dtype, minibatch_size, steps before, whether it is trained)
PICKLES = {
    "pickle_float32": (portable, "float32", None, 0, False),
    "pickle_float64_batch_run": (portable, "float64", 3, STEPS, False),
    "pickle_float32_trained": (rates, "float32", 2, 5, True),
}


def parameters(data, net):
    """The present values of all parameters of a network, in a fixed order."""
    values = []
    for ens in net.all_ensembles:
        values += [data[ens].scaled_encoders, data[ens].bias]
    for conn in net.all_connections:
        weights = data[conn].weights
        if weights is not None:
            values.append(weights.toarray() if hasattr(weights, "toarray") else weights)
    return values


def outputs(sim, n_steps=STEPS):
    """Probe data of the next steps."""
    sim.clear_probes()
    sim.run_steps(n_steps)
    return [np.asarray(sim.data[probe]) for probe in sim.model.probes]


def write_expected(folder, name, **groups):
    """All arrays of some lists of arrays."""
    arrays = {
        f"{group}{i}": value
        for group, values in groups.items()
        for i, value in enumerate(values)
    }
    np.savez_compressed(folder / f"{name}.expected.npz", **arrays)


def expected(name):
    """The lists that `write_expected` was given."""
    groups = {}
    with np.load(HERE / f"{name}.expected.npz") as file:
        for key in file.files:  # in the order in which they were written
            groups.setdefault(key.rstrip("0123456789"), []).append(file[key])
    return groups


def changed(sim):
    """Give parameters other values than those that they are built with."""
    learned = sim._live.parameters.learned
    for p in sim._files.entries:
        if p.signal not in learned and not p.signal.is_view:
            sim._live.write({p.signal: 1.01 * np.asarray(sim._live.value(p.signal))})


def make_file(folder, name):
    """A file of parameters, and what a new simulator does with it."""
    network, dtype, minibatch_size, include_state = FILES[name]
    options = {**OPTIONS, "minibatch_size": minibatch_size}
    net = network(dtype)
    with nengo_dl.Simulator(net, **options) as sim:
        changed(sim)
        sim.run_steps(STEPS)
        sim.save_params(folder / name, include_state=include_state)
    with nengo_dl.Simulator(net, **options) as sim:
        sim.load_params(folder / name, include_state=include_state)
        write_expected(
            folder,
            name,
            parameters=parameters(sim.data, net),
            outputs=outputs(sim),
        )


def make_pickle(folder, name):
    """Pickles of a simulator and of its data, and how it goes on."""
    network, dtype, minibatch_size, n_steps, trained = PICKLES[name]
    options = {**OPTIONS, "minibatch_size": minibatch_size}
    with nengo_dl.Simulator(network(dtype), **options) as sim:
        if trained:
            sim.compile("sgd", "mse")
            sim.fit(n_steps=1, y=np.ones((2, 1, 2)), verbose=0)
        if n_steps:
            sim.run_steps(n_steps)
        with gzip.GzipFile(folder / f"{name}.pkl.gz", "wb", mtime=0) as file:
            pickle.dump((sim, sim.data), file, protocol=4)
        write_expected(
            folder,
            name,
            before=[sim.data[probe] for probe in sim.model.probes],
            parameters=parameters(sim.data, sim.network),
            outputs=outputs(sim),
        )


def main(folder, *names):
    """Write samples, of some names or of all."""
    nengo.rc.set("decoder_cache", "enabled", "False")  # no paths of this machine
    for name in names or [*FILES, *PICKLES]:
        (make_file if name in FILES else make_pickle)(Path(folder), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
