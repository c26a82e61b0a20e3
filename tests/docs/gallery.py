"""What examples printed and drew when the pages of the manual were built.

Building the pages runs the examples, block by block, and so do tests. What one build has
run need not run again, as long as it would be the very same: the same example with the
same package, the same versions of all packages, in the same form. All of that is in a
digest beside the page, and who finds another one there runs the example.
"""

import hashlib
import importlib.metadata
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.quickly import QUICK

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "auto_examples"

#: the output of a block, as Sphinx-Gallery puts it on the page
OUTPUT = re.compile(
    r"^\.\. rst-class:: sphx-glr-script-out\n\n"
    r" \.\. code-block:: none\n\n(?P<text>(?:    .*\n|\s*\n)+)",
    re.MULTILINE,
)


class Ran(NamedTuple):
    """What came of an example."""

    printed: str
    picture: Path


def digest(name: str) -> str:
    """Of all that the results of an example depend on, in this environment."""
    found = hashlib.sha256()
    found.update(repr((sys.version, sorted(_settings().items()))).encode())
    # a set: what lies on the path twice is found twice, and tests have another path
    for distribution in sorted(
        {f"{d.metadata['Name']} {d.version}" for d in importlib.metadata.distributions()}
    ):
        found.update(f"{distribution}\n".encode())
    sources = sorted((ROOT / "nengo_dl").rglob("*.py"))
    for path in (ROOT / "examples" / name, *sources):
        found.update(f"{path.relative_to(ROOT).as_posix()}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _settings() -> dict[str, str]:
    """Variables of the environment that this package, examples and compilers look at."""
    return {
        variable: value
        for variable, value in os.environ.items()
        if variable.startswith(("NENGO_DL_", "XLA_", "TF_XLA_"))
        and variable != "NENGO_DL_DOCS_EXAMPLES"  # whether they run
        and (variable, value) != ("XLA_FLAGS", QUICK)  # of tests; no example runs so
    }


def note(page: Path) -> None:
    """Write down with what the example of a page is run; the page itself comes after it.

    Parameters
    ----------
    page : Path
        The script in the folder of pages.
    """
    page.with_suffix(".rst").unlink(missing_ok=True)  # of an earlier run
    page.with_suffix(".digest").write_text(digest(page.name), encoding="utf-8")


def ran(name: str, pages: Path = PAGES) -> Ran | None:
    """What came of an example on its page; None if it did not run just so.

    Parameters
    ----------
    name : str
        Of the script.
    pages : Path
        The folder of the pages of examples.
    """
    noted, page = ((pages / name).with_suffix(end) for end in (".digest", ".rst"))
    if not (noted.exists() and page.exists()):
        return None
    if noted.read_text(encoding="utf-8") != digest(name):
        return None
    text = page.read_text(encoding="utf-8")
    printed = "".join(textwrap.dedent(m["text"]) for m in OUTPUT.finditer(text))
    pictures = sorted((pages / "images").glob(f"sphx_glr_{page.stem}_[0-9]*.png"))
    return Ran(printed, pictures[-1]) if pictures else None
