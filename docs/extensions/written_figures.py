"""Figures that examples write to files, on the pages of the examples.

Sphinx-Gallery shows what is drawn with ``matplotlib.pyplot``. Examples draw into files,
as they do when they are run by hand. Here those files are moved to the pages. What the
example was run with is written down beside its page, for the tests, which look at what it
printed: see ``tests/docs/gallery.py``.
"""

import importlib
import shutil
import sys
from pathlib import Path

from sphinx_gallery.scrapers import figure_rst

ROOT = Path(__file__).resolve().parents[2]


def scrape(block, block_vars, gallery_conf):
    """Move the pictures that a block of an example has written; give their RST.

    They have the name of the example. Others in the folder belong to examples that run at
    the same time.
    """
    page = Path(block_vars["target_file"])
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.docs.gallery").note(page)
    moved = []
    for written in sorted(Path.cwd().glob(f"{page.stem}*.png")):
        moved.append(next(block_vars["image_path_iterator"]))
        shutil.move(written, moved[-1])
    return figure_rst(moved, gallery_conf["src_dir"])
