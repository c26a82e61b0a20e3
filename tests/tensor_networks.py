"""Networks around one function of tensors, and what TensorFlow makes of the same."""

import keras
import nengo
import numpy as np
import tensorflow as tf

import nengo_dl
from nengo_dl.tensor_node import TensorNode

BATCH, STEPS, SIZE = 2, 6, 3
DECAY = np.exp(-0.001 / 0.005)


def data(rng, size=SIZE, batch=BATCH, steps=STEPS):
    """What is given to an input node."""
    return rng.uniform(-1, 1, (batch, steps, size)).astype(np.float32)


def network(function, recurrent=False, size=SIZE, **kwargs):
    """A network of an input and one node, perhaps connected to itself."""
    kwargs = {"shape_in": (size,), "pass_time": False, **kwargs}
    with nengo.Network(seed=0) as net:
        net.stimulus = nengo.Node(np.zeros(size))
        net.node = TensorNode(function, **kwargs)
        nengo.Connection(net.stimulus, net.node, synapse=None)
        if recurrent:
            nengo.Connection(net.node, net.node, synapse=0.005, transform=0.5)
        net.probe = nengo.Probe(net.node)
    return net


def simulator(net, batch=BATCH):
    return nengo_dl.Simulator(net, minibatch_size=batch, progress_bar=False)


def seeded():
    """The same initial weights in each run of a test."""
    keras.utils.set_random_seed(0)


def unrolled(function, x):
    """What a recurrent network does, with TensorFlow as it is."""
    state, outputs = tf.zeros_like(x[:, 0]), []
    for step in range(x.shape[1]):
        y = function(x[:, step] + 0.5 * state)
        outputs.append(y)
        state = DECAY * state + (1 - DECAY) * y
    return tf.stack(outputs, 1)


def descended(function, variables, targets, rate=0.1):
    """The values of variables after one step down the gradient of a mean square."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((function() - targets) ** 2)
    gradients = tape.gradient(loss, [v.value for v in variables])
    return [v.numpy() - rate * g for v, g in zip(variables, gradients, strict=True)]


def fit(sim, x, y):
    """One step of training, of one batch."""
    net = sim.network
    sim.compile(keras.optimizers.SGD(0.1), loss="mse")
    sim.fit({net.stimulus: x}, {net.probe: y}, verbose=0)


def fit_keras(model, x, y):
    """The same for a Keras model, to which all steps are items."""
    # with a GPU Keras would have it compiled, with other numbers for dropout
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    flat = x.reshape(-1, SIZE), y.reshape(-1, SIZE)
    model.fit(*flat, batch_size=BATCH * STEPS, shuffle=False, verbose=0)
