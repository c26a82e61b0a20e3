"""Settings of the process are as before when nobody uses them any more."""

import threading

import keras
import nengo
import pytest
import tensorflow as tf

import nengo_dl


def simulator(dtype="float32", **options):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype)
        nengo.Probe(nengo.Node([0.0]))
    return nengo_dl.Simulator(net, progress_bar=False, **options)


def in_force():
    return keras.config.floatx(), keras.config.dtype_policy().name


@pytest.mark.parametrize("order", ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)))
def test_blocks_that_overlap(order):
    before = in_force()
    dtypes = ("float64", "float32", "float64")
    sims = [simulator(dtype) for dtype in dtypes]
    for sim, dtype in zip(sims, dtypes):
        sim.__enter__()
        assert in_force() == (dtype, dtype)
    left = [0, 1, 2]
    for number in order:
        sims[number].__exit__(None, None, None)
        left.remove(number)
        last = dtypes[left[-1]] if left else before[0]
        assert in_force() == (last, last)
    assert in_force() == before


def test_devices_of_blocks_that_overlap():
    first, second = (simulator(device="/cpu:0") for _ in range(2))
    with tf.device("/cpu:0"):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert "CPU:0" in tf.zeros(()).device
        second.__exit__(None, None, None)
    with tf.device(None):
        assert "CPU:0" in tf.zeros(()).device or "GPU:0" in tf.zeros(()).device


def test_blocks_in_two_threads():
    before = in_force()
    entered, leave = threading.Event(), threading.Event()

    def other():
        with simulator("float64"):
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=other)
    with simulator("float32"):
        thread.start()
        assert entered.wait(60)
    leave.set()
    thread.join(60)
    assert in_force() == before


def test_an_error_in_a_block():
    before = in_force()
    with pytest.raises(ZeroDivisionError):
        with simulator("float64"), simulator("float32"):
            raise ZeroDivisionError
    assert in_force() == before
