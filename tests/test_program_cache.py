"""A cache of compiled programs never fails."""

import errno
import importlib
import os
import stat
import sys
import types

import pytest

from nengo_dl import environment, program_cache
from nengo_dl.program_cache import FOLDER, ProgramCache
from tests.test_environment import TINY_NETWORK, run_python
from tests.versions import release


@pytest.fixture(autouse=True)
def own_places(monkeypatch, tmp_path):
    """Temporary folders of processes are in the test's; nothing is left at the end."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(program_cache.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(program_cache, "_cache", None)
    # its own name for the module: TensorFlow, if it is imported now, registers as well
    never = types.SimpleNamespace(register=lambda function: None)
    monkeypatch.setattr(program_cache, "atexit", never)
    monkeypatch.setenv(environment.XLA_FLAGS, "")
    monkeypatch.delenv(environment.CACHE, raising=False)


def filled(folder, **programs):
    """A cache that a process has put programs into."""
    cache = ProgramCache(folder)
    for name, content in programs.items():
        (cache.private / name).write_bytes(content)
    cache.close()
    assert not cache.private.exists()
    return cache.kept


def names(cache):
    return sorted(file.name for file in cache.private.iterdir())


def test_programs_of_one_process_are_there_in_the_next(tmp_path):
    kept = filled(tmp_path / "a b", one=b"1" * 100, two=b"2" * 50)
    assert len(list(kept.iterdir())) == 2
    cache = ProgramCache(tmp_path / "a b")
    assert names(cache) == ["one", "two"]
    assert (cache.private / "one").read_bytes() == b"1" * 100
    (cache.private / "three").write_bytes(b"3")
    cache.publish()
    cache.publish()
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    (
        lambda file: file.write_bytes(file.read_bytes()[:10]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(os.urandom(100)),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.unlink(), file.symlink_to("/nowhere")),
    ),
)
def test_damaged_files_are_passed_over(tmp_path, damage):
    kept = filled(tmp_path, one=b"1" * 100, two=b"2" * 50)
    (file,) = (f for f in kept.iterdir() if f.name.endswith("-one"))
    damage(file)
    (kept / "stranger").write_bytes(b"a file of somebody else")
    assert names(ProgramCache(tmp_path)) == ["two"]


def test_a_damaged_file_is_written_again(tmp_path):
    kept = filled(tmp_path, one=b"1" * 100)
    (file,) = kept.iterdir()
    file.write_bytes(b"")
    filled(tmp_path, one=b"1" * 100)
    assert names(ProgramCache(tmp_path)) == ["one"]


def test_two_processes_may_compile_the_same(tmp_path):
    one, other = ProgramCache(tmp_path), ProgramCache(tmp_path)
    for cache, content in ((one, b"1" * 10), (other, b"1" * 9)):
        (cache.private / "one").write_bytes(content)
        cache.publish()
    assert names(ProgramCache(tmp_path)) == ["one"]
    assert len(list(one.kept.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_nobody_else_can_read_or_write_programs(tmp_path):
    kept = filled(tmp_path / "new", one=b"1")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    kept.chmod(0o755)
    cache = ProgramCache(tmp_path / "new")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.private.stat().st_mode) == 0o700


def keep(monkeypatch, folder):
    monkeypatch.setenv(environment.CACHE, str(folder))
    program_cache.keep_programs_on_disk()
    return os.environ[environment.XLA_FLAGS]


def test_a_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    filled(tmp_path, one=b"1")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(UserWarning, match="belongs to somebody else"):
        assert keep(monkeypatch, tmp_path) == ""


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="NENGO_DL_CACHE_DIR.*cannot be used") as found:
        assert keep(monkeypatch, tmp_path / "file" / "folder") == ""
        assert keep(monkeypatch, tmp_path / "file" / "folder") == ""
    assert len(found) == 1


def test_full_disks(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert keep(monkeypatch, tmp_path)
    cache = program_cache._cache
    (cache.private / "one").write_bytes(b"1")
    with monkeypatch.context() as patch:
        patch.setattr(program_cache.shutil, "copyfileobj", full)
        with pytest.warns(UserWarning, match="No space left"):
            program_cache.publish()
    assert list(cache.kept.iterdir()) == []
    monkeypatch.setattr(program_cache, "LEAST_SPACE", 2**80)
    with pytest.raises(OSError, match="is full"):
        ProgramCache(tmp_path)


def test_a_folder_that_vanishes(tmp_path, monkeypatch):
    keep(monkeypatch, tmp_path / "cache")
    cache = program_cache._cache
    (cache.private / "one").write_bytes(b"1")
    program_cache.shutil.rmtree(tmp_path / "cache")
    with pytest.warns(UserWarning, match="could not be put into"):
        cache.close()


@pytest.mark.parametrize("flags", ("", "--a=1", "--a=1 --b=2"))
def test_flags_of_the_user_stay(flags, tmp_path, monkeypatch):
    monkeypatch.setenv(environment.XLA_FLAGS, flags)
    found = keep(monkeypatch, tmp_path / "with a space")
    place = program_cache._cache.private
    flag = f'--tf_xla_persistent_cache_directory="{place}"'
    assert found == f"{flags} {flag}".strip()
    # a process that this one starts has a folder of its own
    again = keep(monkeypatch, tmp_path / "with a space")
    other = program_cache._cache.private
    assert other != place
    assert again == f'{flags} --tf_xla_persistent_cache_directory="{other}"'.strip()
    # or none, if it is not asked for
    monkeypatch.delenv(environment.CACHE)
    program_cache.keep_programs_on_disk()
    assert os.environ[environment.XLA_FLAGS] == flags


def test_a_cache_that_the_user_asked_xla_for_stays(tmp_path, monkeypatch):
    flag = "--tf_xla_persistent_cache_directory=mine"
    monkeypatch.setenv(environment.XLA_FLAGS, flag)
    assert keep(monkeypatch, tmp_path) == flag


def test_no_programs_are_kept_unless_asked_for(monkeypatch):
    monkeypatch.setenv(environment.XLA_FLAGS, "--a=1")
    program_cache.keep_programs_on_disk()
    assert os.environ[environment.XLA_FLAGS] == "--a=1"


def test_what_killed_processes_leave_is_removed(tmp_path, monkeypatch):
    left = ProgramCache(tmp_path).private
    gone = left.with_name(f"{program_cache.PRIVATE}99999999-x")
    gone.mkdir()
    ProgramCache(tmp_path)
    assert gone.exists()  # perhaps a child still needs it
    monkeypatch.setattr(program_cache, "FORGOTTEN", -1)
    ProgramCache(tmp_path)
    assert not gone.exists() and left.exists()


def test_processes_share_programs_and_survive_damaged_ones(tmp_path):
    if release(importlib.import_module("tensorflow")) < (2, 19):
        pytest.skip("older ones have two names for one program, by chance")
    folder = tmp_path / "my programs"
    variables = {
        environment.CACHE: str(folder),
        environment.XLA_FLAGS: "",
        "TMPDIR": str(tmp_path / "tmp"),
    }

    def files():
        result = run_python(TINY_NETWORK, **variables)
        assert (result.returncode, result.stderr) == (0, "")
        found = sorted((folder / FOLDER).iterdir())
        return {file: file.stat().st_mtime_ns for file in found}

    first = files()
    assert first
    assert files() == first  # nothing was compiled
    damaged = next(iter(first))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    second = files()
    assert set(second) >= set(first) - {damaged} and len(second) == len(first)
    assert all(program_cache._is_whole(f, f.name.partition("-")[0]) for f in second)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_importing_with_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    variables = {environment.CACHE: str(tmp_path / "file" / "x")}
    result = run_python("import nengo_dl; nengo_dl.Simulator", **variables)
    assert result.returncode == 0
    assert result.stderr.count("NENGO_DL_CACHE_DIR") == 1
    assert sys.executable not in result.stderr
