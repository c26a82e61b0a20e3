"""Whole processes: a script from its first line to its last, with all its imports."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from nengo_dl.benchmarks.beside import beside_row
from nengo_dl.benchmarks.registry import Row
from nengo_dl.benchmarks.timing import median

SCRIPT = """
import math
import sys
import time

simulator, steps, cache = sys.argv[1:]
import nengo

if simulator == "core":
    from nengo import Simulator
else:
    from nengo_dl import Simulator
nengo.rc.set("decoder_cache", "path", cache)
with nengo.Network(seed=0) as net:
    last = nengo.Node(lambda t: math.sin(5 * t))
    for _ in range(3):
        ens = nengo.Ensemble(100, 1)
        nengo.Connection(last, ens)
        last = ens
    nengo.Probe(last, synapse=0.01)
with Simulator(net, progress_bar=False) as sim:
    sim.run_steps(int(steps), progress_bar=False)
peak = 0
try:
    with open("/proc/self/status") as file:
        peak = [int(line.split()[1]) for line in file if line.startswith("VmHWM")][0]
except OSError:
    pass
print(time.process_time(), peak / 1024)
"""
"""Three ensembles of 100 in a row; it tells its processor time and its most memory."""

CPU_LIMIT = 1.2
"""Of the processor time of the script with core."""


def process(simulator: str, steps: int, cache: str) -> tuple[float, float]:
    """Run the script in a process of its own; returns seconds of processors, and MB.

    ``simulator``: "core" or "ours". ``cache``: a folder for Nengo's cache of decoders.
    MB are 0 where the system does not tell.
    """
    command = [sys.executable, "-c", SCRIPT, simulator, str(steps), cache]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory = result.stdout.split()[-2:]
    return float(seconds), float(memory)


def process_row(steps: int, repeats: int) -> Row:
    """Figures of core and ours in turn, a process each, after one that fills the cache.

    ``steps``: of the run. ``repeats``: rounds.
    """
    figures: dict[str, list[tuple[float, float]]] = {"ours": [], "core": []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        for simulator in figures:
            process(simulator, 10, cache)
        for _ in range(repeats):
            for simulator, found in figures.items():
                found.append(process(simulator, steps, cache))
    times, memory = (
        {key: [f[k] for f in found] for key, found in figures.items()} for k in (0, 1)
    )
    more = median(memory["ours"]) - median(memory["core"])
    return beside_row(
        f"3 ensembles of 100, process, {steps:,} steps",
        times["ours"],
        "core",
        times["core"],
        "s of CPU",
        CPU_LIMIT,
        more=more if any(memory["core"]) else None,
    )
