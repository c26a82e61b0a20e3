"""``sim.signals``: the values that the signals of core Nengo have."""

import gc
import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, SimulatorClosed

import nengo_dl
from tests import networks


def neurons():
    """All kinds of state, and what nothing that is probed depends on."""
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(lambda t: [np.sin(30 * t), 0.4])
        constant = nengo.Node([0.3])
        kinds = [
            nengo.LIF(),
            nengo.AdaptiveLIF(),
            nengo.Izhikevich(),
            nengo.SpikingRectifiedLinear(),
            nengo.RegularSpiking(nengo.Sigmoid()),
            nengo.AdaptiveLIFRate(),
            nengo.Tanh(),
        ]
        for kind in kinds:
            a = nengo.Ensemble(7, 2, neuron_type=kind)
            nengo.Connection(inp, a, synapse=nengo.Alpha(0.01))
            nengo.Connection(constant, a[0], synapse=None, transform=0.5)
            nengo.Connection(a, a[:1], function=np.prod, synapse=nengo.Lowpass(0.02))
        noise = nengo.Node(nengo.processes.FilteredNoise(seed=1), size_out=2)
        nengo.Connection(noise, a, synapse=nengo.synapses.Alpha(0.003))
        passed = nengo.Node(lambda t, x: 2 * x, size_in=2)
        nengo.Connection(a, passed, synapse=nengo.Triangle(0.004))
        nengo.Probe(inp)
    return net


def learning():
    """Rules on channels that nothing probed depends on."""
    with nengo.Network(seed=2) as net:
        inp = nengo.Node([0.5, -0.3])
        ens = nengo.Ensemble(8, 2)
        out = nengo.Node(size_in=2)
        nengo.Connection(inp, ens)
        for rule in (nengo.PES(1e-3), nengo.RLS(1e-2)):
            conn = nengo.Connection(ens, out, learning_rule_type=rule)
            nengo.Connection(out, conn.learning_rule)
        post = nengo.Ensemble(6, 2)
        rules = [nengo.Oja(1e-6), nengo.BCM(1e-9)]
        nengo.Connection(
            ens.neurons, post.neurons, transform=np.ones((6, 8)), learning_rule_type=rules
        )
        nengo.Connection(ens, post, learning_rule_type=nengo.Voja())
        nengo.Probe(inp)
    return net


def compare(ours, n_steps):
    """Every signal that core has; returns how many are not zero."""
    expected = of_core(ours, n_steps)
    assert ours.signals.keys() == expected.keys()
    others = {
        signal
        for op in ours.model.operators
        if isinstance(getattr(op, "process", None), nengo.synapses.Triangle)
        for signal in op.state.values()
    }
    for signal, value in expected.items():
        if signal in others:
            with pytest.raises(SimulationError, match="in another way"):
                ours.signals[signal]
            continue
        found = ours.signals[signal]
        assert found.shape == value.shape
        np.testing.assert_allclose(
            found, value, rtol=1e-7, atol=1e-10, err_msg=str(signal)
        )
    return sum(not np.allclose(value, 0) for value in expected.values())


def of_core(ours, n_steps):
    """The values of all signals of the same model in core."""
    options = {"seed": ours.seed, "progress_bar": False, "optimize": False}
    with nengo.Simulator(None, model=ours.model, **options) as sim:
        for _ in range(n_steps):
            sim.step()
        return {signal: np.array(value) for signal, value in sim.signals.items()}


def simulator(net, **options):
    with net:
        nengo_dl.configure_settings(dtype="float64", jit=options.pop("jit", False))
    return nengo_dl.Simulator(net, progress_bar=False, **options)


@pytest.mark.parametrize("make", [neurons, learning, networks.recurrent])
def test_signals_are_those_of_core(make):
    net = make()
    with simulator(net) as sim:
        compare(sim, 0)
        sim.run_steps(20)
        assert compare(sim, 20) > 20
        sim.step()
        compare(sim, 21)
        sim.reset()
        compare(sim, 0)


def test_signals_in_compiled_steps_of_a_batch(rng):
    net = learning()
    with simulator(net, jit=True, minibatch_size=2) as sim:
        first = next(iter(sim.signals))
        assert sim.signals[first].shape == (2,)
        x = rng.uniform(-1, 1, (2, 20, 2))
        sim.run_steps(20, data={net.nodes[0]: x})
        found = {signal: sim.signals[signal] for signal in sim.signals}
        out = sim.model.sig[net.nodes[0]]["out"]
        assert np.array_equal(found[out], x[:, -1])
        for item in range(2):
            # in core the node would have to be another one; its output is all that counts
            model = nengo.builder.Model(dt=0.001)
            net.nodes[0].output = nengo.processes.PresentInput(x[item], 0.001)
            model.build(net)
            with nengo.Simulator(None, model=model, progress_bar=False) as core:
                core.run_steps(20)
                for conn in net.all_connections:
                    if conn.learning_rule_type is not None:
                        attr, obj = "weights", conn
                        if isinstance(conn.learning_rule_type, nengo.Voja):
                            attr, obj = "encoders", conn.post_obj
                        mine, theirs = sim.model.sig[obj][attr], model.sig[obj][attr]
                        np.testing.assert_allclose(
                            found[mine][item], core.signals[theirs], rtol=1e-7, atol=1e-12
                        )


def test_signals_that_were_not_computed_are_no_wrong_numbers():
    """What is known is right; what is not is refused, also what depends on it."""
    net = learning()
    with simulator(net) as sim:
        sim.run_steps(20)
        known = [0, 0]
        for i in range(2):
            for signal, expected in of_core(sim, 20 + i).items():
                try:
                    found = sim.signals[signal]
                except SimulationError as error:
                    assert "look at sim.signals once before the first" in str(error)
                else:
                    known[i] += 1
                    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)
            sim.step()
        assert 20 < known[0] < known[1] <= len(sim.signals)
        sim.reset()
        sim.run_steps(3)
        compare(sim, 3)


def test_what_was_carried_as_factors_goes_on():
    """The first look may come between two steps."""
    net = learning()
    with simulator(net) as sim, simulator(learning()) as other:
        sim.run_steps(10)
        assert sim.signals is sim.signals
        sim.run_steps(10)
        other.run_steps(20)
        for conn, same in zip(net.connections, other.network.connections, strict=True):
            weights = sim.data[conn].weights
            if weights is not None:
                np.testing.assert_allclose(weights, other.data[same].weights, rtol=1e-9)


def test_those_who_looked_are_pickled_and_saved_like_others(tmp_path):
    net = learning()
    with simulator(net) as sim, simulator(net) as other:
        sim.signals  # noqa: B018
        sim.run_steps(5)
        sim.save_params(tmp_path / "paused", include_state=True)
        with pickle.loads(pickle.dumps(sim)) as again:
            for one in (sim, again, other):
                if one is other:
                    one.load_params(tmp_path / "paused", include_state=True)
                one.run_steps(3)
            for conn, same in zip(
                net.connections, again.network.connections, strict=True
            ):
                weights = sim.data[conn].weights
                if weights is not None:
                    assert np.allclose(again.data[same].weights, weights, rtol=1e-9)
                    assert np.allclose(other.data[conn].weights, weights, rtol=1e-9)


def test_turned_filters_show_the_state_of_core():
    """In single precision filters of high order are computed in other coordinates."""
    with nengo.Network() as net:
        inp = nengo.Node([1.0])
        out = nengo.Node(size_in=1)
        poles = np.poly(np.full(4, 0.99))
        synapse = nengo.LinearFilter([np.polyval(poles, 1)], poles, analog=False)
        nengo.Connection(inp, out, synapse=synapse)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.signals  # noqa: B018
        sim.run_steps(50)
        (op,) = [op for op in sim.model.operators if getattr(op, "state", None)]
        found = sim.signals[op.state["X"]]
        assert sim._program.compiled(sim._program.last_use).turned
        expected = of_core(sim, 50)[op.state["X"]]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_signals_are_a_read_only_mapping():
    net = neurons()
    with simulator(net) as sim:
        voltage = sim.model.sig[net.ensembles[0].neurons]["voltage"]
        with pytest.raises(KeyError):
            sim.signals[nengo.builder.Signal([1.0])]
        with pytest.raises(TypeError):
            sim.signals[voltage] = 1
        with pytest.raises(ValueError, match="read-only"):
            sim.signals[voltage][0] = 1
        assert voltage in sim.signals and net not in sim.signals
        signals = sim.signals
    with pytest.raises(SimulatorClosed):
        sim.signals  # noqa: B018
    with pytest.raises(SimulatorClosed):
        signals[voltage]


def test_nothing_is_kept_for_those_who_do_not_look():
    net = neurons()
    with simulator(net) as sim:
        sim.run_steps(3)
        carried = sum(a.size for a in sim._program.layout(sim._program.last_use).carry)
        sim.signals  # noqa: B018
        sim.run_steps(3)
        more = sum(a.size for a in sim._program.layout(sim._program.last_use).carry)
    gc.collect()
    assert more > 2 * carried


def test_a_function_cannot_switch_signals_on():
    def look(t):
        return sim.signals[sim.model.time] if t > 0.005 else 0.0

    with nengo.Network() as net:
        nengo.Probe(nengo.Node(look, size_out=1))
    with simulator(net) as sim:
        with pytest.raises(SimulationError, match="signals was called from"):
            sim.run_steps(10)
