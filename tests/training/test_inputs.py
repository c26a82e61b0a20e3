"""Arrays given for input nodes and probes: by what key, in what shape."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.training.inputs import (
    input_nodes,
    nodes_names,
    probes_names,
    resolve_data,
    resolve_targets,
    unique_names,
)


@pytest.fixture
def net():
    """Inputs 'stimulus' (2) and 'context' (3); probes of both and of a hidden node."""
    with nengo.Network() as net:
        net.stimulus = nengo.Node(np.zeros(2), label="stimulus")
        net.hidden = nengo.Node(size_in=4, label="hidden")
        nengo.Node(lambda t: None, label="silent")
        with nengo.Network():
            net.context = nengo.Node(nengo.processes.WhiteNoise(), size_out=3)
        net.p1 = nengo.Probe(net.stimulus, label="out")
        net.p2 = nengo.Probe(net.hidden)
    net.context.label = "context"
    net.inputs = input_nodes(net)
    return net


def test_input_nodes_are_those_without_input(net):
    assert net.inputs == [net.stimulus, net.context]
    assert input_nodes(None) == []


def test_unique_names():
    with nengo.Network():
        labels = ["a", "a", "a_1", None, None, "a", "x/y", "x_y", "", "node"]
        nodes = [nengo.Node(0, label=label) for label in labels]
        ens = nengo.Ensemble(1, 1)
        probe = nengo.Probe(ens)

    names = list(nodes_names(nodes).values())
    assert names == [
        *("a", "a_2", "a_1", "node", "node_1", "a_3"),
        *("x_y", "x_y_1", "node_2", "node_3"),
    ]
    assert unique_names([ens, probe]) == {ens: "ensemble", probe: "probe"}
    assert probes_names([probe]) == {probe: "probe"}


@pytest.mark.parametrize("form", ["list", "tuple", "nodes", "names", "mixed"])
def test_forms_of_data(net, form, rng):
    a, b = rng.uniform(size=(2, 5, 2)), rng.uniform(size=(2, 5, 3))
    data = {
        "list": [a, b],
        "tuple": (a, b),
        "nodes": {net.context: b, net.stimulus: a},
        "names": {"stimulus": a, "context": b},
        "mixed": {"context": b, net.stimulus: a},
    }[form]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays, n_steps = resolve_data(data, net.inputs)
    assert n_steps == 5
    assert set(arrays) == {net.stimulus, net.context}
    assert np.array_equal(arrays[net.stimulus], a)
    assert np.array_equal(arrays[net.context], b)
    assert arrays[net.stimulus] is a  # nothing is copied without need


def test_one_array_for_one_input(net, rng):
    data = rng.uniform(size=(2, 5, 2))
    arrays, n_steps = resolve_data(data, [net.stimulus])
    assert n_steps == 5
    assert np.array_equal(arrays[net.stimulus], data)

    arrays, _ = resolve_data([data.tolist()], [net.stimulus])
    assert np.array_equal(arrays[net.stimulus], data)

    with pytest.warns(UserWarning, match="'stimulus', the only one that it fits"):
        arrays, _ = resolve_data(data, net.inputs)
    assert list(arrays) == [net.stimulus]
    with pytest.raises(ValidationError, match=r"one array for 2 inputs.*'context' \(3\)"):
        resolve_data(data[..., :1], net.inputs)
    with pytest.raises(ValidationError, match="one array for 0 inputs.*has no inputs"):
        resolve_data(data, [])


def test_no_data(net):
    assert resolve_data(None, net.inputs) == ({}, None)
    assert resolve_data({}, net.inputs, n_steps=7) == ({}, 7)


def test_duplicate_labels_are_keys_by_their_unique_names():
    with nengo.Network() as net:
        nodes = [nengo.Node(0, label="in/a"), nengo.Node(0), nengo.Node(0)]
    x = np.ones((1, 2, 1))
    arrays, _ = resolve_data({"in/a": x, "node": 2 * x, "node_1": 3 * x}, net.all_nodes)
    assert [arrays[node][0, 0, 0] for node in nodes] == [1, 2, 3]
    arrays, _ = resolve_data({"in_a": x}, net.all_nodes)
    assert set(arrays) == {nodes[0]}


def test_types_of_data(net):
    nodes = [net.stimulus]
    for dtype, result in (
        ("float32", "float32"),
        ("int8", "float64"),
        (bool, "float64"),
    ):
        arrays, _ = resolve_data(np.ones((1, 2, 2), dtype), nodes)
        assert arrays[net.stimulus].dtype == result
    arrays, _ = resolve_data(np.ones((1, 2, 2)), nodes, dtype=np.float32)
    assert arrays[net.stimulus].dtype == np.float32

    for bad in (np.ones((1, 2, 2), complex), np.full((1, 2, 2), "x"), {1}):
        with pytest.raises(ValidationError, match="'stimulus' must be real numbers"):
            resolve_data(bad, nodes)
    with pytest.raises(ValidationError, match="'stimulus' cannot be made into an array"):
        resolve_data([[[1, 2], [3]]], nodes)


def test_wrong_size_names_node_and_shapes_and_inputs(net):
    with pytest.raises(ValidationError) as error:
        resolve_data(
            {net.stimulus: np.zeros((32, 100, 3))},
            net.inputs,
            where="Simulator.predict",
        )
    assert str(error.value) == (
        "Simulator.predict: data for Node 'stimulus' has shape (32, 100, 3); expected "
        "(batch, steps, 2), because the node's size_out is 2. If the last axis is "
        "right, it may belong to another node: this network's inputs are 'stimulus' "
        "(2), 'context' (3)."
    )


@pytest.mark.parametrize(
    "shape, hint", [((100, 2), r"array\[:, None, :\]"), ((2,), ""), ((1, 2, 3, 2), "")]
)
def test_wrong_rank(net, shape, hint):
    match = rf"'stimulus' has shape .*expected 3 axes \(batch, steps, 2\).*{hint}"
    with pytest.raises(ValidationError, match=match):
        resolve_data(np.zeros(shape), [net.stimulus])


def test_numbers_of_items_and_steps_must_agree(net):
    a, b = np.zeros((2, 5, 2)), np.zeros((2, 6, 3))
    with pytest.raises(
        ValidationError,
        match="'context' has 6 steps .*expected 5, as the data for Node 'stimulus'",
    ):
        resolve_data([a, b], net.inputs)
    with pytest.raises(ValidationError, match="has 3 items .*expected 2, as the data"):
        resolve_data([a, np.zeros((3, 5, 3))], net.inputs)
    with pytest.raises(ValidationError, match="has 5 steps .*expected 4, as n_steps"):
        resolve_data({"stimulus": a}, net.inputs, n_steps=4)
    with pytest.raises(ValidationError, match="2 items .*expected 3, as minibatch_size"):
        resolve_data({"stimulus": a}, net.inputs, minibatch_size=3)
    assert resolve_data({"stimulus": a}, net.inputs, 2, 5)[1] == 5


def test_unknown_keys(net):
    x = np.zeros((1, 1, 2))
    with nengo.Network():
        other = nengo.Node(0)
    for key in ("stim", other, 3, ("a",)):
        with pytest.raises(
            ValidationError, match=r"the key .* is unknown\. .*inputs are"
        ):
            resolve_data({key: x}, net.inputs)
    with pytest.raises(ValidationError, match="not an input, because its size_in is 4"):
        resolve_data({net.hidden: x}, net.inputs)
    with pytest.raises(ValidationError, match="'stimulus' was given twice"):
        resolve_data({net.stimulus: x, "stimulus": x}, net.inputs)


def test_lists_of_the_wrong_length_warn(net):
    a, b = np.zeros((2, 5, 2)), np.zeros((2, 5, 3))
    with pytest.warns(UserWarning, match="list of 1 arrays for 2 .*run their own output"):
        arrays, _ = resolve_data([a], net.inputs)
    assert set(arrays) == {net.stimulus}
    with pytest.warns(UserWarning, match="list of 3 arrays for 2 .*are not used"):
        arrays, _ = resolve_data([a, b, b], net.inputs)
    assert set(arrays) == {net.stimulus, net.context}


def test_number_of_steps_among_the_data(net):
    x = np.zeros((4, 5, 2))
    steps = np.full((4, 1), 5)
    assert resolve_data({"n_steps": steps}, net.inputs) == ({}, 5)
    assert resolve_data({"n_steps": 5, "stimulus": x}, net.inputs)[1] == 5

    with pytest.raises(ValidationError, match="'stimulus' has 5 steps .*expected 6"):
        resolve_data({"n_steps": 6, "stimulus": x}, net.inputs)
    with pytest.raises(ValidationError, match="'n_steps' is 5, but the argument is 3"):
        resolve_data({"n_steps": steps}, net.inputs, n_steps=3)
    with pytest.raises(ValidationError, match="'n_steps' must hold one number"):
        resolve_data({"n_steps": [3, 4]}, net.inputs)


@pytest.mark.parametrize("form", ["list", "probes", "names"])
def test_forms_of_targets(net, form, rng):
    y1, y2 = rng.uniform(size=(2, 5, 2)), rng.uniform(size=(2, 5, 4))
    targets = {
        "list": [y1, y2],
        "probes": {net.p2: y2, net.p1: y1},
        "names": {"out": y1, "probe": y2},
    }[form]
    arrays = resolve_targets(targets, net.probes, n_steps=5, n_items=2)
    assert arrays[net.p1] is y1
    assert arrays[net.p2] is y2


def test_targets_of_some_probes(net):
    arrays = resolve_targets({"out": np.zeros((2, 5, 2), "float32")}, net.probes)
    assert set(arrays) == {net.p1}
    assert arrays[net.p1].dtype == np.float32
    assert set(resolve_targets(np.zeros((2, 5, 2)), [net.p1])) == {net.p1}


def test_targets_that_do_not_fit(net):
    y1 = np.zeros((2, 5, 2))
    with pytest.raises(ValidationError, match="list of 1 arrays for 2 probes"):
        resolve_targets([y1], net.probes)
    with pytest.raises(ValidationError, match=r"one array for 2 probes.*'out' \(2\)"):
        resolve_targets(np.zeros((2, 5, 9)), net.probes)
    with pytest.raises(ValidationError, match="key 'nope' of the target is unknown"):
        resolve_targets({"nope": y1}, net.probes)
    with pytest.raises(ValidationError, match="'probe' .*has shape .* size_in is 4"):
        resolve_targets({net.p2: y1}, net.probes)
    with pytest.raises(ValidationError, match="'out' has shape .*expected 3 axes"):
        resolve_targets({"out": y1[0]}, net.probes)
    with pytest.raises(ValidationError, match="has 2 items .*expected 3, as the number"):
        resolve_targets({"out": y1}, net.probes, n_items=3)


def test_targets_are_not_broadcast_over_steps(net):
    y = np.zeros((2, 1, 2))
    with pytest.raises(ValidationError, match="expected 5 on the second axis"):
        resolve_targets({"out": y}, net.probes, n_steps=5)
    with pytest.raises(ValidationError, match="expected 5 on the second axis"):
        resolve_targets({"out": y}, net.probes, n_steps={net.p1: 5, net.p2: 1})
    arrays = resolve_targets({"out": y}, net.probes, n_steps={net.p1: 1, net.p2: 5})
    assert arrays[net.p1] is y


def test_targets_may_be_numbers_of_classes(net):
    labels = np.array([[[0]], [[3]]])
    assert resolve_targets({net.p2: labels}, net.probes)[net.p2] is labels
    with pytest.raises(ValidationError, match="size_in is 4"):
        resolve_targets({net.p2: labels.astype(float)}, net.probes)
    arrays = resolve_targets({net.p2: np.zeros((2, 1, 7))}, net.probes, check_size=False)
    assert arrays[net.p2].shape == (2, 1, 7)


def test_targets_of_probes_that_give_matrices(net):
    shapes, y = {net.p2: (3, 4)}, np.zeros((2, 5, 3, 4))
    assert resolve_targets({net.p2: y}, net.probes, shapes=shapes)[net.p2] is y
    for wrong, message in (
        (y[:, :, 0], r"expected 4 axes \(batch, steps, 3, 4\)"),
        (
            y[:, :, :2],
            r"the probe's data have the shape \(3, 4\).*'out' \(2\), '",
        ),
        (np.zeros((2, 5, 2, 1), int), r"expected \(batch, steps, 3, 4\)"),
    ):
        with pytest.raises(ValidationError, match=message):
            resolve_targets({net.p2: wrong}, net.probes, shapes=shapes)
