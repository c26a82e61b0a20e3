"""
Keeping a digit in mind
=======================

A working memory that is told which of many images to remember, and learns to hold it
against its own drift.

1. *Attention*: a signal inhibits the neurons that look at images, except for the one
   image that counts.
2. *Memory* is an integrator of the Neural Engineering Framework: neurons that feed back
   to themselves what they represent. With few neurons it is not exact, and what it holds
   drifts away.
3. First only *vision* is trained, with the memory as it is. Then the *feedback* is
   trained as well, through all time steps of a sequence. Now it holds the answer better,
   with spikes, and for longer than any sequence in training lasts.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn. The first
1,437 are for training; the last 360, written by other people, are for testing.

Run it with ``python examples/cognitive_dynamics.py``. It takes about a minute and
writes ``cognitive_dynamics.png`` to the current folder.
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

EPOCHS = (5, 3) if QUICK else (10, 15)
N_VISION, N_MEMORY = 150, 60
DT = 0.01  # seconds per step
SHOW = 5  # steps for an image
N_IMAGES = (4, 20)  # in a sequence, for the first training and the second
N_LONG = 20 if QUICK else 40  # in a sequence for testing
BATCH = 60

keras.utils.set_random_seed(0)
rng = np.random.RandomState(0)

# %%
# Sequences
# ---------
#
# Images follow one another. One of them, at any place, is to be remembered; during
# all others the second input is one: "ignore this". What is asked for is the digit, at
# the end.

images, labels = load_digits(return_X_y=True)
images = images / images.max()
train_images, test_images = images[:1437], images[1437:]
train_labels, test_labels = labels[:1437], labels[1437:]


def sequences(chosen, others, places, length):
    """Put each chosen image into a sequence of others.

    Parameters
    ----------
    chosen : (sequences, 64) ndarray
    others : (images, 64) ndarray
        What the rest is drawn from.
    places : (sequences,) ndarray of int
        Where the chosen image goes.
    length : int
        Images in a sequence.

    Returns
    -------
    list of (sequences, length * SHOW, 64) and (sequences, length * SHOW, 1) ndarray
    """
    every = np.arange(len(chosen))
    pixels = others[rng.randint(len(others), size=(len(chosen), length))]
    pixels[every, places] = chosen
    ignore = np.ones((len(chosen), length, 1))
    ignore[every, places] = 0
    return [np.repeat(values, SHOW, axis=1) for values in (pixels, ignore)]


class Sequences(keras.utils.PyDataset):
    """Each image for training once in an epoch, at a random place of a new sequence."""

    def __init__(self, length):
        super().__init__()
        self.length = length
        self.on_epoch_end()

    def __len__(self):
        return len(self.order) // BATCH

    def __getitem__(self, index):
        items = self.order[index * BATCH : (index + 1) * BATCH]
        places = rng.randint(self.length, size=BATCH)
        x = sequences(train_images[items], train_images, places, self.length)
        return x, np.eye(10)[train_labels[items], None]

    def on_epoch_end(self):
        """Shuffle."""
        self.order = rng.permutation(len(train_images))


# %%
# The network
# -----------
#
# A neuron's amplitude is 0.01 and its rates are around 100 Hz, so that its output is
# about one. The memory has ten dimensions, one per digit, and a synapse of 0.1 s that
# what goes in and what is fed back have in common: that makes it an integrator.

NEURON_TYPE = nengo.SpikingRectifiedLinear(amplitude=0.01)
TAU = 0.1  # seconds

limit = np.sqrt(6 / (64 + N_VISION))
with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(trainable=None, keep_history=True)
    net.config[nengo.Ensemble].neuron_type = NEURON_TYPE
    pixels = nengo.Node(np.zeros(64), label="pixels")
    ignore = nengo.Node([0], label="ignore")
    vision = nengo.Ensemble(
        N_VISION,
        1,
        gain=nengo.dists.Choice([100]),
        bias=nengo.dists.Choice([0]),
        label="vision",
    )
    memory = nengo.Ensemble(
        N_MEMORY, 10, max_rates=nengo.dists.Uniform(100, 200), label="memory"
    )
    digit = nengo.Node(size_in=10, label="digit")

    looking = nengo.Connection(
        pixels,
        vision.neurons,
        transform=nengo.dists.Uniform(-limit, limit),
        synapse=None,
    )
    inhibition = nengo.Connection(
        ignore, vision.neurons, transform=-10 * np.ones((N_VISION, 1)), synapse=None
    )
    storing = nengo.Connection(
        vision.neurons,
        memory,
        transform=nengo.dists.Uniform(-limit, limit),
        synapse=TAU,
    )
    feedback = nengo.Connection(memory, memory, synapse=TAU, label="feedback")
    recall = nengo.Connection(memory, digit, synapse=0.02)
    answer = nengo.Probe(digit, label="answer")

for part in (inhibition, recall):
    net.config[part].trainable = False

# %%
# Training and testing
# --------------------
#
# In training the probe keeps the last step only, which is what is asked for. The target
# is one for the digit and zero for the others, however long ago it was seen: values that
# do not depend on time are what a memory is to hold. Training runs rates.
#
# The test is a long sequence: the image to remember comes first, and then all the others.
# Neurons spike.


def train(length, epochs, learning_rate):
    """Train what is trainable, and write it into the network."""
    net.config[answer].keep_history = False
    with nengo_dl.Simulator(net, dt=DT, minibatch_size=BATCH, progress_bar=False) as sim:
        sim.compile(
            keras.optimizers.Adam(learning_rate, clipnorm=1.0),
            loss="mse",
        )
        losses = sim.fit(Sequences(length), epochs=epochs, verbose=0).history["loss"]
        sim.freeze_params(net)
    net.config[answer].keep_history = True
    print(f"training loss: {losses[0]:.3f} in epoch 1, {losses[-1]:.3f} in {epochs}")


first = np.zeros(len(test_images), dtype=int)
test_x = sequences(test_images, test_images, first, N_LONG)


def test():
    """Run all long sequences.

    Returns
    -------
    output : (sequences, steps, 10) ndarray
    accuracy : (steps,) ndarray
    """
    with nengo_dl.Simulator(net, dt=DT, minibatch_size=BATCH, progress_bar=False) as sim:
        output = sim.predict(dict(zip((pixels, ignore), test_x)))[answer]
    return output, np.mean(output.argmax(axis=2) == test_labels[:, None], axis=0)


def tell(accuracy, what):
    """Print how often the memory is right, early and late."""
    early, late = accuracy[5 * SHOW - 1], accuracy[-1]
    print(
        f"{what}: accuracy {early:.4f} after {5 * SHOW * DT:.2f} s, {late:.4f} "
        f"after {N_LONG * SHOW * DT:.2f} s"
    )


# %%
# First the memory stays as Nengo has made it, by least squares.

for part in (feedback, memory, memory.neurons):
    net.config[part].trainable = False
train(N_IMAGES[0], EPOCHS[0], 0.003)
output_built, accuracy_built = test()
tell(accuracy_built, "memory as built")

# %%
# Then it learns, too.

for part in (feedback, memory, memory.neurons):
    net.config[part].trainable = True
train(N_IMAGES[1], EPOCHS[1], 0.001)
output_trained, accuracy_trained = test()
tell(accuracy_trained, "memory trained")

# %%
# The figure
# ----------
#
# One sequence with both memories, and how often they are right as time goes by.

known = (output_built[:, 4 * SHOW].argmax(axis=1) == test_labels) & (
    output_trained[:, -1].argmax(axis=1) == test_labels
)
forgotten = known & (output_built[:, -1].argmax(axis=1) != test_labels)
example = int(np.flatnonzero(forgotten if forgotten.any() else known)[0])

figure = Figure(figsize=(12, 6), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(1, 4))
for i, axes in enumerate(top.subplots(1, 12)):
    axes.imshow(test_x[0][example, i * SHOW].reshape(8, 8), cmap="gray_r")
    axes.set_title("remember" if i == 0 else "ignore", fontsize=8)
    axes.set_axis_off()

seconds = np.arange(1, N_LONG * SHOW + 1) * DT
built, trained, curves = bottom.subplots(1, 3)
for axes, output in ((built, output_built), (trained, output_trained)):
    for number, values in enumerate(output[example].T):
        shown = number == test_labels[example]
        if shown:
            style = {"color": "black", "linewidth": 2, "label": f"{number} (shown)"}
        else:
            style = {"color": "0.7", "linewidth": 0.8}
        axes.plot(seconds, values, zorder=2 + shown, **style)
    axes.set(xlabel="time (s)", ylabel="output")
    axes.legend()
built.set_title("memory as built")
trained.set_title("memory trained")
curves.plot(seconds, 100 * accuracy_built, label="as built")
curves.plot(seconds, 100 * accuracy_trained, label="trained")
curves.axvline(N_IMAGES[1] * SHOW * DT, color="0.7", label="longest in training")
curves.axhline(10, color="black", linestyle=":", label="chance")
curves.set(xlabel="time (s)", ylabel="correct answers (%)", ylim=(0, 100))
curves.legend()
figure.savefig("cognitive_dynamics.png")
print("figure written to cognitive_dynamics.png")
figure
