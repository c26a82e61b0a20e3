"""What the tests of promises share."""

import nengo
import pytest

import nengo_dl


@pytest.fixture
def net():
    """An ensemble between an input and a probe, run as NumPy in double precision."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        net.a = nengo.Node([0.5], label="a")
        net.b = nengo.Ensemble(20, 1, label="b")
        nengo.Connection(net.a, net.b)
        net.p = nengo.Probe(net.b, synapse=0.01, label="p")
    return net
