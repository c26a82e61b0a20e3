"""What is promised around the code: metadata, installation, README, release history."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import nengo_dl
from nengo_dl.version import name, version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).resolve().parent.parent
RELEASE = re.sub(r"\.dev\d+$", "", version)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def project():
    return tomllib.loads(read("pyproject.toml"))["project"]


def readme_commands():
    """The commands of the README that set up an environment, in order."""
    text = re.sub(r" \\\n +", " ", read("README.rst"))  # lines that go on
    return re.findall(r"^   (python3 -m venv .*)$", text, re.MULTILINE)


def installed():
    """The metadata of the installed package; skips the test if it is not installed."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed, only its source code is on the path")


def install_script():
    """The module ``setup.py``, which does nothing until it is run."""
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version)
    assert nengo_dl.__version__ == version


def test_public_names_exist():
    assert {"Simulator", "configure_settings", "__version__"} <= set(nengo_dl.__all__)
    missing = [name for name in nengo_dl.__all__ if not hasattr(nengo_dl, name)]
    assert not missing


def test_metadata():
    metadata = project()
    assert metadata["name"] == name
    assert metadata["license"] == "MIT"
    assert metadata["requires-python"] == ">=3.10,<3.14"
    assert metadata["entry-points"]["nengo.backends"] == {"dl": "nengo_dl:Simulator"}
    assert {"docs", "examples", "scipy", "tests"} <= set(
        metadata["optional-dependencies"]
    )


def test_installation_page_has_all_extras():
    rows = re.findall(r"^   \* - ``(\w+)``$", read("docs/installation.rst"), re.MULTILINE)
    assert sorted(rows) == sorted(project()["optional-dependencies"])


def test_installed_metadata():
    distribution = installed()
    assert distribution.version == version
    required = [r for r in distribution.requires if "extra ==" not in r]
    names = {re.match(r"[\w-]+", r).group() for r in required}
    assert {"keras", "nengo", "numpy", "progressbar2"} < names
    assert names & set(install_script().TENSORFLOW_DISTRIBUTIONS)


def test_entry_point():
    installed()
    backends = importlib.metadata.entry_points(group="nengo.backends")
    assert backends["dl"].load() is nengo_dl.Simulator


def make_distribution(folder, name):
    """Make a folder look as if a distribution was installed there."""
    info = folder / f"{name.replace('-', '_')}-2.99.0.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.99.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")


@pytest.mark.parametrize(
    "present, asked, expected",
    [
        ([], None, "tensorflow"),
        (["numpy", "tensorflow-probability"], None, "tensorflow"),
        (["tensorflow-cpu"], None, "tensorflow-cpu"),
        (["TensorFlow_CPU"], None, "tensorflow-cpu"),
        (["tensorflow-macos"], None, "tensorflow-macos"),
        (["tf-nightly"], None, "tf-nightly"),
        (["tf_nightly_cpu"], None, "tf-nightly-cpu"),
        (["tensorflow-rocm"], None, "tensorflow-rocm"),
        (["intel-tensorflow"], None, "intel-tensorflow"),
        (["tensorflow-intel", "tensorflow"], None, "tensorflow"),
        (["tensorflow"], "tensorflow-cpu", "tensorflow-cpu"),
    ],
)
def test_installed_tensorflow_meets_the_requirement(tmp_path, present, asked, expected):
    for distribution in present:
        make_distribution(tmp_path, distribution)
    requirement = install_script().tensorflow_requirement([str(tmp_path)], asked)
    assert requirement == f"{expected}>=2.16"


def test_tensorflow_is_looked_for_where_packages_are_installed():
    directories = [Path(d).resolve() for d in install_script().site_directories()]
    assert Path(pytest.__file__).resolve().parent.parent in directories


def test_readme_commands_do_what_they_say():
    job, tests, docs = readme_commands()
    for command in (job, tests, docs):
        assert " && " in command and 'pip install -q -e ".[' in command
    assert job.endswith("python examples/spiking_digits.py")
    assert (ROOT / "examples" / "spiking_digits.py").is_file()
    assert "-m pytest" in tests
    assert "-m sphinx" in docs and " -W " in docs
    for extra in re.findall(r"\.\[(\w+)\]", job + tests + docs):
        assert extra in project()["optional-dependencies"]


def test_readme_examples_run():
    blocks = re.findall(
        r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", read("README.rst")
    )
    simulation, training = map(textwrap.dedent, blocks)
    names = {}

    def mean_error(function):
        """How far the probe in the last simulation is from a function of the input."""
        stimulus = np.sin(6 * names["sim"].trange())
        output = names["sim"].data[names["probe"]]
        assert output.shape == (1000, 1)
        return np.abs(output[:, 0] - function(stimulus)).mean()

    exec(simulation, names)
    assert mean_error(np.square) < 0.15
    assert mean_error(lambda x: np.cos(3 * x)) > 0.5
    exec(training, names)  # ends with a run of the trained network in nengo.Simulator
    assert mean_error(lambda x: np.cos(3 * x)) < 0.3


def test_readme_has_the_figures_of_the_benchmarks():
    text = " ".join(read("README.rst").split())  # wherever lines end
    summary = json.loads(read("docs/benchmarks/compare.json"))
    (mean, least), rows = summary["summary"].values(), summary["rows"]
    most = max(row["speedup"] for row in rows if "speedup" in row)
    assert f"**{mean:.1f} times**" in text
    assert f"at least {float(least.split()[0]):.1f} times" in text
    assert f"{most:.0f} times with" in text


def test_readme_is_no_wider_than_a_page():
    code = [line for line in read("README.rst").splitlines() if line.startswith("   ")]
    assert max(map(len, code)) <= 84
    assert max(map(len, read("README.rst").splitlines())) <= 90


def test_readme_on_a_package_index_has_no_relative_links():
    text = install_script().readme_for_index()
    links = re.findall(r"`[^`]*<([^>]+)>`_", text) + re.findall(r"image:: (.*)", text)
    assert links and all(link.startswith("https://") for link in links)
    assert "docs/benchmarks.rst" in text  # the name of a file, without a link
    assert "an earlier NengoDL" in text and "this picture" not in text
    core = pytest.importorskip("docutils.core", reason="comes with the extra 'docs'")
    plain = text.replace(".. code-block:: bash", "::").replace(
        ".. code-block:: python", "::"
    )
    core.publish_doctree(plain, settings_overrides={"halt_level": 2})  # of a warning


def test_ci_runs_commands_of_the_readme():
    lines = read(".ci/run").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    _, tests, docs = readme_commands()
    assert tests in lines
    assert docs in lines
    assert ".venv/bin/ruff check ." in lines
    assert ".venv/bin/ruff format --check ." in lines


@pytest.mark.skipif(os.name == "nt", reason="no such thing on Windows")
def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_license():
    text = read("LICENSE.rst")
    assert "MIT License" in text
    assert "Copyright (c) 2026 NengoDL contributors" in text


def test_citation_is_of_this_version():
    assert f"\nversion: {version}\n" in read("CITATION.cff")


def test_types_are_part_of_the_package():
    assert Path(nengo_dl.__file__).with_name("py.typed").is_file()
    pyproject = tomllib.loads(read("pyproject.toml"))
    package_data = pyproject["tool"]["setuptools"]["package-data"]
    assert package_data == {"nengo_dl": ["py.typed"]}


def lower_bounds():
    """Oldest versions that the package claims to run with, by distribution."""
    text = read("setup.py")
    tensorflow = re.search(r'TENSORFLOW_VERSION = ">=([\d.]+)"', text)[1]
    others = dict(re.findall(r'"(keras|llvmlite|nengo|numpy)>=([\d.]+)', text))
    return {"tensorflow-cpu": tensorflow, **others}


def nox_constant(name):
    """A constant of the noxfile, which is not imported because it needs nox."""
    for node in ast.parse(read("noxfile.py")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"noxfile.py has no {name}")


def test_oldest_packages_are_those_that_are_tested():
    pins = nox_constant("OLDEST")
    assert set(pins) == set(lower_bounds())
    for package, bound in lower_bounds().items():
        assert pins[package].startswith(f"{bound}.")
    assert nox_constant("OLDEST_PYTHONS")[0] == nox_constant("PYTHONS")[0]


def test_python_versions_agree():
    classifiers = "\n".join(project()["classifiers"])
    versions = re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)
    assert nox_constant("PYTHONS") == tuple(versions)
    first, last = versions[0], versions[-1]
    beyond = f"3.{int(last.partition('.')[2]) + 1}"
    assert project()["requires-python"] == f">={first},<{beyond}"
    for page in ("README.rst", ".ci/run", "docs/installation.rst", "CHANGES.rst"):
        assert f"Python {first} to {last}" in read(page), page


def test_release_history_starts_with_this_version():
    titles = re.findall(r"^(\d.*)\n=+$", read("CHANGES.rst"), re.MULTILINE)
    date = r"\(unreleased\)" if version != RELEASE else r"\(\w+ \d+, \d{4}\)"
    assert re.fullmatch(rf"{re.escape(RELEASE)} {date}", titles[0])
