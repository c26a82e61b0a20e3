"""Progress bars: what is shown where, and that nothing is shown otherwise."""

import io
import re
import sys
import threading
import time
from types import SimpleNamespace

import nengo
import pytest
from nengo.exceptions import ValidationError
from nengo.rc import rc
from nengo.utils.progress import (
    NoProgressBar,
    ProgressBar,
    TerminalProgressBar,
    WriteProgressToFile,
)

import nengo_dl
from nengo_dl.simulator import run as module
from nengo_dl.simulator.run import (
    DelayedBar,
    NoTask,
    Task,
    TerminalBar,
    progress,
)


class Terminal(io.StringIO):
    """Something that is written to and says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=terminal, modules={}))
    return terminal


class Notebook:
    """Takes the place of the package IPython where a kernel runs.

    ``outputs`` has the bundles that each output has shown, one after the other.
    """

    def __init__(self, shell):
        self.outputs = []
        self.get_ipython = lambda: shell
        self.display = SimpleNamespace(display=self._display)

    def _display(self, bundle, raw, display_id):
        assert raw and display_id is True
        output = [bundle]
        self.outputs.append(output)
        return SimpleNamespace(update=lambda bundle, raw: output.append(bundle))

    def texts(self):
        return [[bundle["text/plain"] for bundle in output] for output in self.outputs]


@pytest.fixture
def notebook(monkeypatch):
    return fake_notebook(monkeypatch, SimpleNamespace(kernel="ipykernel"))


def fake_notebook(monkeypatch, shell, stderr=None):
    notebook = Notebook(shell)
    modules = {"IPython": notebook, "IPython.display": notebook.display}
    fake = SimpleNamespace(stderr=stderr or io.StringIO(), modules=modules)
    monkeypatch.setattr(module, "sys", fake)
    for name, fake_module in modules.items():
        monkeypatch.setitem(sys.modules, name, fake_module)
    return notebook


class Record(ProgressBar):
    """A progress bar that remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.n_closed = 0

    def update(self, progress):
        self.seen.append((progress.n_steps, progress.max_steps, progress.finished))

    def close(self):
        self.n_closed += 1


def set_clock(monkeypatch, clock):
    """Replace the clock of our module and of Nengo's, not that of all others."""
    for used_by in (module, nengo.utils.progress):
        fake = SimpleNamespace(time=clock, monotonic=clock)
        monkeypatch.setattr(used_by, "time", fake)


@pytest.fixture
def ticking(monkeypatch):
    """Let one second pass with each look at the clock."""
    now = [time.time()]

    def clock():
        now[0] += 1.0
        return now[0]

    set_clock(monkeypatch, clock)


@pytest.mark.parametrize("progress_bar", [False, None, NoProgressBar()])
def test_nothing_is_shown_if_not_wanted(progress_bar, terminal, ticking):
    with progress(progress_bar, "Simulating", 10) as task:
        assert isinstance(task, NoTask)
        for i in range(10):
            task.update(i)
            task.step()
    assert terminal.getvalue() == ""


def test_nothing_is_shown_without_a_terminal(monkeypatch, ticking):
    for stderr in (io.StringIO(), None):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stderr, modules={}))
        assert isinstance(progress(True, "Simulating", 10), NoTask)


def test_terminal_shows_label_and_share_of_steps(terminal, ticking):
    with progress(True, "Simulating", 8) as task:
        for i in range(8):
            task.update(i + 1)
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())  # without colours
    for share in ("  0%", " 12%", " 50%", "100%"):
        assert f"\rSimulating {share} |" in text
    assert text.endswith("\n")


def test_terminal_without_number_of_steps(terminal, ticking):
    with progress(True, "Building network") as task:
        task.step()
    assert "Building network" in terminal.getvalue()
    assert "Elapsed Time" in terminal.getvalue()


def test_short_tasks_are_not_shown(terminal, monkeypatch):
    set_clock(monkeypatch, lambda: 7.0)
    with progress(True, "Simulating", 10) as task:
        task.update(5)
    assert terminal.getvalue() == ""


def test_failed_tasks_are_not_shown_as_complete(terminal, ticking):
    with pytest.raises(KeyError), progress(True, "Simulating", 10) as task:
        task.update(5)
        raise KeyError
    assert "50%" in terminal.getvalue()
    assert "100%" not in terminal.getvalue()


def test_notebook_shows_one_output_that_changes(notebook, ticking):
    for label in ("Simulating", "once more"):
        with progress(True, label, 4) as task:
            for i in range(4):
                task.update(i + 1)
    assert len(notebook.outputs) == 2
    first, second = notebook.texts()
    assert re.fullmatch(r"Simulating: 0%, 0:00:\d\d so far", first[0])
    assert re.fullmatch(r"Simulating: 50%, 0:00:\d\d left", first[2])
    assert re.fullmatch(r"Simulating: 100%, took 0:00:\d\d", first[-1])
    assert second[-1].startswith("once more: 100%, took")
    html = [bundle["text/html"] for bundle in notebook.outputs[0]]
    assert 'value="0.500"' in html[2] and 'value="1.000"' in html[-1]
    assert "script" not in "".join(html)


def test_notebook_without_number_of_steps(notebook, ticking):
    with progress(True, "a < b") as task:
        task.step()
    (texts,) = notebook.texts()
    assert re.fullmatch(r"a < b: 0:00:\d\d so far", texts[0])
    assert re.fullmatch(r"a < b: took 0:00:\d\d", texts[-1])
    html = [bundle["text/html"] for bundle in notebook.outputs[0]]
    assert "a &lt; b" in html[0]
    assert 'value="' not in html[0] and 'value="1"' in html[-1]


def test_notebook_shows_neither_short_tasks_nor_those_that_failed_as_complete(
    notebook, monkeypatch
):
    now = [7.0]
    set_clock(monkeypatch, lambda: now[0])
    with progress(True, "Simulating", 10) as task:
        task.update(5)
    assert notebook.outputs == []
    with pytest.raises(KeyError), progress(True, "Simulating", 10) as task:
        now[0] += 60
        task.update(5)
        raise KeyError
    (texts,) = notebook.texts()
    assert texts[-1] == "Simulating: 50%, stopped after 0:01:00"


@pytest.mark.parametrize("shell, bar", [(None, None), (SimpleNamespace(), TerminalBar)])
def test_ipython_in_a_terminal_is_no_notebook(monkeypatch, shell, bar):
    stderr = Terminal() if bar else io.StringIO()
    notebook = fake_notebook(monkeypatch, shell, stderr)
    task = progress(True, "Simulating", 10)
    assert isinstance(task, NoTask) if bar is None else type(task._display) is bar
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stderr, modules={}))
    assert type(progress(True, "Simulating", 10)) is type(task)
    assert notebook.outputs == []


class Waited(DelayedBar):
    """A bar without delay that tells when, and in which thread, it was updated."""

    def __init__(self):
        super().__init__(delay=0)
        self.seen = []
        self.early = threading.Event()

    def update(self, progress):
        self.seen.append((threading.current_thread(), progress.finished))
        if threading.current_thread() is not threading.main_thread():
            self.early.set()


@pytest.mark.parametrize("max_steps", [module.MANY_STEPS, None])
def test_long_first_steps_are_shown(max_steps):
    bar, here = Waited(), threading.current_thread()
    with progress(bar, "Simulating", max_steps) as task:
        assert bar.early.wait(timeout=60)  # nothing else would have updated it
    task._thread.join(timeout=60)
    assert not task._thread.is_alive()
    threads = [thread for thread, _ in bar.seen]
    assert threads[0] is here and task._thread in threads
    assert bar.seen[-1] == (here, True)
    task._next_update, n_seen = 0.0, len(bar.seen)
    task._show()  # what a thread would do that comes too late
    assert len(bar.seen) == n_seen


def test_few_steps_that_may_take_long_are_shown():
    """Such as a single ensemble that is solved for."""
    bar = Waited()

    class Slow(nengo.solvers.LstsqL2):
        def __call__(self, *args, **kwargs):
            assert bar.early.wait(timeout=60)
            return super().__call__(*args, **kwargs)

    with nengo.Network() as net:
        ens = nengo.Ensemble(5, 1)
        nengo.Connection(ens, ens, solver=Slow())
    with nengo_dl.Simulator(net, progress_bar=bar):
        assert bar.early.is_set()


def test_a_bar_says_when_it_is_compiled(terminal, ticking):
    with progress(True, "Simulating", 8) as task:
        task.compiling()
        task._show()
        for i in range(8):
            task.update(i + 1)
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert re.search(r"Compiling .*0%", text)
    assert text.rindex("Compiling") < text.index("Simulating  12%")
    assert "Simulating 100%" in text


class Labels(ProgressBar):
    """A progress bar that remembers what tasks were called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def update(self, progress):
        if not self.seen or self.seen[-1] != progress.name_during:
            self.seen.append(progress.name_during)


@pytest.mark.parametrize("python", (False, True))
def test_a_simulator_says_when_it_compiles(ticking, monkeypatch, python):
    compiling = Task.compiling

    def shown(self):
        compiling(self)
        self._show()

    monkeypatch.setattr(Task, "compiling", shown)
    with nengo.Network() as net:
        nengo_dl.configure_settings(jit=True)
        inp = nengo.Node((lambda t: t) if python else [1.0])
        out = nengo.Node((lambda t, x: x) if python else None, size_in=1)
        nengo.Connection(inp, out, synapse=0.01)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for n_steps, compiles in ((20, True), (20, False), (2000, True), (2000, False)):
            bar = Labels()
            sim.run_steps(n_steps, progress_bar=bar)
            assert ("Compiling" in bar.seen) == compiles, n_steps
            assert bar.seen[-1] == "Simulating"
    with net:
        nengo_dl.configure_settings(jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        bar = Labels()
        sim.run_steps(20, progress_bar=bar)
        assert bar.seen == ["Simulating"]


@pytest.mark.parametrize("bar, n_steps", [(Waited(), 10), (Record(), 10**6)])
def test_no_thread_for_few_steps_and_for_bars_of_others(bar, n_steps):
    with progress(bar, "Simulating", n_steps) as task:
        assert task._thread is None


def test_the_thread_ends_with_the_task():
    with progress(TerminalBar(60), "Simulating", module.MANY_STEPS) as task:
        assert task._thread.is_alive() and task._thread.daemon
    task._thread.join(timeout=60)
    assert not task._thread.is_alive()


def test_terminal_that_is_away_for_a_while(terminal, ticking, monkeypatch):
    task = progress(True, "Simulating", 10)
    with monkeypatch.context() as patch:
        patch.setattr(terminal, "isatty", lambda: False)
        task.__enter__()
        task.update(0)
    assert terminal.getvalue() == ""
    task.update(0)
    assert re.search(r"Simulating .*0%.* so far", terminal.getvalue())
    task.__exit__(None, None, None)


def test_configuration_of_nengo_counts(terminal):
    old = rc["progress"]["progress_bar"]
    try:
        for value, cls in (("none", NoTask), ("False", NoTask), ("auto", Task)):
            rc["progress"]["progress_bar"] = value
            assert type(progress(True, "Simulating", 10)) is cls
        rc["progress"]["progress_bar"] = "nengo.utils.progress.TerminalProgressBar"
        task = progress(True, "Simulating", 10)
        assert isinstance(task._display, TerminalProgressBar)
    finally:
        rc["progress"]["progress_bar"] = old


def test_bars_of_nengo(ticking):
    bar = Record()
    for _ in range(2):  # may be used for several runs
        with progress(bar, "Simulating", 3) as task:
            for i in range(3):
                task.update(i + 1)
    once = [(n, 3, False) for n in range(4)] + [(3, 3, True)]
    assert bar.seen == 2 * once
    assert bar.n_closed == 2


def test_bars_are_not_updated_too_often(monkeypatch):
    now = [0.0]
    set_clock(monkeypatch, lambda: now[0])
    bar = Record()
    with progress(bar, "Simulating", 100) as task:
        for i in range(100):
            task.update(i + 1)
            now[0] += 0.0101
    assert len(bar.seen) == 1 + 9 + 1
    assert bar.seen[-1] == (100, 100, True)


def test_nengo_bar_that_writes_to_a_file(tmp_path):
    path = tmp_path / "progress"
    with progress(WriteProgressToFile(str(path)), "Simulating", 3) as task:
        task.step(2)
    assert path.read_text().startswith("Simulating finished")


@pytest.mark.parametrize("bar", [Record(), False])
def test_building_a_network(bar):
    with nengo.Network() as net:
        nengo.Connection(nengo.Node([0]), nengo.Ensemble(5, 1))
    model = nengo.builder.Model()
    with progress(bar, "Building network") as task:
        model.build(net, progress=task)
    assert net in model.params
    assert task.max_steps == 4
    if bar:
        assert bar.seen[-1] == (4, 4, True)
        assert bar.n_closed == 1


def test_one_bar_for_several_tasks_is_closed_after_the_last(ticking):
    bar = Record()
    with progress(bar, "Building", 2, last=False) as task:
        task.step(2)
    assert bar.n_closed == 0
    with progress(bar, "Compiling"):
        pass
    assert bar.n_closed == 1
    with pytest.raises(KeyError), progress(bar, "Building", 2, last=False):
        raise KeyError
    assert bar.n_closed == 2


def test_no_steps_at_all(terminal, ticking):
    with progress(True, "Simulating", 0) as task:
        assert task.max_steps is None
    assert isinstance(task._display, TerminalBar)


@pytest.mark.parametrize("wrong", ["yes", 1, object()])
def test_wrong_type(wrong):
    with pytest.raises(ValidationError, match="progress_bar: must be True, False or an"):
        progress(wrong, "Simulating", 10)
