"""Cases of synapses and of noise, beyond those that every network has."""

from functools import partial

import nengo
from nengo.builder.operator import Reset
from nengo.builder.processes import SimProcess

from tests.kernels.kernel_cases import case, synapse

unseen = partial(synapse, watch_state=False)


@case(own_state=True)
def triangle(bench, variant):
    """A finite impulse response, of several lengths and in each mode."""
    for mode, length in zip(("set", "inc", "update"), (0.003, 0.012, 0.0)):
        unseen(bench, nengo.synapses.Triangle(length), bench.feed(4), mode)
    constant = bench.signal(bench.values(5))
    unseen(bench, nengo.synapses.Triangle(0.02), constant, "update")


@case()
def filter_of_high_order(bench, variant):
    """More state variables than are written out one by one, with and without D."""
    denominator = [1, -0.5, 0.1, 0.0, 0.05 + 0.01 * variant, 0.02, -0.01]
    for numerator in ([0.3, 0.5], [1, 0, 0, 0, 0, 0.3, -0.5 * (1 + variant)]):
        filter_ = nengo.LinearFilter(numerator, denominator, analog=False)
        synapse(bench, filter_, bench.feed(4), "update")
    constant = bench.signal(bench.values(5))
    synapse(bench, filter_, constant)


@case()
def drawn_noise(bench, variant):
    """Noise that is added to a signal, as to the current of an ensemble."""
    time = bench.model.time
    y, late = bench.signal((3,)), bench.signal((2,))
    noise = nengo.processes.WhiteNoise(nengo.dists.Uniform(-1, 1), scale=False)
    filtered = nengo.processes.FilteredNoise(nengo.Lowpass(0.01))
    initial = filtered.make_state((0,), (2,), bench.model.dt)
    state = {name: bench.signal(value, name) for name, value in initial.items()}
    bench.add(
        Reset(y, value=0.5),
        SimProcess(noise, None, y, time, mode="inc"),
        SimProcess(filtered, None, late, time, mode="update", state=state),
    )
    bench.watch(y, late)
