"""What a comparison says besides its numbers: what else differs, what a swing is, what cannot be compared."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from ftbench import compare, method, metrics, record
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


def rewritten(path, trainer):
    """A record with other settings of the trainer, written beside it under its new id."""
    told = json.loads(path.read_text())
    told["trainer"] |= trainer
    told["id"] = record.record_id(record.key(told))
    new = path.with_name(f"{told['method']['name']}-{told['id'][:12]}.json")
    new.write_text(json.dumps(told))
    return new


def test_what_differs_as_the_methods_are_tuned_is_no_warning(results):
    paths = []
    for name in ("mean_pooling", "single_view_clip"):
        tuned = asdict(method.trainer_settings(method.load_method(name, track="supervised")))
        paths.append(rewritten(add(results, method=name), tuned))
    rates = [record.read(path)["trainer"]["learning_rate"] for path in paths]
    assert rates[0] != rates[1]
    head = compared.head(between(*paths))
    assert f"each as tuned: trainer.learning_rate ({rates[0]} and {rates[1]})." in head and "warning" not in head
    found = between(paths[0], rewritten(paths[1], {"learning_rate": 0.5, "batch_size": 32}))
    head = compared.head(found)
    told = f"trainer.batch_size (64 and 32), trainer.learning_rate ({rates[0]} and 0.5)"
    assert f"warning: they differ in more than the method: {told}." in head and "as tuned" not in head
    page = compared.page_of(found, {}, results).content.decode()
    assert f"Besides the method, these differ: {told}." in page and "Each as tuned" not in page


def test_a_record_of_a_method_that_is_a_file_never_runs_that_file(results, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    told = record.read(add(results, method="mean_pooling"))
    told |= {"method": told["method"] | {"name": "evil.py"}}
    assert not compare._is_tuned(told, "trainer.learning_rate") and not (tmp_path / "ran").exists()


def test_it_is_said_what_is_resampled_and_that_tests_draw(results):
    notes = " ".join(compared.notes(between(add(results), add(results, method="mean_pooling"))))
    assert "2,000 resamples of queries alone; those of the board's pages resample seeds, too." in notes
    assert "Pages of the site draw others" in notes
    done = CliRunner().invoke(app, ["compare", "--help"])
    assert "Intervals resample queries, and not seeds as the board's do." in " ".join(done.output.split())


def test_methods_are_compared_by_name_with_all_their_seeds(results):
    for name in ("mean_pooling", "factorized_transport"):
        for task in ("query2item", "cross_view"):
            for seed in range(2):
                add(results, method=name, task=task, seed=seed)
    where = ("--task", "query2item", "--data", "studio", "--results", results)
    done = run("mean_pooling", "factorized_transport", *where)
    assert done.exit_code == 0 and done.output.count("seeds 0, 1") == 2
    assert run("mean_pooling", "factorized_transport", *where, "--seed", 1).output.count("seed 1") == 2
    failed = str(run("mean_pooling", "factorized_transport", "--results", results).exception)
    assert "'mean_pooling' is a method with 4 records" in failed and "narrow it, such as --task cross_view" in failed


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
