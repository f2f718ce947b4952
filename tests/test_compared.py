"""What a comparison says besides its numbers: what else differs, what a swing is, what cannot be compared."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from ftbench import compare, metrics, record
from ftbench.cli import app
from ftbench.report import compared
from ftbench.report.aggregate import load, tables


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


def test_means_print_as_they_do_on_the_board(results):
    """Means that lie between two printed numbers, such as 0.9325, are added up in another order there."""
    paths = [add(results, method=name, seed=seed) for name in ("mean_pooling", "bm25") for seed in range(3)]
    (table,) = tables(load(results))
    found = compare.compare(compare.side(paths[0], True), compare.side(paths[3], True))
    row = next(row for row in table.rows if row.method == "mean_pooling")
    for line in found.measures:
        assert line.a == row.scores[line.name].mean
