"""Shell commands on pages: whether what they name is there.

Commands install packages, run for minutes or start a server, so that tests cannot run
them all. What can be seen without running them is checked: modules and files that they
name exist, so do extras, sessions of nox and options of this project's own commands.
"""

import ast
import importlib.util
import re
import shlex
import sys

from tests.docs.snippets import ROOT, blocks, pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

#: programs that pages may call: those of a shell, and those that an extra or a page
#: installs
PROGRAMS = {
    "nengo",  # of Nengo GUI
    "nox",
    "pip",
    "pre-commit",
    "python",
    "python3",
    "ruff",
    "tensorboard",
    "uv",
}

#: modules that a command installs, or that come with Python
FOREIGN_MODULES = {"pytest", "sphinx", "venv"}


def shell_commands():
    """Yield (page, command) for each single command on the pages."""
    for page in pages():
        for block in blocks((ROOT / page).read_text(encoding="utf-8")):
            if block.lexer in ("bash", "shell", "sh", "console") and not block.reason:
                for line in block.code.replace("\\\n", " ").splitlines():
                    for command in re.split(r"\s+&&\s+", line.partition(" # ")[0]):
                        if command.strip():
                            yield page, command.strip()


def problems(command):
    """Yield what a command names that does not exist."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
        words.pop(0)
    program, *rest = words
    if program.startswith(".ci/"):
        if not (ROOT / program).is_file():
            yield f"{program} does not exist"
        return
    name = program.rsplit("/", 1)[-1]
    if name not in PROGRAMS:
        yield f"{name} is a program that nothing installs"
    elif name in ("python", "python3") and rest[:1] == ["-m"]:
        yield from module_problems(*rest[1:])
    elif name in ("python", "python3") and rest[:1] == ["-c"]:
        ast.parse(rest[1])
    elif name == "nox" and "-s" in rest:
        session = rest[rest.index("-s") + 1]
        if session not in nox_sessions():
            yield f"noxfile.py has no session {session}"
    yield from file_problems(rest)
    yield from extra_problems(rest)


def module_problems(module, *options):
    """Yield problems of ``python -m module``."""
    if module in FOREIGN_MODULES:
        return
    ours = module.startswith(("nengo_dl", "tests"))
    if not (ours and importlib.util.find_spec(module)):
        yield f"there is no module {module}"
        return
    if module == "nengo_dl.benchmarks":
        yield from benchmark_problems(*options)
        return
    path = ROOT.joinpath(*module.split("."))
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    source = "".join(p.read_text(encoding="utf-8") for p in file.parent.glob("*.py"))
    for option in options:
        if option.startswith("--") and f'"{option.partition("=")[0]}"' not in source:
            yield f"{module} has no option {option}"


def benchmark_problems(*words):
    """Yield problems of ``python -m nengo_dl.benchmarks``, whose commands click knows."""
    from nengo_dl.benchmarks.cli import cli as command

    for word in words:
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}:
            yield f"the command {command.name} of nengo_dl.benchmarks has no {word}"


def file_problems(words):
    """Yield files of the repository that do not exist."""
    for word in words:
        named = re.match(r"(docs|examples|tests|nengo_dl)/\S+", word)
        if named and not word.startswith("docs/_build") and not (ROOT / word).exists():
            yield f"{word} does not exist"


def extra_problems(words):
    """Yield extras of this package that do not exist."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text)["project"]["optional-dependencies"]
    for word in words:
        for extras in re.findall(r"^(?:\.|nengo-dl)\[([\w,]+)\]", word):
            for extra in set(extras.split(",")) - set(known):
                yield f"there is no extra {extra}"


def nox_sessions():
    """The names of the sessions in the noxfile."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    decorated = {f.name: [ast.unparse(d) for d in f.decorator_list] for f in functions}
    return [name for name, by in decorated.items() if "nox.session" in "".join(by)]
