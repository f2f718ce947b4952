"""Cells of studies and trials of searches: kept one by one, found again while nothing of them changed."""

import json
from pathlib import Path

import numpy as np
import pytest

from ftbench import cells, runner
from ftbench.cells import Cell
from ftbench.errors import FtbenchError
from ftbench.request import Request

ROOT = Path(__file__).resolve().parent.parent
LEXICAL = Request("bm25", "query2item", "studio@200")


def test_a_cell_is_kept_found_again_and_made_again_when_it_changed(session_cache, tmp_path):
    told = []
    first = cells.make(tmp_path, [Cell("one", LEXICAL)], tell=told.append)["one"]
    kept = json.loads((tmp_path / "one.json").read_text())
    assert kept["record"]["scores"]["ndcg@10"]["mean"] == first.score
    assert np.mean(first.values) == pytest.approx(first.score, abs=1e-5)
    again = cells.make(tmp_path, [Cell("one", LEXICAL)], tell=told.append)["one"]
    np.testing.assert_array_equal(again.values, first.values)
    assert again.record == first.record and "(found)" not in told[0] and "(found)" in told[1]
    changed = Request("bm25", "query2item", "studio@200", settings=(("title_only", "true"),))
    assert cells.make(tmp_path, [Cell("one", changed)], tell=told.append)["one"].score < first.score
    assert "(found)" not in told[2]


def test_a_finished_run_of_the_board_is_taken_for_a_cell(session_cache, tmp_path, monkeypatch):
    board = tmp_path / "results"
    made = runner.run(LEXICAL, runner.Session(board, lambda title: lambda *_: None)).record
    alone = cells.make(tmp_path / "alone", [Cell("one", LEXICAL, ("recall@50",))])["one"]
    monkeypatch.setattr(runner, "measured", lambda *_: pytest.fail("made again"))
    told = []
    wanted = [Cell("one", LEXICAL, ("recall@50",))]
    found = cells.make(tmp_path / "cells", wanted, tell=told.append, board=board)["one"]
    assert told[0].endswith("(found)")  # it says nothing of how long others take
    assert found.record == {name: value for name, value in made.items() if name != "run_file"}
    np.testing.assert_array_equal(found.values, alone.values)
    np.testing.assert_array_equal(found.also["recall@50"], alone.also["recall@50"])
    assert cells.find(tmp_path / "cells", [Cell("one", LEXICAL)])
    monkeypatch.undo()
    again = cells.make(tmp_path / "cells", [Cell("one", LEXICAL)], force=True, board=board)["one"]
    assert again.record["date"] >= found.record["date"] and again.record["cost"] != found.record["cost"]


def test_a_damaged_cell_is_made_again(session_cache, tmp_path):
    (tmp_path / "one.json").write_text("{")
    assert cells.read(tmp_path, "one") is None
    assert not cells.make(tmp_path, [Cell("one", LEXICAL)])["one"].failed


def test_a_cell_that_fails_keeps_its_error_and_stops_no_other(session_cache, tmp_path):
    method = tmp_path / "broken.py"
    method.write_text('''"""Broken. Differs from the paper: none."""
from ftbench import method

class Method(method.Method):
    lexical = True

    def score(self, probes, gallery):
        raise ValueError("no")
''')
    broken = Request(str(method), "query2item", "studio@200")
    found = cells.make(tmp_path / "cells", [Cell("broken", broken), Cell("one", LEXICAL)])
    assert found["broken"].failed and "no" in found["broken"].record["error"] and found["broken"].score is None
    assert not found["one"].failed
    assert cells.read(tmp_path / "cells", "broken").failed


def test_wrong_requests_are_named_before_any_run(tmp_path):
    with pytest.raises(FtbenchError, match="Did you mean 'bm25'"):
        cells.make(tmp_path / "cells", [Cell("one", LEXICAL), Cell("two", Request("bm26", "query2item"))])
    assert not (tmp_path / "cells").exists()


def test_a_cell_keeps_further_measures_and_is_made_again_for_one_that_it_lacks(session_cache, tmp_path):
    told = []
    cells.make(tmp_path, [Cell("one", LEXICAL)], tell=told.append)
    deep = Cell("one", LEXICAL, also=("recall@10", "recall@20"))
    assert not cells.find(tmp_path, [deep])
    done = cells.make(tmp_path, [deep], tell=told.append)["one"]
    assert "(found)" not in told[1] and set(done.also) == {"recall@10", "recall@20"}
    assert np.mean(done.also["recall@10"]) == pytest.approx(done.record["scores"]["recall@10"]["mean"], abs=1e-5)
    assert np.mean(done.also["recall@20"]) > np.mean(done.also["recall@10"])
    again = cells.make(tmp_path, [Cell("one", LEXICAL, also=("recall@20",))], tell=told.append)["one"]
    np.testing.assert_array_equal(again.also["recall@20"], done.also["recall@20"])
    assert "(found)" in told[2] and set(cells.find(tmp_path, [deep])) == {"one"}


def test_data_that_is_not_there_is_prepared_once_for_several_processes(session_cache, tmp_path):
    data = "studio@60-missing50"
    asked = [Cell(name, Request(name, "cross_view", data)) for name in ("random", "oracle")]
    assert not [done.key for done in cells.make(tmp_path, asked, jobs=2).values() if done.failed]


def test_a_headline_that_the_gallery_is_too_small_for_is_no_score_and_no_failure(session_cache, tmp_path):
    text = (ROOT / "tasks" / "query2item.toml").read_text().replace('headline = "ndcg@10"', 'headline = "recall@500"')
    (tmp_path / "deep.toml").write_text(text)
    told = []
    deep = Request("bm25", str(tmp_path / "deep.toml"), "studio@200")
    done = cells.make(tmp_path / "cells", [Cell("one", deep)], tell=told.append)["one"]
    assert not done.failed and done.score is None and told == ["[1/1] one: no score"]


def test_the_probes_of_an_item_are_one_value_whose_mean_is_the_headline(session_cache, tmp_path):
    """cross_view: an item asks with up to five of its views, and stands once among the values."""
    done = cells.make(tmp_path, [Cell("one", Request("random", "cross_view", "studio@200"))])["one"]
    record = done.record
    assert len(record["pairs"]) == 5
    most = max(pair["n_queries"] for pair in record["pairs"].values())
    assert len(done.values) < 2 * most < sum(pair["n_queries"] for pair in record["pairs"].values())
    assert np.mean(done.values) == pytest.approx(done.score, abs=1e-5)
