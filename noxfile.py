"""Sessions with environments of their own: ``nox --list``.

``nox -s tests`` runs the tests with every Python that is supported and found, with the
newest packages; ``nox -s oldest`` with the oldest ones. Further arguments go to pytest:
``nox -s tests-3.12 -- tests/kernels -x``.
"""

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13")

# For the oldest Python, the lower bounds in setup.py. TensorFlow came to 3.13 later.
OLDEST = {
    "3.10": {
        "tensorflow-cpu": "2.16.1",
        "keras": "3.7.0",
        "nengo": "4.0.0",
        "numpy": "1.26.0",
    },
}

nox.options.sessions = ["lint", "tests", "docs"]
nox.options.error_on_missing_interpreters = False


def run_tests(session):
    """Pytest, on two processes unless told otherwise."""
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]))


@nox.session(python=PYTHONS)
def tests(session):
    """The tests, with the newest packages."""
    session.install("tensorflow-cpu")  # first: what is there decides, see setup.py
    session.install("-e", ".[tests]")
    run_tests(session)


@nox.session(python=list(OLDEST))
def oldest(session):
    """The tests, with the oldest packages."""
    pins = [f"{name}=={version}" for name, version in OLDEST[session.python].items()]
    session.install(*pins)
    session.install("-e", ".[tests]", *pins)
    run_tests(session)


@nox.session
def docs(session):
    """The pages of the manual, with warnings as errors."""
    session.install("tensorflow-cpu")
    session.install("-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build")


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
