"""Warnings that point at the user's own line, once for each cause."""

import ast
import inspect
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.notices import forget, warn

PACKAGE = Path(nengo_dl.__file__).parent


def this_line():
    return inspect.currentframe().f_back.f_lineno


def test_a_warning_names_the_line_of_the_user():
    with pytest.warns(UserWarning, match="a thing") as caught:
        line = this_line() + 1
        warn("a thing")
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_calls_of_libraries_in_between_are_passed_over():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # the standard library calls back, as Keras does from fit
        sorted([1], key=partial(lambda x: warn("a thing") or x))
    assert caught[0].filename == __file__


def test_without_a_frame_of_the_user_it_warns_all_the_same():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(warn, "a thing").result()
    assert [str(w.message) for w in caught] == ["a thing"]


def test_a_cause_is_told_once_until_it_is_forgotten():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in "abc":
            warn(text, once="cause")
        warn("d", once="another cause")
        forget()
        warn("e", once="cause")
    assert [str(w.message) for w in caught] == ["a", "d", "e"]


def test_the_category_is_that_of_the_caller():
    with pytest.warns(DeprecationWarning, match="older"):
        warn("older", DeprecationWarning)


def test_addresses_in_memory_are_left_out():
    with pytest.warns(UserWarning) as caught:
        warn(f"{object()} and {nengo.Network()}")
        warn("once", once=("cause", f"{object()}"))
        warn("twice", once=("cause", f"{object()}"))
    texts = [str(w.message) for w in caught]
    assert texts == ["<object object> and <Network (unlabeled)>", "once"]


def calls_of_warn():
    """Yield (file, line, call) for each warning of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name == "warn" and path.name != "notices.py":
                    yield path.relative_to(PACKAGE).as_posix(), node.lineno, node


def test_all_warnings_find_the_line_of_the_user():
    found = list(calls_of_warn())
    assert len(found) > 30
    for path, line, call in found:
        owner = getattr(getattr(call.func, "value", None), "id", None)
        assert owner != "warnings", f"{path}:{line}: use nengo_dl.notices.warn"
        assert not [k for k in call.keywords if k.arg == "stacklevel"], f"{path}:{line}"


def small_network(**settings):
    with nengo.Network() as net:
        nengo_dl.configure_settings(jit=False, **settings)
        net.a = nengo.Node([0.5])
        net.b = nengo.Ensemble(10, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(net.a, net.b)
        net.p = nengo.Probe(net.b)
    return net


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, progress_bar=False, **kwargs)


def misplaced_setting():
    with nengo.Network() as net:
        with nengo.Network():
            nengo_dl.configure_settings(dtype="float64")
    simulator(net).close()


def missing_device():
    simulator(small_network(), device="/gpu:7").close()


def no_steps():
    with simulator(small_network()) as sim:
        sim.run(0.0001)


def too_many_arrays():
    with simulator(small_network()) as sim:
        sim.run_steps(2, data=[np.ones((1, 2, 1)), np.ones((1, 2, 1))])


def one_step_through_a_synapse():
    with simulator(small_network()) as sim:
        sim.predict(np.ones((1, 1, 1)))


def nothing_to_train():
    with simulator(small_network(trainable=False)) as sim:
        sim.compile("sgd", loss="mse")
        sim.fit(np.ones((1, 3, 1)), np.ones((1, 3, 1)), verbose=0)


def function_without_gradient():
    net = small_network()
    with net:
        doubled = nengo.Node(lambda t, x: 2 * x, size_in=1)
        nengo.Connection(net.b, doubled)
        probe = nengo.Probe(doubled)
    with simulator(net) as sim:
        sim.compile("sgd", loss={probe: "mse"})
        sim.fit(np.ones((1, 3, 1)), {probe: np.ones((1, 3, 1))}, verbose=0)


def older_name():
    with simulator(small_network()) as sim:
        sim.run_steps(2, input_feeds={next(iter(sim.model.toplevel.nodes)): [[[1], [1]]]})


def older_layer():
    with nengo.Network():
        nengo_dl.tensor_layer(nengo.Node([0]), keras.layers.ReLU())


#: what a user does, what is said, and what to do about it
CAUSES = [
    (misplaced_setting, "has no effect", "in the outermost network"),
    (missing_device, "/gpu:7", "Leave device out"),
    (no_steps, "0 timesteps", "A step takes 0.001 seconds"),
    (too_many_arrays, "2 arrays for 1 input nodes", "leave them out"),
    (one_step_through_a_synapse, "one step", "synapse=None"),
    (nothing_to_train, "nothing to train", "trainable=False"),
    (function_without_gradient, "no gradient", "nengo_dl.TensorNode"),
    (older_name, "input_feeds", "sim.run_steps(..., data=...)"),
    (older_layer, "deprecated", "use nengo_dl.Layer(f)(x, ...)"),
]


@pytest.mark.parametrize("cause, what, way_out", CAUSES)
def test_a_warning_reads_the_same_each_time_and_says_what_to_do(cause, what, way_out):
    texts = []
    for _ in range(2):
        forget()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cause()
        found = [w for w in caught if what in str(w.message)]
        assert len(found) == 1
        assert found[0].filename == __file__
        texts.append(str(found[0].message))
    assert texts[0] == texts[1]
    assert way_out in texts[0]
    assert not re.search("0x[0-9a-f]{6}", texts[0])
