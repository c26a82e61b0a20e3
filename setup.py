"""What must be decided while the package is installed; the rest is in pyproject.toml.

TensorFlow comes as several distributions (``tensorflow``, ``tensorflow-cpu``, nightly
and vendor builds). All of them bring the module ``tensorflow``, so they overwrite each
other's files, and a requirement can name only one. It is therefore written while the
package is installed: the one that is there already, or else ``tensorflow``.

Where the installed ones are looked for, and what cannot be seen from there:

- In the site directories of ``sys.prefix``, not on ``sys.path``: pip builds isolated
  with the interpreter of the target environment, but hides that environment's packages
  from ``sys.path``. It works with or without ``--no-build-isolation``, and with the
  user's and the system's packages where the environment uses them.
- A tool that builds in an environment of its own (``python -m build``, ``uv``) hides
  the target, and a wheel keeps the requirement it was built with. For those cases
  ``NENGO_DL_TENSORFLOW=tensorflow-cpu`` in the environment names the distribution.
- A TensorFlow that the very same ``pip install`` command installs is not there yet when
  this file runs. It needs a command of its own, before.
"""

import importlib.metadata
import os
import re
import site
import sys

TENSORFLOW_VERSION = ">=2.16"

# Distributions that contain TensorFlow, the usual ones first.
TENSORFLOW_DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tensorflow-macos",
    "tensorflow-cpu-aws",
    "tensorflow-intel",
    "tensorflow-rocm",
    "intel-tensorflow",
    "intel-tensorflow-avx512",
    "tf-nightly",
    "tf-nightly-cpu",
    "tf-nightly-gpu",
    "tf-nightly-macos",
)


def normalized(name):
    """The spelling of a distribution's name by which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def site_directories():
    """The directories in which the target environment keeps its packages."""
    directories = site.getsitepackages()
    # an environment that is closed to the system's packages is closed to the user's too
    if sys.base_prefix in site.PREFIXES:
        directories.append(site.getusersitepackages())
    return directories


def tensorflow_requirement(directories, asked=None):
    """The requirement on TensorFlow.

    ``asked``, the name of a distribution, decides; next the first one of
    ``TENSORFLOW_DISTRIBUTIONS`` that is installed in ``directories``.
    """
    installed = {
        normalized(distribution.name)
        for distribution in importlib.metadata.distributions(path=directories)
        if distribution.name  # broken metadata has none
    }
    found = [name for name in TENSORFLOW_DISTRIBUTIONS if name in installed]
    return (asked or (found or ["tensorflow"])[0]) + TENSORFLOW_VERSION


def readme_for_index():
    """The README as a package index shows it, where no other file of this is.

    Relative links lead nowhere there: they become text, and pictures with what is said of
    them are left out.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.rst")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    picture = r"(?m)^\.\. image:: (?!https?:).*\n(?:   .*\n)*\n(?:\*[^*]+\*\n\n)?"
    text = re.sub(picture, "", text)
    return re.sub(r"`([^`<]+?)\s+<(?!https?:)[^>]*>`_", r"\1", text)


if __name__ == "__main__":
    from setuptools import setup

    setup(
        long_description=readme_for_index(),
        long_description_content_type="text/x-rst",
        install_requires=[
            tensorflow_requirement(
                site_directories(), os.environ.get("NENGO_DL_TENSORFLOW")
            ),
            "keras>=3.7",
            # machine code for forward steps, without which they run more slowly: there
            # are no wheels for Macs with Intel processors
            "llvmlite>=0.46,<0.51; "
            "platform_system != 'Darwin' or platform_machine != 'x86_64'",
            "nengo>=4.0",
            "numpy>=1.26,<2.4",  # Synapse.filt of nengo 4.1 fails with 2.4
            "progressbar2",
        ],
    )
