"""Sessions with environments of their own: ``nox --list``.

``nox -s tests`` runs the tests with every Python that is supported and found, with the
newest packages; ``nox -s oldest`` with the oldest ones. Further arguments go to pytest:
``nox -s tests-3.12 -- tests/kernels -x``.
"""

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13")

# The lower bounds in setup.py. Python 3.13 came after them: it takes TensorFlow 2.20 and
# NumPy 2.1 there, hence also Nengo 4.1, since 4.0 cannot be imported with NumPy 2.
OLDEST = {
    "tensorflow-cpu": "2.16.1",
    "keras": "3.7.0",
    "nengo": "4.0.0",
    "numpy": "1.26.0",
    "llvmlite": "0.46.0",
}
OLDEST_PYTHONS = ("3.10", "3.11", "3.12")

# The distribution of TensorFlow that setup.py requires. It is named, because tools that
# build in an environment of their own, as uv does, hide what is installed from setup.py.
TENSORFLOW = {"NENGO_DL_TENSORFLOW": "tensorflow-cpu"}

nox.options.sessions = ["lint", "tests", "docs"]
nox.options.error_on_missing_interpreters = False


def run_tests(session):
    """Pytest, on two processes unless told otherwise."""
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]))


@nox.session(python=PYTHONS)
def tests(session):
    """The tests, with the newest packages."""
    session.install("-e", ".[tests]", env=TENSORFLOW)
    run_tests(session)


@nox.session(python=OLDEST_PYTHONS)
def oldest(session):
    """The tests, with the oldest packages."""
    pins = [f"{name}=={version}" for name, version in OLDEST.items()]
    pins.append("scipy<1.14")  # ConjgradScipy of Nengo 4.0 fails with later ones
    session.install("-e", ".[tests]", *pins, env=TENSORFLOW)
    run_tests(session)


@nox.session
def docs(session):
    """The pages of the manual, with warnings as errors."""
    session.install("-e", ".[docs]", env=TENSORFLOW)
    examples = {"NENGO_DL_DOCS_EXAMPLES": "run", "NENGO_DL_EXAMPLES_QUICK": "1"}
    sphinx = ("python", "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build")
    session.run(*sphinx, env=examples)


@nox.session
def lint(session):
    """Style."""
    requirements = nox.project.load_toml("pyproject.toml")["project"]
    tools = requirements["optional-dependencies"]["tests"]
    session.install(*[tool for tool in tools if tool.startswith("ruff")])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def build(session):
    """The source distribution and the wheel, in ``dist/``, and what is in them."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")
