"""Pickles of simulators for workers, and the files that they are in."""

import os
import pickle
import stat

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.many import pickles
from nengo_dl.many.parcels import Parcel, parcel
from nengo_dl.many.pickles import pickled_simulator
from nengo_dl.runtime.executor import executors
from tests.many.helpers import Here, network, response
from tests.runtime.native_code import pytestmark_native


@pytest.fixture
def sim():
    with nengo_dl.Simulator(network(), seed=5, progress_bar=False) as sim:
        yield sim


@pytest.fixture
def no_cloudpickle(monkeypatch):
    monkeypatch.setattr(pickles, "has_cloudpickle", lambda: False)


def test_small(sim):
    """Probe data do not travel."""
    empty = len(pickled_simulator(sim, response))
    sim.run_steps(20_000)
    assert len(pickled_simulator(sim, response)) < empty + 1000 < 50_000


def test_without_cloudpickle(sim, no_cloudpickle):
    copy, function = pickle.loads(pickled_simulator(sim, response))
    with copy:
        assert np.array_equal(function(copy, 0.5), response(sim, 0.5))


def test_a_lambda_needs_cloudpickle(sim, no_cloudpickle):
    with pytest.raises(ValidationError, match="function '<lambda>'.*install cloudpickle"):
        nengo_dl.run_many(sim, lambda sim, task: task, [1], Here)


def test_the_part_that_cannot_be_pickled_is_named():
    generator = (n for n in range(3))

    def output(t):
        return next(generator)

    with nengo.Network(seed=0) as net:
        nengo.Probe(nengo.Node(output, size_out=1, label="counts"))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match="the output of <Node 'counts'> cannot"):
            nengo_dl.run_many(sim, response, [1], Here)


def test_the_executor_is_the_same(sim, monkeypatch):
    """Also where others are available, which would round differently."""
    native = executors.find("native")
    monkeypatch.setattr(type(native), "missing", lambda self: "not installed")
    data = pickled_simulator(sim, response)
    monkeypatch.undo()
    copy, _ = pickle.loads(data)
    with copy:
        copy.run_steps(3)
        assert "run in: native" not in copy.describe()
        assert "missing where the simulator was sent from" in copy.describe()


@pytestmark_native
def test_an_executor_that_workers_lack(sim, monkeypatch):
    native, submit = executors.find("native"), Here.submit
    missing = type(native).missing

    def submit_elsewhere(self, *args):
        monkeypatch.setattr(type(native), "missing", lambda self: "not installed")
        try:
            return submit(self, *args)
        finally:
            monkeypatch.setattr(type(native), "missing", missing)

    monkeypatch.setattr(Here, "submit", submit_elsewhere)
    with pytest.raises(SimulationError, match="executor 'native' is missing here"):
        nengo_dl.run_many(sim, response, [1], Here)


# files --------------------------------------------------------------------------------


def test_files_are_there_while_they_are_needed(sim, tmp_path):
    folder = tmp_path / "new" / "folder"

    def look(sim, task):
        (path,) = folder.glob("nengo_dl_many_*/*.pkl")
        return [stat.S_IMODE(p.stat().st_mode) for p in (folder, path.parent, path)]

    modes = nengo_dl.run_many(sim, look, [1], Here, folder=folder)
    assert modes == [[0o700, 0o700, 0o600]] or os.name == "nt"
    assert not list(folder.iterdir())


def test_large_pickles_are_in_files():
    large = b"x" * 1_000_000
    with parcel(large, None, remote=False) as sent:
        assert sent.data is None and sent.content() == large
    with parcel(large, None, remote=True) as sent:
        assert sent.data == large
    with parcel(large[1:], None, remote=False) as sent:
        assert sent.data == large[1:]


def test_files_of_others_are_not_read(tmp_path):
    with parcel(b"content", tmp_path, remote=False) as sent:
        assert sent.content() == b"content"
        with open(sent.path, "ab") as file:
            file.write(b"!")
        with pytest.raises(SimulationError, match="its hash differs"):
            sent.content()
    with pytest.raises(SimulationError, match="cannot be read here"):
        sent.content()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners of files")
def test_files_that_others_may_write_are_not_read(tmp_path, monkeypatch):
    with parcel(b"content", tmp_path, remote=False) as sent:
        os.chmod(os.path.dirname(sent.path), 0o777)
        with pytest.raises(SimulationError, match="others may write to it"):
            sent.content()
        os.chmod(os.path.dirname(sent.path), 0o700)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(SimulationError, match="belongs to another user"):
            sent.content()


def test_a_damaged_pickle_is_an_error():
    from nengo_dl.many.worker import work

    reply = work(Parcel("key", os.getpid(), b"not a pickle"), [])
    assert "UnpicklingError" in reply.unusable and not reply.outcomes
