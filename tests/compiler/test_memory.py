"""Where signals are in memory, views of views included."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.builder.operator import Copy, DotInc, Reset
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl.compiler.memory import (
    Pending,
    check_views,
    covers,
    overlap,
    signal_index,
    source_key,
)
from tests.compiler.bench import Bench


@pytest.mark.parametrize(
    "view",
    [
        lambda s: s,
        lambda s: s[1],
        lambda s: s[:, 2],
        lambda s: s[::2, 1:],
        lambda s: s[::-1, ::-1],
        lambda s: s[2:0:-1],
        lambda s: s.reshape((2, 6)),
        lambda s: s.reshape((12,))[3:9],
        lambda s: s[:2][1, 1:],
        lambda s: s[1:].reshape((8,)),
        lambda s: s[:, :3][::2],
    ],
)
def test_signal_index_of_views(view):
    """The positions that a view has in its base, in the view's shape."""
    signal = view(Signal(np.arange(12.0).reshape(3, 4), name="base"))
    assert np.array_equal(signal_index(signal), signal.initial_value)


NESTED = {
    "slice": lambda y: y[:8][2:5],
    "steps": lambda y: y[::2][:3],
    "later": lambda y: y[2:][1:4],
    "later steps": lambda y: y[1::2][1:4],
    "rows": lambda y: y[4:].reshape((2, 4))[1, :3],
    "reshaped": lambda y: y[3:9].reshape((2, 3))[1, :],
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.filterwarnings("ignore:the signal y:UserWarning")
def test_views_of_views_are_where_core_looks_for_them(kind, allclose):
    bench = Bench()
    y, z = Signal(np.zeros(12), name="y"), Signal(np.zeros(3), name="z")
    view = NESTED[kind](y)
    matrix = Signal(np.arange(15.0).reshape(3, 5), name="matrix")
    bench.add(Reset(y, 0.5), DotInc(matrix, bench.x, view), Copy(NESTED[kind](y), z))
    bench.watch(y, z)
    bench.agree(allclose)


@pytest.mark.parametrize("kind", NESTED)
def test_views_whose_place_core_mistakes_are_named(kind):
    zeros = NESTED[kind](Signal(np.zeros(12), name="y"))
    values = NESTED[kind](Signal(np.arange(12.0), name="y"))
    if kind in ("slice", "steps"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_views([zeros, values, values.base])
    else:
        with pytest.warns(UserWarning, match="y.* is a view of a view.*a single index"):
            check_views([zeros])
        with pytest.raises(BuildError, match="a view of a view: .* other values"):
            check_views([values])


def test_copied_signals_need_not_share_memory():
    base = Signal(np.arange(6.0), name="y")
    view = base[2:4]
    view._initial_value = np.arange(2.0, 4)  # as after some ways to copy a model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_views([view])
    assert signal_index(view).tolist() == [2, 3]


@pytest.mark.parametrize("neurons", (False, True))
def test_slices_of_objects(neurons, allclose):
    """Those of core: an object is sliced once, in any direction."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        stimulus = nengo.Node(lambda t: np.sin(np.arange(1, 13) * 40 * t))
        ens = nengo.Ensemble(24, 1) if neurons else nengo.Ensemble(60, 12)
        post = ens.neurons if neurons else ens
        nengo.Connection(stimulus[10:1:-1], post[2:11], transform=0.7)
        nengo.Connection(stimulus[::3], post[[5, 0, 3, 3]], synapse=0.02)
        nengo.Connection(post[-3:], post[9:6:-1], synapse=0.01)
        probes = [nengo.Probe(post[9:1:-2], synapse=0.01), nengo.Probe(stimulus[-4:-1])]
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(60)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(60)
        for probe in probes:
            assert np.abs(core.data[probe]).max() > 0
            assert allclose(sim.data[probe], core.data[probe], atol=1e-9)
    with pytest.raises(TypeError, match="not subscriptable"):
        post[2:20][::2]


def test_what_stands_for_a_node():
    base = Signal(np.arange(6.0), name="y")
    part = base[2:4]
    assert source_key(base) is base
    assert source_key(base.reshape((2, 3))) is base
    assert source_key(part) is part


def test_signals_overlap_or_not():
    base = Signal(np.arange(6.0), name="y")
    assert overlap(base, base[1:2]) and overlap(base[1:2], base)
    assert overlap(base[::2], base[2:4])
    assert not overlap(base[::2], base[1::2])
    assert not overlap(base[:2], Signal(np.zeros(2), name="z"))


def test_what_is_incremented_is_covered_or_not():
    y = Signal(np.zeros(6), name="y")
    assert covers([y], [y[2:4]])
    assert covers([y[:3], y[2:]], [y, y[1:3]])
    assert not covers([y[:3]], [y[2:4]])
    assert not covers([], [y])


def test_pending_writes_become_sums_of_a_region():
    pending = Pending(4)
    pending.fill(np.array([1]), 2.5)
    pending.add(np.array([1, 3, 1]), np.array([10, 11, 12]), 2.0)
    pending.freeze(np.arange(4) == 0)
    assert same(pending.region(None), np.array([False, True, True, True]))
    region = pending.region(np.array([0, 1, 2]))
    assert same(region, np.array([False, True, True, False]))
    bias, rows, sources, factors = pending.sums(region, np.array([20, 21, 22, 23]))
    assert bias.tolist() == [2.5, 0]
    # what was set does not count any more, what was not still does
    terms = sorted(zip(rows.tolist(), sources.tolist(), factors.tolist(), strict=True))
    assert terms == [(0, 10, 2.0), (0, 12, 2.0), (1, 22, 1.0)]


def same(first, second):
    """Whether both are None, or equal arrays to the bit."""
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


@pytest.mark.parametrize("seed", range(20))
def test_writes_to_a_whole_signal_are_writes_to_all_its_entries(seed):
    """The short form of positions, None, means what the long one does."""
    rng = np.random.RandomState(seed)
    size, current = 5, np.arange(50, 55)
    short, long = Pending(size), Pending(size)
    everything = np.arange(size)
    for _ in range(rng.randint(1, 5)):
        whole = rng.rand() < 0.7
        position = everything if whole else rng.randint(size, size=3)
        source = rng.randint(40, size=position.size)
        factor = [1.0, 2.0, rng.rand(position.size)][rng.randint(3)]
        value = [0.0, -0.0, 1.5][rng.randint(3)]
        kind = rng.randint(3)
        for pending, where in ((short, None if whole else position), (long, position)):
            if kind == 0:
                pending.fill(where, value)
            elif kind == 1:
                pending.cover(where)
            pending.add(where, source, factor)
    wanted = rng.randint(size, size=2) if rng.rand() < 0.5 else None
    for _ in range(2):
        region = long.region(wanted)
        assert same(short.region(wanted), region)
        assert same(short.only_source(), long.only_source())
        mask = np.ones(size, bool) if region is None else region
        values = [
            pending.sums(where, current, known)
            for known in (None, lambda e: 0.1 * e if (e < 20).all() else None)
            for pending, where in ((short, region), (long, region), (long, mask))
        ]
        for start in (0, 3):
            for other in values[start + 1 : start + 3]:
                assert all(map(same, values[start], other))
        for pending in (short, long):
            pending.freeze(region)
        wanted = None


def test_positions_of_few_entries_are_made_once():
    signals = [Signal(np.zeros((2, 3)), name=name) for name in "ab"]
    first, second = map(signal_index, signals)
    assert first is second
    assert not first.flags.writeable
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert signal_index(Signal(np.zeros(3000), name="c")).tolist() == list(range(3000))
