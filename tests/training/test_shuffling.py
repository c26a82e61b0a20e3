"""Arrays come in another order in each epoch, which the simulator's seed decides."""

import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ITEMS = 7


class Seen(keras.callbacks.Callback):
    """The numbers of the items of each epoch, in their order, batch by batch."""

    def __init__(self, sim):
        super().__init__()
        self.sim, self.epochs = sim, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])
        self.last = 0.0

    def on_train_batch_end(self, batch, logs=None):
        count = min(2, len(self.sim.numbers) - 2 * batch)
        total = logs["loss"] * (2 * batch + count)  # a mean over the items so far
        self.epochs[-1].append(round(total - self.last))
        self.last = total


def network(seed=0):
    """Its output is its input."""
    with nengo.Network(seed=seed) as net:
        net.inp = nengo.Node([0.0])
        net.out = nengo.Node(size_in=1)
        net.conn = nengo.Connection(net.inp, net.out, synapse=None)
        net.p = nengo.Probe(net.out)
    return net


def first_power(y_true, y_pred):
    """A loss that tells which items a batch has: item ``i`` is ``2 ** i``."""
    return tf.reduce_mean(y_pred + 0 * y_true, -1)


def simulator(seed=5, items=ITEMS, **kwargs):
    sim = nengo_dl.Simulator(
        network(**kwargs), seed=seed, minibatch_size=2, progress_bar=False
    )
    sim.compile(keras.optimizers.SGD(0.0), first_power)
    sim.numbers = range(items)
    return sim


def orders(sim, items=ITEMS, **kwargs):
    """Which items each batch of each epoch has: sums of ``2 ** i``."""
    seen = Seen(sim)
    x = (2.0 ** np.arange(items)).reshape(items, 1, 1)
    kwargs = {"verbose": 0, "epochs": 3, **kwargs}
    sim.fit(x, 0 * x, callbacks=[seen], **kwargs)
    return seen.epochs


def test_each_epoch_has_an_order_of_its_own_with_a_global_seed():
    keras.utils.set_random_seed(0)
    with simulator() as sim:
        found = orders(sim, epochs=4)
    assert [sum(epoch) for epoch in found] == [2**ITEMS - 1] * 4  # every item once
    assert len({tuple(epoch) for epoch in found}) == 4


def test_the_order_follows_the_seed_alone():
    with simulator() as sim:
        keras.utils.set_random_seed(1)
        first = orders(sim)
    with simulator() as sim:
        keras.utils.set_random_seed(2)
        assert orders(sim) == first
        sim.reset()
        assert orders(sim) == first
        sim.reset(seed=6)
        assert orders(sim) != first
    with simulator(seed=6) as sim:
        assert orders(sim) != first


def test_a_simulator_without_any_seed_follows_the_seed_of_the_process():
    def once():
        with simulator(seed=None) as sim:
            return orders(sim)

    def unseeded(seed):
        if seed is not None:
            keras.utils.set_random_seed(seed)
        net = network(None)
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            sim.compile(keras.optimizers.SGD(0.0), first_power)
            sim.numbers = range(ITEMS)
            return orders(sim)

    assert once() == once()  # the network's seed
    assert unseeded(3) == unseeded(3)
    assert unseeded(None) != unseeded(None)


def test_epochs_count_on_from_call_to_call():
    with simulator() as sim:
        whole = orders(sim, epochs=6)
    with simulator() as sim:
        assert orders(sim, epochs=2) + orders(sim, epochs=4) == whole
    with simulator() as sim:
        assert orders(sim, epochs=2) == whole[:2]
        again = pickle.loads(pickle.dumps(sim))
        again.numbers = sim.numbers
        again.compile(keras.optimizers.SGD(0.0), first_power)
        assert orders(again, epochs=1) == whole[2:3]
        again.close()
    with simulator() as sim:  # as after an interruption
        assert orders(sim, initial_epoch=4, epochs=6) == whole[4:]
        assert orders(sim, initial_epoch=1, epochs=2) == whole[1:2]


def test_without_shuffling_items_come_as_they_are():
    with simulator() as sim:
        assert orders(sim, shuffle=False) == [[3, 12, 48, 64]] * 3
        assert orders(sim, stateful=True) == [[3, 12, 48, 64]] * 3


def test_data_targets_and_weights_stay_together(rng):
    n = 9
    x = rng.uniform(-1, 1, (n, 2, 1))
    y, weight = rng.uniform(-1, 1, (n, 2, 1)), rng.uniform(0.5, 2, n)
    with simulator() as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
        for kwargs in ({}, {"sample_weight": weight}, {"batch_size": 1}):
            expected = sim.evaluate(x, y, verbose=0, **kwargs)
            found = sim.fit({sim.network.inp: x}, [y], verbose=0, **kwargs).history
            for name, value in expected.items():
                assert np.allclose(found[name], value, rtol=1e-5), (name, kwargs)


def test_a_split_is_the_last_items_and_never_shuffled(rng):
    x = rng.uniform(-1, 1, (10, 1, 1))
    with simulator() as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        found = sim.fit(x, 0 * x, validation_split=0.3, epochs=2, verbose=0).history
        last = sim.evaluate(x[7:], 0 * x[7:], verbose=0)["loss"]
        first = sim.evaluate(x[:7], 0 * x[:7], verbose=0)["loss"]
        assert np.allclose(found["val_loss"], last) and np.allclose(found["loss"], first)
        with pytest.raises(ValidationError, match="leaves nothing for validation"):
            sim.fit(x[:1], x[:1], validation_split=1e-20, verbose=0)
        with pytest.raises(ValidationError, match="leaves nothing for training"):
            sim.fit(x[:1], x[:1], validation_split=0.5, verbose=0)


def test_callbacks_see_what_keras_shows_them():
    class Params(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.batches = []

        def on_train_batch_begin(self, batch, logs=None):
            self.batches.append(batch)

    seen = {}
    with simulator() as sim:
        x = np.ones((ITEMS, 1, 1))
        for shuffle in (True, False):
            callback = Params()
            sim.fit(x, x, shuffle=shuffle, epochs=2, verbose=0, callbacks=callback)
            seen[shuffle] = callback.params, callback.batches
    assert seen[True] == seen[False]
    assert seen[True][0]["steps"] == 4


def test_data_are_not_copied_more_often_than_by_keras():
    import resource

    x = np.ones((2**14, 1, 1), np.float32)
    with simulator() as sim:
        sim.fit(x[:4], x[:4], verbose=0)
    big = np.ones((64, 2**18, 1), np.float32)  # 64 MiB
    with nengo.Network() as net:
        nengo_dl.configure_settings(keep_history=False)
        node = nengo.Node([0.0])
        nengo.Probe(node)
    with nengo_dl.Simulator(net, minibatch_size=1, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        sim.fit(big[:1], big[:1, :1], verbose=0, shuffle=False)
        sim.fit(big, big[:, :1], verbose=0, shuffle=False, steps_per_epoch=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sim.fit(big, big[:, :1], verbose=0, steps_per_epoch=1)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 48 * 1024
