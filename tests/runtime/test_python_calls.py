"""What Python functions raise while TensorFlow calls them comes out as it was raised."""

import nengo
import numpy as np
import pytest

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
originals = pytest.importorskip("nengo_dl.runtime.tensorflow.python_calls")


class Own(Exception):
    """An exception that TensorFlow cannot know."""


def failing(kind):
    """A function that raises an exception with a cause."""

    def fail(*args, **kwargs):
        try:
            raise KeyError("the cause")
        except KeyError as cause:
            raise kind("as it was raised") from cause

    return fail


KINDS = (Own, ValueError, KeyboardInterrupt, SystemExit)


@pytest.fixture
def sim():
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0])
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(node, ens, synapse=None)
        nengo.Probe(ens)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        yield sim


def raised(sim, kind, **fit):
    """The exception that comes out of a training."""
    x = np.ones((4, 1, 1))
    with pytest.raises(kind) as caught:
        sim.fit(**{"x": x, "y": x, "verbose": 0, **fit})
    return caught.value


def check(error, kind):
    """That it is the one that was raised, with its cause."""
    assert type(error) is kind and error.args == ("as it was raised",)
    assert isinstance(error.__cause__, KeyError)


@pytest.mark.parametrize("kind", KINDS)
def test_of_losses(sim, kind):
    def loss(y_true, y_pred):
        loss = tf.py_function(failing(kind), [y_pred], y_pred.dtype)
        return tf.ensure_shape(loss, (None, 1))

    sim.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False)
    check(raised(sim, kind), kind)
    sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x = np.ones((4, 1, 1))
    assert len(sim.fit(x, x, verbose=0).history["loss"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_of_metrics(sim, kind):
    def metric(y_true, y_pred):
        value = tf.numpy_function(failing(kind), [y_pred], y_pred.dtype)
        return tf.ensure_shape(value, (None, 1))

    sim.compile(keras.optimizers.SGD(0.0), "mse", metrics=[metric], jit_compile=False)
    check(raised(sim, kind), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_of_generators(sim, kind):
    def batches():
        x = np.ones((2, 1, 1))
        yield x, x
        failing(kind)()

    sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    check(raised(sim, kind, x=batches(), y=None), kind)


def test_nothing_tunes_how_generators_are_read():
    data = originals.of_generator(lambda: iter([1, 2]), tf.TensorSpec((), tf.int64))
    assert data.options().autotune.enabled is False
    assert data.prefetch(1).options().autotune.enabled is False
    assert [int(value) for value in data] == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_of_datasets(sim, kind):
    x = tf.ones((2, 1, 1))

    def change(x):
        return tf.numpy_function(failing(kind), [x], x.dtype)

    data = tf.data.Dataset.from_tensors(x).map(change)
    data = data.map(lambda x: (tf.ensure_shape(x, (2, 1, 1)),) * 2)
    sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    check(raised(sim, kind, x=data, y=None), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_of_py_datasets(sim, kind):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            x = np.ones((2, 1, 1))
            return (x, x) if i == 0 else failing(kind)()

    sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    check(raised(sim, kind, x=Batches(), y=None, shuffle=False), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_of_callbacks(sim, kind):
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=failing(kind))
    sim.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    check(raised(sim, kind, callbacks=[callback]), kind)


def test_nothing_is_changed_for_longer_than_a_call():
    from tensorflow.python.ops.script_ops import FuncRegistry

    before = FuncRegistry.__call__
    with originals.original_errors(), originals.original_errors():
        assert FuncRegistry.__call__ is not before
    assert FuncRegistry.__call__ is before


def test_errors_of_tensorflow_itself_are_its_own():
    with pytest.raises(tf.errors.InvalidArgumentError):
        with originals.original_errors():
            tf.debugging.assert_equal(1, 2)


def test_simulators_that_predict_do_not_warn_of_retracing(caplog):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node([0.5]))
    for _ in range(7):
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.predict(n_steps=2)
    assert "retracing" not in caplog.text
    logger = tf.get_logger()
    assert not logger.filters


@pytest.mark.parametrize("dilation", [1, 2])
def test_simulators_that_call_tensor_nodes_do_not_warn_of_retracing(caplog, dilation):
    layer = keras.layers.Conv2DTranspose(1, 2, dilation_rate=dilation)
    with nengo.Network() as net:
        node = nengo_dl.TensorNode(layer, shape_in=(2, 2, 1), pass_time=False)
        nengo.Connection(nengo.Node([1] * 4), node, synapse=None)
        nengo.Probe(node)
    for _ in range(7):
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.step()
    assert "retracing" not in caplog.text
