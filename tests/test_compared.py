"""What a comparison says besides its numbers: what else differs, what a swing is, what cannot be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from ftbench import compare, metrics, record
from ftbench.cli import app
from ftbench.report import compared
from ftbench.report.aggregate import load, tables

HOSTILE = "</script><script>window.harmed=1</script><img src=x>{{7*7}}"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def add(results, **about):
    return synthetic.add(results, n_queries=25, n_items=50, **about)


def between(*paths):
    return compare.compare(*map(compare.side, paths))


def test_swings_of_items_are_their_means_over_pairs(results):
    paths = [add(results, method=name, task="cross_view") for name in ("mean_pooling", "factorized_transport")]
    found = between(*paths)
    values = {}
    for path in paths:
        for ranking in record.run_of(path, record.read(path)).rankings.values():
            for item, value in zip(
                ranking.query_ids, metrics.evaluate(ranking, ["recall@10"])["recall@10"], strict=True
            ):
                values.setdefault(item, {}).setdefault(path, []).append(value)
    assert found.ahead and found.behind
    for swing in (*found.ahead, *found.behind):
        assert 0 <= swing.a <= 1 and 0 <= swing.b <= 1
        np.testing.assert_allclose([swing.a, swing.b], [np.mean(values[swing.unit][path]) for path in paths])
    assert "an item's mean over the pairs" in "".join(compared.notes(found))


def test_a_swing_is_no_more_than_1_where_few_items_ask_in_a_pair(results):
    """What such an item adds to the macro-mean over pairs is more than 1."""
    side = compare.side(add(results, task="cross_view"))
    pairs = sorted(side.first["pairs"])[:2]
    rng = np.random.default_rng(0)
    rankings = {p: synthetic.rankings(9.0, [p], n, 50, rng)[0][p] for p, n in zip(pairs, (25, 4), strict=True)}
    side = replace(side, runs=(record.Run(rankings),))
    assert compare._values("recall@10", [side], pairs, None)[1].max() > 2
    units, values = compare._own("recall@10", [side, side], pairs)
    assert len(units) == 25 and values.shape == (2, 25) and values.max() == 1


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({}, {"board": "equal-steps"}, "board (equal-compute and equal-steps)"),
        ({}, {"track": "zero-shot"}, "track (supervised and zero-shot)"),
        ({"method": "bm25"}, {"board": "equal-steps"}, ""),
        ({"method": "bm25"}, {"track": "zero-shot"}, ""),
    ],
)
def test_what_else_differs_is_said(results, one, other, told):
    found = between(add(results, **one), add(results, method="mean_pooling", **other))
    head = compared.head(found)
    assert ("warning: they differ in more than the method: " + told in head) == bool(told)
    assert ("equal-steps" in head) == (told.startswith("board")) and "notice" not in head


def test_a_record_against_itself_is_noticed(results):
    path = add(results)
    done = CliRunner().invoke(app, ["compare", str(path), str(path), "--results", str(results)])
    assert done.exit_code == 0 and "notice: A and B are the same record" in done.output
    found = between(path, path)
    line = found.headline.found
    assert (line.difference, line.p, line.wins, line.losses, line.ties) == (0, 1, 0, 0, 25)
    assert found.ahead == found.behind == ()


def test_means_print_as_they_do_on_the_board(results):
    """Means that lie between two printed numbers, such as 0.9325, are added up in another order there."""
    paths = [add(results, method=name, seed=seed) for name in ("mean_pooling", "bm25") for seed in range(3)]
    (table,) = tables(load(results))
    found = compare.compare(compare.side(paths[0], True), compare.side(paths[3], True))
    row = next(row for row in table.rows if row.method == "mean_pooling")
    for line in found.measures:
        assert line.a == row.scores[line.name].mean


# --- the command


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_the_command_prints_a_table_and_writes_a_page(results, tmp_path):
    a, b = (add(results, method=method) for method in ("factorized_transport", "bm25"))
    done = run(a, b.stem.rpartition("-")[2], "--results", results, "--site", tmp_path)
    assert done.exit_code == 0, done.output
    for text in ("Factorized transport", "ndcg@10", "recall@10", "auxiliary image", "Largest swings for A", "20,000"):
        assert text in done.output
    (written,) = tmp_path.glob("compare-*.html")
    text = written.read_text()
    assert written.name == f"compare-{a.stem[-12:]}-{b.stem[-12:]}.html" and str(written) in done.output
    line = compare.compare(compare.side(a), compare.side(b)).headline
    assert f"{line.found.difference:+.3f}" in text and "<script" not in text and "recall@500 is reported" in text


def test_hostile_records_stay_texts_on_the_page_of_two(results, tmp_path):
    paths = [add(results, method=method) for method in ("bm25", "mean_pooling")]
    for path in paths:
        entry = json.loads(path.read_text())
        entry["method"]["title"] = entry["task"]["title"] = entry["data"]["version"] = HOSTILE
        path.write_text(json.dumps(entry))
    done = run(*paths, "--results", results, "--site", tmp_path)
    assert done.exit_code == 0, done.output
    text = next(tmp_path.glob("compare-*.html")).read_text()
    assert "<img" not in text and "<script" not in text and "window.harmed" in text
