"""What there is to test, and which case tests what."""

import importlib
import pkgutil
from functools import cache

from nengo.builder.neurons import SimNeurons
from nengo.builder.processes import SimProcess

from nengo_dl import kernels
from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.compiler.traits import Kernel, operators
from nengo_dl.kernels.neurons.adaptive_threshold import ThresholdOfAll
from nengo_dl.kernels.neurons.base import NeuronKernel, neuron_kernels
from nengo_dl.kernels.processes.base import process_rules
from tests.kernels.kernel_harness import Step, bench_of

#: kernels that are there for batches alone whose items meet, which those of cases do not;
#: tests/kernels/learning/test_shared.py compares them with core
OF_ALL_ITEMS = {ThresholdOfAll}


def all_kernels():
    """Every kernel class of the package that can be applied."""
    for module in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        importlib.import_module(module.name)
    found, classes = [], [Kernel]
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if is_ours(cls) and cls.step is not Kernel.step and cls is not NeuronKernel:
            found.append(cls)
    return sorted(set(found) - OF_ALL_ITEMS, key=lambda cls: cls.__name__)


def is_ours(cls):
    """Whether a class is part of the package, and not of some test."""
    return cls.__module__.startswith(kernels.__name__ + ".")


def registered():
    """Everything that must have a case: kernels, operators, neurons, processes."""
    rules = operators.items()
    return {
        "kernel": set(all_kernels()),
        "operator": {op for op, rule in rules if is_ours(type(rule))},
        "neuron type": {
            t for t, kernel in neuron_kernels.items() if is_ours(type(kernel))
        },
        "process": {p for p, rule in process_rules.items() if is_ours(rule)},
    }


@cache
def covered_by(case):
    """What a case tests, in the terms of `registered`."""
    bench = bench_of(case)
    operators = bench.model.operators
    return {
        "kernel": {type(kernel) for kernel in Step(bench, 1).kernels()},
        "operator": {type(op) for op in operators},
        "neuron type": {type(op.neurons) for op in operators if type(op) is SimNeurons},
        "process": {type(op.process) for op in operators if type(op) is SimProcess},
    }


def forgotten(wanted, cases):
    """What has no case: names, by kind."""
    return [
        f"{kind} {cls.__name__}"
        for kind, classes in wanted.items()
        for cls in sorted(classes, key=lambda cls: cls.__name__)
        if not any(cls in covered_by(case)[kind] for case in cases)
    ]


@cache
def runs_python(case, ahead=False):
    """Whether a case calls Python in each step (or ``ahead`` of the steps).

    A step that calls Python cannot be compiled; and Python may remember other steps.
    """
    step = Step(bench_of(case), 1)
    return (ahead and step.runs_ahead) or any(kernel.host for kernel in step.kernels())


def benches_without_merging(cases):
    """Sort cases into as few groups as possible so that none is merged with another."""
    groups = []
    for case in cases:
        mine = set(_merge_keys(case))
        for members, taken in groups:
            if not mine & taken:
                members.append(case)
                taken |= mine
                break
        else:
            groups.append(([case], mine))
    return [tuple(members) for members, _ in groups]


def _merge_keys(case):
    bench = bench_of(case)
    graph = compile_model(bench.model, bench.options()).graph
    return [node.kernel.merge_key(node) for node in graph.nodes]
