"""Pickles of simulators, functions, tasks and results.

What is in a network is the same object on both sides: tasks and results that name a node
or probe name that of the simulator at hand, so that results may be dicts by probe, and
tasks dicts by node.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.notices import label_of
from nengo_dl.runtime.executor import executors
from nengo_dl.simulator import Simulator
from nengo_dl.simulator.data import RecordedSteps
from nengo_dl.simulator.saving import state_of

#: what the objects of a network are called in pickles of tasks and results
OBJECT = "nengo_dl.many object"


#: attributes of objects that may hold what users wrote
PARTS = ("output", "function", "neuron_type", "learning_rule_type", "synapse")


def has_cloudpickle() -> bool:
    """Whether functions of scripts, lambdas and the like can be pickled."""
    return importlib.util.find_spec("cloudpickle") is not None


def _pickler() -> Any:
    if has_cloudpickle():
        import cloudpickle

        return cloudpickle.Pickler
    return pickle.Pickler


def _objects(sim: Simulator) -> list[Any]:
    """All objects of a network, in an order that is that of any copy."""
    if sim.network is None:
        return []
    return [sim.network, *sim.network.all_networks, *sim.network.all_objects]


# tasks and results --------------------------------------------------------------------


class Translator:
    """Pickles tasks and results, in which the objects of one network have a number.

    Parameters
    ----------
    sim : Simulator
        Its network is meant.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     node = nengo.Node([1.0])
    >>> with nengo_dl.Simulator(net, progress_bar=False) as sim:
    ...     translator = Translator(sim)
    >>> translator.loads(translator.dumps({node: 3})) == {node: 3}
    True
    """

    def __init__(self, sim: Simulator) -> None:
        self.objects = objects = _objects(sim)
        numbers = {id(obj): (OBJECT, n) for n, obj in enumerate(objects)}

        class Pickler(_pickler()):
            def persistent_id(self, obj: Any) -> Any:
                return numbers.get(id(obj))

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, pid: Any) -> Any:
                return objects[pid[1]]

        self._pickler, self._unpickler = Pickler, Unpickler

    def dumps(self, obj: Any) -> bytes:
        """A task or result as bytes; raises what pickling raises."""
        file = io.BytesIO()
        self._pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
        return file.getvalue()

    def loads(self, data: bytes) -> Any:
        """The task or result that bytes stand for."""
        return self._unpickler(io.BytesIO(data)).load()


# simulators ---------------------------------------------------------------------------


def pickled_simulator(sim: Simulator, function: Callable[..., Any]) -> bytes:
    """A simulator without its probe data, and what is called with it.

    They are one pickle: what both name, such as a probe, is one object afterwards, too.

    Raises `ValidationError` if they cannot be pickled, with the name of what cannot.
    """

    class Pickler(_pickler()):
        def reducer_override(self, obj: Any) -> Any:
            if obj is sim:
                return _restored, (type(sim), _lean_state(sim), _available())
            override = getattr(super(), "reducer_override", None)
            return NotImplemented if override is None else override(obj)

    file = io.BytesIO()
    try:
        Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump((sim, function))
    except Exception as error:
        raise _not_picklable(sim, function, error) from error
    return file.getvalue()


def _lean_state(sim: Simulator) -> dict[str, Any]:
    """The state of a simulator, without what a reset forgets anyway."""
    state, logs = state_of(sim), {}
    for probe, log in state["logs"].items():
        logs[probe] = copy.copy(log)
        logs[probe].clear()
    lean = {"logs": logs, "recorded": RecordedSteps(), "waiting": None}
    return {**state, **lean, "n_steps": 0, "progress_bar": False}


def _available() -> frozenset[str]:
    """The executors that this process has."""
    kinds = map(executors.find, executors.names)
    return frozenset(kind.name for kind in kinds if kind.missing() is None)


def _restored(
    cls: type[Simulator], state: dict[str, Any], available: frozenset[str]
) -> Simulator:
    """A simulator that chooses among the same executors as the one it is a copy of.

    Raises `SimulationError` if one of them is missing here.
    """
    for name in sorted(available - _available()):
        why = executors.find(name).missing() if name in executors.names else "unknown"
        raise SimulationError(
            f"the executor {name!r} is missing here ({why}), which may run this network "
            "where the call was made, so last digits of results would differ. Install "
            "the same packages everywhere"
        )
    sim = cls.__new__(cls)
    sim.__setstate__(state)
    sim._program.chooser.only = available
    return sim


def _not_picklable(
    sim: Simulator, function: Callable[..., Any], error: Exception
) -> ValidationError:
    """The error for what cannot be sent, with the part of it that is to blame."""
    culprit = next((name for name, obj in _parts(sim, function) if _fails(obj)), None)
    what = "the simulator" if culprit is None else culprit
    hint = "" if has_cloudpickle() else ". Lambdas can with: pip install cloudpickle"
    return ValidationError(
        f"{what} cannot be pickled, so that other processes could be given it "
        f"({type(error).__name__}: {label_of(error, 300)}). Functions and classes of a "
        f"module, with plain data inside, can be pickled{hint}",
        attr="run_many",
    )


def _fails(obj: Any) -> bool:
    try:
        _pickler()(io.BytesIO()).dump(obj)
    except Exception:
        return True
    return False


def _parts(sim: Simulator, function: Any) -> Iterator[tuple[str, Any]]:
    """Whatever of users' code is in a call, with names."""
    for obj in _objects(sim)[1:]:
        for attr in PARTS:
            part = vars(type(obj)).get(attr) and getattr(obj, attr, None)
            if part is not None:
                yield f"the {attr} of {label_of(obj)}", part
    yield f"the function {label_of(getattr(function, '__name__', function))!r}", function
