"""Names in files that differ in numbers alone."""

import nengo
import pytest

from nengo_dl.simulator.files import numbered_names, renumbered

WORDS = frozenset({"dense", "dense_net", "functional", "variable"})


class Archive:
    """Headers and arrays that tell their own name."""

    def __init__(self, *names):
        self.names = list(names)

    def header(self, name):
        assert name in self.names
        return f"header of {name}"

    def array(self, name):
        assert name in self.names
        return f"array of {name}"


def taken(names, expected):
    """For each name that is expected, the one in the file."""
    archive = renumbered(Archive(*names), expected, ["dense.gain"], WORDS)
    assert set(archive.names) >= set(expected)
    found = {name: archive.array(name).removeprefix("array of ") for name in expected}
    assert all(archive.header(k) == f"header of {v}" for k, v in found.items())
    return [found[name] for name in expected]


@pytest.mark.parametrize(
    "names, expected",
    (
        ("c['dense_9.k'].w c['dense_10.k'].w", "c['dense.k'].w c['dense_1.k'].w"),
        # one of them is the name of another one now
        ("c['dense_1.k'].w c['dense_2.k'].w", "c['dense.k'].w c['dense_1.k'].w"),
        ("e['functional_3/dense_4'].w", "e['functional/dense'].w"),
        ("n['x'].variable_17 n['x'].variable_20", "n['x'].variable n['x'].variable_1"),
        ("e['dense_net_3'].w e['dense_4'].w", "e['dense_net'].w e['dense'].w"),
        # what a layer is in its second call
        ("e['dense_4'].w e['dense_4_2'].w", "e['dense_1'].w e['dense_1_2'].w"),
        ("e['mine_3'].w e['dense_4'].w", "e['mine_3'].w e['dense'].w"),
    ),
)
def test_later_layers_have_larger_numbers(names, expected):
    names, expected = names.split(), expected.split()
    assert taken(names, expected) == names
    assert taken([*names[::-1], "state time"], expected) == names


@pytest.mark.parametrize(
    "names",
    (
        ["e['dense'].w", "e['mine_2'].w"],  # a name that a person gave
        ["e['dense_3'].w", "e['dense_4'].w", "e['mine_1'].w"],  # one more
        ["e['mine_1'].w"],  # one less
    ),
)
def test_anything_else_is_left_to_the_reader(names):
    archive = Archive(*names)
    expected = ["e['dense'].w", "e['mine_1'].w"]
    assert renumbered(archive, expected, ["e['dense'].gain"], WORDS) is archive


def test_networks_say_which_words_have_numbers():
    with nengo.Network() as net, nengo.Network() as inside:
        inside.numbered_names = frozenset({"dense"})
    assert numbered_names(net) == {"dense", "variable"}
    assert numbered_names(net.copy()) == {"dense", "variable"}
    assert numbered_names(None) == {"variable"}
