"""The committed board: every record is valid, and its numbers follow from its run file, exactly."""

from pathlib import Path

import pytest

from ftbench import checks, metrics, record

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


def test_costs_agree_with_each_other():
    for path, found in FOUND:
        assert checks.cost_problems(found) == [], path.name


def test_all_of_results_stays_small():
    """A run file of 2,000 test items is 100 to 500 kB, and so a board of 21 methods, three seeds and both tasks 35 MB:
    there are three, one of equal steps among them, and 35 MB of studies."""
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 150e6


def test_no_method_is_above_the_ceiling():
    """The oracle of all views knows all that they show: no headline exceeds what it reaches where ties fall best."""
    tables = {}
    for _, found in FOUND:
        if found["method"]["name"] == "oracle" and found["method"]["config"]["reads"] != "all":
            continue  # the ceiling of methods that read no other views
        parts = {"": found} | found["pairs"]
        for part, scored in parts.items():
            if part or not found["pairs"]:
                key = found["data"]["name"], found["task"]["name"], part
                tables.setdefault(key, {}).setdefault(found["method"]["name"], []).append(
                    scored["scores"][found["task"]["headline"]]
                )
    checked = 0
    for key, methods in tables.items():
        for ceiling in methods.pop("oracle", []):
            for name, scores in methods.items():
                for score in scores:
                    assert score["mean"] <= ceiling["tie_high"], (key, name)
                    checked += 1
    assert checked or not FOUND
