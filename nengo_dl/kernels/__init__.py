"""What a step is made of: one file for each kind of operation.

Each file holds the rule that lowers an operator, the traits that the compiler asks for,
and the code of one time step, written once against the array namespace. Importing this
package registers all of them.
"""

from nengo_dl.kernels import (
    algebra,
    convolution,
    fallback,
    functions,
    penalties,
    sparse,
    tensor_function,
    time,
)
from nengo_dl.kernels.learning import bcm, normalize, oja, outer, pes, rls, stdp, voja
from nengo_dl.kernels.neurons import (
    adaptive_lif,
    adaptive_threshold,
    clipped_relu,
    izhikevich,
    leaky_relu,
    lif,
    loihi,
    poisson,
    rectified_linear,
    sigmoid,
    soft_lif,
    spikes_of_rates,
    tanh,
)
from nengo_dl.kernels.processes import base, noise, signals
from nengo_dl.kernels.synapses import linear_filter, triangle

__all__ = [
    "adaptive_lif",
    "adaptive_threshold",
    "algebra",
    "base",
    "bcm",
    "clipped_relu",
    "convolution",
    "fallback",
    "functions",
    "izhikevich",
    "leaky_relu",
    "lif",
    "linear_filter",
    "loihi",
    "noise",
    "normalize",
    "oja",
    "outer",
    "penalties",
    "pes",
    "poisson",
    "rectified_linear",
    "rls",
    "sigmoid",
    "signals",
    "soft_lif",
    "sparse",
    "spikes_of_rates",
    "stdp",
    "tanh",
    "tensor_function",
    "time",
    "triangle",
    "voja",
]
