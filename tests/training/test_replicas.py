"""Batches that devices share: the same numbers as one device, or a clear error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

#: what the error says, of what cannot be shared
REFUSED = {
    "no strategy": "strategy is a str, 'two'; expected a tf.distribute.Strategy",
    "scope": "none",  # nothing that is made there belongs to it
    "optimizer": "the optimizer was made in strategy.scope()",
    "device": "the simulator was built with device='/cpu:0'; leave out device",
    "stateful": "with stateful=True, the state of each item stays on its replica",
    "rules": "the network has online learning rules",
    "python": "2 replicas in one process cannot call its Python functions",
    "reduction": "has the reduction 'mean_with_sample_weight', of which parts do not add",
    "metric": "the metric 'largest' holds 'most', of which parts do not add up",
    "executions": "it was compiled with steps_per_execution=2",
    "eager": "it was compiled with run_eagerly=True",
    "loop": "with synchronized=True is in the loop over time",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process with two devices finds, which TensorFlow has to begin with."""
    path = tmp_path_factory.mktemp("replicas") / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.shared_networks", str(path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "case",
    [
        *("feed-forward", "recurrent", "spikes, noise, weights, sums", "a generator"),
        "normalized",
    ],
)
def test_two_devices_give_what_one_gives(found, case):
    distance, limit = found["equal"][case]
    assert distance < limit


def test_replicas_have_random_numbers_of_their_own(found):
    alone, shared = found["masks"]
    assert alone > 0 and shared > 0
    # with the same masks on both, two of one item would lose what one loses
    assert abs(shared / alone - 1) > 1e-3


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_shared_is_refused(found, case):
    assert REFUSED[case] in found["refused"][case]


def test_what_processes_exchange_is_traced_once():
    import tensorflow as tf

    from nengo_dl.training.replicas import Replicas

    replicas = Replicas(None, tf.distribute.OneDeviceStrategy("CPU:0"))
    for number in range(3):
        mine = tf.constant([[number, 7]], tf.int64)
        assert replicas._of_all(mine).numpy().tolist() == [[number, 7]]
        (first,) = replicas._of_first([mine])
        assert first.numpy().tolist() == [[number, 7]]
    for traced in (replicas._of_all, replicas._of_first):
        assert traced.experimental_get_tracing_count() == 1
