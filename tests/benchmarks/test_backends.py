import nengo
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.benchmarks import backends
from nengo_dl.benchmarks.measurements import compare
from tests.benchmarks import tiny


class Point:
    """An entry point of another simulator."""

    def __init__(self, name, value, simulator=None):
        self.name, self.value, self.simulator = name, value, simulator

    def load(self):
        return self.simulator


class Other(nengo.Simulator):
    """A simulator of somebody else, which refuses networks with a note."""

    def __init__(self, network, **kwargs):
        self.closed = True
        if getattr(network, "refused", False):
            raise NotImplementedError("cannot do that")
        super().__init__(network, **kwargs)


@pytest.fixture
def other(monkeypatch):
    """A third simulator is installed."""
    points = [
        Point("reference", "nengo:Simulator"),
        Point("dl", "nengo_dl:Simulator"),
        Point("other", "elsewhere:Simulator", Other),
    ]
    monkeypatch.setattr(backends, "entry_points", lambda group: points)
    monkeypatch.setattr(compare, "settle", lambda sim, steps: None)


def test_registered_backends(other):
    known = backends.registered()
    assert list(known) == ["core", "dl", "other"]
    assert known["core"].load() is nengo.Simulator
    assert known["dl"].load() is nengo_dl.Simulator
    assert known["other"].load() is Other


def test_chosen_backends(other):
    assert [b.name for b in backends.chosen()] == ["core", "dl"]
    assert [b.name for b in backends.chosen(["other", "core"])] == ["core", "other"]
    with pytest.raises(
        ValidationError, match="registered as ocl .*known: core, dl, other"
    ):
        backends.chosen(["ocl"])


def test_only_ours_is_given_its_options():
    core, ours = backends.chosen()
    net = tiny.TINY()
    with core(net, minibatch_size=2) as sim:
        assert type(sim) is nengo.Simulator
    with ours(net, minibatch_size=2) as sim:
        assert sim.minibatch_size == 2


def test_compare_with_a_third_simulator(other, monkeypatch):
    tiny.add_tiny(monkeypatch)
    options = {"seeds": 1, "steps": 10, "repeats": 1, "step_calls": 1, "memory": False}
    rows = list(compare.compare(["tiny"], ["dl", "other"], **options))
    assert [row["backend"] for row in rows] == ["core", "dl", "other"]
    assert rows[2]["us"] > 0 and rows[2]["difference"] == 0 and rows[2]["speedup"] > 0


def test_a_third_simulator_may_refuse_a_network(other, monkeypatch):
    def refused():
        net = tiny.TINY()
        net.refused = True
        return net

    tiny.add_tiny(monkeypatch, builder=refused, sizes={})
    options = {"seeds": 2, "steps": 10, "repeats": 1, "step_calls": 1, "memory": False}
    rows = list(compare.compare(["tiny"], ["other"], **options))
    assert [row["backend"] for row in rows] == ["core", "other"]
    assert rows[1] == {"network": "tiny", "backend": "other", "seeds": 0}
