"""Trainings that several devices share, in a process of their own: two of its cores.

``python -m tests.training.shared_networks FILE`` writes what it finds as JSON: how far
losses and weights are from those of one device, and the errors of what cannot be shared.
"""

import json
import sys

import numpy as np

from tests import quickly

RNG = np.random.RandomState(0)
X = RNG.uniform(-1, 1, (9, 3, 1))  # the last of the batches of 4 has one item
Y = X**2


def connected(neuron_type, recurrent=False, **settings):
    """An ensemble."""
    import nengo

    import nengo_dl

    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        inp = nengo.Node([0.0], label="inp")
        ens = nengo.Ensemble(6, 1, neuron_type=neuron_type)
        nengo.Connection(inp, ens, synapse=None)
        if recurrent:
            nengo.Connection(ens, ens, synapse=0.01)
        nengo.Probe(ens, synapse=0.005 if recurrent else None, label="p")
    return net


def feed_forward():
    """Compiled as a whole."""
    import nengo

    return connected(nengo.RectifiedLinear())


def recurrent():
    """A compiled loop over time."""
    import nengo

    return connected(nengo.LIFRate(), recurrent=True)


def noisy():
    """Spikes, noise, and two probes."""
    import nengo

    net = connected(nengo.LIF(), recurrent=True, jit=False, spiking_training=True)
    with net:
        noise = nengo.Node(nengo.processes.WhiteNoise(seed=3), label="noise")
        nengo.Connection(noise, net.ensembles[0], transform=0.1)
        nengo.Probe(net.ensembles[0].neurons[:2], label="q")
    return net


def layered(*layers, **settings):
    """Keras layers behind the input."""
    import keras
    import nengo

    import nengo_dl

    first, last = keras.layers.Dense(4, use_bias=False), keras.layers.Dense(1)
    layer = keras.Sequential([keras.Input((1,)), first, *layers, last])
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False, **settings)
        inp = nengo.Node([0.0], label="inp")
        node = nengo_dl.TensorNode(layer, shape_in=(1,), pass_time=False)
        nengo.Connection(inp, node, synapse=None)
        nengo.Probe(node, label="p")
    return net


def normalized():
    """Statistics of all items."""
    import keras

    return layered(keras.layers.BatchNormalization(synchronized=True))


def dropout():
    """Random numbers in a layer."""
    import keras

    return layered(keras.layers.Dropout(0.5))


def train(make, strategy, x=X, y=Y, fit=None, **compiled):
    """(losses and metrics, weights) of one training."""
    import keras

    import nengo_dl

    keras.utils.set_random_seed(0)
    about = {"minibatch_size": 2 if strategy else 4, "seed": 1, "progress_bar": False}
    compiled = {"loss": "mse", "metrics": ["mae"], **compiled}
    with nengo_dl.Simulator(make(), **about) as sim:
        sim.compile(compiled.pop("optimizer", keras.optimizers.Adam(1e-3)), **compiled)
        options = {"epochs": 2, "verbose": 0, "strategy": strategy, **(fit or {})}
        found = dict(sim.fit(x() if callable(x) else x, y, **options).history)
        if isinstance(x, np.ndarray):
            measured = sim.evaluate(x[:5], y[:5], verbose=0, strategy=strategy)
            found |= {f"evaluated {name}": value for name, value in measured.items()}
        return found, [v.numpy() for v in sim.keras_model.weights]


def distance(first, second):
    """How far two trainings are apart, relative to the largest value of each thing."""
    assert first[0].keys() == second[0].keys()
    pairs = [(first[0][name], second[0][name]) for name in first[0]]
    pairs += zip(first[1], second[1], strict=True)
    return max(
        float(np.max(np.abs(np.subtract(a, b))) / (np.max(np.abs(a)) + 1e-12))
        for a, b in pairs
    )


def batches():
    """The same, batch by batch."""
    for start in (0, 4, 8):
        yield X[start : start + 4], Y[start : start + 4]


def cases():
    """Name -> network, arguments of `train`, and how far apart two of them may be."""
    import keras

    from nengo_dl.neurons import LeakyReLU

    validated = {"fit": {"validation_data": (X[:5], Y[:5])}}
    two_probes = {
        "x": {"inp": X},
        "y": {"p": Y, "q": np.zeros((9, 3, 2))},
        "loss": {"p": keras.losses.MeanSquaredError("sum", dtype="float64"), "q": "mse"},
        "metrics": {"p": [keras.metrics.RootMeanSquaredError(dtype="float64")]},
        "fit": {"sample_weight": {"p": np.linspace(0.5, 2, 9)}},
    }
    stream = {"x": batches, "y": None, "fit": {"epochs": 1, "steps_per_epoch": 3}}
    sgd = {"optimizer": keras.optimizers.SGD(1e-3)}
    return {
        "feed-forward": (feed_forward, validated, 1e-9),
        "recurrent": (recurrent, validated, 1e-9),
        "spikes, noise, weights, sums": (noisy, two_probes, 1e-9),
        "a generator": (lambda: connected(LeakyReLU(), jit=False), stream, 1e-9),
        "normalized": (normalized, sgd, 1e-5),
    }


def equalities(strategy):
    """Name -> how far a shared training is from another one, and what to expect."""
    found = {}
    for name, (make, options, limit) in cases().items():
        alone = train(make, None, **options)
        make, options, _ = cases()[name]  # losses and metrics of its own
        found[name] = distance(alone, train(make, strategy, **options)), limit
    return found


def masks(strategy):
    """Losses of one item with dropout: alone, and twice in a batch that is shared."""
    import keras

    import nengo_dl

    found = []
    for shared in (None, strategy):
        x = np.ones((1 if shared is None else 2, 5, 1))
        keras.utils.set_random_seed(0)
        about = {"minibatch_size": 1, "seed": 1, "progress_bar": False}
        with nengo_dl.Simulator(dropout(), **about) as sim:
            sim.compile(keras.optimizers.SGD(0.0), loss="mse")
            history = sim.fit(x, 0 * x, verbose=0, strategy=shared).history
            found.append(history["loss"][0])
    return found


def learning():
    """A network that learns online."""
    import nengo

    net = connected(nengo.LIFRate(), jit=False)
    with net:
        ens = nengo.Ensemble(4, 1)
        conn = nengo.Connection(net.ensembles[0], ens, learning_rule_type=nengo.PES())
        nengo.Connection(ens, conn.learning_rule)
        nengo.Probe(ens, label="learned")
    return net


def python():
    """A network that calls Python."""
    import nengo

    net = connected(nengo.LIFRate(), jit=False)
    with net:
        node = nengo.Node(lambda t, x: x, size_in=1, label="function")
        nengo.Connection(net.ensembles[0], node)
        nengo.Probe(node, label="called")
    return net


def loop():
    """A layer in the loop over time that looks at all replicas."""
    import keras
    import nengo

    import nengo_dl

    layer = keras.layers.BatchNormalization(synchronized=True)
    net = connected(nengo.LIFRate(), recurrent=True)
    with net:
        node = nengo_dl.TensorNode(layer, shape_in=(1,), pass_time=False)
        nengo.Connection(net.ensembles[0], node)
        nengo.Connection(node, net.ensembles[0])
    return net


def largest():
    """A metric that does not add up."""
    import keras
    import tensorflow as tf

    class Largest(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="largest")
            self.most = self.add_variable((), "zeros", aggregation="mean", name="most")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.most.assign(tf.reduce_max(tf.cast(y_pred, self.most.dtype)))

        def result(self):
            return self.most

    return Largest()


def refusals(strategy):
    """Name -> the text of the error, for all that cannot be shared."""
    import keras
    import tensorflow as tf
    from nengo.exceptions import ValidationError

    import nengo_dl

    def message(make, device=None, fit=None, scope=None, given=strategy, **compiled):
        compiled = {"optimizer": "sgd", "loss": "mse", **compiled}
        about = {"minibatch_size": 2, "device": device, "progress_bar": False}
        with nengo_dl.Simulator(make(), **about) as sim:
            if scope == "optimizer":
                with strategy.scope():
                    compiled["optimizer"] = keras.optimizers.SGD()
            names = list(sim.keras_model.output_names)
            compiled["loss"] = dict.fromkeys(names, compiled["loss"])
            sim.compile(**compiled)
            y = dict.fromkeys(names, Y)
            with strategy.scope() if scope == "call" else tf.name_scope("none"):
                try:
                    sim.fit({"inp": X}, y, verbose=0, strategy=given, **(fit or {}))
                except ValidationError as error:
                    return str(error)
        return "none"

    def sums(reduction):
        return keras.losses.MeanSquaredError(reduction)

    return {
        "no strategy": message(recurrent, given="two"),
        "scope": message(recurrent, scope="call"),
        "optimizer": message(recurrent, scope="optimizer"),
        "device": message(recurrent, device="/cpu:0"),
        "stateful": message(recurrent, fit={"stateful": True}),
        "rules": message(learning),
        "python": message(python),
        "reduction": message(recurrent, loss=sums("mean_with_sample_weight")),
        "metric": message(recurrent, metrics=[largest()]),
        "executions": message(recurrent, steps_per_execution=2),
        "eager": message(recurrent, run_eagerly=True),
        "loop": message(loop),
    }


def main(path):
    """Write everything to a file."""
    import tensorflow as tf

    quickly.in_child()
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {
        "equal": equalities(strategy),
        "masks": masks(strategy),
        "refused": refusals(strategy),
    }
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
