"""Random numbers of TensorNodes follow the simulation: its seed, steps and resets."""

import nengo
import numpy as np
import pytest

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
randomness = pytest.importorskip("nengo_dl.runtime.tensorflow.randomness")


def stateful_operations(x):
    """Every random operation of TensorFlow with a state inside, three numbers each."""
    rows, shape = x.shape[0], tf.shape(x)
    parts = [
        tf.random.uniform(shape),
        tf.random.normal(shape),
        tf.random.truncated_normal(shape),
        tf.cast(tf.random.uniform(shape, 0, 100, tf.int32), x.dtype),
        tf.random.gamma(shape[:1], [2.0, 3.0, 4.0]),
        tf.random.poisson(shape[:1], [4.0, 5.0, 6.0]),
        tf.cast(tf.random.categorical(tf.zeros((rows, 5)), 3), x.dtype),
        tf.transpose(tf.random.shuffle(tf.transpose(x + tf.range(3.0)))),
    ]
    return tf.concat(parts, -1)


class Noisy(keras.layers.Layer):
    """Noise from the seeds of Keras."""

    def __init__(self, seed=None):
        super().__init__()
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x):
        """With a generator of its own."""
        return x + keras.random.uniform(keras.ops.shape(x), seed=self.generator)


def uniform(x):
    """TensorFlow's, and Keras' without a generator."""
    shape = tuple(x.shape)
    return x + tf.random.uniform(shape) + keras.random.uniform(shape)


def from_generator(generator):
    """A function that draws from one of TensorFlow's generators."""
    return lambda x: x + generator.uniform(tf.shape(x))


FUNCTIONS = {
    "TensorFlow and Keras": lambda: uniform,
    "all operations": lambda: stateful_operations,
    "tf.nn.dropout": lambda: lambda x: tf.nn.dropout(x + 1.0, 0.5),
    "in a branch": lambda: (
        lambda x: tf.cond(
            tf.reduce_sum(x) > -1e9, lambda: x + tf.random.uniform(tf.shape(x)), lambda: x
        )
    ),
    "layer": Noisy,
    "generator": lambda: from_generator(tf.random.Generator.from_seed(3)),
}


def network(function, recurrent=False, seed=0, **settings):
    """A node of tensors, perhaps in a loop over time."""
    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(np.zeros(3))
        net.node = nengo_dl.TensorNode(function, shape_in=(3,), pass_time=False)
        nengo.Connection(net.inp, net.node, synapse=None)
        if recurrent:
            nengo.Connection(net.node[:3], net.node, synapse=0.005, transform=0.5)
        net.p = nengo.Probe(net.node)
    return net


def simulator(net, seed=5):
    return nengo_dl.Simulator(net, seed=seed, minibatch_size=2, progress_bar=False)


def ran(make, seed=5, steps=6, recurrent=False, **settings):
    """What is probed in some steps."""
    with simulator(network(make(), recurrent, **settings), seed) as sim:
        sim.run_steps(steps)
        return np.array(sim.data[sim.model.probes[0]])


@pytest.mark.parametrize("recurrent", (False, True))
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_same_seed_same_numbers(kind, recurrent, allclose):
    make = FUNCTIONS[kind]
    first = ran(make, recurrent=recurrent, jit=False)
    assert np.array_equal(first, ran(make, recurrent=recurrent, jit=False))
    if kind != "generator":  # it has a seed of its own
        assert not allclose(first, ran(make, 6, recurrent=recurrent, jit=False))
    # each step and each item has numbers of its own
    assert np.ptp(first, axis=0).any() and np.ptp(first, axis=1).any()


@pytest.mark.parametrize("kind", [k for k in FUNCTIONS if k != "all operations"])
def test_xla_draws_the_same_numbers(kind, allclose):
    make = FUNCTIONS[kind]
    ran_plain = ran(make, recurrent=True, jit=False)
    assert allclose(ran(make, recurrent=True, jit=True), ran_plain, atol=1e-5)


@pytest.mark.parametrize("kind", ("TensorFlow and Keras", "layer", "generator"))
def test_reset_and_pieces_of_a_run_repeat_them(kind):
    net = network(FUNCTIONS[kind](), jit=False)
    with simulator(net) as sim:
        sim.run_steps(6)
        first = np.array(sim.data[net.p])
        sim.reset()
        for _ in range(3):
            sim.step()
        sim.run_steps(2)
        predicted = sim.predict(n_steps=1)[net.p]
        sim.run_steps(1)
        assert np.array_equal(sim.data[net.p], first)
        assert np.array_equal(predicted[:, 0], first[:, 5])
        sim.run_steps(1)
        assert not np.array_equal(sim.data[net.p][:, 6], first[:, 5])
        sim.reset(seed=8)
        sim.run_steps(6)
        assert np.array_equal(sim.data[net.p], first) == (kind == "generator")


def test_simulators_of_one_network_do_not_disturb_each_other():
    net = network(Noisy())
    with simulator(net) as one, simulator(net) as other:
        for _ in range(4):
            one.step()
            other.step()
        assert np.array_equal(one.data[net.p], other.data[net.p])


def test_seeds_of_layers_stay_theirs_and_start_again():
    expected = Noisy(seed=3)
    with simulator(network(Noisy(seed=3))) as sim:
        sim.run_steps(2)
        found = np.array(sim.data[sim.model.probes[0]])
        sim.reset(seed=77)
        sim.run_steps(2)
        assert np.array_equal(sim.data[sim.model.probes[0]], found)
    for step in range(2):
        assert np.array_equal(found[:, step], expected(np.zeros((2, 3), "float32")))


def test_the_process_wide_generator_of_keras_is_left_alone():
    def seeded():
        keras.utils.clear_session()  # in Keras 3.12 a seed does not reach what is there
        keras.utils.set_random_seed(0)
        return keras.random.normal((4,))

    expected = seeded()
    second = keras.random.normal((4,))
    assert np.array_equal(seeded(), expected)
    ran(FUNCTIONS["TensorFlow and Keras"])
    assert np.array_equal(keras.random.normal((4,)), second)


LAYERS = {
    "Dropout": lambda: keras.layers.Dropout(0.5),
    "GaussianNoise": lambda: keras.layers.GaussianNoise(1.0),
    "SpatialDropout1D": lambda: keras.Sequential(
        [
            keras.layers.Reshape((1, 3)),
            keras.layers.SpatialDropout1D(0.5),
            keras.layers.Flatten(),
        ]
    ),
    "function": lambda: uniform,
}


def trained(recurrent, seed=5, **settings):
    """Losses of the epochs of three calls, the last one after a reset, of each layer."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        inp = nengo.Node(np.zeros(3))
        for number, make in enumerate(LAYERS.values()):
            node = nengo_dl.TensorNode(make(), shape_in=(3,), pass_time=False)
            nengo.Connection(inp, node, synapse=None)
            if recurrent:
                nengo.Connection(node, node, synapse=0.005, transform=0.5)
            nengo.Probe(node, label=f"p{number}")
    x = np.linspace(0.5, 1.5, 6 * 4 * 3).reshape(6, 4, 3)
    y = {f"p{number}": np.zeros((6, 4, 3)) for number in range(len(LAYERS))}
    with simulator(net, seed) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
        calls = []
        for start_again in (False, False, True):
            if start_again:
                sim.reset()
            history = sim.fit(x, y, epochs=2, verbose=0, shuffle=False).history
            calls.append([history[f"{name}_loss"] for name in y])
    return {kind: losses for kind, *losses in zip(LAYERS, *calls, strict=True)}


@pytest.fixture(scope="module", params=(False, True))
def trainings(request):
    """All layers in one network, trained with the same seed twice, and with others."""
    recurrent = request.param
    found = [trained(recurrent, seed) for seed in (5, 5, 6)]
    return (*found, trained(recurrent, jit=False) if recurrent else None)


@pytest.mark.parametrize("kind", LAYERS)
def test_noise_in_training_follows_the_seed_and_never_repeats(kind, trainings, allclose):
    first, second, again = trainings[0][kind]
    assert again == first
    losses = [*first, *second]
    assert len(set(losses)) == 4  # each epoch, and each call, has other numbers
    assert trainings[1][kind] == trainings[0][kind]
    others = trainings[2][kind]
    assert not set(losses) & {*others[0], *others[1]}
    assert others[2] == others[0]
    if trainings[3] is not None:
        plain = trainings[3][kind]
        assert allclose([*plain[0], *plain[1]], losses, rtol=1e-5)
        assert plain[2] == plain[0]


def first_weights(seed, own=None):
    """Those of a layer that is built with the network, and of one inside."""
    init = keras.initializers.RandomNormal(seed=own)
    layers = [keras.layers.Dense(4), keras.layers.Dense(2, kernel_initializer=init)]
    net = network(keras.Sequential(layers), seed=seed)
    with simulator(net):
        return [layer.kernel.numpy() for layer in layers]


def test_first_weights_follow_the_seed_that_keras_was_given_for_the_process():
    found = []
    for seed in (0, 1):
        keras.utils.set_random_seed(7)
        found.append(first_weights(seed))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_first_weights_of_layers_follow_the_seed_of_the_network(monkeypatch):
    monkeypatch.setattr(randomness, "seed_of_process", lambda: None)
    for seed, same in ((0, True), (1, False)):
        pairs = list(zip(first_weights(0), first_weights(seed), strict=True))
        assert all(np.array_equal(a, b) == same for a, b in pairs)
    (_, a), (_, b) = first_weights(0, own=3), first_weights(1, own=3)
    assert np.array_equal(a, b)


def test_numbers_in_loops_of_the_user_are_warned_of():
    def loop(x):
        return tf.map_fn(lambda row: row + tf.random.uniform((3,)), x)

    with pytest.warns(UserWarning, match="'loop' draws random numbers inside a loop"):
        net = network(loop)
    with simulator(net) as sim:
        sim.run_steps(2)
        found = sim.data[net.p]
    assert np.unique(found).size == found.size
