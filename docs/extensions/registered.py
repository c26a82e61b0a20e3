"""The directive ``registered``: what a registry of the package contains, as it is now.

``.. registered:: nengo_dl.converter.base.converters`` documents each entry of that
registry, and says what it is registered for. A new entry appears by itself.
"""

import importlib

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def name_of(cls):
    """How users write the name of a class that something is registered for."""
    top, *_, name = f"{cls.__module__}.{cls.__qualname__}".split(".")
    if top == "keras":
        folder = "ops" if cls.__module__.startswith("keras.src.ops") else "layers"
        return f"keras.{folder}.{name}"
    return f"{top}.{name}"


def entries(registry):
    """Yield each class that is an entry, with names of all that it is registered for."""
    found = {}
    for cls, entry in registry.items():
        entry = entry if isinstance(entry, type) else type(entry)
        found.setdefault(entry, []).append(f"``{name_of(cls)}``")
    yield from found.items()


class Registered(SphinxDirective):
    """See the top of this file."""

    required_arguments = 1

    def run(self):
        """The documentation of all entries."""
        module, _, attribute = self.arguments[0].rpartition(".")
        registry = getattr(importlib.import_module(module), attribute)
        lines = []
        for entry, names in entries(registry):
            lines += [
                f".. autoclass:: {entry.__module__}.{entry.__qualname__}()",
                "   :no-members:",
                "",
                f"   For {', '.join(names)}.",
                "",
            ]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, container)
        return container.children


def setup(app):
    """Make the directive known to Sphinx."""
    app.add_directive("registered", Registered)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
