"""What has to be settled before TensorFlow and Keras are imported.

Both read environment variables once, while they are imported, so the package sets its
defaults first and only then imports anything that needs them. A variable that is set
already is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
CACHE = "NENGO_DL_CACHE_DIR"
XLA_FLAGS = "TF_XLA_FLAGS"
BACKEND = "KERAS_BACKEND"

# Level 2 still shows "failed call to cuInit" on every machine without a GPU. What fails
# in a computation raises a Python exception, whatever the level is.
SILENT = "3"

# One line of TensorFlow's C++ log: "I0000 00:00:1700000000.1 4711 port.cc:153] ...", in
# older releases "2024-01-01 00:00:00.000000: E external/... .cc:10] ...".
LOG_LINE = re.compile(rb"[IWE]\d{4} [\d:.]+ +\d+ \S+\] |\d{4}-\d\d-\d\d [\d:.]+: [IWE] ")
# What comes with such lines and looks different.
LOG_COMPANIONS = (
    b"WARNING: All log messages before absl::InitializeLog() is called",
    b"To enable the following instructions:",
)


def select_keras_backend() -> None:
    """Make Keras use TensorFlow, unless another backend is in use or asked for.

    ``KERAS_BACKEND`` in the environment counts more than the user's ``keras.json``, so
    setting it is enough as long as Keras has not been imported.

    Raises `ImportError` if Keras was imported with another backend, or ``KERAS_BACKEND``
    names one.
    """
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        found, origin = keras.config.backend(), "Keras has been imported with"
    else:
        found = os.environ.setdefault(BACKEND, "tensorflow")
        origin = f"the environment variable {BACKEND} asks for"
    if found != "tensorflow":
        raise ImportError(
            f"nengo_dl needs Keras with the backend 'tensorflow', but {origin} "
            f"{found!r}. Set {BACKEND}=tensorflow, or leave it unset and import "
            "nengo_dl before keras, in a new Python process."
        )


def is_log_line(line: bytes) -> bool:
    """Whether a line of output comes from TensorFlow's C++ log."""
    return bool(LOG_LINE.match(line)) or line.startswith(LOG_COMPANIONS)


def quiet_tensorflow() -> None:
    """Drop TensorFlow's own log lines when it is imported, whoever imports it.

    The log level alone does not do it: what is logged before TensorFlow has set up its
    log ("oneDNN custom operations are on", "Could not find cuda drivers", "Unable to
    register cuDNN factory") ignores it, so it is filtered; see `filtered_stderr`.

    Importing TensorFlow takes seconds and much of this package does without it, so this
    does not import it. It is for its users to do, when they need it.

    Nothing is changed if ``TF_CPP_MIN_LOG_LEVEL`` asks for a part of the log, or if
    TensorFlow has been imported before.
    """
    if "tensorflow" in sys.modules or os.environ.get(LOG_LEVEL, SILENT) != SILENT:
        return
    os.environ[LOG_LEVEL] = SILENT
    if not any(isinstance(finder, QuietImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, QuietImport())


class QuietImport(MetaPathFinder, Loader):
    """An import hook that runs TensorFlow's import in `filtered_stderr`, then retires.

    The other finders find the module, and its own loader loads it.
    """

    loader: Any = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, to be loaded by this object."""
        if fullname != "tensorflow":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the module's own loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own loader back and let it do its work."""
        sys.meta_path[:] = [f for f in sys.meta_path if f is not self]
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        with filtered_stderr():
            self.loader.exec_module(module)


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Hold back what is written to standard error, then pass on what is no log line.

    TensorFlow's log goes to the file descriptor behind ``sys.stderr``, so that is where
    it is filtered. If an exception is raised, everything is passed on.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # the process has no standard error: there is nothing to filter
        yield
        return
    drop = False
    with tempfile.TemporaryFile() as held:
        flush_stderr()
        os.dup2(held.fileno(), 2)
        try:
            yield
            drop = True
        finally:
            flush_stderr()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            kept = b"".join(line for line in held if not (drop and is_log_line(line)))
            if kept:
                with open(2, "wb", closefd=False) as out:
                    out.write(kept)


def flush_stderr() -> None:
    """Send what Python has buffered for standard error on its way."""
    if sys.stderr is not None:
        sys.stderr.flush()
