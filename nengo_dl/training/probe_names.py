"""Names of probes, and those that probes of converted networks had in NengoDL 3.

The probes of a converted network are named after layers, ``dense_output``. In NengoDL 3
they had no label, so scripts say ``"probe"`` and ``"probe_1"``. Both are understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nengo import Network, Probe

from nengo_dl.training.inputs import probes_names


class ProbeNames(dict[Probe, str]):
    """The name of each probe.

    Parameters
    ----------
    probes : iterable of ~nengo.Probe
    network : ~nengo.Network, optional
        It, or networks inside it, may come from a `nengo_dl.Converter`.

    Attributes
    ----------
    older : dict
        Older name -> probe, where no probe has this name today.
    """

    def __init__(self, probes: Iterable[Probe], network: Network | None = None):
        super().__init__(probes_names(probes))
        networks = [] if network is None else [network, *network.all_networks]
        today = set(self.values())
        self.older: dict[str, Probe] = {}
        for net in networks:
            for probe, name in getattr(net, "older_probe_names", {}).items():
                if probe in self and name not in today:
                    self.older.setdefault(name, probe)


class Results(dict[str, Any]):
    """Losses and metrics, which are found by older names of probes, too.

    Parameters
    ----------
    values : mapping
        By the names that they have today, such as ``dense_output_accuracy``.
    names : ProbeNames

    Examples
    --------
    >>> from nengo_dl.training.probe_names import ProbeNames, Results
    >>> with nengo.Network() as net:
    ...     probe = nengo.Probe(nengo.Node([0.0]), label="out")
    >>> net.older_probe_names = {probe: "probe"}
    >>> results = Results({"out_loss": 1.5}, ProbeNames([probe], net))
    >>> results["probe_loss"]
    1.5
    """

    def __init__(self, values: Mapping[str, Any], names: ProbeNames):
        super().__init__(values)
        self._today = {older: names[probe] for older, probe in names.older.items()}

    def __missing__(self, key: str) -> Any:
        begin = "val_" if str(key).startswith("val_") else ""
        for older, name in self._today.items():
            rest = str(key).removeprefix(begin).removeprefix(f"{older}_")
            if f"{begin}{older}_{rest}" == key and f"{begin}{name}_{rest}" in self:
                return self[f"{begin}{name}_{rest}"]
        raise KeyError(key)
