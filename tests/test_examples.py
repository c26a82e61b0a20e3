import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run_example(name, *options, folder, quick=False):
    """What an example prints when it is run in a process of its own."""
    short_cut = {"NENGO_DL_EXAMPLES_QUICK": "1"} if quick else {}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **short_cut},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_spiking_digits(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    plot = tmp_path / "digits.png"
    out = run_example(
        "spiking_digits.py", "--epochs", "5", "--steps", "60", "--output", str(plot),
        folder=tmp_path,
    )  # fmt: skip

    assert len(re.findall(r"^epoch +\d+: training loss", out, re.MULTILINE)) == 5
    rate, spiking = (
        float(re.search(rf"{kind} accuracy: +([\d.]+)", out)[1])
        for kind in ("rate", "spiking")
    )
    assert rate >= 0.9
    assert spiking >= 0.9
    core, ours = re.findall(r"Simulator +says ([\d ]+)", out)
    assert len(core.split()) == 20
    assert core.strip() == ours.strip()
    difference = re.search(r"largest difference of the outputs: (\S+)", out)[1]
    assert float(difference) <= 1e-3
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_keras_to_snn(tmp_path):
    pytest.importorskip("mlxtend")
    pytest.importorskip("matplotlib")
    out = run_example("keras_to_snn.py", folder=tmp_path, quick=True)
    kinds = ("Keras", "rate", "spiking")
    keras, rate, spiking = (
        float(re.search(rf"{kind} accuracy: +([\d.]+)", out)[1]) for kind in kinds
    )
    assert keras >= 0.9
    assert rate == keras
    assert spiking >= keras - 0.03
    difference = re.search(r"largest difference of the outputs: (\S+)", out)[1]
    assert float(difference) <= 1e-4
    assert (tmp_path / "keras_to_snn.png").read_bytes().startswith(b"\x89PNG")
