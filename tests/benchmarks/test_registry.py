from collections.abc import Iterator
from typing import Literal

import pytest

from nengo_dl.benchmarks import registry
from nengo_dl.benchmarks.registry import (
    Names,
    described_parameters,
    load_measurements,
    measurement,
)
from nengo_dl.benchmarks.report import Column


def test_all_measurements_are_there():
    assert set(load_measurements()) >= {
        "batch", "big", "compare", "convert", "first", "gpu", "long", "python", "scale",
        "step", "train",
    }  # fmt: skip


@pytest.mark.parametrize("found", load_measurements().values(), ids=lambda m: m.name)
def test_measurements_are_described(found):
    assert found.title.endswith(".")
    assert found.notes and found.columns
    for option in found.options:
        assert option.help, option.name
        assert option.type in (int, float, str, bool, Names)
        assert (
            option.default is None
            or not option.choices
            or option.default in option.choices
        )


def test_options_follow_from_the_signature(monkeypatch):
    monkeypatch.setattr(registry, "MEASUREMENTS", {})

    @measurement([Column("a", "a", "d")], summarize=lambda rows: {"n": len(rows)})
    def measure_example(
        names: Names | None = None,
        steps: int = 5,
        fraction: float | None = None,
        tier: Literal["x", "y"] = "x",
        memory: bool = True,
    ) -> Iterator[dict]:
        """Measure an example.

        Parameters
        ----------
        names, steps : int
            Some
            words.
        tier : str
            ``x`` or y.

        Yields
        ------
        dict
            Not an option.
        """
        yield {"a": steps}

    (found,) = registry.MEASUREMENTS.values()
    assert (found.name, found.title) == ("example", "Measure an example.")
    options = {option.name: option for option in found.options}
    assert [(o.type, o.default) for o in options.values()] == [
        (Names, None), (int, 5), (float, None), (str, "x"), (bool, True),
    ]  # fmt: skip
    assert options["names"].help == options["steps"].help == "Some words."
    assert options["tier"].help == "x or y." and options["tier"].choices == ("x", "y")
    assert list(found.function(steps=3)) == [{"a": 3}]
    assert found.summary([{}, {}]) == {"n": 2} and found.summary([]) == {}


def test_described_parameters():
    assert described_parameters("Nothing.") == {}
    text = "A.\n\nParameters\n----------\na : int\n    One.\n\nReturns\n-------\nint"
    assert described_parameters(text) == {"a": "One."}
