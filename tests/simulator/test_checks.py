"""What a user gets who gives something that is no time, seed, network, or known."""

import decimal
import fractions
import pickle
import sys

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.simulator.building import seed_number, step_length
from nengo_dl.simulator.run import steps_of
from tests.networks import small


@pytest.fixture
def sim():
    with nengo_dl.Simulator(small(), progress_bar=False) as sim:
        yield sim


# times ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds", (np.nan, np.inf, -np.inf, "1", None, [1.0], b"1", {}, 1j, np.ones(2))
)
def test_what_is_no_length_of_time(sim, seconds):
    with pytest.raises(ValidationError, match="length of time in seconds, got") as error:
        sim.run(seconds)
    assert repr(seconds) in str(error.value)
    assert sim.n_steps == 0


@pytest.mark.parametrize("seconds", (-0.1, -1e-300, -1e300))
def test_negative_times(sim, seconds):
    with pytest.raises(ValidationError, match="must be positive"):
        sim.run(seconds)


def test_times_without_end(sim):
    with pytest.raises(ValidationError, match="more than 9e.15 steps"):
        sim.run(1e300)


@pytest.mark.parametrize(
    "seconds",
    (
        0.004,
        np.float32(0.004),
        fractions.Fraction(4, 1000),
        decimal.Decimal("0.004"),
        np.array(0.004),
    ),
)
def test_numbers_of_any_type_are_lengths_of_time(sim, seconds):
    sim.run(seconds)
    assert sim.n_steps == 4
    assert steps_of(seconds, 0.002) == 2


@pytest.mark.parametrize("dt", (0, -0.001, np.nan, np.inf, "x", "0.001", None, [0.001]))
def test_what_is_no_length_of_a_step(dt):
    with pytest.raises(ValidationError, match=r"dt: expected.*such as 0.001; got"):
        nengo_dl.Simulator(small(), dt=dt, progress_bar=False)


def test_lengths_of_steps_of_other_types():
    for dt in (np.float64(0.002), fractions.Fraction(1, 500), np.array(0.002)):
        assert step_length(dt) == 0.002
        with nengo_dl.Simulator(small(), dt=dt, progress_bar=False) as sim:
            assert sim.dt == 0.002


# seeds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ("x", 1.5, -1, 2**32, True, [1], np.float64(2)))
def test_what_is_no_seed(sim, seed):
    with pytest.raises(ValidationError, match="seed: expected a whole number from 0 to"):
        nengo_dl.Simulator(small(), seed=seed, progress_bar=False)
    before = sim.seed
    with pytest.raises(ValidationError, match="expected a whole number"):
        sim.reset(seed=seed)
    assert sim.seed == before


def test_the_largest_seed_leaves_one_for_each_item():
    assert seed_number(2**32 - 3, items=3) == 2**32 - 3
    with pytest.raises(ValidationError, match=f"from 0 to {2**32 - 3}"):
        seed_number(2**32 - 2, items=3)
    with nengo.Network() as net:
        probe = nengo.Probe(nengo.Node(nengo.processes.WhiteNoise()))
    for seed in (0, np.int64(7), 2**32 - 2):
        with nengo_dl.Simulator(
            net, seed=seed, minibatch_size=2, progress_bar=False
        ) as sim:
            assert sim.seed == seed
            sim.run_steps(2)
            assert np.isfinite(sim.data[probe]).all()


# networks ------------------------------------------------------------------------------


class Own(nengo.Network):
    """A network of a user."""


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda net: net.ens, "<Ensemble 'ens'.*Ensemble.*with nengo.Network"),
        (lambda net: [net.ens], r"got \[<Ensemble"),
        (lambda net: [], r"got \[\] \(list\)"),
        (lambda net: "net", "got 'net'"),
        (lambda net: Own, r"make one: Own\(...\)"),
        (lambda net: nengo.builder.Model(), r"write Simulator\(None, model=...\)"),
    ],
)
def test_what_is_no_network(make, match):
    with pytest.raises(ValidationError, match=match):
        nengo_dl.Simulator(make(small()), progress_bar=False)


def test_what_is_no_model():
    with pytest.raises(ValidationError, match="expected a nengo.builder.Model, got <Net"):
        nengo_dl.Simulator(None, model=small(), progress_bar=False)
    with Own() as net:
        nengo.Probe(nengo.Node([1]))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1)


@pytest.mark.parametrize(
    "name, match",
    [
        ("batch_size", "did you mean 'minibatch_size'"),
        ("minibatchsize", "did you mean 'minibatch_size'"),
        ("unroll", "unexpected argument 'unroll'"),
        ("xyz", "it takes network, dt, seed"),
    ],
)
def test_arguments_that_there_are_not(name, match):
    with pytest.raises(TypeError, match=match):
        nengo_dl.Simulator(small(), progress_bar=False, **{name: 3})


# data ----------------------------------------------------------------------------------


def test_data_of_what_was_not_built(sim):
    net = sim.network
    with net:
        late = nengo.Probe(net.ens, label="late")
        ens = nengo.Ensemble(3, 1, label="new")
    for obj in (late, ens):
        with pytest.raises(KeyError, match="after this simulator was built.*new Sim"):
            _ = sim.data[obj]
    other = small()
    for obj in (other.ens, other.conn, other.probe, other, object()):
        with pytest.raises(KeyError, match="is not part of the network"):
            _ = sim.data[obj]
        assert obj not in sim.data
        assert sim.data.get(obj) is None
    with pytest.raises(KeyError, match=r"with their ensemble: sim.data\[ens\]"):
        _ = sim.data[net.ens.neurons]
    with pytest.raises(KeyError, match="objects, here the Probe 'out', as keys, got"):
        _ = sim.data["out"]
    with pytest.raises(KeyError, match="Nengo objects as keys, got the text 'nothing'"):
        _ = sim.data["nothing"]
    with pytest.raises(KeyError, match="is not part"):
        sim.data.get_params((other.ens, "bias"))


def test_data_of_a_model_without_a_network():
    model = nengo.builder.Model()
    net = small()
    model.build(net)
    model.toplevel = None
    with nengo_dl.Simulator(None, model=model, progress_bar=False) as sim:
        with pytest.raises(KeyError, match="not part"):
            _ = sim.data[small().ens]
        assert sim.data[net.ens].bias.shape == (10,)


def test_data_of_one_item_may_have_the_shape_of_results():
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(np.zeros(2), label="inp")
        probe = nengo.Probe(inp)
    x = np.arange(10.0).reshape(5, 2)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for given in (x, [x], {inp: x}, {"inp": x}, x[None]):
            sim.clear_probes()
            sim.run_steps(5, data=given)
            assert np.array_equal(sim.data[probe], x)
            assert np.array_equal(sim.predict(given, verbose=0)[probe], x[None])
        sim.clear_probes()
        sim.run(0.005, data=x)
        sim.step(data=x[:1])
        assert np.array_equal(sim.data[probe], np.concatenate([x, x[:1]]))
        for bad in (x.T, x[0], x[None, None]):
            with pytest.raises(ValidationError, match=r"or for one item \(steps, 2\)"):
                sim.run_steps(5, data=bad)
        with pytest.raises(ValidationError, match="has 5 steps.*expected 4"):
            sim.run_steps(4, data=x)
    with nengo_dl.Simulator(net, minibatch_size=1, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match=r"3 axes \(batch, steps, 2\)"):
            sim.run_steps(5, data=x)


# functions of users --------------------------------------------------------------------


def raises_late(t, x=None):
    if t > 0.0025:
        raise ZeroDivisionError("of the user")
    return 0.0


class Bad(nengo.Process):
    """Fails in the third step."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return raises_late


def networks_that_raise():
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(raises_late, label="mine"))
        nengo.Node(np.sin)
    yield net, "the function of Node 'mine' at t=0.003"
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(raises_late, size_in=1, label="with input"))
    yield net, "the function of Node 'with input' at t=0.003"
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(Bad(), size_out=1, label="process"))
    yield net, "the process of Node 'process' at t=0.003"
    with nengo.Network() as net:
        node = nengo.Node(lambda t: t)
        out = nengo.Node(size_in=1)
        nengo.Connection(node, out, function=lambda x: raises_late(x), label="conn")
        nengo.Probe(out)
    yield net, "the function of <Connection"


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11"
)
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("how", ("run_steps", "step", "predict"))
def test_what_a_function_raises_says_where(number, how):
    net, place = list(networks_that_raise())[number]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ZeroDivisionError, match="of the user") as error:
            if how == "step":
                for _ in range(5):
                    sim.step()
            elif how == "predict":
                sim.predict(n_steps=5, verbose=0)
            else:
                sim.run(0.005)
        assert str(error.value) == "of the user"
        (note,) = error.value.__notes__
        assert place in note
        assert " at 0x" not in note
        pickle.dumps(error.value)


def test_values_that_do_not_fit_name_the_node():
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(lambda t: [t] if t < 0.002 else [t, t], label="one"))
        nengo.Probe(nengo.Node(lambda t: t, label="two"))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match="'<lambda>' of <Node 'one'>") as error:
            sim.run_steps(3)
        assert "<Node 'two'>" not in str(error.value)  # its value fits
        assert "expected 1 finite numbers" in str(error.value)
        assert getattr(error.value, "__notes__", []) == []
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(lambda t: t if t < 0.002 else np.nan))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match="'<lambda>' of <Node .unlabeled.>"):
            sim.run_steps(3)


@pytest.mark.parametrize("found", ("x", -1, 0, np.nan, np.inf, [0.1], b"1"))
def test_sampling_periods_are_positive_numbers(found):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(4)
        with pytest.raises(ValidationError, match="a positive number of seconds; got"):
            sim.trange(sample_every=found)
        assert sim.trange(sample_every=0.002).tolist() == [0.002, 0.004]


class Mute(nengo.Node):
    """A node without a text."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    "use",
    (
        lambda sim, obj: sim.get_name(obj),
        lambda sim, obj: sim.data[obj],
        lambda sim, obj: sim.get_nengo_params([obj]),
        lambda sim, obj: sim.run_steps(2, data={obj: np.ones((2, 1))}),
    ),
)
def test_messages_name_what_has_no_text(sim, use):
    with nengo.Network():
        obj = Mute(1)
    with pytest.raises((ValidationError, KeyError), match="Mute") as found:
        use(sim, obj)
    assert "no text" not in str(found.value)
