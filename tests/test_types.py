"""Types as a contract: functions say what they take, and classes what they lack.

The type checker itself runs over the package in ``.ci/run``.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest

import nengo_dl
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Kernel
from nengo_dl.kernels.neurons.base import NeuronKernel
from tests.test_signatures import lines_with_errors, type_checker

ROOT = Path(__file__).resolve().parent.parent

#: at least this share of public functions and methods says all types
ANNOTATED = 0.98

#: at most so many lines are left out of what the type checker looks at
IGNORED = 60


def project_excludes():
    """Files and folders that the type checker does not look at yet."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[tool.basedpyright]")[2].partition("\n[")[0]
    listed = re.search(r"^exclude = \[.*?^\]", section, re.M | re.S)
    return re.findall(r'"([^"]+)"', listed.group()) if listed else []


def checked_files():
    """Files of the package that the type checker looks at."""
    excluded = [ROOT / path for path in project_excludes()]
    for path in sorted((ROOT / "nengo_dl").rglob("*.py")):
        if not any(path == other or other in path.parents for other in excluded):
            yield path


def public_functions(source):
    """Yield (name, line, whether all types are said) for public functions and methods."""

    def visit(parent, prefix, in_class):
        for node in parent.body:
            name = getattr(node, "name", "_")
            if isinstance(node, ast.ClassDef) and name[0] != "_":
                yield from visit(node, f"{prefix}{name}.", True)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                special = name.startswith("__") and name.endswith("__")
                if name[0] != "_" or special:
                    yield prefix + name, node.lineno, says_all(node, in_class)

    def says_all(node, in_class):
        given = node.args
        arguments = [*given.posonlyargs, *given.args]
        static = any(getattr(d, "id", "") == "staticmethod" for d in node.decorator_list)
        if in_class and not static:
            arguments = arguments[1:]
        arguments += [*given.kwonlyargs, given.vararg, given.kwarg]
        typed = all(a.annotation is not None for a in arguments if a is not None)
        return typed and (node.returns is not None or node.name == "__init__")

    yield from visit(ast.parse(source), "", False)


def test_functions_say_what_they_take_and_return():
    found = [
        (f"{path.relative_to(ROOT)}:{line} {name}", typed)
        for path in checked_files()
        for name, line, typed in public_functions(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 500
    without = [text for text, typed in found if not typed]
    assert len(without) <= (1 - ANNOTATED) * len(found), "\n".join(without)


def test_functions_without_types_are_found():
    source = (
        "def f(x): ...\n"
        "def g(x: int): ...\n"
        "def _h(x): ...\n"
        "class A:\n"
        "    def __init__(self, x: int): ...\n"
        "    def a(self) -> int: ...\n"
        "    @staticmethod\n"
        "    def b(x) -> int: ...\n"
    )
    found = {name: typed for name, _, typed in public_functions(source)}
    assert found == {
        "f": False,
        "g": False,
        "A.__init__": True,
        "A.a": True,
        "A.b": False,
    }


def test_few_lines_are_left_out_and_each_has_a_reason():
    lines = [
        line
        for path in (ROOT / "nengo_dl").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(pyright|type): *ignore", line)
    ]
    assert lines and len(lines) <= IGNORED
    form = re.compile(r"# pyright: ignore\[[\w, ]+\]  # \w")
    assert not [line for line in lines if not form.search(line)]


def test_what_is_not_checked_yet_exists():
    assert all((ROOT / path).exists() for path in project_excludes())


LAZY = {*nengo_dl._LAZY_MODULES, *nengo_dl._LAZY_NAMES, "builder"}


@pytest.mark.parametrize("name", sorted(LAZY))
def test_lazy_names_are_there(name):
    importlib.import_module("nengo_dl.builder")
    assert getattr(nengo_dl, name) is not None


@pytest.mark.skipif(
    type_checker() is None, reason="needs basedpyright, of the extra 'tests'"
)
def test_a_type_checker_finds_lazy_names(tmp_path):
    names = sorted(LAZY | set(nengo_dl.__all__))
    source = ["import nengo_dl", *(f"nengo_dl.{n}" for n in names), "nengo_dl.nowhere"]
    found = lines_with_errors(tmp_path, "\n".join(source))
    assert set(found) == {len(source) - 1}, found


def test_neuron_kernels_without_a_step_are_refused():
    with pytest.raises(
        TypeError, match=r"Idle has no method step\(\), which is abstract"
    ):

        class Idle(NeuronKernel):
            neuron_type = type("Resting", (), {})


def test_rules_without_a_method_are_refused():
    with pytest.raises(TypeError, match=r"Silent has no method lower\(\), which is abst"):

        @lowers(type("Unheard", (), {}))
        class Silent(OperatorRule):
            pass


def test_kernels_without_a_step_cannot_be_made():
    class Idle(Kernel):
        pass

    with pytest.raises(TypeError, match="abstract class Idle .* '?step'?"):
        Idle()
