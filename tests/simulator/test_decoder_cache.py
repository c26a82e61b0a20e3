"""Nengo's cache of decoders: damaged or unwritable, it does not stop a build."""

import os
import warnings

import nengo
import numpy as np
import pytest
from nengo.cache import NoDecoderCache
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl.simulator import decoders


@pytest.fixture
def folder(tmp_path):
    """The cache is on, in a folder of the test's."""
    before = {name: nengo.rc.get("decoder_cache", name) for name in ("enabled", "path")}
    nengo.rc.set("decoder_cache", "enabled", "True")
    nengo.rc.set("decoder_cache", "path", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    for name, value in before.items():
        nengo.rc.set("decoder_cache", name, value)


def weights():
    """Decoders of a network, built anew."""
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(10, 1)
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(ens, out)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(2)
        return np.array(sim.model.params[conn].weights)


@pytest.fixture
def expected():
    with warnings.catch_warnings():
        nengo.rc.set("decoder_cache", "enabled", "False")
        return weights()


def test_decoders_are_written_and_read(expected, folder, monkeypatch):
    assert np.array_equal(weights(), expected)
    assert list(folder.glob("*/*.nco"))

    def never(*args, **kwargs):
        raise AssertionError("solved once more")

    monkeypatch.setattr(nengo_dl.simulator.decoders.System, "solve", never)
    assert np.array_equal(weights(), expected)


@pytest.mark.parametrize("content", (b"", b"NCO", b"random bytes " * 50))
def test_damaged_decoders(expected, folder, content):
    weights()
    for file in folder.glob("*/*.nco"):
        file.write_bytes(content)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert np.array_equal(weights(), expected)
    assert len([w for w in found if "cache of decoders" in str(w.message)]) <= 1


def test_decoders_of_something_else(expected, folder):
    weights()
    for file in folder.glob("*/*.nco"):
        with file.open("wb") as opened:
            nengo.cache.nco.write(opened, {}, np.full((10, 1), np.nan))
    with pytest.warns(UserWarning, match="other contents than decoders"):
        assert np.array_equal(weights(), expected)


def test_a_damaged_index(expected, folder):
    weights()
    for file in folder.iterdir():
        if file.is_file():
            file.write_bytes(b"random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(weights(), expected)


def failing(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ("nco.write", "nco.read", "sync", "shrink"))
def test_full_and_unreadable_disks(expected, folder, where, monkeypatch):
    if where == "nco.read":
        weights()
    if where.startswith("nco"):
        monkeypatch.setattr(nengo.cache.nco, where.partition(".")[2], failing)
    elif where == "shrink":
        monkeypatch.setattr(nengo.cache.DecoderCache, "shrink", failing)
    else:
        monkeypatch.setattr(nengo.cache.WriteableCacheIndex, "sync", failing)
    with pytest.warns(UserWarning, match="cannot be used .OSError: .*No space") as found:
        assert np.array_equal(weights(), expected)
        assert np.array_equal(weights(), expected)
    said = [w for w in found if "No space" in str(w.message)]
    assert len(said) == 1


def test_a_folder_that_cannot_be_made(expected, folder):
    folder.write_text("a file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(weights(), expected)
    nengo.rc.set("decoder_cache", "path", os.fspath(folder / "below" / "it"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(weights(), expected)


def test_no_cache_if_it_is_off(folder):
    nengo.rc.set("decoder_cache", "enabled", "False")
    assert isinstance(decoders.default_decoder_cache(), NoDecoderCache)


def test_errors_of_the_solver_are_its_own(folder):
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(10, 1, gain=np.ones(10), bias=np.full(10, -10.0))
        nengo.Connection(ens, nengo.Node(size_in=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BuildError, match="zero|silent|activities|neurons"):
            nengo_dl.Simulator(net, progress_bar=False)
