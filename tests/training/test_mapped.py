"""Arrays in files: read in parts, and given back."""

import mmap

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.training import mapped
from nengo_dl.training.advice import is_finite


@pytest.fixture
def path(tmp_path):
    array = np.memmap(tmp_path / "data", "float32", "w+", shape=(64, 2**15))
    array[...] = 1
    array.flush()
    return tmp_path / "data"


def file_pages():
    """Bytes of files that are in this process's memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[2]) * mmap.PAGESIZE


@pytest.mark.skipif(
    not hasattr(mmap, "MADV_DONTNEED"), reason="the system keeps pages as it likes"
)
def test_what_was_read_is_given_back(path):
    array = np.memmap(path, "float32", "r", shape=(64, 2**15))
    before = file_pages()
    assert np.asarray(array).sum() == array.size
    assert file_pages() - before > array.nbytes / 2
    mapped.let_go(array[3:])
    assert file_pages() - before < array.nbytes / 4
    assert array[-1, -1] == 1


def test_looking_for_numbers_that_are_none(path, monkeypatch):
    """Block by block, to the last one."""
    monkeypatch.setattr(mapped, "BLOCK", 10 * 2**17)
    array = np.memmap(path, "float32", "r+", shape=(64, 2**15))
    assert [len(block) for block in mapped.in_blocks(array)] == [10] * 6 + [4]
    assert is_finite(array)
    array[-1, -1] = np.nan
    assert not is_finite(array)
    assert np.isnan(array[-1, -1])  # what was written is not lost


def test_changes_that_no_file_holds_are_kept(path):
    array = np.memmap(path, "float32", "c", shape=(64, 2**15))
    array[0, 0] = 5
    assert not mapped.is_in_file(array)
    mapped.let_go(array)
    assert array[0, 0] == 5


def test_arrays_in_memory_are_left_alone():
    array = np.arange(6.0).reshape(3, 2)
    assert not mapped.is_in_file(array[1:])
    (whole,) = mapped.in_blocks(array)
    assert whole is array


@pytest.fixture(scope="module")
def sim():
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(np.zeros(3))
        out = nengo.Node(size_in=2)
        nengo.Connection(inp, out, transform=np.full((2, 3), 0.01), synapse=0.1)
        net.probe = nengo.Probe(out)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        yield sim


@pytest.mark.parametrize("kind", ("uint8", "float64"))
def test_other_types_are_converted_batch_by_batch(sim, kind, tmp_path, monkeypatch):
    array = np.memmap(tmp_path / "x", kind, "w+", shape=(10, 5, 3))
    array[...] = np.arange(150).reshape(array.shape)
    x, y = np.array(array, "float32"), np.ones((10, 5, 2), "float32")
    expected = sim.predict(x)[sim.network.probe], sim.evaluate(x, y, verbose=0)["loss"]
    sizes = []
    seen = mapped.let_go
    for module in ("feed", "predicting"):
        monkeypatch.setattr(
            f"nengo_dl.training.{module}.let_go",
            lambda array: (sizes.append(array.dtype), seen(array)),
        )
    found = sim.predict(array)[sim.network.probe], sim.evaluate(array, y, verbose=0)
    assert set(sizes) == {np.dtype(kind)}  # what was read is the file, not a copy
    assert np.array_equal(found[0], expected[0]) and found[1]["loss"] == expected[1]
    history = sim.fit(array, y, validation_data=(array, y), verbose=0).history
    assert np.isfinite(history["loss"][0] + history["val_loss"][0])
    on_batch = sim.predict_on_batch(array[:4])[sim.network.probe]
    assert np.array_equal(on_batch, sim.predict_on_batch(x[:4])[sim.network.probe])


def test_numbers_in_files_that_are_too_large(sim, tmp_path):
    array = np.memmap(tmp_path / "x", "float64", "w+", shape=(4, 5, 3))
    array[2, 1] = 1e300
    with pytest.raises(ValidationError, match="item 2.*step 1|too large|infinite"):
        sim.predict(array)
