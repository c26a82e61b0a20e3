"""Keyword arguments that methods pass on: their names and types, for people and tools.

``fit``, ``evaluate``, ``predict`` and ``compile`` take what Keras takes. Their names are
listed here, so that a misspelt one is found before anything is computed, and so that
editors and type checkers know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import os

    from nengo.utils.progress import ProgressBar


class OlderOptions(TypedDict, total=False):
    """Older arguments of `Simulator`."""

    dtype: str
    tensorboard: str | os.PathLike[str] | None
    session_config: Any
    step_blocks: Any


class RunArguments(TypedDict, total=False):
    """What ``run`` passes on to ``run_steps``."""

    data: Any
    stateful: bool
    spiking: bool | None
    input_feeds: Any
    profile: Any
    extra_feeds: Any


class StepArguments(RunArguments, total=False):
    """What ``step`` passes on to ``run_steps``."""

    progress_bar: bool | ProgressBar | None


class CompileArguments(TypedDict, total=False):
    """Further arguments of ``keras.Model.compile``."""

    weighted_metrics: Any
    run_eagerly: bool
    steps_per_execution: int
    jit_compile: Any
    auto_scale_loss: bool


class PredictArguments(TypedDict, total=False):
    """Further arguments of ``keras.Model.predict``."""

    batch_size: int | None
    verbose: Any
    steps: int | None
    callbacks: Any


class EvaluateArguments(PredictArguments, total=False):
    """Further arguments of ``keras.Model.evaluate``."""

    sample_weight: Any
    return_dict: bool


class FitArguments(TypedDict, total=False):
    """Further arguments of ``keras.Model.fit``."""

    batch_size: int | None
    epochs: int
    verbose: Any
    callbacks: Any
    validation_split: float
    validation_data: Any
    shuffle: bool
    class_weight: Mapping[int, float] | None
    sample_weight: Any
    initial_epoch: int
    steps_per_epoch: int | None
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: Any
