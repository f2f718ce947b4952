"""Records: valid, whole, identified by what their numbers depend on, and equal to their run files."""

import copy
import json
import os

import numpy as np
import pytest
import synthetic

from ftbench import record
from ftbench.errors import DataError, FtbenchError, RunError


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def edit(path, change):
    """Change a record on disk by hand."""
    entry = json.loads(path.read_text())
    change(entry)
    path.write_text(json.dumps(entry))


def test_a_record_lies_where_it_belongs_and_comes_back(results):
    path = synthetic.add(results, method="single_view_clip", seed=2)
    found = record.read(path)
    assert path == results / "studio" / "query2item" / f"single_view_clip-{found['id'][:12]}.json"
    assert path.with_suffix(".parquet").name == found["run_file"]["name"]
    assert found["seed"] == 2
    assert [p for p, _ in record.read_all(results)] == [path]
    assert not [p.name for p in results.rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize(
    "about", [{}, {"ties": True}, {"task": "cross_view", "method": "factorized_transport", "n_queries": 20}]
)
def test_numbers_recomputed_from_the_run_file_equal_the_record_exactly(results, about):
    path = synthetic.add(results, **about)
    entry = record.read(path)
    again = record.rescore(entry, record.run_of(path, entry))
    assert again == {name: entry[name] for name in ("scores", "pairs", "slices", "n_queries", "n_skipped")}
    assert entry["scores"]["ndcg@10"]["mean"] > 0


def test_judgements_are_written_beside_the_task_folders_once(results):
    synthetic.add(results, seed=0)
    synthetic.add(results, seed=1)
    (path,) = results.rglob("judgements-*")
    assert path == results / "studio" / f"judgements-query2item-{synthetic.sha('studio')[:12]}.parquet"


# --- identity


def test_the_id_is_a_hash_of_canonical_json():
    assert record.record_id({"b": 1, "a": [1.5, "é"]}) == record.record_id({"a": (1.5, "é"), "b": 1})
    by_hand = '{"a":[1.5,"é"],"b":1}'
    assert record.record_id({"b": 1, "a": [1.5, "é"]}) == synthetic.sha(by_hand)
    with pytest.raises(ValueError):
        record.record_id({"a": float("nan")})


CHANGES = {
    "task": lambda r: r["task"].update(definition_sha256="0" * 64),
    "data": lambda r: r["data"].update(fingerprint="0" * 64),
    "method file": lambda r: r["method"].update(sha256="0" * 64),
    "config": lambda r: r["method"]["config"].update(alignment_weight=0.31),
    "trainer": lambda r: r["trainer"].update(steps=301),
    "board": lambda r: r.update(board="equal-steps"),
    "track": lambda r: r.update(track="aligned"),
    "encoder": lambda r: r["encoder"].update(weights_sha256="0" * 64),
    "no encoder": lambda r: r.update(encoder=None),
    "seed": lambda r: r.update(seed=1),
    "precision": lambda r: r.update(precision="bfloat16"),
    "numerics": lambda r: r.update(numerics=r["numerics"] + 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_numbers_depend_on_changes_the_id(name):
    draft = copy.deepcopy(synthetic.draft())
    before = record.record_id(record.key(draft))
    CHANGES[name](draft)
    assert record.record_id(record.key(draft)) != before


def test_hardware_titles_dates_and_costs_do_not():
    draft = copy.deepcopy(synthetic.draft())
    before = record.record_id(record.key(draft))
    draft["environment"] |= {"cpu": "another", "fingerprint": "1" * 12}
    draft |= {"date": "2027-01-01T00:00:00Z", "command": "x", "cost": record.cost(steps=1)}
    draft["method"]["title"] = draft["task"]["title"] = "Another title"
    draft["git"] = {"commit": None, "dirty": None}
    assert record.record_id(record.key(draft)) == before


def test_the_board_counts_only_where_a_budget_is_spent():
    one, other = synthetic.draft("bm25"), synthetic.draft("bm25", board="equal-steps")
    assert record.record_id(record.key(one)) == record.record_id(record.key(other))


# --- checking


def test_all_problems_of_a_record_are_reported_together(results):
    path = synthetic.add(results)

    def spoil(entry):
        entry["track"] = "unsupervised"
        entry["scores"]["ndcg@10"]["mean"] = 1.5
        del entry["seed"]
        entry["extra"] = 1

    edit(path, spoil)
    with pytest.raises(DataError, match="4 problems") as caught:
        record.read(path)
    for words in ("unsupervised", "1.5", "'seed' is a required property", "extra"):
        assert words in str(caught.value)


def test_a_newer_schema_says_which_and_to_upgrade(results):
    edit(synthetic.add(results), lambda entry: entry.update(schema_version=99, unheard_of=True))
    with pytest.raises(DataError, match=r"version 99, this ftbench reads up to 1\. Upgrade: pip install --upgrade"):
        record.read_all(results)


def test_a_changed_key_field_is_noticed(results):
    path = synthetic.add(results)
    edit(path, lambda entry: entry["method"]["config"].update(alignment_weight=0.9))
    with pytest.raises(DataError, match="is not the hash of the record's own key"):
        record.read(path)


def test_problems_of_all_records_are_reported_together(results):
    paths = [synthetic.add(results, seed=seed) for seed in range(3)]
    paths[0].write_text("{")
    edit(paths[1], lambda entry: entry.update(track=1))
    with pytest.raises(DataError, match="2 problems") as caught:
        record.read_all(results)
    assert all(path.name in str(caught.value) for path in paths[:2])
    assert paths[2].name not in str(caught.value)


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="ftbench run"):
        record.read_all(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert record.read_all(tmp_path / "empty") == []


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", "", "a b", "x" * 100])
def test_names_that_leave_the_folder_are_refused(results, name):
    entry = synthetic.draft()
    entry["method"]["name"] = name
    with pytest.raises(RunError, match="method.name"):
        record.write(results, entry | _nothing("x"), {})
    assert not list(results.rglob("*.json"))


def test_not_a_number_is_refused(results):
    ranked, _, _ = synthetic.rankings(1, [""], 5, 12, np.random.default_rng(0))
    measured = record.measure(record.Run(ranked), synthetic.MEASURES)
    measured["scores"]["ndcg@10"]["mean"] = float("nan")
    with pytest.raises(RunError, match="cannot be written as JSON"):
        record.write(results, synthetic.draft() | measured, ranked)
    assert not list(results.rglob("*.*"))


def test_cost_fields_not_given_are_null_and_unknown_ones_refused():
    assert record.cost(steps=3)["steps"] == 3
    assert record.cost(steps=3)["train_seconds"] is None
    with pytest.raises(TypeError, match="stepz"):
        record.cost(stepz=3)


# --- writing


def _nothing(error):
    return {
        "status": "error", "error": error, "scores": {}, "pairs": {}, "slices": {}, "n_queries": 0, "n_skipped": 0,
        "cost": record.cost(), "training": {"curve": []},
    }  # fmt: skip


def test_a_failed_run_is_a_record_with_its_error_and_no_run_file(results):
    path = record.write(results, synthetic.draft() | _nothing("ValueError: no"), {})
    entry = record.read(path)
    assert (entry["status"], entry["error"], entry["run_file"]) == ("error", "ValueError: no", None)
    assert not list(results.rglob("*.parquet"))
    assert record.find(results, entry["id"]) is None
    done = synthetic.add(results)
    assert done == path and record.read(path)["status"] == "ok"


def test_a_failed_run_may_say_of_every_measure_that_nothing_was_ranked(results):
    entry = synthetic.draft() | _nothing("no") | record.measure(record.Run({}), synthetic.MEASURES)
    found = record.read(record.write(results, entry, {}))
    assert found["scores"]["ndcg@10"]["reason"] == "nothing was ranked" and found["n_queries"] == 0


def test_a_failed_run_never_replaces_a_finished_one(results):
    path = synthetic.add(results)
    before = path.read_bytes()
    assert record.write(results, synthetic.draft() | _nothing("no"), {}) == path
    assert path.read_bytes() == before


def test_a_finished_run_is_found_by_its_id_while_its_run_file_is_whole(results):
    path = synthetic.add(results)
    identity = record.record_id(record.key(synthetic.draft()))
    assert record.find(results, identity) == (path, record.read(path))
    assert record.find(results, "0" * 64) is None
    run = path.with_suffix(".parquet")
    whole = run.read_bytes()
    run.write_bytes(whole[:-3])
    assert record.find(results, identity) is None
    run.unlink()
    assert record.find(results, identity) is None
    run.write_bytes(whole)
    path.write_text("{")
    assert record.find(results, identity) is None


def test_a_rerun_on_the_same_machine_replaces_and_elsewhere_stands_beside(results):
    path = synthetic.add(results)
    before = path.read_bytes()
    assert synthetic.add(results) == path
    again = synthetic.add(results, hardware="feedfeedfeed")
    assert again.name == f"{path.stem}.repro-feedfeedfeed.json"
    assert path.read_bytes() == before
    assert record.is_reproduction(again) and not record.is_reproduction(path)
    assert record.read(again)["id"] == record.read(path)["id"]
    assert record.run_of(again, record.read(again)).rankings
    assert record.find(results, record.read(path)["id"])[0] == path


def test_writing_changes_no_argument(results):
    ranked, gains, slices = synthetic.rankings(1, [""], 5, 12, np.random.default_rng(0))
    entry = synthetic.draft() | record.measure(record.Run(ranked, slices), synthetic.MEASURES)
    before = copy.deepcopy(entry)
    record.write(results, entry, ranked, gains, slices)
    assert entry == before


def test_an_interrupted_write_leaves_no_record(results, monkeypatch):
    real, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.add(results)
    assert len(calls) == 3  # judgements, run file, then the record
    assert not list(results.rglob("*.json")) and not list(results.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_an_error_before_any_work(tmp_path):
    record.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="cannot write to the results folder .*--results DIR"):
            record.check_writable(bad)
    with pytest.raises(FtbenchError, match="--results"):
        synthetic.add(tmp_path / "file")
