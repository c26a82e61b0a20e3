"""What steps cost in NumPy: every figure that this executor decides by.

Estimates are made from the plan of a step alone, never from a clock: the same calls run
in the same way in every process.
"""

from __future__ import annotations

from nengo_dl.compiler.layout import Layout

#: estimated seconds for each kernel of a step, and for each elementary operation
#: (``python -m nengo_dl.benchmarks first`` measures what comes of them)
KERNEL_SECONDS, OPERATION_SECONDS = 5e-6, 0.3e-9

#: seconds for leaving a probe out until its next sample, for each sample: asking whether
#: there is one (``python -m nengo_dl.benchmarks sampled``)
SAMPLE_SECONDS = 5e-6


def seconds_per_step(layout: Layout, batch: int) -> float:
    """About how long one step takes.

    Parameters
    ----------
    layout : Layout
        Of a single stage (``arrange(graph, fused=True)``).
    batch : int
        Number of batch items.
    """
    graph = layout.plan.graph
    operations = graph.src.size + sum(n.kernel.cost(n) for n in graph.nodes)
    kernels = len(layout.groups())
    return KERNEL_SECONDS * kernels + OPERATION_SECONDS * operations * batch
