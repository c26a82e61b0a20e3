"""What all layers with weights have in common: sums, a bias, and an activation."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from nengo_dl.converter.base import LayerConverter

if TYPE_CHECKING:
    from nengo_dl.converter.base import Target

__all__ = ["WeightedSums"]


class WeightedSums(LayerConverter):
    r"""A layer that weights its input, adds a bias, and applies an activation.

    .. math:: y = f(W x + b)

    Subclasses say how the input is weighted, and which entry of the bias each element is
    given.
    """

    def refusal(self) -> str | None:
        """Low-rank updates and quantized weights are left to Keras."""
        layer = self.layer
        if getattr(layer, "lora_enabled", False):
            return "it has low-rank updates (lora_rank)"
        if getattr(layer, "quantization_mode", None) is not None:
            return f"its weights are quantized ({layer.quantization_mode})"
        return None

    @abstractmethod
    def weigh(self, target: Target | Any) -> None:
        """Connect the input to a target.

        Parameters
        ----------
        target : Target
        """

    def bias_channels(self) -> np.ndarray:
        """The entry of the (flattened) bias for each element of the output."""
        return self.channels_of(-1)

    def convert(self) -> Any:
        """Connections to a node or neurons."""
        target = self.target(self.layer.activation)
        self.weigh(target)
        if self.layer.bias is not None:
            self.add_bias(target, self.layer.bias, self.bias_channels())
        return target.output
