"""What the reference documents, and what there is to document.

The reference in ``docs/reference/`` consists of directives that Sphinx fills with
docstrings. Here the same directives are resolved without Sphinx.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import nengo_dl
from nengo_dl.compiler.traits import Registry

ROOT = Path(__file__).resolve().parents[2]

#: modules on the top level that are not for users; docs/layout.rst tells about them
INTERNAL = {
    "analysis",
    "compiler",
    "environment",
    "kernels",
    "models",
    "runtime",
    "tensor_graph",
    "training",
    "version",
}

#: names in ``__all__`` that have nothing to document
WITHOUT_DOCUMENTATION = {"nengo_dl.__version__"}

DIRECTIVE = re.compile(
    r"^\.\. (?P<kind>auto\w+|registered):: (?P<target>[\w.]+)(?P<rest>(?:\n +.*)*)", re.M
)


def locate(dotted):
    """The object of this dotted name."""
    parts = dotted.split(".")
    obj = importlib.import_module(parts[0])
    for n, part in enumerate(parts[1:], start=2):
        if inspect.ismodule(obj) and not hasattr(obj, part):
            importlib.import_module(".".join(parts[:n]))
        obj = getattr(obj, part)
    return obj


def documented():
    """Yield (dotted name, object) for all that the pages of the reference contain."""
    for path in sorted((ROOT / "docs" / "reference").glob("*.rst")):
        for directive in DIRECTIVE.finditer(path.read_text(encoding="utf-8")):
            target, obj = directive["target"], locate(directive["target"])
            yield target, obj
            if isinstance(obj, Registry):
                for _, entry in obj.items():
                    entry = entry if isinstance(entry, type) else type(entry)
                    yield f"{entry.__module__}.{entry.__qualname__}", entry
            elif inspect.ismodule(obj) and ":members:" in directive["rest"]:
                for name in obj.__all__:
                    yield f"{target}.{name}", getattr(obj, name)


def public_modules():
    """Names of the modules that scripts may import from."""
    return [
        f"nengo_dl.{module.name}"
        for module in pkgutil.iter_modules(nengo_dl.__path__)
        if module.name not in INTERNAL
    ]


def public_names():
    """Yield (dotted name, object) for all that is public, without modules."""
    for module in ["nengo_dl", *public_modules()]:
        found = importlib.import_module(module)
        for name in getattr(found, "__all__", ()):
            dotted, obj = f"{module}.{name}", getattr(found, name)
            if not inspect.ismodule(obj) and dotted not in WITHOUT_DOCUMENTATION:
                yield dotted, obj


def public_methods(cls):
    """Yield (name, function) for the methods that a class adds or changes itself.

    Without what it overrides of a class of Nengo or Keras, whose documentation holds.
    """
    ours = [base for base in cls.__mro__ if base.__module__.startswith("nengo_dl")]
    others = [base for base in cls.__mro__ if base not in ours and base is not object]
    for base in ours:
        for name, member in vars(base).items():
            function = getattr(member, "__func__", member)
            overrides = any(name in vars(other) for other in others)
            if inspect.isfunction(function) and name[0] != "_" and not overrides:
                yield name, function


def parameters(function, bound=False):
    """The parameters of a function, without the object if it is a method.

    A function that is a method of a class (``bound``) although it is defined outside of
    it may call that object as it likes.
    """
    found = list(inspect.signature(function).parameters.values())
    if bound and "." not in function.__qualname__:
        return found[1:]
    return [p for p in found if p.name not in ("self", "cls")]


def arguments(obj, bound=False):
    """The names of the arguments of a function, or of what makes an object of a class."""
    function = obj.__init__ if inspect.isclass(obj) else obj
    if function is object.__init__:
        return []
    return [p.name for p in parameters(function, bound) if p.name[0] != "_"]


def passes_on(function, bound=False):
    """Whether all arguments are of the form ``*args`` or ``**kwargs``."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.kind in variable for p in parameters(function, bound))


def described(docstring):
    """The names in the section ``Parameters`` of a numpydoc docstring."""
    section = re.search(
        r"^Parameters\n-+\n(?P<body>.*?)(?=^\w[\w ]*\n-+\n|\Z)", docstring, re.M | re.S
    )
    lines = section["body"].splitlines() if section else []
    fields = [line.partition(" :")[0] for line in lines if re.match(r"[\w*]", line)]
    return {name.strip(" *") for field in fields for name in field.split(",")}


def mentioned(docstring):
    """The names that the text of a docstring has in backquotes."""
    return set(re.findall(r"`\*{0,2}(\w+)`", docstring))
