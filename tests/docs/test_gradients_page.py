"""The page on gradients names every place that makes one."""

import ast
import re

import pytest

from nengo_dl.compiler.traits import Kernel
from tests.docs.snippets import ROOT

TEXT = (ROOT / "docs/gradients.rst").read_text(encoding="utf-8")
NAMES = {"custom_gradient", "stop_gradient", "with_gradient", "with_gradients"}


def makers(source):
    """The functions (with their class) of a source in which gradients are made."""

    def visit(node, scope):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            function = getattr(child, "func", None)
            if NAMES & {getattr(child, "attr", None), getattr(function, "id", None)}:
                yield scope
            yield from visit(child, [*scope, child.name] if named else scope)

    tree = ast.parse(source)
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for scope in visit(tree, []):
        yield ".".join(scope[: 2 if scope[0] in classes else 1])


def test_makers_are_found():
    source = "def f(x):\n    @tf.custom_gradient\n    def g(x): ...\n"
    source += "class C:\n    def m(self, xp):\n        xp.stop_gradient(1)\n"
    assert set(makers(source)) == {"f", "C.m"}


def test_all_makers_of_gradients_are_on_the_page():
    named = set(re.findall(r"``([\w.]+)``", TEXT))
    for path in (ROOT / "nengo_dl").rglob("*.py"):
        for name in makers(path.read_text(encoding="utf-8")):
            assert {name, name.split(".")[0]} & named, f"{path.name}: {name} is missing"


def everything(kind):
    for cls in kind.__subclasses__():
        yield cls
        yield from everything(cls)


def test_all_kernels_without_a_gradient_are_on_the_page():
    import nengo_dl.builder  # noqa: F401, registers all kernels

    for cls in everything(Kernel):
        if cls.__module__.startswith("nengo_dl.") and not vars(cls).get(
            "differentiable", True
        ):
            assert f"``{cls.__name__}``" in TEXT, cls


@pytest.mark.parametrize("name", sorted(set(re.findall(r"``(\w+\.\w+)``", TEXT))))
def test_names_of_the_page_exist(name):
    if name.startswith(("nengo", "sim")):
        return
    owner, method = name.split(".")
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "nengo_dl").rglob("*.py")]
    found = [s for s in sources if re.search(rf"^class {owner}\b", s, re.M)]
    assert any(f"def {method}(" in source for source in found)
