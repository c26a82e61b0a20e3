"""Expressions that may stand in a drawn network, as strings of Python.

Every list below is one choice. To add a neuron type, a synapse, a process, ... add a
line to its list.
"""

from hypothesis import strategies as st


def number(low, high):
    """A number between two bounds that is unlikely to be hit by a sum of others."""
    digits = st.integers(0, 997)
    return digits.map(lambda k: f"{low + (high - low) * (k + 0.618034) / 998:.6g}")


def call(name, *args, **kwargs):
    """A call with these arguments, of which those with a name may be left out.

    Arguments are strategies, or strings to be taken as they are.
    """

    def text(parts):
        given, named = parts
        return f"{name}({', '.join([*given, *(f'{k}={v}' for k, v in named.items())])})"

    fixed = st.tuples(*map(strategy, args))
    optional = {k: strategy(v) for k, v in kwargs.items()}
    return st.tuples(fixed, st.fixed_dictionaries({}, optional=optional)).map(text)


def strategy(part):
    """A strategy as it is; a string as the strategy that draws nothing else."""
    return st.just(part) if isinstance(part, str) else part


def values(*shape):
    """An expression for an array of numbers in [-1, 1]."""
    size = ", ".join(map(str, shape))
    return st.integers(0, 99).map(lambda seed: f"uniform({seed}, {size})")


seeds = st.integers(0, 99).map(str)

# synapses ------------------------------------------------------------------------

#: a synapse that delays by a step at least, as a loop needs it
SYNAPSES = [
    call("nengo.Lowpass", number(0.002, 0.05)),
    call("nengo.Alpha", number(0.002, 0.02)),
    st.just("nengo.Lowpass(0)"),
    call("nengo.synapses.Triangle", number(0.001, 0.006)),
    call("nengo.LinearFilter", "[1]", st.just("[0.0004, 0.03, 1]")),
    call("nengo.LinearFilter", "[0.01, 1]", "[0.02, 1]", method="'euler'"),
    call("nengo.LinearFilter", "[0.5, 0.2]", "[1, -0.4]", "analog=False"),
    call("nengo.LinearFilter", "[0.2]", "[1, -0.5, 0.1]", "analog=False"),
    call("nengo.LinearFilter", "[0.7]", "[1]", "analog=False"),
    call("Delay", st.integers(1, 4).map(str)),
]
synapses = st.one_of(SYNAPSES)
maybe_synapses = st.one_of(st.just("None"), synapses)

# distributions -------------------------------------------------------------------

DISTRIBUTIONS = [
    st.just("nengo.dists.Uniform(-1, 1)"),
    call("nengo.dists.Gaussian", "0", number(0.1, 0.8)),
    st.just("nengo.dists.UniformHypersphere()"),
    st.just("nengo.dists.CosineSimilarity(4)"),
]
distributions = st.one_of(DISTRIBUTIONS)

# processes -----------------------------------------------------------------------

noise_dists = call("nengo.dists.Gaussian", number(-0.2, 0.2), number(0.01, 0.1))
flags = st.sampled_from(["True", "False"])
own_seed = {"seed": seeds}

#: outputs of a node, by the node's size
PROCESSES = [
    lambda d: call("nengo.processes.WhiteNoise", noise_dists, scale=flags, **own_seed),
    lambda d: call(
        "nengo.processes.FilteredNoise", synapse=synapses, dist=noise_dists, **own_seed
    ),
    lambda d: call(
        "nengo.processes.WhiteSignal",
        number(0.04, 0.5),
        st.integers(30, 90).map("high={}".format),
        rms=number(0.2, 0.8),
        y0=number(-0.2, 0.2),
        **own_seed,
    ),
    lambda d: call("nengo.processes.PresentInput", values(3, d), number(0.001, 0.02)),
    lambda d: values(2, d).map(
        lambda v: f"nengo.processes.Piecewise({{0.011: {v}[0], 0.0337: {v}[1]}})"
    ),
    lambda d: call("nengo.processes.BrownNoise", **own_seed),
    lambda d: call("Leak", **own_seed),
]

#: noise of an ensemble
NOISES = [
    call("nengo.processes.WhiteNoise", noise_dists, scale=flags, **own_seed),
    call("nengo.processes.FilteredNoise", synapse=synapses, dist=noise_dists, **own_seed),
    call("nengo.processes.WhiteSignal", "0.1", "high=40", rms=number(0.1, 0.3)),
]

#: processes with an input, of the same size as their output
FILTERING = [synapses, call("Leak", **own_seed)]

# neurons -------------------------------------------------------------------------

RATES = (
    "max_rates=nengo.dists.Uniform(90, 210), intercepts=nengo.dists.Uniform(-0.9, 0.6)"
)
DIRECT = "gain=nengo.dists.Uniform(0.6, 2.9), bias=nengo.dists.Uniform(-0.3, 1.9)"
SMALL = "gain=nengo.dists.Uniform(0.4, 2.1), bias=nengo.dists.Uniform(-1, 1)"
STRONG = "gain=nengo.dists.Uniform(3, 9), bias=nengo.dists.Uniform(2, 14)"


def neurons(name, *args, tunings=("", RATES, DIRECT), **kwargs):
    """A neuron type, and what its ensembles may be given as tuning."""
    return st.tuples(call(name, *args, **kwargs), st.sampled_from(tunings))


def state(**dists):
    """Initial values for some of a neuron's state."""
    items = ", ".join(f"'{k}': nengo.dists.Uniform{v}" for k, v in dists.items())
    return f"{{{items}}}"


amplitude = number(0.5, 2)
lif = {
    "tau_rc": number(0.01, 0.04),
    "tau_ref": number(0.0005, 0.0024),
    "amplitude": amplitude,
}
adaptation = {"tau_n": number(0.01, 0.2), "inc_n": number(0.01, 0.2)}
threshold = {"tau_theta": number(0.01, 0.5), "inc_theta": number(0.01, 0.3)}

RATE_TYPES = [
    neurons("nengo.LIFRate", **lif),
    neurons("nengo.RectifiedLinear", amplitude=amplitude),
    neurons("nengo.Sigmoid", tunings=("", DIRECT, SMALL)),
    neurons("nengo.Sigmoid", tau_ref=number(0.001, 0.01), tunings=(DIRECT, SMALL)),
    neurons("nengo.Tanh", tau_ref=number(0.001, 0.01), tunings=(DIRECT, SMALL)),
    neurons("nengo.AdaptiveLIFRate", **lif, **adaptation),
    neurons("nengo_dl.AdaptiveThresholdLIFRate", **lif, **threshold),
    neurons("nengo_dl.ClippedReLU", max_value=number(20, 150), amplitude=amplitude),
    neurons("nengo_dl.SoftLIFRate", sigma=number(0.01, 1), **lif),
    neurons("nengo_dl.LeakyReLU", negative_slope=number(0.05, 0.5), amplitude=amplitude),
    neurons("Saturating", strength=number(0, 2)),
]


def spikes_of_rates(name):
    """Spikes of the rates of some other neuron type."""
    base = st.one_of(RATE_TYPES)
    return st.tuples(base, amplitude).map(
        lambda drawn: (f"{name}({drawn[0][0]}, amplitude={drawn[1]})", drawn[0][1])
    )


SPIKING_TYPES = [
    neurons("nengo.LIF", **lif),
    neurons(
        "nengo.LIF",
        min_voltage=number(-2, 0),
        initial_state=state(voltage=(0, 1), refractory_time=(0, 0.003)),
        **lif,
    ),
    neurons("nengo.SpikingRectifiedLinear", amplitude=amplitude),
    neurons("nengo_dl.SpikingLeakyReLU", negative_slope=number(0.05, 0.5)),
    neurons("nengo.AdaptiveLIF", **lif, **adaptation),
    neurons("nengo_dl.AdaptiveThresholdLIF", **lif, **threshold),
    neurons(
        "nengo.Izhikevich",
        tau_recovery=number(0.01, 0.1),
        coupling=number(0.1, 0.3),
        reset_voltage=number(-70, -50),
        reset_recovery=number(2, 10),
        tunings=("", STRONG),
    ),
    spikes_of_rates("nengo.RegularSpiking"),
    spikes_of_rates("nengo.StochasticSpiking"),
]
NEURONS = [*RATE_TYPES, *SPIKING_TYPES]
neuron_types = st.one_of(NEURONS)

# functions -----------------------------------------------------------------------

#: of a vector with ``d`` entries: (body of the function, entries of its value)
FUNCTIONS = [
    lambda d: ("x[0] * x[-1]", 1),
    lambda d: ("np.square(x)", d),
    lambda d: ("np.sin(2 * x)", d),
    lambda d: ("np.abs(x)", d),
    lambda d: ("x[::-1]", d),
    lambda d: ("[x[0], 0.3, np.tanh(x[-1])]", 3),
    lambda d: ("np.mean(x)", 1),
    lambda d: ("0.25", 1),
    lambda d: ("np.outer(x, x).ravel()", d * d),
]

#: of the time, for a node with ``d`` entries
TIME_FUNCTIONS = [
    lambda d: f"lambda t: np.sin(40 * t + np.arange({d}))",
    lambda d: f"lambda t: t * np.ones({d})",
    lambda d: f"lambda t: np.cos(60 * t) * (0.4 + 0.3 * np.arange({d}))",
]

# transforms ----------------------------------------------------------------------

#: from as many numbers to as many, one by one
DIAGONALS = [
    lambda n: st.just(f"nengo.transforms.NoTransform({n})"),
    lambda n: number(-1, 1),
    lambda n: values(n),
    lambda n: call("nengo.Dense", f"({n}, {n})", number(-1, 1).map("init={}".format)),
]

#: from ``m`` to ``n`` numbers
DENSE = [
    lambda n, m: values(n, m),
    lambda n, m: call("nengo.Dense", f"({n}, {m})", distributions.map("init={}".format)),
]

#: the same, where Nengo takes it: not for decoders, and not where a rule learns
SPARSE = [
    lambda n, m: values(n, m).map(f"nengo.Sparse(({n}, {m}), init=sparse({{}}))".format),
    lambda n, m: st.tuples(
        st.integers(0, n - 1), st.integers(0, m - 1), number(-1, 1)
    ).map(lambda v: f"nengo.Sparse(({n}, {m}), indices=[[{v[0]}, {v[1]}]], init={v[2]})"),
]


def diagonals(n):
    """An expression for a transform that keeps numbers apart."""
    return st.one_of([make(n) for make in DIAGONALS])


def matrices(n, m, sparse=True):
    """An expression for a transform from ``m`` to ``n`` numbers."""
    return st.one_of([make(n, m) for make in DENSE + (SPARSE if sparse else [])])


padding = {"padding": st.sampled_from(["'same'", "'valid'"])}
filters = st.integers(1, 3).map(str)


def image(name, filters, shape, kernel, strides, **options):
    """A convolution; what is not drawn is given as text."""
    sizes = f"{shape}, kernel_size={kernel}, strides={strides}"
    return call(name, filters, sizes, **padding, **options)


#: transforms of images (the sizes follow from them)
CONVOLUTIONS = [
    image("nengo.Convolution", filters, "(4, 2)", "(3,)", "(2,)"),
    image("nengo.Convolution", filters, "(3, 4, 2)", "(2, 3)", "(1, 2)"),
    image(
        "nengo.Convolution", filters, "(2, 3, 3), channels_last=False", "(2, 2)", "(1, 1)"
    ),
    image("nengo.Convolution", "4", "(3, 3, 2), groups=2", "(2, 2)", "(1, 1)"),
    image("nengo.ConvolutionTranspose", filters, "(3, 2)", "(3,)", "(2,)"),
    image("nengo.ConvolutionTranspose", filters, "(2, 3, 2)", "(2, 3)", "(2, 1)"),
]

# solvers -------------------------------------------------------------------------

#: for decoders of ``n`` neurons and ``d`` numbers
SOLVERS = [
    lambda n, d: call("nengo.solvers.LstsqL2", reg=number(0.05, 0.2)),
    lambda n, d: call("nengo.solvers.Lstsq", "rcond=0.05"),
    lambda n, d: call("nengo.solvers.LstsqNoise"),
    lambda n, d: call("nengo.solvers.LstsqMultNoise"),
    lambda n, d: call("nengo.solvers.LstsqL2nz"),
    lambda n, d: call("nengo.solvers.LstsqDrop", "drop=0.3"),
    lambda n, d: values(n, d).map("nengo.solvers.NoSolver({} * 0.01)".format),
]


def solvers(n, d):
    """An expression for a solver that gives these decoders."""
    return st.one_of([make(n, d) for make in SOLVERS])


#: for weights between neurons
WEIGHT_SOLVERS = [
    st.just("nengo.solvers.LstsqL2(weights=True)"),
    st.just("nengo.solvers.LstsqDrop(weights=True, drop=0.4)"),
]

# learning rules ------------------------------------------------------------------


def digits(low, high):
    """The logarithm of a number is drawn instead of the number."""
    return number(low, high).map(lambda text: f"{10 ** float(text):.4g}")


#: that change decoders or weights, and learn from an error
DECODER_RULES = [
    call("nengo.PES", digits(-5, -3), pre_synapse=maybe_synapses),
    call("nengo.RLS", digits(-4, -2), pre_synapse=maybe_synapses),
]

#: of the rules that learn from spikes
bounds = {"w_min": number(-3, -1), "w_max": number(0.1, 3)}

#: the rules with bounds: (name, exponents and factors, time constants)
BOUNDED_RULES = [
    ("STDP", ("mu_plus", "mu_minus", "a_pre", "a_post"), ("tau_plus", "tau_minus")),
    ("TripletSTDP", (), ("tau_plus", "tau_minus", "tau_x", "tau_y")),
    ("ModulatedSTDP", ("mu_plus", "mu_minus"), ("tau_plus", "tau_minus", "tau_e")),
]

#: that change weights between neurons
WEIGHT_RULES = [
    call(
        "nengo.BCM",
        digits(-11, -9),
        pre_synapse=maybe_synapses,
        post_synapse=maybe_synapses,
        theta_synapse=synapses,
    ),
    call(
        "nengo.Oja",
        digits(-8, -6),
        pre_synapse=maybe_synapses,
        post_synapse=maybe_synapses,
        beta=number(0.2, 1.5),
    ),
    *(
        call(
            f"nengo_dl.learning_rules.{name}",
            digits(-3, -1),
            **bounds,
            **{key: number(0, 1.5) for key in powers},
            **{key: number(0.003, 0.1) for key in times},
            pairing=st.sampled_from(["'all'", "'nearest'"]),
            coincident=st.sampled_from(["'ignored'", "'causal'"]),
        )
        for name, powers, times in BOUNDED_RULES
    ),
    call(
        "nengo_dl.learning_rules.Normalize",
        number(0.1, 3),
        every=st.sampled_from(["None", "0.006", "0.017"]),
        axis=st.sampled_from(["'pre'", "'post'"]),
    ),
]


def own_rules(modifies):
    """Those of a user, that change any decoders or weights."""
    given = digits(-3, -1), number(-0.01, 0.01), f"'{modifies}'"
    return [call(name, *given) for name in ("Creep", "Halve")]


#: that change encoders
ENCODER_RULES = [call("nengo.Voja", digits(-3, -1), post_synapse=maybe_synapses)]

# networks ------------------------------------------------------------------------

#: networks of Nengo: (expression, names of inputs, names of outputs)
NETWORKS = [
    ("nengo.networks.EnsembleArray(9, 3)", ["input"], ["output"]),
    ("nengo.networks.EnsembleArray(8, 2, ens_dimensions=2)", ["input"], ["output"]),
    ("nengo.networks.Product(10, 2)", ["input_a", "input_b"], ["output"]),
    ("nengo.networks.CircularConvolution(6, 4)", ["input_a", "input_b"], ["output"]),
]
