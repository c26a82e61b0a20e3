"""Running a network here and in core Nengo, and comparing what is probed."""

import nengo
import numpy as np

import nengo_dl


def double(**kwargs):
    """A network in double precision."""
    net = nengo.Network(seed=0, **kwargs)
    with net:
        nengo_dl.configure_settings(dtype="float64")
    return net


def run(simulator, net, n_steps=40, seed=5, **kwargs):
    """Probe data in the order of the probes."""
    with simulator(net, seed=seed, progress_bar=False, **kwargs) as sim:
        sim.run_steps(n_steps)
        return [np.array(sim.data[probe]) for probe in sim.model.probes]


def check_against_core(net, n_steps=40):
    expected = run(nengo.Simulator, net, n_steps, optimize=False)
    found = run(nengo_dl.Simulator, net, n_steps)
    assert expected
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        assert np.allclose(x, y, rtol=1e-9, atol=1e-9 * max(1e-3, np.abs(y).max()))
