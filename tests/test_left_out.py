"""What a record says that its run file does not: it is left out where tables are made, and said so."""

import json

import pytest
import synthetic
from typer.testing import CliRunner

from ftbench.cli import app
from ftbench.report.aggregate import load, tables


def edited(path, **about):
    """A record whose headline says another mean than its run file gives, to a person who reads three decimals."""
    found = json.loads(path.read_text(encoding="utf-8"))
    found["scores"][found["task"]["headline"]] |= about
    path.write_text(json.dumps(found), encoding="utf-8")
    return found["id"]


@pytest.mark.parametrize("task", ["query2item", "cross_view"])
def test_a_record_whose_headline_is_not_its_run_files_is_left_out(tmp_path, task):
    good, bad = (synthetic.add(tmp_path, method=method, task=task) for method in ("mean_pooling", "single_view_clip"))
    edited(bad, mean=0.987654, tie_high=1.0)
    (table,) = tables(load(tmp_path))
    assert [row.method for row in table.rows] == ["mean_pooling"] and table.rows[0].headline.low is not None
    assert [entry.path for entry in table.left_out] == [bad]
    (text,) = table.runs_missing
    assert text.startswith(f"{bad}: the record says") and "0.987654" in text and f"ftbench rescore {bad}" in text
    edited(good, mean=0.5)
    (table,) = tables(load(tmp_path))
    assert table.all_rows == () and len(table.left_out) == len(table.runs_missing) == 2


def test_the_commands_say_what_is_left_out(tmp_path):
    results = tmp_path / "results"
    paths = [synthetic.add(results, method=name) for name in ("bm25", "mean_pooling", "single_view_clip", "random")]
    edited(paths[0], mean=0.9)
    paths[1].with_suffix(".parquet").write_bytes(b"short")
    paths[2].with_suffix(".parquet").unlink()
    done = CliRunner().invoke(app, ["report", "--results", str(results), "--site", str(tmp_path / "site")])
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 5 and all(line.startswith("warning: ") for line in lines)
    assert lines[3:] == ["warning: 1 record is left out of the board: see above.",
                         "warning: 2 records are shown without an interval, not checked: see above."]  # fmt: skip
    shown = sorted(path.stem.partition("-")[0] for path in (tmp_path / "site" / "runs").rglob("*.html"))
    assert shown == ["mean_pooling", "random", "single_view_clip"]
    done = CliRunner().invoke(app, ["export", "--results", str(results)])
    assert done.exit_code == 0 and "bm25" not in done.stdout and done.stderr.count("warning: ") == 3
