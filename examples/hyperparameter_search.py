"""
Searching for hyperparameters
=============================

How many neurons, how often should they fire, how fast should they learn? Optuna looks
for a good answer, and for one to a second question: what does accuracy cost?

1. A *function* builds, trains and tests one network. What is to be searched for, it asks
   Optuna for.
2. Optuna *calls it* many times. It maximizes the accuracy with spikes and minimizes the
   number of spikes per image, which is what neuromorphic hardware spends energy on.
3. What remains are the networks that no other one beats in both. One of them is *tested*
   on images that nothing has been chosen by.

The images are the 1,797 digits of 8 by 8 pixels that come with scikit-learn: 1,077 for
training, 360 to choose by, and 360 for the test.

Run it with ``python examples/hyperparameter_search.py``. It needs the extra ``optuna``,
takes one to two minutes and writes ``hyperparameter_search.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

try:
    import optuna
except ImportError as error:
    raise ImportError(
        "This example searches with Optuna, which is not installed. The extra 'optuna' "
        'brings it: pip install "nengo-dl[optuna]"'
    ) from error

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

TRIALS = 4 if QUICK else 20
EPOCHS = 3 if QUICK else 8
N_STEPS = 40  # of 1 ms, for each image
DT = 0.001  # seconds per step
BATCH = 60

# %%
# The data
# --------
#
# Three parts. The last one is not touched until the search is over: the best of many
# networks is also the luckiest on the images that it was chosen by.

images, labels = load_digits(return_X_y=True)
images = images / images.max()
train, choose, test = (slice(0, 1077), slice(1077, 1437), slice(1437, None))

# %%
# One network
# -----------
#
# Pixels go to a layer of neurons, and the layer to ten outputs. An input of one makes a
# neuron fire at ``rate`` Hz, and its spikes count ``1 / rate`` each: the rate changes how
# many spikes carry the same numbers, and so how exactly. ``PoissonSpiking`` and others
# could be tried in the same way.


def build(n_neurons, rate):
    """Make an untrained network.

    Parameters
    ----------
    n_neurons : int
    rate : float
        How often a neuron with an input of one fires, in Hz.
    """
    limit = np.sqrt(6 / (64 + n_neurons))
    with nengo.Network(seed=0) as net:
        net.image = nengo.Node(np.zeros(64), label="image")
        neurons = nengo.Ensemble(
            n_neurons,
            1,
            neuron_type=nengo.SpikingRectifiedLinear(amplitude=1 / rate),
            gain=nengo.dists.Choice([rate]),
            bias=nengo.dists.Choice([0]),
            label="neurons",
        ).neurons
        digit = nengo.Node(size_in=10, label="digit")
        weights = nengo.dists.Uniform(-limit, limit)
        nengo.Connection(net.image, neurons, transform=weights, synapse=None)
        nengo.Connection(neurons, digit, transform=weights, synapse=None)
        net.digit = nengo.Probe(digit, label="digit")
        net.spikes = nengo.Probe(neurons, label="spikes")
    return net


def learn(net, learning_rate, seed):
    """Train in rate form, where one time step per image is enough."""
    keras.utils.set_random_seed(seed)
    x, y = images[train, None], {net.digit: labels[train, None, None]}
    with nengo_dl.Simulator(net, minibatch_size=32, progress_bar=False) as sim:
        sim.compile(
            keras.optimizers.Adam(learning_rate),
            loss={
                net.digit: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            },
        )
        sim.fit(x, y, epochs=EPOCHS, verbose=0)
        sim.freeze_params(net)


def measure(net, part):
    """Show the images of one part for some time steps each, with spikes.

    Returns
    -------
    accuracy : float
        The answer is the largest mean output.
    n_spikes : float
        In the layer, for an image.
    """
    x = np.repeat(images[part, None], N_STEPS, axis=1)
    with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
        result = sim.predict(x)
    answers = result[net.digit].mean(axis=1).argmax(axis=1)
    n_spikes = np.count_nonzero(result[net.spikes]) / len(x)
    return np.mean(answers == labels[part]), n_spikes


# %%
# The search
# ----------
#
# ``suggest_int`` and ``suggest_float`` name a parameter and say where to look; the
# sampler chooses a value by what earlier trials gave. ``clear_session`` forgets what
# earlier trials left in Keras, so that memory does not grow.


def suggested(trial):
    """Ask for the hyperparameters of one trial."""
    n_neurons = trial.suggest_int("n_neurons", 10, 200, log=True)
    rate = trial.suggest_float("rate", 10, 500, log=True)
    return n_neurons, rate, trial.suggest_float("learning_rate", 3e-4, 3e-2, log=True)


def objective(trial):
    """Build, train and measure a network with what the trial suggests."""
    n_neurons, rate, learning_rate = suggested(trial)
    keras.backend.clear_session()
    net = build(n_neurons, rate)
    learn(net, learning_rate, seed=trial.number)
    accuracy, n_spikes = measure(net, choose)
    print(f"trial {trial.number:2d}: accuracy {accuracy:.4f}, {n_spikes:.0f} spikes")
    return accuracy, n_spikes


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0)
)
study.enqueue_trial({"n_neurons": 100, "rate": 200, "learning_rate": 0.003})  # a guess
study.optimize(objective, n_trials=TRIALS)

# %%
# What is found
# -------------
#
# The trials that no other one beats in both numbers, from few spikes to many.

front = sorted(study.best_trials, key=lambda trial: trial.values[1])
print("accuracy  spikes  neurons  rate (Hz)  learning rate")
for trial in front:
    (accuracy, n_spikes), p = trial.values, trial.params
    print(
        f"{accuracy:8.4f} {n_spikes:7.0f} {p['n_neurons']:8d} {p['rate']:10.1f} "
        f"{p['learning_rate']:14.5f}"
    )

# %%
# Say that one percent of accuracy less than the best is acceptable. The network with the
# fewest spikes among those is trained once more, with the images that were there to
# choose by, and tested. The images for the test were written by other people, and are
# harder to read.

best = max(accuracy for accuracy, _ in (trial.values for trial in front))
chosen = next(trial for trial in front if trial.values[0] >= best - 0.01)
train = slice(0, 1437)
net = build(chosen.params["n_neurons"], chosen.params["rate"])
learn(net, chosen.params["learning_rate"], seed=chosen.number)
accuracy, n_spikes = measure(net, test)
print(f"chosen: trial {chosen.number} of {TRIALS}")
print(f"test accuracy: {accuracy:.4f} with {n_spikes:.0f} spikes per image")

# %%
# The figure
# ----------

tried = [trial for trial in study.trials if trial.values is not None]
found, spent = np.array([trial.values for trial in tried]).T
figure = Figure(figsize=(11, 4.5), layout="constrained")
costs, parameters = figure.subplots(1, 2)
dots = costs.scatter(spent, 100 * found, c=[t.number for t in tried], cmap="viridis")
costs.plot(
    [t.values[1] for t in front], [100 * t.values[0] for t in front], "k-", linewidth=0.8
)
costs.plot(*chosen.values[::-1] * np.array([1, 100]), "o", mec="red", mfc="none", ms=12)
costs.set(
    xscale="log", xlabel="spikes per image", ylabel="correct answers (%)",
    title="what accuracy costs (red: chosen)",
)  # fmt: skip
figure.colorbar(dots, ax=costs, label="trial", ticks=range(0, TRIALS, 5))
dots = parameters.scatter(
    [t.params["n_neurons"] for t in tried],
    [t.params["rate"] for t in tried],
    c=100 * found,
    vmin=80,
    cmap="magma",
)
parameters.set(
    xscale="log",
    yscale="log",
    xlabel="neurons",
    ylabel="rate (Hz)",
    title="what was tried",
)
figure.colorbar(dots, ax=parameters, label="correct answers (%)", extend="min")
figure.savefig("hyperparameter_search.png")
print("figure written to hyperparameter_search.png")
figure
