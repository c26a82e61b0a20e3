"""Memory that is used again while a training lasts."""

import threading

import numpy as np
import pytest

from nengo_dl.runtime.native import reuse
from nengo_dl.runtime.native.reuse import Store, keeping, reused_array

SHAPE = 300, 500


def address(array):
    return array.ctypes.data


def test_it_is_used_again_by_arrays_of_one_size():
    with keeping():
        first = reused_array(SHAPE, "float32")
        place = address(first)
        assert place % 64 == 0 and first.flags.writeable
        second = reused_array(SHAPE, "float32")
        assert address(second) != place
        del first
        assert address(reused_array((150, 500), "float64")) == place
        assert address(reused_array((301, 500), "float32")) != place


@pytest.mark.parametrize(
    "view", [lambda x: x[3], lambda x: x[:, ::2].T, memoryview, lambda x: x.view("int32")]
)
def test_a_view_keeps_it(view):
    with keeping():
        array = reused_array(SHAPE, "float32")
        place, held = address(array), view(array)
        del array
        assert address(reused_array(SHAPE, "float32")) != place
        del held
        assert address(reused_array(SHAPE, "float32")) == place


def test_a_tensor_keeps_it():
    tf = pytest.importorskip("tensorflow")

    def one(value):
        array = reused_array(SHAPE, "float32")
        array[...] = value
        return array

    with keeping():
        tensors = [tf.numpy_function(one, [float(k)], tf.float32) for k in range(5)]
        for k, tensor in enumerate(tensors):
            assert (tensor.numpy() == k).all()


def test_it_is_given_back_at_the_end():
    with keeping():
        with keeping():
            outer = reuse._store
        assert reuse._store is outer
    assert reuse._store is None
    assert reused_array(SHAPE, "float32").shape == SHAPE


def test_it_is_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), keeping():
        1 / 0  # noqa: B018
    assert reuse._store is None


@pytest.mark.parametrize("name, value", [("LEAST_KEPT", 10**6), ("MOST_KEPT", 10**5)])
def test_what_is_not_kept(name, value, monkeypatch):
    monkeypatch.setattr(reuse, name, value)
    with keeping():
        array = reused_array(SHAPE, "float32")
        assert array.shape == SHAPE and address(array) % 64 == 0
        assert reuse._store.nbytes == 0


def test_threads_never_have_the_same():
    store, wrong = Store(), []

    def use(number):
        for _ in range(300):
            array = store.take(2**17)
            array[:8] = number
            if (array[:8] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and store.nbytes <= 4 * 2**17


def test_a_training_uses_it(monkeypatch):
    """Batches after the first one take no new memory."""
    keras = pytest.importorskip("keras")
    from nengo_dl.benchmarks.networks.spiking_layers import spiking_layers
    from nengo_dl.runtime.tensorflow import native_loops
    from nengo_dl.simulator import Simulator

    monkeypatch.setattr(native_loops, "LEAST_NUMBERS", 1)
    monkeypatch.setattr(reuse, "LEAST_KEPT", 1)
    kept = []

    class Kept(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kept.append(reuse._store.nbytes)

    net = spiking_layers("perceptron", (6, 5, 3))
    x = np.random.RandomState(0).rand(32, 7, 6)
    with Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        y = np.zeros((32, 7, 3))
        sim.fit({net.inp: x}, {net.p: y}, verbose=0, callbacks=[Kept()])
    assert reuse._store is None
    assert kept[-1] == kept[3] > 0
