"""References to what is not on any page: shown as code, if it exists, else a warning.

Sphinx resolves references to what the reference documents. The rest, such as
`nengo.Ensemble`, `numpy.ndarray`, an internal class of this package or an argument of
the function that a docstring belongs to, would be warnings in its nitpicky mode. Here
each of them is looked up in Python itself, without a network: what exists is shown
without a link, and what does not exist is a warning as before. So no page can name a
function that was renamed, here or in Nengo.
"""

import functools
import importlib
import inspect
import re

from docutils import nodes
from docutils.utils import get_source_line

#: packages that may be imported to see whether a name exists
ROOTS = ("nengo_dl", "nengo", "numpy", "keras", "tensorflow", "collections", "matplotlib")


@functools.cache
def find(dotted):
    """The object of this dotted name, in a tuple; None if there is none."""
    parts = dotted.split(".")
    if parts[0] not in ROOTS or not all(part.isidentifier() for part in parts):
        return None
    obj = importlib.import_module(parts[0])
    for n, part in enumerate(parts[1:], start=2):
        if hasattr(obj, part):
            obj = getattr(obj, part)
        elif inspect.ismodule(obj):
            try:
                obj = importlib.import_module(".".join(parts[:n]))
            except ImportError:
                return None
        else:
            return (None,) if n == len(parts) and is_attribute(obj, part) else None
    return (obj,)


def is_attribute(cls, name):
    """Whether instances of a class have an attribute of this name, without making one.

    Those that have no default are known from annotations or from the docstring.
    """
    if not inspect.isclass(cls):
        return False
    for base in cls.__mro__:
        if name in getattr(base, "__annotations__", {}):
            return True
        if re.search(rf"^\s*(\w+, )*{name}(, \w+)* *(:.*)?$", base.__doc__ or "", re.M):
            return True
    return False


def arguments(obj):
    """The names of the arguments of a function or a class."""
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()


def contexts(node):
    """Dotted names from the object that a docstring belongs to up to its package."""
    source, _ = get_source_line(node)
    _, _, name = str(source or "").partition(":docstring of ")
    parts = name.split(".") if name else []
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def exists(target, around):
    """Whether a reference target names something, seen from the names ``around`` it."""
    target = target.lstrip("~")
    if target.startswith("."):
        return find("nengo_dl" + target) is not None
    if find(target):
        return True
    for context in around:
        if find(f"{context}.{target}"):
            return True
        owner = find(context)
        if owner and target in arguments(owner[0]):
            return True
    return False


def missing_reference(app, env, node, contnode):
    """Sphinx asks this for each reference that it cannot resolve."""
    if node["reftarget"].startswith(("python:", "numpy:")):
        # numpydoc knows them (int, str, array_like, ...), and writes "python:int" for a
        # link into the pages of Python; without such links, the word is what is read
        word = contnode.astext()
        shown = contnode.copy()
        shown += nodes.Text(word.removeprefix("python:").removeprefix("numpy:"))
        return shown
    if node.get("refdomain") != "py":
        return None
    return contnode if exists(node["reftarget"], contexts(node)) else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("missing-reference", missing_reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
