import json

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import compare, networks
from nengo_dl.benchmarks.__main__ import main
from nengo_dl.benchmarks.compare import (
    COLUMNS,
    Row,
    format_header,
    format_row,
    measure,
    measure_cases,
    private_decoder_cache,
    relative_difference,
    run_profile,
    take_turns,
)


def tiny():
    return networks.integrator(2, 10)


def example_row(**changes):
    values = {
        "network": "example",
        "operators": 1234,
        "kernels": 15,
        "minibatch_size": None,
        "steps": 1000,
        "core_runs": (80.0, 60.0, 70.0),
        "ours_runs": (5.0, 4.0, 6.0),
        "core_step_calls": (75.0, 72.0),
        "ours_step_calls": (50.0, 48.0),
        "core_first": 0.5,
        "ours_first": 0.25,
        "ours_second": 0.75,
        "difference": 1.5e-6,
    }
    return Row(**{**values, **changes})


@pytest.fixture
def tiny_cases(monkeypatch):
    """The standard networks, replaced by one small one."""
    cases = {"tiny": networks.Case(tiny, {})}
    monkeypatch.setattr(compare, "CASES", cases)
    return cases


def test_row_takes_the_fastest():
    row = example_row()
    assert (row.core_us, row.ours_us) == (60, 4)
    assert (row.core_step_us, row.ours_step_us) == (72, 48)
    assert row.ratio == 15
    assert example_row(minibatch_size=8).ratio == 15 * 8
    assert json.loads(json.dumps(row.as_dict()))["ratio"] == 15


def test_table_is_aligned():
    header, *rows = lines = [
        format_header(),
        format_row(example_row()),
        format_row(example_row(kernels=None, operators=9)),
    ]
    assert len({len(line) for line in lines}) == 1
    assert all(title in header for title, _ in COLUMNS)
    for figure in ("example", "1,234", "15", "60.0", "4.0", "0.50", "0.25", "0.75"):
        assert figure in rows[0]
    assert rows[1].split()[2] == "-"


def test_take_turns():
    order = []
    times = take_turns([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert "".join(order) == "ababab"
    assert [len(row) for row in times] == [3, 3]
    assert np.all(np.array(times) >= 0)


def test_relative_difference(rng, allclose):
    expected = rng.uniform(-1, 1, size=(20, 3))
    expected[7, 1] = -2
    found = np.stack([expected, expected])
    assert relative_difference(found, expected) == 0
    found[1, 3, 2] += 0.5
    assert allclose(relative_difference(found, expected), 0.25)

    with pytest.raises(ValidationError, match="has to be driven with a signal"):
        relative_difference(np.zeros((5, 1)), np.zeros((5, 1)))


def test_private_decoder_cache():
    before = dict(nengo.rc["decoder_cache"])
    with pytest.raises(ZeroDivisionError), private_decoder_cache():
        assert nengo.rc.getboolean("decoder_cache", "enabled")
        assert nengo.rc.get("decoder_cache", "path") != before["path"]
        raise ZeroDivisionError
    assert dict(nengo.rc["decoder_cache"]) == before


@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_measure(minibatch_size):
    row = measure(
        "tiny",
        tiny,
        steps=30,
        repeats=2,
        minibatch_size=minibatch_size,
        step_calls=3,
        dtype="float64",
    )
    assert row.network == "tiny"
    assert row.operators > 10
    assert row.kernels is None or row.kernels > 0
    assert row.minibatch_size == minibatch_size
    for runs in (
        row.core_runs,
        row.ours_runs,
        row.core_step_calls,
        row.ours_step_calls,
    ):
        assert len(runs) == 2
        assert min(runs) > 0
    assert row.core_first > 0
    assert row.ours_first > 0
    assert row.ours_second > 0
    assert row.difference < 1e-8


def test_measure_float32():
    row = measure("tiny", tiny, steps=20, repeats=1, step_calls=1)
    assert row.difference < 1e-5


def test_measure_refuses_silence():
    def silent():
        with nengo.Network() as net:
            net.p = nengo.Probe(nengo.Node([0.0]))
        return net

    with pytest.raises(ValidationError, match="driven with a signal"):
        measure("silent", silent, steps=5, repeats=1)


def test_measure_refuses_nothing_to_measure():
    with pytest.raises(ValidationError, match="repeats: must be at least 1; got 0"):
        measure("tiny", tiny, repeats=0)


def test_measure_cases(tiny_cases):
    rows = measure_cases(steps=10, repeats=1, step_calls=1)
    assert [row.network for row in rows] == ["tiny"]
    with pytest.raises(ValidationError, match="networks: unknown: huge; known: tiny"):
        measure_cases(["tiny", "huge"])


@pytest.mark.parametrize("train", (False, True))
def test_run_profile(train, tmp_path):
    seconds = run_profile(
        networks.chain(1, 10, nengo.RectifiedLinear()),
        train=train,
        n_steps=5,
        reps=2,
        log_dir=str(tmp_path),
        minibatch_size=2,
    )
    assert seconds > 0
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_run_profile_without_trace(tmp_path):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(1))
    seconds = run_profile(
        net, n_steps=5, do_profile=False, dtype="float64", log_dir=str(tmp_path)
    )
    assert seconds > 0
    assert not list(tmp_path.iterdir())

    with pytest.raises(ValidationError, match="no attribute 'inp'"):
        run_profile(net, train=True, n_steps=5, do_profile=False)


def test_command_compare(tiny_cases, capsys, tmp_path):
    path = tmp_path / "figures.json"
    options = ["--steps", "10", "--repeats", "1", "--step-calls", "1"]
    main(["compare", "--networks", "tiny", *options, "--json", str(path)])

    lines = capsys.readouterr().out.splitlines()
    assert nengo.__version__ in lines[0]
    start = lines.index(format_header())
    assert lines[start + 1].startswith("tiny ")
    report = json.loads(path.read_text())
    assert report["environment"]["nengo"] == nengo.__version__
    (row,) = report["rows"]
    assert row["network"] == "tiny"
    assert row["ratio"] == pytest.approx(row["core_us"] / row["ours_us"])


@pytest.mark.parametrize("tier", ("numpy", "tensorflow"))
def test_command_compare_on_each_tier(tier, tiny_cases, capsys):
    options = ["--steps", "10", "--repeats", "1", "--step-calls", "1"]
    main(["compare", "--networks", "all", *options, "--tier", tier])
    out = capsys.readouterr().out
    assert f"tier {tier}" in out
    assert "\ntiny " in out


def test_command_build(capsys):
    main(["build", "random_network", "--dimensions", "2", "--neurons-per-d", "5.5",
          "--neuron-type", "lif_rate", "--n-ensembles", "4",
          "--connections-per-ensemble", "2"])  # fmt: skip
    assert "4 ensembles, 44 neurons, 16 connections" in capsys.readouterr().out

    main(["build", "integrator16", "--neurons-per-d", "3"])
    assert "16 ensembles, 48 neurons" in capsys.readouterr().out


def test_command_build_profile(capsys, tmp_path):
    network = ["build", "cconv", "--dimensions", "2", "--neurons-per-d", "5"]
    options = ["--n-steps", "4", "--reps", "1", "--log-dir", str(tmp_path)]
    main([*network, "profile", *options])
    out = capsys.readouterr().out
    assert "run_steps, 4 steps:" in out
    assert f"trace written to {tmp_path}" in out
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--networks", "huge"], "networks: unknown: huge"),
        (["compare", "--networks", "chain", "--steps", "0"], "steps: must be at least"),
        (["build", "cconv"], "build cconv: missing a required .*--dimensions"),
        (
            ["build", "pes", "--dimensions", "1", "--neurons-per-d", "1"]
            + ["--n-ensembles", "2"],
            "build pes: got an unexpected .*'n_ensembles'",
        ),
    ],
)
def test_command_line_mistakes(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_command_line_help(capsys):
    for arguments in (["--help"], ["compare", "--help"], ["build", "--help"]):
        with pytest.raises(SystemExit) as info:
            main(arguments)
        assert info.value.code == 0
    assert "profile" in capsys.readouterr().out

    with pytest.raises(SystemExit) as info:
        main(["build", "pes", "--neuron-type", "pyramidal"])
    assert info.value.code == 2
    assert "unknown neuron type 'pyramidal'; known: LIF," in capsys.readouterr().err
