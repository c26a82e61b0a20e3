"""
Online adaptation
=================

Hold an arm where it is wanted, while it carries a load that nobody has told the
controller about. Spiking neurons learn what torque it takes, during the movement
itself.

The arm turns in the vertical plane. A controller pulls it towards the wanted angle like a
spring and brakes it like a damper, and that would do if there was no gravity. With a load
in its hand, the arm hangs too low. An ensemble that represents the angle learns the
missing torque: the rule `nengo.PES` changes its decoders at each time step. Its error is
the torque of the controller itself, since where the spring has to pull, something is
still missing. (In robotics this is known as adaptive control; with neurons, DeWolf et al.
2016, Proc. R. Soc. B 283.)

The arm is a program in Python: everything that is not a network, such as a robot or the
environment of an agent, can be connected in this way. Several arms with different loads
run side by side. They share the network, but each of them learns for itself.

Run it with ``python examples/online_adaptation.py``. It takes some seconds and
writes ``online_adaptation.png`` to the current folder.
"""

import os

import nengo_dl  # isort: split

# (nengo_dl comes first because it keeps TensorFlow from logging how it starts)
import nengo
import numpy as np
from matplotlib.figure import Figure

QUICK = os.environ.get("NENGO_DL_EXAMPLES_QUICK") == "1"

SECONDS = 4 if QUICK else 20  # of simulated time
PERIOD = 2.0  # seconds from one wanted angle to the next
LOADS = np.array([0.0, 0.5, 1.0, 2.0])  # kg
N_NEURONS = 100 if QUICK else 300
DT = 0.001  # seconds per step

# %%
# The arm
# -------
#
# A process with an input: in each step it is given the torque and the load, and it
# returns angle and angular velocity. The state is an argument of ``make_step``, and not
# an attribute of the process: each copy of the network then has an arm of its own, and
# ``Simulator.reset`` puts it back where it was.


class Arm(nengo.Process):
    """A rod of a length of 0.5 m that carries a load.

    Input: torque (N m), load (kg). Output: angle (rad, zero is horizontal), angular
    velocity (rad/s).
    """

    length, mass, friction, gravity = 0.5, 0.5, 0.1, 9.81

    def __init__(self):
        super().__init__(default_size_in=2, default_size_out=2)

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        """It hangs down at rest: angle and angular velocity."""
        return {"arm": np.array([-np.pi / 2, 0.0])}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """One step of Euler's method."""
        arm = state["arm"]

        def step(t, x):
            torque, load = x
            mass = self.mass + load
            torque = torque - self.friction * arm[1]
            torque -= self.gravity * mass * self.length * np.cos(arm[0])
            arm[1] += dt * torque / (mass * self.length**2)
            arm[0] += dt * arm[1]
            return arm.copy()

        return step


# %%
# The network
# -----------
#
# The controller is one connection with a matrix: ``torque = 20 * (wanted - angle) - 6 *
# velocity``. To it comes what the neurons say. Their decoders are zero at the start.
#
# Neurons see the angle in units of a right angle. It may leave the range from -1 to 1 for
# a moment, hence the radius.


def build(learning_rate):
    """Build the network.

    Parameters
    ----------
    learning_rate : float
        Of PES. With zero nothing adapts.

    Returns
    -------
    ~nengo.Network
        With the nodes ``wanted`` and ``load``, and the probes ``angle``, ``torque`` and
        ``learned``.
    """
    with nengo.Network(seed=1) as net:
        net.wanted = nengo.Node([0])
        net.load = nengo.Node([0])
        plant = nengo.Node(Arm(), label="arm")
        control = nengo.Node(size_in=1)
        adaptation = nengo.Node(size_in=1)
        cortex = nengo.Ensemble(N_NEURONS, 1, radius=1.2, neuron_type=nengo.LIF())

        # angle and velocity are those of the step before, as sensors report them
        nengo.Connection(net.wanted, control, transform=20, synapse=None)
        nengo.Connection(plant, control, transform=[[-20, -6]], synapse=0)
        nengo.Connection(plant[0], cortex, transform=2 / np.pi, synapse=0)

        learned = nengo.Connection(
            cortex,
            adaptation,
            function=lambda angle: 0,
            synapse=0.01,
            learning_rule_type=nengo.PES(learning_rate),
        )
        # the error of PES is what there is too much of: hence the minus
        nengo.Connection(control, learned.learning_rule, transform=-1, synapse=None)

        nengo.Connection(control, plant[0], synapse=None)
        nengo.Connection(adaptation, plant[0], synapse=None)
        nengo.Connection(net.load, plant[1], synapse=None)

        net.angle = nengo.Probe(plant[0], label="angle")
        net.learned = nengo.Probe(adaptation, synapse=0.02, label="learned torque")
    return net


# %%
# The run
# -------
#
# Every two seconds the arm is to move somewhere else. The data for the nodes have the
# shape ``(arms, steps, 1)``. The function of the arm, which is a part of the feedback
# loop, is called for each step and each arm; everything else runs as machine code.

n_steps = round(SECONDS / DT)
seconds = np.arange(1, n_steps + 1) * DT
angles = np.random.RandomState(0).uniform(-1, 1, size=SECONDS)
angles[:4] = 0.8, -0.4, 0.2, -0.8
wanted = angles[(np.arange(n_steps) * DT // PERIOD).astype(int)]
data = np.broadcast_to(wanted[None, :, None], (len(LOADS), n_steps, 1))
loads = np.broadcast_to(LOADS[:, None, None], (len(LOADS), n_steps, 1))


def run(learning_rate):
    """Angles and learned torques of all arms, ``(arms, steps)``."""
    net = build(learning_rate)
    with nengo_dl.Simulator(net, dt=DT, minibatch_size=len(LOADS)) as sim:
        sim.run_steps(n_steps, data={net.wanted: data, net.load: loads})
        return sim.data[net.angle][..., 0], sim.data[net.learned][..., 0]


rigid, _ = run(learning_rate=0)
adaptive, learned = run(learning_rate=1e-4)

# %%
# What it learned
# ---------------
#
# How far an arm is from where it should be counts in the second half of each movement,
# when it could have arrived, and of the run, when there was time to learn.

arrived = (seconds % PERIOD > PERIOD / 2) & (seconds > SECONDS / 2)


def error(angle):
    """The root of the mean squared error of each arm, in degrees."""
    difference = angle[:, arrived] - wanted[arrived]
    return np.degrees(np.sqrt(np.mean(difference**2, axis=1)))


for load, before, after in zip(LOADS, error(rigid), error(adaptive), strict=True):
    print(
        f"load {load:.1f} kg: error {before:5.2f} degrees, adaptive {after:5.2f} degrees"
    )
print(f"mean error: {error(rigid).mean():.2f} degrees")
print(f"mean error with adaptation: {error(adaptive).mean():.2f} degrees")

# %%
# The figure
# ----------
#
# On top the arm with the largest load. Below, what the ensembles have learned to add for
# each load, and dotted the torque with which gravity really pulls.

figure = Figure(figsize=(10, 7), layout="constrained")
movement, torques = figure.subplots(2, 1, sharex=True)
movement.plot(seconds, np.degrees(wanted), "k:", label="wanted")
movement.plot(seconds, np.degrees(rigid[-1]), color="0.6", label="without adaptation")
movement.plot(seconds, np.degrees(adaptive[-1]), color="C3", label="with adaptation")
movement.set(ylabel="angle (degrees)", title=f"load of {LOADS[-1]:g} kg")
for index, load in enumerate(LOADS):
    weight = Arm.gravity * (Arm.mass + load) * Arm.length
    torques.plot(seconds, learned[index], color=f"C{index}", label=f"{load:g} kg")
    torques.plot(seconds, weight * np.cos(adaptive[index]), ":", color=f"C{index}")
torques.set(xlabel="time (s)", ylabel="learned torque (N m)", xlim=(0, SECONDS))
for axes in (movement, torques):
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure.savefig("online_adaptation.png")
print("figure written to online_adaptation.png")
figure
