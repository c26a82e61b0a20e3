"""
Learning digits without being told
==================================

Neurons that compete for images learn, each by itself, what handwritten digits look like.
No gradient and no label takes part in that.

Three things have to come together:

1. *Oja's rule* pulls the weights of an active neuron towards the image that is shown, and
   keeps them from growing without bound (Oja, 1982).
2. *Lateral inhibition* lets one neuron win: whoever fires first silences the others, so
   that they do not all learn the same.
3. *Adaptation* gives everybody a share. With each spike the threshold of a neuron rises,
   and it falls very slowly, so that those who win too often become less sensitive.

Only afterwards does someone look at labels: each neuron is named after the digit that it
responds to most. This is the scheme of Diehl and Cook (2015), *Unsupervised learning of
digit recognition using spike-timing-dependent plasticity*, with a simpler rule.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn. The first
1,437 are for learning; the last 360, written by other people, are for testing.

Run it with ``python examples/unsupervised_digits.py``. It takes about half a minute and
writes ``unsupervised_digits.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

N_NEURONS = 50 if QUICK else 100
N_LEARN = 600 if QUICK else 1437  # images
EPOCHS = 2 if QUICK else 3
DT = 0.001  # seconds per step
SHOW, PAUSE = 40, 20  # steps for an image, and for nothing after it

# %%
# The data
# --------
#
# Bright and dark images have the same length, one, so that what counts is the direction:
# a product of weights and pixels says how alike they are.

images, labels = load_digits(return_X_y=True)
images /= np.linalg.norm(images, axis=1, keepdims=True)
learn_images, learn_labels = images[:N_LEARN], labels[:N_LEARN]
test_images, test_labels = images[1437:], labels[1437:]


def over_time(chosen):
    """Images that are shown for some time each, with a pause after each.

    In the pause the inhibition of the last winner fades. Without it, that neuron would
    win the next image, too, and so on.

    Returns
    -------
    (images, SHOW + PAUSE, 64) ndarray
    """
    x = np.zeros((len(chosen), SHOW + PAUSE, chosen.shape[-1]))
    x[:, :SHOW] = chosen[:, None]
    return x


# %%
# The network
# -----------
#
# 64 pixel neurons fire at up to 100 Hz or so; their amplitude makes them stand for the
# values of pixels again. A neuron of the layer gets ten times the product of weights and
# pixels, minus what adaptation has added to its threshold.
#
# Inhibition comes from all *others*: the diagonal of its weights is zero. A neuron that
# inhibits itself as well hardly fires.
#
# The rule sees activities through synapses as short as those on the connection. With
# longer ones it would still see the last image when the next winner fires, and neurons
# would learn mixtures.

GAIN = 10
AMPLITUDE = 0.01
LEARNING_RATE = 4
ADAPTIVE = nengo.AdaptiveLIF(tau_n=400, inc_n=2000, amplitude=AMPLITUDE)
FIXED = nengo.LIF(amplitude=AMPLITUDE)


def build(weights, thresholds=None, learning_rate=LEARNING_RATE):
    """Make the network.

    Parameters
    ----------
    weights : (N_NEURONS, 64) array_like
        From pixels to neurons.
    thresholds : (N_NEURONS,) array_like, optional
        If given, nothing changes any more: weights and thresholds stay as they are.
    learning_rate : float
        Of Oja's rule.
    """
    learning = thresholds is None
    rule = nengo.Oja(learning_rate, pre_synapse=0.01, post_synapse=0.01, beta=1.6)
    with nengo.Network(seed=0) as net:
        net.image = nengo.Node(np.zeros(64), label="image")
        pixels = nengo.Ensemble(
            64,
            1,
            neuron_type=nengo.SpikingRectifiedLinear(amplitude=1 / 300),
            gain=nengo.dists.Choice([300]),
            bias=nengo.dists.Choice([0]),
            label="pixels",
        )
        layer = nengo.Ensemble(
            N_NEURONS,
            1,
            neuron_type=ADAPTIVE if learning else FIXED,
            gain=nengo.dists.Choice([GAIN]),
            bias=np.zeros(N_NEURONS) if learning else -np.asarray(thresholds),
            label="layer",
        )
        nengo.Connection(net.image, pixels.neurons, synapse=None)
        net.weights = nengo.Connection(
            pixels.neurons,
            layer.neurons,
            transform=weights,
            synapse=0.01,
            learning_rule_type=rule if learning else None,
        )
        nengo.Connection(
            layer.neurons,
            layer.neurons,
            transform=-2 * (1 - np.eye(N_NEURONS)),
            synapse=0.01,
        )
        net.spikes = nengo.Probe(layer.neurons, label="spikes")
        if learning:
            net.thresholds = nengo.Probe(
                layer.neurons, "adaptation", sample_every=(SHOW + PAUSE) * DT
            )
    return net


# %%
# Learning
# --------
#
# One image after the other, all in one long run without batches: each learns from what
# the ones before have left behind. That is many steps of a small network, which runs as
# machine code.

rng = np.random.RandomState(0)
random_weights = rng.uniform(0.5, 1, size=(N_NEURONS, 64))
random_weights /= np.linalg.norm(random_weights, axis=1, keepdims=True)


def live(learning_rate):
    """Show all images, in a new order each time.

    Returns
    -------
    weights : (N_NEURONS, 64) ndarray
    thresholds : (shown images, N_NEURONS) ndarray
        After each image.
    """
    net = build(random_weights, learning_rate=learning_rate)
    with nengo_dl.Simulator(net, dt=DT, progress_bar=False) as sim:
        for _ in range(EPOCHS):
            x = over_time(rng.permutation(learn_images)).reshape(1, -1, 64)
            sim.run_steps(x.shape[1], data={net.image: x})
        return sim.data[net.weights].weights, sim.data[net.thresholds]


weights, thresholds = live(LEARNING_RATE)

# %%
# Names
# -----
#
# Who responds to what is measured in batches, with weights and thresholds that stay as
# they are. An image gets the name of those neurons that respond most.


def responses(weights, thresholds, chosen):
    """Show images in batches, without learning.

    Returns
    -------
    (images, SHOW + PAUSE, N_NEURONS) ndarray of bool
        Who spikes when.
    """
    net = build(weights, thresholds)
    with nengo_dl.Simulator(net, dt=DT, minibatch_size=120, progress_bar=False) as sim:
        return sim.predict(over_time(chosen))[net.spikes] > 0


def name(spikes, digits):
    """Name each neuron after the digit to which it responds most, on average."""
    counts = spikes.sum(axis=1)
    means = [counts[digits == digit].mean(axis=0) for digit in range(10)]
    return np.argmax(means, axis=0)


def answer(spikes, names):
    """The digits whose neurons fire most, on average."""
    members = names[:, None] == np.arange(10)
    return (spikes.sum(axis=1) @ members / np.maximum(members.sum(axis=0), 1)).argmax(1)


def judge(weights, thresholds):
    """Name the neurons and use them.

    Returns
    -------
    accuracy : float
        On images for testing.
    names : (N_NEURONS,) ndarray of int
    spikes : (images, SHOW + PAUSE, N_NEURONS) ndarray of bool
    """
    names = name(responses(weights, thresholds, learn_images), learn_labels)
    spikes = responses(weights, thresholds, test_images)
    return np.mean(answer(spikes, names) == test_labels), names, spikes


learned, names, spikes = judge(weights, thresholds[-1])

# %%
# How much of it is learned? Neurons with random weights, whose thresholds alone adapt,
# respond to something, too, and can be named as well.

unlearned, *_ = judge(random_weights, live(learning_rate=0)[1][-1])
print(f"accuracy with random weights:  {unlearned:.4f}")
print(f"accuracy with learned weights: {learned:.4f}")
active = spikes.any(axis=1).sum(axis=1)
print(f"active neurons per image: {active.mean():.1f} of {N_NEURONS}")

# %%
# The figure
# ----------
#
# On the left the weights of 50 neurons and their names; on the right the spikes for ten
# images, and how thresholds found their level.

figure = Figure(figsize=(12, 6), layout="constrained")
left, right = figure.subfigures(1, 2)
for neuron, axes in enumerate(left.subplots(5, 10).flat):
    axes.imshow(weights[neuron].reshape(8, 8), cmap="gray_r")
    axes.set_title(str(names[neuron]), fontsize=8)
    axes.set_axis_off()

raster, adaptation = right.subplots(2, 1)
shown = spikes[:10].reshape(-1, N_NEURONS)
nengo_dl.plots.raster(DT, shown, ax=raster, linewidth=3)
for i, digit in enumerate(test_labels[:10]):
    start = i * (SHOW + PAUSE) * DT
    raster.axvspan(start, start + SHOW * DT, color="0.92", zorder=0)
    raster.text(start + SHOW * DT / 2, N_NEURONS * 1.05, str(digit), ha="center")
adaptation.plot(np.arange(1, len(thresholds) + 1), thresholds[:, ::10], linewidth=0.8)
adaptation.set(xlabel="images shown in learning", ylabel="added to the threshold")
figure.savefig("unsupervised_digits.png")
print("figure written to unsupervised_digits.png")
figure
