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

Run it with ``python examples/unsupervised_digits.py``. It takes about a minute and writes
``unsupervised_digits.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

N_NEURONS = 30 if QUICK else 100
N_LEARN = 600 if QUICK else 1437  # images
EPOCHS = 1 if QUICK else 4
DT = 0.001  # seconds per step
SHOW, PAUSE = 40, 20  # steps for an image, and for nothing after it
BATCH = 120

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
TAU_N = float(os.environ.get("TAU", 60))  # seconds until a threshold falls
INC_N = float(os.environ.get("INC", 1000))


def build(weights, thresholds=None):
    """Make the network.

    Parameters
    ----------
    weights : (N_NEURONS, 64) array_like
        From pixels to neurons.
    thresholds : (N_NEURONS,) array_like, optional
        If given, nothing changes any more: weights and thresholds stay as they are.
    """
    learning = thresholds is None
    rule = nengo.Oja(
        learning_rate=float(os.environ.get("KAPPA", 8)), pre_synapse=0.01, post_synapse=0.01, beta=float(os.environ.get("BETA", 1.6)),
    )
    adaptive = nengo.AdaptiveLIF(tau_n=TAU_N, inc_n=INC_N, amplitude=AMPLITUDE)
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
            neuron_type=adaptive if learning else nengo.LIF(amplitude=AMPLITUDE),
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
            transform=float(os.environ.get("INH", -2)) * (1 - np.eye(N_NEURONS)),
            synapse=0.01,
        )
        net.spikes = nengo.Probe(layer.neurons, label="spikes")
        if learning:
            net.thresholds = nengo.Probe(
                layer.neurons, "adaptation", sample_every=0.06, label="thresholds"
            )
    return net


# %%
# Labels
# ------
#
# Who responds to what is measured in batches, with weights and thresholds that stay as
# they are.


def responses(weights, thresholds, chosen):
    """Count spikes.

    Returns
    -------
    (images, N_NEURONS) ndarray
    """
    net = build(weights, thresholds)
    with nengo_dl.Simulator(
        net, dt=DT, minibatch_size=BATCH, progress_bar=False
    ) as sim:
        return np.concatenate(
            [
                np.count_nonzero(sim.predict(over_time(batch), verbose=0)[net.spikes], axis=1)
                for batch in np.split(chosen, np.arange(BATCH, len(chosen), BATCH))
            ]
        )

def named(counts, digits):
    """Name each neuron after the digit to which it responds most on average."""
    means = np.array([counts[digits == digit].mean(axis=0) for digit in range(10)])
    return means.argmax(axis=0)


def answers(counts, names):
    """The digit whose neurons fire most, on average."""
    members = names[:, None] == np.arange(10)
    return (counts @ members / np.maximum(members.sum(axis=0), 1)).argmax(axis=1)


def accuracy(weights, thresholds):
    """Name the neurons by images for learning; the fraction of right answers in the test."""
    # (as many images as fill whole batches)
    n = len(learn_images) // BATCH * BATCH
    names = named(responses(weights, thresholds, learn_images[:n]), learn_labels[:n])
    counts = responses(weights, thresholds, test_images)
    return np.mean(answers(counts, names) == test_labels), names, counts


# %%
# Learning
# --------
#
# One image after the other, all in one long run without batches: each learns from what
# the ones before have left behind.

rng = np.random.RandomState(0)
weights = rng.uniform(0.5, 1, size=(N_NEURONS, 64))
weights /= np.linalg.norm(weights, axis=1, keepdims=True)

net = build(weights)
with nengo_dl.Simulator(net, dt=DT, progress_bar=False) as sim:
    for epoch in range(EPOCHS):
        order = rng.permutation(len(learn_images))
        x = over_time(learn_images[order]).reshape(1, -1, 64)
        sim.run_steps(x.shape[1], data={net.image: x})
        spikes = sim.data[net.spikes][-x.shape[1]:]
        counts = np.count_nonzero(spikes.reshape(len(order), -1, N_NEURONS), axis=1)
        w = sim.data[net.weights].weights
        th = sim.data[net.thresholds]
        wins = np.bincount(counts.argmax(1), minlength=N_NEURONS)
        print("spikes/img", counts.sum(1).mean(), "active/img", (counts>0).sum(1).mean(), "silent imgs", (counts.sum(1)==0).mean(), "wins", wins.min(), wins.max(), "norm", np.linalg.norm(w,axis=1).mean(), "thr", th[-1].mean(), th[-1].std())
        print(accuracy(w, th[-1])[0])
