"""The contract of array namespaces, for those who write one; see `.ArrayNamespace`."""

from nengo_dl.compiler.namespace import Array, ArrayNamespace

__all__ = ["Array", "ArrayNamespace"]
