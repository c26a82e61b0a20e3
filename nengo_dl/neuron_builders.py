"""The path that older scripts know `nengo_dl.compat.neuron_builders` by."""

from nengo_dl.compat.neuron_builders import *  # noqa: F403
