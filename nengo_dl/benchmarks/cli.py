"""The command line: a command for each measurement, ``build`` and ``report``."""

from __future__ import annotations

import pathlib
import shlex
import textwrap
from typing import Any

import click
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import charts, figures, report
from nengo_dl.benchmarks.cli_build import build
from nengo_dl.benchmarks.registry import Measurement, Names, Option, load_measurements

PROGRAM = "python -m nengo_dl.benchmarks"

WIDTH = 90
"""Characters of a line of text."""


class NamesType(click.ParamType):
    """Names with commas between; None for "all"."""

    name = "names"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Turn the text of an option into a list of names; None stands for all."""
        if not isinstance(value, str):
            return value
        return None if value == "all" else [name.strip() for name in value.split(",")]


class Reported(click.Group):
    """Shows errors of measurements as those of the command line."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and show its errors as those of the command line."""
        try:
            return super().invoke(ctx)
        except (ValidationError, ImportError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Reported, context_settings={"max_content_width": WIDTH})
def cli() -> None:
    """Measure nengo_dl.Simulator."""


@cli.command("report")
@click.argument("names", nargs=-1)
@click.option(
    "--data",
    default="docs/benchmarks",
    show_default=True,
    metavar="FOLDER",
    help="For the figures (JSON) and the pictures.",
)
@click.option(
    "--rst",
    default="docs/_benchmarks.rst",
    show_default=True,
    metavar="FILE",
    help="The page that is written.",
)
@click.option(
    "--again/--keep", default=False, help="Measure also what there are figures of."
)
@click.option("--plots/--no-plots", default=True, help="Draw charts.")
def report_command(names: Any, data: Any, rst: Any, again: bool, plots: Any) -> None:
    """Make all measurements (or those NAMES) with their default sizes into a page.

    Figures that are there already are kept, and shown.
    """
    failed = figures.make_report(names, pathlib.Path(data), rst, again, plots)
    click.echo(f"written: {rst}")
    if failed:
        raise click.ClickException(f"these ended with an error: {', '.join(failed)}")


def _parameter(option: Option) -> click.Option:
    """An option of the command line for an argument of a measurement."""
    flag = f"--{option.name.replace('_', '-')}"
    if option.type is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    kind = click.Choice(option.choices) if option.choices else option.type
    kind = NamesType() if option.type is Names else kind
    shown = option.default is not None
    if option.type is Names and "default" not in option.help:
        shown = "all"
    return click.Option(
        [flag],
        type=kind,
        default=option.default,
        help=option.help,
        show_default=shown,
    )


OUTPUTS = (
    click.Option(["--json"], metavar="FILE", help="Write the figures to FILE too."),
    click.Option(["--rst"], metavar="FILE", help="Write a section of a document too."),
    click.Option(["--plot"], metavar="FILE", help="Draw a chart (.svg, .png, .pdf)."),
)


def _given(ctx: click.Context) -> str:
    """The command with the options that were given and that change the figures."""
    outputs = {option.name for option in OUTPUTS}
    words = [PROGRAM, ctx.command.name]
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name)
        if (
            parameter.name in outputs
            or source is not click.core.ParameterSource.COMMANDLINE
        ):
            continue
        value = ctx.params[parameter.name]
        if isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            words += [parameter.opts[0], shlex.quote(text)]
    return " ".join(words)


def _run(measurement: Measurement, json=None, rst=None, plot=None, **options) -> None:
    """Measure, with a line of the table for each row as it comes."""
    command = _given(click.get_current_context())
    if plot:
        charts.require_matplotlib()  # before anything is measured
    about = report.environment()
    click.echo(", ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    for row in measurement.function(**options):
        if not rows:
            click.echo(report.header(measurement.columns))
        rows.append(row)
        click.echo(report.line(measurement.columns, row))
    summary = measurement.summary(rows)
    for text in report.summary_lines(summary):
        click.echo(text)
    if measurement.notes:
        click.echo("\n" + textwrap.fill(" ".join(measurement.notes.split()), WIDTH))
    done = report.as_report(measurement.name, command, rows, summary)
    if json:
        report.write_json(json, done)
    if plot and measurement.plot and rows:
        charts.draw(plot, measurement.plot, rows)
    elif plot:
        click.echo(f"there is nothing to draw for {measurement.name}")
    if rst:
        figures.write_sections(rst, [done], {measurement.name: plot})


def _command(measurement: Measurement) -> click.Command:
    """The command of a measurement."""

    def callback(**options):
        _run(measurement, **options)

    return click.Command(
        measurement.name,
        params=[*map(_parameter, measurement.options), *OUTPUTS],
        callback=callback,
        help=measurement.title,
        epilog=" ".join(measurement.notes.split()),
    )


cli.add_command(build)
for _measurement in load_measurements().values():
    cli.add_command(_command(_measurement))
