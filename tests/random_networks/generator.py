"""Draws networks, each with the program that makes it."""

from dataclasses import dataclass, field

import nengo
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from nengo.exceptions import NengoException

from tests.random_networks import objects, parts
from tests.random_networks.journey import ACTIONS

HEADER = "from tests.random_networks.objects import *"
RECEIVERS = frozenset(
    ["passthrough", "ensemble", "direct", "neurons", "function", "process with input"]
)


@dataclass
class Place:
    """Something that connections start or end at.

    Parameters
    ----------
    text : str
        The expression for it.
    kind : str
        What it is.
    order : int
        When it was made. A connection without a synapse leads to a later place only, so
        that no loop is without a delay.
    """

    text: str
    kind: str
    order: int


@dataclass
class Case:
    """A network, and how to simulate it.

    Parameters
    ----------
    lines : list of str
        The program that makes it.
    dt : float
        Length of a time step in seconds.
    batch : int or None
        The simulator's ``minibatch_size``.
    pieces : tuple of int
        The numbers of steps of one run after the other.
    fed : bool
        Whether input nodes get data, which they run as functions of time otherwise.
    unroll : int
        The simulator's ``unroll_simulation``.
    opened : int, optional
        The piece before which parameters count as written, so that nothing is folded.
    between : tuple of str
        What happens after each piece, see `.journey.ACTIONS`.
    again : bool
        Whether all of it runs once more after a reset.
    frozen : bool
        Whether it is frozen in the end, and runs in Nengo with what was learned.
    predicted : bool
        Whether several batches with the same data are predicted, too.
    jit : bool
        Whether the TensorFlow tier runs it.
    native : bool
        Whether machine code does. Neither: NumPy.
    refused : str, optional
        Why Nengo does not take one of the lines.
    """

    lines: list = field(default_factory=lambda: [HEADER])
    dt: float = 0.001
    batch: int | None = None
    pieces: tuple = (objects.STEPS,)
    fed: bool = False
    unroll: int = 1
    opened: int | None = None
    between: tuple = ()
    again: bool = False
    frozen: bool = False
    predicted: bool = False
    jit: bool = False
    native: bool = False
    refused: str | None = None

    def make(self):
        """A new network, and the names of everything in the program."""
        names = {}
        exec(self.program, names)
        return names["net"], names

    @property
    def program(self):
        """The program as text."""
        return "\n".join(self.lines)

    def __repr__(self):
        names = ["dt", "batch", "pieces", "fed", "unroll", "opened", "between", "again"]
        names += ["frozen", "predicted", "jit", "native"]
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{self.program}\n# {settings}"

    def _repr_pretty_(self, printer, cycle):
        """What hypothesis shows; `Disagreement` holds the program."""
        printer.text("...")


class Drawing:
    """A case in the making.

    Every line is run as soon as it is drawn, so that what follows can ask Nengo for
    sizes and for what may be probed.
    """

    def __init__(self, draw):
        self.draw = draw
        self.case = Case()
        self.names = {}
        self.places, self.probeable = [], []
        self.networks, self.owners = ["net"], {}
        self.number = 0
        exec(HEADER, self.names)

    def choose(self, options):
        """One of several."""
        return self.draw(st.sampled_from(options))

    def chance(self, percent):
        """True in so many of a hundred draws; shrinks to False."""
        return self.draw(st.integers(0, 99)) >= 100 - percent

    def several(self, steps, most=7):
        """Some of these steps, in any order.

        A step and the draw before it can be left out together when a failure is shrunk.
        """
        for _ in range(most):
            if self.chance(80):
                self.choose(steps)(self)

    def evaluate(self, text):
        """The value of an expression in the program."""
        return eval(text, self.names)

    def line(self, text):
        """Add a line to the program."""
        self.case.lines.append(text)
        try:
            exec(text, self.names)
        except NengoException as error:  # Nengo refuses it: no network to compare
            raise Refused(f"{text}: {error}") from error

    def make(self, what, expression, inside=()):
        """Add a line that makes an object; gives its name.

        It goes into any of the networks; if it refers to others, into theirs, or into the
        outermost network, which Nengo builds last.
        """
        self.number += 1
        name = f"{what}{self.number}"
        owners = {
            self.owners[text.partition(".")[0].partition("[")[0]] for text in inside
        }
        if len(owners) == 1:
            network = self.choose(["net", *owners])
        else:
            network = "net" if owners else self.choose(self.networks)
        self.owners[name] = network
        self.line(f"with {network}: {name} = {expression}")
        return name

    def place(self, text, kind):
        """Let connections start or end at an object."""
        self.places.append(Place(text, kind, self.number))

    # places ------------------------------------------------------------------------

    def subnetwork(self):
        """A network in a network."""
        self.networks.append(self.make("part", "nengo.Network()"))

    def feed(self, size=None):
        """A node that gets data: from outside, or as a function of time."""
        size = self.draw(st.integers(1, 3)) if size is None else size
        seed = self.draw(parts.seeds)
        name = self.make("feed", f"nengo.Node(Feed({seed}, {size}, {self.case.dt}))")
        self.place(name, "feed")

    def node(self):
        """A node without input."""
        d = self.draw(st.integers(1, 3))
        kind = self.choose(["constant", "function of time", "process", "process"])
        if kind == "constant":
            output = self.draw(parts.values(d))
        elif kind == "process":
            output = self.draw(self.choose(parts.PROCESSES)(d)) + f", size_out={d}"
        else:
            output = self.choose(parts.TIME_FUNCTIONS)(d)
        self.place(self.make("node", f"nengo.Node({output})"), kind)

    def node_with_input(self):
        """A node that computes something of its input, or passes it on."""
        d = self.draw(st.integers(1, 3))
        kind = self.choose(["passthrough", "function", "process with input"])
        output = "None"
        if kind == "function":
            body, _ = self.choose(parts.FUNCTIONS)(d)
            output = f"lambda t, x: {body}"
        elif kind == "process with input":
            output = self.draw(st.one_of(parts.FILTERING)) + f", size_out={d}"
        self.place(self.make("node", f"nengo.Node({output}, size_in={d})"), kind)

    def ensemble(self, direct=True):
        """An ensemble, maybe in Direct mode; if not, its neurons are a place as well."""
        n, d = self.choose([5, 8, 13, 20, 2, 1]), self.draw(st.integers(1, 3))
        given = [str(n), str(d)]
        if direct and self.chance(5):
            given.append("neuron_type=nengo.Direct()")
        else:
            neuron_type, tuning = self.draw(parts.neuron_types)
            given += (
                [f"neuron_type={neuron_type}", tuning]
                if tuning
                else [f"neuron_type={neuron_type}"]
            )
        options = {
            "radius": (20, parts.number(0.5, 2)),
            "encoders": (10, parts.values(n, d)),
            "normalize_encoders": (10, parts.flags),
            "n_eval_points": (10, st.sampled_from(["40", "150"])),
            "noise": (10, st.one_of(parts.NOISES)),
            "seed": (10, parts.seeds),
        }
        for name, (percent, strategy) in options.items():
            if self.chance(percent):
                given.append(f"{name}={self.draw(strategy)}")
        name = self.make("ens", f"nengo.Ensemble({', '.join(given)})")
        direct = isinstance(self.evaluate(name).neuron_type, nengo.Direct)
        self.place(name, "direct" if direct else "ensemble")
        self.probeable += [name]
        if not direct:
            self.place(f"{name}.neurons", "neurons")
            self.probeable += [f"{name}.neurons"]

    def library(self):
        """One of the networks that come with Nengo."""
        expression, inputs, outputs = self.choose(parts.NETWORKS)
        name = self.make("lib", expression)
        for attribute in inputs:
            self.place(f"{name}.{attribute}", "passthrough")
        for attribute in outputs:
            self.place(f"{name}.{attribute}", "output")

    # connections ---------------------------------------------------------------------

    def sliced(self, text, size):
        """A place or a part of it: (expression, size, whether something is repeated)."""
        if size == 1 or not self.chance(40):
            return text, size, False
        i, j = self.draw(st.integers(0, size - 1)), self.draw(st.integers(-size, -1))
        options = [f"[{i}]", f"[{j}]", f"[{i}:]", f"[:{i + 1}]", "[::-1]", "[::2]"]
        options += [f"[[{i}, {(i + 1) % size}]]", f"[-1:{i - 1 - size}:-1]"]
        options += [f"[[{i}, {i}]]", f"[[{i}, {j}, 0]]"]
        part = self.choose(options)
        chosen = np.atleast_1d(eval(f"a{part}", {"a": np.arange(size)}))
        assume(chosen.size > 0)
        return text + part, chosen.size, len(set(chosen)) < chosen.size

    def receiver(self):
        """A place that connections may end at."""
        return self.choose([p for p in self.places if p.kind in RECEIVERS])

    def start(self, pre):
        """Where a connection starts: (arguments, size, whether something is repeated)."""
        text, size, repeated = self.sliced(pre.text, self.evaluate(pre.text).size_out)
        given = []
        if pre.kind not in ("neurons", "passthrough", "output") and self.chance(30):
            body, size = self.choose(parts.FUNCTIONS)(size)
            given.append(f"function=lambda x: {body}")
        if pre.kind == "ensemble" and self.chance(20):
            n = self.evaluate(pre.text).n_neurons
            given.append(f"solver={self.draw(parts.solvers(n, size))}")
        return text, given, size, repeated

    def plain(self):
        """A connection without learning."""
        pre, post = self.choose(self.places), self.receiver()
        source, given, size, repeated = self.start(pre)
        target, size_out, repeated_out = self.sliced(
            post.text, self.evaluate(post.text).size_in
        )
        order = post.order
        if (repeated or repeated_out) and size != size_out:  # Nengo takes no matrix then
            target, size_out = self.make("node", f"nengo.Node(size_in={size})"), size
            self.place(target, "passthrough")
            order = self.number
        forward = pre.order < order
        synapse = self.draw(parts.maybe_synapses if forward else parts.synapses)
        given.append(f"synapse={synapse}")
        if repeated or repeated_out or (size == size_out and self.chance(40)):
            if self.chance(60):
                given.append(f"transform={self.draw(parts.diagonals(size))}")
        elif pre.kind == "neurons" and self.chance(70):  # whose output is large
            weights = self.draw(parts.values(size_out, size))
            given.append(f"transform={weights} * 0.01")
        elif size != size_out or self.chance(50):
            sparse = pre.kind != "ensemble"
            given.append(f"transform={self.draw(parts.matrices(size_out, size, sparse))}")
        self.connect(source, target, given)

    def connect(self, source, target, given):
        """Make a connection; gives its name."""
        arguments = ", ".join([source, target, *given])
        name = self.make("conn", f"nengo.Connection({arguments})", [source, target])
        self.probeable.append(name)
        return name

    def convolution(self):
        """A connection with a convolution, to a node of its size."""
        pre = self.choose(self.places)
        transform = self.draw(st.one_of(parts.CONVOLUTIONS))
        conv = self.make("conv", transform)
        image, out = (
            self.evaluate(f"{conv}.{shape}.size")
            for shape in ("input_shape", "output_shape")
        )
        target = self.make("node", f"nengo.Node(size_in={out})")
        source, size = pre.text, self.evaluate(pre.text).size_out
        if size != image:
            source = self.make("node", f"nengo.Node(size_in={image})")
            weights = self.draw(parts.matrices(image, size, sparse=False))
            self.connect(pre.text, source, [f"transform={weights}"])
        self.place(target, "passthrough")
        synapse = self.draw(parts.maybe_synapses)
        self.connect(source, target, [f"transform={conv}", f"synapse={synapse}"])

    def between_neurons(self):
        """The arguments of a connection between neurons that has all weights."""
        ensembles = [p for p in self.places if p.kind == "ensemble"]
        pre, post = self.choose(ensembles), self.choose(ensembles)
        synapse = f"synapse={self.draw(parts.synapses)}"
        if self.chance(50):
            solver = f"solver={self.draw(st.one_of(parts.WEIGHT_SOLVERS))}"
            sizes = (self.evaluate(p.text).dimensions for p in (post, pre))
            transform = f"transform={self.draw(parts.matrices(*sizes, sparse=False))}"
            return pre.text, post.text, [solver, transform, synapse]
        n, m = (self.evaluate(p.text).n_neurons for p in (post, pre))
        transform = f"transform={self.draw(parts.values(n, m))} * 0.01"
        return f"{pre.text}.neurons", f"{post.text}.neurons", [transform, synapse]

    def weights(self):
        """A connection from neurons to neurons."""
        self.connect(*self.between_neurons())

    # learning ------------------------------------------------------------------------

    def learning_decoders(self):
        """A connection that learns its decoders, and maybe encoders."""
        pre = self.choose([p for p in self.places if p.kind in ("ensemble", "neurons")])
        post = self.receiver()
        size = self.evaluate(pre.text).size_out
        size_out = self.evaluate(post.text).size_in
        given = [f"synapse={self.draw(parts.synapses)}"]
        if pre.kind == "neurons":  # whose output is large
            given.append(f"transform={self.draw(parts.values(size_out, size))} * 0.01")
        elif size != size_out or self.chance(50):
            given.append(
                f"transform={self.draw(parts.matrices(size_out, size, sparse=False))}"
            )
        rules = parts.DECODER_RULES + parts.own_rules("decoders")
        if post.kind == "ensemble":
            rules = rules + parts.ENCODER_RULES
        elif (pre.kind, post.kind) == ("ensemble", "neurons"):
            # Nengo's RLS takes the error for one of decoded values
            rules = [rule for rule in rules if rule is not parts.DECODER_RULES[1]]
        self.learning(pre.text, post.text, given, rules)

    def learning_weights(self):
        """A connection that learns the weights between neurons."""
        rules = parts.WEIGHT_RULES + parts.DECODER_RULES[:1]
        rules = rules + parts.own_rules("weights")
        self.learning(*self.between_neurons(), rules)

    def learning(self, source, target, given, rules):
        """A connection with learning rules, and what they learn from."""
        texts = [self.draw(st.one_of(rules))]
        if self.chance(20):
            texts.append(self.draw(st.one_of(rules)))
        form = self.choose(["list", "dict"]) if len(texts) > 1 else "single"
        keys = {"single": [""], "list": ["[0]", "[1]"], "dict": ["['a']", "['b']"]}[form]
        types = {
            "single": texts[0],
            "list": f"[{', '.join(texts)}]",
            "dict": f"{{'a': {texts[0]}, 'b': {texts[-1]}}}",
        }[form]
        name = self.connect(source, target, [*given, f"learning_rule_type={types}"])
        for key in keys:
            rule = f"{name}.learning_rule{key}"
            self.probeable.append(rule)
            size = self.evaluate(rule).size_in
            if size > 0:
                pre = self.choose(self.places)
                size_out = self.evaluate(pre.text).size_out
                scale = 0.01 if pre.kind == "neurons" else 0.5
                transform = (
                    f"transform={scale} * {self.draw(parts.values(size, size_out))}"
                )
                synapse = f"synapse={self.draw(parts.synapses)}"
                self.connect(pre.text, rule, [transform, synapse])

    # probes ------------------------------------------------------------------------

    def probe(self):
        """A probe of anything."""
        text = self.choose([p.text for p in self.places] + self.probeable)
        obj = self.evaluate(text)
        attribute = self.choose(
            [a for a in obj.probeable if a not in unknown_to_nengo(obj)]
        )
        given = [text, f"{attribute!r}"]
        size = getattr(obj, "size_out", 0)
        if attribute in ("output", "decoded_output") and size > 1:
            if not isinstance(obj, nengo.Connection):
                given[0], *_ = self.sliced(text, size)
        if self.chance(40):
            given.append(f"synapse={self.draw(parts.maybe_synapses)}")
        if self.chance(20):
            period = self.choose([2, 5, 3.4, 1, 1.5])
            given.append(f"sample_every={period * self.case.dt:g}")
        if attribute == "decoded_output" and given[0] == text and self.chance(10):
            n, d = obj.n_neurons, obj.dimensions
            given.append(f"solver={self.draw(parts.solvers(n, d))}")
        self.make("probe", f"nengo.Probe({', '.join(given)})", [text])


def unknown_to_nengo(obj):
    """What Nengo says can be probed, and cannot be (or not as numbers)."""
    if isinstance(obj, nengo.Connection):
        if not obj.has_weights:
            return {"weights", "output"}
        if isinstance(obj.transform, nengo.Sparse):
            return {"weights"}
    if isinstance(obj, nengo.Ensemble) and isinstance(obj.neuron_type, nengo.Direct):
        return {"scaled_encoders"}
    return set()


class Refused(Exception):
    """Nengo does not take a line of a drawn program."""


PLACES = [
    Drawing.ensemble,
    Drawing.node,
    Drawing.node,
    Drawing.node_with_input,
    Drawing.feed,
    Drawing.ensemble,
    Drawing.library,
    Drawing.subnetwork,
]
LINKS = [
    Drawing.plain,
    Drawing.plain,
    Drawing.plain,
    Drawing.plain,
    Drawing.weights,
    Drawing.learning_decoders,
    Drawing.learning_weights,
    Drawing.convolution,
]


@st.composite
def cases(draw, tier="mixed"):
    """Networks and how to simulate them.

    Parameters
    ----------
    tier : str
        "numpy", "native" or "tensorflow"; "mixed" (default): the first two, and now and
        then the last one, which takes long to compile.
    """
    drawing = Drawing(draw)
    try:
        network(drawing)
    except Refused as error:
        drawing.case.refused = str(error)
    case = drawing.case
    case.batch = drawing.choose([None, None, 1, 3])
    case.pieces = drawing.choose([(60,), (1, 20, 39), (1, 1, 1, 57), (7, 53)])
    case.fed = case.batch == 3 or drawing.chance(40)  # batch items differ in their data
    case.unroll = drawing.choose([1, 1, 1, 7])
    if drawing.chance(30):
        case.opened = draw(st.integers(0, len(case.pieces) - 1))
    if drawing.chance(50):
        actions = st.sampled_from(list(ACTIONS))
        case.between = tuple(draw(actions) for _ in case.pieces)
    case.again = drawing.chance(15)
    case.frozen = drawing.chance(15)
    case.jit = drawing.chance(8) if tier == "mixed" else tier == "tensorflow"
    half = not case.jit and drawing.chance(50)
    case.native = half if tier == "mixed" else tier == "native"
    case.predicted = case.jit and case.fed and drawing.chance(40)
    return case


def network(drawing):
    """Draw a network, with all that is in it."""
    draw, case = drawing.draw, drawing.case
    case.dt = drawing.choose([0.001, 0.001, 0.0005, 0.002])
    drawing.line(f"net = nengo.Network(seed={draw(parts.seeds)})")
    drawing.feed()
    drawing.ensemble(direct=False)
    drawing.several(PLACES)
    drawing.several(LINKS)
    drawing.probe()
    drawing.several([Drawing.probe])
