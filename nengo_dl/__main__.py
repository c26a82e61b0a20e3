"""``python -m nengo_dl``: versions, devices, and whether it works here.

What a report of a problem should begin with. It ends with the exit status 1 if results
differ from those of ``nengo.Simulator``, or if something raises an error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

import nengo
import numpy as np

from nengo_dl.config import configure_settings
from nengo_dl.runtime.executor import executors
from nengo_dl.simulator import Simulator
from nengo_dl.version import version

#: what to tell the versions of, beside those of Python and of this package
PACKAGES = ("nengo", "numpy", "llvmlite", "keras", "scipy", "matplotlib")

#: outputs may differ by so much, in double precision
TOLERANCE = 1e-9


def versions() -> Iterator[tuple[str, str]]:
    """Names and versions, as far as they are installed."""
    yield "nengo_dl", version
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"
    import tensorflow as tf

    yield "tensorflow", tf.__version__


def devices() -> list[str]:
    """What TensorFlow can compute on."""
    import tensorflow as tf

    return [device.name for device in tf.config.list_physical_devices()]


def _network() -> nengo.Network:
    with nengo.Network(seed=0) as net:
        configure_settings(dtype="float64")
        stimulus = nengo.Node([0.5])
        ens = nengo.Ensemble(50, 1)
        net.out = nengo.Node(size_in=1)
        nengo.Connection(stimulus, ens)
        nengo.Connection(ens, net.out, function=np.square)
        net.probe = nengo.Probe(net.out, synapse=0.01)
    return net


def _outputs(make: Callable, **settings) -> np.ndarray:
    net = _network()
    with net:
        configure_settings(**settings)
    with make(net, progress_bar=False, seed=0) as sim:
        sim.run_steps(200)
        return sim.data[net.probe]


def _difference(executor: str) -> str:
    """Runs a network here and in core Nengo; an error if the outputs differ.

    If what the executor needs is missing there is nothing to run, which is no error.
    """
    missing = executors.find(executor).missing()
    if missing is not None:
        return f"left out: {missing}"
    core = _outputs(nengo.Simulator)
    difference = np.abs(_outputs(Simulator, executor=executor) - core).max()
    if not difference <= TOLERANCE:
        raise ArithmeticError(
            f"outputs differ from those of nengo.Simulator by up to {difference:.1e}; "
            f"expected at most {TOLERANCE:.0e}"
        )
    return f"largest difference from nengo.Simulator {difference:.1e}"


def _training() -> str:
    """Trains a network for some epochs; an error if the loss does not fall."""
    import keras

    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node([0.0])
        ens = nengo.Ensemble(50, 1, neuron_type=nengo.RectifiedLinear())
        out = nengo.Node(size_in=1)
        nengo.Connection(stimulus, ens, synapse=None)
        nengo.Connection(ens, out, synapse=None)
        nengo.Probe(out)
    x = np.linspace(-1, 1, 64).reshape(64, 1, 1)
    with Simulator(net, minibatch_size=16, progress_bar=False, seed=0) as sim:
        sim.compile(keras.optimizers.Adam(1e-4), loss="mse")
        losses = sim.fit(x, x**2, epochs=5, verbose=0).history["loss"]
    if not losses[-1] < losses[0]:
        raise ArithmeticError(f"the loss did not fall: {losses}")
    return f"loss {losses[0]:.3g} to {losses[-1]:.3g}"


#: what is tried out, and how
CHECKS: dict[str, Callable[[], str]] = {
    "runs natively": lambda: _difference("native"),
    "runs in NumPy": lambda: _difference("numpy"),
    "runs compiled": lambda: _difference("tensorflow"),
    "trains": _training,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print versions, devices and the results of the checks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nengo_dl", description=__doc__)
    parser.add_argument(
        "--no-check", action="store_true", help="versions and devices only"
    )
    options = parser.parse_args(arguments)
    for name, text in versions():
        print(f"{name:<14} {text}")
    print(f"{'devices':<14} {', '.join(devices())}")
    failed = 0
    for name, check in () if options.no_check else CHECKS.items():
        start = time.perf_counter()
        try:
            result = check()
        except Exception:
            traceback.print_exc()
            failed, result = 1, "FAILED, see above"
        print(f"{name:<14} {result} ({time.perf_counter() - start:.1f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
