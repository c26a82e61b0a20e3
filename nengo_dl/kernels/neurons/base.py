"""What all neuron kernels share: finding the kernel of a neuron type, and lowering."""

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.exceptions import BuildError

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.registry import Registry
from nengo_dl.compiler.traits import Kernel

#: nengo.neurons.NeuronType subclass -> NeuronKernel
neuron_kernels: Registry = Registry("neuron kernels")


class NeuronKernel(Kernel):
    """Base of all neuron kernels; subclasses register themselves by `neuron_type`.

    Attributes
    ----------
    neuron_type : type
        The `nengo.neurons.NeuronType` that this kernel computes. A subclass of it with
        a ``step`` of its own is not taken for it.
    params : tuple of str
        Attributes of the neuron type that become vectors, one value per neuron.
    state : tuple of str
        State variables, in the order in which `step` takes and returns them.
    rate_form : type or None
        The neuron kernel that stands in during training; None: this one.
    """

    neuron_type: type | None = None
    params: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    rate_form: type | None = None
    operations = 20  # transcendental functions count for several
    materialize = (0,)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.neuron_type is None:
            return
        cls.vectors = cls.params
        cls.name = cls.neuron_type.__name__
        neuron_kernels.add(cls.neuron_type, cls())

    @classmethod
    def of(cls, neurons) -> "NeuronKernel":
        """The kernel for a neuron type instance.

        Raises
        ------
        BuildError
            If there is none, or if a subclass overrides ``step`` of a known type.
        """
        kernel = neuron_kernels.find(type(neurons))
        if kernel is not None and type(neurons).step is kernel.neuron_type.step:
            return kernel
        name = type(neurons).__name__
        known = ", ".join(sorted(t.__name__ for t, _ in neuron_kernels.items()))
        raise BuildError(
            f"NengoDL has no kernel for the neuron type {name} ({neurons}). Add one: a "
            f"subclass of nengo_dl.kernels.neurons.base.NeuronKernel with "
            f"neuron_type = {name}, in a new file nengo_dl/kernels/neurons/"
            f"{name.lower()}.py (or anywhere that is imported before the Simulator is "
            f"made). Known neuron types: {known}"
        )

    def values(self, neurons, n_neurons: int) -> dict[str, np.ndarray]:
        """One value per neuron for each of `params`."""
        return {
            name: np.full(n_neurons, getattr(neurons, name), np.float64)
            for name in self.params
        }


@lowers(SimNeurons)
class LowerNeurons(OperatorRule):
    """Sets the output and the state of a population from its input current."""

    def carries(self, op):
        """The state variables, which the operator sets from their previous values."""
        return op.state.values()

    def lower(self, op, low):
        """One node: current and previous state in, output and next state out."""
        kernel = NeuronKernel.of(op.neurons)
        current = low.read(op.J)
        n = current.size
        params = dict(kernel.values(op.neurons, n), dt=low.dt)
        if low.options.training and kernel.rate_form is not None:
            kernel = neuron_kernels.exact(kernel.rate_form.neuron_type)
            params = {k: v for k, v in params.items() if k in (*kernel.params, "dt")}
        states = [op.state[name] for name in kernel.state]
        inputs = [current, *(low.previous(signal) for signal in states)]
        outputs = low.node(kernel, inputs, [n] * len(inputs), params, label=str(op))
        for signal, elements in zip([op.output, *states], outputs):
            low.define(signal, elements)
