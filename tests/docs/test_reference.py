"""The reference has every public name, and every docstring its arguments."""

import dataclasses
import inspect
import re

import pytest

import nengo_dl
from tests.docs import reference

PUBLIC = dict(reference.public_names())
CALLABLE = {
    name: obj
    for name, obj in PUBLIC.items()
    if inspect.isclass(obj) or inspect.isfunction(obj)
}
METHODS = {
    f"{name}.{method}": (cls, function)
    for name, cls in CALLABLE.items()
    if inspect.isclass(cls)
    for method, function in reference.public_methods(cls)
}

#: a docstring that hands over to another one instead of repeating its arguments
SEE = re.compile(r"\b([Aa]s|[Ss]ee|[Ll]ike) `+[.\w]+`+")


def problems(obj, owner=None):
    """Yield what is missing in the docstring of a function, class or method.

    A function or class describes its arguments in the section ``Parameters``. A method
    may also name them in its text, or leave them to the docstring of its class.
    """
    text = inspect.getdoc(obj)
    if not text:
        yield "no docstring"
        return
    bound = owner is not None
    wanted = reference.arguments(obj, bound)
    if dataclasses.is_dataclass(obj) or SEE.search(text):
        return
    found = reference.described(text)
    if inspect.isfunction(obj) and reference.passes_on(obj, bound):
        found = found and set(wanted)
    if owner is not None:
        texts = [text, *(cls.__doc__ or "" for cls in owner.__mro__)]
        found = found | set().union(*map(reference.mentioned, texts))
    for name in wanted:
        if name not in found:
            yield f"argument {name} is not described"


def test_every_public_name_is_in_the_reference():
    known = [obj for _, obj in reference.documented()]
    missing = [n for n, obj in PUBLIC.items() if not any(obj is other for other in known)]
    assert not missing


def test_names_that_users_rely_on_are_public():
    names = {"nengo_dl.Simulator", "nengo_dl.TensorNode", "nengo_dl.losses.nan_mse"}
    assert names <= set(PUBLIC)
    assert "nengo_dl.Simulator.fit" in METHODS
    documented = dict(reference.documented())
    assert documented["nengo_dl.Simulator"] is nengo_dl.Simulator
    assert "nengo_dl.converter.layers.dense.ConvertDense" in documented


@pytest.mark.parametrize("name", sorted(CALLABLE))
def test_docstring_describes_all_arguments(name):
    assert not list(problems(CALLABLE[name]))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_docstring_of_method_describes_all_arguments(name):
    owner, method = METHODS[name]
    assert not list(problems(method, owner))


def test_problems_are_found():
    def right(a, *, b=1, **rest):
        """Something.

        Parameters
        ----------
        a, b : int
            Numbers.
        **rest
            More.

        Returns
        -------
        int
        """

    def incomplete(a, b):
        """Something.

        Parameters
        ----------
        a : int
        """

    def none(a):
        """Something."""

    def other(a):
        """As `right`, with one argument."""

    assert not list(problems(right))
    assert not list(problems(other))
    for function in (incomplete, none, lambda a: a):
        assert len(list(problems(function))) == 1
