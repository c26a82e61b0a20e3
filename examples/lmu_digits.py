r"""
A Legendre memory unit
======================

Read digits through a keyhole: one pixel after the other. What has been seen before is
kept by a Legendre memory unit (LMU), built of Nengo objects.

An LMU (Voelker, Kajić & Eliasmith, 2019, NeurIPS 32) has a linear *memory* :math:`m` and
*neurons* :math:`h`:

.. math::

   u_t &= e_x x_t + e_h h_{t-1} + e_m m_{t-1} \\
   m_t &= A m_{t-1} + B u_t \\
   h_t &= \tanh(W_x x_t + W_h h_{t-1} + W_m m_t)

:math:`A` and :math:`B` are computed, and not trained: they are such that the memory holds
the last :math:`\theta` steps of its input :math:`u`, as coefficients of Legendre
polynomials. All other matrices are trained, through all time steps.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn, which are
sequences of 64 steps here. The first 1,437 are for training; the last 360, written by
other people, are for testing.

Run it with ``python examples/lmu_digits.py``. It takes about a minute and writes
``lmu_digits.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from scipy.signal import cont2discrete
from scipy.special import eval_legendre
from sklearn.datasets import load_digits

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

THETA = 64  # steps that the memory holds
ORDER = 32  # polynomials
UNITS = 40 if QUICK else 100  # neurons
EPOCHS = 8 if QUICK else 20
N_TRAIN = 1437
BATCH = 40

keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
sequences = (images / 16)[:, :, None]  # (images, steps, size of the node)
train_x, train_y = sequences[:N_TRAIN], labels[:N_TRAIN]
test_x, test_y = sequences[N_TRAIN:], labels[N_TRAIN:]

# %%
# The memory
# ----------
#
# In continuous time, the memory is a system of linear differential equations with a
# closed form. Here a step is one pixel, so it is discretized for steps of length one.


def legendre_memory(order, theta):
    """The matrices ``A`` and ``B`` of the memory, for steps of length one."""
    i, j = np.meshgrid(np.arange(order), np.arange(order), indexing="ij")
    scale = (2 * i + 1) / theta
    a = scale * np.where(i < j, -1, (-1.0) ** (i - j + 1))
    b = (scale * (-1.0) ** i)[:, :1]
    a, b, *_ = cont2discrete((a, b, np.eye(order), np.zeros((order, 1))), dt=1)
    return a, b


# %%
# The network
# -----------
#
# Vectors that are just sums are nodes with a ``size_in``. A synapse of zero is a delay of
# one step, as recurrent connections need it.
#
# The neurons are an ensemble that represents the memory: :math:`W_m` are its encoders.
# What it puts out is decoded, once for the ten digits and once for the memory's input
# :math:`u`. Solvers would find decoders for a given function; here they are to be
# trained, and ``NoSolver`` only says with what they begin.
#
# ``trainable=False`` exempts :math:`A` and :math:`B`.

rng = np.random.RandomState(0)
glorot = nengo_dl.dists.Glorot()
a, b = legendre_memory(ORDER, THETA)

with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(trainable=None)
    pixel = nengo.Node([0], label="pixel")
    u = nengo.Node(size_in=1, label="u")
    memory = nengo.Node(size_in=ORDER, label="memory")
    neurons = nengo.Ensemble(
        UNITS,
        ORDER,
        neuron_type=nengo.Tanh(tau_ref=1),
        encoders=glorot.sample(UNITS, ORDER, rng=rng),
        normalize_encoders=False,
        gain=nengo.dists.Choice([1]),
        bias=nengo.dists.Choice([0]),
    )
    answer = nengo.Node(size_in=10, label="answer")

    remember = [
        nengo.Connection(memory, memory, transform=a, synapse=0),
        nengo.Connection(u, memory, transform=b, synapse=None),
    ]
    for connection in remember:
        net.config[connection].trainable = False

    nengo.Connection(pixel, u, transform=[[1]], synapse=None)
    nengo.Connection(memory, u, transform=np.zeros((1, ORDER)), synapse=0)
    nengo.Connection(memory, neurons, synapse=None)
    nengo.Connection(pixel, neurons.neurons, transform=glorot, synapse=None)
    nengo.Connection(neurons.neurons, neurons.neurons, transform=glorot, synapse=0)
    for post, decoders, synapse in (
        (u, np.zeros((UNITS, 1)), 0),
        (answer, glorot.sample(UNITS, 10, rng=rng), None),
    ):
        nengo.Connection(
            neurons,
            post,
            function=lambda m, size=post.size_in: np.zeros(size),
            solver=nengo.solvers.NoSolver(decoders),
            synapse=synapse,
        )
    result = nengo.Probe(answer, label="result")
    remembered = nengo.Probe(memory, label="memory")

# %%
# Training
# --------
#
# The network is asked after each pixel. Late answers, which can be known, count for more
# than early ones: ``sample_weight`` has a weight for each step. Gradients go back from
# each answer through all steps before it.

steps = np.arange(1, THETA + 1)
weights = steps**4 / np.mean(steps**4)
weights = np.tile(weights, (N_TRAIN, 1))  # the same for each image
sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def targets(labels):
    """The same number at every step, ``(images, steps, 1)``."""
    return {result: np.repeat(labels[:, None, None], THETA, axis=1)}


with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
    sim.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.005, EPOCHS * -(-N_TRAIN // BATCH))
        ),
        loss={result: sparse},
    )
    print(f"{sim.keras_model.count_params()} parameters")
    seen = sim.predict(test_x)
    held = seen[remembered][:, -1]  # the memory at the end, before training
    history = sim.fit(
        {pixel: train_x},
        targets(train_y),
        sample_weight=weights,
        validation_data=({pixel: test_x}, targets(test_y), weights[: len(test_y)]),
        epochs=EPOCHS,
        verbose=0,
    ).history
    seen = sim.predict(test_x)

accuracy = np.mean(seen[result].argmax(axis=-1) == test_y[:, None], axis=0)
for n in (16, 32, 48, 64):
    print(f"accuracy after {n} pixels: {accuracy[n - 1]:.4f}")

# %%
# What the memory holds
# ---------------------
#
# The value of the polynomials at a time in the past tells what the input was then. With
# fewer polynomials than steps, the memory holds a smooth version. This is the memory
# before training, when its input was the pixel itself.

past = (np.arange(THETA)[::-1] + 0.5) / THETA  # of the window; the first pixel first
polynomials = eval_legendre(np.arange(ORDER), 2 * past[:, None] - 1)
pictures = held @ polynomials.T
error = np.sqrt(np.mean((pictures - test_x[:, :, 0]) ** 2))
print(f"error of the memory: {error:.3f} (pixels are between 0 and 1)")

# %%
# The figure
# ----------
#
# On the left some images, and what is left of them in the memory at the end. Then the
# loss by epochs, and the accuracy by the number of pixels that have been seen.

figure = Figure(figsize=(12, 4), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 2, 2))
for index, row in enumerate(left.subplots(4, 2)):
    for axes, picture in zip(row, (test_x, pictures), strict=True):
        axes.imshow(picture[index].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
        if index == 0:
            axes.set_title("shown" if picture is test_x else "held")
losses, answers = middle.subplots(), right.subplots()
nengo_dl.plots.training_curves(history, ax=losses)
losses.set_ylim(0, None)
answers.plot(steps, 100 * accuracy)
answers.axhline(10, color="black", linestyle=":", label="chance")
answers.legend()
answers.set(xlabel="pixels seen", ylabel="correct answers (%)", ylim=(0, 100))
figure.savefig("lmu_digits.png")
print("figure written to lmu_digits.png")
figure
