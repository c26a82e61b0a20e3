"""Names of NengoDL 0.x to 2.x, for scripts that were written then.

All of them translate into names of today, with a ``DeprecationWarning`` that shows these.
What cannot be translated raises an error that says what to write instead.
"""

from nengo_dl.simulator.legacy.arguments import older_data, older_options, older_saving
from nengo_dl.simulator.legacy.calls import as_keras_optimizer
from nengo_dl.simulator.legacy.methods import OLDER

__all__ = [
    "OLDER",
    "as_keras_optimizer",
    "older_data",
    "older_options",
    "older_saving",
]
