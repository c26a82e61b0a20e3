"""GPUs beside the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks import chosen_cases
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import built, run_times, warm_up
from nengo_dl.benchmarks.timing import check_positive, private_decoder_cache
from nengo_dl.simulator import Simulator

NETWORKS = ("integrator128", "learner64", "web20", "mnist")
BATCHES = (1, 64, 512)

COLUMNS = (
    *beside.COLUMNS,
    Column("ns/neuron/item", "ns", ",.3f"),
    Column("on the CPU", "cpu_ns", ",.3f"),
    Column("GPU memory MB", "memory", ",.0f"),
)

NOTES = f"""{beside.NOTES} Without a GPU nothing is measured, and one line says so."""


def devices() -> list[tuple[str, str]]:
    """TensorFlow's name, and the maker's, of each GPU that TensorFlow finds."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu) for gpu in found]
    return [
        (f"/gpu:{i}", details.get("device_name", "GPU"))
        for i, details in enumerate(names)
    ]


@measurement(COLUMNS, NOTES, plot=charts.ratio_bars)
def gpu(
    networks: Names | None = None,
    items: Names | None = None,
    steps: int = 1000,
    repeats: int = 5,
) -> Iterator[Row]:
    """Measure each GPU beside the CPU, if there is one.

    Parameters
    ----------
    networks : list of str or None
        By default integrator128, learner64, web20 and mnist.
    items : list of str or None
        Sizes of batches, with commas between; by default 1, 64 and 512.
    steps : int
        Steps of each run.
    repeats : int
        Rounds.

    Yields
    ------
    dict
        For each GPU, network and size of a batch; one that says so if there is no GPU.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    """
    check_positive(steps=steps, repeats=repeats)
    cases = chosen_cases(networks, NETWORKS)
    batches = BATCHES if items is None else _whole_numbers(items)
    found = devices()
    if not found:
        yield {"case": "TensorFlow finds no GPU here: nothing was measured"}
        return
    warm_up(steps, jit=True)
    for device, maker in found:
        for name, case in cases.items():
            for batch in batches:
                row = measure_devices(
                    name, case, batch, (device, "/cpu:0"), steps, repeats
                )
                yield row | {"gpu": maker, "beside": "CPU"}


def _whole_numbers(items: list[str]) -> list[int]:
    """Turn sizes of batches, given as text, into whole numbers."""
    try:
        batches = [int(number) for number in items]
    except ValueError:
        raise ValidationError(
            f"expected whole numbers such as 1,64; got {','.join(items)}", attr="items"
        ) from None
    check_positive(items=min(batches))
    return batches


def measure_devices(
    name: str, case: Any, batch: int, pair: Any, steps: int, repeats: int
) -> Row:
    """A network on two devices.

    ``batch``: items. ``pair``: TensorFlow's names of the devices, of which the second one
    runs what it runs by default. ``steps``, ``repeats``: see `gpu`.
    """
    nets = [built(case, settings={"jit": True}), built(case)]
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        sims = [
            stack.enter_context(
                Simulator(net, minibatch_size=batch, device=device, progress_bar=False)
            )
            for net, device in zip(nets, pair, strict=True)
        ]
        run_times(sims, steps, 1)  # compiles
        ours, other = run_times(sims, steps, repeats)
        memory = device_memory(pair[0])
    case_name = f"{name}, {batch} items, {pair[0]}"
    row = beside.beside_row(case_name, ours, pair[1], other, "us/step", scale=1e6)
    count = nets[0].n_neurons * batch / 1e3
    ns = {"ns": row["ours"] / count, "cpu_ns": row["theirs"] / count}
    return {**row, **ns, "memory": memory}


def device_memory(device: str) -> float | None:
    """The most MB that TensorFlow has had on a device; None if it does not tell."""
    import tensorflow as tf

    kind = device.strip("/").upper()
    if kind.startswith("CPU"):  # an error, or 0 where TensorFlow uses oneDNN
        return None
    return tf.config.experimental.get_memory_info(kind)["peak"] / 2**20
