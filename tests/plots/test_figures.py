"""What all functions have in common: new figures, no settings, no matplotlib before."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest

import nengo_dl

DRAWN = {
    "raster": lambda **kw: nengo_dl.plots.raster(0.001, np.eye(5), **kw),
    "traces": lambda **kw: nengo_dl.plots.traces(0.001, np.eye(5), **kw),
    "accuracy_over_time": lambda **kw: nengo_dl.plots.accuracy_over_time(
        0.001, [0.1, 0.2], **kw
    ),
    "accuracy_over_rates": lambda **kw: nengo_dl.plots.accuracy_over_rates(
        [1, 2], [0.1, 0.2], **kw
    ),
    "training_curves": lambda **kw: nengo_dl.plots.training_curves(
        {"loss": [2.0, 1.0]}, **kw
    ),
}


@pytest.fixture
def pyplot(monkeypatch):
    """Without windows, and with an error for whoever wants to show one."""
    from matplotlib import pyplot

    def show(*args, **kwargs):
        raise AssertionError("nothing should be shown")

    before = pyplot.get_fignums()
    pyplot.switch_backend("Agg")
    monkeypatch.setattr(pyplot, "show", show)
    yield pyplot
    for number in set(pyplot.get_fignums()) - set(before):
        pyplot.close(number)


@pytest.mark.parametrize("name", DRAWN)
def test_new_figures(name, pyplot):
    settings = dict(matplotlib.rcParams)
    first, second = DRAWN[name](), DRAWN[name]()
    assert first is not second and first.figure is not second.figure
    assert {first.figure.number, second.figure.number} <= set(pyplot.get_fignums())
    assert first.get_xlabel() and first.get_ylabel()
    assert dict(matplotlib.rcParams) == settings
    first.figure.canvas.draw()


@pytest.mark.parametrize("name", DRAWN)
def test_given_axes_make_no_figure(name, ax, pyplot):
    before = pyplot.get_fignums()
    assert DRAWN[name](ax=ax) is ax
    assert pyplot.get_fignums() == before


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in DRAWN.values():
        with pytest.raises(ImportError, match=r'pip install "nengo-dl\[plots\]"'):
            draw()


def test_matplotlib_is_imported_when_something_is_drawn():
    code = (
        "import sys, nengo_dl\n"
        "assert 'nengo_dl.plots' not in sys.modules\n"
        "nengo_dl.plots.step_accuracy([[[0, 1]]], [1])\n"
        "assert 'matplotlib' not in sys.modules and 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
