"""Strategies of the compiler, for ``configure_settings``.

===================  =================================================================
setting              takes one of
===================  =================================================================
``planner``          `greedy_planner` (as without a setting), `tree_planner`,
                     `transitive_planner`, `noop_planner`: what runs together
``sorter``           `order_signals` (as without a setting), `noop_order_signals`: the
                     order in memory
``simplifications``  a list of functions such as `default_simplifications`
===================  =================================================================

They have an influence on speed, not on results, but for rounding. Functions of one's own
may take their place; what they are given and have to return is said in
`nengo_dl.compiler.planners`, `nengo_dl.compiler.sorters` and
`nengo_dl.compiler.simplifications`.

Examples
--------
>>> from nengo_dl import graph_optimizer
>>> with nengo.Network() as net:
...     nengo_dl.configure_settings(
...         planner=graph_optimizer.noop_planner,
...         simplifications=[graph_optimizer.remove_zero_incs],
...     )
"""

from nengo_dl.compiler.planners import (
    greedy_planner,
    noop_planner,
    transitive_planner,
    tree_planner,
)
from nengo_dl.compiler.simplifications import (
    default_simplifications,
    remove_constant_copies,
    remove_identity_muls,
    remove_reset_incs,
    remove_unmodified_resets,
    remove_zero_incs,
)
from nengo_dl.compiler.simplify import alias, fold, inline, retime, sparsify
from nengo_dl.compiler.sorters import noop_order_signals, order_signals

__all__ = [
    "alias",
    "default_simplifications",
    "fold",
    "greedy_planner",
    "inline",
    "noop_order_signals",
    "noop_planner",
    "order_signals",
    "remove_constant_copies",
    "remove_identity_muls",
    "remove_reset_incs",
    "remove_unmodified_resets",
    "remove_zero_incs",
    "retime",
    "sparsify",
    "transitive_planner",
    "tree_planner",
]
