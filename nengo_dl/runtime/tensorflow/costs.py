"""What steps cost in TensorFlow: every figure that these executors decide by.

``python -m nengo_dl.benchmarks NAME`` shows what a figure does, with the name that stands
behind it in brackets.
"""

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

#: numbers that a step is given, up to which it is run to find out which buffers it needs,
#: and not traced once more: two of them are no memory to speak of
MOST_RUN = 2**20

#: polynomials longer than this cost as much as the function that they replace
MAX_DEGREE = 14

#: with ``checkpoint="auto"`` the states of all steps of a loop are kept up to this size.
#: To compute a step again costs about as much as to fetch its state from memory, but two
#: loops inside of each other take a second longer to compile (``train``)
KEEP_BYTES = 2**26

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

#: products in training are computed from the neurons that spiked if they have so many
#: multiplications, and at most this share of the spikes is not zero in a sample of rows
#: (``train``). Two threads take as long either way at a share of some 0.4, or 0.35 for
#: the gradient of the matrix, and one at 0.3 or 0.25: of 1600 rows, 784 by 256 take 0.36,
#: 0.55 and 0.75 of the dense product with 0.2, 0.3 and 0.4, the gradient 0.52, 0.77 and
#: 0.94. 256 by 128 take 0.30, 0.43 and 0.53, and 0.42, 0.60 and 0.84 (``train spikes25``)
LEAST_PRODUCT, MOST_SPIKES, SAMPLED_ROWS = 2**25, 0.25, 16

#: loops of neurons are trained in machine code of ours from so many numbers of all steps
#: on, because to call it takes 0.1 ms (a batch of 10 steps of 8 items: 2.6 and not 2.0
#: ms). However wide they are it takes less than XLA: 0.78 of the time of a loop alone
#: with 1024 neurons, 0.61 with 4096, 0.45 with 65536
LEAST_NUMBERS = 2**17

#: parameters from which on Adam updates them in machine code of ours: a batch takes 0.95
#: of the time with 2**16, 0.96 with 2**15, 0.97 with 2**10 (``train spikes25``)
LEAST_UPDATED = 2**16
