"""Networks that nobody thought of, compared with Nengo; other ones in each run.

A failure prints a program that shows it, as small as it was made, and how to draw it
again. For more than the few here: ``python -m tests.random_networks --help``.
"""

import inspect
import re
import secrets

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.random_networks import compare, generator, journey, parts
from tests.random_networks.generator import Case
from tests.random_networks.objects import STEPS

CHUNKS, COUNT = 5, 10


@pytest.mark.parametrize(
    "chunk", [pytest.param(0, marks=pytest.mark.as_users), *range(1, CHUNKS)]
)
def test_random_networks_agree_with_nengo(chunk):
    seed = secrets.randbelow(10**9)
    repeat = f"repeat: python -m tests.random_networks --count {COUNT} --seed {seed}"
    print(repeat)  # shown whatever goes wrong
    try:
        seen = compare.search(COUNT, seed)
    except compare.Disagreement as error:
        pytest.fail(f"{error}\n\n{repeat}", pytrace=False)
    assert seen["agree"] >= COUNT, seen
    assert seen["ill-conditioned"] <= 1, seen


def case(*lines, **settings):
    """A case from the lines of its program."""
    case = Case(**settings)
    case.lines += ["net = nengo.Network(seed=1)", *lines]
    return case


LINES = (
    "with net: feed = nengo.Node(Feed(3, 2))",
    "with net: ens = nengo.Ensemble(10, 2)",
    "with net: conn = nengo.Connection(feed, ens)",
    "with net: probe = nengo.Probe(ens, synapse=0.01)",
)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_compare_runs_every_batch_item(batch):
    assert compare.compare(case(*LINES, batch=batch, fed=True, pieces=(7, 53))) == "agree"


def test_networks_run_as_machine_code_where_a_case_says_so():
    one = case(*LINES, native=True)
    assert "native=True" in repr(one) and compare.compare(one) == "agree"
    with journey.Journey(one, one.make()[0], []) as trip:
        assert "forward steps run in: native" in trip.sim.describe()


LEARNING = (
    *LINES[:2],
    "noise = nengo.processes.WhiteNoise()",
    "with net: out = nengo.Node(size_in=2)",
    "with net: conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES(1e-3))",
    "with net: nengo.Connection(feed, conn.learning_rule)",
    "creep = Creep(1e-2, modifies='decoders')",
    "with net: own = nengo.Connection(ens, out, learning_rule_type=creep)",
    "with net: nengo.Connection(feed, out, synapse=Delay(3))",
    "with net: nengo.Connection(nengo.Node(noise, size_out=2), out)",
    "with net: probe = nengo.Probe(out, sample_every=0.002)",
)


@pytest.mark.parametrize("action", journey.ACTIONS)
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("rule", ["Creep", "Halve"])
def test_what_happens_between_runs_changes_nothing(action, batch, rule):
    settings = {"batch": batch, "fed": batch == 3, "pieces": (7, 33, 20)}
    lines = [line.replace("Creep", rule) for line in LEARNING]
    learning = case(*lines, between=(action, "go on", action), **settings)
    assert compare.compare(learning) == "agree"


def test_the_action_that_goes_on_from_a_pickle_finds_networks_that_can_be_pickled():
    one = case(*LEARNING)
    net, _ = one.make()
    with journey.Journey(one, net, []) as trip:
        before = trip.sim
        trip.pickled()
        assert trip.sim is not before


def test_frozen_networks_are_compared():
    assert compare.compare(case(*LEARNING, frozen=True)) == "agree"


def test_batches_of_predict_are_compared(monkeypatch):
    one = case(*LINES, batch=2, fed=True, jit=True, predicted=True)
    assert compare.compare(one) == "agree"
    predict = nengo_dl.Simulator.predict

    def leaking(sim, data):
        return {
            p: y + 1e-9 * np.arange(6)[:, None, None]
            for p, y in predict(sim, data).items()
        }

    monkeypatch.setattr(nengo_dl.Simulator, "predict", leaking)
    with pytest.raises(compare.Disagreement, match="batch 2 of predict differs"):
        compare.compare(one)


def test_learned_weights_are_compared(monkeypatch):
    values = journey.Journey.parameters
    monkeypatch.setattr(
        journey.Journey, "parameters", lambda self: [v * (1 + 1e-5) for v in values(self)]
    )
    with pytest.raises(compare.Disagreement, match="conn.weights, item 0"):
        compare.compare(case(*LEARNING))


def test_the_state_of_a_delayed_product_lasts_when_parameters_are_written():
    """Found by a search: the folded program had a state, the open one its factor."""
    transform = "nengo.Sparse((3, 1), indices=[[0, 0]], init=-0.99)"
    delayed = case(
        "with net: node = nengo.Node(size_in=1)",
        "with net: nengo.Connection(nengo.Node([0.3]), node)",
        "with net: ens = nengo.Ensemble(5, 3, neuron_type=nengo.LIFRate())",
        f"w, delay = {transform}, nengo.Lowpass(0)",
        "with net: nengo.Connection(node, ens, synapse=delay, transform=w)",
        "with net: probe = nengo.Probe(ens, 'input')",
        pieces=(7, 53),
        opened=1,
    )
    assert compare.compare(delayed) == "agree"


def test_a_wrong_step_is_found(monkeypatch):
    def tested(*args):
        found, frozen = right(*args)
        found[0] = found[0].copy()
        found[0][1, 30] *= 1 + 1e-5
        return found, frozen

    right = compare.tested
    monkeypatch.setattr(compare, "tested", tested)
    with pytest.raises(compare.Disagreement, match="probe, item 1: .* row 30: ") as error:
        compare.compare(case(*LINES, batch=3, fed=True))
    for line in LINES:
        assert line in str(error.value)


def test_an_error_is_found(monkeypatch):
    def tested(*args):
        raise ZeroDivisionError("here")

    monkeypatch.setattr(compare, "tested", tested)
    with pytest.raises(compare.Disagreement, match="ZeroDivisionError: here"):
        compare.compare(case(*LINES))


def test_missing_rows_are_found(monkeypatch):
    right = compare.tested

    def tested(*args):
        found, frozen = right(*args)
        return [a[:, 1:] for a in found[:1]] + found[1:], frozen

    monkeypatch.setattr(compare, "tested", tested)
    with pytest.raises(compare.Disagreement, match="shape \\(59, 2\\), expected \\(60"):
        compare.compare(case(*LINES))


def test_networks_that_blow_up_rounding_errors_are_told_apart(monkeypatch):
    chaos = case(  # the logistic map
        "with net: node = nengo.Node(lambda t, x: 1 - 1.99 * x**2, size_in=1)",
        "delay = nengo.Lowpass(0)",
        "with net: nengo.Connection(node, node, synapse=delay, transform=0.999)",
        "with net: probe = nengo.Probe(node)",
    )
    net, _ = chaos.make()
    plain, other = (compare.reference(chaos, net, [], 0, disturbed=k) for k in (None, 9))
    assert compare.distance(other[0], plain[0]) > 1
    monkeypatch.setattr(compare, "tested", lambda *args: ([a[None] for a in other], None))
    assert compare.compare(chaos) == "ill-conditioned"


def test_what_nengo_refuses_is_not_compared():
    loop = "with net: nengo.Connection(ens.neurons, ens.neurons, synapse=None)"
    assert compare.compare(case(*LINES, loop)).startswith("refused by Nengo: ")


def test_the_same_seed_draws_the_same_networks(monkeypatch):
    def programs(seed):
        drawn = []
        monkeypatch.setattr(
            compare, "compare", lambda c: drawn.append(repr(c)) or "agree"
        )
        compare.search(3, seed)
        return drawn

    assert programs(5) == programs(5) != programs(6)


NOT_DRAWN = {
    "PoissonSpiking": "how many random numbers it takes depends on the rates, so that a "
    "rounding error in one neuron changes the spikes of all others",
    "RatesToSpikesNeuronType": "abstract",
    "Synapse": "abstract",
    "LstsqL1": "a solver runs in Nengo's builder alone; a few of them will do",
    "Nnls": "as LstsqL1",
    "NnlsL2": "as LstsqL1",
    "NnlsL2nz": "as LstsqL1",
}


@pytest.mark.parametrize(
    "base",
    [
        nengo.learning_rules.LearningRuleType,
        nengo.neurons.NeuronType,
        nengo.Process,
        nengo.solvers.Solver,
        nengo.transforms.Transform,
    ],
)
def test_everything_that_nengo_has_is_drawn(base):
    source = inspect.getsource(parts) + inspect.getsource(generator)
    known, kinds = set(re.findall(r"nengo\.(?:\w+\.)?(\w+)", source)), [base]
    for kind in kinds:
        kinds += kind.__subclasses__()
    rooms = re.compile(r"nengo\.(?!.*tests)")  # not those that Nengo's tests made
    names = {k.__name__ for k in kinds[1:] if rooms.match(k.__module__)}
    names = {name for name in names if not name.startswith("_")}
    missing = names - known - set(NOT_DRAWN)
    assert names and not missing


def test_distance():
    one = np.ones((STEPS, 2))
    assert compare.distance(one, one) == 0
    assert compare.distance(one * (1 + 0.9e-6), one) < 1
    assert compare.distance(1000 * one * (1 + 1.1e-6), 1000 * one) > 1
    assert compare.distance(one[1:], one) == np.inf
    assert compare.distance(np.nan * one, one) == np.inf
