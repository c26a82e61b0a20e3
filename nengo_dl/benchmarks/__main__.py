"""The entrance of ``python -m nengo_dl.benchmarks``."""

from __future__ import annotations

import sys
from typing import Any

PROGRAM = "python -m nengo_dl.benchmarks"

MISSING = f"""\
{PROGRAM} needs the package click, which is not installed;
pip install 'nengo-dl[benchmarks]' brings it"""


def main(arguments: Any = None) -> None:
    """Run the command line.

    ``arguments``: the arguments; None takes those of the process.
    """
    try:
        from nengo_dl.benchmarks.cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit(MISSING)
    cli(args=arguments, prog_name=PROGRAM)


if __name__ == "__main__":
    main()
