"""Configuration of Sphinx."""

from nengo_dl.version import version

project = "NengoDL"
copyright = "2026, NengoDL contributors"
author = "NengoDL contributors"
release = version
version = ".".join(version.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
default_role = "any"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"NengoDL {release}"

autosummary_generate = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
numpydoc_show_class_members = False  # autodoc lists them already
suppress_warnings = ["ref.any"]  # single backquotes also name things outside the page
