"""Populations of spiking neurons that are driven through trained weights."""

import nengo
import numpy as np

import nengo_dl

SPIKING = (
    nengo.LIF(tau_rc=0.01, amplitude=2),
    nengo.AdaptiveLIF(),
    nengo.SpikingRectifiedLinear(),
    nengo_dl.SpikingLeakyReLU(),
    nengo.RegularSpiking(nengo.RectifiedLinear()),
    nengo.Izhikevich(),
)
"""Types of neurons that spike."""


def driven(*neuron_types, n=5, **settings):
    """A population of each type, which gets the input by trained weights."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(**{"dtype": "float64", "jit": False, **settings})
        net.inp = nengo.Node(np.zeros(2), label="inp")
        net.ens, net.conns, net.out = [], [], []
        for i, neuron_type in enumerate(neuron_types):
            ens = nengo.Ensemble(
                n,
                1,
                neuron_type=neuron_type,
                gain=np.ones(n),
                bias=np.zeros(n),
                label=f"ens{i}",
            )
            weights = np.random.RandomState(i).uniform(0.5, 3, (n, 2))
            base = getattr(neuron_type, "base_type", neuron_type)
            if isinstance(neuron_type, nengo.Izhikevich):
                weights *= 5
            elif not isinstance(base, nengo.LIFRate | nengo.Sigmoid | nengo.Tanh):
                weights *= 100
            net.ens.append(ens)
            net.conns.append(
                nengo.Connection(net.inp, ens.neurons, transform=weights, synapse=None)
            )
            net.out.append(nengo.Probe(ens.neurons, label=f"out{i}"))
    return net


def inputs(rng, items=2, n_steps=20):
    return rng.uniform(0.2, 1.2, (items, n_steps, 2))


def simulator(net, items=2):
    return nengo_dl.Simulator(net, minibatch_size=items, progress_bar=False, seed=0)
