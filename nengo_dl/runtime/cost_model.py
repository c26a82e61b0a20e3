"""What steps cost in NumPy, estimated; and when it pays to compile instead.

A simulation in NumPy starts at once. A compiled loop first costs the import of
TensorFlow, 2 to 5 seconds and some 650 MB, and then the compiling. So it has to be worth
that. The estimate is made from the plan of a step alone, never from a clock: the same
calls run in the same way in every process. All of its figures are here; `python -m
nengo_dl.benchmarks first` measures what comes of them.
"""

from __future__ import annotations

from nengo_dl.compiler.layout import Layout

#: estimated seconds in NumPy for each kernel of a step, and for each elementary operation
KERNEL_SECONDS, OPERATION_SECONDS = 5e-6, 0.3e-9

#: steps since the last reset that NumPy would spend more seconds on are compiled
COMPILE_SECONDS = 5.0

#: the same where TensorFlow has to be imported anyway: for an accelerator that the user
#: named, and for functions of tensors in the network
IMPORTED_SECONDS = 1.0

#: runs so short that handing them to a compiled loop costs more than they do
SHORT_RUN = 16

#: estimated seconds for reading a probe, for each byte; one of fewer bytes is never worth
#: a program of its own
BYTE_SECONDS, LEAST_BYTES = 1e-9, 4096

#: seconds for leaving a probe out until its next sample, for each sample: asking whether
#: there is one in NumPy; another call of the compiled loop
SAMPLE_SECONDS = {"numpy": 5e-6, "tensorflow": 500e-6}


def numpy_seconds(layout: Layout, batch: int) -> float:
    """About how long one step takes in NumPy.

    Parameters
    ----------
    layout : Layout
        Of a single stage (``arrange(graph, fused=True)``).
    batch : int
    """
    graph = layout.plan.graph
    operations = graph.src.size + sum(n.kernel.cost(n) for n in graph.nodes)
    kernels = len(layout.groups())
    return KERNEL_SECONDS * kernels + OPERATION_SECONDS * operations * batch


def seconds_before_compiling(layout: Layout, device: str | None) -> float:
    """How much NumPy is taken before a loop is compiled.

    Parameters
    ----------
    layout : Layout
        As for `numpy_seconds`.
    device : str or None
        What the user asked for.
    """
    accelerator = device is not None and "cpu" not in device.lower()
    tensors = any(group.kernel.tensorflow for group in layout.groups())
    return IMPORTED_SECONDS if accelerator or tensors else COMPILE_SECONDS


def reads_samples_only(tier: str, n_bytes: float, period: float) -> bool:
    """Whether it pays to leave a probe out between its samples.

    Parameters
    ----------
    tier : str
        ``"numpy"`` or ``"tensorflow"``.
    n_bytes : float
        What the probe sees in a step.
    period : float
        Steps between two samples.
    """
    if tier not in SAMPLE_SECONDS or n_bytes < LEAST_BYTES:
        return False
    return BYTE_SECONDS * n_bytes * (period - 1) > SAMPLE_SECONDS[tier]
