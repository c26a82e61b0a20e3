"""Rows of figures as text, JSON and reStructuredText."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import nengo
import numpy as np

from nengo_dl.version import version

#: what stands in the place of a value that there is none of
MISSING = "-"

#: so many columns fit on a page
MOST_COLUMNS = 10


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    title : str
    key : str
        Of the value in a row. Where it is missing or None there is a dash.
    form : str
        Format specification of numbers, such as ``",.1f"``; "" for text.
    width : int
        Least number of characters.
    """

    title: str
    key: str
    form: str = ""
    width: int = 0

    @property
    def is_text(self) -> bool:
        """Whether the values of this column are text, which is aligned to the left."""
        return not self.form

    def cell(self, row: Mapping) -> str:
        """The value of a row as text."""
        value = row.get(self.key)
        if value is None:
            return MISSING
        if isinstance(value, bool | str):
            return str(value)
        return format(value, self.form or "")

    def aligned(self, text: str) -> str:
        """Text with blanks to the column's width."""
        width = max(self.width, len(self.title))
        return text.ljust(width) if self.is_text else text.rjust(width)


def header(columns: Sequence[Column]) -> str:
    """The titles of a table, on one line."""
    return "  ".join(column.aligned(column.title) for column in columns)


def line(columns: Sequence[Column], row: Mapping) -> str:
    """One line of a table."""
    return "  ".join(column.aligned(column.cell(row)) for column in columns).rstrip()


def environment() -> dict[str, Any]:
    """The versions of the packages and the processors, for the report."""
    return {
        "nengo_dl": version,
        "nengo": nengo.__version__,
        "tensorflow": _tensorflow_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "processor": processor_name(),
        "date": datetime.date.today().isoformat(),
    }


def _tensorflow_version() -> str:
    import tensorflow as tf

    return tf.__version__


def processor_name() -> str:
    """What the system calls the processor."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [s.split(":")[1] for s in text.splitlines() if s.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def plain(value: Any) -> Any:
    """A value of NumPy or of a container as JSON knows it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    return value


def as_report(name: str, command: str, rows: Sequence, summary: Mapping) -> dict:
    """All that is known about a measurement that was made, for JSON.

    ``name``: of the measurement. ``command``: that makes it again. ``summary``: figures
    of the whole.
    """
    return {
        "measurement": name,
        "command": command,
        "environment": environment(),
        "rows": plain(list(rows)),
        "summary": plain(summary),
    }


def write_json(path: str, report: Mapping) -> None:
    """Write a report to a file, in one go."""
    partial = pathlib.Path(f"{path}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def summary_lines(summary: Mapping) -> list[str]:
    """A line for each figure of the whole."""
    return [
        f"{name}: {value if isinstance(value, str) else format(value, ',.3g')}"
        for name, value in summary.items()
    ]


def rst_tables(columns: Sequence[Column], rows: Sequence[Mapping]) -> list[str]:
    """A table in reStructuredText, as lines; two or more if it is too wide for a page.

    Each of them begins with the columns of text that the first one begins with, which
    tell the rows apart.
    """
    if len(columns) <= MOST_COLUMNS:
        return _rst_table(columns, rows)
    names = next(n for n, column in enumerate(columns) if not column.is_text)
    first, rest = columns[:names], columns[names:]
    count = -(-len(rest) // (MOST_COLUMNS - names))
    each = -(-len(rest) // count)
    parts = [rest[start : start + each] for start in range(0, len(rest), each)]
    return [line for part in parts for line in _rst_table([*first, *part], rows)]


def _rst_table(columns, rows):
    lines = [".. list-table::", "   :header-rows: 1", ""]
    cells = [[column.title for column in columns]]
    cells += [[column.cell(row) for column in columns] for row in rows]
    for row in cells:
        for i, text in enumerate(row):
            # a hyphen alone would be an empty list
            shown = "\N{EN DASH}" if text == MISSING else text
            lines.append(f"   {'*' if i == 0 else ' '} - {shown}")
    return [*lines, ""]


def rst_section(
    report: Mapping,
    title: str,
    columns: Sequence[Column],
    notes: str = "",
    picture: str | None = None,
) -> str:
    """A section of the documentation: command, figures, table and picture.

    ``report``: see `as_report`. ``notes``: what the columns mean. ``picture``: path of
    the picture, as the documentation refers to it.
    """
    heading = f"``{report['measurement']}``: {title.rstrip('.')}"
    lines = [heading, "-" * len(heading), "", ".. code-block:: bash", ""]
    lines += [f"   {report['command']}", ""]
    lines += rst_tables(columns, report["rows"])
    for text in summary_lines(report["summary"]):
        lines.append(f"- {text}")
    if report["summary"]:
        lines.append("")
    if notes:
        lines += [" ".join(notes.split()), ""]
    if picture:
        lines += [f".. image:: {picture}", f"   :alt: {title.rstrip('.')}", ""]
    return "\n".join(lines)
