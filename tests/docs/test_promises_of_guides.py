"""What the other pages of the guide promise in words."""

import io
import re

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.settings import SETTINGS
from tests.docs.promises import promise, simulator
from tests.docs.snippets import ROOT

SIMULATOR, SETTINGS_PAGE = "docs/simulator.rst", "docs/settings.rst"


@promise(
    SIMULATOR,
    "``nengo_dl.Simulator`` does what ``nengo.Simulator`` does, with the same members",
    "and so there are no ``sim.dg``, ``sim.step_order`` and ``sim.rng``.",
)
def test_members_of_core(net):
    with nengo.Simulator(net, progress_bar=False) as core:
        members = {name for name in dir(core) if not name.startswith("_")}
    with simulator(net) as sim:
        missing = {name for name in members if not hasattr(sim, name)}
        assert missing == {"dg", "step_order", "rng"}
        for name in missing:
            with pytest.raises(AttributeError, match=name):
                getattr(sim, name)


@promise(
    SIMULATOR,
    "Without ``minibatch_size`` there is one copy, and probe data has no such axis, as "
    "in Nengo.",
)
@pytest.mark.parametrize("size, shape", [(None, (3, 1)), (1, (1, 3, 1)), (2, (2, 3, 1))])
def test_axes_of_probe_data(net, size, shape):
    with simulator(net, minibatch_size=size) as sim:
        sim.run_steps(3)
        assert sim.data[net.p].shape == shape


@promise(
    SIMULATOR,
    "The data of several nodes are a dictionary with nodes or their labels as keys, or "
    "a list in the order in which the nodes were made.",
)
def test_forms_of_data(net):
    with net:
        c = nengo.Node([0.1], label="c")
        probes = [nengo.Probe(net.a), nengo.Probe(c)]
    first, second = np.ones((1, 2, 1)), np.full((1, 2, 1), 2.0)
    with simulator(net) as sim:
        for data in ({net.a: first, c: second}, {"a": first, "c": second}):
            sim.run_steps(2, data=data)
        sim.run_steps(2, data=[first, second])
        assert np.array_equal(sim.data[probes[0]], np.ones((6, 1)))
        assert np.array_equal(sim.data[probes[1]], np.full((6, 1), 2.0))


@promise(
    SIMULATOR,
    "What was learned lasts: from call to call, also with ``stateful=False``, until a "
    "``reset``",
)
def test_what_was_learned_lasts(net):
    with net:
        out = nengo.Node(size_in=1)
        rule = nengo.PES(1e-3)
        conn = nengo.Connection(net.b, out, learning_rule_type=rule)
        nengo.Connection(net.a, conn.learning_rule)
    with simulator(net) as sim:
        built = sim.data[conn].weights.copy()
        sim.run_steps(10, stateful=False)
        once = sim.data[conn].weights.copy()
        sim.run_steps(10, stateful=False)
        assert sim.n_steps == 0
        assert not np.array_equal(built, once)
        assert not np.array_equal(once, sim.data[conn].weights)
        sim.reset()
        assert np.array_equal(sim.data[conn].weights, built)


@promise(
    SIMULATOR,
    "A function that looks at the simulator itself finds it as it was some steps "
    "before; with ``sim.step()`` again and again, as it is. The time of a step is the "
    "function's argument.",
)
def test_functions_that_look_at_the_simulator(net):
    seen, present = [], Late()
    with net:
        looking = nengo.Node(
            lambda t, x: seen.append((round(t / 0.001), present.n_steps)), size_in=1
        )
        nengo.Connection(net.b, looking)
    with simulator(net) as sim:
        present = sim
        seen.clear()
        for _ in range(3):
            sim.step()
        assert seen == [(1, 0), (2, 1), (3, 2)]
        seen.clear()
        sim.run_steps(20)
        assert [step for step, _ in seen] == list(range(4, 24))
        assert all(known < step for step, known in seen)


class Late:
    """Stands for a simulator that is still being built."""

    n_steps = 0


@promise(SETTINGS_PAGE, "* - Setting - Default - What it does")
def test_defaults_in_the_table():
    text = (ROOT / SETTINGS_PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - `([\w, ]+) <.*\n     - ``(.*?)``", text, re.M)
    found = {name: default for names, default in rows for name in names.split(", ")}
    for name, setting in SETTINGS.items():
        assert eval(found[name]) == setting.default, name
    assert set(found) == set(SETTINGS)


@promise(
    SETTINGS_PAGE,
    "``regularizer``, ``constraint``, ``keep_history`` and ``surrogate`` can be set for "
    "each network, class and object.",
)
@pytest.mark.parametrize("kind", [nengo.Probe, "object"])
def test_settings_of_classes_and_objects(net, kind):
    with net:
        nengo_dl.configure_settings(keep_history=True)
        other = nengo.Probe(net.a)
    net.config[net.p if kind == "object" else kind].keep_history = False
    with simulator(net) as sim:
        sim.run_steps(4)
        assert sim.data[net.p].shape == (1, 1)
        assert sim.data[other].shape == ((4 if kind == "object" else 1), 1)


@promise(
    "docs/saving.rst",
    "It fits every network of the same form. What has no parameters may differ: types "
    "of neurons (trained as rates, run with spikes, as above), synapses, "
    "``minibatch_size``, ``dtype``.",
    "Files do not depend on the device, the number of threads, ``executor``, ``jit`` or "
    "``unroll_simulation``.",
)
@pytest.mark.parametrize("executor", ["numpy", "tensorflow"])
def test_files_fit_networks_of_the_same_form(net, executor):
    file = io.BytesIO()
    with simulator(net) as sim:
        sim.save_params(file)
        encoders = sim.data[net.b].scaled_encoders
    net.b.neuron_type = nengo.RectifiedLinear()
    net.b.seed = 7
    net.probes[0].synapse = None
    with net:
        nengo_dl.configure_settings(dtype="float32", jit="auto", executor=executor)
    with simulator(net, minibatch_size=2, unroll_simulation=3) as sim:
        sim.run_steps(2)
        assert not np.allclose(sim.data[net.b].scaled_encoders, encoders)
        file.seek(0)
        sim.load_params(file)
        assert np.allclose(sim.data[net.b].scaled_encoders, encoders)


@promise("docs/saving.rst", "of several batch items, that of the first.")
def test_learned_weights_of_the_first_item_are_saved(net):
    with net:
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(net.b, out, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(net.a, conn.learning_rule)
        weights = nengo.Probe(conn, "weights")
    file = io.BytesIO()
    with simulator(net, minibatch_size=2) as sim:
        sim.run_steps(9, data={net.a: np.arange(1.0, 3)[:, None, None] * np.ones((9, 1))})
        sim.save_params(file)
        first, second = sim.data[weights][:, -1]
    assert not np.array_equal(first, second)
    file.seek(0)
    with simulator(net) as sim:
        sim.load_params(file)
        assert np.allclose(sim.data[conn].weights, first, rtol=0, atol=1e-15)


@promise("docs/saving.rst", "Given a network, it freezes all of it")
def test_a_frozen_network_does_not_depend_on_its_seed(net):
    with simulator(net) as sim:
        encoders = sim.data[net.b].scaled_encoders
        sim.freeze_params(net)
    net.seed = 5
    with simulator(net) as sim:
        assert np.allclose(sim.data[net.b].scaled_encoders, encoders)


@promise(
    "docs/spikes.rst",
    "So what counts is the mean over that range, or the **area** under the surrogate. "
    "For ``Triangle()`` it is 1, which is too much.",
    "``Gaussian`` and ``ArcTan`` have an area of 1 whatever their width",
)
@pytest.mark.parametrize(
    "surrogate, area",
    [
        (nengo_dl.surrogates.Triangle(), 1),
        (nengo_dl.surrogates.Triangle(height=0.3), 0.3),
        (nengo_dl.surrogates.Triangle(width=0.1), 0.1),
        (nengo_dl.surrogates.FastSigmoid(slope=10), 0.2),
        (nengo_dl.surrogates.FastSigmoid(slope=25), 0.08),
        (nengo_dl.surrogates.Gaussian(sigma=0.1), 1),
        (nengo_dl.surrogates.Gaussian(sigma=0.7), 1),
        (nengo_dl.surrogates.ArcTan(alpha=2), 1),
        (nengo_dl.surrogates.ArcTan(alpha=10), 1),
    ],
    ids=str,
)
def test_areas_of_surrogates(surrogate, area):
    x = np.linspace(-1, 1, 200001) ** 3 * 1e3
    y = surrogate.derivative(np, x)
    found = np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
    assert np.isclose(found, area, rtol=0.01)


@promise(
    "docs/training.rst",
    "``nengo.RegularSpiking``, ``nengo.StochasticSpiking`` and ``nengo.PoissonSpiking`` "
    "become their base type, times ``amplitude``.",
    "Adaptation remains: ``nengo.AdaptiveLIF`` becomes ``nengo.AdaptiveLIFRate``",
)
@pytest.mark.parametrize(
    "spiking, rates",
    [
        (nengo.RegularSpiking(nengo.LIFRate(), amplitude=0.5), nengo.LIFRate()),
        (nengo.PoissonSpiking(nengo.Tanh(), amplitude=0.5), nengo.Tanh()),
        (nengo.AdaptiveLIF(), nengo.AdaptiveLIFRate()),
        (nengo.SpikingRectifiedLinear(), nengo.RectifiedLinear()),
    ],
    ids=str,
)
def test_rate_forms(spiking, rates):
    found = []
    for neuron_type in (spiking, rates):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(dtype="float64", jit=False)
            node = nengo.Node([0.7])
            ens = nengo.Ensemble(9, 1, neuron_type=neuron_type, gain=np.full(9, 2.0))
            ens.bias = np.linspace(-1, 3, 9)
            nengo.Connection(node, ens, synapse=None)
            probe = nengo.Probe(ens.neurons)
        with simulator(net) as sim:
            sim.run_steps(5, spiking=False)
            found.append(sim.data[probe])
    scale = 0.5 if hasattr(spiking, "base_type") else 1.0
    assert found[0].any()
    assert np.allclose(found[0], scale * found[1], rtol=0, atol=1e-9)


@promise(
    "docs/migrating.rst",
    "Random numbers of processes are those that ``nengo.Simulator`` draws; item ``i`` of "
    "a batch gets the ones of the seed ``sim.seed + i``.",
)
def test_items_have_seeds_of_their_own(net):
    with net:
        noise = nengo.Node(nengo.processes.WhiteNoise())
        probe = nengo.Probe(noise)
    with simulator(net, minibatch_size=3, seed=4) as sim:
        sim.run_steps(5)
        items = sim.data[probe]
    for i in range(3):
        with nengo.Simulator(net, seed=4 + i, progress_bar=False) as core:
            core.run_steps(5)
        assert np.array_equal(items[i], core.data[probe])


@promise(
    "docs/migrating.rst", "``TensorNode(f, size_in=3, size_out=2)``, a ``TypeError``"
)
def test_sizes_of_tensor_nodes_are_an_error():
    with nengo.Network(), pytest.raises(TypeError, match="size_in"):
        nengo_dl.TensorNode(lambda t, x: x, size_in=3, size_out=2)


@promise(
    "docs/extending.rst",
    "Without input it costs little, since it runs ahead of the loop.",
)
def test_processes_without_input_run_ahead(net):
    class Ramp(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            return lambda t: np.full(shape_out, t)

    with net:
        ramp = nengo.Node(Ramp(default_size_out=1))
        probe = nengo.Probe(ramp)
    with simulator(net) as sim:
        assert "python" not in sim.describe()
        sim.run_steps(3)
        assert np.allclose(sim.data[probe][:, 0], [0.001, 0.002, 0.003])


@promise(
    "docs/faq.rst", "Every neuron is computed in every step, whether it spikes or not"
)
def test_silent_neurons_are_computed_too():
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        ens = nengo.Ensemble(20, 1, gain=np.ones(20), bias=np.full(20, 0.5))
        probes = [nengo.Probe(ens.neurons, key) for key in ("output", "voltage")]
    with simulator(net) as sim:
        sim.run_steps(5)
        spikes, voltage = (sim.data[probe] for probe in probes)
    assert spikes.shape == (5, 20) and not spikes.any()
    assert np.all(np.diff(voltage, axis=0) != 0)  # each moves, below its threshold


@promise(
    SETTINGS_PAGE,
    "``run_steps`` still runs any number.",
)
def test_any_number_of_steps_without_a_loop(net):
    with net:
        nengo_dl.configure_settings(use_loop=False)
    with simulator(net, unroll_simulation=4) as sim:
        for n_steps in (1, 4, 7):
            sim.run_steps(n_steps)
        assert sim.n_steps == 12
        with pytest.raises(ValidationError, match="use_loop=False"):
            sim.predict(n_steps=3)
