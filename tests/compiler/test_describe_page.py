"""The web page that shows what the compiler did."""

from html.parser import HTMLParser

import nengo
import numpy as np
import pytest

import nengo_dl

#: elements without an end
VOID = {"meta"}


class Outline(HTMLParser):
    """Checks that elements are nested, and collects headings, cells and links."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.links = [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.found.setdefault(tag, [])
        self.links += [v for k, v in attrs if k in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.found[self.open[-1]].append(data.strip())


@pytest.fixture
def sim():
    with nengo.Network(seed=0, label="a <small> network") as net:
        stimulus = nengo.Node(np.sin)
        called = nengo.Node(lambda t, x: x, size_in=1, label="called")
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(stimulus, ens)
        nengo.Connection(ens, called)
        nengo.Probe(called)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        yield sim


def test_page_is_complete_and_needs_nothing_else(sim):
    text = sim.describe(html=True)
    page = Outline(text)
    assert page.links == []
    assert "url(" not in text and "<script" not in text
    assert "a <small> network" in page.found["h1"][0]
    assert page.found["h2"][:3] == ["Passes", "Kernels", "One step"]
    assert len(page.found["svg"]) > 0
    cells = page.found["td"]
    assert {"lower", "simplify", "share", "stack"} <= set(cells)
    assert "LIF" in cells and "in the loop" in cells
    assert "Runs as Python" in text


def test_page_agrees_with_the_text(sim):
    operators, kernels = sim.describe().splitlines()[0].split(" -> ")
    text = sim.describe(html=True)
    assert f"{operators} &rarr; {kernels}" in text
    # one row for each kernel, and the head
    table = text.partition("<h2>Kernels</h2>")[2].partition("</table>")[0]
    assert table.count("<tr>") == int(kernels.split()[0]) + 1


def test_keras_layer_gives_the_same_page(sim):
    assert sim.tensor_graph.describe() == sim.describe()
    assert sim.tensor_graph.describe(html=True) == sim.describe(html=True)
