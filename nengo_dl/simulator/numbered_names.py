"""Names in files that Keras has put numbers behind, which count through a process.

Keras calls a layer without a name ``dense_7``, the eighth one of the process. A converted
network counts from its own first layer on, so its names are the same whenever it is made.
Files that were written before it did so hold the numbers of Keras; in them, too, a later
layer has a larger number, which is all that is needed to know which is which.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from nengo import Network

#: what Keras calls variables that are given no name
ALWAYS = frozenset({"variable"})


def numbered_names(network: Network | None) -> frozenset[str]:
    """The words in names of parameters that numbers of Keras may follow.

    Parameters
    ----------
    network : ~nengo.Network or None
        It, or networks inside it, may come from a `nengo_dl.Converter`, which leaves the
        words on them.

    Returns
    -------
    frozenset of str
        Such as ``{"dense", "variable"}``.
    """
    if network is None:
        return ALWAYS
    networks = (network, *network.all_networks)
    return ALWAYS.union(*(getattr(net, "numbered_names", ()) for net in networks))


class Renamed:
    """An archive whose arrays have other names.

    Parameters
    ----------
    archive : Archive
    names : dict
        New name -> name in the archive.
    """

    def __init__(self, archive: Any, names: Mapping[str, str]):
        self._archive = archive
        self._names = names
        self.names = list(names)

    def header(self, name: str) -> Any:
        """Shape and type of an array."""
        return self._archive.header(self._names[name])

    def array(self, name: str) -> Any:
        """The array of a name."""
        return self._archive.array(self._names[name])


def renumbered(
    archive: Any,
    expected: Iterable[str],
    optional: Iterable[str],
    words: frozenset[str],
) -> Any:
    """An archive with the names that are expected, where only numbers are others.

    Parameters
    ----------
    archive : Archive
    expected, optional : iterable of str
        What the archive must hold, and what it may hold besides.
    words : frozenset of str
        See `numbered_names`.

    Returns
    -------
    Archive or Renamed
        The archive as it is, if it has the names already, or if there is more that is
        different.
    """
    given, wanted = (
        _by_form(archive.names, words),
        _by_form([*expected, *optional], words),
    )
    names = {}
    for form, entries in given.items():
        others = wanted.get(form, entries)  # what is not expected keeps its name
        if len(others) != len(entries):
            return archive
        names.update(zip(others, entries, strict=True))
    if names.keys() == set(archive.names) or not names.keys() >= set(expected):
        return archive
    return Renamed(archive, names)


def _by_form(names: Iterable[str], words: frozenset[str]) -> dict[str, list[str]]:
    """Names that are equal but for numbers, in the order of these."""
    choice = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    # a layer has its name to itself, but for a part of it or for what it is called with
    pattern = re.compile(rf"(?<![A-Za-z0-9_])({choice})(?:_(\d+))?(?![A-Za-z0-9])")
    found = defaultdict(list)
    for name in names:
        numbers = [int(match[2] or 0) for match in pattern.finditer(name)]
        found[pattern.sub(r"\1_*", name)].append((numbers, name))
    return {form: [name for _, name in sorted(v)] for form, v in found.items()}
