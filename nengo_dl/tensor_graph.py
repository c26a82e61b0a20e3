"""Where `TensorGraph` is found in scripts: it is defined in `nengo_dl.training`."""

from nengo_dl.training.tensor_graph import TensorGraph

__all__ = ["TensorGraph"]
