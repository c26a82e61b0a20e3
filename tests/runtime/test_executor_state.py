"""The store of what lasts from call to call."""

import numpy as np

from nengo_dl.compiler.layout import StateSlot
from nengo_dl.runtime.executor import StateStore


def slot(key, carry, row, constant=np.nan):
    carry, row = np.array(carry), np.array(row)
    return StateSlot(key, carry.shape, carry, row, np.broadcast_to(constant, carry.shape))


def test_first_values_come_from_the_layout():
    store = StateStore(batch=2, dtype="float32")
    (carry,) = store.load([slot("a", [0, 0], [1, 0])], [np.array([5.0, 7.0])])
    assert carry.dtype == np.float32
    np.testing.assert_array_equal(carry, [[5, 5], [7, 7]])


def test_values_move_between_layouts(rng):
    store = StateStore(batch=3, dtype="float64")
    arrays = [rng.normal(size=(4, 3)), rng.normal(size=(2, 3))]
    one = [slot("a", [0, 1, 0], [3, 1, 0]), slot("b", [1], [0])]
    store.save(one, arrays)
    other = [slot("b", [0], [2]), slot("a", [0, 0, 1], [0, 1, 0])]
    carry = store.load(other, [np.zeros(3), np.zeros(1)])
    np.testing.assert_array_equal(carry[0], arrays_of(arrays, [(0, 3), (1, 1), (1, 0)]))
    np.testing.assert_array_equal(carry[1], arrays_of(arrays, [(0, 0)]))


def arrays_of(arrays, places):
    return np.stack([arrays[number][row] for number, row in places])


def test_what_no_element_holds_keeps_its_value():
    store = StateStore(batch=1, dtype="float64")
    store.save([slot("a", [0, 0], [0, 1])], [np.array([[1.0], [2.0]])])
    store.save([slot("a", [0, -1], [0, 0])], [np.array([[9.0]])])
    np.testing.assert_array_equal(store.values["a"], [[9], [2]])
    store.save([slot("c", [0, -1], [0, 0], constant=[np.nan, 4])], [np.array([[3.0]])])
    np.testing.assert_array_equal(store.values["c"], [[3], [4]])


def test_restore_keeps_what_is_asked_for():
    store = StateStore(batch=1, dtype="float64")
    slots = [slot("a", [0], [0]), slot("b", [0], [1])]
    store.save(slots, [np.array([[1.0], [2.0]])])
    before = store.copy()
    store.save(slots, [np.array([[3.0], [4.0]])])
    store.restore(before, keep={"b"})
    assert (store.values["a"].item(), store.values["b"].item()) == (1, 4)
    store.clear()
    assert store.values == {}
