"""Machine code in a folder: found again, and never relied on."""

import os
import stat

import pytest

from nengo_dl import environment
from nengo_dl.runtime.native import compile as compiling
from nengo_dl.runtime.native import disk
from tests.runtime.native_code import pytestmark_native
from tests.runtime.test_native_compile import adding, run

pytestmark = pytestmark_native


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the environment variable names, and where machine code is in it."""
    monkeypatch.setenv(environment.CACHE, str(tmp_path))
    monkeypatch.setattr("nengo_dl.notices._said", set())
    return tmp_path / disk.FOLDER


@pytest.fixture
def parsed(monkeypatch):
    """The texts that LLVM was given."""
    texts, parse = [], compiling._parse

    def noted(text, *args):
        texts.append(text)
        return parse(text, *args)

    monkeypatch.setattr(compiling, "_parse", noted)
    return texts


def test_machine_code_is_compiled_once_and_loaded_afterwards(folder, parsed):
    first = compiling._compile(adding(0.5))
    (file,) = folder.iterdir()
    changed = file.stat().st_mtime_ns
    second = compiling._compile(adding(0.5))
    assert parsed == [adding(0.5), ""]
    assert (run(first) == 0.5).all() and (run(second) == 0.5).all()
    assert file.stat().st_mtime_ns == changed
    assert (run(compiling._compile(adding(0.25))) == 0.25).all()
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    (
        lambda file: file.write_bytes(file.read_bytes()[:-10]),
        lambda file: file.write_bytes(file.read_bytes()[:20]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(os.urandom(1000)),
        lambda file: file.unlink(),
    ),
)
def test_damaged_files_are_replaced(folder, parsed, damage):
    compiling._compile(adding(0.5))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damage(file)
    assert (run(compiling._compile(adding(0.5))) == 0.5).all()
    assert parsed == [adding(0.5)] * 2
    assert file.read_bytes() == whole


def test_what_machine_code_depends_on_is_in_its_name(folder, monkeypatch):
    for level in (1, 2):
        monkeypatch.setattr(compiling, "LEVEL", level)
        compiling._compile(adding(0.5))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes and owners")
def test_nobody_else_reads_or_provides_machine_code(folder, parsed, monkeypatch):
    compiling._compile(adding(0.5))
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    real, mine = os.fstat, os.geteuid()

    def of_somebody_else(number):
        found = list(real(number))
        found[4] = mine + 1
        return os.stat_result(found)

    monkeypatch.setattr(disk.os, "fstat", of_somebody_else)
    assert disk.load(file.name) is None
    monkeypatch.undo()
    monkeypatch.setenv(environment.CACHE, str(folder.parent))
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.warns(UserWarning, match="belongs to somebody else"):
        assert (run(compiling._compile(adding(0.5))) == 0.5).all()


def test_a_folder_that_cannot_be_used(folder, monkeypatch):
    folder.write_bytes(b"a file")
    with pytest.warns(UserWarning, match="NENGO_DL_CACHE_DIR.*cannot be used") as seen:
        for _ in range(2):
            assert (run(compiling._compile(adding(0.5))) == 0.5).all()
    assert len(seen) == 1


def test_a_full_disk(folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert (run(compiling._compile(adding(0.5))) == 0.5).all()
    assert not list(folder.iterdir())


def test_nothing_is_kept_unless_asked_for(folder, monkeypatch):
    monkeypatch.delenv(environment.CACHE)
    compiling._compile(adding(0.5))
    assert not folder.exists()
