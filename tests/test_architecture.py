"""The rules that keep the package easy to find one's way in.

Each rule is a function that takes source code and yields the violations it finds, so it
is tested twice: on the package, where it must find none, and on a small made-up source,
where it must find some. ``docs/layout.rst`` explains the rules to people.
"""

import ast
import inspect
import re
import sys
from pathlib import Path

import nengo.builder
import pytest
from nengo.builder.operator import Operator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "nengo_dl"

# From the ground up: a module may import from the floors below its own and from its own
# folder. What stands side by side on a floor does not know of each other.
FLOORS = (
    ("environment", "version", "surrogates", "notices", "heap"),
    ("settings", "program_cache", "archives"),
    ("config", "neurons", "dists", "losses", "models", "analysis"),
    ("compiler",),
    ("kernels",),
    ("builder",),
    ("runtime",),
    ("tensor_node",),
    ("training",),
    ("tensor_graph", "callbacks"),
    ("compat",),
    ("simulator",),
    ("converter", "many"),
    ("benchmarks", "plots", "__main__"),
    ("graph_optimizer", "neuron_builders", "objectives"),
)

# Which packages besides the standard library the lower floors may import. The compiler
# and the kernels get their array functions handed in, so TensorFlow is not among them.
THIRD_PARTY = {
    "environment": set(),
    "archives": {"numpy"},
    "program_cache": set(),
    "version": set(),
    "neurons": {"numpy", "nengo"},
    "dists": {"numpy", "nengo"},
    "models": {"numpy", "nengo"},
    "analysis": {"numpy", "nengo"},
    "surrogates": {"numpy", "nengo"},
    "compiler": {"numpy", "nengo"},
    "kernels": {"numpy", "nengo"},
    "runtime/numpy": {"numpy", "nengo"},
    # llvmlite is imported where text becomes machine code, and SciPy where its BLAS is
    # looked up
    "runtime/native/compile": {"numpy", "llvmlite"},
    "runtime/native/symbols": {"scipy"},
    "runtime/native/(?!compile|symbols)": {"numpy", "nengo"},
}

# Where TensorFlow and Keras are imported, if only when they are needed. Everything else
# runs without them, so that small networks start at once.
TENSORFLOW = (
    "runtime/tensorflow",
    # the Keras side
    *("training", "tensor_graph", "tensor_node", "callbacks", "losses", "converter"),
    # older names, and which devices there are, which TensorFlow alone can tell
    *("compat", "simulator/building"),
    # what is settled before TensorFlow is imported, and what reports on it
    *("environment", "__main__", "benchmarks", "plots"),
)

# What the compiler may use of Nengo. Lowering alone deals with Nengo's signals and with
# the order of its operators; what a concrete operator means is the kernels' business.
COMPILER_MAY_USE = {"nengo.exceptions"}
LOWERING = ("/lowering.py", "/memory.py")
LOWERING_MAY_USE = COMPILER_MAY_USE | {"nengo.builder.signal", "nengo.utils"}

FILE_LINES = 800

# What users see: its docstrings are the manual of its methods, and do not count.
FRONT = {f"{PACKAGE}/simulator/simulator.py"}
FUNCTION_LINES = 60


def modules(folder):
    """All Python files below a folder of the repository, as paths relative to it."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def package_modules():
    return {path.as_posix(): read(path) for path in modules(PACKAGE)}


def imports(path, source):
    """Yield (line, dotted name) for everything that the source of a module imports.

    Imports inside functions, relative ones and ``import_module("name")`` included.
    """
    folder = Path(path).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            for alias in node.names:
                yield node.lineno, ".".join(base + (alias.name,))
        elif isinstance(node, ast.Call) and node.args:
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            name = getattr(node.args[0], "value", None)
            if function in ("import_module", "__import__") and isinstance(name, str):
                yield node.lineno, name


def room(path):
    """The module or folder of the package's top level that a file belongs to."""
    return Path(path).parts[1].removesuffix(".py")


def floor(name):
    """The number of the floor that a room is on; None if it has not been given one."""
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), None)


def floor_violations(path, source):
    """Imports that do not go downward, and a file that no floor is known for."""
    here = room(path)
    if here == "__init__":  # the front door shows what is on every floor
        return
    if floor(here) is None:
        yield f"{path}: {here!r} has no floor; give it one in FLOORS"
        return
    for line, name in imports(path, source):
        top, _, rest = name.partition(".")
        if top != PACKAGE:
            continue
        there = rest.partition(".")[0]
        if there == here:
            continue
        if floor(there) is None:
            yield (
                f"{path}:{line} imports {name}, which is the front door or has no "
                "floor; import from the module that defines it"
            )
        elif floor(there) >= floor(here):
            yield f"{path}:{line} imports {name}, which is not on a lower floor"


def third_party_violations(path, source):
    """Packages that this part of the package has to do without."""
    for part, allowed in THIRD_PARTY.items():
        if not re.match(rf"{PACKAGE}/{part}\b", path):
            continue
        for line, name in imports(path, source):
            top = name.partition(".")[0]
            if top not in allowed | {PACKAGE} | sys.stdlib_module_names:
                yield f"{path}:{line} imports {name}; {part} does without {top}"


def type_checking(tree):
    """The lines that only type checkers look at."""
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            lines.update(range(node.lineno, node.body[-1].end_lineno + 1))
    return lines


def tensorflow_violations(path, source):
    """Imports of TensorFlow or Keras outside of the rooms that need them."""
    if re.match(rf"{PACKAGE}/({'|'.join(TENSORFLOW)})\b", path):
        return
    unseen = type_checking(ast.parse(source))
    for line, name in imports(path, source):
        if name.partition(".")[0] in ("tensorflow", "keras") and line not in unseen:
            yield f"{path}:{line} imports {name}; that belongs to runtime/tensorflow"


def operator_names():
    """The names of all operators that Nengo's builders know."""
    return {
        name
        for module in [nengo.builder, *vars(nengo.builder).values()]
        if inspect.ismodule(module)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Operator)
    }


def naming_violations(path, source):
    """Places where the compiler names an operator (or anything else of Nengo)."""
    if not path.startswith(f"{PACKAGE}/compiler/"):
        return
    allowed = LOWERING_MAY_USE if path.endswith(LOWERING) else COMPILER_MAY_USE
    for line, name in imports(path, source):
        inside = any(name == a or name.startswith(f"{a}.") for a in allowed)
        if name.partition(".")[0] == "nengo" and not inside:
            yield f"{path}:{line} imports {name}; operators are the kernels' business"
    names = operator_names()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in names:
            yield f"{path}:{node.lineno} names the operator {node.value!r}"


def size_violations(path, source):
    """Files and functions that are too long to be taken in at a glance."""
    lines = len(source.splitlines())
    functions = [
        (node, len((ast.get_docstring(node) or "").splitlines()))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if path in FRONT:
        lines -= sum(docstring for _, docstring in functions)
    if lines > FILE_LINES:
        yield f"{path} has {lines} lines; at most {FILE_LINES}"
    for node, docstring in functions:
        lines = node.end_lineno - node.lineno + 1 - docstring
        if lines > FUNCTION_LINES:
            yield (
                f"{path}:{node.lineno} {node.name} has {lines} lines besides its "
                f"docstring; at most {FUNCTION_LINES}"
            )


def layout_violations(paths, page):
    """Modules and folders that a page leaves out, and those that exist only there."""
    files = {path.removeprefix(f"{PACKAGE}/") for path in paths}
    listed = {path for path in files if not path.endswith("__init__.py")}
    folders = {f"{Path(path).parent.as_posix()}/" for path in files} - {"./"}
    for name in sorted((listed | folders) - set(re.findall(r"``([\w/.]+)``", page))):
        yield f"docs/layout.rst does not name ``{name}``"
    for name in sorted(set(re.findall(r"``([\w/]+(?:\.py|/))``", page))):
        if name not in files | folders and not (ROOT / name).exists():
            yield f"docs/layout.rst names ``{name}``, which does not exist"


SOURCE_RULES = [
    floor_violations,
    third_party_violations,
    tensorflow_violations,
    naming_violations,
    size_violations,
]


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_package_keeps_the_rule(rule):
    sources = package_modules()
    assert len(sources) > 20  # the rule was really put to the test
    violations = [v for path, source in sources.items() for v in rule(path, source)]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("folder", ["tests", "examples", "docs"])
def test_other_python_files_are_short(folder):
    paths = modules(folder)
    assert paths
    violations = [v for p in paths for v in size_violations(p.as_posix(), read(p))]
    assert not violations, "\n".join(violations)


def test_floors_name_only_what_exists():
    rooms = {room(path) for path in package_modules()}
    missing = [name for rooms_here in FLOORS for name in rooms_here if name not in rooms]
    assert not missing


def test_layout_page_names_every_folder_and_module():
    violations = list(layout_violations(package_modules(), read("docs/layout.rst")))
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(
    "path, source",
    [
        ("nengo_dl/compiler/graph.py", "import nengo_dl.kernels.algebra"),
        ("nengo_dl/compiler/graph.py", "from nengo_dl import kernels"),
        ("nengo_dl/compiler/graph.py", "from ..kernels import algebra"),
        ("nengo_dl/compiler/graph.py", "from .. import runtime"),
        (
            "nengo_dl/kernels/neurons/lif.py",
            "from nengo_dl.runtime.emit import run",
        ),
        ("nengo_dl/kernels/a.py", "def f():\n    import nengo_dl.simulator"),
        (
            "nengo_dl/runtime/chunks.py",
            "import_module('nengo_dl.simulator.data')",
        ),
        ("nengo_dl/tensor_graph.py", "from nengo_dl import Simulator"),
        ("nengo_dl/tensor_graph.py", "import nengo_dl"),
        ("nengo_dl/version.py", "from nengo_dl.environment import LOG_LEVEL"),
        ("nengo_dl/attic.py", ""),  # no floor
    ],
)
def test_floor_violations_are_found(path, source):
    assert len(list(floor_violations(path, source))) == 1


@pytest.mark.parametrize(
    "path, source",
    [
        ("nengo_dl/__init__.py", "from nengo_dl.simulator import Simulator"),
        ("nengo_dl/compiler/simplify.py", "from nengo_dl.compiler.graph import Graph"),
        ("nengo_dl/compiler/simplify.py", "from . import graph"),
        ("nengo_dl/kernels/neurons/lif.py", "from ...compiler.traits import Kernel"),
        ("nengo_dl/kernels/neurons/lif.py", "from ..base import x\nimport numpy"),
        ("nengo_dl/benchmarks/compare.py", "from nengo_dl.simulator import Simulator"),
    ],
)
def test_downward_imports_are_allowed(path, source):
    assert not list(floor_violations(path, source))


@pytest.mark.parametrize(
    "path, source, number",
    [
        ("nengo_dl/compiler/graph.py", "import tensorflow as tf", 1),
        ("nengo_dl/compiler/graph.py", "def f():\n    from keras import ops", 1),
        ("nengo_dl/kernels/neurons/lif.py", "import tensorflow.math", 1),
        ("nengo_dl/runtime/numpy/executor.py", "import tensorflow", 1),
        ("nengo_dl/runtime/tensorflow/loop.py", "import tensorflow", 0),
        ("nengo_dl/compiler/graph.py", "import numpy as np, ast, nengo_dl.config", 0),
    ],
)
def test_third_party_violations_are_found(path, source, number):
    assert len(list(third_party_violations(path, source))) == number


@pytest.mark.parametrize(
    "path, source, number",
    [
        ("nengo_dl/runtime/program.py", "import tensorflow as tf", 1),
        ("nengo_dl/runtime/chunks.py", "def f():\n    from keras import ops", 1),
        ("nengo_dl/runtime/tensorflow/loop.py", "import tensorflow as tf", 0),
        ("nengo_dl/runtime/executor.py", "if TYPE_CHECKING:\n    import keras", 0),
        ("nengo_dl/runtime/program.py", "import nengo_dl.runtime.tensorflow.kinds", 0),
        ("nengo_dl/simulator/simulator.py", "import keras", 1),
    ],
)
def test_tensorflow_violations_are_found(path, source, number):
    assert len(list(tensorflow_violations(path, source))) == number


@pytest.mark.parametrize(
    "path, source, number",
    [
        ("nengo_dl/compiler/simplify.py", "from nengo.builder.operator import DotInc", 1),
        ("nengo_dl/compiler/simplify.py", "import nengo", 1),
        ("nengo_dl/compiler/simplify.py", "from nengo.builder.signal import Signal", 1),
        ("nengo_dl/compiler/lowering.py", "from nengo.builder import operator", 1),
        ("nengo_dl/compiler/lowering.py", "f(op).__name__ == 'SimNeurons'", 1),
        ("nengo_dl/compiler/lowering.py", "from nengo.builder.signal import Signal", 0),
        ("nengo_dl/compiler/simplify.py", "from nengo.exceptions import BuildError", 0),
        ("nengo_dl/kernels/algebra.py", "from nengo.builder.operator import DotInc", 0),
    ],
)
def test_naming_violations_are_found(path, source, number):
    assert len(list(naming_violations(path, source))) == number


def test_operator_names_are_complete():
    known = {"Copy", "DotInc", "ConvInc", "SimNeurons", "SimPES", "SimProcess"}
    assert known <= operator_names()


def test_size_violations_are_found():
    docstring = '    """One.\n\n' + "    x\n" * 100 + '    """\n'
    fits = "def f():\n" + docstring + "    x = 1\n" * (FUNCTION_LINES - 2)
    assert not list(size_violations("a.py", fits))
    (found,) = size_violations("a.py", fits + "    x = 1\n")
    assert "a.py:1 f has 61 lines" in found

    assert not list(size_violations("a.py", "x = 1\n" * FILE_LINES))
    assert list(size_violations("a.py", "x = 1\n" * (FILE_LINES + 1)))
    (front,) = FRONT
    manual = 'def f():\n    """One.\n\n' + "    x\n" * FILE_LINES + '    """\n'
    assert list(size_violations("a.py", manual))
    assert not list(size_violations(front, manual))
    assert list(size_violations(front, "x = 1\n" * (FILE_LINES + 1)))


def test_layout_violations_are_found():
    paths = ["nengo_dl/__init__.py", "nengo_dl/a/__init__.py", "nengo_dl/a/b.py"]
    assert not list(layout_violations(paths, "``a/`` is a folder, ``a/b.py`` a file"))
    assert len(list(layout_violations(paths, "nothing"))) == 2
    (found,) = layout_violations(paths, "``a/``, ``a/b.py``, ``a/gone.py``")
    assert "a/gone.py" in found
