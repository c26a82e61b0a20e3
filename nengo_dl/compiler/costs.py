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

#: from which share of entries on a constant matrix is multiplied as a dense one, for
#: matrices of so many entries at least. A dense product needs about a tenth of the time
#: for each entry, less with batches, more if no cache holds it. As machine code both take
#: as long, of neurons that spike, with 0.06 of 500 by 500 (16 items: 0.15), 0.10 of 1,000
#: by 1,000 (0.11), 0.2 of 2,000 by 2,000 and of 4,000 by 4,000 (0.27); of rates, with
#: 0.25, 0.17 and 0.14 of the last three; in TensorFlow with 0.15 and 0.14. The networks
#: are webs as of ``rivals``
DENSE_FROM = ((2**22, 1 / 6), (2**20, 1 / 10), (0, 1 / 16))

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


def is_dense(nonzeros: int, size: int) -> bool:
    """Whether a constant matrix with so many nonzeros is multiplied as a dense one.

    Parameters
    ----------
    nonzeros, size : int
        The entries that are given, and all of them.

    Examples
    --------
    >>> is_dense(70, 1000), is_dense(500_000, 4_000_000), is_dense(800_000, 4_200_000)
    (True, True, True)
    >>> is_dense(600_000, 4_200_000)
    False
    """
    share = next(share for least, share in DENSE_FROM if size >= least)
    return nonzeros >= share * size
