"""What `Simulator.describe` tells of a network in several parts."""

import nengo
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.simulator.parts import describe_parts


def rows(text):
    """Figures of the table: part, neurons, pieces, values in, values out, neighbours."""
    return [list(map(int, line.split())) for line in text.splitlines()[3:-1]]


@pytest.fixture(scope="module")
def rings():
    """Two rings of three ensembles; one connection of two values between them."""
    with nengo.Network(seed=0) as net:
        net.ensembles_of = [[nengo.Ensemble(10, 3) for _ in range(3)] for _ in range(2)]
        for ring in net.ensembles_of:
            for a, b in zip(ring, ring[1:] + ring[:1]):
                nengo.Connection(a, b)
        nengo.Connection(net.ensembles_of[0][0][:2], net.ensembles_of[1][0][:2])
    return net


def test_rings_are_components_and_parts(rings):
    with nengo_dl.Simulator(rings, progress_bar=False) as sim:
        text = sim.describe(parts=2)
    assert text.startswith("6 ensembles and nodes, 60 neurons: 2 strongly connected")
    assert "the largest with 30" in text
    given, taken = sorted(rows(text), key=lambda row: row[3])
    assert given[1:] == [30, 3, 0, 2, 1] and taken[1:] == [30, 3, 2, 0, 1]
    assert text.endswith("2 of 20 values cross in each step")


@pytest.mark.parametrize("parts", (1, 3, 6))
def test_parts_are_complete(rings, parts):
    found = rows(describe_parts(rings, parts))
    assert [row[0] for row in found] == list(range(parts))
    assert sum(row[1] for row in found) == 60 and all(row[2] for row in found)
    assert sum(row[3] for row in found) == sum(row[4] for row in found)
    assert max(row[1] for row in found) <= 1.5 * 60 / parts


def test_some_connections_are_not_cut():
    with nengo.Network() as net:
        a, b, c, d = (nengo.Ensemble(10, 1) for _ in range(4))
        nengo.Connection(a.neurons, b.neurons[:5], transform=[[1] * 10] * 5, synapse=None)
        learned = nengo.Connection(b, c, learning_rule_type=nengo.PES())
        nengo.Connection(d, learned.learning_rule)
        error = nengo.Connection(c, d)
    assert "2 pieces may be apart" in describe_parts(net, 2)
    with net:
        nengo.Probe(error)
    assert "1 pieces may be apart" in describe_parts(net, 1)
    with pytest.raises(ValidationError, match="from 1 to 1.*got 2"):
        describe_parts(net, 2)


def test_what_has_no_network_has_no_parts(rings):
    with pytest.raises(ValidationError, match="give the network"):
        describe_parts(None, 2)
    with nengo_dl.Simulator(rings, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match="at least 1"):
            sim.describe(parts=0)
