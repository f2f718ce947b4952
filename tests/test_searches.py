"""Searches on the page of methods: shown whole, and checked, as they may come from others."""

import json

import pytest
import synthetic
from test_run_pages import HOSTILE, SIZE, read, words_of

from ftbench import provenance
from ftbench.errors import DataError
from ftbench.method import load_method
from ftbench.report import render, searches


@pytest.fixture(scope="module")
def search():
    """A search as its file has it."""
    settings = [{"rate": 0.1, "gate": False}, {"rate": 0.2, "gate": False}, {"rate": 0.2, "gate": True}]
    scores, sha = [[0.3, 0.4], [0.35, 0.45], [None, None]], synthetic.sha("x")
    return {
        "schema_version": 1, "id": sha, "command": f"ftbench tune {HOSTILE}", "date": "2026-01-15T10:00:00Z",
        "method": {"name": "bm25", "title": HOSTILE, "sha256": sha, "untuned_sha256": sha},
        "task": {"name": "query2item", "title": HOSTILE, "headline": "ndcg@10", "split": "valid",
                 "definition_sha256": sha},
        "data": {"name": "studio", "version": HOSTILE, "fingerprint": sha}, "track": "zero-shot",
        "encoder": {"name": HOSTILE, "weights_sha256": sha}, "seed": 0, "numerics": 3, "fixed": {"b": HOSTILE},
        "space": {"rate": [0.2], "gate": [False, True]},
        "rungs": [{"share": 0.25, "budget": 10.0, "steps": 1, "trials": 3},
                  {"share": 0.5, "budget": 20.0, "steps": 2, "trials": 2}],
        "trials": [{"settings": own, "scores": got, "seconds": 3.2, "forward_equivalents": None,
                    "error": None if got[0] else HOSTILE} for own, got in zip(settings, scores, strict=True)],
        "chosen": {"trial": 2, "settings": {"rate": 0.2}, "score": 0.45, "default": 0.4, "difference": 0.05,
                   "low": -0.01, "high": 0.11, "p": 0.2},
        "environment": {"cpu": HOSTILE}, "git": {"commit": None, "dirty": None},
    }  # fmt: skip


@pytest.fixture
def put(tmp_path):
    """Writes a search into a results folder with one record; returns the folder."""

    def go(told, name="bm25"):
        results = tmp_path / "results"
        if not results.exists():
            synthetic.add(results, method="mean_pooling", **SIZE)
        file = results / "tuning" / "studio" / "query2item" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(told if isinstance(told, str) else json.dumps(told))
        return results

    return go


def test_the_page_of_methods_shows_searches(put, search, tmp_path):
    page = render(put(search), tmp_path / "site").with_name("methods.html")
    text = words_of(read(page))
    assert "3 trials at 0.25 of the budget, 2 at 0.5. Chosen: rate=0.2 +0.050, 95% interval −0.010 to +0.110" in text
    assert "p = 0.200. The method's file has changed since." in text and text.count(HOSTILE) >= 5
    assert "<img" not in page.read_text()
    assert "2 chosen 0.350 0.450 0.2 false 3" in text and f"3 failed: {HOSTILE} — — 0.2 true 3" in text
    own = provenance.source_sha256(load_method("bm25").path, tuned=False)
    fresh = search | {"method": search["method"] | {"untuned_sha256": own}}
    none = dict.fromkeys(("difference", "low", "high", "p"))
    fresh |= {"chosen": search["chosen"] | none | {"trial": 1, "settings": {}, "score": 0.4}}
    text = words_of(read(render(put(fresh), tmp_path / "site").with_name("methods.html")))
    assert "Chosen: the defaults: none of the others was better." in text and "changed since" not in text


def test_a_search_of_a_method_that_is_not_here_is_shown(put, search, tmp_path):
    results = put(search | {"method": search["method"] | {"name": "elsewhere", "title": "Elsewhere"}}, "elsewhere")
    assert "Elsewhere" in words_of(read(render(results, tmp_path / "site").with_name("methods.html")))


def changed(told, path, value):
    told = json.loads(json.dumps(told))
    part = told
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return told


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["more"], 1, "more"), (["trials", 0, "scores", 0], 1.5, "trials.0.scores.0"), (["trials"], [], "trials"),
        (["trials", 1, "settings"], {"rate": 1}, "other settings than trial 1"),
        (["data", "name"], "other", "expected the file"), (["chosen", "trial"], 9, "there are 3"),
        (["trials", 0, "scores"], [0.1], "expected 2: one per rung"), (["chosen", "p"], None, "or null for all"),
        (["chosen", "settings"], {}, "differs from the defaults"), (["chosen", "score"], 0.9, "at the last rung"),
        (["method", "name"], "../x", "method.name"), (["task", "split"], "test", "task.split"),
        (["fixed"], {"b": "x" * 200}, "fixed.b"), (["trials", 0, "seconds"], float("nan"), "NaN"),
    ],
)  # fmt: skip
def test_a_search_that_does_not_fit_is_refused_in_words(put, search, path, value, said):
    with pytest.raises(DataError, match=said):
        searches.searches(put(changed(search, path, value)))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "1", '"x"', " " * 1_000_001])
def test_what_is_no_search_is_refused_with_all_others(put, search, text):
    put(search)
    put("{", "third")
    with pytest.raises(DataError) as told:
        searches.searches(put(text, "second"))
    assert "second.json" in str(told.value) and "third.json" in str(told.value) and "bm25" not in str(told.value)
