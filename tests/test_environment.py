"""The package starts quietly and with the right Keras backend."""

import importlib
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from nengo_dl import environment
from tests.versions import release

ROOT = Path(__file__).resolve().parent.parent

TINY_NETWORK = """
import nengo
import nengo_dl

with nengo.Network(seed=0) as net:
    ensemble = nengo.Ensemble(10, 1)
    nengo.Connection(nengo.Node([0.5]), ensemble)
    probe = nengo.Probe(ensemble)

for jit in (False, True):
    with net:
        nengo_dl.configure_settings(jit=jit)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5)
        assert sim.data[probe].shape == (5, 1)
"""

LOG_LINES = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written\n",
    b"I0000 00:00:1700000000.676245    6451 port.cc:153] oneDNN custom operations\n",
    b"E0000 00:00:1700000000.498275    6451 cuda_platform.cc:52] failed call\n",
    b"2026-01-01 01:02:03.770800: E external/local_xla/cuda_fft.cc:479] Unable to\n",
    b"To enable the following instructions: AVX2 FMA, in other operations, rebuild\n",
]
OTHER_LINES = [
    b"UserWarning: something to know\n",
    b"Intel 0000 is not a log line\n",
    b"2026-01-01 is a date\n",
    b"\n",
]


def run_python(code, **variables):
    """Run code in a new process in which nothing has been set for TensorFlow."""
    ours = (environment.LOG_LEVEL, environment.BACKEND, "PYTHONWARNINGS")
    inherited = {k: v for k, v in os.environ.items() if k not in ours}
    path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_running_a_network_prints_nothing():
    if release(importlib.import_module("tensorflow")) < (2, 21):
        pytest.skip("older ones print that they compile, whatever the log level")
    done = run_python(TINY_NETWORK)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


def test_importing_does_not_import_tensorflow():
    done = run_python("import sys, nengo_dl; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert "nengo_dl.simulator" in done.stdout.split()
    assert not {"tensorflow", "keras"} & set(done.stdout.split())


def test_other_backend_in_the_environment_is_refused():
    done = run_python("import nengo_dl", KERAS_BACKEND="jax")
    assert done.returncode != 0
    assert "ImportError: nengo_dl needs Keras" in done.stderr
    assert "asks for 'jax'. Set KERAS_BACKEND=tensorflow" in done.stderr


def pretend_keras(monkeypatch, backend):
    config = types.SimpleNamespace(backend=lambda: backend)
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(config=config))


def test_keras_with_another_backend_is_refused(monkeypatch):
    pretend_keras(monkeypatch, "torch")
    monkeypatch.setenv(environment.BACKEND, "tensorflow")  # too late to have an effect
    with pytest.raises(ImportError, match="has been imported with 'torch'"):
        environment.select_keras_backend()


def test_tensorflow_backend_is_selected(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.delenv(environment.BACKEND, raising=False)
    environment.select_keras_backend()
    assert os.environ[environment.BACKEND] == "tensorflow"

    pretend_keras(monkeypatch, "tensorflow")
    monkeypatch.setenv(environment.BACKEND, "jax")  # too late to do harm
    environment.select_keras_backend()


@pytest.mark.parametrize("line", LOG_LINES)
def test_log_lines_are_recognized(line):
    assert environment.is_log_line(line)


@pytest.mark.parametrize("line", OTHER_LINES)
def test_other_lines_are_recognized(line):
    assert not environment.is_log_line(line)


def test_only_log_lines_are_dropped(capfd):
    with environment.filtered_stderr():
        for log_line, other_line in zip(LOG_LINES, OTHER_LINES):
            os.write(2, log_line)
            os.write(2, other_line)
    assert capfd.readouterr().err.encode() == b"".join(OTHER_LINES)


def test_everything_is_shown_if_the_import_fails(capfd):
    with pytest.raises(ImportError, match="no such library"):
        with environment.filtered_stderr():
            os.write(2, b"".join(LOG_LINES))
            raise ImportError("no such library")
    assert capfd.readouterr().err.encode() == b"".join(LOG_LINES)


@pytest.fixture
def fresh_imports(monkeypatch):
    """As if neither TensorFlow nor this package had been imported."""
    finders = [f for f in sys.meta_path if not isinstance(f, environment.QuietImport)]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv(environment.LOG_LEVEL, "")  # so that it is restored at the end
    monkeypatch.delenv(environment.LOG_LEVEL)


@pytest.fixture
def noisy_tensorflow(fresh_imports, monkeypatch, tmp_path):
    """A module called ``tensorflow`` that writes a log line when it is imported."""
    source = f"import os\nos.write(2, {LOG_LINES[0]!r})\nos.write(2, b'other\\n')\n"
    (tmp_path / "tensorflow.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def test_tensorflow_is_imported_quietly(noisy_tensorflow, capfd):
    environment.quiet_tensorflow()
    assert importlib.util.find_spec("tensorflow") is not None  # looking is harmless
    tensorflow = importlib.import_module("tensorflow")
    assert capfd.readouterr().err == "other\n"

    # nothing is left behind
    assert type(tensorflow.__loader__) is type(tensorflow.__spec__.loader)
    assert not isinstance(tensorflow.__loader__, environment.QuietImport)
    assert not any(isinstance(f, environment.QuietImport) for f in sys.meta_path)


@pytest.mark.parametrize("level", ["0", "2"])
def test_a_log_level_of_the_user_counts(noisy_tensorflow, monkeypatch, capfd, level):
    monkeypatch.setenv(environment.LOG_LEVEL, level)
    environment.quiet_tensorflow()
    importlib.import_module("tensorflow")
    assert os.environ[environment.LOG_LEVEL] == level
    assert capfd.readouterr().err.encode() == LOG_LINES[0] + b"other\n"


def test_a_missing_tensorflow_is_reported(fresh_imports, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    environment.quiet_tensorflow()
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        importlib.import_module("tensorflow")


def test_processes_started_from_here_are_quiet_too(fresh_imports):
    environment.quiet_tensorflow()
    assert os.environ[environment.LOG_LEVEL] == environment.SILENT
    environment.quiet_tensorflow()  # as a child that inherits the variable does
    assert sum(isinstance(f, environment.QuietImport) for f in sys.meta_path) == 1
