"""Simulators that are installed: the entry points ``nengo.backends``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any

import nengo
from nengo.exceptions import ValidationError

from nengo_dl.simulator import Simulator

GROUP = "nengo.backends"
"""Entry points of this group name classes that are called like `nengo.Simulator`."""

CORE, OURS = "core", "dl"


@dataclasses.dataclass(frozen=True)
class Backend:
    """A simulator by name.

    Parameters
    ----------
    name : str
        "core" is `nengo.Simulator`, "dl" is `.Simulator`, others are those of their
        entry points.
    load : callable
        Gives the class.
    """

    name: str
    load: Callable[[], type]

    def __call__(self, net: nengo.Network, **ours: Any) -> Any:
        """Build a simulator without a progress bar.

        ``**ours``: arguments that only `.Simulator` is given.
        """
        options = ours if self.name == OURS else {}
        return self.load()(net, progress_bar=False, **options)


def registered() -> dict[str, Backend]:
    """All simulators that are installed, by name; core first, then ours."""
    found = {
        CORE: Backend(CORE, lambda: nengo.Simulator),
        OURS: Backend(OURS, lambda: Simulator),
    }
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        # Nengo and this package register their own simulators, too
        own = point.value.split(":")[0] in ("nengo", "nengo_dl")
        if point.name not in found and not own:
            found[point.name] = Backend(point.name, point.load)
    return found


def chosen(names: Iterable[str] | None = None) -> list[Backend]:
    """Backends by name; core is always the first, because others are compared with it.

    ``names``: None for core and ours. Raises `ValidationError` if one is not installed.
    """
    known = registered()
    names = [CORE, OURS] if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValidationError(
            f"no simulator is registered as {', '.join(unknown)} (entry points of the "
            f"group {GROUP!r}); known: {', '.join(known)}",
            attr="backends",
        )
    return [known[name] for name in dict.fromkeys([CORE, *names])]
