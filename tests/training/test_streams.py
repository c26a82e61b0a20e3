"""Data that come batch by batch: each form gives what the same arrays give."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ITEMS, STEPS = 7, 4


@pytest.fixture(scope="module")
def sim():
    """One compiled simulator for many tests; each leaves it as it was."""
    net = networks.recurrent_rates()
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(
            keras.optimizers.SGD(0.0), "mse", metrics=["mae"], loss_weights=[1.0, 0.3]
        )
        yield sim


@pytest.fixture(scope="module")
def light():
    """One that takes the same data and is traced sooner, as it has to be after errors."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.inp = nengo.Node(np.zeros(2), label="inp")
        out = nengo.Node(size_in=2)
        nengo.Connection(net.inp, out, synapse=None)
        net.p = nengo.Probe(out[:1], label="p")
        net.q = nengo.Probe(out, label="q")
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        yield sim


@pytest.fixture
def arrays(rng):
    """Data, targets of two probes, and weights, of items that differ."""
    scale = np.arange(1.0, ITEMS + 1)[:, None, None]
    return {
        "x": rng.uniform(-1, 1, (ITEMS, STEPS, 2)),
        "p": scale * rng.uniform(-1, 1, (ITEMS, STEPS, 1)),
        "q": scale * rng.uniform(-1, 1, (ITEMS, STEPS, 2)),
        "wp": rng.uniform(0.5, 2, ITEMS),
        "wq": rng.uniform(0.5, 2, (ITEMS, STEPS)),
    }


class Batches(keras.utils.PyDataset):
    """Batches of two items, by object."""

    def __init__(self, make, **kwargs):
        super().__init__(**kwargs)
        self.make = make

    def __len__(self):
        return -(-ITEMS // 2)

    def __getitem__(self, i):
        return self.make(slice(2 * i, 2 * i + 2))


FORMS = ("dataset", "unknown shapes", "generator", "infinite", "PyDataset", "threads")


def stream(form, net, arrays, weights=False):
    """The same items in another form, and arguments that go with it."""

    def by_name(part):
        parts = {"inp": part["x"]}, {"p": part["p"], "q": part["q"]}
        return (*parts, {"p": part["wp"], "q": part["wq"]}) if weights else parts

    def by_object(items):
        part = {name: array[items] for name, array in arrays.items()}
        parts = {net.inp: part["x"]}, [part["p"], part["q"]]
        return (*parts, {net.p: part["wp"], net.q: part["wq"]}) if weights else parts

    def generator(forever=False):
        while True:
            for i in range(0, ITEMS, 3):
                yield by_object(slice(i, i + 3))
            if not forever:
                return

    dataset = tf.data.Dataset.from_tensor_slices(by_name(arrays))
    if form == "dataset":
        return dataset.batch(3), {}
    if form == "unknown shapes":
        flat = tf.nest.flatten(dataset.element_spec)

        def forget(*element):
            parts = tf.nest.flatten(element)
            parts = tf.numpy_function(lambda *a: a, parts, [s.dtype for s in flat])
            return tf.nest.pack_sequence_as(dataset.element_spec, parts)

        return dataset.batch(2).map(forget), {}
    if form == "PyDataset":
        return Batches(by_object), {}
    if form == "threads":
        return Batches(by_object, workers=2), {}
    if form == "generator":
        return generator(), {}
    return generator(forever=True), {"steps": -(-ITEMS // 3)}


@pytest.mark.parametrize("weights", (False, True))
@pytest.mark.parametrize("form", FORMS)
def test_evaluate_and_predict(sim, arrays, form, weights):
    net = sim.network
    x, y = {net.inp: arrays["x"]}, [arrays["p"], arrays["q"]]
    given = {"sample_weight": [arrays["wp"], arrays["wq"]]} if weights else {}
    expected = sim.evaluate(x, y, verbose=0, **given)
    data, kwargs = stream(form, net, arrays, weights)
    found = sim.evaluate(data, verbose=0, **kwargs)
    assert set(found) == {"loss", "p_loss", "q_loss", "p_mae", "q_mae"}
    for name, value in expected.items():
        assert np.isclose(found[name], value, rtol=1e-12), name
    if not weights:
        data, kwargs = stream(form, net, arrays)
        outputs, reference = sim.predict(data, **kwargs), sim.predict(x)
        for probe in (net.p, net.q):
            assert outputs[probe].shape == reference[probe].shape
            assert np.allclose(outputs[probe], reference[probe], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ("dataset", "infinite", "PyDataset"))
def test_fit(arrays, form):
    """The same steps down the gradient, with validation data in the same form."""
    net = networks.recurrent_rates()
    size = 2 if form == "PyDataset" else 3
    x, y = {net.inp: arrays["x"]}, [arrays["p"], arrays["q"]]
    results = []
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        for streamed in (False, True):
            sim.reset()
            sim.compile(keras.optimizers.SGD(1e-7, momentum=0.9), "mse")
            kwargs = {"x": x, "y": y, "batch_size": size, "validation_data": (x, y)}
            if streamed:
                data, steps = stream(form, net, arrays)
                held_out, _ = stream(form, net, arrays)
                kwargs = {"x": data, "validation_data": held_out}
                if steps:
                    kwargs["steps_per_epoch"] = kwargs["validation_steps"] = 3
            history = sim.fit(**kwargs, shuffle=False, epochs=3, verbose=0)
            results.append((history.history, sim.keras_model.get_weights()))
            assert history.epoch == [0, 1, 2]
    (expected, before), (found, after) = results
    names = {"loss", "p_loss", "q_loss"}
    assert set(found) == set(expected) == {*names, *(f"val_{name}" for name in names)}
    for name, values in expected.items():
        assert np.allclose(found[name], values, rtol=1e-10)
        assert values[0] != values[1]
    for a, b in zip(before, after, strict=True):
        assert np.allclose(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("form", ("dataset", "generator", "PyDataset"))
def test_arrays_beside_validation_data_in_other_forms(sim, arrays, form):
    net = sim.network
    x, y = {net.inp: arrays["x"]}, [arrays["p"], arrays["q"]]
    data, _ = stream(form, net, arrays)
    history = sim.fit(x, y, validation_data=data, verbose=0).history
    assert np.isclose(history["val_loss"][0], history["loss"][0], rtol=1e-12)
    data, _ = stream(form, net, arrays)
    history = sim.fit(data, validation_data=(x, y), verbose=0, initial_epoch=1, epochs=2)
    assert history.epoch == [1]
    assert np.isclose(*history.history["val_loss"], *history.history["loss"])


def test_batches_may_differ_in_steps(sim, rng):
    net = sim.network
    lengths = (3, 3, 5, 2)
    parts = [
        ({"inp": rng.uniform(-1, 1, (2, n, 2))}, {"p": np.ones((2, n, 1))})
        for n in lengths
    ]
    losses = [
        sim.evaluate(x, {**y, "q": np.zeros((2, n, 2))}, verbose=0)["loss"]
        for n, (x, y) in zip(lengths, parts, strict=True)
    ]

    def elements():
        for x, y in parts:
            yield x, {**y, net.q: np.zeros((2, x["inp"].shape[1], 2))}

    found = sim.evaluate(elements(), verbose=0)
    assert np.isclose(found["loss"], np.mean(losses), rtol=1e-12)
    with pytest.raises(ValidationError, match="differ in their number of steps"):
        sim.predict(elements())

    class Uneven(Batches):
        def __len__(self):
            return len(parts)

        def __getitem__(self, i):
            return list(elements())[i]

    with pytest.raises(ValidationError, match="element 2 .*5 steps.* have 3"):
        sim.evaluate(Uneven(None), verbose=0)


# nodes without data ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    """Nodes with data, a constant, a function of time, and noise; some state."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.given = nengo.Node([0.0], label="given")
        constant = nengo.Node([0.3])
        time = nengo.Node(lambda t: np.sin(300 * t))
        noise = nengo.Node(nengo.processes.WhiteNoise(seed=None), label="noise")
        out = nengo.Node(size_in=1)
        for node in (net.given, constant, time, noise):
            nengo.Connection(node, out, synapse=0.005)
        net.p = nengo.Probe(out, label="p")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", "mse")
        yield sim


def noisy_stream(form, x):
    def elements():
        for i in range(0, len(x), 2):
            yield {"given": x[i : i + 2]}, np.zeros((len(x[i : i + 2]), x.shape[1], 1))

    if form == "generator":
        return elements()
    if form == "dataset":
        parts = ({"given": x}, np.zeros((*x.shape[:2], 1)))
        return tf.data.Dataset.from_tensor_slices(parts).batch(2)

    class Data(keras.utils.PyDataset):
        num_batches = -(-len(x) // 2)

        def __getitem__(self, i):
            return list(elements())[i]

    return Data()


@pytest.mark.parametrize("stateful", (False, True))
@pytest.mark.parametrize("form", ("dataset", "generator", "PyDataset"))
def test_nodes_without_data_run_their_own_output(noisy, form, stateful, rng):
    """Also their noise goes on after a stateful call where it would have."""
    sim, x = noisy, rng.uniform(-1, 1, (5, 6, 1))
    found = []
    for data in ({"given": x}, noisy_stream(form, x)):
        sim.reset()
        sim.run_steps(2)
        outputs = sim.predict(data, stateful=stateful)["p"]
        assert sim.n_steps == (20 if stateful else 2)
        sim.clear_probes()
        sim.run_steps(3)
        found.append((outputs, sim.data[sim.network.p]))
    for a, b in zip(*found, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-12)
    assert len(np.unique(found[0][0][:, -1])) == 5


@pytest.mark.parametrize("form", ("dataset", "generator"))
def test_data_that_only_tell_the_number_of_steps(noisy, form):
    def elements():
        for items in (2, 1):
            yield {"n_steps": np.full((items, 1), 5, "int32")}

    if form == "dataset":
        spec = {"n_steps": tf.TensorSpec((None, 1), tf.int32)}
        data = tf.data.Dataset.from_generator(elements, output_signature=spec)
    else:
        data = ((element,) for element in ({"n_steps": np.full((2, 1), 5)},) * 1)
    noisy.reset()
    found = noisy.predict(data)["p"]
    assert np.allclose(found[:2], noisy.predict(n_steps=5)["p"], rtol=0, atol=1e-12)
    assert found.shape == ((3 if form == "dataset" else 2), 5, 1)
    if form == "dataset":
        with pytest.raises(
            ValidationError, match="'n_steps' is 5, but the argument is 4"
        ):
            noisy.predict(data, n_steps=4)


# classes --------------------------------------------------------------------------------


def test_class_weight(rng):
    """It is a weight of each item and step, in every form of data."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        node = nengo.Node(np.zeros(3), label="inp")
        probe = nengo.Probe(node, label="p")
        nengo.Probe(node, label="other")
    x = rng.uniform(-1, 1, (5, 2, 3))
    labels = rng.integers(3, size=(5, 2, 1)) if hasattr(rng, "integers") else None
    labels = rng.randint(3, size=(5, 2, 1)) if labels is None else labels
    labels[0, 0], labels[0, 1] = 1, 2
    weights = {0: 0.5, 1: 3.0}  # the others count as they are
    table = np.array([0.5, 3.0, 1.0])
    parts = {"inp": x}, {"p": labels}
    datasets = tf.data.Dataset.from_tensor_slices(parts)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        sim.compile("sgd", loss={probe: loss})
        expected = sim.evaluate(*parts, sample_weight=table[labels[..., 0]], verbose=0)
        plain = sim.evaluate(*parts, verbose=0)
        assert not np.isclose(plain["loss"], expected["loss"], rtol=1e-3)
        for data in (
            parts,
            (datasets.batch(2),),
            (
                (
                    (a, b)
                    for a, b in [
                        ({"inp": x[i : i + 2]}, {probe: labels[i : i + 2]})
                        for i in (0, 2, 4)
                    ]
                ),
            ),
        ):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*no gradient.*")
                warnings.filterwarnings("ignore", message=".*trainable weights.*")
                history = sim.fit(*data, class_weight=weights, verbose=0).history
            assert np.isclose(history["loss"][0], expected["loss"], rtol=1e-12)
        for bad in ({-1: 1.0}, {0.5: 1.0}, {}, [1.0, 2.0]):
            with pytest.raises(ValidationError, match="class_weight must be a dict"):
                sim.fit(*parts, class_weight=bad, verbose=0)
        one = {"class_weight": weights, "verbose": 0}
        with pytest.raises(ValidationError, match="class_weight or sample_weight, not"):
            sim.fit(*parts, sample_weight=np.ones(5), **one)
        floats = {"p": np.zeros((5, 2, 3))}
        with pytest.raises(ValidationError, match="'p' has shape.*numbers of classes"):
            sim.fit({"inp": x}, floats, **one)
        both = {"p": labels, "other": labels}
        with pytest.raises(ValidationError, match=r"one probe; got.*\['p', 'other'\]"):
            sim.fit({"inp": x}, both, **one)
        dataset = tf.data.Dataset.from_tensor_slices(({"inp": x}, floats)).batch(2)
        with pytest.raises(ValidationError, match="'p' has shape.*numbers of classes"):
            sim.fit(dataset, **one)


# what does not fit ----------------------------------------------------------------------


def two(items=2, steps=4, size=2, target_steps=None, target_items=None, **other):
    x = {"inp": np.zeros((items, steps, size)), **other}
    shape = (target_items or items, target_steps or steps)
    return x, {"p": np.zeros((*shape, 1)), "q": np.zeros((*shape, 2))}


@pytest.mark.parametrize(
    "bad, message",
    [
        (two(size=3), r"Node 'inp' has shape .*3\); expected .*2\).*size_out is 2"),
        (two(target_steps=1), "Probe 'p' has shape.*expected 4 on the second axis"),
        (two(target_items=1), "'p' has 1 items.*expected 2"),
        (two(other=np.zeros((2, 4, 1))), "key 'other' of the data is unknown.*'inp'"),
        ((np.zeros((2, 4, 2)),), "no targets"),
        ((*two(), np.zeros((2, 3))), r"sample_weight for Probe 'p' has shape"),
        (two(items=4), "4 items; expected at most minibatch_size=3"),
    ],
)
@pytest.mark.parametrize("form", ("dataset", "generator", "PyDataset"))
def test_first_element_that_does_not_fit(sim, form, bad, message):
    """Nothing has run, and of a dataset nothing was read."""
    iterations = sim.keras_model.optimizer.iterations
    before = iterations.numpy()
    data = {
        "dataset": lambda: tf.data.Dataset.from_tensors(bad),
        "generator": lambda: iter([bad]),
        "PyDataset": lambda: Batches(lambda items: bad),
    }[form]()
    with pytest.raises(ValidationError, match=message):
        sim.fit(data, verbose=0)
    assert iterations.numpy() == before


@pytest.mark.parametrize(
    "bad, message",
    [
        (two(size=3), r"element 1.*Node 'inp' has shape \(2, 4, 3\)"),
        (two(target_steps=1), "element 1.*Probe 'p' has shape.*expected 4"),
        (two(target_items=1), "element 1.*'p' has 1 items"),
        (two(items=4), "element 1.*4 items; expected at most minibatch_size=3"),
        ((*two(), np.ones(2)), "element 1.*alike: weights are for"),
        (({}, two()[1]), "element 1.*number of steps is not known"),
        (two(n_steps=np.full((2, 1), 3)), "element 1.*4 steps.*expected 3, as n_steps"),
        (({"n_steps": 4}, two()[1]), r"element 1.*alike: data are for \['inp'\].*\[\]"),
    ],
)
@pytest.mark.parametrize("form", ("generator", "threads"))
def test_later_elements_that_do_not_fit(light, form, bad, message):
    elements = [two(), bad, two(), two()]
    data = iter(elements)
    if form == "threads":
        data = Batches(lambda items: elements[items.start // 2], workers=2)
    with pytest.raises(ValidationError, match=message):
        light.fit(data, verbose=0)
    assert np.isfinite(light.fit(iter([two()]), verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    "bad, message",
    [
        (two(items=4), "4 items; expected at most minibatch_size=3"),
        (two(target_steps=1), "Probe 'p' has shape.*expected 4 on the second axis"),
        (two(target_items=1), "'p' has 1 items.*expected 2"),
        (two(size=3), r"Node 'inp' has shape \(2, 4, 3\)"),
        (two(n_steps=np.full((2, 1), 3)), "'inp' has 4 steps.*expected 3, as n_steps"),
    ],
)
def test_elements_of_a_dataset_whose_specification_is_vague(light, bad, message):
    """What only an element tells is said in the same words as of arrays."""
    spec = tf.nest.map_structure(
        lambda a: tf.TensorSpec((None,) * np.ndim(a), np.asarray(a).dtype), bad
    )
    good = two(n_steps=np.full((2, 1), 4)) if "n_steps" in bad[0] else two()
    data = tf.data.Dataset.from_generator(
        lambda: iter([good, bad]), output_signature=spec
    )
    with pytest.raises(ValidationError, match=message):
        light.fit(data, verbose=0)
    fine = tf.data.Dataset.from_generator(lambda: iter([good]), output_signature=spec)
    assert np.isfinite(light.fit(fine, verbose=0).history["loss"]).all()


def test_arguments_that_go_with_arrays(sim, arrays):
    data, _ = stream("dataset", sim.network, arrays)
    for name, value in {
        "y": arrays["p"],
        "sample_weight": arrays["wp"],
        "batch_size": 2,
        "validation_split": 0.5,
    }.items():
        with pytest.raises(ValidationError, match=f"{name} goes with arrays"):
            sim.fit(data, **{name: value}, verbose=0)
    with pytest.raises(ValidationError, match="one batch.*Simulator.predict"):
        sim.predict_on_batch(data)


def test_generators_that_end(sim, arrays):
    with pytest.raises(ValidationError, match="gives no data"):
        sim.fit(iter(()), verbose=0)
    data, _ = stream("generator", sim.network, arrays)
    with pytest.raises(ValidationError, match="end in an earlier epoch.*steps_per_epoch"):
        sim.fit(data, epochs=2, verbose=0)
    held_out, _ = stream("generator", sim.network, arrays)
    data, _ = stream("dataset", sim.network, arrays)
    with pytest.raises(ValidationError, match=r"\(validation_data\).*validation_steps"):
        sim.fit(data, validation_data=held_out, epochs=2, verbose=0)


def test_what_a_generator_raises_is_raised(sim):
    def broken():
        yield two()
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        sim.fit(broken(), verbose=0)
    broken = Batches(lambda items: two() if items.start < 4 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sim.evaluate(broken, verbose=0)


def test_one_step_through_synapses_warns():
    with nengo.Network() as net:
        node = nengo.Node([0.0], label="inp")
        nengo.Probe(node, synapse=0.1)
    x = np.zeros((1, 1, 1))
    datasets = (
        tf.data.Dataset.from_tensors((x,)),
        iter([(x,)]),
        Batches(lambda items: (x,)),
    )
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for data in datasets:
            with pytest.warns(UserWarning, match="one step.*synapse=None"):
                sim.predict(data)
