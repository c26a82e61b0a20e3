"""What editors, completion and type checkers know of the package."""

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import keras
import nengo
import pytest

import nengo_dl
from nengo_dl import notices, settings
from nengo_dl.simulator import arguments

ROOT = Path(__file__).resolve().parent.parent

GOOD = """\
import keras
import nengo
import numpy as np

import nengo_dl

with nengo.Network(seed=0) as net:
    nengo_dl.configure_settings(keep_history=True, dtype="float32", trainable=None)
    node = nengo.Node()
    ens = nengo.Ensemble(20, 1)
    neurons = nengo_dl.SoftLIFRate(sigma=0.5, initial_state=None)
    weights = nengo_dl.dists.Glorot(2, distribution="normal").sample(3, 4).shape
    tensor = nengo_dl.TensorNode(lambda x: x, shape_in=(1,), pass_time=False)
    layer = nengo_dl.Layer(keras.layers.Dense(3))(tensor, shape_in=1)
    probe = nengo.Probe(ens)

x = np.ones((4, 5, 1))
with nengo_dl.Simulator(net, minibatch_size=2, seed=1, progress_bar=False) as sim:
    sim.run(0.01, data={node: x[:2]})
    sim.run_steps(5, stateful=False)
    sim.step()
    print(sim.data[probe].shape, sim.trange().shape, sim.time + sim.dt, sim.n_steps)
    sim.compile(keras.optimizers.Adam(1e-3), loss={probe: nengo_dl.losses.nan_mse})
    isolate = nengo_dl.callbacks.IsolateState(sim)
    history = sim.fit(x, {probe: x}, epochs=2, verbose=0, callbacks=[isolate])
    print(history.history["loss"], sim.evaluate(x, x, verbose=0)["loss"])
    print(sim.predict(x, batch_size=2)[probe].shape)
    sim.save_params("a.npz", include_state=True)

inputs = keras.Input((4,))
model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
converter = nengo_dl.Converter(model, scale_firing_rates=100, synapse=0.01)
print(converter.verify(), converter.inputs[inputs], converter.net.all_ensembles)
nengo_dl.plots.raster(np.arange(3), np.ones((3, 2))).set_title("spikes")
print(nengo_dl.surrogates.FastSigmoid(slope=5.0), nengo_dl.builder.Builder)
"""

#: each line is a mistake that can be seen without running it
WRONG = """\
nengo_dl.configure_settings(keep_histroy=True)
nengo_dl.configure_settings(dtype="float16")
nengo_dl.configure_settings(spiking_training="yes")
nengo_dl.Simulator(net, minibatch_size="a")
nengo_dl.Simulator(net, batch_size=3)
sim.run("x")
sim.run(0.1, dat={})
sim.run_steps(1.5)
sim.fit(epoch=3)
sim.fit(epochs="three")
sim.evaluate(batchsize=3)
sim.predict(n_step=3)
sim.compile(optimiser="adam")
sim.save_params(3)
sim.nothing
nengo_dl.Converter(keras.Model(), alow_fallback=True)
nengo_dl.Converter(keras.Model(), scale_firing_rates="fast")
nengo_dl.SoftLIFRate(sigma="a")
nengo_dl.dists.He(distribution="triangle")
nengo_dl.losses.Regularize(order="a")
nengo_dl.callbacks.IsolateState()
nengo_dl.plots.rasters
nengo_dl.TensorNode(3)
nengo_dl.surrogates.FastSigmoid(slop=3)
"""

#: Nengo gives its own classes for the defaults of its arguments, and no types
OF_NENGO = "DefaultType"


def type_checker():
    """A command, or None. (``pyright`` of pip fetches its program from the network.)"""
    if importlib.util.find_spec("basedpyright"):
        return [sys.executable, "-m", "basedpyright"]
    found = shutil.which("basedpyright")
    return found and [found]


def lines_with_errors(tmp_path, source):
    config = {
        "typeCheckingMode": "standard",
        "extraPaths": [str(ROOT)],
        "pythonVersion": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    (tmp_path / "script.py").write_text(source)
    words = [*type_checker(), "-p", str(tmp_path), "--pythonpath", sys.executable]
    found = subprocess.run(
        [*words, "--outputjson"], capture_output=True, text=True, cwd=tmp_path
    )
    problems = json.loads(found.stdout)["generalDiagnostics"]
    return {
        p["range"]["start"]["line"]: p["message"]
        for p in problems
        if p["severity"] == "error" and OF_NENGO not in p["message"]
    }


@pytest.mark.skipif(
    type_checker() is None, reason="needs basedpyright, of the extra 'tests'"
)
def test_a_type_checker_takes_what_is_right_and_finds_what_is_wrong(tmp_path):
    wrong = WRONG.splitlines()
    source = GOOD.replace("lambda x: x", "keras.layers.ReLU()")
    found = lines_with_errors(tmp_path, source + "\n".join(wrong))
    first = len(source.splitlines())
    assert not [(line, text) for line, text in found.items() if line < first]
    missed = [text for n, text in enumerate(wrong, first) if n not in found]
    assert not missed


def test_all_settings_have_types():
    assert set(settings.Settings.__annotations__) == set(settings.SETTINGS)


@pytest.mark.parametrize(
    "method, typed, own",
    [
        ("fit", arguments.FitArguments, {"x", "y"}),
        ("evaluate", arguments.EvaluateArguments, {"x", "y", "kwargs"}),
        ("predict", arguments.PredictArguments, {"x"}),
        (
            "compile",
            arguments.CompileArguments,
            {"optimizer", "loss", "metrics", "loss_weights"},
        ),
    ],
)
def test_all_arguments_of_keras_have_types(method, typed, own):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    of_keras = set(inspect.signature(getattr(model, method)).parameters)
    assert set(typed.__annotations__) == of_keras - own


def public_functions():
    """Yield (name, function) for what users call."""
    modules = ("callbacks", "dists", "losses", "neurons", "plots", "surrogates")
    found = [(f"nengo_dl.{n}", getattr(nengo_dl, n)) for n in nengo_dl.__all__]
    for name in modules:
        module = importlib.import_module(f"nengo_dl.{name}")
        found += [(f"{module.__name__}.{n}", getattr(module, n)) for n in module.__all__]
    for name, obj in found:
        if inspect.isclass(obj):
            older = nengo_dl.simulator.simulator.OLDER
            for method in {"__init__", *filter(lambda n: n[0] != "_", dir(obj))}:
                value = inspect.getattr_static(obj, method)
                value = getattr(value, "fget", getattr(value, "__func__", value))
                ours = getattr(value, "__module__", "").startswith("nengo_dl")
                if inspect.isfunction(value) and ours and method not in older:
                    yield f"{name}.{method}", value
        elif inspect.isfunction(obj):
            yield name, obj


def test_public_functions_have_types():
    without, count = [], 0
    for name, function in public_functions():
        signature = inspect.signature(function)
        count += 1
        bare = [
            p.name
            for p in signature.parameters.values()
            if p.annotation is p.empty and p.name != "self" and p.kind != p.KEYWORD_ONLY
        ]
        if bare or (signature.return_annotation is signature.empty):
            without.append((name, bare))
    assert count > 80
    assert not without


def test_completion_offers_what_users_want_and_nothing_else():
    names = {name for name in dir(nengo_dl) if not name.startswith("_")}
    assert {n for n in nengo_dl.__all__ if n[0] != "_"} <= names
    assert {"Converter", "losses", "plots", "callbacks", "benchmarks"} <= names
    assert not {n for n in vars(nengo_dl) if n in ("importlib", "LAZY_NAMES")}
    for name in sorted(names):
        assert getattr(nengo_dl, name) is not None
    for name in ("dists", "surrogates", "losses", "callbacks", "plots", "neurons"):
        module = importlib.import_module(f"nengo_dl.{name}")
        offered = {name for name in dir(module) if not name.startswith("_")}
        assert offered == set(module.__all__)


def test_completion_of_a_simulator_leaves_out_older_names():
    with nengo_dl.Simulator(nengo.Network(), progress_bar=False) as sim:
        names = set(dir(sim))
        older = {"train", "loss", "run_batch", "print_params", "soft_reset"}
        assert not older & names
        assert {"fit", "run", "data", "dt", "save_params", "__class__"} <= names
        assert all(hasattr(type(sim), name) for name in older)


def test_misspelt_names_of_the_package_get_a_hint():
    code = "import nengo_dl; nengo_dl.simulater"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert "Did you mean: 'Simulator'?" in found.stderr


def test_signatures_name_keywords():
    assert "epochs=..." in str(inspect.signature(nengo_dl.Simulator.fit))
    assert "keep_history=..." in str(inspect.signature(nengo_dl.configure_settings))
    parameters = inspect.signature(nengo_dl.Simulator.fit).parameters
    assert list(parameters)[:5] == ["self", "x", "y", "n_steps", "stateful"]


@pytest.mark.parametrize(
    "method, wrong, hint",
    [
        ("fit", "epoch", "epochs"),
        ("evaluate", "batchsize", "batch_size"),
        ("predict", "n_step", "n_steps"),
        ("compile", "optimiser", "optimizer"),
    ],
)
def test_misspelt_keywords_are_named_before_anything_is_computed(method, wrong, hint):
    with nengo_dl.Simulator(nengo.Network(), progress_bar=False) as sim:
        message = rf"Simulator\.{method}\(\) .*{wrong!r}; did you mean {hint!r}"
        with pytest.raises(TypeError, match=message):
            getattr(sim, method)(**{wrong: 3})
        assert sim._trainer.keras is None


def test_keywords_that_resemble_nothing_are_answered_with_a_list():
    class Options(TypedDict, total=False):
        width: int

    class Picture:
        @notices.checks_keywords(Options)
        def draw(self, x, **options):
            return x, options

    assert Picture().draw(1, width=2) == (1, {"width": 2})
    with pytest.raises(TypeError, match=re.escape("it takes width, x")):
        Picture().draw(1, qqq=2)
