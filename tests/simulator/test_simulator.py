"""What a simulator tells of itself, its seeds, its progress, and what it imports."""

import os
import subprocess
import sys
from pathlib import Path

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError
from nengo.utils.progress import ProgressBar

import nengo_dl
from tests import networks


def small(**settings):
    with nengo.Network(seed=7, label="small") as net:
        nengo_dl.configure_settings(**settings)
        net.node = nengo.Node(networks.waves(1), label="wave")
        net.ens = nengo.Ensemble(10, 1)
        nengo.Connection(net.node, net.ens)
        net.probe = nengo.Probe(net.ens, synapse=0.01)
    return net


@pytest.fixture(scope="module")
def sim():
    with nengo_dl.Simulator(small(), minibatch_size=3, progress_bar=False) as sim:
        sim.run_steps(12)
        yield sim


# what it tells --------------------------------------------------------------------------


def test_attributes(sim):
    assert sim.minibatch_size == 3
    assert sim.n_steps == 12
    assert sim.time == pytest.approx(0.012)
    assert sim.dt == 0.001
    assert sim.seed == 8  # that of the network, plus one, as in core
    assert sim.stateful
    assert not sim.closed
    assert sim.dtype == np.float32
    assert sim.unroll_simulation == 1
    assert isinstance(sim.model, nengo.builder.Model)
    assert sim.model.toplevel is sim.network


def test_data_is_a_mapping_of_everything_that_was_built(sim):
    net = sim.network
    with nengo.Simulator(net, progress_bar=False) as ref:
        assert len(sim.data) == len(ref.data)
        mine = [net.node, net.ens, net.probe, *net.connections]
        assert all(obj in sim.data and obj in ref.data for obj in mine)
        assert sim.data[net.ens]._fields == ref.data[net.ens]._fields
        assert np.array_equal(sim.data[net.ens].encoders, ref.data[net.ens].encoders)
    assert sim.data[net.probe].shape == (3, 12, 1)
    assert sim.data[net.probe].dtype == np.float32
    assert net.probe in sim.data
    with pytest.raises(KeyError):
        sim.data[nengo.Network()]


@pytest.mark.parametrize("minibatch_size, shape", ((None, (0, 1)), (1, (1, 0, 1))))
def test_before_the_first_run_there_are_no_samples(minibatch_size, shape):
    net = small()
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        assert sim.data[net.probe].shape == shape
        assert sim.trange().shape == (0,)
        sim.run_steps(4)
        assert sim.data[net.probe].size == 4
        sim.clear_probes()
        assert sim.data[net.probe].shape == shape
        assert sim.n_steps == 4
        sim.step()
        assert sim.data[net.probe].size == 1


def test_trange(sim):
    assert np.allclose(sim.trange(), 0.001 * np.arange(1, 13))
    assert np.allclose(sim.trange(sample_every=0.004), [0.004, 0.008, 0.012])
    assert np.array_equal(sim.trange(0.004), sim.trange(sample_every=0.004))
    with pytest.warns(DeprecationWarning, match="sample_every"):
        assert np.array_equal(sim.trange(dt=0.004), sim.trange(sample_every=0.004))
    with pytest.raises(ValidationError, match="sample_every"):
        sim.trange(dt=0.004, sample_every=0.004)


def test_description(sim):
    text = sim.describe()
    assert "LIF" in text
    assert text.splitlines()[0] == sim.tensor_graph.describe().splitlines()[0]


def test_seeds():
    net = small()
    with nengo_dl.Simulator(net, seed=3, progress_bar=False) as sim:
        assert sim.seed == 3
        sim.reset()
        assert sim.seed == 3
        sim.reset(seed=4)
        assert sim.seed == 4
    net.seed = None
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert sim.seed is not None


def test_the_entry_point_of_nengo_backends():
    from importlib.metadata import entry_points

    points = entry_points(group="nengo.backends", name="dl")
    for point in points:  # none, if the package is not installed but on the path
        assert point.load() is nengo_dl.Simulator
    assert nengo_dl.Simulator.__module__ == "nengo_dl.simulator.simulator"


# its progress ---------------------------------------------------------------------------


class Recorder(ProgressBar):
    """Keeps the name and the numbers of every update."""

    def __init__(self):
        self.updates = []

    def update(self, progress):
        self.updates.append((progress.name_during, progress.n_steps, progress.max_steps))

    def names(self):
        return list(dict.fromkeys(name for name, *_ in self.updates))


def test_progress_is_shown_of_building_and_running_but_not_of_steps():
    bar = Recorder()
    with nengo_dl.Simulator(small(), progress_bar=bar) as sim:
        assert bar.names() == ["Building", "Compiling"]
        # Nengo counts the objects that it builds
        _, built, total = [u for u in bar.updates if u[0] == "Building"][-1]
        assert built == total == 1 + len(sim.network.all_objects)
        bar.updates.clear()
        sim.run_steps(30)
        assert bar.names() == ["Simulating"]
        assert bar.updates[-1] == ("Simulating", 30, 30)
        bar.updates.clear()
        sim.step()
        sim.run_steps(3, progress_bar=False)
        assert not bar.updates
        other = Recorder()
        sim.run(0.002, progress_bar=other)
        assert other.updates[-1] == ("Simulating", 2, 2)
        assert not bar.updates


class Strict(Recorder):
    """A bar that is not updated any more once it was closed."""

    def __init__(self):
        super().__init__()
        self.totals = {}
        self.n_closed = 0

    def update(self, progress):
        assert self.n_closed == 0
        # the number of steps is known from the start
        assert self.totals.setdefault(progress, progress.max_steps) == (
            progress.max_steps
        )
        super().update(progress)

    def close(self):
        self.n_closed += 1


def test_progress_bars_are_closed_once():
    bar, other = Strict(), Strict()
    with nengo_dl.Simulator(small(), progress_bar=bar) as sim:
        assert bar.n_closed == 1
        sim.run_steps(3, progress_bar=other)
        assert other.n_closed == 1


def test_progress_bars_are_closed_if_something_fails(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("in the build")

    for name in ("nengo.builder.Model.build", "nengo_dl.simulator.building.Program"):
        bar = Strict()
        with monkeypatch.context() as patch:
            patch.setattr(name, fail)
            with pytest.raises(RuntimeError, match="in the build"):
                nengo_dl.Simulator(small(), progress_bar=bar)
        # nothing is shown before the build, so there is nothing to close
        assert bar.n_closed == (1 if bar.updates else 0)


# what it imports ------------------------------------------------------------------------


def test_tensorflow_is_imported_only_when_it_is_needed(tmp_path):
    """Importing it takes seconds; short runs in NumPy do without."""
    script = """
import sys
import nengo, nengo_dl
with nengo.Network() as net:
    nengo_dl.configure_settings(dtype="float64")
    ens = nengo.Ensemble(10, 1)
    nengo.Probe(ens)
with nengo_dl.Simulator(net, device="/cpu:0", progress_bar=False) as sim:
    sim.run_steps(100)
    sim.step()
    sim.reset()
    sim.run_steps(2, stateful=False)
    sim.save_params("params")
    sim.load_params("params")
    sim.freeze_params(net)
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    package = Path(nengo_dl.__file__).parent.parent
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("label", (None, "net's"))
def test_what_a_simulator_is_shown_as(label):
    with nengo.Network(label=label) as net:
        nengo.Probe(nengo.Node([1]))
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.run_steps(5)
        of = "a network" if label is None else '"net\'s"'
        form = f"<Simulator of {of}: dt=0.001, minibatch_size=3, 5 steps run (0.005 s), "
        assert repr(sim) == form + "open>"
    assert repr(sim) == form + "closed>"
    assert (
        repr(nengo_dl.Simulator.__new__(nengo_dl.Simulator)) == "<Simulator, not built>"
    )
    with nengo.Network() as empty:
        pass
    with nengo_dl.Simulator(empty, dt=0.01, progress_bar=False) as sim:
        assert repr(sim).startswith(
            "<Simulator of a network: dt=0.01, minibatch_size=None"
        )
