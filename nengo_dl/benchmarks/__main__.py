"""The command line: ``python -m nengo_dl.benchmarks compare``, ``train`` or ``build``."""

import argparse
import inspect
import json
import sys
import time

import nengo
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks.compare import (
    describe_environment,
    format_header,
    format_row,
    measure,
    measure_cases,
    run_profile,
)
from nengo_dl.benchmarks.networks import BUILDERS, CASES, Case, chain
from nengo_dl.benchmarks.train import CASES as TRAIN_CASES
from nengo_dl.benchmarks.train import HEADER, format_train_row, measure_training

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

# The setting that fixes how the loop over time is run.
TIERS = {"auto": "auto", "numpy": False, "tensorflow": True}

FOOTNOTES = """\
core: nengo.Simulator (float64), ours: nengo_dl.Simulator; the fastest of the repeats,
in which both take turns. ratio: per batch item. first: build the network (decoders
come from Nengo's cache) and run the first steps. second: run again, which may compile
the loop. difference: of the outputs in the first 100 steps, relative to the largest."""


def _neuron_type(text):
    """Neurons by the name of their class, in any spelling of upper and lower case."""
    name = text.lower().replace("_", "").replace("-", "")
    if name not in NEURON_TYPES:
        known = ", ".join(cls.__name__ for cls in NEURON_TYPES.values())
        raise argparse.ArgumentTypeError(f"unknown neuron type {text!r}; known: {known}")
    return NEURON_TYPES[name]()


def _names(text):
    """The names in a list with commas; None (all of them) for "all"."""
    return None if text == "all" else [name.strip() for name in text.split(",")]


def _add_compare(commands):
    parser = commands.add_parser(
        "compare",
        help="measure nengo_dl.Simulator beside nengo.Simulator",
        description="Measure both simulators on the standard networks, in one process.",
        epilog=f"networks: {', '.join(CASES)}",
    )
    parser.add_argument(
        "--networks", type=_names, help='names with commas between, or "all" (default)'
    )
    parser.add_argument("--steps", type=int, default=1000, help="steps of each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each simulator")
    parser.add_argument("--step-calls", type=int, default=200, help="calls of step()")
    parser.add_argument("--minibatch-size", type=int, help="batch size of ours")
    parser.add_argument("--device", help="TensorFlow device of ours, such as /gpu:0")
    parser.add_argument(
        "--tier", choices=TIERS, default="auto", help="what runs the loop over time"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE too")
    parser.set_defaults(run=_compare)


def _add_build(commands):
    parser = commands.add_parser(
        "build",
        help="build a network, and profile it",
        description="Build a network: a builder that needs --dimensions and "
        "--neurons-per-d, or one of the standard networks, whose sizes can be changed.",
        epilog="Followed by: profile [options]; see: build NAME profile --help.",
    )
    names = [*BUILDERS, *(name for name in CASES if name not in BUILDERS)]
    parser.add_argument(
        "network", metavar="NAME", choices=names, help=f"one of: {', '.join(names)}"
    )
    parser.add_argument("--dimensions", type=int)
    parser.add_argument("--neurons-per-d", type=float)
    parser.add_argument("--neuron-type", type=_neuron_type, help="such as LIFRate")
    parser.add_argument("--n-ensembles", type=int, help="random_network, chain")
    parser.add_argument(
        "--connections-per-ensemble", type=int, help="random_network only"
    )
    parser.set_defaults(run=_build)

    profile = parser.add_subparsers(metavar="profile").add_parser(
        "profile",
        help="time nengo_dl.Simulator on the network, and trace it",
        description="Time nengo_dl.Simulator on the network, and trace it.",
    )
    profile.add_argument("--n-steps", type=int, default=150)
    profile.add_argument("--train", action="store_true", help="fit instead of run")
    profile.add_argument("--reps", type=int, default=3, help="the fastest counts")
    profile.add_argument("--minibatch-size", type=int)
    profile.add_argument("--device", help="TensorFlow device, such as /gpu:0")
    profile.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    profile.add_argument("--log-dir", default="profile", help="where the trace goes")
    profile.add_argument("--no-profile", action="store_true", help="no trace")
    profile.set_defaults(run=_profile)


def _add_train(commands):
    parser = commands.add_parser(
        "train",
        help="measure training beside plain TensorFlow and Keras",
        description="Measure training beside plain TensorFlow and Keras, in one process.",
        epilog=f"cases: {', '.join(TRAIN_CASES)}",
    )
    parser.add_argument(
        "--cases", type=_names, help='names with commas between, or "all" (default)'
    )
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE too")
    parser.set_defaults(run=_train)


def _train(args):
    environment = describe_environment()
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    print(HEADER, flush=True)
    done = []
    for row in measure_training(args.cases, repeats=args.repeats):
        done.append(row)
        print(format_train_row(row), flush=True)
    if args.json:
        report = {"environment": environment, "rows": [row.as_dict() for row in done]}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)


def _compare(args):
    environment = describe_environment()
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    settings = {"jit": TIERS[args.tier], "dtype": args.dtype}
    rows = measure_cases(
        args.networks,
        steps=args.steps,
        repeats=args.repeats,
        minibatch_size=args.minibatch_size,
        step_calls=args.step_calls,
        device=args.device,
        **settings,
    )
    print(
        f"{args.steps} steps, minibatch_size {args.minibatch_size}, tier {args.tier}, "
        f"{args.dtype}"
    )
    # What TensorFlow does once per process belongs to no network.
    start = time.perf_counter()
    measure("warm up", lambda: chain(1, 10), args.steps, 1, step_calls=1, **settings)
    print(f"first use of both simulators (not in the table): {_since(start)}\n")

    print(format_header(), flush=True)
    done = []
    for row in rows:
        done.append(row)
        print(format_row(row), flush=True)
    print(f"\n{FOOTNOTES}")
    if args.json:
        report = {"environment": environment, "rows": [row.as_dict() for row in done]}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)


def _since(start):
    return f"{time.perf_counter() - start:.2f} s"


def _build(args):
    """Build the network that the arguments describe, and return it."""
    options = (
        "dimensions",
        "neurons_per_d",
        "neuron_type",
        "n_ensembles",
        "connections_per_ensemble",
    )
    sizes = {name: getattr(args, name) for name in options}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    case = CASES.get(args.network) or Case(BUILDERS[args.network], {})
    signature = inspect.signature(case.builder)
    try:
        signature.bind(**{**case.sizes, **sizes})
    except TypeError as error:  # an option that is required, or that it does not have
        known = ", ".join(f"--{name.replace('_', '-')}" for name in signature.parameters)
        raise ValidationError(
            f"{error}; the options of this network are {known}",
            attr=f"build {args.network}",
        ) from None
    net = case(**sizes)
    print(
        f"{net.label}: {len(net.all_ensembles)} ensembles, {net.n_neurons} neurons, "
        f"{len(net.all_connections)} connections"
    )
    return net


def _profile(args):
    seconds = run_profile(
        _build(args),
        train=args.train,
        n_steps=args.n_steps,
        do_profile=not args.no_profile,
        reps=args.reps,
        dtype=args.dtype,
        log_dir=args.log_dir,
        minibatch_size=args.minibatch_size,
        device=args.device,
    )
    what = "fit" if args.train else "run_steps"
    print(
        f"{what}, {args.n_steps} steps: {seconds:.4f} s, "
        f"{seconds / args.n_steps * 1e6:.1f} us per step"
    )
    if not args.no_profile:
        print(f"trace written to {args.log_dir}")


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str or None
        The arguments; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m nengo_dl.benchmarks",
        description="Measure nengo_dl.Simulator.",
    )
    commands = parser.add_subparsers(required=True, metavar="compare|train|build")
    _add_compare(commands)
    _add_train(commands)
    _add_build(commands)
    args = parser.parse_args(arguments)
    try:
        args.run(args)
    except ValidationError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
