"""The simulator under test, as Nengo's pytest plugin asks for it."""

import os

#: environment variable that says which simulator is tested; test processes inherit it
VARIABLE = "NENGO_DL_SUITE"

#: and which executor runs it, if one is forced
EXECUTOR = "NENGO_DL_SUITE_EXECUTOR"

#: what it may be: types of this package's simulator, or Nengo's own for comparison
CHOICES = ("float32", "float64", "reference")


def pytest_addoption(parser):
    """Make the setting known, of which the plugin that reads it fails to tell pytest."""
    parser.addini("allclose_tolerances", "tolerances of the fixture allclose")


def load(request):
    """The class that takes the place of ``nengo.Simulator`` in Nengo's tests.

    The tolerances of ``pytest.ini`` are for ``float32`` only; in double precision Nengo's
    own have to do.
    """
    # only now, so that pytest can rewrite the assertions of Nengo's tests
    import nengo

    import nengo_dl
    from nengo_dl.settings import SETTINGS

    choice = os.environ.get(VARIABLE, "float32")
    if choice not in CHOICES:
        raise ValueError(f"{VARIABLE} is {choice!r}, expected one of {CHOICES}")
    # one cache for each process: with one for all they would wait for each other
    decoders = request.getfixturevalue("tmp_path_factory").mktemp("decoders")
    nengo.rc.set("decoder_cache", "path", str(decoders))
    if choice != "float32":
        request.config.inicfg.pop("allclose_tolerances", None)
    if choice == "reference":
        return nengo.Simulator
    # Nengo's networks cannot be given settings without changing what is tested
    SETTINGS["dtype"] = SETTINGS["dtype"]._replace(default=choice)
    forced = os.environ.get(EXECUTOR, "auto")
    SETTINGS["executor"] = SETTINGS["executor"]._replace(default=forced)
    return nengo_dl.Simulator
