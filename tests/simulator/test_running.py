"""The simulator against core Nengo: same networks, same inputs, same numbers."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests import networks

N_STEPS = 100

# for each dtype, how far the data of a probe may be off, in parts of their scale
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}

NETWORKS = {
    "recurrent": networks.recurrent,
    "recurrent spiking relu": lambda: networks.recurrent(
        nengo.SpikingRectifiedLinear(), learning=False
    ),
    "rates without state": lambda: networks.rates(nengo.LIFRate()),
    "rates with filters": lambda: networks.rates(nengo.RectifiedLinear(), 0.01),
    "sigmoid": lambda: networks.rates(nengo.Sigmoid(), 0.005),
    "tanh": lambda: networks.rates(nengo.Tanh()),
    "mixed parameters": networks.mixed_parameters,
    "processes": networks.processes,
}
PYTHON_NETWORKS = {
    "function in feedback": networks.python_functions,
    "function after the loop": lambda: networks.python_functions(feedback=False),
    "several functions": lambda: networks.python_functions(several=True),
}


def configured(make, **settings):
    net = make()
    with net:
        nengo_dl.configure_settings(**settings)
    return net


def core_data(net, n_steps=N_STEPS, seed=None):
    """Probe data of core Nengo, whose optimizer would change the order of seeds."""
    with nengo.Simulator(net, seed=seed, optimize=False, progress_bar=False) as sim:
        sim.run_steps(n_steps)
        return {probe: np.array(sim.data[probe]) for probe in net.all_probes}


def assert_close(found, expected, dtype, what=""):
    """Equal to a part of the expected values' scale."""
    assert found.shape == expected.shape, what
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(found - expected).max() <= TOLERANCE[dtype] * scale, what


def check_against_core(net, dtype, minibatch_size, pieces=(N_STEPS,)):
    """Each batch item gives what core Nengo gives with that item's seed."""
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        for n_steps in pieces:
            sim.run_steps(n_steps)
        for item in range(minibatch_size or 1):
            expected = core_data(net, sum(pieces), sim.seed + item)
            for probe, values in expected.items():
                found = sim.data[probe]
                assert found.dtype == dtype
                if minibatch_size is not None:
                    assert len(found) == minibatch_size
                    found = found[item]
                assert_close(found, values, dtype, f"{probe}, item {item}")


@pytest.mark.parametrize("minibatch_size", (None, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", [*NETWORKS, *PYTHON_NETWORKS])
def test_without_compiling_it_agrees_with_core(name, dtype, minibatch_size):
    make = {**NETWORKS, **PYTHON_NETWORKS}[name]
    net = configured(make, dtype=dtype, jit=False)
    check_against_core(net, dtype, minibatch_size, (N_STEPS - 7, 7))


def compiled_cases():
    """All types and batch sizes for those with state, two for the rest: it takes time."""
    for name in NETWORKS:
        yield name, "float32", None
        yield name, "float64", 3
        if name in ("recurrent", "mixed parameters", "processes"):
            yield name, "float64", None
            yield name, "float32", 3


@pytest.mark.parametrize("name, dtype, minibatch_size", compiled_cases())
def test_compiled_it_agrees_with_core(name, dtype, minibatch_size):
    net = configured(NETWORKS[name], dtype=dtype, jit=True)
    check_against_core(net, dtype, minibatch_size, (N_STEPS - 7, 7))


@pytest.mark.parametrize("make", (networks.recurrent, networks.processes))
def test_state_passes_from_tier_to_tier(make):
    # one step, a few, more than is run in NumPy, a few again
    net = configured(make, dtype="float64", jit="auto")
    check_against_core(net, "float64", 2, (1, 10, 1100, 1, 5))


def test_python_functions_with_jit_run_in_numpy():
    net = configured(networks.python_functions, dtype="float64", jit=True)
    check_against_core(net, "float64", 2)


@pytest.mark.parametrize("unroll", (3, 7))
def test_any_number_of_steps_whatever_is_unrolled(unroll):
    net = configured(lambda: networks.rates(nengo.LIFRate(), 0.01), dtype="float64")
    with net:
        nengo_dl.configure_settings(jit=True)
    expected = core_data(net, 25)
    with nengo_dl.Simulator(net, unroll_simulation=unroll, progress_bar=False) as sim:
        for n_steps in (1, 2, 9, 13):
            sim.run_steps(n_steps)
        assert sim.n_steps == 25
        for probe, values in expected.items():
            assert_close(sim.data[probe], values, "float64")


@pytest.mark.parametrize("dt", (0.0005, 0.002))
def test_other_lengths_of_a_step(dt):
    net = configured(networks.mixed_parameters, dtype="float64")
    with nengo.Simulator(net, dt=dt, progress_bar=False) as ref:
        ref.run(0.1)
    with nengo_dl.Simulator(net, dt=dt, progress_bar=False) as sim:
        sim.run(0.1)
        assert sim.dt == dt
        assert sim.n_steps == ref.n_steps
        assert sim.time == ref.time
        assert np.array_equal(sim.trange(), ref.trange())
        assert_close(sim.data[net.probes[0]], ref.data[net.probes[0]], "float64")


def node_network(several=False):
    """A constant, a function and a process, each of which data can replace."""
    with nengo.Network(seed=4) as net:
        net.nodes_by_name = {
            "constant": nengo.Node([0.4], label="constant"),
            "function": nengo.Node(networks.waves(2), label="function"),
            "process": nengo.Node(nengo.processes.WhiteNoise(seed=1), label="process"),
        }
        ens = nengo.Ensemble(30, 2)
        for i, node in enumerate(net.nodes_by_name.values()):
            nengo.Connection(node, ens[i % 2] if node.size_out == 1 else ens)
            nengo.Probe(node)
        nengo.Probe(ens, synapse=0.01)
        if several:  # Python with input, next to other Python: in core's order
            echo = nengo.Node(lambda t, x: x + t, size_in=2)
            nengo.Connection(ens, echo, synapse=0.01)
            nengo.Probe(echo)
    return net


@pytest.mark.parametrize("several", (False, True))
@pytest.mark.parametrize("names", (["constant"], ["function"], ["process", "function"]))
def test_data_take_the_place_of_what_nodes_put_out(names, several, rng):
    net = configured(lambda: node_network(several), dtype="float64")
    given = {
        name: rng.uniform(-1, 1, (2, N_STEPS, net.nodes_by_name[name].size_out))
        for name in names
    }
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        parts = [{k: v[:, :40] for k, v in given.items()}]
        parts += [{k: v[:, 40:] for k, v in given.items()}]
        sim.run_steps(40, data=parts[0])
        sim.run_steps(N_STEPS - 40, data=parts[1])
        found = {probe: sim.data[probe] for probe in net.probes}
        seed = sim.seed
    for item in range(2):
        for name in names:
            rows = given[name][item]
            net.nodes_by_name[name].output = lambda t, rows=rows: rows[round(t * 1e3) - 1]
        for probe, values in core_data(net, seed=seed + item).items():
            assert_close(found[probe][item], values, "float64", f"{probe}")


def test_nodes_run_their_own_output_again_after_data():
    net = configured(node_network, dtype="float64")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5, data={"constant": np.ones((1, 5, 1))})
        sim.run_steps(5)
        sim.step()
        constant, function, *_ = net.probes
        assert np.array_equal(sim.data[constant].ravel(), [1] * 5 + [0.4] * 6)
        times = sim.trange()
        wave = networks.waves(2)
        assert np.allclose(sim.data[function], [wave(t) for t in times], atol=1e-12)


def test_steps_one_by_one_with_data_read_in_between():
    net = configured(networks.recurrent, dtype="float64")
    expected = core_data(net, 30)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for i in range(30):
            sim.step()
            assert sim.n_steps == i + 1
            for probe in net.probes[:4]:
                assert len(sim.data[probe]) == i + 1
                assert_close(sim.data[probe][-1], expected[probe][i], "float64")
        for probe, values in expected.items():
            assert_close(sim.data[probe], values, "float64")


def test_learned_weights_are_there_to_read():
    net = configured(networks.recurrent, dtype="float64")
    conn = next(c for c in net.connections if c.learning_rule_type is not None)
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(60)
        expected = ref.data[net.probes[-1]][-1]
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        assert np.array_equal(sim.data[conn].weights, ref.data[conn].weights)
        sim.run_steps(60)
        assert sim.data[net.probes[-1]].shape == (2, 12, *expected.shape)
        # the probe shows the weights before the last step's change, or after it
        assert np.abs(sim.data[conn].weights - expected).max() < 1e-6
        before = sim.data[conn].weights
        sim.step()
        assert not np.array_equal(sim.data[conn].weights, before)


@pytest.mark.parametrize("jit", (True, False))
def test_runs_after_a_reset_are_bit_identical(jit):
    net = configured(networks.processes, jit=jit)
    with nengo_dl.Simulator(net, seed=5, minibatch_size=2, progress_bar=False) as sim:

        def run(seed=None):
            sim.reset(seed=seed)
            assert sim.n_steps == 0
            assert all(sim.data[p].shape[1] == 0 for p in net.probes)
            sim.run_steps(40)
            sim.step()
            return [sim.data[p].copy() for p in net.probes]

        first, again = run(), run()
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert sim.seed == 5
        other = run(seed=6)
        assert sim.seed == 6
        white_signal, seeded_noise, present, counter, _ = range(5)
        assert not np.array_equal(first[white_signal], other[white_signal])
        assert np.array_equal(first[seeded_noise], other[seeded_noise])
        assert np.array_equal(first[present], other[present])
        assert all(np.array_equal(a, b) for a, b in zip(first, run(5), strict=True))


def test_a_reset_without_processes_lets_them_go_on():
    net = configured(networks.processes, dtype="float64", jit=False)
    counter = net.probes[3]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
        last = sim.data[counter][-1]
        sim.reset(include_processes=False, include_probes=False)
        assert sim.n_steps == 0
        sim.run_steps(20)
        assert sim.data[counter].shape == (40, 2)
        assert (sim.data[counter][20:] > last).all()
        sim.reset()
        sim.run_steps(1)
        assert (sim.data[counter][0] < last).all()


@pytest.mark.parametrize("jit", (True, False))
def test_a_stateless_run_leaves_everything_but_the_data_as_it_was(jit):
    net = configured(networks.recurrent, dtype="float64", jit=jit)
    with net:
        noise = nengo.Node(nengo.processes.FilteredNoise(nengo.Lowpass(0.01)))
        nengo.Connection(noise, net.ensembles[0][0])
        probe = nengo.Probe(noise)
    weights = net.probes[4]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
        sim.run_steps(30, stateful=False)
        assert sim.n_steps == 20
        sim.run_steps(30, stateful=False)
        sim.run_steps(30)
        assert sim.n_steps == 50
        for p in (net.probes[0], net.probes[3], probe):
            first, second, third = np.split(sim.data[p][20:], 3)
            assert np.array_equal(first, second)
            assert np.array_equal(first, third)
        # but what was learned stays
        first, second = sim.data[weights][4], sim.data[weights][10]
        assert not np.array_equal(first, second)


def test_with_the_setting_stateful_false_nothing_is_carried_on():
    net = configured(networks.mixed_parameters, stateful=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(10)
        sim.run_steps(10)
        sim.step()
        data = sim.data[net.probes[0]]
        assert sim.n_steps == 0
        assert np.array_equal(data[:10], data[10:20])
        assert np.array_equal(data[0], data[20])


def test_sampled_probes_keep_what_core_keeps():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        node = nengo.Node(networks.waves(2))
        ens = nengo.Ensemble(20, 2)
        nengo.Connection(node, ens)
        periods = (None, 0.002, 0.0025, 0.01)
        probes = [nengo.Probe(ens, synapse=0.01, sample_every=e) for e in periods]
    expected = core_data(net, 37)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for n_steps in (1, 3, 20, 13):
            sim.run_steps(n_steps)
        for probe in probes:
            assert_close(sim.data[probe], expected[probe], "float64")
            assert len(sim.trange(sample_every=probe.sample_every)) == len(
                expected[probe]
            )


def test_a_model_that_was_built_before():
    net = configured(networks.mixed_parameters, dtype="float64")
    model = nengo.builder.Model(dt=0.002)
    model.build(net)
    with nengo.Simulator(net, dt=0.002, progress_bar=False) as ref:
        ref.run_steps(30)
    n_operators = len(model.operators)
    with nengo_dl.Simulator(None, model=model, progress_bar=False) as sim:
        assert sim.dt == 0.002
        assert sim.dtype == "float64"  # the settings are those of the network
        sim.run_steps(30)
        probe = net.probes[0]
        assert_close(sim.data[probe], ref.data[probe], "float64")
    assert len(model.operators) == n_operators


def test_two_simulators_of_one_network_do_not_meet():
    net = configured(networks.recurrent, dtype="float64")
    probe = net.probes[0]
    with nengo_dl.Simulator(net, progress_bar=False) as a:
        with nengo_dl.Simulator(net, progress_bar=False) as b:
            a.run_steps(20)
            b.run_steps(30)
            a.run_steps(10)
            assert np.array_equal(a.data[probe], b.data[probe])


def test_a_run_goes_on_after_a_longer_one_of_another_kind():
    """Data and no data need different programs where a node is constant."""
    net = configured(node_network, dtype="float64")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for _ in range(3):
            sim.run_steps(5, data={"constant": np.full((1, 5, 1), 0.4)})
            sim.run_steps(5)
        found = {p: sim.data[p] for p in net.probes}
        seed = sim.seed
    for probe, values in core_data(net, 30, seed).items():
        assert_close(found[probe], values, "float64")
