"""Processes that train together: the numbers of one, or an error in all of them."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.shared_processes import train

ROOT = Path(__file__).parent.parent.parent


def free_ports(count):
    """Ports that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes wrote, of which the second one killed itself."""
    folder = tmp_path_factory.mktemp("processes")
    ports = ",".join(free_ports(2))
    about = {"cwd": ROOT, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    about["env"] = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.training.shared_processes"]
    processes = [
        subprocess.Popen([*command, str(number), ports, str(folder)], **about)
        for number in range(2)
    ]
    try:
        errors = [each.communicate(timeout=180)[1].decode() for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()
    assert processes[0].returncode == 0, errors[0][-4000:]
    assert processes[1].returncode == -signal.SIGKILL, errors[1][-4000:]
    return folder


def found(folder, name):
    """What each process noted."""
    paths = [folder / f"{name}-{number}.json" for number in range(2)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def test_two_processes_give_what_one_gives_and_go_on(folder):
    history, weights = train(0, None)
    (first, mine), (second, others) = found(folder, "whole")
    assert mine == others  # every digit
    assert np.allclose(first["loss"], history["loss"], rtol=1e-9, atol=0)
    assert len(first["loss"]) == 3 and second["loss"] == first["loss"][2:]
    for one, other in zip(mine, weights, strict=True):
        assert np.allclose(one, other, rtol=1e-9, atol=1e-12)
    assert [kind for kind, *_ in found(folder, "stopped")] == ["KeyError"] * 2


def test_the_first_process_alone_writes(folder):
    assert sorted(path.name for path in (folder / "own-0").iterdir()) == ["c", "resume"]
    assert not list((folder / "own-1").iterdir())


def test_processes_that_differ_say_so(folder):
    for number, (kind, text, began, ended) in enumerate(found(folder, "differ")):
        assert kind == "SimulationError" and ended - began < 10
        assert f"differ in the numbers of epochs (here: {{'epochs': {2 + number}" in text


def test_an_error_in_one_process_is_one_in_all(folder):
    first, second = found(folder, "failed")
    assert first[0] == "SimulationError" and first[3] - first[2] < 10
    assert "process 1 of this strategy raised an error before its first" in first[1]
    assert second[0] == "ValidationError"


def test_a_lost_process_is_an_error(folder):
    ((kind, text, _, ended),) = found(folder, "lost")
    assert kind == "SimulationError" and "lost the connection to another" in text
    assert ended - json.loads((folder / "killed-1.json").read_text()) < 30
