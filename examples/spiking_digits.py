"""
Handwritten digits
==================

Train a spiking network to read handwritten digits, then run it in two simulators.

The network is an ordinary Nengo network::

    pixels (64) --weights--> 200 spiking neurons --weights--> output (10)

1. It is *trained* in rate form, one time step per image: ``Simulator.fit`` replaces the
   spiking neurons by their firing rates, which have a gradient.
2. It is *tested* twice with the same weights: with rate neurons, and with spiking
   neurons that look at each image for some time.
3. It is *frozen*: the trained weights are written back into the Nengo network, which
   then runs in ``nengo.Simulator`` too. Both simulators are shown a sequence of images
   and have to give the same answers.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn. The first
1,437 are for training; the last 360, written by other people, are for testing.

Run it with ``python examples/spiking_digits.py``. It takes a few seconds and writes
``spiking_digits.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

# a reduced form, to see quickly that everything runs
QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

SEED = 0
EPOCHS = 5 if QUICK else 10
N_STEPS = 60 if QUICK else 120  # for which an image is shown to spiking neurons
DT = 0.001  # seconds per time step
N_TRAIN = 1437
N_HIDDEN = 200
N_SEQUENCE = 20  # images in the sequence that both simulators are shown

keras.utils.set_random_seed(SEED)  # the order of the images in each epoch

# %%
# Images
# ------
#
# A hidden neuron with input current ``J`` fires at ``J`` Hz, and each of its spikes
# counts ``AMPLITUDE``, so its output is ``AMPLITUDE * J`` on average. White pixels are
# presented with the value ``1 / AMPLITUDE``: the hidden values are then about 1, as in
# any network that is easy to train, while the neurons fire at about 100 Hz, which is
# often enough to answer within a tenth of a second.

AMPLITUDE = 0.01

images, labels = load_digits(return_X_y=True)  # (N, 64) and (N,), from 0 to 9
images = images / images.max() / AMPLITUDE
test_images, test_labels = images[N_TRAIN:], labels[N_TRAIN:]

# %%
# People write digits in different places of the box. To the training images we add each
# of them moved by one pixel to the left and to the right, and some noise. The network
# learns to care less about the place, and makes about a third fewer errors on the
# digits of people whose writing it has not seen.


def augment(images, labels, rng):
    """Add each image moved by one pixel to the left and to the right, and some noise."""
    boxes = np.pad(images.reshape(-1, 8, 8), ((0, 0), (0, 0), (1, 1)))
    moved = [boxes[:, :, start : start + 8].reshape(-1, 64) for start in (0, 1, 2)]
    images, labels = np.concatenate(moved), np.tile(labels, len(moved))
    noise = rng.normal(scale=0.1 / AMPLITUDE, size=images.shape)
    return images + noise, labels


train_images, train_labels = augment(
    images[:N_TRAIN], labels[:N_TRAIN], np.random.RandomState(SEED)
)

# %%
# The network
# -----------
#
# This is all Nengo. We connect to the neurons directly, so they need no encoders; gain
# 1 and bias 0 make the weighted sum of the pixels their input current. The weights
# start at random (Glorot & Bengio, 2010). There are no synapses: during training an
# image has one time step to get through.

SPIKING = nengo.SpikingRectifiedLinear(amplitude=AMPLITUDE)
RATE = nengo.RectifiedLinear(amplitude=AMPLITUDE)

with nengo.Network(seed=SEED) as net:
    pixels = nengo.Node(np.zeros(64), label="pixels")
    hidden = nengo.Ensemble(
        N_HIDDEN,
        1,
        neuron_type=SPIKING,
        gain=nengo.dists.Choice([1]),
        bias=nengo.dists.Choice([0]),
        label="hidden",
    )
    output = nengo.Node(size_in=10, label="output")
    nengo.Connection(
        pixels, hidden.neurons, transform=nengo_dl.dists.Glorot(), synapse=None
    )
    nengo.Connection(
        hidden.neurons, output, transform=nengo_dl.dists.Glorot(), synapse=None
    )
    raw = nengo.Probe(output, label="raw")

# %%
# Training
# --------
#
# Data has the shape ``(images, time steps, size of the node)``. ``fit`` replaces the
# spiking neurons by their firing rates; afterwards ``freeze_params`` writes what was
# learned back into the network.

with nengo_dl.Simulator(net, minibatch_size=64, seed=SEED, progress_bar=False) as sim:
    sim.compile(
        optimizer=keras.optimizers.Adam(0.003),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = sim.fit(
        train_images[:, None, :], train_labels[:, None, None], epochs=EPOCHS, verbose=0
    )
    for epoch, loss in enumerate(history.history["loss"], start=1):
        print(f"epoch {epoch:2d}: training loss {loss:.4f}")
    sim.freeze_params(net)

# %%
# Rates and spikes
# ----------------
#
# The weights are now in ``net``. With rate neurons one time step is all it needs. With
# spiking ones it takes some spikes, and a probe that averages over about the last
# twentieth of a second. Every image starts from the same initial state; 60 of them run
# side by side.


def classify(probe, n_steps):
    """Show each image for ``n_steps``; the class that the output ends up with."""
    x = np.repeat(test_images[:, None, :], n_steps, axis=1)
    with nengo_dl.Simulator(net, minibatch_size=60, progress_bar=False) as sim:
        return sim.predict({pixels: x})[probe][:, -1].argmax(axis=-1)


hidden.neuron_type = RATE
answers = classify(raw, n_steps=1)
print(f"rate accuracy:    {np.mean(answers == test_labels):.4f}")

hidden.neuron_type = SPIKING
with net:
    filtered = nengo.Probe(output, synapse=0.05, label="filtered")
answers = classify(filtered, n_steps=N_STEPS)
print(f"spiking accuracy: {np.mean(answers == test_labels):.4f}")

# %%
# The same in both simulators
# ---------------------------
#
# From here on the network brings its own input: the node shows an image for
# ``N_STEPS``, then the next one. Unlike before, the network starts each image in the
# state that the one before has left behind. ``nengo.Simulator`` computes in float64,
# and so do we here: in float32 a neuron whose voltage is just about at the threshold
# may spike one step earlier or later.

sequence = test_images[:N_SEQUENCE]
pixels.output = nengo.processes.PresentInput(sequence, N_STEPS * DT)
with net:
    spikes = nengo.Probe(hidden.neurons, label="spikes")
    nengo_dl.configure_settings(dtype="float64")

data = {}
for simulator in (nengo.Simulator, nengo_dl.Simulator):
    with simulator(net, dt=DT, progress_bar=False) as sim:
        sim.run_steps(N_STEPS * N_SEQUENCE)
        data[simulator] = sim.data[filtered], sim.data[spikes]

reference, _ = data[nengo.Simulator]
ours, fired = data[nengo_dl.Simulator]
last = np.arange(1, N_SEQUENCE + 1) * N_STEPS - 1
expected, classes = reference[last].argmax(axis=1), ours[last].argmax(axis=1)
difference = np.abs(ours - reference).max()
print(f"frozen network, {N_SEQUENCE} images one after another:")
print(f"  nengo.Simulator    says {' '.join(map(str, expected))}")
print(f"  nengo_dl.Simulator says {' '.join(map(str, classes))}")
print(f"  largest difference of the outputs: {difference:.1e}")
if difference > 1e-3 or (classes != expected).any():
    raise RuntimeError(
        "The frozen network does not give the same answers in nengo.Simulator: outputs "
        f"differ by up to {difference:.1e} (allowed: 1e-3)."
    )

rates = nengo_dl.plots.firing_rates(fired, AMPLITUDE)
print(f"firing rates: {rates.mean():.0f} Hz on average, {rates.max():.0f} Hz most")

# %%
# The images with the answers above them, the spikes, and the output over time:

figure = Figure(figsize=(12, 7), layout="constrained")
rows = figure.subfigures(2, 1, height_ratios=(1, 6))

for index, axes in enumerate(rows[0].subplots(1, N_SEQUENCE)):
    axes.imshow(sequence[index].reshape(8, 8), cmap="gray_r")
    axes.set_title(classes[index])
    axes.set_axis_off()

raster, decoded = rows[1].subplots(2, 1, sharex=True)
nengo_dl.plots.raster(DT, fired, ax=raster)
raster.set(ylabel="hidden neuron", title="spikes")
nengo_dl.plots.traces(DT, ours, ax=decoded)
decoded.set(ylabel="output", title="filtered output")
decoded.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="digit")
for axes in (raster, decoded):
    for index in range(N_SEQUENCE):
        axes.axvline(index * N_STEPS * DT, color="0.8", linewidth=0.8, zorder=0)

figure.savefig("spiking_digits.png")
print("plot written to spiking_digits.png")
figure
