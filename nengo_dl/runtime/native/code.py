"""A builder of LLVM's textual intermediate representation, for vectors of one width.

A `Code` is the body of one function. Its methods write one line each (or a few) and
return the *name* of what the line computes, a string such as ``"%v7"``, which goes into
further methods. Nothing here imports LLVM: the text is compiled by
`nengo_dl.runtime.native.compile`.

Three kinds of values are told apart by what is done with them, and it is up to the
caller not to mix them: *vectors* of ``width`` numbers, *masks* of ``width`` truth values,
and *scalars* (a number, or an index of 64 bits). Indices and byte offsets may be Python
integers as well as names: arithmetic of integers is done here, and costs nothing there.

The text keeps to what LLVM has had, in the same words, since version 19: opaque pointers,
``splat`` for constants, the oldest intrinsics, and sums of lanes written as shuffles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: an index or an offset: known here, or the name of an ``i64``
Index = int | str


@dataclass
class Loop:
    """One loop, while its body is written and afterwards.

    Attributes
    ----------
    i : int or str
        The index; the integer 0 if the body runs once.
    carried : list of str
        What the carried values are at the start of the body.
    next : list of str
        What they are at its end: the body sets it.
    results : list of str
        What they are after the loop: set when the ``with`` block ends.
    """

    i: Index
    carried: list[str]
    next: list[str] = field(init=False)
    results: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.next = list(self.carried)


@dataclass(frozen=True)
class Function:
    """The text of a function, and the declarations that it needs."""

    text: str
    declarations: frozenset[str]


def module_text(functions: Iterable[Function]) -> str:
    """The text of a module: what its functions declare, then the functions.

    Parameters
    ----------
    functions : iterable of Function
        With different names. The order is kept, and does not matter to LLVM.
    """
    functions = list(functions)
    declarations = sorted(set().union(*(f.declarations for f in functions)))
    bodies = [f.text for f in functions]
    return "\n".join([*declarations, *bodies, "attributes #0 = { nounwind }", ""])


class Code:
    """The body of one function: lines of LLVM's text.

    Parameters
    ----------
    dtype : numpy.dtype
        The type of numbers: ``float32`` or ``float64``.
    width : int
        The lanes of a vector: a power of two from 2 on. Any width is right on any
        machine; LLVM splits what is too wide for it.
    compresses : bool
        Whether it is for a machine that can `compress`.

    Attributes
    ----------
    element : str
        LLVM's name of the type of numbers, ``"float"`` or ``"double"``.
    integer : str
        Integers that are as wide as a number, ``"i32"`` or ``"i64"``.
    size : int
        Bytes of a number.
    bits : int
        Binary digits of its significand, 24 or 53.
    compresses : bool
        Whether `compress` is for this machine, and for vectors as wide as these.

    Examples
    --------
    A function that doubles ``n`` numbers, eight at a time:

    >>> code = Code("float32", 8)
    >>> with code.loop("%n", step=8) as loop:
    ...     place = code.at("%x", code.times(loop.i, code.size))
    ...     x = code.load(place)
    ...     code.store(code.op("fadd", x, x), place)
    >>> print(code.function("twice", ["ptr %x", "i64 %n"]).text.splitlines()[0])
    define void @twice(ptr %x, i64 %n) #0 {
    """

    def __init__(self, dtype: Any, width: int, compresses: bool = False) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"Code: dtype is {dtype!r}; expected float32 or float64")
        if width < 2 or width & (width - 1):
            raise ValueError(f"Code: width is {width}; expected a power of two >= 2")
        single = self.dtype == np.float32
        self.width = width
        self.size = self.dtype.itemsize
        self.bits = 24 if single else 53
        self.element = "float" if single else "double"
        self.integer = "i32" if single else "i64"
        self.declarations: set[str] = set()
        self.compresses = compresses and width in (8, 16)
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"  # the label of the block that is being written

    # lines

    def emit(self, text: str) -> str:
        """Write ``name = text`` with a new name, and return the name."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write a line that has no result."""
        self._lines.append("  " + text)

    def comment(self, text: str) -> None:
        """Write a comment, for people who read the text."""
        self._lines.append(f"  ; {text}")

    def _start_block(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def function(
        self,
        name: str,
        parameters: Sequence[str],
        result: str | None = None,
        private: bool = False,
    ) -> Function:
        """The function that has this body.

        Parameters
        ----------
        name : str
            Its name, without ``@``.
        parameters : sequence of str
            Types and names, such as ``"ptr %memory"``.
        result : str, optional
            Type and value of what it returns, such as ``"i64 %n"``; None: nothing.
        private : bool
            Whether only functions of the same module call it.
        """
        kind = result.split()[0] if result else "void"
        start = "define internal" if private else "define"
        lines = [f"{start} {kind} @{name}({', '.join(parameters)}) #0 {{", "entry:"]
        lines += [*self._lines, f"  ret {result or 'void'}", "}"]
        return Function("\n".join(lines), frozenset(self.declarations))

    def call(self, target: str, *args: str, result: str | None = None) -> str | None:
        """Call a function.

        Parameters
        ----------
        target : str
            ``"@name"`` of a function of this module or of one that is declared (see
            `declare`), or the name of a pointer to one.
        *args : str
            Types and values, such as ``"ptr %memory"``.
        result : str, optional
            The type of its result; None if it has none.
        """
        text = f"{result or 'void'} {target}({', '.join(args)})"
        if result is None:
            self.do(f"call {text}")
            return None
        return self.emit(f"call {text}")

    def declare(self, text: str) -> None:
        """Tell of a function that is defined elsewhere: ``"float @f(float)"``."""
        self.declarations.add(f"declare {text}")

    def return_if(self, condition: str, result: str) -> None:
        """Return from the function if a truth value holds.

        Parameters
        ----------
        condition : str
            An ``i1``.
        result : str
            Type and value of what is returned then, such as ``"i64 %i3"``.
        """
        self._count += 1
        leave, stay = f"leave{self._count}", f"stay{self._count}"
        self.do(f"br i1 {condition}, label %{leave}, label %{stay}")
        self._start_block(leave)
        self.do(f"ret {result}")
        self._start_block(stay)

    @contextmanager
    def narrowed(self, width: int) -> Iterator[None]:
        """Within a ``with`` block, vectors have ``width`` lanes."""
        before, self.width = self.width, width
        try:
            yield
        finally:
            self.width = before

    # types and constants

    def vector(self, element: str | None = None) -> str:
        """The type of vectors of ``element`` (default: numbers)."""
        return f"<{self.width} x {element or self.element}>"

    def number(self, value: float) -> str:
        """A number, rounded to ``dtype``, as text."""
        if self.bits == 24:
            try:
                (value,) = struct.unpack("<f", struct.pack("<f", value))
            except OverflowError:
                value = math.copysign(math.inf, value)
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"

    def _all(self, element: str, text: str) -> str:
        return f"splat ({element} {text})"

    def const(self, value: float) -> str:
        """A vector that has ``value`` in all lanes."""
        return self._all(self.element, self.number(value))

    def iconst(self, value: int) -> str:
        """A vector of integers that has ``value`` in all lanes."""
        return self._all(self.integer, str(int(value)))

    def mask_const(self, value: bool) -> str:
        """A mask with all lanes set, or none."""
        return self._all("i1", "true" if value else "false")

    # elementwise

    def op(self, name: str, a: str, b: str) -> str:
        """Arithmetic of two vectors: ``fadd``, ``fsub``, ``fmul`` or ``fdiv``."""
        return self.emit(f"{name} {self.vector()} {a}, {b}")

    def neg(self, a: str) -> str:
        """``-a``, the sign of zero and of NaN included."""
        return self.emit(f"fneg {self.vector()} {a}")

    def cmp(self, how: str, a: str, b: str) -> str:
        """The mask of a comparison.

        Parameters
        ----------
        how : str
            ``oeq``, ``ogt``, ``oge``, ``olt``, ``ole`` (not where there is NaN), ``une``,
            ``ult`` (also where there is NaN), ``uno`` (where there is NaN only), ...
        a, b : str
            Vectors.
        """
        return self.emit(f"fcmp {how} {self.vector()} {a}, {b}")

    def select(self, mask: str, a: str, b: str) -> str:
        """A vector: lanes of ``a`` where ``mask`` is set, else those of ``b``."""
        kind = self.vector()
        return self.emit(f"select {self.vector('i1')} {mask}, {kind} {a}, {kind} {b}")

    def select_mask(self, mask: str, a: str, b: str) -> str:
        """Choose between two masks, lane by lane, as `select` does between vectors."""
        kind = self.vector("i1")
        return self.emit(f"select {kind} {mask}, {kind} {a}, {kind} {b}")

    def logic(self, name: str, a: str, b: str) -> str:
        """``and``, ``or`` or ``xor`` of two masks."""
        return self.emit(f"{name} {self.vector('i1')} {a}, {b}")

    def invert(self, mask: str) -> str:
        """The lanes that are not set."""
        return self.logic("xor", mask, self.mask_const(True))

    def clamp(self, x: str, low: float, high: float) -> str:
        """``x`` limited to ``[low, high]``; NaN stays NaN."""
        bottom, top = self.const(low), self.const(high)
        x = self.select(self.cmp("ogt", x, top), top, x)
        return self.select(self.cmp("olt", x, bottom), bottom, x)

    # integers and bits

    def iop(self, name: str, a: str, b: str | int) -> str:
        """Arithmetic of vectors of integers.

        Parameters
        ----------
        name : str
            ``add``, ``sub``, ``mul``, ``and``, ``or``, ``xor``, ``shl``, ``ashr``,
            ``lshr``.
        a : str
            A vector of integers.
        b : str or int
            Another one, or one number for all lanes.
        """
        other = self.iconst(b) if isinstance(b, int) else b
        return self.emit(f"{name} {self.vector(self.integer)} {a}, {other}")

    def as_int(self, x: str) -> str:
        """The bits of numbers."""
        return self.emit(f"bitcast {self.vector()} {x} to {self.vector(self.integer)}")

    def as_float(self, x: str) -> str:
        """The numbers that have these bits."""
        return self.emit(f"bitcast {self.vector(self.integer)} {x} to {self.vector()}")

    # intrinsics

    def intrinsic(self, name: str, *args: str) -> str:
        """A function of LLVM, lane by lane.

        Parameters
        ----------
        name : str
            ``fma``, ``sqrt``, ``floor``, ``fabs``, ``roundeven`` or ``copysign``.
        *args : str
            Vectors.
        """
        kind = self.vector()
        full = f"@llvm.{name}.v{self.width}f{8 * self.size}"
        self.declare(f"{kind} {full}({', '.join([kind] * len(args))})")
        return self.emit(f"call {kind} {full}({', '.join(f'{kind} {a}' for a in args)})")

    def fma(self, a: str, b: str, c: str) -> str:
        """``a * b + c``, rounded once."""
        return self.intrinsic("fma", a, b, c)

    # addresses

    def times(self, i: Index, number: int) -> Index:
        """``i * number``, for offsets."""
        if isinstance(i, int):
            return i * number
        if number in (0, 1):
            return i if number else 0
        return self.emit(f"mul nsw i64 {i}, {number}")

    def plus(self, i: Index, j: Index) -> Index:
        """``i + j``."""
        if isinstance(i, int) and isinstance(j, int):
            return i + j
        if i == 0 or j == 0:
            return j if i == 0 else i
        return self.emit(f"add nsw i64 {i}, {j}")

    def at(self, base: str, offset: Index) -> str:
        """The address ``offset`` bytes behind the address ``base``."""
        if offset == 0:
            return base
        return self.emit(f"getelementptr inbounds i8, ptr {base}, i64 {offset}")

    # memory

    def load(self, address: str) -> str:
        """A vector of ``width`` numbers that lie side by side."""
        return self.emit(f"load {self.vector()}, ptr {address}, align {self.size}")

    def store(self, x: str, address: str, mask: str | None = None) -> None:
        """Write a vector.

        Parameters
        ----------
        x : str
            The vector.
        address : str
            Where its first lane goes.
        mask : str, optional
            The lanes that are written. What the others would overwrite is read and
            written back, so it must be memory of the same thread; where the first few
            lanes are known to be the ones, they are written alone.
        """
        if mask is not None and self._store_first(x, address, mask, self.element):
            return
        if mask is not None:
            x = self.select(mask, x, self.load(address))
        self.do(f"store {self.vector()} {x}, ptr {address}, align {self.size}")

    def _store_first(self, x: str, address: str, mask: str, kind: str) -> bool:
        """Write the first lanes of a vector of ``kind`` in two pieces at most.

        Whether that was done: it is not if more pieces are needed, or the mask is not
        known here. To write whole vectors back would make whoever reads what lies behind
        wait until both were written.
        """
        count = mask.count("true") if mask.startswith("<") else 0
        pieces = [1 << k for k in range(self.width.bit_length()) if count & 1 << k][::-1]
        if not 0 < len(pieces) <= 2:
            return False
        vector, align, first = self.vector(kind), 1 if kind == "i8" else self.size, 0
        for n in pieces:
            if n == 1:
                part, what = self.emit(f"extractelement {vector} {x}, i64 {first}"), kind
            else:
                picks = ", ".join(f"i32 {first + k}" for k in range(n))
                shuffle = f"{vector} {x}, {vector} poison, <{n} x i32> <{picks}>"
                part, what = self.emit(f"shufflevector {shuffle}"), f"<{n} x {kind}>"
            place = self.at(address, first * align)
            self.do(f"store {what} {part}, ptr {place}, align {align}")
            first += n
        return True

    def load_bool(self, address: str) -> str:
        """A mask from ``width`` bytes that are 0 or 1."""
        kind = self.vector("i8")
        x = self.emit(f"load {kind}, ptr {address}, align 1")
        return self.emit(f"trunc {kind} {x} to {self.vector('i1')}")

    def store_bool(self, x: str, address: str, mask: str | None = None) -> None:
        """Write a mask as ``width`` bytes; ``mask`` as in `store`."""
        kind = self.vector("i8")
        x = self.emit(f"zext {self.vector('i1')} {x} to {kind}")
        if mask is not None and self._store_first(x, address, mask, "i8"):
            return
        if mask is not None:  # whole bytes, which may be no truth values
            old = self.emit(f"load {kind}, ptr {address}, align 1")
            x = self.emit(f"select {self.vector('i1')} {mask}, {kind} {x}, {kind} {old}")
        self.do(f"store {kind} {x}, ptr {address}, align 1")

    def load_scalar(self, address: str, kind: str | None = None) -> str:
        """One number, or one value of the type ``kind`` (``"i8"``, ``"i32"``, ...)."""
        align = {"i8": 1, "i32": 4, "i64": 8}.get(kind or "", self.size)
        return self.emit(f"load {kind or self.element}, ptr {address}, align {align}")

    def store_scalar(self, x: str, address: str) -> None:
        """Write one number."""
        self.do(f"store {self.element} {x}, ptr {address}, align {self.size}")

    def store_index(self, i: Index, address: str) -> None:
        """Write an index below 2^32 as four bytes."""
        if not isinstance(i, int):
            i = self.emit(f"trunc i64 {i} to i32")
        self.do(f"store i32 {i}, ptr {address}, align 4")

    def load_index(self, address: str) -> str:
        """An index from four bytes, which are read as an unsigned integer."""
        return self.emit(f"zext i32 {self.load_scalar(address, 'i32')} to i64")

    def store_spread(
        self,
        x: str,
        address: str,
        stride: int,
        count: int | None = None,
        kind: str | None = None,
    ) -> None:
        """Write a vector, or its first lanes, to places ``stride`` bytes apart.

        With the kind ``"i1"`` it is a mask, of which each lane is written as a byte.
        """
        for k in range(self.width if count is None else count):
            place = self.at(address, k * stride)
            if kind != "i1":
                self.store_scalar(self.lane(x, k), place)
                continue
            one = self.emit(f"extractelement {self.vector('i1')} {x}, i64 {k}")
            self.do(f"store i8 {self.emit(f'zext i1 {one} to i8')}, ptr {place}")

    def copy_bytes(self, target: str, source: str, count: int) -> None:
        """Copy ``count`` bytes between places that do not overlap."""
        inline = count <= 256
        name = f"@llvm.memcpy{'.inline' if inline else ''}.p0.p0.i64"
        self.declare(f"void {name}(ptr, ptr, i64, i1)")
        self.call(name, f"ptr {target}", f"ptr {source}", f"i64 {count}", "i1 false")

    def clear_bytes(self, target: str, count: int) -> None:
        """Write ``count`` bytes of 0."""
        name = "@llvm.memset.p0.i64"
        self.declare(f"void {name}(ptr, i8, i64, i1)")
        self.call(name, f"ptr {target}", "i8 0", f"i64 {count}", "i1 false")

    def prefetch(self, address: str) -> None:
        """Begin to load a cache line that is read soon; any address will do."""
        self.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        # for reading, to be kept in all caches, of data
        self.call("@llvm.prefetch.p0", f"ptr {address}", "i32 0", "i32 3", "i32 1")

    # lanes

    def splat(self, x: str, kind: str | None = None) -> str:
        """A vector that has the scalar ``x`` in all lanes.

        Parameters
        ----------
        x : str
            A number, or a value of the type ``kind``.
        kind : str, optional
            ``"i1"`` for a mask, ``"i32"``, ...
        """
        kind = kind or self.element
        vector = self.vector(kind)
        one = self.emit(f"insertelement {vector} poison, {kind} {x}, i64 0")
        shuffle = f"<{self.width} x i32> zeroinitializer"
        return self.emit(f"shufflevector {vector} {one}, {vector} poison, {shuffle}")

    def splat_bool(self, address: str) -> str:
        """A mask that has the truth value of one byte in all lanes."""
        x = self.load_scalar(address, "i8")
        return self.splat(self.emit(f"trunc i8 {x} to i1"), "i1")

    def lane(self, x: str, number: int) -> str:
        """One lane of a vector, a scalar."""
        return self.emit(f"extractelement {self.vector()} {x}, i64 {number}")

    def pack(self, scalars: Sequence[str]) -> str:
        """A vector of ``width`` scalars."""
        x, kind = "poison", self.vector()
        for k, scalar in enumerate(scalars):
            x = self.emit(f"insertelement {kind} {x}, {self.element} {scalar}, i64 {k}")
        return x

    def fixed_mask(self, count: int) -> str:
        """The mask of the first ``count`` lanes, a constant."""
        bits = ("true" if k < count else "false" for k in range(self.width))
        return f"<{', '.join(f'i1 {bit}' for bit in bits)}>"

    def lanes_below(self, count: Index) -> str:
        """The mask of the first ``count`` lanes; all of them if there are more."""
        if isinstance(count, int):
            return self.fixed_mask(count)
        # lanes are counted in integers as wide as numbers, so that the comparison gives a
        # mask that fits them; what is cut off of a count does not matter below 2^31
        kind = self.integer
        if kind != "i64":
            count = self.emit(f"trunc i64 {count} to {kind}")
        lanes = ", ".join(f"{kind} {k}" for k in range(self.width))
        limit = self.splat(count, kind)
        return self.emit(f"icmp slt {self.vector(kind)} <{lanes}>, {limit}")

    def ragged(self, n: int, i: Index) -> str | None:
        """The mask of the lanes from index ``i`` on that are below ``n``.

        None if all vectors are full, so that no mask is needed.
        """
        if n % self.width == 0:
            return None
        if isinstance(i, int):
            return None if n - i >= self.width else self.fixed_mask(n - i)
        if n < self.width:
            return self.fixed_mask(n)
        return self.lanes_below(self.emit(f"sub nsw i64 {n}, {i}"))

    def total(self, x: str) -> str:
        """The sum of the lanes, a scalar: upper half plus lower half until one is left.

        The order is the same on all machines.
        """
        return self.emit(f"extractelement <1 x {self.element}> {self._fold(x, 1)}, i64 0")

    def _fold(self, x: str, lanes: int) -> str:
        """Halves added until ``lanes`` are left."""
        n = self.width
        while n > lanes:
            whole, n = f"<{n} x {self.element}>", n // 2
            halves = []
            for start in (0, n):
                picks = ", ".join(f"i32 {start + k}" for k in range(n))
                shuffle = f"{whole} {x}, {whole} poison, <{n} x i32> <{picks}>"
                halves.append(self.emit(f"shufflevector {shuffle}"))
            x = self.emit(f"fadd <{n} x {self.element}> {halves[0]}, {halves[1]}")
        return x

    def store_totals(self, vectors: Sequence[str], address: str) -> None:
        """Write the sums of the lanes of some vectors side by side.

        Four at a time are summed together, which takes half the instructions.
        """
        done = 0
        while self.width >= 4 and len(vectors) - done >= 4:
            sums = self._four_totals(vectors[done : done + 4])
            place = self.at(address, done * self.size)
            self.do(f"store <4 x {self.element}> {sums}, ptr {place}, align {self.size}")
            done += 4
        for k in range(done, len(vectors)):
            self.store_scalar(self.total(vectors[k]), self.at(address, k * self.size))

    def _four_totals(self, vectors: Sequence[str]) -> str:
        """Add up four vectors: four lanes of sums, each in the order of `total`."""
        kind = f"<4 x {self.element}>"

        def sums(a: str, b: str, first: str, second: str) -> str:
            parts = [
                self.emit(f"shufflevector {kind} {a}, {kind} {b}, <4 x i32> <{picks}>")
                for picks in (first, second)
            ]
            return self.emit(f"fadd {kind} {parts[0]}, {parts[1]}")

        a, b, c, d = (self._fold(x, 4) for x in vectors)
        lower, upper = "i32 0, i32 1, i32 4, i32 5", "i32 2, i32 3, i32 6, i32 7"
        ab, cd = sums(a, b, lower, upper), sums(c, d, lower, upper)
        even, odd = "i32 0, i32 2, i32 4, i32 6", "i32 1, i32 3, i32 5, i32 7"
        return sums(ab, cd, even, odd)

    # loops

    @contextmanager
    def loop(
        self,
        n: Index,
        step: int = 1,
        carried: Sequence[str] = (),
        kind: str | None = None,
        maybe_empty: bool = False,
    ) -> Iterator[Loop]:
        """A counted loop: ``for i in range(0, n, step)``.

        Parameters
        ----------
        n : int or str
            The end. Without ``maybe_empty`` the body runs at least once.
        step : int
            How much the index grows.
        carried : sequence of str
            Values that go from one round to the next: their start.
        kind : str, optional
            The type of the carried values (default: vectors of numbers).
        maybe_empty : bool
            Whether ``n`` may be 0, which is then looked at before the first round.

        Yields
        ------
        Loop
            Its ``i`` and ``carried`` are for the body, which sets ``next``; ``results``
            is there afterwards.
        """
        if isinstance(n, int) and n <= 0:
            raise ValueError(f"Code.loop: the end is {n}; expected a positive number")
        if isinstance(n, int) and n <= step:  # once
            loop = Loop(0, list(carried))
            yield loop
            loop.results = list(loop.next)
            return
        self._count += 1
        number, before, kind = self._count, self._block, kind or self.vector()
        head, end = f"loop{number}", f"end{number}"
        names = [f"%c{number}_{j}" for j in range(len(carried))]
        loop = Loop(f"%i{number}", names)
        if maybe_empty:
            some = self.emit(f"icmp sgt i64 {n}, 0")
            self.do(f"br i1 {some}, label %{head}, label %{end}")
        else:
            self.do(f"br label %{head}")
        self._start_block(head)
        place = len(self._lines)
        yield loop
        after = self.emit(f"add nuw nsw i64 {loop.i}, {step}")
        more = self.emit(f"icmp slt i64 {after}, {n}")
        last = self._block
        self._lines[place:place] = [
            f"  {loop.i} = phi i64 [ 0, %{before} ], [ {after}, %{last} ]",
            *self._phis(kind, names, (carried, before), (loop.next, last)),
        ]
        self.do(f"br i1 {more}, label %{head}, label %{end}")
        self._start_block(end)
        loop.results = list(loop.next)
        if maybe_empty:
            loop.results = [f"%r{number}_{j}" for j in range(len(carried))]
            ends = (carried, before), (loop.next, last)
            self._lines += self._phis(kind, loop.results, *ends)

    @staticmethod
    def _phis(
        kind: str,
        names: Sequence[str],
        first: tuple[Sequence[str], str],
        second: tuple[Sequence[str], str],
    ) -> list[str]:
        """Lines that give values by the block that one comes from."""
        return [
            f"  {name} = phi {kind} [ {a}, %{first[1]} ], [ {b}, %{second[1]} ]"
            for name, a, b in zip(names, first[0], second[0], strict=True)
        ]

    def mask_bits(self, masks: Sequence[str]) -> str:
        """The lanes of some masks as bits of one ``i64``, the first lane the lowest.

        There must be no more than 64 lanes.
        """
        width, word = self.width, ""
        for k, mask in enumerate(masks):
            part = self.emit(f"bitcast {self.vector('i1')} {mask} to i{width}")
            if width < 64:
                part = self.emit(f"zext i{width} {part} to i64")
            if k:
                part = self.emit(f"shl i64 {part}, {k * width}")
            word = self.emit(f"or i64 {word}, {part}") if k else part
        return word

    def counted(self, start: Index) -> str:
        """A vector of the indices from ``start`` on, of four bytes each."""
        kind = self.vector("i32")
        lanes = f"<{', '.join(f'i32 {k}' for k in range(self.width))}>"
        if isinstance(start, int):
            first = f"splat (i32 {start})"
        else:
            first = self.splat(self.emit(f"trunc i64 {start} to i32"), "i32")
        return self.emit(f"add {kind} {first}, {lanes}")

    def compress(self, indices: str, mask: str) -> str:
        """A vector of indices, those first of which the lanes are set in a mask.

        Only for vectors of 8 or 16 lanes, on a machine that has an instruction for it
        (see `nengo_dl.runtime.native.compile.has_compress`).
        """
        kind, bits = self.vector("i32"), self.vector("i1")
        name = f"@llvm.x86.avx512.mask.compress.v{self.width}i32"
        self.declare(f"{kind} {name}({kind}, {kind}, {bits})")
        return self.emit(
            f"call {kind} {name}({kind} {indices}, {kind} zeroinitializer, {bits} {mask})"
        )

    def count_set(self, mask: str) -> str:
        """How many lanes of a mask are set, an ``i64``."""
        kind = f"i{self.width}"
        bits = self.emit(f"bitcast {self.vector('i1')} {mask} to {kind}")
        self.declare(f"{kind} @llvm.ctpop.{kind}({kind})")
        count = self.emit(f"call {kind} @llvm.ctpop.{kind}({kind} {bits})")
        return self.emit(f"zext {kind} {count} to i64")

    @contextmanager
    def set_bits(
        self, bits: str, carried: Sequence[str] = (), kind: str | None = None
    ) -> Iterator[Loop]:
        """A loop over the bits that are set in an ``i64``, from the lowest one on.

        Parameters
        ----------
        bits : str
            What `mask_bits` gives; nothing need be set.
        carried, kind
            As in `loop`.

        Yields
        ------
        Loop
            Its ``i`` is the number of the bit, an ``i64``.
        """
        self._count += 1
        number, before, kind = self._count, self._block, kind or self.vector()
        look, body, end = f"look{number}", f"bit{number}", f"end{number}"
        left = f"%m{number}"
        names = [f"%c{number}_{j}" for j in range(len(carried))]
        self.do(f"br label %{look}")
        self._start_block(look)
        place = len(self._lines)
        some = self.emit(f"icmp ne i64 {left}, 0")
        self.do(f"br i1 {some}, label %{body}, label %{end}")
        self._start_block(body)
        self.declare("i64 @llvm.cttz.i64(i64, i1)")
        lane = self.emit(f"call i64 @llvm.cttz.i64(i64 {left}, i1 true)")
        loop = Loop(lane, names)
        yield loop
        less = self.emit(f"sub i64 {left}, 1")
        rest = self.emit(f"and i64 {left}, {less}")
        self._lines[place:place] = [
            f"  {left} = phi i64 [ {bits}, %{before} ], [ {rest}, %{self._block} ]",
            *self._phis(kind, names, (carried, before), (loop.next, self._block)),
        ]
        self.do(f"br label %{look}")
        self._start_block(end)
        loop.results = names
