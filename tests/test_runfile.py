"""Run files give back exactly what was written, byte for byte the same each time, in little space."""

import dataclasses
import hashlib

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbench import runfile, search
from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.runfile import (
    Run,
    export_trec,
    read_judgements,
    read_run,
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
    ranked, gains, slices = synthetic.rankings(
        1.5, pairs, 30, 80, np.random.default_rng(1), ties=request.param == "ties"
    )
    return Run(ranked, slices), gains


def test_a_run_comes_back_exactly(run, tmp_path):
    run, gains = run
    field = write_run(tmp_path / "a.parquet", run, gains)
    again = read_run(tmp_path / "a.parquet", gains, field)
    assert list(again.rankings) == list(run.rankings)
    for pair in run.rankings:
        assert_same(run.rankings[pair], again.rankings[pair])
    assert again.slices == run.slices


@given(st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_ranking_comes_back(data):
    """Ties, gains outside the top, queries without judgements or without entries below, any depth."""
    n, q = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    item_ids = data.draw(st.lists(st.text("129aé", min_size=1, max_size=3), min_size=n, max_size=n, unique=True))
    numbers = st.lists(st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1e30]), min_size=n, max_size=n)
    scores = np.array([data.draw(numbers) for _ in range(q)])
    gain = st.sampled_from([0.0, 0.01, 1 / 3, 3.0])
    gains = {f"q{i}": data.draw(st.dictionaries(st.sampled_from(item_ids), gain)) for i in range(q)}
    level, depth = data.draw(st.sampled_from([0.01, 0.5, 3.0])), data.draw(st.integers(1, n))
    ranking = search.rank_scores(scores, list(gains), item_ids, gains, level, depth)
    again = runfile._decode(runfile._encode(Run({"": ranking}), {"": gains}), {"": gains}).rankings[""]
    assert_same(ranking, again)
    assert again.score.tobytes() == ranking.score.tobytes()  # -0.0 too


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    run, gains = run
    first = write_run(tmp_path / "a.parquet", run, gains)
    second = write_run(tmp_path / "a.parquet", read_run(tmp_path / "a.parquet", gains), gains)
    assert first == second
    assert first["bytes"] == (tmp_path / "a.parquet").stat().st_size
    assert first["sha256"] == hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    assert first["depth"] == 10


def test_a_full_size_pair_of_the_worst_case_takes_at_most_150_kb(tmp_path):
    """2,000 queries x 2,000 items at chance, 4.6 relevant each and nearly all of them beyond rank 10."""
    rng = np.random.default_rng(0)
    query_ids, item_ids = (
        [f"{kind}0-{i:07d}" for i in np.sort(rng.choice(6000, 2000, replace=False))] for kind in "qi"
    )
    gains = {}
    for query in query_ids:
        judged = rng.choice(2000, 68, replace=False)
        relevant = 1 + rng.poisson(3.6)
        gains[query] = {item_ids[i]: 3.0 if k < relevant else 1.0 for k, i in enumerate(judged)}
    ranking = search.rank_scores(rng.standard_normal((2000, 2000)), query_ids, item_ids, gains, 3.0)
    slices = {name: tuple(query_ids[i::3]) for i, name in enumerate("abc")}
    assert write_run(tmp_path / "a.parquet", Run({"": ranking}, slices), {"": gains})["bytes"] <= 150_000
    assert_same(ranking, read_run(tmp_path / "a.parquet", {"": gains}).rankings[""])


def test_other_judgements_than_the_ranking_was_made_with_are_refused(run, tmp_path):
    run, gains = run
    (pair, judged), *_ = gains.items()
    query = next(iter(judged))
    more = judged[query] | {run.rankings[pair].item_ids[-1]: 2.0}
    with pytest.raises(DataError, match="was not made with the judgements given"):
        write_run(tmp_path / "a.parquet", run, gains | {pair: judged | {query: more}})
    assert not list(tmp_path.iterdir())
    write_run(tmp_path / "a.parquet", run, gains)
    with pytest.raises(DataError, match="the judgements do not have"):
        read_run(tmp_path / "a.parquet", {})


def test_trec_lines_in_rank_order_with_exact_scores(run):
    run, _ = run
    lines = list(export_trec(run, "mine"))
    assert len(lines) == sum(len(ranking.item) for ranking in run.rankings.values())
    pair, ranking = next(iter(run.rankings.items()))
    query, _, item, rank, score, tag = lines[1].split(" ")
    assert query == (f"{pair}:" if pair else "") + ranking.query_ids[0]
    assert (item, rank, tag) == (ranking.item_ids[ranking.item[1]], "2", "mine")
    assert np.float32(score) == ranking.score[1]
    assert [int(line.split()[3]) for line in lines[:10]] == list(range(1, 11))


def test_trec_refuses_ids_with_spaces(run):
    run, _ = run
    ranking = next(iter(run.rankings.values()))
    bad = dataclasses.replace(ranking, item_ids=["a b", *ranking.item_ids[1:]])
    with pytest.raises(DataError, match="'a b'"):
        list(export_trec(Run({"": bad})))


def test_another_file_than_the_record_names_is_refused(run, tmp_path):
    run, gains = run
    path = tmp_path / "a.parquet"
    field = write_run(path, run, gains)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="not the one its record names.*--force"):
        read_run(path, gains, field)
    with pytest.raises(DataError, match="is not a run file"):
        read_run(path, gains)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read.*--force"):
        read_run(path, gains, field)


def test_a_parquet_of_something_else_names_the_missing_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"pair": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="without the columns depth, relevant_from"):
        read_run(tmp_path / "a.parquet", {})


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("item", lambda values: [100_000, *values[1:]]),
        ("item", lambda values: values[:-1]),
        ("below", lambda values: [*values[:-1], 100_000]),
        ("rank", lambda values: values[:-1]),
        ("entries", lambda values: [*values[:-1], values[-1] + 1]),
        ("score", lambda values: values[1:]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(column, change, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    ranked, gains, _ = synthetic.rankings(1.5, [""], 5, 20, np.random.default_rng(1))
    write_run(tmp_path / "a.parquet", Run(ranked), gains)
    table = pq.read_table(tmp_path / "a.parquet")
    (values,) = table[column].to_pylist()
    place, kind = table.column_names.index(column), table.schema.field(column).type
    pq.write_table(table.set_column(place, column, pa.array([change(values)], kind)), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="do not fit together|the judgements do not have"):
        read_run(tmp_path / "a.parquet", gains)


def test_writing_where_one_cannot_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write a.parquet to .*another folder"):
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
