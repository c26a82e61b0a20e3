"""Nengo networks compiled to TensorFlow: fast simulation and deep learning.

Replace ``nengo.Simulator`` with :class:`nengo_dl.Simulator`, and the same network runs
as a few batched kernels and can be trained like a Keras model.
"""

from nengo_dl.environment import quiet_tensorflow, select_keras_backend

# before anything below imports Keras or TensorFlow
select_keras_backend()
quiet_tensorflow()

from nengo_dl.config import configure_settings  # noqa: E402
from nengo_dl.simulator import Simulator  # noqa: E402
from nengo_dl.version import version as __version__  # noqa: E402

__copyright__ = "2026, NengoDL contributors"
__license__ = "MIT"

__all__ = ["Simulator", "__version__", "configure_settings"]
