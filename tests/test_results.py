"""The committed board: every record is valid, and its numbers follow from its run file, exactly."""

from pathlib import Path

import pytest

from ftbench import metrics, record

RESULTS = Path(__file__).resolve().parent.parent / "results"
FOUND = record.read_all(RESULTS)


@pytest.mark.parametrize(("path", "found"), FOUND, ids=[path.stem for path, _ in FOUND])
def test_numbers_follow_from_the_run_file(path, found):
    ranked = record.run_of(path, found)
    again = record.rescore(found, ranked)
    assert again == {name: found[name] for name in again}
    for ranking in ranked.rankings.values():
        values = metrics.evaluate(ranking, ["rr@1", "p@1", "hit@1"])
        assert values["rr@1"].tolist() == values["p@1"].tolist() == values["hit@1"].tolist()


def test_records_come_from_clean_commits():
    assert FOUND
    for path, found in FOUND:
        assert found["status"] == "ok" and found["git"]["commit"] and found["git"]["dirty"] is False, path.name


def test_all_of_results_stays_small():
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 60e6
