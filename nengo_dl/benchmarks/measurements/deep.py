"""Large converted networks: processor time and memory until they can be run."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import keras
import nengo
import numpy as np

from nengo_dl.benchmarks.memory import PeakMemory, in_new_process
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.timing import check_positive
from nengo_dl.converter import Converter
from nengo_dl.simulator import Simulator

COLUMNS = (
    Column("network", "network", width=24),
    Column("neurons", "neurons", ",d"),
    Column("phase", "phase", width=14),
    Column("CPU seconds", "seconds", ",.1f", 11),
    Column("MB above imports", "peak", ",.0f"),
)

NOTES = """\
Each network in a process of its own, after the Keras model has predicted once. Seconds
of all processors, and the most memory so far, from the model on: converted, built, and at
the end of the first prediction. Of six convolutions no more than 6 s and 250 MB are
asked, of DenseNet121 25 s and 2 GiB until it is built."""


def convolutions(size: int = 56, filters: int = 32, layers: int = 6) -> keras.Model:
    """Convolutions one after the other: 602,112 neurons by default."""
    inputs = x = keras.Input((size, size, 3))
    for _ in range(layers):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def densenet(size: int = 112) -> keras.Model:
    """DenseNet121, with weights as they are drawn."""
    return keras.applications.DenseNet121(weights=None, input_shape=(size, size, 3))


def measure_conversion(name: str, make: Callable[[], keras.Model]) -> list[Row]:
    """Convert, build and run a model; a row for each phase.

    ``name``: of the network. ``make``: called for the model.
    """
    model = make()
    image = np.zeros((1, *model.input_shape[1:]), np.float32)
    model.predict(image, verbose=0)
    rows: list[Row] = []
    start, rises = time.process_time(), [0.0]
    with PeakMemory() as whole, contextlib.ExitStack() as stack:

        def phase(title: str, network: nengo.Network) -> None:
            rises.append(max(rises[-1], inner.peak - whole.before))
            rows.append({
                "network": name,
                "neurons": network.n_neurons,
                "phase": title,
                "seconds": time.process_time() - start,
                "peak": rises[-1],
            })  # fmt: skip

        with PeakMemory() as inner, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers that stay Keras layers
            relu = {keras.activations.relu: nengo.RectifiedLinear()}
            converted = Converter(model, swap_activations=relu, max_to_avg_pool=True)
        phase("converted", converted.net)
        with PeakMemory() as inner:
            sim = stack.enter_context(Simulator(converted.net, progress_bar=False))
        phase("built", converted.net)
        with PeakMemory() as inner:
            sim.predict(image.reshape(1, 1, -1))
        phase("predicted", converted.net)
    return rows


@measurement(COLUMNS, NOTES)
def deep(image: int = 112) -> Iterator[Row]:
    """Measure time and memory that large converted networks take.

    Parameters
    ----------
    image : int
        Pixels of each side of the images of the larger one.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(image=image)
    made = ("six convolutions", convolutions), ("DenseNet121", partial(densenet, image))
    for name, make in made:
        yield from in_new_process(measure_conversion, name, make)
