"""The version of the package, for the code and for the package metadata.

``MAJOR.MINOR.PATCH``; a ``.devN`` at the end marks the time before that release, whose
section in ``CHANGES.rst`` is then called "unreleased".
"""

name = "nengo-dl"
version = "4.0.0.dev0"
