"""What steps cost in NumPy: every figure that this executor decides by.

Estimates are made from the plan of a step alone, never from a clock: the same calls run
in the same way in every process.
"""

#: estimated seconds for each kernel of a step, and for each elementary operation
#: (``python -m nengo_dl.benchmarks first`` measures what comes of them)
KERNEL_SECONDS, OPERATION_SECONDS = 5e-6, 0.3e-9

#: seconds for leaving a probe out until its next sample, for each sample: asking whether
#: there is one (``python -m nengo_dl.benchmarks sampled``)
SAMPLE_SECONDS = 5e-6

# How array operations are written; ``python -m nengo_dl.benchmarks step`` and ``compare``
# show what comes of these figures.

#: sums of at most this many terms become additions (0.3 us each against 1.2 us)
SUM_BY_ADDS = 3

#: stacks of at most this many products become calls of ``dot`` (0.5 us against 1.2)
PRODUCTS_BY_DOT = 2

#: from this number of elements on, ``where`` works on bits instead of copying
SELECT_BY_BITS = 1024

#: operands of fewer elements are taken as they are; constants do not grow beyond
SMALL, LARGE = 256, 2**20

#: nanoseconds: to start an inner loop, to take a row, to call NumPy
LOOP_COST, ROW_COST, CALL_COST = 8.0, 1.5, 500.0

#: below this number of elements starting an inner loop takes most of its time
SHORT_LOOP = 64

#: steps that compute nothing and are copied at once, and bytes of what they are given: as
#: for machine code. 20,000 steps of four noises take 10.7 ms with 256, 7.1 with 1024 and
#: 6.1 with 4096, most of which is drawing
COPIED_STEPS, COPIED_BYTES = 1024, 2**24
