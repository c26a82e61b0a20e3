"""
Coming from Nengo
=================

Take a network that you would build in Nengo, run it in both simulators, show it hundreds
of images side by side, train it, and take it back to Nengo.

The network classifies handwritten digits in the way that is usual in Nengo: neurons with
random encoders represent an image, and decoders are solved for that turn what they
represent into an answer. That gives a good start. Training then adjusts the encoders, the
biases and the decoders together.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn. The first
1,437 are for training; the last 360, written by other people, are for testing.

Run it with ``python examples/coming_from_nengo.py``. It takes less than a minute and
writes ``coming_from_nengo.png`` to the current folder.
"""

import os
import time

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

N_NEURONS = 100 if QUICK else 200
EPOCHS = 5 if QUICK else 20
N_STEPS = 60 if QUICK else 100  # of 1 ms, for each image
N_SEQUENCE = 5 if QUICK else 10  # images, in the sequence that both simulators see
N_TEST = 120 if QUICK else 360
N_TRAIN = 1437

keras.utils.set_random_seed(0)

# %%
# The network
# -----------
#
# This is all Nengo. The ensemble represents images as vectors of length one. The function
# that the connection computes is given by examples: the training images
# (``eval_points``), and the answer to each of them, a vector of ten numbers with a one at
# the right digit. Nengo solves for the decoders that come closest to it.
#
# With ``amplitude=0.01``, spikes count less and decoders are larger by the same factor.
# Nengo would do without, but it is easier to train parameters that are all of about the
# same size.

images, labels = load_digits(return_X_y=True)
images = images - images[:N_TRAIN].mean(axis=0)
images /= np.linalg.norm(images, axis=1, keepdims=True)
answers = np.eye(10)[labels]
train_images, train_labels = images[:N_TRAIN], labels[:N_TRAIN]
test_images, test_labels = images[N_TRAIN:][:N_TEST], labels[N_TRAIN:][:N_TEST]

with nengo.Network(seed=0) as net:
    stimulus = nengo.Node(
        nengo.processes.PresentInput(test_images[:N_SEQUENCE], N_STEPS * 0.001)
    )
    ensemble = nengo.Ensemble(
        N_NEURONS, 64, neuron_type=nengo.LIF(amplitude=0.01), eval_points=train_images
    )
    output = nengo.Node(size_in=10)
    nengo.Connection(stimulus, ensemble, synapse=None)
    nengo.Connection(
        ensemble,
        output,
        eval_points=train_images,
        scale_eval_points=False,
        function=answers[:N_TRAIN],
        synapse=None,
    )
    probe = nengo.Probe(output)
    filtered = nengo.Probe(output, synapse=0.02)
    spikes = nengo.Probe(ensemble.neurons)

# %%
# The same in both simulators
# ---------------------------
#
# Only the name of the class differs. Both build the network with the same random
# numbers and the same decoders. ``nengo.Simulator`` computes in double precision; to
# compare spike by spike, ``nengo_dl.Simulator`` is asked to do the same.

with net:
    nengo_dl.configure_settings(dtype="float64")


def run(simulator):
    """Show the sequence of images to the network; give its filtered output."""
    with simulator(net, progress_bar=False) as sim:
        sim.run_steps(N_SEQUENCE * N_STEPS)
    return sim.data[filtered], sim.data[spikes]


(core, _), (ours, before) = run(nengo.Simulator), run(nengo_dl.Simulator)
print(f"largest difference before training: {np.abs(ours - core).max():.1e}")

# %%
# Many images side by side
# ------------------------
#
# With ``minibatch_size``, copies of the network run next to each other, and ``predict``
# shows each of them an image of its own. Data have the shape ``(images, steps, size of
# the node)``. What the node itself would put out is not used then. From here on single
# precision is enough.

with net:
    nengo_dl.configure_settings(dtype="float32")


def classify(sim):
    """The filtered output over time, ``(images, N_STEPS, 10)``, for each test image."""
    data = test_images[:, None, :].repeat(N_STEPS, axis=1)
    return sim.predict({stimulus: data})[filtered]


def accuracy(result):
    """The fraction of images with the right answer, after each step."""
    return nengo_dl.plots.step_accuracy(result, test_labels)


with nengo_dl.Simulator(net, minibatch_size=60, progress_bar=False) as sim:
    start = time.perf_counter()
    solved = accuracy(classify(sim))
    seconds = time.perf_counter() - start
print(f"accuracy with decoders solved for:  {solved[-1]:.4f}")
print(f"{N_TEST} images, {N_STEPS} steps each: {seconds:.1f} s")

# %%
# Training
# --------
#
# ``fit`` takes the network as it is. It runs the *rates* of the neurons
# (``nengo.LIFRate``), which are there at once, so one step for each image is enough: this
# is why no connection has a synapse, and why there is a probe without one. The loss is
# the difference between the output and the right answer, here the cross-entropy of a
# softmax. The slope of a LIF neuron's rate is infinite at its threshold;
# ``lif_smoothing`` makes it finite in the gradient.
#
# People write digits in different places of the box. Copies of the images, moved by one
# pixel to the left and to the right, and some noise make the network care less about it.
#
# ``freeze_params`` writes what was learned into the network: encoders, biases, decoders.

with net:
    nengo_dl.configure_settings(lif_smoothing=0.1)

boxes = np.pad(train_images.reshape(-1, 8, 8), ((0, 0), (0, 0), (1, 1)))
moved = [boxes[:, :, start : start + 8].reshape(-1, 64) for start in (0, 1, 2)]
x, y = np.concatenate(moved), np.tile(train_labels, len(moved))
x += np.random.RandomState(0).normal(scale=0.03, size=x.shape)
x, y = x[:, None, :], y[:, None, None]  # an axis for time: one step
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

with nengo_dl.Simulator(net, minibatch_size=64, progress_bar=False) as sim:
    sim.compile(keras.optimizers.Adam(0.01), loss={probe: loss})
    history = sim.fit({stimulus: x}, {probe: y}, epochs=EPOCHS, verbose=0).history
    sim.freeze_params(net)
print(f"loss: {history['loss'][0]:.3f} after the first epoch, ", end="")
print(f"{history['loss'][-1]:.3f} after the last")

with nengo_dl.Simulator(net, minibatch_size=60, progress_bar=False) as sim:
    trained = accuracy(classify(sim))
print(f"accuracy after training:            {trained[-1]:.4f}")

# %%
# Back to Nengo
# -------------
#
# The network is still a Nengo network, and runs wherever Nengo does.

with net:
    nengo_dl.configure_settings(dtype="float64")
(core, _), (ours, after) = run(nengo.Simulator), run(nengo_dl.Simulator)
print(f"largest difference after training:  {np.abs(ours - core).max():.1e}")

# %%
# The figure
# ----------
#
# Both accuracies over the time for which an image is seen; then the spikes and the output
# of the trained network, in Nengo, while it is shown one image after another.

figure = Figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
over_time = left.subplots()
over_time.set_xlabel("time that the image is seen (s)")
for curve, name in ((solved, "decoders solved for"), (trained, "trained")):
    nengo_dl.plots.accuracy_over_time(0.001, curve, label=name, ax=over_time)

raster, decoded = right.subplots(2, 1, sharex=True)
nengo_dl.plots.raster(0.001, after, ax=raster)
nengo_dl.plots.traces(0.001, core, ax=decoded)
for index in range(N_SEQUENCE):
    middle = (index + 0.5) * N_STEPS * 0.001
    raster.annotate(
        test_labels[index],
        (middle, 1.03),
        xycoords=raster.get_xaxis_transform(),
        ha="center",
    )
    decoded.axvline(index * N_STEPS * 0.001, color="0.8", zorder=0)
decoded.set_ylabel("output")
decoded.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="digit")
figure.savefig("coming_from_nengo.png")
print("figure written to coming_from_nengo.png")
figure
