"""When a loop compiled by TensorFlow pays: every figure that this executor decides by.

A simulation in NumPy starts at once. A compiled loop first costs the import of
TensorFlow, 2 to 5 seconds and some 650 MB, and then the compiling. So it has to be worth
that. ``python -m nengo_dl.benchmarks first`` measures what comes of these figures.
"""

from __future__ import annotations

from nengo_dl.compiler.layout import Layout

#: steps since the last reset that NumPy would spend more seconds on are compiled
#: (``first``)
COMPILE_SECONDS = 5.0

#: the same where TensorFlow has to be imported anyway: for an accelerator that the user
#: named, and for functions of tensors in the network (``first``)
IMPORTED_SECONDS = 1.0

#: seconds for leaving a probe out until its next sample, for each sample: another call of
#: the compiled loop (``python -m nengo_dl.benchmarks sampled``)
SAMPLE_SECONDS = 500e-6


def seconds_before_compiling(layout: Layout, device: str | None) -> float:
    """How much time in NumPy is taken before a loop is compiled.

    Parameters
    ----------
    layout : Layout
        Of a single stage.
    device : str or None
        What the user asked for.
    """
    accelerator = device is not None and "cpu" not in device.lower()
    tensors = any(group.kernel.tensorflow for group in layout.groups())
    return IMPORTED_SECONDS if accelerator or tensors else COMPILE_SECONDS
