"""When a loop compiled by TensorFlow pays: every figure that this executor decides by.

A simulation in NumPy starts at once. A compiled loop first costs the import of
TensorFlow, 2 to 5 seconds and some 650 MB, and then the compiling. So it has to be worth
that. ``python -m nengo_dl.benchmarks NAME`` shows what a figure does, with the name that
stands behind it in brackets.
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
#: the compiled loop (``sampled``)
SAMPLE_SECONDS = 500e-6

#: steps in a chunk, and bytes of its inputs and outputs at most (``long``, ``batch``)
SHORTEST_CHUNK, LONGEST_CHUNK, CHUNK_BYTES = 64, 1024, 2**22

#: compiled programs of this process that are kept, those that were used last
KEPT = 16

#: below this batch size the special cases for small batches pay (``batch``)
SMALL_BATCH = 8

#: at most so many groups are one convolution: so many times the work of one by one
#: (``convert``)
BUNDLE = 16

#: a filter of at most so many numbers is a sum of shifted pictures where compiled
#: (``convert``)
FEW = 40

#: polynomials longer than this cost as much as the function that they replace
MAX_DEGREE = 14

#: with ``checkpoint="auto"`` the states of all steps are kept up to this size. So much
#: stays in a processor's cache; to compute a step again costs about as much as to fetch a
#: larger state from memory (``train``)
KEEP_BYTES = 2**22

#: steps of a run that is measured on an accelerator to find out how arrays should lie,
#: how often it is repeated, and for how many structures of networks that is remembered
#: (``gpu``)
STEPS, REPEATS, ARRANGED = 64, 3, 256


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
