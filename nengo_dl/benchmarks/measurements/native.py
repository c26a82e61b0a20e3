"""Neurons as machine code: what one of them costs in a step."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nengo
import numpy as np

from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import require_machine_code
from nengo_dl.benchmarks.timing import check_positive, chosen_names, no_collection
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.runtime.numpy.executor import NumpyStep

NEURONS: dict[str, nengo.neurons.NeuronType] = {
    "LIF": nengo.LIF(),
    "AdaptiveLIF": nengo.AdaptiveLIF(),
    "Izhikevich": nengo.Izhikevich(),
    "SpikingRectifiedLinear": nengo.SpikingRectifiedLinear(),
    "LIFRate": nengo.LIFRate(),
    "RectifiedLinear": nengo.RectifiedLinear(),
    "Sigmoid": nengo.Sigmoid(),
    "Tanh": nengo.Tanh(),
}
"""The neuron types that are measured."""

BYTES_AND_NS = 64 * 0.25
"""A LIF neuron should take no more ns in float32 than this over the bytes of a vector."""

DT = 0.001

COLUMNS = (
    Column("neurons", "neurons", width=24),
    Column("numbers", "dtype", width=9),
    Column("items", "batch", "d", 6),
    Column("ns, ours", "ours", ".3f", 9),
    Column("ns, NumPy", "numpy", ",.2f", 10),
    Column("ns, C", "gcc", ".3f", 9),
    Column("ours / C", "ratio", ".2f", 8),
    Column("goal", "goal", width=8),
)

NOTES = """Processor time for one neuron in one step, of one item: the least of all
rounds, in which everything takes turns. NumPy is the other executor without TensorFlow;
C is the same arithmetic in a loop of its own, compiled with -O3 -march=native, for the
types that are written down here, where there is a compiler. Vectors decide the goal:
0.25 ns for those of 64 bytes, 0.5 and 1 for those of 32 and 16."""

C_LIF = """
#include <stddef.h>
static inline float expm1_small(float x) {
  return x + x * x * (0.5f + x * (0.16666667f + x * 0.041666667f)); }
static inline float log1p_small(float x) {
  return x + x * x * (-0.5f + x * (0.33333333f + x * (-0.25f + x * 0.2f))); }
void run(size_t n, size_t steps, const float *restrict J, float *restrict S,
         float *restrict V, float *restrict R) {
  const float dt = 0.001f, tau_rc = 0.02f, tau_ref = 0.002f;
  for (size_t t = 0; t < steps; t++)
    for (size_t i = 0; i < n; i++) {
      float r = R[i] - dt, v = V[i], j = J[i], active = dt - r;
      active = active > dt ? dt : active;
      active = active < 0 ? 0 : active;
      v = v - (j - v) * expm1_small(active * (-1 / tau_rc));
      int spiked = v > 1;
      float over = (v - 1) / (spiked ? j - 1 : 1);
      float since = dt + tau_rc * log1p_small(spiked ? -over : 0);
      S[i] = spiked ? 1 / dt : 0;
      V[i] = spiked ? 0 : (v < 0 ? 0 : v);
      R[i] = spiked ? tau_ref + since : r;
    }
}
"""

C_RELU = """
#include <stddef.h>
void run(size_t n, size_t steps, const float *restrict J, float *restrict S) {
  for (size_t t = 0; t < steps; t++) {
    for (size_t i = 0; i < n; i++) S[i] = J[i] > 0 ? J[i] : 0;
    __asm__ volatile("" ::: "memory");
  }
}
"""

C_SOURCES = {"LIF": (C_LIF, 4), "RectifiedLinear": (C_RELU, 2)}
"""Of neuron types in float32: the source, and how many arrays it works on."""


def _summary(rows: Sequence[Row]) -> dict:
    """How many goals were reached."""
    limited = [row for row in rows if row.get("limit") is not None]
    if not limited:
        return {}
    met = sum(row["ours"] <= row["limit"] for row in limited)
    return {"goals reached": f"{met} of {len(limited)}"}


@measurement(COLUMNS, NOTES, _summary, name="native")
def measure_native(
    types: Names | None = None, n_neurons: int = 4096, repeats: int = 30
) -> Iterator[Row]:
    """Measure neurons as machine code, in ns for each of them and step.

    Parameters
    ----------
    types : list of str or None
        Neuron types; by default all that are known here.
    n_neurons : int
        How many neurons there are, for each of 1 and of 64 items.
    repeats : int
        Rounds.

    Yields
    ------
    dict
        For each type, in float32 and float64, for 1 and for 64 items.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    RuntimeError
        If there is no machine code on this system.
    """
    from nengo_dl.runtime.native.compile import vector_bytes

    check_positive(n_neurons=n_neurons, repeats=repeats)
    names = chosen_names("types", types, NEURONS)
    require_machine_code("neurons cannot be measured as machine code")
    for name in names:
        for dtype, batch in (("float32", 1), ("float32", 64), ("float64", 1)):
            row = _row(name, n_neurons, batch, dtype, repeats)
            if name == "LIF" and dtype == "float32":
                row["limit"] = BYTES_AND_NS / vector_bytes()
                row["goal"] = f"<= {row['limit']:.2f}"
            yield row


def _row(name: str, n: int, batch: int, dtype: str, repeats: int) -> Row:
    """The figures of one neuron type."""
    steps = max(1, 100_000 // (n * batch))
    runs = {
        kind: runner(name, n, batch, dtype, steps) for kind, runner in RUNNERS.items()
    }
    runs = {kind: run for kind, run in runs.items() if run is not None}
    best = dict.fromkeys(runs, np.inf)
    with no_collection():
        for _ in range(repeats):
            for kind, run in runs.items():
                start = time.thread_time()
                run()
                best[kind] = min(best[kind], time.thread_time() - start)
    figures = {kind: value / (n * batch * steps) * 1e9 for kind, value in best.items()}
    ratio = figures["ours"] / figures["gcc"] if "gcc" in figures else None
    return {"neurons": name, "dtype": dtype, "batch": batch, "ratio": ratio, **figures}


def population(
    name: str, n: int, batch: int, dtype: str
) -> tuple[Callable, list[np.ndarray]]:
    """A step of neurons whose currents stay the same, and what it starts from.

    Parameters
    ----------
    name : str
        In `NEURONS`.
    n, batch : int
        Neurons, and items.
    dtype : str
        The type of numbers.
    """
    neurons = NEURONS[name]
    kernel = NeuronKernel.of(neurons)
    assert kernel is not None  # NEURONS has no others
    params = {key: value[0] for key, value in kernel.values(neurons, 1).items()}
    p = Params(**kernel.derive(dict(params, dt=DT)))
    rng = np.random.RandomState(0)
    current = rng.uniform(0.5, 3, (n, batch))
    made = neurons.make_state(n, rng=rng, dtype=np.float64)
    states = [np.repeat(made[key].reshape(n, 1), batch, 1) for key in kernel.state]
    carry = [current, np.zeros((n, batch)), *states]

    def step(xp: Any, carry: list, x: Any, weights: Any) -> tuple[list, None]:
        current, _, *state = carry
        return [current, *kernel.step(xp, p, current, *state)], None

    return step, [c.astype(dtype) for c in carry]


def _ours(name: str, n: int, batch: int, dtype: str, steps: int) -> Callable[[], Any]:
    """Some steps as machine code."""
    from nengo_dl.runtime.native.step import NativeStep

    step, carry = population(name, n, batch, dtype)
    several = NativeStep(step, carry, None, batch, [], dtype)
    rows, out = np.zeros((steps, 0, batch), dtype), several.room(steps)
    return lambda: several.advance(rows, out)


def _numpy(name: str, n: int, batch: int, dtype: str, steps: int) -> Callable[[], Any]:
    """Nanoseconds for a neuron and step with NumPy."""
    step, carry = population(name, n, batch, dtype)
    one = NumpyStep(step, carry, None, batch, [], dtype)

    def run() -> None:
        for _ in range(steps):
            one()

    return run


def _gcc(
    name: str, n: int, batch: int, dtype: str, steps: int
) -> Callable[[], Any] | None:
    """Nanoseconds for a neuron and step in C; None without source or compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or name not in C_SOURCES or dtype != "float32":
        return None
    source, count = C_SOURCES[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path, library = Path(folder, "neurons.c"), Path(folder, "neurons.so")
        path.write_text(source, encoding="utf-8")
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        command = [compiler, *flags, "-o", str(library), str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        function = ctypes.CDLL(str(library)).run
    function.restype = None
    function.argtypes = [ctypes.c_size_t] * 2 + [ctypes.c_void_p] * count
    arrays = [np.zeros(n * batch, np.float32) for _ in range(count)]
    arrays[0][:] = np.random.RandomState(0).uniform(0.5, 3, n * batch)
    return lambda: function(n * batch, steps, *(a.ctypes.data for a in arrays))


RUNNERS = {"ours": _ours, "numpy": _numpy, "gcc": _gcc}
"""What is compared."""
