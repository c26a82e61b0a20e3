import json
import sys

import pytest

from nengo_dl.benchmarks import figures
from nengo_dl.benchmarks.__main__ import main
from nengo_dl.benchmarks.registry import load_measurements
from tests.benchmarks import tiny


def test_help(capsys):
    tiny.run_command("--help")
    out = capsys.readouterr().out
    for name in [*load_measurements(), "build", "report"]:
        assert f"\n  {name} " in out
    tiny.run_command("compare", "--help")
    out = capsys.readouterr().out
    assert "--step-calls" in out and "[default: 200]" in out and "--no-memory" in out
    tiny.run_command("build", "--help")
    assert "\n  integrator16 " in capsys.readouterr().out


def test_click_is_an_extra(monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith("nengo_dl.benchmarks.cli")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit, match=r"pip install 'nengo-dl\[benchmarks\]'"):
        main([])


def test_build(capsys):
    tiny.run_command(
        "build", "random_network", "--dimensions", 2, "--neurons-per-d", 5.5,
        "--neuron-type", "lif_rate", "--n-ensembles", 4, "--connections-per-ensemble", 2,
    )  # fmt: skip
    assert "4 ensembles, 44 neurons, 16 connections" in capsys.readouterr().out
    tiny.run_command("build", "integrator16", "--neurons-per-d", 3)
    assert "16 ensembles, 48 neurons" in capsys.readouterr().out
    tiny.run_command("build", "mnist", "--size", 4, "--filters", "2,3")
    assert "2 ensembles, 11 neurons" in capsys.readouterr().out


def test_build_profile(capsys, tmp_path):
    network = ["build", "cconv", "--dimensions", 2, "--neurons-per-d", 5]
    options = ["--n-steps", 4, "--reps", 1, "--log-dir", tmp_path, "--dtype", "float64"]
    tiny.run_command(*network, "profile", *options)
    out = capsys.readouterr().out
    assert "run_steps, 4 steps:" in out and f"trace written to {tmp_path}" in out
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--networks", "huge"], "networks: unknown: huge"),
        (["compare", "--networks", "chain", "--steps", "0"], "steps: must be at least"),
        (["compare", "--tier", "quantum"], "'quantum' is not one of"),
        (["build", "cconv"], "Missing option '--dimensions'"),
        (["build", "pes", "--n-ensembles", "2"], "No such option"),
        (["build", "pes", "--neuron-type", "pyramidal"], "known: LIF,"),
        (["build", "mnist", "--filters", "a"], "expected whole numbers such as"),
        (["build", "cconv", "--dimensions", "0", "--neurons-per-d", "1"], "at least 1"),
        (["report", "nothing"], "unknown: nothing; known:"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.fail_command(*arguments)
    assert message in capsys.readouterr().err


def test_report(monkeypatch, capsys, tmp_path):
    made = []

    def run(command, check):
        made.append(command[3])
        name, file = command[3], command[command.index("--json") + 1]
        if name == "step":
            return type("Failed", (), {"returncode": 1})
        rows = [{"case": "made", "ours": 1.0, "theirs": 2.0, "beside": "x", "ratio": 0.5}]
        done = {"measurement": name, "command": f"make {name}", "rows": rows}
        done |= {"environment": {"numpy": "2"}, "summary": {}}
        with open(file, "w", encoding="utf-8") as opened:
            json.dump(done, opened)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(figures.subprocess, "run", run)
    data, page = tmp_path / "data", tmp_path / "page.rst"
    options = ["--data", data, "--rst", page]
    tiny.run_command("report", *options, "gpu", "train")
    assert made == ["gpu", "train"]
    text = page.read_text(encoding="utf-8")
    assert "make gpu" in text and "image:: data/train.svg" in text
    assert (data / "train.svg").exists()

    assert tiny.fail_command("report", *options, "train", "step") == 1
    assert made == ["gpu", "train", "step"]  # what is there is not made again
    assert "ended with an error: step" in capsys.readouterr().err
    tiny.run_command("report", *options, "--again", "--no-plots", "train")
    assert made[3:] == ["train"]
