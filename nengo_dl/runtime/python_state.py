"""What is kept in Python, as arrays for files: random numbers, processes, operators.

Operators of a model are known by their number in the order in which they were built,
which is the same in every network of the same form.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from nengo.builder import Signal
from nengo.exceptions import ValidationError

from nengo_dl import archives
from nengo_dl.compiler.exact_callbacks import COUNT, Digits
from nengo_dl.notices import warn
from nengo_dl.runtime.program import Program

#: what the names of arrays begin with; files of the first version have no such
PROCESSES = "state processes"


def _kept(program) -> dict:
    """What operators keep that run as Python and go on: number -> (host, state)."""
    numbers = {op: i for i, op in enumerate(program.model.operators)}
    return {
        str(numbers[op]): (program.hosts[op], state)
        for op, state in program.snapshot_hosts().items()
        if program.hosts[op].goes_on
    }


def _numbered(state: Any) -> Any:
    """A state with numbers in place of signals as keys."""
    if type(state) in (list, tuple):
        return type(state)(map(_numbered, state))
    if type(state) is dict and any(isinstance(key, Signal) for key in state):
        return {i: _numbered(value) for i, value in enumerate(state.values())}
    return state


def _with_signals(found: Any, present: Any) -> Any:
    """The reverse of `_numbered`, with the signals of a state that is there."""
    if type(present) in (list, tuple) and len(found or ()) == len(present):
        return type(present)(map(_with_signals, found, present))
    if type(present) is dict and any(isinstance(key, Signal) for key in present):
        return {k: _with_signals(v, present[k]) for k, v in zip(present, found.values())}
    return found


def _sources(program) -> dict[Any, tuple[str, int]]:
    """What runs ahead of the steps: key -> (name, size)."""
    numbers = {op: i for i, op in enumerate(program.model.operators)}
    found = {program.model.time.base: ("time", 1), program.model.step.base: ("step", 1)}
    for source in program.sources:
        if source.signal is not None:
            name = str(numbers[source.op])
            found[source.signal] = name, source.size
            found[Digits(source.signal)] = f"{name} digits", COUNT * source.size
    return found


def _waiting(program, n_steps: int) -> dict | None:
    """What was made for steps that were not run, because of an interruption."""
    rows, names = program.waiting_inputs(n_steps), _sources(program)
    if rows is None or not rows.keys() <= names.keys():
        return None
    return {names[key][0]: np.ascontiguousarray(values) for key, values in rows.items()}


def _wait(program, n_steps: int, found: dict | None) -> None:
    """Begin with what `_waiting` gave."""
    names = {name: (key, size) for key, (name, size) in _sources(program).items()}
    rows = {}
    found = found or {}
    for name, values in found.items():
        key, size = names[name]
        length = len(next(iter(found.values())))
        if values.shape != (length, size, program.batch) or values.dtype.kind != "f":
            raise ValueError(f"inputs that wait have the shape {values.shape}")
        rows[key] = values
    program.wait_with(n_steps, rows or None)


#: names of the forms of functions of tensors, which draw numbers of their own
FORMS = {"running": False, "training": True}


def random_numbers(program: Program) -> dict[str, dict[str, list[np.ndarray]]]:
    """What functions of tensors draw next: operator's number -> form -> its state."""
    numbers = {op: str(i) for i, op in enumerate(program.model.operators)}
    return {
        numbers[op]: {name: found[form] for name, form in FORMS.items() if form in found}
        for op, found in program.random_numbers().items()
        if any(found.values())
    }


def go_on_with(program: Program, found: Mapping[str, Mapping]) -> None:
    """Draw what `random_numbers` gave; older files do not have it."""
    operators = program.model.operators
    program.go_on_with_numbers(
        {
            operators[int(number)]: {FORMS[name]: state for name, state in forms.items()}
            for number, forms in found.items()
        }
    )


def python_state(program: Program, seed: int, n_steps: int) -> dict[str, np.ndarray]:
    """All of that state as arrays.

    ``seed``: of the processes: what their step functions were made with. ``n_steps``: how
    many were run. Returns: empty if there is none. Raises `ValidationError` if some of it
    is no plain data.
    """
    states = {}
    for number, (host, state) in _kept(program).items():
        state = _numbered(state)
        try:
            archives.to_arrays(state, "")
        except archives.NotPlain as error:
            raise ValidationError(
                f"the state of {host_label(host)} cannot be saved: it keeps {error}, "
                "and a file holds numbers, text, arrays, lists and dicts of these, and "
                "random number generators. Keep it in such a form, save without "
                "include_state, or use pickle for the whole simulator",
                attr="save_params",
            ) from error
        states[number] = state
    if not program.snapshot_hosts():
        return {}
    state = {"seed": int(seed), "operators": states}
    waiting = _waiting(program, n_steps)
    if waiting is not None:
        state["waiting"] = waiting
    numbers = random_numbers(program)
    if numbers:
        state["numbers"] = numbers
    return archives.to_arrays(state, PROCESSES)


def restore_python_state(
    program: Program, arrays: Mapping[str, np.ndarray], path: Any, n_steps: int
) -> int | None:
    """Go on from the state in a file.

    ``arrays``: what `python_state` gave; others may be among them. ``path``: the file,
    for messages. ``n_steps``: how many had been run. Returns the seed of the processes;
    None if the file does not say. Raises `ValidationError` if it does not fit; nothing is
    changed then.
    """
    present = _kept(program)
    if not any(name.startswith(PROCESSES) for name in arrays):
        if present:
            _warn_of_older_file(path, [host for host, _ in present.values()])
        return None
    try:
        found = archives.from_arrays(arrays, PROCESSES)
        seed, states = found["seed"], found["operators"]
        np.random.RandomState(seed + program.batch)
        problems = _problems(states, present)
    except (ValueError, TypeError, KeyError) as error:
        raise _misfit(path, [str(error)]) from error
    if problems:
        raise _misfit(path, problems)
    operators = program.model.operators
    with _or_as_before(program, path):
        program.reset(seed, state=False)
        program.restore_hosts(
            {
                operators[int(number)]: _with_signals(states[number], state)
                for number, (_, state) in present.items()
            }
        )
        _wait(program, n_steps, found.get("waiting"))
        go_on_with(program, found.get("numbers", {}))
    return seed


@contextlib.contextmanager
def _or_as_before(program, path) -> Iterator[None]:
    """Context after whose failure processes are as they were before.

    What they keep is made anew in here, so that the old objects are still there.
    """
    before, numbers = program.snapshot_hosts(), program.random_numbers()
    objects = {op: dict(vars(program.hosts[op])) for op in before}
    try:
        yield
    except Exception as error:
        for op, old in objects.items():
            vars(program.hosts[op]).update(old)
        program.restore_hosts(before)
        program.go_on_with_numbers(numbers)
        raise _misfit(path, [f"it cannot be taken over: {error}"]) from error


def _problems(found, present) -> list[str]:
    """How states in a file differ from what is expected."""
    problems = [
        f"that of {host_label(present[n][0])} is missing"
        for n in present
        if n not in found
    ]
    problems += [
        f"{number} is not in this network" for number in found if number not in present
    ]
    for number in present.keys() & found.keys():
        host, state = present[number]
        problem = archives.difference(found[number], _numbered(state))
        if problem is not None or found[number] is None:
            problems.append(
                f"that of {host_label(host)} does not fit: {problem or 'it is None'}"
            )
    return problems


def _misfit(path, problems) -> ValidationError:
    lines = "".join(f"\n  - {problem}" for problem in problems[:20])
    return ValidationError(
        f"the state of processes in {path!r} does not fit this network; nothing was "
        f"loaded:{lines}\nLoad it without include_state, or into a simulator of the "
        "network, and with the minibatch_size, that it was saved from.",
        attr="load_params",
    )


def _warn_of_older_file(path, hosts) -> None:
    names = list(dict.fromkeys(host_label(host) for host in hosts))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
    warn(
        f"{path!r} is of a version that did not save random numbers and what processes "
        f"keep: those of {shown} begin anew, so that the simulation goes on with other "
        "numbers than it would have had. Save it again to have them in the file"
    )


def host_label(host) -> str:
    """What to call a host, without addresses in memory."""
    name = host.kind.__name__ if host.kind else host.label
    return re.sub(r" at 0x[0-9a-f]+", "", name)
