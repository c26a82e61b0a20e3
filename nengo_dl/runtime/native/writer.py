"""From a plan to the text of a function that runs many steps.

``i64 run(ptr state, ptr memory, ptr fixed, ptr inputs, ptr outputs, i64 steps, ptr
call)`` returns how many steps came to their end: fewer than asked for if a Python
function failed. Where there are several blocks, ``void blocks(..., i64 count, i64 apart,
i64 in, i64 out)`` has the same parameters, the number of blocks, and how many bytes their
states, inputs and outputs are apart: it calls ``run`` for one block after the other.

Each kind of instruction has one function that writes its code, and makes itself known
with `writes`; `.loops` writes what is fused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.code import Code, Function, module_text
from nengo_dl.runtime.native.compile import has_compress
from nengo_dl.runtime.native.memory import FIXED, INPUTS, MEMORY, RESULTS, Places
from nengo_dl.runtime.native.units import Plan, Unit
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import HostCall, Operation

#: the parameters of the function
PARAMETERS = ("ptr %state", "ptr %memory", "ptr %fixed", "ptr %inputs", "ptr %outputs")
PARAMETERS += ("i64 %steps", "ptr %call")

#: and those of the other one
OF_BLOCKS = (*PARAMETERS, "i64 %count", "i64 %apart", "i64 %in", "i64 %out")

_WRITERS: dict[type[Operation], Callable[[Writer, Instruction], None]] = {}


def writes(*operations: type[Operation]) -> Callable:
    """The decorated function writes the code of instructions with these operations.

    It is called with a `Writer` and the instruction.
    """

    def register(function: Callable) -> Callable:
        for operation in operations:
            _WRITERS[operation] = function
        return function

    return register


def writer_of(operation: Operation) -> Callable[[Writer, Instruction], None]:
    """What writes the code of an operation.

    Raises
    ------
    Unsupported
        If nothing does.
    """
    for kind in type(operation).__mro__:
        if kind in _WRITERS:
            return _WRITERS[kind]
    raise Unsupported(f"there is no machine code for {type(operation).__name__}")


class Writer:
    """Writes the function of a plan.

    Parameters
    ----------
    plan : Plan
    dtype : dtype
        "float32" or "float64".
    row : int
        Bytes of the inputs of one step.

    Attributes
    ----------
    code : Code
        What is written to.
    plan : Plan
    places : Places
        Where values lie.
    hosts : list of Instruction
        Calls of Python functions, by number.
    step : str
        The number of the present step, counted from 0.
    """

    def __init__(self, plan: Plan, dtype: Any, row: int) -> None:
        self.plan = plan
        self.code = Code(dtype, plan.width, has_compress())
        self.places = Places(plan)
        self.hosts: list[Instruction] = []
        self.step: Any = 0
        self._row = row
        self._pointers: dict[str, str] = {}
        self._rooms: dict[tuple[int, str], int] = {}
        self._parts: dict[str, Function] = {}
        self._arguments: dict[tuple[str, int], str] | None = None
        self._looks_if_fresh = False

    def text(
        self, write_loop: Callable[[Writer, Any], None], several: bool = False
    ) -> str:
        """The module.

        Parameters
        ----------
        write_loop : callable
            Writes the code of a fused loop, ``write_loop(writer, unit)``.
        several : bool
            Whether there are several blocks. A function costs LLVM 1.5 ms, however short
            it is.
        """
        code, plan = self.code, self.plan
        with code.loop("%steps") as loop:
            self.step = loop.i
            given = 0 if plan.y is None else plan.y.nbytes
            self._pointers[INPUTS] = code.at("%inputs", code.times(loop.i, self._row))
            self._pointers[RESULTS] = code.at("%outputs", code.times(loop.i, given))
            many = len(plan.units) > costs.UNITS_APART
            for unit in plan.units:
                python = isinstance(unit.instructions[0].operation, HostCall)
                write = self._apart if many and not python else self._unit
                write(unit, write_loop)
            if self._looks_if_fresh:
                code.clear_bytes(self.pointer(self.places.fresh), 1)
        run = code.function("run", PARAMETERS, "i64 %steps")
        blocks = [self._blocks()] if several else []
        return module_text([*self._parts.values(), run, *blocks])

    def _blocks(self) -> Function:
        """The function that runs one block after the other."""
        code = Code(self.code.dtype, self.plan.width)
        with code.loop("%count") as loop:
            strides = {"%state": "%apart", "%inputs": "%in", "%outputs": "%out"}
            arguments = []
            for parameter in PARAMETERS:
                kind, name = parameter.split()
                if name in strides:
                    shift = code.emit(f"mul nsw i64 {loop.i}, {strides[name]}")
                    name = code.at(name, shift)
                arguments.append(f"{kind} {name}")
            code.call("@run", *arguments, result="i64")
        return code.function("blocks", OF_BLOCKS)

    def _unit(self, unit: Unit, write_loop: Callable[[Writer, Any], None]) -> None:
        """Write the code of one unit."""
        if unit.fused:
            write_loop(self, unit)
        else:
            (ins,) = unit.instructions
            writer_of(ins.operation)(self, ins)

    def _apart(self, unit: Unit, write_loop: Callable[[Writer, Any], None]) -> None:
        """Write the code of one unit as a function of the addresses in it.

        Units that do the same elsewhere have that function in common: it is compiled
        once. A network whose nodes were not merged has many of them.
        """
        main = self.code
        self.code = Code(main.dtype, main.width, main.compresses)
        self._arguments = {}
        self._unit(unit, write_loop)
        names = [f"ptr {name}" for name in self._arguments.values()]
        text = self.code.function("part", names, private=True).text
        if text not in self._parts:
            name = f"part{len(self._parts)}"
            self._parts[text] = self.code.function(name, names, private=True)
        places, self._arguments, self.code = self._arguments, None, main
        name = f"@part{list(self._parts).index(text)}"
        main.call(name, *(f"ptr {self.pointer(place)}" for place in places))

    def pointer(self, place: tuple[str, int]) -> str:
        """The address of a place, see `Places.of`."""
        if self._arguments is not None:
            return self._arguments.setdefault(place, f"%a{len(self._arguments)}")
        pointer, offset = place
        return self.code.at(self._pointers.get(pointer, pointer), offset)

    def operand(self, view: View) -> str:
        """The address of the first element of a view."""
        return self.pointer(self.places.of_view(view))

    def result(self, value: Value) -> str:
        """The address of the first element of a value."""
        return self.pointer(self.places.of(value))

    def is_fresh(self) -> str:
        """Whether the state was written to from outside before this step, an ``i1``."""
        self._looks_if_fresh = True
        flag = self.code.load_scalar(self.pointer(self.places.fresh), "i8")
        return self.code.emit(f"icmp ne i8 {flag}, 0")

    def table(self, key: Hashable, make: Callable[[], np.ndarray]) -> str:
        """The address of what only changes with the weights, see `Places.table`."""
        return self.pointer((FIXED, self.places.table(key, make)))

    def room(self, nbytes: int, name: str = "") -> str:
        """The address of bytes to work with while an instruction is carried out.

        Those with another name lie elsewhere.
        """
        if (nbytes, name) not in self._rooms:
            self._rooms[nbytes, name] = self.places.memory.take(nbytes)
        return self.pointer((MEMORY, self._rooms[nbytes, name]))
