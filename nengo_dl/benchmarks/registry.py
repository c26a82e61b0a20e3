"""Where measurements make themselves known, and what there is to know about one.

A measurement is a generator of rows (dicts) in a file of its own in ``measurements/``,
with the decorator `measurement`. Its command and options on the command line, its table,
its JSON and its place in the documentation follow from the function: the options are the
arguments, with the types and defaults of the signature and the words of the docstring.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nengo_dl.benchmarks.report import Column

Row = dict[str, Any]

Names = typing.NewType("Names", list)
"""The type of arguments that are names with commas between, or all of them (None)."""

MEASUREMENTS: dict[str, "Measurement"] = {}
"""All measurements, by the name of their command."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of a measurement.

    Parameters
    ----------
    name : str
        As in Python, with underscores.
    type : type
        ``int``, ``float``, ``str``, ``bool`` or `Names`.
    default : object
    help : str
        From the docstring.
    choices : tuple
        What it may be, if that is limited.
    """

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple = ()


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A generator of rows, and how to show them.

    Parameters
    ----------
    name : str
        Of its command.
    function : callable
        Yields rows, each as soon as it is measured.
    columns : sequence of Column
        Of the table.
    notes : str
        What the columns mean, below the table.
    summarize : callable or None
        From all rows to figures of the whole, a dict of text to number or text.
    plot : callable or None
        ``plot(figure, rows)`` draws into a matplotlib figure.
    """

    name: str
    function: Callable[..., Iterator[Row]]
    columns: Sequence[Column]
    notes: str = ""
    summarize: Callable[[list[Row]], Mapping] | None = None
    plot: Callable | None = None

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").splitlines()[0]

    @property
    def options(self) -> list[Option]:
        """All arguments of the measurement, as options of the command line."""
        words = described_parameters(inspect.getdoc(self.function) or "")
        hints = typing.get_type_hints(self.function)
        return [
            _option(parameter, hints.get(name, str), words.get(name, ""))
            for name, parameter in inspect.signature(self.function).parameters.items()
        ]

    def summary(self, rows: list[Row]) -> dict:
        """Figures of the whole; none if there are no rows."""
        return dict(self.summarize(rows)) if self.summarize and rows else {}


def measurement(
    columns: Sequence[Column],
    notes: str = "",
    summarize: Callable | None = None,
    plot: Callable | None = None,
    name: str | None = None,
) -> Callable:
    """Decorator: make a generator of rows known as a measurement.

    The arguments are those of `Measurement`; the name is the function's by default.
    """

    def register(function):
        command = name or function.__name__.removeprefix("measure_")
        MEASUREMENTS[command] = Measurement(
            command, function, tuple(columns), notes, summarize, plot
        )
        return function

    return register


def load_measurements() -> dict[str, Measurement]:
    """Import every module in ``measurements/``; returns `MEASUREMENTS`."""
    package = importlib.import_module("nengo_dl.benchmarks.measurements")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return MEASUREMENTS


def described_parameters(docstring: str) -> dict[str, str]:
    """What a docstring says about each parameter, each on one line.

    Parameters
    ----------
    docstring : str
        In numpydoc's form, without indentation.
    """
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+$|\Z)", docstring, re.S | re.M
    )
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else ():
        if line and not line[0].isspace():
            names = [name.strip(" *") for name in line.split(":")[0].split(",")]
        else:
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return {name: text.replace("``", "") for name, text in found.items()}


def _option(parameter: inspect.Parameter, hint: Any, text: str) -> Option:
    """An argument as an option, by its annotation."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return Option(parameter.name, str, parameter.default, text, tuple(kinds))
    kind = kinds[0] if kinds else hint  # "int | None" is an int
    return Option(parameter.name, kind, parameter.default, text)
