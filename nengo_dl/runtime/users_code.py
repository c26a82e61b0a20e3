"""Which function of the user is running: found by looking at the frames of a thread.

Nothing is written down while functions are called, since that would be paid for in each
step. Who wants to know is in an exceptional situation, and looks at the stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from nengo import Node
from nengo.builder.operator import SimPyFunc
from nengo.utils.functions import function_name

from nengo_dl.kernels.functions import HostFunction
from nengo_dl.notices import ADDRESS, label_of, of_package
from nengo_dl.runtime.host import InputFeed, column_in

#: where TensorFlow calls Python from its programs
_TENSORFLOW = str(Path("tensorflow", "python", "ops", "script_ops.py"))


class UsersCode(NamedTuple):
    """A call of something that the user brought.

    Attributes
    ----------
    op : Operator
        Whose function it is.
    t : float or None
        The time of the step, if the call knows it.
    """

    op: Any
    t: float | None


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and all that led to it, the innermost one first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def users_code(frame: FrameType) -> UsersCode | None:
    """The call of the user's code that a frame of this package makes, if it does."""
    if not of_package(frame):
        return None
    values = frame.f_locals
    me = values.get("self")
    if isinstance(me, InputFeed):
        host, t = column_in(values)
    elif isinstance(me, HostFunction):
        host, t = me.host_object(), values.get("t")
    else:
        return None
    op = getattr(host, "op", None)
    return None if op is None else UsersCode(op, t if isinstance(t, float) else None)


def called_by_tensorflow(frame: FrameType) -> bool:
    """Whether this is where a TensorFlow program calls Python."""
    return frame.f_code.co_filename.endswith(_TENSORFLOW)


def name_of_users_code(model: Any, op: Any) -> str:
    """What an operator runs, in the words of Nengo: "the function of Node 'f'"."""
    written = [*op.sets, *op.incs, *op.updates]
    what = "process" if hasattr(op, "process") else "function"
    for obj, signals in model.sig.items():
        own = isinstance(obj, Node) and signals.get("out")
        if own and any(signal.base is own.base for signal in written):
            return f"the {what} of Node {obj.label or function_name(obj.output)!r}"
    if isinstance(op, SimPyFunc) and op.output is not None:
        connection = op.output.name.rpartition(".")[0] or op.output.name
        return f"the function of {ADDRESS.sub('', connection)}"
    return f"the step function of {label_of(getattr(op, 'process', op))}"
