"""Runs a drawn network in Nengo and here, and compares all probes."""

import re
import warnings
from collections import Counter

import hypothesis
import nengo
import numpy as np
from hypothesis import HealthCheck, Phase, given, reject, settings

from tests.random_networks.generator import cases
from tests.random_networks.journey import (
    Journey,
    learns,
    parameters_of,
    reference_parameters,
)
from tests.random_networks.objects import STEPS, Feed

#: largest difference, in units of the largest value that the probe has seen
TOLERANCE = 1e-6

#: relative size of the changes that show whether Nengo agrees with itself; rounding
#: errors of one step are a hundred times smaller
DISTURBANCE = 1e-14


#: what to count in the programs
NAMES = r"\bnengo(?:_dl)?\.[\w.]+|\bLeak\b|\bSaturating\b"


class Disagreement(AssertionError):
    """The simulators do not agree."""


def reference(case, net, feeds, item, model=None, disturbed=None):
    """The data of all probes in Nengo, for one batch item, then all parameters.

    Parameters
    ----------
    model : ~nengo.builder.Model, optional
        The network as it was built before.
    disturbed : int, optional
        Seed of small random changes of all parameters and initial values.
    """
    for feed in feeds:
        feed.values = feed.item(item)
    with nengo.Simulator(
        net if model is None else None,
        dt=case.dt,
        seed=net.seed + 1 + item,
        model=model,
        progress_bar=False,
        optimize=False,  # its optimizer changes which process gets which random numbers
    ) as sim:
        if disturbed is not None:
            disturb(sim, np.random.RandomState(disturbed))
        sim.run_steps(STEPS, progress_bar=False)
        data = [np.array(sim.data[probe]) for probe in net.all_probes]
        return [*data, *reference_parameters(sim)]


def built(case, net):
    """The network as Nengo builds it, for several simulations."""
    model = nengo.builder.Model(dt=case.dt)
    model.build(net)
    return model


def random_neurons(net):
    """Whether neurons draw random numbers.

    In Nengo they are the same in every simulation of a network; the items of a batch have
    different ones, apart from the first.
    """
    return any(
        isinstance(ens.neuron_type, nengo.StochasticSpiking) for ens in net.all_ensembles
    )


def disturb(sim, rng):
    """Change every number that a simulation starts from, by rounding errors."""
    for signal, array in sim.signals.items():
        if signal.base is signal and isinstance(array, np.ndarray):
            if array.dtype.kind == "f":
                writeable = array.flags.writeable
                array.flags.writeable = True
                array *= 1 + DISTURBANCE * rng.uniform(-1, 1, array.shape)
                array.flags.writeable = writeable


def tested(case, net, nodes):
    """The same here, with an axis for the batch item: parameters have the first's.

    Returns
    -------
    found : list of ndarray
        Of the simulation.
    frozen : tuple or None
        The network, frozen with what it has learned, and the data of a run with that.
    """
    with Journey(case, net, nodes) as journey:
        found = journey.run(case.pieces, case.between)
        if case.again:
            journey.sim.reset()
            for first, second in zip(found, journey.run(case.pieces, case.between)):
                if not np.array_equal(first, second):
                    raise Disagreement("after a reset the simulation is another one")
        found += [a[None] for a in journey.parameters()]
        if case.predicted and not items_differ(net):
            compare_batches(journey)
        # a rule that halves what it starts from halves it again in the frozen network
        if not case.frozen or "Halve(" in case.program:
            return found, None
        net = journey.sim.network
        journey.sim.reset(include_trainable=False)
        before = [a[None].copy() for a in journey.parameters()]
        for x, y in zip(before, found[len(net.all_probes) :], strict=True):
            if not np.array_equal(x, y):
                raise Disagreement("a reset that keeps what was learned changes it")
        journey.sim.freeze_params(net)
        return found, (net, journey.run((STEPS,)))


def items_differ(net):
    """Whether items with the same data differ in `predict`, and are right in that.

    What is learned in one batch lasts; processes without input draw for each item.
    """
    processes = (isinstance(node.output, nengo.Process) for node in net.all_nodes)
    return learns(net) or any(processes)


def compare_batches(journey):
    """Each batch of `predict` must start from the same state, and give the same."""
    data = {node: np.concatenate([values] * 3) for node, values in journey.data().items()}
    for probe, values in journey.sim.predict(data).items():
        first, *others = np.split(values, 3)
        for i, other in enumerate(others):
            if not np.array_equal(first, other):
                raise Disagreement(f"batch {i + 2} of predict differs, in {probe}")


def distance(found, expected):
    """The largest difference, in units of the tolerance."""
    if found.shape != expected.shape:
        return np.inf
    if not found.size:
        return 0.0
    scale = np.max(np.abs(expected))
    difference = np.max(np.abs(found - expected))
    if np.isnan(difference):
        return np.inf
    return difference / (TOLERANCE * scale + 1e-12)


def compare(case):
    """Compare one network.

    Returns
    -------
    str
        ``"agree"``, or why it cannot be compared.

    Raises
    ------
    Disagreement
    """
    if case.refused:
        return f"refused by Nengo: {case.refused[-60:]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net, names = case.make()
            nodes = [n for n in net.all_nodes if isinstance(n.output, Feed)]
            feeds = [node.output for node in nodes]
            items = 1 if random_neurons(net) else case.batch or 1
            model = built(case, net)
            expected = [reference(case, net, feeds, b, model) for b in range(items)]
        except Exception as error:  # what Nengo does not run cannot be compared
            return f"refused by Nengo: {type(error).__name__}: {str(error)[:60]}"
        if any(a.dtype.kind != "f" for item in expected for a in item):
            return "not numbers"
        if not all(np.isfinite(a).all() for item in expected for a in item):
            return "not finite"
        for feed in feeds:
            feed.values = feed.item(0)
        try:
            found, frozen = tested(case, net, nodes)
        except Disagreement as error:
            raise Disagreement(f"{error}\n{case!r}") from error
        except Exception as error:
            raise Disagreement(f"{type(error).__name__}: {error}\n{case!r}") from error
        outcome = judge(case, net, feeds, expected, found, labels_of(names, model))
        if frozen is None or outcome != "agree":
            return outcome
        return thawed(case, *frozen, names)


def labels_of(names, model):
    """What to call each result: that of a probe, or a parameter."""
    labels = {id(value): name for name, value in names.items()}
    probes = [labels.get(id(probe), probe) for probe in model.probes]
    return [*probes, *(f"{labels.get(id(o), o)}.{a}" for _, o, a in parameters_of(model))]


def thawed(case, net, found, names):
    """Whether Nengo runs a frozen network as it was run here; see `judge`."""
    feeds = [node.output for node in net.all_nodes if isinstance(node.output, Feed)]
    model = built(case, net)
    items = [reference(case, net, feeds, 0, model)[: len(found)]]
    found = [values[:1] for values in found]
    return judge(case, net, feeds, items, found, labels_of(names, model))


def judge(case, net, feeds, expected, found, labels):
    """Whether results agree (``"agree"``), or cannot be compared.

    Raises
    ------
    Disagreement
    """
    wrong = []
    for i, values in enumerate(found):
        for b, item in enumerate(expected[: len(values)]):
            far = distance(values[b], item[i])
            if far > 1:
                wrong.append((i, b, labels[i], far))
    if not wrong:
        return "agree"
    if ill_conditioned(case, net, feeds, expected, {(i, b) for i, b, *_ in wrong}):
        return "ill-conditioned"
    raise Disagreement(describe(case, expected, found, wrong))


def ill_conditioned(case, net, feeds, expected, wrong):
    """Whether Nengo disagrees with itself wherever the simulators disagree."""
    unexplained = set(wrong)
    for seed in range(3):
        for b in {b for _, b in unexplained}:
            other = reference(case, net, feeds, b, disturbed=seed)
            unexplained -= {
                (i, item)
                for i, item in unexplained
                if item == b and distance(other[i], expected[b][i]) > 0.1
            }
    return not unexplained


def describe(case, expected, found, wrong):
    """What disagrees, and the program that shows it."""
    rows = ["", repr(case), ""]
    for i, b, name, far in wrong:
        here, there = found[i][b], expected[b][i]
        row = f"{name}, item {b}: "
        if here.shape != there.shape:
            rows.append(f"{row}shape {here.shape}, expected {there.shape}")
            continue
        error = np.abs(here - there).reshape(len(there), -1)
        step = int(np.argmax(error.max(axis=1) > TOLERANCE * np.abs(there).max()))
        rows.append(
            f"{row}{far:.3g} times the tolerance; first at row {step}: "
            f"{here[step]}, expected {there[step]}"
        )
    return "\n".join(rows)


def search(count, seed, tier="mixed"):
    """Draw networks until some disagree, or enough agree.

    Parameters
    ----------
    count : int
        Networks that have to agree.
    seed : int
        The same one draws the same networks.
    tier : str
        See `cases`.

    Returns
    -------
    Counter
        How often each outcome was seen, and each name of Nengo in the programs.

    Raises
    ------
    Disagreement
        With the smallest program that shows it.
    """
    seen = Counter()

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(cases(tier))
    def run(case):
        outcome = compare(case)
        seen[outcome] += 1
        if outcome != "agree":
            reject()
        seen.update(set(re.findall(NAMES, case.program)))

    before = nengo.rc.get("decoder_cache", "enabled")
    nengo.rc.set("decoder_cache", "enabled", "False")  # slower than small networks
    try:
        run()
    finally:
        nengo.rc.set("decoder_cache", "enabled", before)
    return seen
