"""Which way arrays lie in memory in a compiled loop: by a rule, or by trying both.

On a CPU the kernels know (`StageLayout.batch_first`): it was measured once, and a script
gives the same numbers on every machine. What is faster on an accelerator depends on the
device, on the batch and on the network. So there the first simulator of a structure runs
some steps both ways, feature-major and batch first, and all others of that structure in
this process do as it found out. Results differ by rounding only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

import tensorflow as tf

from nengo_dl.runtime.tensorflow.costs import ARRANGED, REPEATS
from nengo_dl.runtime.tensorflow.reuse import Programs

#: what was found out, by structure and device
_found = Programs(size=ARRANGED)


def on_accelerator(device: str | None) -> bool:
    """Whether TensorFlow computes on something else than a CPU.

    Parameters
    ----------
    device : str or None
        As for `tf.device`; None for what TensorFlow takes by itself, which is a GPU if
        there is one.
    """
    if device is None:
        return bool(tf.config.list_logical_devices("GPU"))
    kind = tf.DeviceSpec.from_string(device).device_type
    return kind is not None and kind.upper() != "CPU"


def seconds(run: Callable[[], object]) -> float:
    """The shortest time of a few runs, of which the first one does not count."""
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def batch_first_is_faster(key: Hashable, run_for: Callable[[bool], Callable]) -> bool:
    """Whether a loop is faster if its arrays lie batch first, on the device at hand.

    Parameters
    ----------
    key : hashable
        The structure and the device; measured once for each.
    run_for : callable
        ``run_for(turned)`` returns a function without arguments that runs some steps
        in one of the two ways and waits for them.
    """

    def measure() -> bool:
        feature_major, batch_first = (seconds(run_for(t)) for t in (False, True))
        return batch_first < feature_major

    return _found.get(key, measure)
