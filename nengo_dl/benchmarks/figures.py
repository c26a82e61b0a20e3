"""``report``: all measurements, each in a process of its own, as a page of documentation.

Figures are kept as JSON, one file for each measurement, so that a report that was
interrupted goes on where it was, and one measurement can be made again.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

from nengo_dl.benchmarks import charts
from nengo_dl.benchmarks.registry import load_measurements
from nengo_dl.benchmarks.report import rst_section
from nengo_dl.benchmarks.timing import chosen_names

LABEL = "These figures are of one machine, and of the versions named here."


def write_sections(
    path: str, reports: Sequence[Mapping], pictures: Mapping[str, str | None]
) -> None:
    """Write a page of reStructuredText.

    ``reports``: what was measured; see `.report.as_report`. ``pictures``: path of the
    picture of each measurement that has one.
    """
    known, parts = load_measurements(), []
    folder = pathlib.Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    for done in reports:
        measurement = known[done["measurement"]]
        picture = pictures.get(measurement.name)
        if picture:
            picture = pathlib.Path(os.path.relpath(picture, folder)).as_posix()
        about = done["environment"]
        section = rst_section(
            done, measurement.title, measurement.columns, measurement.notes, picture
        )
        machine = ", ".join(f"{name} {value}" for name, value in about.items())
        parts.append(f"{section}\n*Measured with:* {machine}.\n")
    pathlib.Path(path).write_text("\n".join([f"{LABEL}\n", *parts]), encoding="utf-8")


def measure_in_new_process(name: str, folder: pathlib.Path) -> bool:
    """Run a measurement as a command of its own; returns whether it worked.

    ``folder``: for the file of its figures.
    """
    command = [sys.executable, "-m", "nengo_dl.benchmarks", name]
    command += ["--json", str(folder / f"{name}.json")]
    print("$ python", *command[1:], flush=True)
    return subprocess.run(command, check=False).returncode == 0


def make_report(
    names: Sequence[str],
    folder: pathlib.Path,
    rst: str,
    again: bool = False,
    plots: bool = True,
) -> list[str]:
    """Make measurements with their default sizes, and the page of all figures.

    ``names``: of the measurements; all if there are none. ``folder``: for the figures and
    the pictures. ``rst``: the page. ``again``: whether to measure also what there are
    figures of. ``plots``: whether to draw. Returns: measurements that ended with an
    error. Raises `ValidationError` if a name is unknown (before anything is measured).
    """
    names = chosen_names("report", names or None, load_measurements())
    if plots:
        charts.require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        if again or not (folder / f"{name}.json").exists():
            failed += [] if measure_in_new_process(name, folder) else [name]
    write_report(folder, rst, plots)
    return failed


def write_report(folder: pathlib.Path, rst: str, plots: bool = True) -> None:
    """Write the page of all figures in a folder, and draw them.

    ``folder``: with a JSON file for each measurement. ``rst``: the page. ``plots``:
    whether to draw.
    """
    reports, pictures = [], {}
    known = load_measurements()
    for name in sorted(known, key=lambda name: name != "compare"):  # it comes first
        measurement, file = known[name], folder / f"{name}.json"
        if not file.exists():
            continue
        done = json.loads(file.read_text(encoding="utf-8"))
        reports.append(done)
        if plots and measurement.plot and done["rows"]:
            pictures[name] = str(folder / f"{name}.svg")
            charts.draw(pictures[name], measurement.plot, done["rows"])
    write_sections(rst, reports, pictures)
