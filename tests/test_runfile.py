"""Run files give back exactly what was written, byte for byte the same each time, in little space."""

import dataclasses
import hashlib

import numpy as np
import pytest
import synthetic

from ftbench import search
from ftbench.errors import DataError
from ftbench.runfile import (
    Run,
    export_trec,
    read_judgements,
    read_run,
    write_atomic,
    write_judgements,
    write_run,
)


def assert_same(a: search.Ranking, b: search.Ranking):
    for part in dataclasses.fields(search.Ranking):
        x, y = getattr(a, part.name), getattr(b, part.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, part.name
            np.testing.assert_array_equal(x, y, err_msg=part.name)
        else:
            assert list(x) == list(y) if isinstance(x, (list, tuple)) else x == y, part.name


@pytest.fixture(params=["plain", "ties", "pairs"])
def run(request):
    pairs = ["title-image", "image-title"] if request.param == "pairs" else [""]
    ranked, _, slices = synthetic.rankings(1.5, pairs, 30, 80, np.random.default_rng(1), ties=request.param == "ties")
    return Run(ranked, slices)


def test_a_run_comes_back_exactly(run, tmp_path):
    field = write_run(tmp_path / "a.parquet", run)
    again = read_run(tmp_path / "a.parquet", field)
    assert list(again.rankings) == list(run.rankings)
    for pair in run.rankings:
        assert_same(run.rankings[pair], again.rankings[pair])
    assert again.slices == run.slices


def test_queries_without_entries_or_relevant_items_and_odd_numbers_come_back():
    empty = search.Ranking(
        query_ids=["b", "ä \"quoted\"", "c"], item_ids=["10", "9", "é"],
        offsets=np.array([0, 2, 2, 3], dtype=np.int64), item=np.array([2, 0, 1], dtype=np.int32),
        rank=np.array([1, 2, 3], dtype=np.int32), score=np.array([-0.0, -1e-38, 3e38], dtype=np.float32),
        gain=np.array([0.01, 0.0, 1 / 3]), tie_first=np.array([1, 1, 3], dtype=np.int32),
        tie_size=np.array([2, 2, 1], dtype=np.int32), ideal_offsets=np.array([0, 1, 1, 1], dtype=np.int64),
        ideal=np.array([0.01]), relevant_from=0.1, depth=3,
    )  # fmt: skip
    from ftbench import runfile

    (again,) = runfile._decode(runfile._encode(Run({"": empty}, {"none": ()}))).rankings.values()
    assert_same(empty, again)
    assert again.score.tobytes() == empty.score.tobytes()  # -0.0 too


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    first = write_run(tmp_path / "a.parquet", run)
    second = write_run(tmp_path / "a.parquet", read_run(tmp_path / "a.parquet"))
    assert first == second
    assert first["bytes"] == (tmp_path / "a.parquet").stat().st_size
    assert first["sha256"] == hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    assert first["depth"] == 10


def test_a_full_size_pair_takes_at_most_150_kb(tmp_path):
    """2,000 queries x 2,000 items, about 4 relevant each, half of them beyond rank 10; ids without order."""
    rng = np.random.default_rng(0)
    q = n = 2000
    relevant = rng.poisson(3, q) + 1  # mean 4
    deep = rng.binomial(relevant, 0.5)
    entries = 10 + deep
    offsets = np.concatenate([[0], np.cumsum(entries)])
    rank = np.concatenate([np.r_[1:11, np.sort(rng.choice(np.arange(11, n), d, replace=False))] for d in deep])
    score = 0.45 - 0.04 * np.log(rank) + 0.02 * np.repeat(rng.standard_normal(q), entries)
    score = (score + 0.003 * rng.standard_normal(len(rank))).astype(np.float32)
    gain = np.where(rank > 10, 3.0, rng.choice([0.0, 1.0, 3.0], len(rank), p=[0.55, 0.25, 0.2]))
    counts = relevant + rng.poisson(8, q)
    ideal = np.concatenate([np.r_[np.full(r, 3.0), np.ones(c - r)] for r, c in zip(relevant, counts, strict=True)])
    ranking = search.Ranking(
        query_ids=[hashlib.sha256(f"q{i}".encode()).hexdigest()[:10] for i in range(q)],
        item_ids=[hashlib.sha256(f"i{i}".encode()).hexdigest()[:10] for i in range(n)],
        offsets=offsets, item=rng.integers(0, n, len(rank)).astype(np.int32), rank=rank.astype(np.int32), score=score,
        gain=gain, tie_first=rank.astype(np.int32), tie_size=np.ones(len(rank), dtype=np.int32),
        ideal_offsets=np.concatenate([[0], np.cumsum(counts)]), ideal=ideal, relevant_from=3.0, depth=10,
    )  # fmt: skip
    slices = {name: tuple(ranking.query_ids[i::3]) for i, name in enumerate("abc")}
    assert write_run(tmp_path / "a.parquet", Run({"": ranking}, slices))["bytes"] <= 150_000
    assert_same(ranking, read_run(tmp_path / "a.parquet").rankings[""])


def test_trec_lines_in_rank_order_with_exact_scores(run):
    lines = list(export_trec(run, "mine"))
    assert len(lines) == sum(len(ranking.item) for ranking in run.rankings.values())
    pair, ranking = next(iter(run.rankings.items()))
    query, _, item, rank, score, tag = lines[1].split(" ")
    assert query == (f"{pair}:" if pair else "") + ranking.query_ids[0]
    assert (item, rank, tag) == (ranking.item_ids[ranking.item[1]], "2", "mine")
    assert np.float32(score) == ranking.score[1]
    assert [int(line.split()[3]) for line in lines[:10]] == list(range(1, 11))


def test_trec_refuses_ids_with_spaces(run):
    ranking = next(iter(run.rankings.values()))
    bad = dataclasses.replace(ranking, item_ids=["a b", *ranking.item_ids[1:]])
    with pytest.raises(DataError, match="'a b'"):
        list(export_trec(Run({"": bad})))


def test_another_file_than_the_record_names_is_refused(run, tmp_path):
    path = tmp_path / "a.parquet"
    field = write_run(path, run)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="not the one its record names.*--force"):
        read_run(path, field)
    with pytest.raises(DataError, match="is not a run file"):
        read_run(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read.*--force"):
        read_run(path, field)


def test_a_parquet_of_something_else_names_the_missing_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"pair": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="without the columns depth, relevant_from"):
        read_run(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "change",
    [
        {"item": lambda a: a + 100_000},
        {"item": lambda a: a - 1_000},
        {"rank": lambda a: a[:-1]},
        {"offsets": lambda a: np.r_[a[:-1], a[-1] + 1]},
        {"ideal": lambda a: a[:-1]},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, tmp_path):
    ranked, _, _ = synthetic.rankings(1.5, [""], 5, 20, np.random.default_rng(1))
    whole = ranked[""]
    ((name, alter),) = change.items()
    broken = dataclasses.replace(whole, **{name: alter(getattr(whole, name))})
    if name == "rank":
        broken = dataclasses.replace(broken, tie_first=whole.tie_first[:-1])
    write_run(tmp_path / "a.parquet", Run({"": broken}))
    with pytest.raises(DataError, match="do not fit together"):
        read_run(tmp_path / "a.parquet")


def test_writing_where_one_cannot_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write a.parquet.*--results"):
        write_atomic(tmp_path / "file" / "a.parquet", b"x")
    target = tmp_path / "kept.json"
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "kept.json"]


def test_judgements_are_written_once_and_must_agree(tmp_path):
    path = tmp_path / "judgements.parquet"
    gains = {"": {"q2": {"b": 3.0, "a": 1.0}, "q1": {"é": 0.01}}, "pair": {"q1": {"a": 1.0}}}
    write_judgements(path, gains)
    assert read_judgements(path) == gains
    before = path.stat().st_mtime_ns
    write_judgements(path, {"pair": {"q1": {"a": 1}}, "": gains[""]})
    assert path.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="other judgements.*raise its version"):
        write_judgements(path, {"": {"q1": {"é": 0.02}}})
    write_judgements(path, {"": gains[""]})  # a method that enters some pairs only
    write_judgements(path, {"new": {"q9": {"a": 1.0}, "q8": {}}})
    assert read_judgements(path) == gains | {"new": {"q9": {"a": 1.0}}}
    write_judgements(tmp_path / "none.parquet", {"": {}})
    assert read_judgements(tmp_path / "none.parquet") == {}
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="does not hold judgements"):
        read_judgements(path)
