"""What all neuron kernels share: finding the kernel of a neuron type, and lowering."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.signal import Signal

from nengo_dl.compiler.costs import LONG_ARRAY
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import (
    Array,
    ArrayNamespace,
    Kernel,
    Params,
    Registry,
    refuse_abstract,
)
from nengo_dl.kernels.algebra import with_gradients
from nengo_dl.kernels.fallback import UnknownOperator
from nengo_dl.notices import Label, label_of, warn

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering
    from nengo_dl.surrogates import SpikeTraining

#: nengo.neurons.NeuronType subclass -> NeuronKernel
neuron_kernels: Registry[NeuronKernel] = Registry("neuron kernels")

#: "module.Class" of neuron types in other packages -> the class of their kernel
foreign_kernels: dict[str, type[NeuronKernel]] = {}


class NeuronKernel(Kernel):
    """Base of all neuron kernels; subclasses register themselves by `neuron_type`.

    Methods are given the neurons, ``neurons`` (a neuron type instance), or the operator
    ``op`` that computes ``n_neurons`` of them, together with ``low``, the
    `nengo_dl.compiler.lowering.Lowering`, and the elements of their ``current``.

    Attributes
    ----------
    neuron_type : type or str
        The `nengo.neurons.NeuronType` that this kernel computes. A subclass of it with
        a ``step`` of its own is not taken for it. A type of another package is named,
        ``"package.module.Class"``, so that the package need not be there.
    params : tuple of str
        Attributes of the neuron type that become vectors, one value per neuron.
    state : tuple of str
        State variables, in the order in which `step` takes and returns them.
    rate_form : type or None
        The neuron kernel that stands in during training; None: this one. Its state is
        among the state of this one.
    smooth_form : type or None
        A neuron type that has the same parameters and ``sigma``, whose gradient the
        setting ``lif_smoothing`` takes instead.
    crosses_threshold : bool
        The first output of `step` is made of spikes, which go through `spikes`.
    draws : type or None
        What gives one random number for each neuron and step, the last argument of
        `step`: the class of a host object (see
        `nengo_dl.compiler.lowering.Lowering.drawn`).
    adapting : tuple of str
        State variables that the items of a batch may have in common, with the setting
        ``shared_learning``; `apply` has to see to it.
    """

    neuron_type: type | str | None = None
    params: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    rate_form: type[NeuronKernel] | None = None
    smooth_form: type | None = None
    crosses_threshold = False
    draws: type | None = None
    adapting: tuple[str, ...] = ()
    operations = 20  # transcendental functions count for several
    materialize = (0,)
    merge_limit = LONG_ARRAY

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.vectors = cls.params
        if cls.neuron_type is None:
            return
        refuse_abstract(cls)
        if "smooth_form" not in vars(cls):  # a subclass computes something else
            cls.smooth_form = None
        if isinstance(cls.neuron_type, str):
            cls.name = cls.neuron_type.rpartition(".")[2]
            foreign_kernels[cls.neuron_type] = cls
            return
        cls.name = cls.neuron_type.__name__
        neuron_kernels.add(cls.neuron_type, cls())

    @classmethod
    def of(cls, neurons: Any) -> NeuronKernel | None:
        """The kernel for a neuron type instance.

        None if there is none, or if a subclass overrides ``step`` of a known type.
        """
        found = map(_kernel_of, type(neurons).__mro__)
        kernel = next((kernel for kernel in found if kernel is not None), None)
        native = getattr(getattr(kernel, "neuron_type", None), "step", None)
        return kernel if type(neurons).step is native else None

    @property
    def is_plain(self) -> bool:
        """Whether `lower` makes nodes and nothing else, neither here nor in training."""
        own = type(self)
        same = own.lower is NeuronKernel.lower and own.apply is NeuronKernel.apply
        rates = True if self.rate_form is None else self.rate_form().is_plain
        return same and rates and self.draws is None

    def values(self, neurons: Any, n_neurons: int) -> dict[str, Any]:
        """One value per neuron for each of `params`: an array that holds it once."""
        return {
            name: np.broadcast_to(np.float64(getattr(neurons, name)), n_neurons)
            for name in self.params
        }

    def highest_rate(self, neurons: Any) -> float:
        """What the output of a neuron type instance never exceeds, in output units."""
        return float("inf")

    def lower(self, op: Any, low: Lowering) -> None:
        """Set the output and the state; in training as the options say."""
        current = low.read(op.J)
        if low.options.spikes is None:
            results = self.apply(op, low, current)
        elif low.options.spikes.spiking:
            results = self.spiking_form(op, low, current)
        else:
            results = self.rates(op, low, current)
        for signal, elements in results.items():
            low.define(signal, elements)

    def apply(self, op: Any, low: Lowering, current: np.ndarray, **more: Any) -> dict:
        """One node: current and previous state in, output and next state out.

        Parameters
        ----------
        op : SimNeurons
        low : Lowering
        current : ndarray of int
            Elements of the input current.
        **more
            Parameters besides those of the neuron type.

        Returns
        -------
        dict
            Signal -> elements.
        """
        n = current.size
        values = partial(self.values, op.neurons, n)
        if type(self).values is NeuronKernel.values:  # others may draw them
            values = partial(low.memo, (self, id(op.neurons), n), values)
        params = dict(values(), **more, dt=low.dt)
        state = op.state
        states = [state[name] for name in self.state]
        inputs = [current, *(low.previous(signal) for signal in states)]
        draws = self.draws
        if draws is not None:
            low.host(op, lambda: draws(op, low.dt))
            inputs.append(low.drawn(op, n))
        sizes = [n] * (1 + len(states))
        outputs = low.node(self, inputs, sizes, params, label=_label(op))
        return dict(zip([op.output, *states], outputs))

    # training --------------------------------------------------------------------

    def rates(self, op: Any, low: Lowering, current: np.ndarray) -> dict:
        """What `apply` gives, of the rate form."""
        kernel = self
        if self.rate_form is not None:
            kind: Any = self.rate_form.neuron_type
            known = neuron_kernels.exact(kind)
            kernel = known or self.rate_form()  # rates that are no type of their own
        results = kernel.apply(op, low, current)
        sigma = low.spikes.lif_smoothing
        form = kernel.smooth_form
        smooth = None if sigma is None or form is None else neuron_kernels.exact(form)
        if smooth is None:
            return results
        params = dict(kernel.values(op.neurons, current.size), dt=low.dt)
        params["sigma"] = np.full(current.size, sigma)
        (like,) = low.node(smooth, [current], [current.size], params, label=_label(op))
        return with_gradients(low, results, {op.output: like})

    def has_rates(self) -> bool:
        """Whether `rates` differ from what `apply` gives."""
        return self.rate_form is not None

    def trains_otherwise(self, spikes: SpikeTraining | None) -> bool:
        """Whether neurons run otherwise where they are trained in this way.

        Parameters
        ----------
        spikes : SpikeTraining or None
            None: as they are.
        """
        own = type(self)
        overrides = any(
            getattr(own, name) is not getattr(NeuronKernel, name)
            for name in ("lower", "rates", "spiking_form")
        )
        smooth = getattr(spikes, "lif_smoothing", None) is not None
        other = self.crosses_threshold or self.has_rates() or overrides
        return spikes is not None and (other or (smooth and self.smooth_form is not None))

    def spiking_form(self, op: Any, low: Lowering, current: np.ndarray) -> dict:
        """What `apply` gives, with a gradient for the spikes."""
        surrogate = low.spikes.surrogate_of(op.output)
        if surrogate.of_membrane and self.crosses_threshold:
            return self.apply(op, low, current, surrogate=surrogate)
        if not self.has_rates():
            return self.rates(op, low, current)
        if surrogate.of_membrane:
            warn(
                f"the surrogate {surrogate} cannot be used for {label_of(op.neurons)}"
                f", whose "
                "spikes do not come from a membrane potential; the gradient is that of "
                "its rates. Write net.config[ens].surrogate = "
                "nengo_dl.surrogates.RateDerivative() to say so",
                once=("surrogate", str(surrogate), type(op.neurons)),
            )
        return with_gradients(
            low, self.apply(op, low, current), self.rates(op, low, current)
        )

    def flat_outputs(self, node: Node) -> tuple[int, ...]:
        """Spikes are steps, unless a surrogate takes the place of their derivative."""
        if self.crosses_threshold and "surrogate" not in node.params:
            return (0,)
        return super().flat_outputs(node)

    def spikes(
        self,
        xp: ArrayNamespace,
        p: Params,
        output: Array,
        above: Array,
        height: Array | float,
    ) -> Array:
        """The output of a spiking kernel; the one place where it crosses a threshold.

        Parameters
        ----------
        xp, p
            The arguments of `step`.
        output : array ``(n, batch)``
            Spikes.
        above : array ``(n, batch)``
            How far the membrane potential is above the (nearest) threshold, as a
            fraction of the way there from the reset potential.
        height : array or float
            Output for one spike.

        Returns
        -------
        array
            The output. In training with spikes its gradient is that of ``above``, times
            the height and the surrogate's derivative; see `nengo_dl.surrogates`.
        """
        surrogate = getattr(p, "surrogate", None)
        if surrogate is None:
            return output
        slope = xp.stop_gradient(surrogate.derivative(xp, above))
        return xp.with_gradient(output, slope * height * above)

    def detached(self, xp: ArrayNamespace, p: Params, x: Array) -> Array:
        """``x`` without surrogate gradients; ``xp`` and ``p`` are those of `step`."""
        return x if getattr(p, "surrogate", None) is None else xp.stop_gradient(x)


def _kernel_of(neuron_type) -> NeuronKernel | None:
    """The kernel of exactly this class, which may be one of another package."""
    kernel = neuron_kernels.exact(neuron_type)
    if kernel is None:
        name = f"{neuron_type.__module__}.{neuron_type.__qualname__}"
        if name in foreign_kernels:
            kernel = foreign_kernels[name]()
            kernel.neuron_type = neuron_type
            neuron_kernels.add(neuron_type, kernel)
    return kernel


def _label(op):
    """What to call the operator of a population in messages."""
    place = op.J.name.rpartition(".")[0] or op.J.name
    return Label(lambda: f"{label_of(op.neurons)} in {place}")


class UnknownNeurons(UnknownOperator):
    """Runs neurons that there is no kernel for as Python, with a warning."""

    def kind(self, op: Any) -> type:
        """What the warning speaks of: the neuron type."""
        return type(op.neurons)

    def advice(self, op: Any) -> tuple[str, str]:
        """What there is no native form of, and how to add one."""
        name = type(op.neurons).__name__
        way_out = (
            "register a kernel: a subclass of nengo_dl.builder.NeuronKernel with "
            f"neuron_type = {name}"
        )
        return f"the neuron type {name}", way_out

    def place(self, op: Any) -> str:
        """The ensemble, whose name is in that of the signal of its current."""
        return op.J.name.removesuffix(".neuron_in")

    def reaches(self, op: Any) -> frozenset | None:
        """Anything: a neuron type may hold any object."""
        return None


UNKNOWN_NEURONS = UnknownNeurons()


@lowers(SimNeurons)
class LowerNeurons(OperatorRule):
    """Sets the output and the state of a population from its input current."""

    def carries(self, op: SimNeurons) -> Iterable[Signal]:
        """The state variables, which the operator sets from their previous values."""
        if NeuronKernel.of(op.neurons) is None:
            return UNKNOWN_NEURONS.carries(op)
        return op.state.values()

    def reaches(self, op: SimNeurons) -> frozenset | None:
        """See `UnknownNeurons`; kernels run no Python."""
        if NeuronKernel.of(op.neurons) is None:
            return UNKNOWN_NEURONS.reaches(op)
        return frozenset()

    def stepwise(self, op: SimNeurons) -> bool:
        """See `UnknownNeurons`; kernels run no Python."""
        return NeuronKernel.of(op.neurons) is None

    def may_wait(self, op: SimNeurons) -> bool:
        """Where a kernel runs them that draws nothing and is lowered as all are."""
        kernel = NeuronKernel.of(op.neurons)
        return kernel is not None and kernel.is_plain

    def trains_otherwise(
        self, op: SimNeurons, training: bool, spikes: SpikeTraining | None
    ) -> bool:
        """See `NeuronKernel.trains_otherwise`; Python runs as it is."""
        kernel = NeuronKernel.of(op.neurons)
        return kernel is not None and kernel.trains_otherwise(spikes)

    def lower(self, op: SimNeurons, low: Lowering) -> None:
        """The rule of the kernel, or that of unknown neurons."""
        (NeuronKernel.of(op.neurons) or UNKNOWN_NEURONS).lower(op, low)
