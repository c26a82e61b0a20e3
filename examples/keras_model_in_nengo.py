"""
A Keras model in a Nengo network
================================

Put a trained Keras model into a spiking network, as an eye that looks for the network,
and train it on there.

Someone looks at a digit through heavy noise, such as that of an old television set. A
single glance tells little. So what was seen is added up, until there is enough evidence
for one of the ten digits.

1. A convolutional network is *trained* in Keras, on clear images.
2. It is put into a Nengo network, as a `nengo_dl.TensorNode`. Nengo makes the noise,
   which is another one in each millisecond, and spiking neurons *add up* what the model
   says, millisecond by millisecond.
3. The model is *trained on* within the network, where it meets the noise. It remains
   the same Keras model, with other weights.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn. The first
1,437 are for training; the last 360, written by other people, are for testing.

Run it with ``python examples/keras_model_in_nengo.py``. It takes about a minute and
writes ``keras_model_in_nengo.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

EPOCHS = 5 if QUICK else 15
N_STEPS = 20 if QUICK else 60  # of 1 ms, for each image
N_TEST = 120 if QUICK else 360
N_TRAIN = 1437
NOISE = 0.7  # standard deviation; black is 0 and white is 1
BATCH = 60

keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
train_images, train_labels = images[:N_TRAIN], labels[:N_TRAIN]
test_images, test_labels = images[N_TRAIN:][:N_TEST], labels[N_TRAIN:][:N_TEST]

# %%
# The model
# ---------
#
# Nothing here knows of Nengo. The model gives the logarithm of a probability for each
# digit.

layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(16, 3, activation="relu"),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(10),
        layers.Activation("log_softmax"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.002), loss, metrics=["accuracy"])
model.fit(
    train_images.reshape(-1, 8, 8, 1),
    train_labels,
    batch_size=32,
    epochs=EPOCHS,
    verbose=0,
)


def keras_accuracy(x):
    """The fraction of test images that the model gets right by itself."""
    return model.evaluate(x.reshape(-1, 8, 8, 1), test_labels, verbose=0)[1]


print(f"Keras model, clear images: accuracy {keras_accuracy(test_images):.4f}")

# %%
# The network
# -----------
#
# A node of TensorFlow is connected like any other; connections see images as flat
# vectors. The noise is a process of Nengo. It differs in each step, and for each image of
# a batch.
#
# Evidence adds up if the logarithms of probabilities do. For each digit there is an
# ensemble whose spikes feed back to itself, so that it keeps what it has: an integrator,
# as brains are thought to have them. Its value changes by ``RATE`` times its input in a
# second. Only differences between digits count, so the mean over all digits is taken away
# from each of them.

TAU = 0.1  # synapse of the feedback, in seconds
RATE = 2

difference = np.eye(10) - 1 / 10
noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, NOISE), scale=False)

with nengo.Network(seed=0) as net:
    image = nengo.Node(np.zeros(64), label="image")
    screen = nengo.Node(size_in=64, label="screen")
    eye = nengo_dl.TensorNode(model, shape_in=(8, 8, 1), pass_time=False, label="eye")
    evidence = nengo.networks.EnsembleArray(100, 10, label="evidence")

    nengo.Connection(image, screen, synapse=None)
    nengo.Connection(nengo.Node(noise, size_out=64), screen, synapse=None)
    nengo.Connection(screen, eye, synapse=None)
    nengo.Connection(eye, evidence.input, transform=RATE * TAU * difference, synapse=TAU)
    nengo.Connection(evidence.output, evidence.input, synapse=TAU)

    seen = nengo.Probe(screen, label="seen")
    glance = nengo.Probe(eye, label="glance")
    decision = nengo.Probe(evidence.output, synapse=0.01, label="decision")

# %%
# Looking
# -------
#
# ``predict`` shows all test images, a batch side by side, for some time each. The probe
# of the eye tells how good single glances are, that of the evidence what has become of
# them.

x = test_images[:, None, :].repeat(N_STEPS, axis=1)


def look():
    """What the probes see."""
    with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
        return sim.predict({image: x})


def accuracy(output):
    """The fraction of images with the right answer, after each step."""
    return np.mean(output.argmax(axis=-1) == test_labels[:, None], axis=0)


before = look()
print(f"before: single glances: accuracy {accuracy(before[glance]).mean():.4f}")
print(f"before: evidence:       accuracy {accuracy(before[decision])[-1]:.4f}")

# %%
# Training on
# -----------
#
# The weights of the model are parameters of the network, so ``fit`` trains them. A loss
# is given for the eye alone, and nothing after it is needed for that. Each image is
# shown for four steps, which is four glances, each with a noise of its own.

with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
    sim.compile(keras.optimizers.Adam(0.002), loss={glance: loss})
    history = sim.fit(
        {image: train_images[:, None, :].repeat(4, axis=1)},
        {glance: train_labels[:, None, None].repeat(4, axis=1)},
        epochs=2 * EPOCHS,
        verbose=0,
        # goes on with the noise; otherwise each epoch would have the same
        stateful=True,
    ).history
print(f"loss: {history['loss'][0]:.3f} in the first epoch, ", end="")
print(f"{history['loss'][-1]:.3f} in the last")

after = look()
print(f"after: single glances: accuracy {accuracy(after[glance]).mean():.4f}")
print(f"after: evidence:       accuracy {accuracy(after[decision])[-1]:.4f}")

# %%
# What was learned is in the model, wherever else that is used.

print(f"Keras model, noisy images: accuracy {keras_accuracy(after[seen][:, 0]):.4f}")

# %%
# The figure
# ----------
#
# On the left, some of the images and one moment of what the eye is shown. In the middle
# the accuracies over time. On the right the evidence for each digit, for the first of the
# images: the black line is the right one.

figure = Figure(figsize=(13, 4.5), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=(2, 3, 3))
for index, row in enumerate(left.subplots(4, 2)):
    for axes, picture in zip(row, (test_images, after[seen][:, 0]), strict=True):
        axes.imshow(picture[index].reshape(8, 8), cmap="gray", vmin=-1, vmax=2)
        axes.set_axis_off()
        if index == 0:
            axes.set_title("image" if picture is test_images else "a glance")

over_time, traces = middle.subplots(), right.subplots()
milliseconds = np.arange(1, N_STEPS + 1)
for result, color, name in ((before, "C0", "before"), (after, "C1", "after")):
    for probe, style, what in ((glance, ":", "glances"), (decision, "-", "evidence")):
        curve = 100 * accuracy(result[probe])
        over_time.plot(milliseconds, curve, style, color=color, label=f"{what} {name}")
over_time.set(xlabel="time (ms)", ylabel="correct answers (%)")
over_time.legend()
for digit in range(10):
    color = "black" if digit == test_labels[0] else "0.7"
    traces.plot(milliseconds, after[decision][0, :, digit], color=color)
traces.set(xlabel="time (ms)", ylabel="evidence")
figure.savefig("keras_model_in_nengo.png")
print("figure written to keras_model_in_nengo.png")
