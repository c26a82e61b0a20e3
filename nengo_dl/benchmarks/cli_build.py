"""``build NAME ... profile ...``: a network of any size, timed and traced.

Each network is a command of its own, whose options are the arguments of its builder.
"""

from __future__ import annotations

import inspect
from typing import Any

import click
import nengo

from nengo_dl.benchmarks.networks import BUILDERS, CASES, Case
from nengo_dl.benchmarks.profiling import run_profile
from nengo_dl.benchmarks.registry import described_parameters

NEURON_TYPES = {
    cls.__name__.lower(): cls
    for cls in (
        nengo.LIF,
        nengo.LIFRate,
        nengo.AdaptiveLIF,
        nengo.AdaptiveLIFRate,
        nengo.Izhikevich,
        nengo.RectifiedLinear,
        nengo.SpikingRectifiedLinear,
        nengo.Sigmoid,
        nengo.Tanh,
    )
}


class NeuronTypeName(click.ParamType):
    """Neurons by the name of their class, in any spelling of upper and lower case."""

    name = "neuron type"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """An instance of the class."""
        if not isinstance(value, str):
            return value
        name = value.lower().replace("_", "").replace("-", "")
        if name not in NEURON_TYPES:
            known = ", ".join(cls.__name__ for cls in NEURON_TYPES.values())
            self.fail(f"unknown neuron type {value!r}; known: {known}", param, ctx)
        return NEURON_TYPES[name]()


class Numbers(click.ParamType):
    """Whole numbers with commas between."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Turn the text of an option into a tuple of numbers."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(number) for number in value.split(","))
        except ValueError:
            self.fail(f"expected whole numbers such as 16,32; got {value!r}", param, ctx)


def _option(parameter, case, words):
    """An option for an argument of a builder."""
    default = case.sizes.get(parameter.name, parameter.default)
    required = default is inspect.Parameter.empty
    flag = f"--{parameter.name.replace('_', '-')}"
    if parameter.name == "neuron_type":
        kind, shown = NeuronTypeName(), type(default).__name__
    elif isinstance(default, bool):
        kind, shown, flag = bool, str(default), f"{flag}/--no-{flag[2:]}"
    elif isinstance(default, tuple):
        kind, shown = Numbers(), ",".join(map(str, default))
    else:
        kind, shown = (float if parameter.name == "neurons_per_d" else int), str(default)
    if required:
        more = {"required": True}
    else:
        more = {"default": default, "show_default": shown}
    return click.Option([flag], type=kind, help=words.get(parameter.name, ""), **more)


def _network_command(name: str, case: Case) -> click.Group:
    """The command of a network."""
    documented = inspect.getdoc(case.builder) or ""
    words = described_parameters(documented)
    parameters = inspect.signature(case.builder).parameters.values()

    def callback(**sizes):
        net = case(**sizes)
        click.echo(
            f"{net.label}: {len(net.all_ensembles)} ensembles, {net.n_neurons} neurons, "
            f"{len(net.all_connections)} connections"
        )
        click.get_current_context().obj = net

    group = click.Group(
        name,
        params=[_option(parameter, case, words) for parameter in parameters],
        callback=callback,
        help=documented.splitlines()[0],
        invoke_without_command=True,
    )
    group.add_command(profile)
    return group


@click.command()
@click.option("--n-steps", type=int, default=150, show_default=True)
@click.option("--train", is_flag=True, help="Fit instead of run.")
@click.option("--reps", type=int, default=3, show_default=True, help="The median counts.")
@click.option("--minibatch-size", type=int)
@click.option("--device", help="TensorFlow device, such as /gpu:0.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32")
@click.option("--log-dir", default="profile", show_default=True, help="For the trace.")
@click.option("--no-profile", is_flag=True, help="No trace.")
@click.pass_obj
def profile(
    net: Any, n_steps: int, no_profile: bool, log_dir: str, train: bool, **options: Any
) -> None:
    """Time nengo_dl.Simulator on the network, and trace it."""
    seconds = run_profile(
        net,
        train=train,
        n_steps=n_steps,
        do_profile=not no_profile,
        log_dir=log_dir,
        **options,
    )
    click.echo(
        f"{'fit' if train else 'run_steps'}, {n_steps} steps: {seconds:.4f} s, "
        f"{seconds / n_steps * 1e6:.1f} us per step"
    )
    if not no_profile:
        click.echo(f"trace written to {log_dir}")


@click.group()
def build() -> None:
    """Build a network, and profile it.

    NAME is a builder, or a network of standard sizes; all sizes can be changed. For
    example: build cconv --dimensions 16 --neurons-per-d 50 profile --n-steps 200
    """


for _name, _case in {**{n: Case(b) for n, b in BUILDERS.items()}, **CASES}.items():
    build.add_command(_network_command(_name, _case))
