"""The parameters of a network as a table."""

import nengo
import pytest

import nengo_dl
from nengo_dl.simulator.data import Table


@pytest.fixture
def net():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(trainable=None)
        a = nengo.Ensemble(10, 2, label="a")
        b = nengo.Ensemble(1200, 1, neuron_type=nengo.RectifiedLinear(), label="b")
        net.config[a.neurons].trainable = False
        nengo.Connection(nengo.Node([0, 0]), a)
        learned = nengo.Connection(
            a, b, transform=[[1, 0]], learning_rule_type=nengo.PES()
        )
        nengo.Connection(b, learned.learning_rule)
        nengo.Probe(b, label="p")
    return net


def test_each_object_has_a_row_that_says_what_changes_it(net):
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        text = sim.summary()
        rows = {line.split("  ")[0]: line for line in text.splitlines()}
        assert rows["ensembles['a']"].split("  ")[-1].strip() == (
            "encoders: training, bias: nothing"
        )
        assert "10 LIF" in rows["ensembles['a']"]
        assert "encoders (10, 2), bias (10,)" in rows["ensembles['a']"]
        assert "1,200 RectifiedLinear" in rows["ensembles['b']"]
        assert rows["connections['a -> b']"].endswith("a rule")
        assert "weights (1, 10)" in rows["connections['a -> b']"]
        assert rows["probes['p']"].endswith("nothing")  # decoders of a probe


def test_the_counts_add_up(net):
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        in_all = sum(sim.data[e].scaled_encoders.size for e in net.all_ensembles)
        in_all += sum(sim.data[e].bias.size for e in net.all_ensembles)
        in_all += 10 + 1200 + 1200  # decoders; the node is connected without a matrix
        assert sim.count_params() == in_all
        assert f"{in_all:,} parameters: " in sim.summary()


def test_it_is_shown_in_lines_and_can_be_read_after_closing(net):
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        text = sim.summary()
    assert isinstance(text, Table) and repr(text) == str(text)
    assert sim.summary() == text


def test_a_network_without_parameters():
    with nengo.Network() as net:
        nengo.Probe(nengo.Node([0]))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert sim.count_params() == 0
        assert sim.summary().splitlines()[-1].startswith("0 parameters: ")
