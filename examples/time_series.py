"""
Who is speaking?
================

Train a recurrent network of spiking neurons through time, to tell nine speakers apart by
how they say two vowels.

1. Recordings come in as they were spoken: a time step of the network is a quarter of a
   frame of the recording, so that the network listens in real time.
2. The network is *trained with its spikes*. Gradients go back through every step of an
   utterance, through synapses, recurrent connections and potentials. For the derivative
   of a spike, which does not exist, a surrogate stands in.
3. It is *tested* on utterances that it has not heard: how often is it right, and how
   soon?

The recordings are the set *Japanese Vowels* that the package aeon brings along: nine men
say /ae/, 640 times in total (Kudo, Toyama and Shimbo, 1999, *Multidimensional curve
classification using passing-through regions*). A frame has twelve cepstrum coefficients,
an utterance has 7 to 29 frames, and the frames are 6.4 ms apart.

Run it with ``python examples/time_series.py``. It needs the extra ``aeon``, takes about a
minute and writes ``time_series.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import keras
import nengo
import numpy as np
from matplotlib.figure import Figure

try:
    from aeon.datasets import load_japanese_vowels
except ImportError as error:
    raise ImportError(
        "The recordings of this example come with aeon, which is not installed. The "
        "extra 'aeon' brings it: pip install \"nengo-dl[aeon]\""
    ) from error

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

EPOCHS = 8 if QUICK else 40
N_NEURONS = 60 if QUICK else 120
FRAME = 0.0064  # seconds from one frame to the next
STEPS = 2 if QUICK else 4  # time steps per frame
DT = FRAME / STEPS
N_FRAMES = 29  # of the longest utterance
BATCH = 27

keras.utils.set_random_seed(0)
rng = np.random.RandomState(0)

# %%
# The data
# --------
#
# Utterances have different lengths. Each gets some silence in front of it, so that all of
# them end at the same time. Coefficients are scaled to a mean of zero and a standard
# deviation of one over the utterances for training; in silence they are zero.


def load(split):
    """Load the utterances of one part of the data.

    Returns
    -------
    utterances : list of (frames, 12) ndarray
    speakers : (utterances,) ndarray of int
        From 0 to 8.
    """
    utterances, speakers = load_japanese_vowels(split=split)
    return [utterance.T for utterance in utterances], speakers.astype(int) - 1


def as_input(utterances, mean, deviation):
    """Put scaled utterances to the end of arrays of the same length.

    Returns
    -------
    (utterances, N_FRAMES * STEPS, 12) ndarray
    """
    frames = np.zeros((len(utterances), N_FRAMES, 12))
    for item, utterance in zip(frames, utterances):
        item[-len(utterance) :] = (utterance - mean) / deviation
    return np.repeat(frames, STEPS, axis=1)


train_utterances, train_speakers = load("train")
test_utterances, test_speakers = load("test")
frames = np.concatenate(train_utterances)
mean, deviation = frames.mean(axis=0), frames.std(axis=0)
train_x = as_input(train_utterances, mean, deviation)
test_x = as_input(test_utterances, mean, deviation)

# %%
# The network
# -----------
#
# Twelve coefficients go to spiking neurons that are connected with each other, and these
# to nine outputs, one for each speaker. With a gain and a bias of one, neurons are just
# at the threshold when nothing comes in. A spike is one step long and ``amplitude / dt``
# high; an amplitude of 0.02 gives weights the size that optimizers are made for.


def draw(n_out, n_in, scale=1.0):
    """Normally distributed weights that keep the variance of what comes in."""
    return rng.normal(scale=scale / np.sqrt(n_in), size=(n_out, n_in))


with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(
        spiking_training=True,
        surrogate=nengo_dl.surrogates.FastSigmoid(slope=10),
        keep_history=True,
    )
    sound = nengo.Node(np.zeros(12), label="sound")
    neurons = nengo.Ensemble(
        N_NEURONS,
        1,
        neuron_type=nengo.LIF(amplitude=0.02),
        gain=np.ones(N_NEURONS),
        bias=np.ones(N_NEURONS),
        label="neurons",
    ).neurons
    speaker = nengo.Node(size_in=9, label="speaker")
    nengo.Connection(sound, neurons, transform=draw(N_NEURONS, 12), synapse=None)
    nengo.Connection(
        neurons, neurons, transform=draw(N_NEURONS, N_NEURONS, 0.5), synapse=0.01
    )
    nengo.Connection(neurons, speaker, transform=draw(9, N_NEURONS), synapse=0.1)
    answer = nengo.Probe(speaker, label="answer")

# %%
# Training
# --------
#
# What counts is the output at the end of an utterance: in training the probe keeps the
# last step only. Some noise on the coefficients makes 270 utterances go further.


class Utterances(keras.utils.PyDataset):
    """The utterances for training, in a new order and with new noise in each epoch."""

    def __init__(self):
        super().__init__()
        self.on_epoch_end()

    def __len__(self):
        return len(self.order) // BATCH

    def __getitem__(self, index):
        items = self.order[index * BATCH : (index + 1) * BATCH]
        silent = train_x[items] == 0
        noise = rng.normal(scale=0.2, size=silent.shape)
        x = train_x[items] + np.where(silent, 0, noise)
        return x, train_speakers[items, None, None]

    def on_epoch_end(self):
        """Shuffle."""
        self.order = rng.permutation(len(train_x))


net.config[answer].keep_history = False

utterances = Utterances()
rates = keras.optimizers.schedules.CosineDecay(0.01, EPOCHS * len(utterances))
with nengo_dl.Simulator(net, dt=DT, minibatch_size=BATCH, progress_bar=False) as sim:
    sim.compile(
        keras.optimizers.Adam(rates),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = sim.fit(utterances, epochs=EPOCHS, verbose=0).history
    sim.freeze_params(net)
learned = history["answer_accuracy"]
print(f"training accuracy: {learned[0]:.3f} in epoch 1, {learned[-1]:.3f} in {EPOCHS}")

# %%
# Listening
# ---------
#
# ``freeze_params`` has written what was learned into the network. Now the probe keeps
# every step, and another one sees the spikes.

net.config[answer].keep_history = True
with net:
    spikes = nengo.Probe(neurons, label="spikes")
with nengo_dl.Simulator(net, dt=DT, minibatch_size=74, progress_bar=False) as sim:
    result = sim.predict(test_x)
right = result[answer].argmax(axis=-1) == test_speakers[:, None]
print(f"spiking accuracy:  {right[:, -1].mean():.4f} on {len(right)} utterances")

n_frames = np.array([len(utterance) for utterance in test_utterances])
spoken = np.arange(N_FRAMES) >= N_FRAMES - n_frames[:, None]
heard = np.repeat(spoken, STEPS, axis=1)
frequency = np.count_nonzero(result[spikes][heard]) / (heard.sum() * N_NEURONS * DT)
print(f"firing rate:       {frequency:.0f} Hz on average while someone speaks")

# %%
# How soon does it know? Here is the accuracy after so many frames of each utterance; one
# that is over keeps its answer.

first = N_FRAMES - n_frames
after = [
    np.mean(
        [item[min(start + n, N_FRAMES) * STEPS - 1] for item, start in zip(right, first)]
    )
    for n in range(1, N_FRAMES + 1)
]

# %%
# The figure
# ----------
#
# One utterance and the answers over time. The dotted line is where speech begins.

example = int(np.flatnonzero(right[:, -1] & (n_frames >= 18))[0])
seconds = np.arange(1, N_FRAMES * STEPS + 1) * DT
figure = Figure(figsize=(11, 7), layout="constrained")
(sounds, raster), (answers, soon) = figure.subplots(2, 2)

sounds.plot(1000 * seconds, test_x[example], linewidth=0.9)
sounds.set(title="what is heard", ylabel="cepstrum coefficients (scaled)")
nengo_dl.plots.raster(1000 * seconds, result[spikes][example], ax=raster, linewidth=1.5)
raster.set_title("spikes")
for speaker_number, values in enumerate(result[answer][example].T):
    said = speaker_number == test_speakers[example]
    label = f"speaker {speaker_number + 1}" if said else None
    answers.plot(1000 * seconds, values, linewidth=2.5 if said else 0.8, label=label)
answers.set(title="nine outputs", ylabel="output")
answers.legend()
for axes in (sounds, raster, answers):
    axes.axvline(1000 * first[example] * FRAME, color="0.5", linestyle=":")
    axes.set(xlabel="time (ms)", xlim=(0, 1000 * seconds[-1]))
soon.plot(np.arange(1, N_FRAMES + 1) * FRAME * 1000, 100 * np.array(after), "o-")
soon.axhline(100 / 9, color="black", linestyle=":", label="chance")
soon.set(title="how soon", xlabel="speech heard (ms)", ylabel="correct answers (%)")
soon.legend()
figure.savefig("time_series.png")
print("figure written to time_series.png")
figure
