"""Values by query, read the quick way, are those of the whole run file; what does not fit goes the careful way."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic

from ftbench import metrics, record, search
from ftbench.errors import DataError
from ftbench.report import queries
from ftbench.runfile import Run, read_judgements, write_run

COMMITTED = Path(__file__).resolve().parent.parent / "results"


@pytest.fixture
def careful(monkeypatch):
    """The paths that were read the careful way."""
    asked, real = [], queries.careful

    def noted(path, *more):
        asked.append(path)
        return real(path, *more)

    monkeypatch.setattr(queries, "careful", noted)
    return asked


def quick(path, entry):
    """One record's values, read the way that many are."""
    (found,) = queries.read([(path, entry)])
    if isinstance(found, DataError):
        raise found
    return found


def assert_same(found, expected):
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    assert (found[2] is None) == (expected[2] is None)
    if found[2] is not None:
        np.testing.assert_array_equal(found[2], expected[2])
        np.testing.assert_allclose(np.nanmean(found[2], axis=1).mean(), found[1].mean())  # the macro-mean


def test_the_values_of_all_committed_records_to_the_last_digit(careful):
    alike = {}
    for path, entry in record.read_all(COMMITTED):
        alike.setdefault((entry["task"]["name"], entry["data"]["fingerprint"]), []).append((path, entry))
    for found in alike.values():
        values = list(queries.read(found))
        assert careful == []
        for one, (path, entry) in zip(values, found, strict=True):
            assert_same(one, queries.careful(path, entry))
        careful.clear()


@pytest.mark.parametrize("about", [{"ties": True}, {"task": "cross_view"}, {"n_items": 12}])
@pytest.mark.parametrize(("cells", "few"), [(0, 0), (10**9, 0), (10**9, 8)], ids=["lists", "table", "by number"])
def test_the_values_of_made_up_records(tmp_path, monkeypatch, careful, about, cells, few):
    monkeypatch.setattr(queries, "_MOST_CELLS", cells)
    monkeypatch.setattr(queries, "_FEW", few)
    paths = [synthetic.add(tmp_path, seed=seed, **about) for seed in range(2)]
    values = list(queries.read([(path, record.read(path)) for path in paths]))
    assert careful == []
    for found, path in zip(values, paths, strict=True):
        assert list(found[0]) == sorted(found[0])
        assert_same(found, queries.careful(path, record.read(path)))


def test_many_files_come_in_order_and_one_that_is_missing_is_its_own_error(tmp_path):
    paths = [synthetic.add(tmp_path, n_queries=5, n_items=20, seed=seed) for seed in range(20)]
    paths[3].with_suffix(".parquet").unlink()
    values = list(queries.read([(path, record.read(path)) for path in paths]))
    assert [isinstance(found, DataError) for found in values] == [seed == 3 for seed in range(20)]
    for found, path in zip(values, paths, strict=True):
        if not isinstance(found, DataError):
            assert_same(found, queries.careful(path, record.read(path)))


@pytest.mark.parametrize("measure", ["ndcg@5", "recall@10", "hit@3", "rr@10", "ap@10", "p@1"])
def test_any_measure_of_any_gains_within_the_depth(measure):
    """Queries without judgements and without relevant ones, gains of many sizes, judged items beyond the depth."""
    rng = np.random.default_rng(1)
    items, asks = [f"i{k:02d}" for k in range(30)], [f"q{k}" for k in range(12)]
    gains = {q: {i: float(rng.choice([0, 0.1, 1 / 3, 1, 3])) for i in rng.permutation(items)[: 3 * k]}
             for k, q in enumerate(asks)}  # fmt: skip
    ranking = search.rank_scores(rng.standard_normal((12, 30)), asks, items, gains, 1.0)
    judged = [(q, i, g) for q in asks for i, g in gains[q].items()]
    gallery = made(ranking, judged)
    top = np.concatenate([ranking.item[ranking.offsets[q] :][:10] for q in range(12)])
    expected = metrics.evaluate(ranking, [measure])[measure]
    np.testing.assert_array_equal(gallery.values(top, measure), expected)
    for wrong in (top[:-1], top - 1, np.where(top == top[0], 30, top)):
        with pytest.raises(ValueError, match="other items"):
            gallery.values(wrong, measure)
    with pytest.raises(ValueError, match="judgement is given twice"):
        made(ranking, [*judged, judged[-1]])
    with pytest.raises(ValueError, match="id is given twice"):
        made(dataclasses.replace(ranking, item_ids=[*items[:-1], "i00"]), judged)


def made(ranking, judged):
    import pyarrow as pa

    head = {"pair": "", "depth": ranking.depth, "relevant_from": ranking.relevant_from,
            "query_ids": pa.array(ranking.query_ids), "item_ids": pa.array(ranking.item_ids)}  # fmt: skip
    columns = dict(zip(("query_id", "item_id", "gain"), map(list, zip(*judged, strict=True)), strict=True))
    return queries.Gallery(head, pa.table(columns))


def test_a_record_whose_mean_is_another_is_read_the_careful_way(tmp_path, careful):
    path = synthetic.add(tmp_path)
    entry = record.read(path)
    entry["scores"]["ndcg@10"]["mean"] += 1e-6
    found = quick(path, entry)
    assert careful == [path]
    assert_same(found, queries.careful(path, entry))
    entry["scores"]["ndcg@10"]["mean"] = None
    assert quick(path, entry) is None


def test_a_measure_deeper_than_the_ranking_is_read_the_careful_way(tmp_path, careful):
    path = synthetic.add(tmp_path, n_items=150)
    entry = record.read(path)
    entry["task"]["headline"] = "recall@100"
    found = quick(path, entry)
    assert careful == [path]
    assert_same(found, queries.careful(path, entry))


def test_a_gallery_is_known_by_what_stands_in_the_file_not_by_its_place(tmp_path, careful):
    """Other judgements in another folder; of the same judgements, another pair that stands first."""
    paths = [synthetic.add(tmp_path / str(count), task="cross_view", n_queries=count) for count in (60, 50)]
    found = [(path, record.read(path)) for path in paths]
    path, entry = found[0]
    run, gains = record.run_of(path, entry), read_judgements(record.judgements_path(path, entry))
    last = entry["task"]["pairs"][-1]
    file = write_run(path.with_name("x.parquet"), Run({last["name"]: run.rankings[last["name"]]}), gains)
    scored = {"task": entry["task"] | {"pairs": [last]}, "scores": entry["pairs"][last["name"]]["scores"]}
    found.append((path.with_name("x.json"), entry | scored | {"run_file": file}))
    values = list(queries.read(found))
    assert careful == []
    for one, about in zip(values, found, strict=True):
        assert_same(one, queries.careful(*about))


def test_what_is_wrong_with_a_run_file_is_said(tmp_path):
    path = synthetic.add(tmp_path)
    entry, run = record.read(path), path.with_suffix(".parquet")
    whole = run.read_bytes()
    pq.write_table(pq.read_table(run).drop_columns(["item"]), run)
    with pytest.raises(DataError, match="not the one its record names"):
        quick(path, entry)
    renamed = entry | {"run_file": entry["run_file"] | {"sha256": hashlib.sha256(run.read_bytes()).hexdigest()}}
    with pytest.raises(DataError, match="without the columns item"):
        quick(path, renamed)
    run.write_bytes(whole)
    judgements = record.judgements_path(path, entry)
    judgements.rename(judgements.with_name("away"))
    with pytest.raises(DataError, match="judgements .* are missing"):
        quick(path, entry)
    run.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        quick(path, entry)
