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

Run it with ``python examples/spiking_digits.py``; ``--help`` lists the options.
"""

import argparse
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

DT = 0.001  # seconds per time step
N_TRAIN = 1437
N_HIDDEN = 200

# A hidden neuron with input current J fires at J Hz, and each of its spikes counts
# `AMPLITUDE`, so its output is `AMPLITUDE * J` on average. White pixels are presented
# with the value `1 / AMPLITUDE`: the hidden values are then about 1, as in any network
# that is easy to train, while the neurons fire at about 100 Hz, which is often enough
# to answer within a tenth of a second.
AMPLITUDE = 0.01
SPIKING = nengo.SpikingRectifiedLinear(amplitude=AMPLITUDE)
RATE = nengo.RectifiedLinear(amplitude=AMPLITUDE)

# The answer is the output averaged over (roughly) the last `READOUT` seconds.
READOUT = 0.05

# Images in the sequence that both simulators are shown, and how far their outputs may
# be apart.
N_SEQUENCE = 20
TOLERANCE = 1e-3


def load_data():
    """Load the digits.

    Returns
    -------
    (images, labels), (images, labels)
        For training and for testing. Images are ``(N, 64)``, black is 0 and white is
        ``1 / AMPLITUDE``; labels are ``(N,)``, from 0 to 9.
    """
    images, labels = load_digits(return_X_y=True)
    images = images / images.max() / AMPLITUDE
    return (images[:N_TRAIN], labels[:N_TRAIN]), (images[N_TRAIN:], labels[N_TRAIN:])


def augment(images, labels, rng):
    """Add each image moved by one pixel to the left and to the right, and some noise.

    People write digits in different places of the box. With moved copies the network
    learns to care less about the place, and makes about a third fewer errors on the
    digits of people whose writing it has not seen.
    """
    boxes = np.pad(images.reshape(-1, 8, 8), ((0, 0), (0, 0), (1, 1)))
    moved = [boxes[:, :, start : start + 8].reshape(-1, 64) for start in (0, 1, 2)]
    images, labels = np.concatenate(moved), np.tile(labels, len(moved))
    noise = rng.normal(scale=0.1 / AMPLITUDE, size=images.shape)
    return images + noise, labels


def initial_weights(n_in, n_out):
    """Distribution of the weights before training (Glorot & Bengio, 2010)."""
    limit = np.sqrt(6 / (n_in + n_out))
    return nengo.dists.Uniform(-limit, limit)


def build_network(seed=0):
    """Build the untrained network.

    Returns
    -------
    nengo.Network
        With the attributes ``pixels`` (input node), ``hidden`` (ensemble), ``output``
        (node) and ``raw`` (probe of the output at each time step, unfiltered).
    """
    with nengo.Network(seed=seed) as net:
        net.pixels = nengo.Node(np.zeros(64), label="pixels")
        # We connect to the neurons directly, so they need no encoders; gain 1 and bias
        # 0 make the weighted sum of the pixels their input current.
        net.hidden = nengo.Ensemble(
            N_HIDDEN,
            1,
            neuron_type=SPIKING,
            gain=nengo.dists.Choice([1]),
            bias=nengo.dists.Choice([0]),
            label="hidden",
        )
        net.output = nengo.Node(size_in=10, label="output")

        # No synapses: during training an image has one time step to get through.
        nengo.Connection(
            net.pixels,
            net.hidden.neurons,
            transform=initial_weights(64, N_HIDDEN),
            synapse=None,
        )
        nengo.Connection(
            net.hidden.neurons,
            net.output,
            transform=initial_weights(N_HIDDEN, 10),
            synapse=None,
        )
        net.raw = nengo.Probe(net.output, label="raw")
    return net


def train(net, images, labels, epochs):
    """Train the network in rate form and write what it learned back into it."""
    # Data has the shape (number of images, number of time steps, size of the node).
    x = images[:, None, :]
    y = labels[:, None, None]
    with nengo_dl.Simulator(net, minibatch_size=64, progress_bar=False) as sim:
        sim.compile(
            optimizer=keras.optimizers.Adam(0.003),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = sim.fit(x, y, epochs=epochs, verbose=0)
        for epoch, loss in enumerate(history.history["loss"], start=1):
            print(f"epoch {epoch:2d}: training loss {loss:.4f}")
        sim.freeze_params(net)


def classify(net, probe, images, n_steps):
    """Show each image for ``n_steps`` and return the class the output ends up with.

    Every image starts from the same initial state. They are run in batches of 60.
    """
    x = np.repeat(images[:, None, :], n_steps, axis=1)
    with nengo_dl.Simulator(net, minibatch_size=60, progress_bar=False) as sim:
        output = sim.predict({net.pixels: x})[probe]
    return output[:, -1].argmax(axis=-1)


def run_sequence(simulator, net, n_steps):
    """Run the frozen network on a sequence of images with the given simulator class.

    Returns
    -------
    output, spikes : np.ndarray
        Filtered output ``(T, 10)`` and the spikes of the hidden neurons ``(T, 200)``.
    """
    with simulator(net, dt=DT, progress_bar=False) as sim:
        sim.run_steps(n_steps)
        return sim.data[net.filtered], sim.data[net.spikes]


def compare_simulators(net, images, n_steps):
    """Show the images one after another to both simulators; the answers must agree.

    Returns
    -------
    output, spikes, classes : np.ndarray
        As in `run_sequence`, and the answer at the end of each image.
    """
    # From here on the network brings its own input: this node shows an image for
    # `n_steps`, then the next one. Unlike in `classify`, the network starts each image
    # in the state that the one before has left behind.
    net.pixels.output = nengo.processes.PresentInput(images, n_steps * DT)
    with net:
        net.spikes = nengo.Probe(net.hidden.neurons, label="spikes")
        # nengo.Simulator computes in float64. In float32 a neuron whose voltage is just
        # about at the threshold may spike one step earlier or later.
        nengo_dl.configure_settings(dtype="float64")

    total = n_steps * len(images)
    reference, _ = run_sequence(nengo.Simulator, net, total)
    output, spikes = run_sequence(nengo_dl.Simulator, net, total)

    difference = np.abs(output - reference).max()
    last = np.arange(1, len(images) + 1) * n_steps - 1
    classes, expected = output[last].argmax(axis=1), reference[last].argmax(axis=1)
    print(f"frozen network, {len(images)} images one after another:")
    print(f"  nengo.Simulator    says {' '.join(map(str, expected))}")
    print(f"  nengo_dl.Simulator says {' '.join(map(str, classes))}")
    print(f"  largest difference of the outputs: {difference:.1e}")
    if difference > TOLERANCE or (classes != expected).any():
        raise RuntimeError(
            "The frozen network does not give the same answers in nengo.Simulator: "
            f"outputs differ by up to {difference:.1e} (allowed: {TOLERANCE})."
        )
    return output, spikes, classes


def plot(images, output, spikes, classes, path):
    """Draw the images, the spikes and the output over time into a file."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    rows = figure.subfigures(2, 1, height_ratios=(1, 6))

    for index, axes in enumerate(rows[0].subplots(1, len(images))):
        axes.imshow(images[index].reshape(8, 8), cmap="gray_r")
        axes.set_title(classes[index])
        axes.set_axis_off()

    raster, decoded = rows[1].subplots(2, 1, sharex=True)
    nengo_dl.plots.raster(DT, spikes, ax=raster)
    raster.set(ylabel="hidden neuron", title="spikes")
    nengo_dl.plots.traces(DT, output, ax=decoded)
    decoded.set(ylabel="output", title="filtered output")
    decoded.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="digit")
    for axes in (raster, decoded):
        for index in range(len(images)):
            start = index * len(output) // len(images) * DT
            axes.axvline(start, color="0.8", linewidth=0.8, zorder=0)

    figure.savefig(path)


def parse_arguments(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train a spiking network to read handwritten digits."
    )
    parser.add_argument(
        "--epochs", type=int, default=5 if QUICK else 10, help="default: %(default)s"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=60 if QUICK else 120,
        help="time steps (of 1 ms) for which an image is shown, default: %(default)s",
    )
    parser.add_argument(
        "--output",
        default="spiking_digits.png",
        help="file for the plot, default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Train, test, freeze and compare; see the top of this file."""
    args = parse_arguments(arguments)
    keras.utils.set_random_seed(args.seed)  # the order of the images in each epoch
    rng = np.random.RandomState(args.seed)
    (train_images, train_labels), (test_images, test_labels) = load_data()

    net = build_network(args.seed)
    train(net, *augment(train_images, train_labels, rng), args.epochs)

    # The weights are now in `net`. With rate neurons one time step is all it needs ...
    net.hidden.neuron_type = RATE
    answers = classify(net, net.raw, test_images, n_steps=1)
    print(f"rate accuracy:    {np.mean(answers == test_labels):.4f}")

    # ... with spiking ones it takes some spikes, and a probe that averages over them.
    net.hidden.neuron_type = SPIKING
    with net:
        net.filtered = nengo.Probe(net.output, synapse=READOUT, label="filtered")
    answers = classify(net, net.filtered, test_images, n_steps=args.steps)
    print(f"spiking accuracy: {np.mean(answers == test_labels):.4f}")

    sequence = test_images[:N_SEQUENCE]
    output, spikes, classes = compare_simulators(net, sequence, args.steps)
    rates = np.count_nonzero(spikes, axis=0) / (len(spikes) * DT)
    print(f"firing rates: {rates.mean():.0f} Hz on average, {rates.max():.0f} Hz most")

    plot(sequence, output, spikes, classes, args.output)
    print(f"plot written to {args.output}")


if __name__ == "__main__":
    main()
