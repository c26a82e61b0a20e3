"""Every setting of a network: its default, and which values it takes."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from nengo import Connection, Ensemble, Network, Node, Probe
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError
from nengo.params import Parameter

from nengo_dl.surrogates import Surrogate, surrogate_named

#: The classes whose objects hold something that is trained.
TRAINABLE_CLASSES = (Ensemble, Neurons, Connection)

#: Those whose objects hold something that has a setting of its own: Keras layers, and
#: decoders that are trained if that is asked for.
OTHER_TRAINABLE_CLASSES = (Node, Probe)

#: Those whose parameters are not variables of Keras layers, which have penalties already.
PENALIZED_CLASSES = (Ensemble, Neurons, Connection, Probe)


class Workers:
    """What solves for decoders while a network is built; pickles leave it out.

    Parameters
    ----------
    executor : concurrent.futures.Executor, optional
        None: nothing but the build itself.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self.executor = executor

    def __reduce__(self) -> tuple:
        return Workers, ()


class Setting(NamedTuple):
    """What a setting may be, and where it is kept."""

    default: Any
    expected: str
    """In words, for error messages."""
    convert: Callable[[Any], Any]
    """Gives the value to store; raises ``ValueError`` or ``TypeError`` if invalid."""
    classes: tuple = (Network,)
    """The classes on which the setting is a parameter."""
    more_classes: tuple = ()
    """Those on which it is one, but stays as it is until it is set for them by name."""

    @property
    def of_objects(self) -> bool:
        """Whether single objects can have the setting."""
        return self.classes != (Network,)


def _flag(value):
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _optional(convert):
    return lambda value: None if value is None else convert(value)


def _word_or(words, convert):
    def either(value):
        if isinstance(value, str):
            if value not in words:
                raise ValueError
            return value
        return convert(value)

    return either


def _no_other(value):
    raise TypeError


def _positive_float(value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    if not 0 < value < float("inf"):  # pyright: ignore[reportOperatorIssue]  # numbers.Real
        raise ValueError
    return float(value)


def _positive_int(value):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError
    if value < 1:
        raise ValueError
    return int(value)


def _dtype(value):
    if value is None:  # which NumPy takes for float64
        raise TypeError
    name = value if isinstance(value, str) else getattr(value, "name", None)
    name = np.dtype(value).name if name is None else name
    if name not in ("float32", "float64"):
        raise ValueError
    return name


def _function(value):
    if not callable(value):
        raise TypeError
    return value


def _functions(value):
    return [_function(item) for item in value]


def _word(value):
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _surrogate(value):
    if isinstance(value, str):
        value = surrogate_named(value)
    elif isinstance(value, type) and issubclass(value, Surrogate):
        value = value()
    if not isinstance(value, Surrogate):
        raise TypeError
    return value


def _workers(value):
    if isinstance(value, Workers):
        return value
    if not callable(getattr(value, "submit", None)):
        raise TypeError
    return Workers(value)


SETTINGS = {
    "trainable": Setting(
        None,
        "True, False or None",
        _optional(_flag),
        TRAINABLE_CLASSES,
        OTHER_TRAINABLE_CLASSES,
    ),
    "regularizer": Setting(
        None, "None or a function", _optional(_function), PENALIZED_CLASSES
    ),
    "constraint": Setting(
        None, "None or a function", _optional(_function), PENALIZED_CLASSES
    ),
    "keep_history": Setting(True, "True or False", _flag, (Probe,)),
    "shared_learning": Setting(
        None,
        "None, 'sum' or 'mean'",
        _optional(_word_or(("sum", "mean"), _no_other)),
        (Connection,),
        (Neurons,),
    ),
    "inference_only": Setting(False, "True or False", _flag),
    "dtype": Setting("float32", "'float32' or 'float64'", _dtype),
    "stateful": Setting(True, "True or False", _flag),
    "use_loop": Setting(True, "True or False", _flag),
    "lif_smoothing": Setting(
        None, "None or a number greater than 0", _optional(_positive_float)
    ),
    "learning_phase": Setting(None, "True, False or None", _optional(_flag)),
    "planner": Setting(None, "None or a function", _optional(_function)),
    "sorter": Setting(None, "None or a function", _optional(_function)),
    "simplifications": Setting(
        None, "None or a list of functions", _optional(_functions)
    ),
    "validation": Setting(
        "auto",
        "'auto', 'spikes' or 'rates'",
        _word_or(("auto", "spikes", "rates"), _no_other),
    ),
    "spiking_training": Setting(False, "True or False", _flag),
    "surrogate": Setting(
        None,
        "None or one of nengo_dl.surrogates, such as FastSigmoid(slope=10), its class, "
        "or its name 'fast_sigmoid'",
        _optional(_surrogate),
        (Ensemble,),
    ),
    "executor": Setting(
        "auto",
        "'auto', 'native', 'numpy', 'tensorflow' or another executor's name",
        _word,
    ),
    "decoder_executor": Setting(
        None,
        "None or a concurrent.futures.Executor, such as a ProcessPoolExecutor",
        _optional(_workers),
    ),
    "jit": Setting("auto", "'auto', True or False", _word_or(("auto",), _flag)),
    "tensor_float_32": Setting(False, "True or False", _flag),
    "checkpoint": Setting(
        "auto",
        "'auto', None or an integer of at least 1",
        _word_or(("auto",), _optional(_positive_int)),
    ),
    "truncate": Setting(
        None, "None or an integer of at least 1", _optional(_positive_int)
    ),
}
"""Every setting that `configure_settings` knows, by name."""


class Settings(TypedDict, total=False):
    """The settings with their types, as type checkers and editors want them."""

    trainable: bool | None
    regularizer: Callable[..., Any] | None
    constraint: Callable[..., Any] | None
    keep_history: bool
    shared_learning: Literal["sum", "mean"] | None
    inference_only: bool
    dtype: Literal["float32", "float64"]
    stateful: bool
    use_loop: bool
    lif_smoothing: float | None
    learning_phase: bool | None
    planner: Callable[..., Any] | None
    sorter: Callable[..., Any] | None
    simplifications: Sequence[Callable[..., Any]] | None
    validation: Literal["auto", "spikes", "rates"]
    spiking_training: bool
    surrogate: Surrogate | type[Surrogate] | str | None
    executor: Literal["auto", "native", "numpy", "tensorflow"] | str
    decoder_executor: Executor | Workers | None
    jit: bool | Literal["auto"]
    tensor_float_32: bool
    checkpoint: int | Literal["auto"] | None
    truncate: int | None


class SettingParam(Parameter):
    """A setting as a parameter of Nengo's config system.

    Parameters
    ----------
    name : str
        A key of `SETTINGS`.
    """

    def __init__(self, name: str):
        super().__init__(
            name, default=SETTINGS[name].default, optional=True, readonly=False
        )

    @property
    def given(self) -> Any:
        """Whether the class or any of its objects was given a value."""
        return len(self.data) + len(self._defaults) > 0

    def coerce(self, instance: Any, value: Any) -> Any:
        """The value to store; `~nengo.exceptions.ValidationError` if it is invalid."""
        return validate_setting(self.name, super().coerce(instance, value))


def validate_setting(name: str, value: Any) -> Any:
    """Check the value of one setting, and return it as it is stored.

    Parameters
    ----------
    name : str
        A key of `SETTINGS`.
    value : object
        The value a user gave.

    Returns
    -------
    object
        The value to use (NumPy scalars become Python ones, dtypes become names).

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the value is not one that the setting takes.
    """
    try:
        return SETTINGS[name].convert(value)
    except (TypeError, ValueError):
        raise ValidationError(
            f"the setting '{name}' must be {SETTINGS[name].expected}; got {value!r}",
            attr="configure_settings",
        ) from None


#: settings of earlier versions -> what to write instead
REMOVED = {
    "session_config": "TensorFlow has no sessions any more, so instead of "
    "'session_config' write tf.config, for example "
    "tf.config.experimental.set_memory_growth(gpu, True)",
}
