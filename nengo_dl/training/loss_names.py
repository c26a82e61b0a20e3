"""Names of Keras' losses, metrics and optimizers: an error says which are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from nengo.exceptions import ValidationError

#: what ``compile`` of Keras knows besides the contents of its modules
ALIASES = ("mse", "mae", "mape", "msle", "kld", "accuracy", "acc", "crossentropy", "ce")


def check_names(arguments: Mapping) -> None:
    """Check that all strings among the arguments of ``compile`` name something.

    Parameters
    ----------
    arguments : mapping
        ``optimizer``, and by name of probe ``loss``, ``metrics``, ``weighted_metrics``.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        It lists the names that are near.
    """
    _check(arguments["optimizer"], "optimizer", keras.optimizers)
    for argument in ("loss", "metrics", "weighted_metrics"):
        module = keras.losses if argument == "loss" else keras.metrics
        for probe, value in (arguments.get(argument) or {}).items():
            for one in _strings(value):
                _check(one, argument, module, f" of Probe {probe!r}")


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def _check(value: Any, argument: str, module: Any, whose: str = "") -> None:
    if not isinstance(value, str) or value in ALIASES:
        return
    try:
        found = module.get(value)
    except (ValueError, TypeError, AttributeError):
        found = None
    if found is not None:
        return
    helpers = ("get", "serialize", "deserialize")
    names = [n for n in dir(module) if not n.startswith("_") and n not in helpers]
    names += ALIASES if module is not keras.optimizers else ()
    plain = {name.lower().replace("_", ""): name for name in names}
    wanted = value.lower().replace("_", "")
    near = difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)
    meant = ", ".join(repr(plain[name]) for name in near)
    raise ValidationError(
        f"Keras has no {argument} {value!r}{whose}"
        + (f"; did you mean {meant}?" if near else f"; see {module.__name__}"),
        attr="Simulator.compile",
    )
