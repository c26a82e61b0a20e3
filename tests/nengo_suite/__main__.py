"""Nengo's own tests with this package's simulator.

In the root of the repository::

    python -m tests.nengo_suite [--dtype {float32,float64,reference}]
        [--executor {auto,native,numpy,tensorflow}] [pytest options]

Further options go to pytest: ``-n 2`` for two processes, ``-k name`` for some tests.
``--dtype reference`` runs the same tests with ``nengo.Simulator``. The one after
``--executor`` runs all steps, or a test fails.

``--spa --slow`` adds those of Nengo's SPA, and some that take long. Two of them,
``test_cortical.py::test_convolution`` and ``test_thalamus.py::test_thalamus``, fail with
``nengo.Simulator`` as well, with the same values.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tests.nengo_suite.loader import CHOICES, EXECUTOR, VARIABLE

SETTINGS = Path(__file__).resolve().parent / "pytest.ini"


def main(arguments=None):
    """Run the tests; returns pytest's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.nengo_suite")
    parser.add_argument("--dtype", choices=CHOICES, default="float32")
    executors = "auto", "native", "numpy", "tensorflow"
    parser.add_argument("--executor", choices=executors, default="auto")
    known, others = parser.parse_known_args(arguments)
    os.environ[EXECUTOR] = known.executor
    os.environ[VARIABLE] = known.dtype
    # the networks are small: threads would only get into each other's way
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    # the tests take their seeds from their names, which are to be those that they have
    # in Nengo's repository
    root = Path(importlib.util.find_spec("nengo").origin).parent.parent
    options = ["-c", str(SETTINGS), f"--rootdir={root}", "-p", "no:cacheprovider"]
    if known.dtype == "reference":
        options += ["-o", "nengo_test_unsupported="]
    options += ["-p", "tests.nengo_suite.loader", "--pyargs", "nengo"]
    return pytest.main([*options, *others])


if __name__ == "__main__":
    sys.exit(main())
