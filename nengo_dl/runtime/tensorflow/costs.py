"""When a loop compiled by TensorFlow pays: every figure that this executor decides by.

A simulation in NumPy starts at once. A compiled loop first costs the import of
TensorFlow, 2 to 5 seconds and some 650 MB, and then the compiling. So it has to be worth
that. ``python -m nengo_dl.benchmarks NAME`` shows what a figure does, with the name that
stands behind it in brackets.
"""

from __future__ import annotations

import math

from nengo_dl.runtime.executor import Work

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


#: seconds that a step has to take here for large products to leave machine code, and how
#: many times faster they have to be
LEAST_SECONDS, TIMES_FASTER = 5e-3, 2.0

#: estimated seconds for each kernel of a step, and for each elementary operation beside
#: products (``compare``, ``batch``)
KERNEL_SECONDS, OPERATION_SECONDS = 1e-6, 0.2e-9

#: the same for one multiplication of a product: in small batches, where the memory that
#: a matrix takes decides, and in larger ones (``compare``, ``batch``)
SMALL_PRODUCT_SECONDS, PRODUCT_SECONDS = 0.1e-9, 0.04e-9


def seconds_before_compiling(work: Work) -> float:
    """How much time in NumPy is taken before a loop is compiled."""
    imported = work.on_accelerator or work.has_tensors
    return IMPORTED_SECONDS if imported else COMPILE_SECONDS


def seconds_per_step(work: Work) -> float:
    """About how long one step takes in the compiled loop."""
    products, others = work.operations
    small = work.batch < SMALL_BATCH
    product = SMALL_PRODUCT_SECONDS if small else PRODUCT_SECONDS
    kernels = KERNEL_SECONDS * len(work.layout.groups())
    return kernels + product * products + OPERATION_SECONDS * others


def pays_beside(work: Work) -> bool:
    """Whether a step is much faster than in machine code, and long enough to matter."""
    ours = seconds_per_step(work)
    rival = math.inf if work.rival is None else work.rival
    return ours > LEAST_SECONDS and TIMES_FASTER * ours <= rival
