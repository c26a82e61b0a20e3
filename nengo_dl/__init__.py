"""Nengo networks compiled to TensorFlow: fast simulation and deep learning.

Replace ``nengo.Simulator`` with :class:`nengo_dl.Simulator`, and the same network runs
as a few batched kernels and can be trained like a Keras model.
"""

from nengo_dl.environment import quiet_start, select_keras_backend

select_keras_backend()
with quiet_start():
    import tensorflow as _tensorflow  # noqa: F401  (first here, so that it starts quietly)

from nengo_dl.config import configure_settings  # noqa: E402
from nengo_dl.simulator import Simulator  # noqa: E402
from nengo_dl.version import version as __version__  # noqa: E402

__copyright__ = "2026, NengoDL contributors"
__license__ = "MIT"

__all__ = ["Simulator", "configure_settings", "__version__"]
