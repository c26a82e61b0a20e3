"""What older methods were called with: the newer spelling, or what there is instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from nengo.exceptions import ValidationError

from nengo_dl.notices import warn
from nengo_dl.settings import validate_setting
from nengo_dl.signatures import unexpected

#: for what cannot be translated: what to write instead
INSTEAD = {
    "extra_feeds": "there are no placeholders to feed any more; add a nengo.Node for the "
    "values, and give its data with those of the other nodes",
    "extra_fetches": "there is no session to fetch tensors from any more; add a "
    "nengo.Probe for what you want to see",
    "profile": "write sim.predict(x, callbacks=[nengo_dl.callbacks.TensorBoard(log_dir, "
    "profile_batch=1)]), or the same with sim.fit",
    "truncation": "write nengo_dl.configure_settings(truncate={value!r}) in the network",
    "session_config": "TensorFlow has no sessions any more; write tf.config, for example "
    "tf.config.experimental.set_memory_growth(gpu, True), before making the simulator",
    "step_blocks": "write Simulator(..., unroll_simulation={value!r})",
    "callback": "write sim.predict(x, callbacks=[...]) with a keras.callbacks.Callback",
}


def deprecated(old: str, new: str) -> None:
    """Warn, where the user's code calls this package, that there is a newer spelling."""
    text = f"{old} is deprecated; write\n    {new}"
    warn(text, DeprecationWarning)


def refuse(where: str, **arguments: Any) -> None:
    """Raise an error for the first argument that says anything."""
    for name, value in arguments.items():
        if value is None or value is False:
            continue
        raise ValidationError(
            f"{where} does not take {name} any more: "
            + INSTEAD[name].format(value=value),
            attr=name,
        )


def bind(
    method: str, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Positional and named arguments of an older method as a dict."""
    if len(args) > len(names):
        raise TypeError(f"Simulator.{method} takes at most {len(names)} arguments")
    found: dict[str, Any] = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name in found:
            raise TypeError(f"Simulator.{method} got two values for {name!r}")
        found[name] = value
    return found


def older_options(
    older: Mapping[str, Any], method: Callable[..., Any]
) -> dict[str, str | None]:
    """Older arguments of `Simulator`, checked.

    Parameters
    ----------
    older : dict
        ``dtype``, ``tensorboard``; others are refused.
    method : callable
        What was given them, whose other arguments may be meant.

    Returns
    -------
    dict
        ``dtype``, a name or None; ``tensorboard``, a folder or None.
    """
    found: dict[str, str | None] = dict.fromkeys(("dtype", "tensorboard"))
    for name, value in older.items():
        if name not in {*found, "session_config", "step_blocks"}:
            raise unexpected(method, "Simulator", name)
        if name == "dtype" and value is not None:
            found[name] = validate_setting("dtype", value)
            deprecated(
                "Simulator(dtype=...)",
                f"nengo_dl.configure_settings(dtype={found[name]!r})  # in the network",
            )
        if name == "tensorboard" and value not in (None, False):
            if value is True:
                raise ValidationError(
                    "expected a folder to write to, got True; write "
                    "nengo_dl.callbacks.TensorBoard('a/folder') among the callbacks of "
                    "Simulator.fit instead",
                    attr="tensorboard",
                )
            found[name] = os.fspath(value)
            deprecated(
                "Simulator(tensorboard=...)",
                "sim.fit(..., callbacks=[nengo_dl.callbacks.TensorBoard("
                f"{found[name]!r})])",
            )
        if name in INSTEAD and value != "deprecated":
            refuse("Simulator", **{name: value})
    return found


def older_data(method: str, data: Any, older: Mapping[str, Any]) -> Any:
    """Data for nodes, which had an older name.

    Parameters
    ----------
    method : str
        Which method was given them.
    data : array or list or dict or None
        Data under their present name.
    older : dict
        ``input_feeds``; others are refused.

    Returns
    -------
    array or list or dict or None
    """
    for name, value in older.items():
        if name not in ("input_feeds", "profile", "extra_feeds"):
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name in INSTEAD:
            refuse(f"Simulator.{method}", **{name: value})
    if older.get("input_feeds") is None:
        return data
    if data is not None:
        raise TypeError(f"Simulator.{method} got both data and input_feeds, its old name")
    deprecated(f"{method}(..., input_feeds=...)", f"sim.{method}(..., data=...)")
    return older["input_feeds"]


def older_saving(method: str, include_state: bool, older: Mapping[str, bool]) -> bool:
    """Whether to save or load what is not trained, which had older names.

    Parameters
    ----------
    method : str
        ``"save_params"`` or ``"load_params"``.
    include_state : bool
        The same under its present name.
    older : dict
        ``include_local`` and ``include_non_trainable``; ``include_global``, which has to
        be True.

    Returns
    -------
    bool
    """
    for name, value in older.items():
        if name not in ("include_global", "include_local", "include_non_trainable"):
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name != "include_global":
            include_state = include_state or bool(value)
        elif not value:
            raise ValidationError(
                f"Simulator.{method} is always about the parameters; leave out "
                "include_global",
                attr=name,
            )
    if older:
        deprecated(
            f"{method}({', '.join(f'{name}=...' for name in older)})",
            f"sim.{method}(path, include_state={include_state})",
        )
    return include_state
