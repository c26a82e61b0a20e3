"""``python -m nengo_dl``."""

import re

import nengo
import numpy as np
import tensorflow as tf

import nengo_dl
from nengo_dl import __main__ as main
from nengo_dl.runtime.executor import executors
from nengo_dl.runtime.native.compile import available


def test_versions_devices_and_checks(capsys):
    assert main.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^nengo_dl +{re.escape(nengo_dl.__version__)}$", out, re.M)
    assert re.search(rf"^nengo +{re.escape(nengo.__version__)}$", out, re.M)
    assert re.search(rf"^tensorflow +{re.escape(tf.__version__)}$", out, re.M)
    assert re.search(r"^devices .*CPU:0", out, re.M)
    differences = re.findall(r"^runs .* nengo\.Simulator ([\d.e+-]+) \(", out, re.M)
    assert len(differences) == 2 + (available() is None)
    assert all(float(number) <= main.TOLERANCE for number in differences)
    first, last = re.search(r"^trains +loss (\S+) to (\S+) ", out, re.M).groups()
    assert float(last) < float(first)


def test_what_fails_is_shown_and_counts(monkeypatch, capsys):
    def wrong(make, **settings):
        return np.ones(3) * (make is nengo.Simulator)

    monkeypatch.setattr(main, "_outputs", wrong)
    checks = {"runs": lambda: main._difference("numpy"), "trains": lambda: "well"}
    monkeypatch.setattr(main, "CHECKS", checks)
    assert main.main([]) == 1
    captured = capsys.readouterr()
    assert "differ from those of nengo.Simulator by up to 1.0e+00" in captured.err
    assert re.search(r"^runs +FAILED, see above", captured.out, re.M)
    assert re.search(r"^trains +well", captured.out, re.M)


def test_what_is_not_installed_is_left_out(monkeypatch, capsys):
    native = type(executors.find("native"))
    monkeypatch.setattr(native, "missing", lambda kind: "llvmlite is not installed")
    checks = {"runs natively": lambda: main._difference("native")}
    monkeypatch.setattr(main, "CHECKS", checks)
    assert main.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^runs natively +left out: llvmlite is not installed \(", out, re.M)


def test_checks_can_be_left_out(monkeypatch, capsys):
    monkeypatch.setattr(main, "PACKAGES", ("numpy", "there-is-no-such-package"))
    assert main.main(["--no-check"]) == 0
    out = capsys.readouterr().out
    assert "runs" not in out
    assert re.search(rf"^numpy +{re.escape(np.__version__)}$", out, re.M)
    assert re.search(r"^there-is-no-such-package *not installed$", out, re.M)
