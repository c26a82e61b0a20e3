"""What a step is made of: one file for each kind of operation.

Each file holds the rule that lowers an operator, the traits that the compiler asks for,
and the code of one time step, written once against the array namespace. Importing this
package registers all of them.
"""

from nengo_dl.kernels import algebra, functions, processes, time
from nengo_dl.kernels.learning import pes
from nengo_dl.kernels.neurons import lif, rectified_linear, sigmoid, tanh
from nengo_dl.kernels.synapses import linear_filter

__all__ = [
    "algebra",
    "functions",
    "lif",
    "linear_filter",
    "pes",
    "processes",
    "rectified_linear",
    "sigmoid",
    "tanh",
    "time",
]
