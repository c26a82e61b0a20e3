"""What all executors share: every figure that they, and the choice of one, go by.

What one of them decides by alone stands in the ``costs.py`` of its room. ``python -m
nengo_dl.benchmarks NAME`` shows what a figure does, with the name that stands behind it
in brackets.
"""

#: runs so short that handing them to a compiled loop costs more than they do; they do not
#: count when it is asked whether that pays (``first``)
SHORT_RUN = 16

#: steps that are looked through at once for samples (``sampled``)
WINDOW = 4096

#: estimated seconds for reading a probe, for each byte; one of fewer bytes is never worth
#: a program of its own (``sampled``)
BYTE_SECONDS, LEAST_BYTES = 1e-9, 4096

# executors that go step by step

#: steps whose probe data are handed over at once, and about how many bytes at most; one
#: step may have more (``long``)
CHUNK_STEPS, CHUNK_BYTES = 256, 2**22

#: steps after which the state is copied at the latest, so that a step that fails can be
#: undone, and bytes that are kept of the steps since (``long``, ``python_functions``)
JOURNAL_STEPS, JOURNAL_BYTES = 256, 2**24

#: so many sets of probes that are read together get a program of their own (``sampled``)
SETS = 8
