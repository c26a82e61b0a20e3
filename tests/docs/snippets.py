"""Code in pages and docstrings: finding it, and running it.

Pages (``README.rst``, ``docs/**/*.rst``)
    Each ``.. code-block:: python`` is run, those of a page one after the other in one
    namespace that is empty at first: a page has to bring its own imports. Lines that
    start with ``>>>`` are run as doctests. A block that cannot be run has a comment in
    front of it that says why, with an empty line in between::

        .. not run: needs two GPUs

        .. code-block:: python

Docstrings
    Everything after ``>>>`` is run, with the names in `GIVEN` imported. If a result is
    shown, it has to be what comes out; an example without one may print anything. An
    example that cannot be run is marked by ``# doctest: +SKIP`` and the reason behind
    it, ``# doctest: +SKIP (needs two GPUs)``.

To run the code of one page or module by hand::

    python -m tests.docs.snippets docs/training.rst
    python -m tests.docs.snippets nengo_dl/dists.py
"""

import ast
import doctest
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

#: what examples in docstrings may use without an import
GIVEN = {
    "keras": "keras",
    "nengo": "nengo",
    "nengo_dl": "nengo_dl",
    "np": "numpy",
    "tf": "tensorflow",
}

BLOCK = re.compile(
    r"^(?P<indent> *)\.\. (?:code-block|code|sourcecode):: *(?P<lexer>\w+)"
)
NOT_RUN = re.compile(r"^ *\.\. not run: +(?P<reason>\S.*)")
SKIPPED = re.compile(r"# doctest: \+SKIP\b *(?:\((?P<reason>.+)\))?")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of code on a page."""

    line: int
    """Of its first line of code, from 1 on."""
    lexer: str
    code: str
    reason: str | None
    """Why it is not run; None: it is."""


def pages():
    """All pages, as paths relative to the root of the repository."""
    found = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", ROOT / "CHANGES.rst"]
    found += [ROOT / "examples" / "GALLERY_HEADER.rst"]
    built = {"_build", "auto_examples"}
    for path in sorted((ROOT / "docs").rglob("*.rst")):
        if not built & set(path.relative_to(ROOT).parts):
            found.append(path)
    return [path.relative_to(ROOT).as_posix() for path in found if path.exists()]


def blocks(text):
    """Yield the blocks of code of a page."""
    lines = text.splitlines()
    reason = None
    for number, line in enumerate(lines):
        if mark := NOT_RUN.match(line):
            reason = mark["reason"]
        elif start := BLOCK.match(line):
            first, code = body(lines, number + 1, len(start["indent"]))
            yield Block(first + 1, start["lexer"], code, reason)
            reason = None
        elif line.strip() and not line.startswith("    "):  # (reasons may go on there)
            reason = None


def body(lines, number, indent):
    """The code of a block whose directive ends before line ``number``.

    Returns
    -------
    first : int
        Its first line, from 0 on.
    code : str
    """
    while number < len(lines) and re.match(r" +:[\w-]+:", lines[number]):
        number += 1  # options of the directive
    while number < len(lines) and not lines[number].strip():
        number += 1
    end = number
    while end < len(lines):
        line = lines[end]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        end += 1
    return number, textwrap.dedent("\n".join(lines[number:end])).rstrip() + "\n"


def run_page(path, names=None):
    """Run the code of a page from top to bottom.

    Parameters
    ----------
    path : str
        Relative to the root of the repository.
    names : dict, optional
        The namespace to run it in.

    Returns
    -------
    names : dict
        The namespace, afterwards.
    """
    names = {"__name__": "__main__"} if names is None else names
    text = (ROOT / path).read_text(encoding="utf-8")
    for block in blocks(text):
        if block.lexer in ("python", "py", "python3", "pycon") and not block.reason:
            run_block(path, block, names)
    return names


def run_block(path, block, names):
    """Run one block; errors show the line of the page."""
    if block.code.lstrip().startswith(">>>"):
        run_doctest(
            doctest.DocTestParser().get_examples(block.code), names, path, block.line
        )
        return
    tree = ast.parse(block.code)
    ast.increment_lineno(tree, block.line - 1)
    exec(compile(tree, str(ROOT / path), "exec"), names)


class Checker(doctest.OutputChecker):
    """Examples that show no result may print anything."""

    def check_output(self, want, got, optionflags):
        """Whether the output is as expected."""
        return not want or super().check_output(want, got, optionflags)


def run_doctest(examples, names, name, line=1, filename=None):
    """Run the examples of a docstring; an error shows all that are wrong.

    Raises
    ------
    AssertionError
        If one of them fails, with the report of doctest.
    """
    test = doctest.DocTest(examples, names, name, filename or name, line - 1, None)
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=OPTIONS)
    report = []
    runner.run(test, out=report.append, clear_globs=False)
    if runner.failures:
        raise AssertionError("".join(report))


def modules():
    """All modules of the package that have examples, as paths relative to the root."""
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "nengo_dl").rglob("*.py"))
        if ">>>" in path.read_text(encoding="utf-8")
    ]


def module_name(path):
    """The dotted name of a module."""
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def docstrings(path):
    """Yield (name, line, docstring) for everything in a module that has one."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node, clean=False)):
            name = getattr(node, "name", module_name(path))
            yield name, node.body[0].lineno, inspect.cleandoc(text)


def run_module(path):
    """Run the examples in the docstrings of a module, each with names of its own."""
    module = importlib.import_module(module_name(path))
    given = {name: importlib.import_module(of) for name, of in GIVEN.items()}
    for name, line, text in docstrings(path):
        # a reason would be one more option to doctest
        text = SKIPPED.sub("# doctest: +SKIP", text)
        if examples := doctest.DocTestParser().get_examples(text):
            names = {**given, **vars(module), "__name__": "__main__"}
            run_doctest(examples, names, f"{path}: {name}", line, path)


def skipped(path):
    """Yield (line, reason) for what is not run on a page or in a module."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".rst"):
        for block in blocks(text):
            if block.reason:
                yield block.line, block.reason
    for number, line in enumerate(text.splitlines(), start=1):
        if mark := SKIPPED.search(line):
            yield number, mark["reason"]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        (run_page if argument.endswith(".rst") else run_module)(argument)
        print(f"{argument}: runs")
