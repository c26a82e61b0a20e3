"""What the tests of many runs share."""

import pytest

import nengo_dl
from tests.many.helpers import network


@pytest.fixture(scope="module")
def sim():
    with nengo_dl.Simulator(network(), seed=5, progress_bar=False) as sim:
        yield sim
