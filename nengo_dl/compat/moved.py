"""Modules that have moved, for pickles, which name what they hold by its module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: path of a module in files of older releases -> where its names are now
MOVED = {
    "nengo_dl.simulator.archives": "nengo_dl.archives",
    "nengo_dl.simulator.host_state": "nengo_dl.runtime.python_state",
    "nengo_dl.simulator.plain": "nengo_dl.archives",
    "nengo_dl.compiler.planners": "nengo_dl.compat.graph_optimizer",
    "nengo_dl.compiler.simplifications": "nengo_dl.compat.graph_optimizer",
    "nengo_dl.compiler.sorters": "nengo_dl.compat.graph_optimizer",
    "nengo_dl.converter.recurrent": "nengo_dl.converter.layers.recurrent",
}

#: folder -> module -> the modules that were joined to it
JOINED = {
    "compiler": {
        "describe": "page",
        "graph": "flow verify",
        "layout": "places looks",
        "lowering": "rules",
        "plan": "order stages",
        "simplify": "share stack",
        "traits": "registry",
    },
    "kernels": {"algebra": "gradients time", "callbacks": "captured_state independence"},
    "runtime": {
        "emit": "stages",
        "executor": "sampling state",
        "choice": "forms history",
        "host": "hosts_then users_code",
        "stepwise": "interrupts journal",
    },
    "runtime.numpy": {"executor": "step", "namespace": "operations"},
    "runtime.tensorflow": {
        "batch_first": "orientation stages",
        "executor": "chunks sampled staged",
        "loop": "carried_variables either reuse",
        "namespace": "scratch series",
        "python_calls": "originals",
        "randomness": "random_numbers",
        "switches": "apart",
        "variables": "parameter_banks starting_values",
    },
    "simulator": {
        "building": "checks",
        "data": "signals summary",
        "decoders": "decoder_cache",
        "files": "numbered_names",
        "objects": "params_io",
        "run": "progress",
        "saving": "pickling",
    },
    "training": {
        "advice": "finite",
        "data": "probe_names",
        "gradients": "kernel_gradients",
        "inputs": "targets",
        "model": "epochs loss_names",
        "parameters": "layer_variables live parameter_store",
        "sharing": "defaults turns",
        "streams": "shuffling symbolic_streams",
    },
}
MOVED |= {
    f"nengo_dl.{folder}.{old}": f"nengo_dl.{folder}.{new}"
    for folder, joined in JOINED.items()
    for new, names in joined.items()
    for old in names.split()
}

#: short path that users import a module by -> the room that it lies in
PUBLIC = {
    "nengo_dl.learning_rules": "nengo_dl.models.learning_rules",
    "nengo_dl.readout": "nengo_dl.analysis.readout",
}
MOVED |= PUBLIC


class MovedModules(MetaPathFinder, Loader):
    """Imports what has moved from where it is now: both paths are one module.

    It is asked after all other finders, so it costs nothing where nothing has moved.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A specification for what has moved."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module that was asked for be the one at the new path."""
        name = module.__name__
        sys.modules[name] = importlib.import_module(MOVED[name])


def find_moved_modules() -> None:
    """Let Python find what has moved; once for a process."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
