import json

import nengo
import numpy as np
import pytest

from nengo_dl.benchmarks import charts, figures, report
from nengo_dl.benchmarks.report import Column

COLUMNS = (Column("network", "name", width=10), Column("us/step", "us", ",.1f", 9))
ROWS = [{"name": "chain", "us": 1234.56}, {"name": "web", "us": None}]


def test_table_is_aligned():
    lines = [report.header(COLUMNS), *(report.line(COLUMNS, row) for row in ROWS)]
    assert lines == [
        "network       us/step",
        "chain         1,234.6",
        "web                 -",
    ]


def test_json_of_numpy_values(tmp_path):
    rows = [
        {"a": np.float32(0.5), "b": np.arange(2), "c": (1, None), "d": np.bool_(True)}
    ]
    done = report.as_report("compare", "command", rows, {"mean": np.float64(2)})
    path = tmp_path / "folder" / "figures.json"
    report.write_json(str(path), done)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["rows"] == [{"a": 0.5, "b": [0, 1], "c": [1, None], "d": True}]
    assert read["summary"] == {"mean": 2}
    assert read["environment"]["nengo"] == nengo.__version__
    assert [file.name for file in path.parent.iterdir()] == ["figures.json"]


def test_environment_names_the_machine(monkeypatch, tmp_path):
    about = report.environment()
    assert about["processors"] >= 1 and about["processor"]
    assert set(about) >= {"nengo_dl", "tensorflow", "numpy", "python", "date"}


def test_summary_lines():
    assert report.summary_lines({"mean": 12.345, "worst": "2 (chain)"}) == [
        "mean: 12.3",
        "worst: 2 (chain)",
    ]


def test_rst_is_valid(tmp_path):
    docutils = pytest.importorskip("docutils.core", reason="comes with the docs extra")
    done = report.as_report("x", "python -m x", ROWS, {"mean": 3.0})
    text = report.rst_section(done, "Measure x.", COLUMNS, "Some\nnotes.", "x.svg")
    settings = {"report_level": 2, "halt_level": 2, "warning_stream": None}
    text = text.replace(".. code-block:: bash", "::")
    html = docutils.publish_string(
        text, writer="html", settings_overrides=settings
    ).decode()
    for part in ("1,234.6", "python -m x", "mean: 3", "Some notes.", "x.svg"):
        assert part in html


def test_write_sections(tmp_path):
    done = report.as_report("gpu", "python -m x", [{"case": "none"}], {})
    page, picture = tmp_path / "docs" / "page.rst", tmp_path / "docs" / "data" / "p.svg"
    figures.write_sections(str(page), [done], {"gpu": str(picture)})
    text = page.read_text(encoding="utf-8")
    assert "``gpu``: Measure each GPU" in text
    assert ".. image:: data/p.svg" in text
    assert f"numpy {np.__version__}" in text


def test_charts_need_matplotlib(monkeypatch):
    charts.require_matplotlib()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"nengo-dl\[benchmarks\]"):
        charts.require_matplotlib()


def test_charts_have_bars_with_errors(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    bars = {"core": [(2, 1, 3), (4, 4, 4)], "dl": [(1, 0.5, 2), (np.nan,) * 3]}
    charts.grouped_bars(axes, ["a", "b"], bars, "us")
    assert len(axes.patches) == 4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    assert len(axes.containers) == 4  # bars and error bars of both

    rows = [
        {"case": "a", "beside": "core", "ratio": 0.5, "ratio_low": 0.4, "limit": 0.6},
        {"case": "b", "beside": "core", "ratio": None},
    ]
    charts.draw(str(tmp_path / "new" / "x.svg"), charts.ratio_bars, rows)
    first = (tmp_path / "new" / "x.svg").read_bytes()
    charts.draw(str(tmp_path / "new" / "x.svg"), charts.ratio_bars, rows)
    assert (tmp_path / "new" / "x.svg").read_bytes() == first  # no date, no random names


def test_what_is_missing_is_no_bullet_point():
    lines = report.rst_tables(COLUMNS, [{COLUMNS[0].key: "a"}])
    assert "     - \N{EN DASH}" in lines
    assert not [line for line in lines if line.rstrip().endswith("- -")]


def test_wide_tables_are_split():
    wide = [report.Column("name", "name"), report.Column("by", "by")]
    wide += [report.Column(f"c{n}", f"c{n}", ".1f") for n in range(11)]
    row = {"name": "a", "by": "b", **{f"c{n}": n for n in range(11)}}
    text = "\n".join(report.rst_tables(wide, [row]))
    first, second = text.split(".. list-table::")[1:]
    assert first.count("- ") == 2 * 8 and second.count("- ") == 2 * 7
    assert "* - a\n     - b\n     - 6.0" in second
    assert first.count("* - name") == second.count("* - name") == 1
