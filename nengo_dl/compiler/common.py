"""What all items of a batch have in common: weights that they learn together.

Such a state has one column, where others have one for each item. Whoever declares it,
its next value has to be one for all items, too: a kernel puts together what the items
ask for (`.traits.Kernel.joins_items`). What is computed from such values alone is
computed once; everything else finds one column, as it does with constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nengo.exceptions import BuildError

from nengo_dl.compiler.graph import Flow, Graph, Kind
from nengo_dl.compiler.readings import Readings
from nengo_dl.notices import label_of


@dataclass(frozen=True)
class Common:
    """How items of a batch change a state that they have in common.

    Parameters
    ----------
    how : str
        ``"sum"`` or ``"mean"``: what becomes of the changes that they ask for.
    owner : object
        Whose it is, for messages.
    """

    how: str
    owner: Any


def common_elements(graph: Graph) -> np.ndarray:
    """Which elements have one value for all items of a batch, as some states do.

    Constants and parameters, states that are declared so (`Reading.common`), what
    kernels put together of all items (`.traits.Kernel.joins_items`), and what is computed
    from such elements alone. None is looked for in a graph without such states.
    """
    common = np.zeros(graph.size, bool)
    states = Readings.of(graph.states)
    if not states.common.any():
        return common
    flow = Flow(graph)
    varying = (graph.kind == Kind.INPUT) | (graph.kind == Kind.STATE)
    varying[states.held(states.common)] = False
    joins = np.array([bool(n.kernel.joins_items) for n in graph.nodes], bool)
    calls = np.array([n.kernel.called_for_each for n in graph.nodes], bool)
    varying[flow.of_node[calls[flow.owner]]] = True
    before = -1
    while np.count_nonzero(varying) != before:
        before = np.count_nonzero(varying)
        varying[flow.rows[varying[graph.src]]] = True
        nodes = np.zeros(len(graph.nodes), bool)
        nodes[flow.reader[varying[flow.flat]]] = True
        varying[flow.of_node] |= (nodes & ~joins)[flow.owner]
    return ~varying


def check_common(graph: Graph, commons: Mapping[Any, Common]) -> None:
    """Nothing may change what items have in common for one of them alone.

    Parameters
    ----------
    graph : Graph
        As it was lowered.
    commons : mapping
        Base signal -> `Common`.

    Raises
    ------
    ~nengo.exceptions.BuildError
        If something does.
    """
    common = common_elements(graph)
    for reading in graph.states if commons else ():
        if reading.common and not common[graph.next[reading.elements]].all():
            key: Any = reading.key
            found = commons[key]
            raise BuildError(
                f"{label_of(found.owner)} has shared_learning={found.how!r}, but "
                f"something changes {key.name} for each batch item by "
                "itself: a learning rule without a form for all items together "
                "(there is one for PES, Voja, Oja, BCM and the rules of "
                "nengo_dl.learning_rules, not for RLS or rules of one's own), or a "
                "rule of another connection that learns the same encoders without "
                "this setting. Use net.config[connection].shared_learning = None, "
                "another rule, or the same setting for all that learn them"
            )
