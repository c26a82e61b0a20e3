import nengo
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import run_profile
from nengo_dl.benchmarks.networks import chain


@pytest.mark.parametrize("train", (False, True))
def test_run_profile(train, tmp_path):
    seconds = run_profile(
        chain(1, 10, nengo.RectifiedLinear()),
        train=train,
        n_steps=5,
        reps=2,
        log_dir=str(tmp_path),
        minibatch_size=2,
    )
    assert seconds > 0
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_without_trace(tmp_path):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(1))
    seconds = run_profile(
        net, n_steps=5, do_profile=False, dtype="float64", log_dir=str(tmp_path)
    )
    assert seconds > 0
    assert not list(tmp_path.iterdir())


def test_mistakes():
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(1))
    with pytest.raises(ValidationError, match="no attribute 'inp'"):
        run_profile(net, train=True, n_steps=5, do_profile=False)
    with pytest.raises(ValidationError, match="reps: must be at least 1"):
        run_profile(net, reps=0)
