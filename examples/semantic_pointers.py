"""
The peso of Sweden
==================

Facts about a country in one vector, a network of neurons that answers questions about
it, and training that makes it answer better than the mathematics behind it.

1. *Semantic pointers* are vectors for concepts. A pair such as "the currency is the
   krona" is the circular convolution of two of them, and a record of a country is a sum
   of pairs. Convolution with an inverse takes a record apart again, roughly: the other
   pairs are left as noise (Plate, 1995).
2. A *network* of the Neural Engineering Framework does that with neurons. It adds errors
   of its own, the more the fewer neurons it has.
3. It is *trained* with made-up records and then answers questions about real ones.
4. It draws *analogies*: what the peso is to Mexico, what is that to Sweden? (Kanerva,
   2010, asked for the dollar of Mexico.) And it does all that with spikes.

Run it with ``python examples/semantic_pointers.py``. It takes about half a minute and
writes ``semantic_pointers.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure
from nengo import spa

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

DIMENSIONS = 32
N_NEURONS = 20  # for each product of two numbers
EPOCHS = 2 if QUICK else 10
N_TEST = 100  # made-up records for testing
N_TRAIN = 400 if QUICK else 890  # and for training
N_STEPS = 100  # of 1 ms, for a question with spikes

keras.utils.set_random_seed(0)
rng = np.random.RandomState(0)

# %%
# Facts
# -----
#
# Ten countries, with three facts each.

ROLES = ("CAPITAL", "CURRENCY", "LANGUAGE")
COUNTRIES = {
    "Brazil": ("BRASILIA", "REAL", "PORTUGUESE"),
    "India": ("DELHI", "RUPEE", "HINDI"),
    "Japan": ("TOKYO", "YEN", "JAPANESE"),
    "Korea": ("SEOUL", "WON", "KOREAN"),
    "Mexico": ("MEXICO_CITY", "PESO", "SPANISH"),
    "Poland": ("WARSAW", "ZLOTY", "POLISH"),
    "Sweden": ("STOCKHOLM", "KRONA", "SWEDISH"),
    "Thailand": ("BANGKOK", "BAHT", "THAI"),
    "Turkey": ("ANKARA", "LIRA", "TURKISH"),
    "Vietnam": ("HANOI", "DONG", "VIETNAMESE"),
}

vocabulary = spa.Vocabulary(DIMENSIONS, max_similarity=0.5, rng=rng)
for name in (*ROLES, *np.ravel(list(COUNTRIES.values()))):
    vocabulary.add(str(name), vocabulary.create_pointer())
index = {name: i for i, name in enumerate(vocabulary.keys)}
pointers = vocabulary.vectors


def record(fillers):
    """The pointer of a country, real or not, with these three fillers."""
    pairs = (f"{role}*{filler}" for role, filler in zip(ROLES, fillers))
    pointer = vocabulary.parse(" + ".join(pairs))
    pointer.normalize()
    return pointer.v


def questions(records):
    """All questions about some records: what has this role, and what is the role of this?

    Returns
    -------
    inputs : list of two (questions, 1, DIMENSIONS) ndarray
        Records and what is asked about.
    answers : (questions,) ndarray of int
        Indices of pointers.
    """
    found = []
    for fillers in records:
        about = record(fillers)
        for role, filler in zip(ROLES, fillers):
            found.append((about, index[role], index[filler]))
            found.append((about, index[filler], index[role]))
    about, asked, answers = zip(*found)
    return [np.array(about)[:, None], pointers[list(asked)][:, None]], np.array(answers)


# %%
# Made-up countries are the other 990 combinations. Some of them are for testing.

every = [
    fillers
    for fillers in np.array(np.meshgrid(*zip(*COUNTRIES.values()))).reshape(3, -1).T
    if tuple(fillers) not in COUNTRIES.values()
]
made_up = [every[i] for i in rng.permutation(len(every))]
train_x, train_answers = questions(made_up[N_TEST : N_TEST + N_TRAIN])
test_x, test_answers = questions(made_up[:N_TEST])
real_x, real_answers = questions(COUNTRIES.values())


def accuracy(output, answers):
    """How often the pointer most similar to the output is the right one."""
    return np.mean((output @ pointers.T).argmax(axis=-1) == answers)


# %%
# Without neurons, exact convolution is right this often:


def exact(about, asked):
    """Circular correlation: convolution with the approximate inverse."""
    spectrum = np.fft.rfft(about) * np.fft.rfft(asked).conj()
    return np.fft.irfft(spectrum, n=DIMENSIONS)


print(f"exact accuracy:     {accuracy(exact(*test_x)[:, 0], test_answers):.4f}")

# %%
# The network
# -----------
#
# Circular convolution is a product in the frequency domain. Nengo brings a network for
# it, with some neurons for each product. An amplitude of 0.01 makes their output about
# one, and decoders of a size that optimizers are made for.

with nengo.Network(seed=0) as net:
    net.config[nengo.Ensemble].neuron_type = nengo.LIF(amplitude=0.01)
    about = nengo.Node(np.zeros(DIMENSIONS), label="record")
    asked = nengo.Node(np.zeros(DIMENSIONS), label="asked")
    unbind = nengo.networks.CircularConvolution(N_NEURONS, DIMENSIONS, invert_b=True)
    nengo.Connection(about, unbind.input_a, synapse=None)
    nengo.Connection(asked, unbind.input_b, synapse=None)
    answer = nengo.Probe(unbind.output, label="answer")
print(f"{net.n_neurons} neurons")


# %%
# Training
# --------
#
# The network is trained in rate form, with one step per question; what it is to give is
# the pointer of the answer. Decoders, encoders, biases and the Fourier transforms are all
# trained. ``predict`` runs spikes; with ``spiking=False`` it runs rates, as ``fit`` does.


def ask(inputs):
    """Ask questions, with rates.

    Returns
    -------
    (questions, DIMENSIONS) ndarray
    """
    with nengo_dl.Simulator(net, minibatch_size=30, progress_bar=False) as sim:
        output = sim.predict(dict(zip((about, asked), inputs)), spiking=False)[answer]
    return output[:, -1]


untrained = accuracy(ask(test_x), test_answers)
print(f"untrained accuracy: {untrained:.4f}")

targets = pointers[train_answers][:, None]
with nengo_dl.Simulator(net, minibatch_size=60, progress_bar=False) as sim:
    sim.compile(keras.optimizers.Adam(0.001), loss="mse")
    losses = sim.fit(train_x, targets, epochs=EPOCHS, verbose=0).history["loss"]
    sim.freeze_params(net)

trained = accuracy(ask(test_x), test_answers)
print(f"trained accuracy:   {trained:.4f}")

# %%
# It is better than exact convolution: it has learned which pointers there are, and how to
# tell what was asked for from the noise of the other pairs. None of the countries that
# exist was among the records for training.

real = accuracy(ask(real_x), real_answers)
print(f"real countries:     {real:.4f}")

# %%
# Analogies
# ---------
#
# First: what is the peso to Mexico? The answer, the pointer that is most similar to the
# output, is the second question: what is that to Sweden?

asked_of, fillers, expected = [], [], []
for one in COUNTRIES:
    for other in COUNTRIES:
        if one != other:
            asked_of += [(record(COUNTRIES[one]), record(COUNTRIES[other]))] * 3
            fillers += [index[filler] for filler in COUNTRIES[one]]
            expected += [index[filler] for filler in COUNTRIES[other]]
source, target = np.array(asked_of).transpose(1, 0, 2)[:, :, None]
roles = (ask([source, pointers[fillers][:, None]]) @ pointers.T).argmax(axis=1)
analogies = accuracy(ask([target, pointers[roles][:, None]]), expected)
print(f"analogies:          {analogies:.4f} of {len(expected)}")

# %%
# Spikes
# ------
#
# The same network with spikes needs some time for an answer, and a synapse that smooths.

with net:
    smooth = nengo.Probe(unbind.output, synapse=0.02, label="smooth")
data = [np.repeat(x, N_STEPS, axis=1) for x in real_x]
with nengo_dl.Simulator(net, minibatch_size=30, progress_bar=False) as sim:
    output = sim.predict(dict(zip((about, asked), data)))[smooth]
print(f"spiking accuracy:   {accuracy(output[:, -1], real_answers):.4f}")

# %%
# The figure
# ----------

figure = Figure(figsize=(12, 4.5), layout="constrained")
*over_time, bars = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.2))
sweden = 6 * list(COUNTRIES).index("Sweden")
for axes, role, item in zip(over_time, ROLES, (sweden, sweden + 2, sweden + 4)):
    similar = output[item] @ pointers.T
    milliseconds = np.arange(1, N_STEPS + 1)
    axes.plot(milliseconds, similar, color="0.8", linewidth=0.8)
    right = real_answers[item]
    axes.plot(milliseconds, similar[:, right], label=list(vocabulary.keys)[right])
    axes.set(title=f"{role} of Sweden?", xlabel="time (ms)")
    axes.legend(loc="lower right")
over_time[0].set_ylabel("similarity to all pointers")
exactly = accuracy(exact(*test_x)[:, 0], test_answers)
names = ("exact\nconvolution", "neurons,\nuntrained", "neurons,\ntrained")
bars.bar(
    names, [100 * exactly, 100 * untrained, 100 * trained], color=["0.6", "C1", "C0"]
)
bars.set(ylabel="correct answers (%)", ylim=(0, 100), title="made-up countries")
figure.savefig("semantic_pointers.png")
print("figure written to semantic_pointers.png")
figure
