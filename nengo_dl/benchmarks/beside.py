"""Two ways to do the same, side by side: the kind of row that most measurements have."""

from collections.abc import Callable, Sequence
from typing import Any

from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.timing import (
    median,
    no_collection,
    quartiles,
    ratio,
    take_turns,
)

COLUMNS = (
    Column("case", "case", width=38),
    Column("ours", "ours", ",.4g", 9),
    Column("beside", "beside", width=26),
    Column("theirs", "theirs", ",.4g", 9),
    Column("unit", "unit", width=14),
    Column("ratio", "ratio", ".3f", 6),
    Column("goal", "goal", width=7),
)
"""Of a table of such rows."""

NOTES = """Medians of rounds in which both take turns in one process; the ratio is the
median of the ratios within each round, ours as a fraction of the other's."""


def beside_row(
    case: str,
    ours: Sequence[float],
    beside: str,
    theirs: Sequence[float],
    unit: str,
    limit: float | None = None,
    scale: float = 1.0,
    **more: Any,
) -> dict:
    """A row of two measured series.

    ``case``: what was done. ``ours``, ``theirs``: times of the same rounds. ``beside``:
    what it is compared with. ``limit``: the ratio to stay below. ``scale``: what the
    times are multiplied by to have that unit. ``**more``: further figures.
    """
    low, high = quartiles([a / b for a, b in zip(ours, theirs, strict=True)])
    return {
        "case": case,
        "ours": median(ours) * scale,
        "beside": beside,
        "theirs": median(theirs) * scale,
        "unit": unit,
        "ratio": ratio(ours, theirs),
        "ratio_low": low,
        "ratio_high": high,
        "limit": limit,
        "goal": None if limit is None else f"<= {limit:.3g}",
        "rounds": len(ours),
        **more,
    }


def side_by_side(
    case: str,
    ours: Callable[[], object],
    beside: str,
    theirs: Callable[[], object],
    unit: str,
    repeats: int,
    **options: Any,
) -> dict:
    """Time two functions in turn, after each has run once; see `beside_row`."""
    ours()
    theirs()
    with no_collection():
        times = take_turns([ours, theirs], repeats)
    return beside_row(case, times[0], beside, times[1], unit, **options)


def goals_met(rows: Sequence[dict]) -> dict:
    """How many goals were reached, for the summary."""
    limited = [row for row in rows if row.get("limit") is not None]
    if not limited:
        return {}
    met = sum(row["ratio"] <= row["limit"] for row in limited)
    return {"goals reached": f"{met} of {len(limited)}"}
