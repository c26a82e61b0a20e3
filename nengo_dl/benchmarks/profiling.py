"""Time and trace `nengo_dl.Simulator` alone."""

from __future__ import annotations

from typing import Any, Literal

import nengo
import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks.timing import check_positive, median, take_turns
from nengo_dl.config import configure_settings
from nengo_dl.simulator import Simulator


def _training_data(net: nengo.Network, batch: int, n_steps: int) -> tuple[dict, dict]:
    """Random inputs, and targets of zero, for a network made by a builder."""
    for attribute in ("inp", "p"):
        if not hasattr(net, attribute):
            raise ValidationError(
                f"the network has no attribute {attribute!r}; to be trained it needs "
                "its input node as 'inp' and the probe of its output as 'p'",
                attr="net",
            )
    x = np.random.RandomState(0).uniform(-1, 1, (batch, n_steps, net.inp.size_out))
    return {net.inp: x}, {net.p: np.zeros((batch, n_steps, net.p.size_in))}


def run_profile(
    net: nengo.Network,
    train: bool = False,
    n_steps: int = 150,
    do_profile: bool = True,
    reps: int = 1,
    dtype: Literal["float32", "float64"] = "float32",
    log_dir: str = "profile",
    **kwargs: Any,
) -> float:
    """Time ``nengo_dl.Simulator`` on a network, and record a trace of what it does.

    Parameters
    ----------
    net : ~nengo.Network
        The network; to be trained, it needs the attributes ``inp`` and ``p`` that all
        builders of this package set.
    train : bool
        Whether to measure ``fit`` (one batch) instead of ``run_steps``.
    n_steps : int
        Number of time steps.
    do_profile : bool
        Whether to run it once more with TensorFlow's profiler, whose trace TensorBoard
        can show.
    reps : int
        How often to measure, after one run that is not.
    dtype : str
        ``"float32"`` or ``"float64"``.
    log_dir : str
        Directory for the trace.
    **kwargs
        For `.Simulator`.

    Returns
    -------
    float
        Seconds that a run took (the median), without building and compiling.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the network is to be trained and lacks one of the attributes, or a number is
        less than 1.

    Examples
    --------
    >>> from nengo_dl.benchmarks import cconv
    >>> seconds = run_profile(cconv(2, 10), n_steps=20, do_profile=False)
    """
    check_positive(n_steps=n_steps, reps=reps)
    with net:
        configure_settings(dtype=dtype)

    options: dict[str, Any] = {"progress_bar": False, **kwargs}
    with Simulator(net, **options) as sim:
        if train:
            x, y = _training_data(net, sim.minibatch_size or 1, n_steps)
            sim.compile(optimizer="sgd", loss="mse")

            def run():
                sim.fit(x, y, epochs=1, verbose=0)

        else:

            def run():
                sim.run_steps(n_steps, progress_bar=False)

        run()
        (times,) = take_turns([run], reps)
        if do_profile:
            _trace(run, log_dir)
    return median(times)


def _trace(run, log_dir):
    """Run once more with TensorFlow's profiler."""
    import tensorflow as tf

    tf.profiler.experimental.start(log_dir)
    try:
        run()
    finally:
        tf.profiler.experimental.stop()
