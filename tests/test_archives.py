"""Files are written whole, change in nothing but contents, and are read with care."""

import io
import os
import signal
import stat
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl import archives
from nengo_dl.simulator.files import load, save
from tests import networks

OLD, NEW = {"a": np.zeros(300)}, {"a": np.ones(200), "b": np.ones(1)}

posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
no_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)


def holds(path, arrays):
    with archives.opened(path) as archive:
        return set(archive.names) == set(arrays) and all(
            np.array_equal(archive.array(name), value) for name, value in arrays.items()
        )


# writing: what else is changed ---------------------------------------------------


@posix
@pytest.mark.parametrize("mode", (0o600, 0o640, 0o664))
def test_a_save_keeps_the_mode(tmp_path, mode):
    path = save(tmp_path / "x", OLD)
    path.chmod(mode)
    save(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert holds(path, NEW)


@posix
def test_a_new_file_has_the_mode_that_others_have(tmp_path):
    (tmp_path / "other").touch()
    path = save(tmp_path / "x", OLD)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@posix
def test_a_save_follows_symbolic_links(tmp_path):
    (tmp_path / "there").mkdir()
    path = save(tmp_path / "there" / "x", OLD)
    link = tmp_path / "link.npz"
    link.symlink_to("there/x.npz")
    save(link, NEW)
    assert link.is_symlink()
    assert holds(path, NEW)
    assert os.listdir(tmp_path / "there") == ["x.npz"]
    dangling = tmp_path / "dangling.npz"
    dangling.symlink_to("there/y.npz")
    save(dangling, NEW)
    assert dangling.is_symlink()
    assert holds(tmp_path / "there" / "y.npz", NEW)


@posix
@pytest.mark.parametrize("before, after", ((OLD, NEW), (NEW, OLD)))
def test_a_save_keeps_hard_links(tmp_path, before, after):
    path = save(tmp_path / "x", before)
    os.link(path, tmp_path / "y.npz")
    save(path, after)
    assert path.samefile(tmp_path / "y.npz")
    assert holds(tmp_path / "y.npz", after)
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npz"]


@posix
def test_a_file_may_be_written_where_no_other_can_be_made(tmp_path, monkeypatch):
    path = save(tmp_path / "x", OLD)

    def refuse(path):
        raise PermissionError(13, "Permission denied", path + "-temporary")

    monkeypatch.setattr(archives, "_Temporary", refuse)
    save(path, NEW)
    assert holds(path, NEW)
    with pytest.raises(PermissionError, match="Permission denied: '.*/y.npz'"):
        save(tmp_path / "y", NEW)
    assert os.listdir(tmp_path) == ["x.npz"]


@posix
@no_root
def test_a_file_may_be_written_in_a_folder_that_is_read_only(tmp_path):
    path = save(tmp_path / "x", OLD)
    tmp_path.chmod(0o555)
    try:
        save(path, NEW)
        assert holds(path, NEW)
        with pytest.raises(PermissionError, match="y.npz"):
            save(tmp_path / "y", NEW)
    finally:
        tmp_path.chmod(0o755)


@posix
def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    path = save(tmp_path / "x", OLD)
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match="x.npz"):
        save(path, NEW)
    assert holds(path, OLD)


@pytest.mark.parametrize("name", ("x" * 251, "é" * 125))
def test_names_may_be_as_long_as_names_can_be(tmp_path, name):
    save(tmp_path / name, OLD)
    save(tmp_path / name, NEW)
    assert holds(tmp_path / f"{name}.npz", NEW)
    with pytest.raises(OSError, match="too long") as error:
        save(tmp_path / (name + "xxxxxx"), NEW)
    assert error.value.filename == str(tmp_path / f"{name}xxxxxx.npz")


def test_errors_name_the_file_of_the_user(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no folder '.*/none' for: '.*/x.npz'"):
        save(tmp_path / "none" / "x", OLD)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(IsADirectoryError, match="folder.npz"):
        save(tmp_path / "folder", OLD)
    path = save(tmp_path / "x", OLD)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left on device: '.*/x.npz'"):
        save(path, NEW)
    assert holds(path, OLD)
    assert sorted(os.listdir(tmp_path)) == ["folder.npz", "x.npz"]


# writing: what is left of those that are killed -----------------------------------

KILLED = """
import os, shutil, signal, sys
import numpy as np
from nengo_dl import archives

def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)

path, where = sys.argv[1:]
if where == "written":
    np.lib.format.write_array = lambda *args, **kwargs: kill()
if where == "flushed":
    os.fsync = kill
if where == "renamed":
    os.replace = kill
if where == "cut":
    archives.shutil.copyfileobj = kill
if where == "copied":
    archives.shutil.copyfileobj = lambda a, b: (b.write(a.read(900)), b.flush(), kill())
archives.write(path, {"a": np.ones(200), "b": np.ones(1)})
"""


def killed(path, where):
    command = [sys.executable, "-c", KILLED, str(path), where]
    done = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


@posix
@pytest.mark.parametrize("where", ("written", "renamed"))
def test_a_killed_save_leaves_the_old_file_and_nothing_for_ever(tmp_path, where):
    path = save(tmp_path / "x", OLD)
    killed(path, where)
    assert holds(path, OLD)
    assert len(os.listdir(tmp_path)) == 2
    save(tmp_path / "other", OLD)  # does not care
    assert len(os.listdir(tmp_path)) == 3
    save(path, NEW)
    assert sorted(os.listdir(tmp_path)) == ["other.npz", "x.npz"]


@posix
@pytest.mark.parametrize("where", ("flushed", "cut", "copied"))
def test_a_killed_save_leaves_a_whole_file_where_there_are_links(tmp_path, where):
    path = save(tmp_path / "x", OLD)
    os.link(path, tmp_path / "y.npz")
    killed(path, where)
    assert holds(path, OLD if where == "flushed" else NEW)
    if where != "flushed":
        assert np.array_equal(load(path, {"a": (200,), "b": (1,)})["a"], NEW["a"])
    save(path, OLD)
    assert holds(path, OLD)
    assert path.samefile(tmp_path / "y.npz")
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npz"]


def test_files_that_are_being_written_are_not_leftovers(tmp_path):
    path = tmp_path / "x.npz"
    with archives._Temporary(str(path)) as temporary:
        save(path, OLD)
        assert os.path.exists(temporary.path)
    assert os.listdir(tmp_path) == ["x.npz"]


def test_contents_are_on_the_disk_before_the_file_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a)))
    save(tmp_path / "x", OLD)
    assert calls[:2] == ["fsync", "replace"]


# open files and names -------------------------------------------------------------


def test_open_files_and_names_of_bytes(tmp_path):
    memory = io.BytesIO()
    assert save(memory, NEW) is memory
    memory.seek(0)
    assert np.array_equal(load(memory, {"a": (200,), "b": (1,)})["a"], NEW["a"])
    assert not memory.closed
    path = save(os.fsencode(tmp_path / "x"), NEW)
    assert path == tmp_path / "x.npz"
    load(os.fsencode(path), {"a": (200,), "b": (1,)})
    with open(path, "rb") as file:
        load(file, {"a": (200,), "b": (1,)})


@pytest.mark.parametrize("path", (None, 3, "", b"PK\x03\x04\x00\x00", io.StringIO()))
def test_what_is_no_file_is_refused(path):
    for call in (lambda: save(path, NEW), lambda: load(path, {"a": (200,)})):
        with pytest.raises(ValidationError, match="name of a file|binary mode"):
            call()


def test_files_that_cannot_be_read_to_and_fro():
    read, written = os.pipe()
    os.close(written)
    with os.fdopen(read, "rb") as pipe:
        with pytest.raises(ValidationError, match="io.BytesIO"):
            load(pipe, {})


# reading: before anything is unpacked ---------------------------------------------


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b"):
            with archive.open(f"{name}.npy", "w") as file:
                header = {"descr": "<f8", "fortran_order": False, "shape": (4_000_000,)}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(32):
                    file.write(bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(ValidationError) as error:
        load(path, {"a": (3,)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    assert "a has shape (4000000,); expected (3,)" in str(error.value)
    assert "b (4000000,) is not in this network" in str(error.value)


def test_a_list_of_many_names_is_cut(tmp_path):
    path = save(tmp_path / "x", {f"array {i:05}": np.zeros(1) for i in range(3000)})
    with pytest.raises(ValidationError, match="and 2,981 more like these") as error:
        load(path, {"a": (3,)})
    assert len(str(error.value)) < 3000
    for names in ({f"arr_{i}": np.zeros(1) for i in range(300)}, {"arr_0": OLD["a"]}):
        np.savez(path, **names, **{f"x{i}": np.zeros(1) for i in range(300)})
        with pytest.raises(ValidationError, match="by position") as error:
            load(path, {})
        assert len(str(error.value)) < 1500


def damaged(whole):
    """Files that are nearly right."""
    yield "cut", whole[:-30]
    yield "without a beginning", whole[60:]
    directory = whole.index(b"PK\x01\x02")
    for compression in (12, 14, 99, 8):
        changed = bytearray(whole)
        changed[directory + 10] = compression
        yield f"compression {compression}", bytes(changed)
    for at, value in ((8, 1), (16, 7), (42, 0xFF), (43, 0xFF)):
        changed = bytearray(whole)
        changed[directory + at] = value
        yield f"directory {at}", bytes(changed)
    changed = bytearray(whole)
    changed[whole.index(b"\x93NUMPY") + 6] = 3
    yield "version", bytes(changed)
    for text, other in ((b"'<f8'", b"'|O' "), (b"(4,)", b"(-4,"), (b"descr", b"xescr")):
        yield text.decode(), whole.replace(text, other)
    changed = bytearray(whole)
    changed[whole.index(b"\x93NUMPY") + 140] ^= 1
    yield "a bit", bytes(changed)


def test_damaged_files_are_refused_as_such(tmp_path):
    memory = io.BytesIO()
    save(memory, {"a": np.arange(4.0)})
    count = 0
    for what, content in damaged(memory.getvalue()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValidationError, match="not a file of parameters"):
                load(io.BytesIO(content), {"a": (4,)})
                pytest.fail(what)
        count += 1
    assert count > 10


def test_an_array_of_the_wrong_length_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (3,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(16))
    with pytest.raises(ValidationError, match="24 bytes were expected, and 16 found"):
        load(path, {"a": (3,)})
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("a.npy", b"")
    with pytest.raises(ValidationError, match="'a' twice"):
        load(path, {"a": (3,)})


def test_compressed_files_and_other_orders_are_read(tmp_path, rng):
    a = np.asfortranarray(rng.uniform(size=(3, 4)))
    np.savez_compressed(
        tmp_path / "x", a=a, b=np.float32(3), c=np.arange(3).astype(">i2")
    )
    found = load(tmp_path / "x", {"a": (3, 4), "b": (), "c": (3,)})
    assert np.array_equal(found["a"], a)
    assert found["b"] == 3
    assert np.array_equal(found["c"], [0, 1, 2])
    found["a"][0] = 1  # memory of its own


# reading: what parameters cannot be -----------------------------------------------


@pytest.mark.parametrize(
    "value, match",
    [
        (np.nan, r"holds NaN \(1 of 10, first at \(3,\)\)"),
        (-np.inf, "holds infinite values"),
        (1e300, "holds 1e.300, which float32 cannot hold"),
        (1j, "holds complex numbers; expected real ones"),
    ],
)
def test_values_that_parameters_cannot_have(tmp_path, value, match):
    net = networks.small()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.save_params(tmp_path / "x")
        before = sim.data[net.ens]
        with np.load(tmp_path / "x.npz") as file:
            values = dict(file)
        name = "ensembles['ens'].neurons.bias"
        values = {key: array + 1.0 for key, array in values.items()}
        values[name] = values[name] + np.eye(10)[3] * 0
        values[name] = values[name].astype(complex if value == 1j else float)
        values[name][3] = value
        np.savez(tmp_path / "y", **values)
        with pytest.raises(ValidationError, match=match) as error:
            sim.load_params(tmp_path / "y")
        assert name in str(error.value)
        assert "nothing was loaded" in str(error.value)
        for mine, old in zip(sim.data[net.ens], before, strict=True):
            assert np.array_equal(mine, old)


@pytest.mark.parametrize("steps", (-5, 2.5, 1e30, np.inf, np.nan, 3 + 1j))
def test_numbers_of_steps_that_there_cannot_be(tmp_path, steps):
    net = networks.small()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(3)
        sim.save_params(tmp_path / "x", include_state=True)
        with np.load(tmp_path / "x.npz") as file:
            values = dict(file)
        assert values["state steps"] == 3
        values = {key: array + (key[0] == "e") for key, array in values.items()}
        np.savez(tmp_path / "y", **{**values, "state steps": np.array([steps])})
        before = sim.data[net.ens].bias
        with pytest.raises(ValidationError, match="state steps .*expected"):
            sim.load_params(tmp_path / "y", include_state=True)
        assert sim.n_steps == 3
        assert np.array_equal(sim.data[net.ens].bias, before)


def test_state_may_be_infinite(tmp_path):
    """What has not happened yet may have a time of minus infinity."""

    class Last(nengo.neurons.NeuronType):
        state = {"last": nengo.dists.Choice([-np.inf])}

        def step(self, dt, J, output, last):
            output[...] = np.maximum(last, -1)

        def gain_bias(self, max_rates, intercepts):
            return np.ones(len(max_rates)), np.zeros(len(max_rates))

        def max_rates_intercepts(self, gain, bias):
            return gain, bias

        def rates(self, x, gain, bias):
            return gain + x

    with nengo.Network() as net:
        nengo.Probe(nengo.Ensemble(3, 1, neuron_type=Last()).neurons)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it runs as Python
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(2)
            sim.save_params(tmp_path / "x", include_state=True)
            sim.load_params(tmp_path / "x", include_state=True)
            assert sim.n_steps == 2


def test_simulators_save_to_open_files():
    net = networks.small()
    memory = io.BytesIO()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(3)
        sim.save_params(memory, include_state=True)
    memory.seek(0)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(memory, include_state=True)
        assert sim.n_steps == 3
