"""What the compiler may ask a kernel.

The passes never name a kernel. They ask for its traits: which of its parameters are
vectors, which are matrices, what may be merged with what, what zero input gives, whether
it runs as Python. A kernel answers by class attributes; see `Kernel`. Kernels, operators
and neuron types make themselves known in registries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from nengo_dl.compiler.namespace import Array, ArrayNamespace

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node


class Kernel(ABC):
    """Base of everything that is not affine: its traits, and its code for one step.

    Subclasses are stateless; one instance serves all nodes. State of the simulation
    goes through the arguments and results of `step`. The other methods are asked about a
    ``node``, a `nengo_dl.compiler.graph.Node` of this kernel.

    Attributes
    ----------
    name : str
        Short and unique; shown by ``describe``.
    vectors : tuple of str
        Parameters with one value for each element of the first output. Merged nodes
        have them concatenated.
    matrices : tuple of str
        Parameters that are stacked along a new first axis when nodes are merged. They
        may be trained.
    matrix : str or None
        Set if the kernel computes ``params[matrix] @ inputs[0]`` and nothing else.
    zero_preserving : bool
        All-zero inputs give all-zero outputs.
    zero_inputs : tuple of int or None
        Which inputs are enough for that, whatever the others are. None: all of them.
    host : bool
        Calls Python: it cannot be compiled, and it is never merged or shared.
    batch_first : int or None
        Calls library code that wants the batch as the first axis of its arrays; from so
        many rows on it is worth it.
    tensorflow : bool
        Calls a function of TensorFlow tensors; the program makes sure that it can.
    stepwise : bool
        Belongs into the loop over time, even if it depends on no state.
    side_effects : bool
        Must run even if nothing reads its outputs.
    differentiable : bool
        False: gradients through it are zero.
    cut_inputs : tuple of int
        Inputs that get no gradient, on purpose: another one gets it.
    merge_limit : int or None
        Nodes whose first output has more elements run alone: their arrays are so long
        that putting them side by side costs more than a kernel of their own.
    operations : int
        Elementary operations for each output element, about.
    materialize : tuple of int
        Inputs that `step` reads more than once; see ``xp.materialize``.
    joins_items : tuple of int
        Inputs of which the items of a batch are put together: they have a column for each
        item, and the outputs have one for all. All other inputs have one column, too, and
        what is put together are whole batches of single steps, in the loop over time.
        Empty for all but a few kernels.
    """

    name = "kernel"
    vectors: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    matrix: str | None = None
    zero_preserving = False
    zero_inputs: tuple[int, ...] | None = None
    host = False
    batch_first: int | None = None
    tensorflow = False
    stepwise = False
    side_effects = False
    differentiable = True
    cut_inputs: tuple[int, ...] = ()
    merge_limit: int | None = None
    operations = 2
    materialize: tuple[int, ...] = ()
    joins_items: tuple[int, ...] = ()

    @property
    def called_for_each(self) -> bool:
        """Whether it calls something from outside, which has a column for each item."""
        return self.host or self.tensorflow

    def static(self, node: Node) -> tuple[tuple[str, Hashable], ...]:
        """The parameters of a node that are neither vectors nor matrices."""
        arrays = self.vectors + self.matrices
        plain = [item for item in node.params.items() if item[0] not in arrays]
        return tuple(sorted(plain))

    def merge_key(self, node: Node) -> Hashable:
        """Nodes with equal keys may become one batched kernel."""
        limit = self.merge_limit
        alone = limit is not None and bool(node.outputs) and node.outputs[0][1] > limit
        if self.host or alone:
            return (self.name, id(node))
        shapes: tuple = ()
        if self.matrices:
            shapes = tuple(tuple(node.params[m].shape) for m in self.matrices)
            shapes += tuple(i.size for i in node.inputs)
        return (
            self.name,
            len(node.inputs),
            len(node.outputs),
            self.static(node),
            shapes,
        )

    def fingerprint(self, node: Node) -> Hashable | None:
        """Nodes with equal fingerprints and equal inputs have equal outputs.

        None: the node equals no other (it has side effects or draws random numbers).
        """
        if self.host or self.side_effects:
            return None
        sizes = tuple([size for _, size in node.outputs])
        arrays = self.vectors + self.matrices
        values = tuple([_fingerprint(node.params[name]) for name in arrays])
        return (self.name, sizes, self.static(node), values)

    def outcome(
        self,
        params: Mapping[str, Any],
        inputs: Sequence[np.ndarray],
        sizes: Sequence[int],
    ) -> list[np.ndarray] | None:
        """What a node puts out in every step if its inputs never change.

        Of a product with a fixed matrix, and of a kernel that keeps zeros zero.

        Parameters
        ----------
        params : mapping
            The node's parameters.
        inputs : sequence of (n,) ndarray
        sizes : sequence of int
            Of the outputs.

        Returns
        -------
        list of (n,) ndarray, or None
            None if that cannot be said before it runs.
        """
        if self.side_effects or not sizes:
            return None
        matrix = None if self.matrix is None else params.get(self.matrix)
        if isinstance(matrix, np.ndarray):
            return [matrix @ inputs[0]]
        if self.zero_preserving and not any(values.any() for values in inputs):
            return [np.zeros(size) for size in sizes]
        return None

    def flat_outputs(self, node: Node) -> tuple[int, ...]:
        """Outputs of a node whose gradient is zero everywhere.

        All of them if the kernel is not differentiable; steps, such as spikes.
        """
        return () if self.differentiable else tuple(range(len(node.outputs)))

    def cost(self, node: Node) -> float:
        """Elementary operations of one step, about; guides choices, never results."""
        if self.matrices:
            return float(np.prod(node.params[self.matrices[0]].shape))
        return float(self.operations * sum(size for _, size in node.outputs))

    def in_double(self, node: Node) -> bool:
        """Whether a node computes in double precision, whatever the simulation does.

        Numbers pass between such nodes as in `nengo_dl.compiler.exact_callbacks`.
        """
        return False

    def giving_digits(self, params: Mapping, rows: np.ndarray) -> Mapping[str, Any]:
        """The parameters of a node with one more output, the digits of some rows.

        Parameters
        ----------
        params : mapping
            The node's parameters.
        rows : ndarray of int
            Rows of its outputs, counted through.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.giving_digits is missing: a kernel that computes "
            "in_double must be able to give them (see nengo_dl.compiler.exact_callbacks)"
        )

    def taking_digits(
        self, params: Mapping, masks: tuple[np.ndarray, ...]
    ) -> Mapping[str, Any]:
        """The parameters of a node that gets some of its inputs as digits.

        They are one more input, below one another. The other inputs are left without
        those rows; one that has no row left is left out.

        Parameters
        ----------
        params : mapping
            The node's parameters.
        masks : tuple of ndarray of bool
            For each input, which of its rows come as digits.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.taking_digits is missing: a kernel that computes "
            "in_double must be able to take them (see nengo_dl.compiler.exact_callbacks)"
        )

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Constants that `step` needs, computed once from a merged group's parameters.

        Parameters
        ----------
        params : mapping
            The group's parameters in float64: vectors are concatenated arrays of shape
            ``(n,)``, static ones are plain values; matrices are left out.

        Returns
        -------
        mapping
            What `step` finds in ``p``. Arrays of shape ``(n,)`` arrive there as columns
            ``(n, 1)``, or as one number if all their entries are equal. Other values
            arrive unchanged.
        """
        return params

    @abstractmethod
    def step(
        self, xp: ArrayNamespace, p: Params, *inputs: Any, **more: Any
    ) -> tuple[Array, ...]:
        """One time step.

        Parameters
        ----------
        xp : array namespace
            NumPy or TensorFlow behind one set of functions.
        p : namespace
            What `derive` returned, the stacked matrices ``(groups, ...)`` (equal
            constant ones only once, ``(1, ...)``), and ``p.groups``, the number of
            merged nodes.
        inputs : arrays
            ``(n, batch)`` each, the merged nodes one below the other.
        more
            Nothing: it leaves the names and the number of inputs to subclasses, for type
            checkers.

        Returns
        -------
        tuple of arrays
            One ``(n, batch)`` array for each output.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _fingerprint(value) -> Hashable:
    """Equal for equal arrays and for references to the same part of a parameter."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    return value.fingerprint


class Params:
    """Attribute access to what a kernel's `step` needs."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **values: Any):
        self.__dict__.update(values)


# registries ---------------------------------------------------------------------------

T = TypeVar("T")


def refuse_abstract(cls: type) -> None:
    """Refuse a class that has not got all methods that its base classes leave to it.

    Raises
    ------
    TypeError
        If an abstract method is missing.
    """
    for base in cls.__bases__:
        for name in sorted(getattr(base, "__abstractmethods__", ())):
            method = getattr(cls, name)
            if getattr(method, "__isabstractmethod__", False):
                raise TypeError(
                    f"{cls.__qualname__} has no method {name}(), which is abstract in "
                    f"{method.__module__}.{method.__qualname__.rpartition('.')[0]}: "
                    + (method.__doc__ or "").partition("\n")[0]
                )


class Registry(Generic[T]):
    """A mapping from classes to entries, looked up along the method resolution order.

    Parameters
    ----------
    what : str
        What is registered, for messages.

    Attributes
    ----------
    default : object or None
        What stands in for classes without an entry, where whoever looks them up makes
        use of it; `find` does not.

    Examples
    --------
    >>> sounds = Registry("sound")
    >>> @sounds.register(int)
    ... def beep(): ...
    >>> sounds.find(bool) is beep
    True
    """

    def __init__(self, what: str):
        self.what = what
        self._entries: dict[type, T] = {}
        self.default: T | None = None

    def register(self, *classes: type) -> Callable[[T], T]:
        """Decorator that makes its object the entry of each of ``classes``."""

        def decorate(entry: T) -> T:
            for cls in classes:
                self.add(cls, entry)
            return entry

        return decorate

    def add(self, cls: type, entry: T) -> None:
        """Make ``entry`` the one for ``cls``; a later entry replaces an earlier one.

        Raises
        ------
        TypeError
            If ``cls`` is no class, or if ``entry`` is one that lacks a method.
        """
        if not isinstance(cls, type):
            raise TypeError(f"Registry of {self.what}: expected a class, got {cls!r}")
        if isinstance(entry, type):
            refuse_abstract(entry)
        self._entries[cls] = entry

    def find(self, cls: type) -> T | None:
        """The entry of the closest ancestor of ``cls``, or None."""
        return next((self._entries[c] for c in cls.__mro__ if c in self._entries), None)

    def exact(self, cls: type) -> T | None:
        """The entry of ``cls`` itself, or None."""
        return self._entries.get(cls)

    def items(self) -> Iterator[tuple[type, T]]:
        """All entries, in the order in which they were registered."""
        return iter(tuple(self._entries.items()))

    def __contains__(self, cls: Any) -> bool:
        return isinstance(cls, type) and self.find(cls) is not None

    def __len__(self) -> int:
        return len(self._entries)


#: nengo operator class -> `nengo_dl.compiler.lowering.OperatorRule`
operators: Registry[Any] = Registry("operator rules")

#: name -> kernel that the passes themselves insert (sums have one, for example)
structural: dict[str, Any] = {}
