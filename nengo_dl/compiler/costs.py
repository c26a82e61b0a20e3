"""What a step is made of, whoever runs it: every figure that this is decided by.

They weigh a call against the elements that it is about, which is much the same in all
executors; what differs stands in the ``costs.py`` of each. ``python -m
nengo_dl.benchmarks NAME`` shows what a figure does, with the name that stands behind it
in brackets.
"""

#: a row of a matrix with at most this many nonzeros is cheaper as a sum (``compare``)
SPARSE_ROW = 4

#: where equal values are shared: places of a table for each entry that is repeated, and
#: bits of the number of a place at most, for tables of 16 MiB (``big``)
PLACES, TABLE_BITS = 16, 24

#: from how many nodes on they are put in the order in which others need them: a step of
#: fewer stays in the cache, however its values are gathered (``big``)
LINED_UP = 1024

#: multiplications for each element that cost about as much as to write and read it: so
#: much is computed in the loop rather than before or after it (``batch``)
CHEAP = 8

#: sums at least this long are kernels of their own: gathering them costs more than a call
#: (``compare``)
LONG_SUM = 4096

#: elements of an elementwise kernel, and numbers of a matrix that rules of learning
#: change, from which on they are better off alone (``compare``)
LONG_ARRAY, LARGE_MATRIX = 4096, 8192

#: a read of at most this many runs is put together from slices (``step``)
LONGEST_CONCAT = 6

#: from this share of entries on, a constant matrix is multiplied as a dense one. A dense
#: product needs about a tenth of the time for each entry, less with batches (``batch``)
DENSE_FROM = 1 / 16

#: state variables that a filter may have to be written out, one product after the other
#: (``step``)
WRITTEN_OUT = 3

#: for fewer columns than this Python is quicker than NumPy (``python_functions``)
FEW_COLUMNS = 16

#: of operators that run as Python: signals of so many entries have inputs and outputs of
#: their own (``python_functions``)
LARGE_SIGNAL = 1024

#: likewise: results of so many bytes are written into arrays that are used in turn; of
#: what they hold others keep at most so many bytes, or one
LARGE_BYTES, KEPT_BYTES = 2**16, 2**24

#: likewise: so many bytes are copied in less time than a call takes
FEW_BYTES = 2**14
