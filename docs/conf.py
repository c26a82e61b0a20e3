"""Configuration of Sphinx; ``docs/contributing.rst`` tells how to build the pages."""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")  # figures without windows
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from nengo_dl.version import version

project = "NengoDL"
copyright = "2026, NengoDL contributors"
author = "NengoDL contributors"
release = version
version = ".".join(version.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "real_names",
    "registered",
    "drawn",
    "rooms",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_benchmarks.rst", "extensions"]

# A name in single backquotes is a reference to something in Python, and has to exist:
# with -W every one that does not is an error. See extensions/real_names.py.
default_role = "py:obj"
nitpicky = True

html_theme = "furo"
html_title = f"NengoDL {release}"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # numpydoc's sections have the types, in words
numpydoc_show_class_members = False  # autodoc lists them already
numpydoc_xref_param_type = True  # types such as ~nengo.Network are references
numpydoc_xref_ignore = "all"  # and words in their descriptions are not
# "~nengo.Network" in a list of types is shown as "Network"
numpydoc_xref_aliases = {
    name: f":py:obj:`{name}`"
    for path in Path(__file__).parents[1].glob("nengo_dl/**/*.py")
    for name in re.findall(r"(?<![`\w])~[a-z]\w*(?:\.\w+)+", path.read_text("utf-8"))
}

# The pages of examples are made of the scripts in examples/. By default the scripts are
# shown and not run, so that the pages are built in seconds. NENGO_DL_DOCS_EXAMPLES=run
# runs them, at full size or, with NENGO_DL_EXAMPLES_QUICK=1, in their reduced form; their
# output and figures are then part of the pages.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("written_figures.scrape", "matplotlib"),
    "plot_gallery": os.environ.get("NENGO_DL_DOCS_EXAMPLES", "") == "run",
    "parallel": 2,  # scripts at a time
    "abort_on_example_error": True,
    "remove_config_comments": True,
    # notebooks show the figure that a script ends with; on the pages it is a picture
    "first_notebook_cell": "%matplotlib inline",
    "capture_repr": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}
