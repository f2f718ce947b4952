"""The page: what it says is what the records say, whatever the records hold; and it is one silent file."""

import html as html_of
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import synthetic

from ftbench import record, release
from ftbench.errors import DataError
from ftbench.report import render, words
from ftbench.report.aggregate import load, tables
from ftbench.report.columns import COSTS


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return synthetic.board(tmp_path_factory.mktemp("board") / "results", n_queries=40, n_items=110)


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    return render(results, tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def html(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


def rows_of(folder, which=0):
    return {(row.method, row.track, row.variant): row for row in tables(load(folder))[which].all_rows}


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps ids, links and text."""

    VOID = {"meta", "link", "br", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        self.text.append(data)


def data_of(html):
    """The value that the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html).group(1))


def of_part(entry, name):
    """A record's scores on all queries or on a slice or pair."""
    return entry["scores"] if not name else {**entry["slices"], **entry["pairs"]}[name]["scores"]


def words_of(path):
    """What a page shows, without markup."""
    text = re.sub(r"<(script|style).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html_of.unescape(re.sub(r"<[^>]+>", " ", text)).split())


# --- the page


def test_the_page_is_one_well_formed_file_without_network(page, html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    for link in reader.links:
        own = link == "data:," or (link[0] == "#" and link[1:] in reader.ids)
        assert own or (page.parent / link.partition("#")[0]).is_file(), link
    assert html.count("<script") == 3 and "<link" not in html.replace('<link rel="icon" href="data:,">', "")
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.|@import|url\(", html.replace("http://www.w3.org/2000/svg", ""))


def test_the_same_records_give_the_same_bytes(page, results, tmp_path):
    copied = shutil.copytree(results, tmp_path / "elsewhere")
    assert render(copied, tmp_path / "site").read_bytes() == page.read_bytes()


def test_every_table_names_its_methods_scores_and_reading(html, results):
    for task in ("Query to item", "Cross-view"):
        for data in ("studio", "magento-luma"):
            assert f'aria-label="Scores of {task} on {data}, equal compute"' in html
    shown = {table["key"]: table for table in data_of(html)["tables"]}
    for table in tables(load(results)):
        assert f'id="table={table.key}"' in html
        rows = {row["id"]: row for row in shown[table.key]["rows"]}
        for row in table.all_rows:
            assert row.title.replace("'", "&#39;") in html
            assert words.score(row.headline.mean) in html
            found = rows[row.slug]
            assert (found["title"], found["track"], found["command"]) == (row.title, row.track, row.first["command"])
            runs = [f"{row.method}-{entry.record['id'][:12]}" for entry in row.entries]
            assert [run for _, run, _ in found["seeds"]] == runs


def test_the_data_of_the_script_are_shown_as_the_records_are(html, results):
    """Rounding twice must not show another number; every measure is there on every part."""
    data = data_of(html)
    for table in tables(load(results)):
        shown = next(found for found in data["tables"] if found["key"] == table.key)
        parts = [part["name"] for part in shown["parts"]]
        assert parts == [pair["name"] for pair in table.task["pairs"]] + list(table.rows[0].slices)
        rows = {row["id"]: row for row in shown["rows"]}
        assert len(rows) == len(table.all_rows)
        for row in table.all_rows:
            for part, cells in zip(["", *parts], rows[row.slug]["scores"], strict=True):
                for name, cell in zip(table.task["measures"], cells, strict=True):
                    found = [of_part(entry.record, part)[name] for entry in row.entries]
                    if found[0]["mean"] is None:
                        assert data["reasons"][cell] == found[0]["reason"]
                    else:
                        assert words.score(cell[0]) == words.score(np.mean([one["mean"] for one in found]))
                        assert cell[1] <= cell[0] <= cell[2]
            for cost, value in zip(COSTS, rows[row.slug]["costs"], strict=True):
                assert cost.text(value) == cost.text(cost.value(row))
            cell = rows[row.slug]["scores"][0][table.task["measures"].index(table.task["headline"])]
            assert words.interval(*cell[1:3]) == words.interval(row.headline.low, row.headline.high)


def test_gaps_are_dashes_and_never_zero(html, results):
    assert "bm25" not in {row.method for row in tables(load(results))[2].all_rows}
    studio = tables(load(results))[0]
    (bm25,) = [row for row in studio.rows if row.method == "bm25"]
    assert bm25.scores["recall@500"].mean is None and bm25.cost["train_seconds"] is None
    (found,) = [row for row in data_of(html)["tables"][0]["rows"] if row["method"] == "bm25"]
    assert found["costs"][[cost.name for cost in COSTS].index("train_seconds")] is None
    assert type(found["scores"][0][studio.task["measures"].index("recall@500")]) is int  # the place of its reason
    still = re.search(r"<tr[^>]*><th[^>]*>BM25 over.*?</tr>", html.partition('class="still"')[2]).group()
    assert "<td>—</td>" in still and "<td>0</td>" not in still and ">None<" not in html


def test_the_footer_says_how_to_cite_and_what_this_is(html):
    assert "@misc{ftbench_board_" in html and "newest record 15 January 2026" in html
    assert re.search(r"<b>83</b> records", html)
    assert synthetic.sha("commit")[:12] in html


# --- rows, seeds, groups


def test_seeds_are_one_row_and_its_score_their_mean(results):
    table = tables(load(results))[0]
    (row,) = [row for row in table.rows if row.method == "factorized_transport"]
    assert [entry.record["seed"] for entry in row.entries] == [0, 1, 2]
    by_hand = np.mean([entry.record["scores"]["ndcg@10"]["mean"] for entry in row.entries])
    assert row.headline.mean == pytest.approx(by_hand, abs=1e-11)
    assert row.headline.low < by_hand < row.headline.high
    sliced = np.mean([entry.record["slices"]["primary"]["scores"]["ndcg@10"]["mean"] for entry in row.entries])
    assert row.slices["primary"].mean == pytest.approx(sliced, abs=1e-11)
    assert row.cost["train_seconds"] == sorted(e.record["cost"]["train_seconds"] for e in row.entries)[1]


def test_macro_means_of_units_equal_the_records(results):
    """What is bootstrapped and permuted averages to what is published."""
    from ftbench.report.aggregate import _units

    for entry in load(results):
        headline = entry.record["task"]["headline"]
        values = _units(entry)[1]
        np.testing.assert_allclose(values.mean(), entry.record["scores"][headline]["mean"], atol=1e-12)


def test_rank_groups_hold_the_leader_and_leave_chance_out(results):
    for table in tables(load(results)):
        assert table.rows[0].group == "best"
        assert {row.method: row.group for row in table.rows}["random"] == "below"
        assert all(row.group in ("best", "below") for row in table.rows)
        assert [row.headline.mean for row in table.rows] == sorted((r.headline.mean for r in table.rows), reverse=True)


def test_the_oracle_is_a_ceiling_and_never_ranked(results, html):
    table = tables(load(results))[0]
    assert [row.method for row in table.references] == ["oracle"] and table.references[0].group == ""
    assert table.ceiling.headline.mean > table.rows[0].headline.mean
    (found,) = [row for row in data_of(html)["tables"][0]["rows"] if row.get("reference")]
    assert found["title"] == "Oracle" and "group" not in found


def test_zero_shot_rows_stand_apart(results):
    rows = rows_of(results)
    zero, trained = rows[("mean_pooling", "zero-shot", ())], rows[("mean_pooling", "supervised", ())]
    assert zero.is_zero_shot and not trained.is_zero_shot
    assert not rows[("bm25", "zero-shot", ())].is_zero_shot
    assert zero.headline.mean < trained.headline.mean


def test_configurations_are_rows_with_what_differs(folder):
    synthetic.add(folder, method="factorized_transport")
    config = {"loss": "blocks", "primary_share": 0.25, "alignment_weight": 0.3}
    synthetic.add(folder, method="factorized_transport", config=config)
    assert {row.variant for row in tables(load(folder))[0].rows} == {("loss=blocks",), ("loss=fused",)}


def test_boards_are_tables_and_methods_without_budget_are_on_all(folder):
    synthetic.add(folder, method="bm25")
    synthetic.add(folder, method="mean_pooling")
    synthetic.add(folder, method="mean_pooling", board="equal-steps")
    synthetic.add(folder, method="mean_pooling", track="zero-shot")
    found = {table.board: [(row.method, row.track) for row in table.rows] for table in tables(load(folder))}
    assert set(found) == {"equal-compute", "equal-steps"}
    for rows in found.values():
        assert sorted(rows) == [("bm25", "zero-shot"), ("mean_pooling", "supervised"), ("mean_pooling", "zero-shot")]


def test_scores_of_another_version_of_the_data_are_never_mixed_in(folder):
    synthetic.add(folder, method="bm25", date="2026-01-01T00:00:00Z")
    old = record.read(next(folder.rglob("*.json")))
    newer = synthetic.add(folder, method="mean_pooling", date="2026-02-01T00:00:00Z")
    entry = json.loads(newer.read_text())
    entry["data"] |= {"fingerprint": "1" * 64, "version": "studio-v2"}
    entry["id"] = record.record_id(record.key(entry))
    newer.write_text(json.dumps(entry))
    (table,) = tables(load(folder))
    assert [row.method for row in table.rows] == ["mean_pooling"] and table.replaced == 1
    assert old["id"] not in render(folder, folder.parent / "site").read_text()


def test_a_later_run_of_changed_code_replaces_the_earlier(folder):
    first = synthetic.add(folder, method="bm25")
    entry = json.loads(first.read_text()) | {"date": "2026-03-01T00:00:00Z"}
    entry["method"]["sha256"] = "2" * 64
    entry["id"] = record.record_id(record.key(entry))
    first.with_name(f"bm25-{entry['id'][:12]}.json").write_text(json.dumps(entry))
    (table,) = tables(load(folder))
    (row,) = table.rows
    assert row.first["id"] == entry["id"] and table.replaced == 1


def test_reproductions_are_shown_and_make_no_row(folder):
    synthetic.add(folder)
    synthetic.add(folder, hardware="feedfeedfeed")
    (table,) = tables(load(folder))
    ((entry,),) = [row.entries for row in table.rows]
    assert len(entry.reproductions) == 1 and entry.record["environment"]["fingerprint"] != "feedfeedfeed"
    html = render(folder, folder.parent / "site").read_text()
    assert "1 reproduction" in html
    assert [row["again"] for row in data_of(html)["tables"][0]["rows"]] == [1]


def test_without_run_files_nothing_is_claimed(folder):
    synthetic.add(folder, method="bm25")
    synthetic.add(folder, method="mean_pooling")
    next(folder.rglob("bm25-*.parquet")).unlink()
    (table,) = tables(load(folder))
    assert len(table.runs_missing) == 1
    assert {row.group for row in table.rows} == {""}
    rows = {row.method: row for row in table.rows}
    assert rows["bm25"].headline.low is None and rows["mean_pooling"].headline.low is not None
    assert "1 run file is not beside the records" in render(folder, folder.parent / "site").read_text()


def test_a_wide_tie_band_is_a_warning(folder):
    synthetic.add(folder, method="bm25", ties=True)
    synthetic.add(folder, method="mean_pooling")
    wide = {row.method: row.headline.wide for row in tables(load(folder))[0].rows}
    assert wide == {"bm25": True, "mean_pooling": False}
    html = render(folder, folder.parent / "site").read_text()
    assert html.partition("<footer")[0].count("ties move it from") == 1
    lengths = {row["method"]: max(len(cell) for cell in row["scores"][0] if type(cell) is list)
               for row in data_of(html)["tables"][0]["rows"]}  # fmt: skip
    assert lengths == {"bm25": 5, "mean_pooling": 3}


def fail(folder, method="mean_pooling", **about):
    failed = synthetic.draft("mean_pooling") | {
        "status": "error", "error": "ValueError: out of luck", "scores": {}, "pairs": {}, "slices": {}, "n_queries": 0,
        "n_skipped": 0,
    }  # fmt: skip
    failed["method"] |= {"name": method, **about}
    return record.write(folder, failed, {})


def test_failed_runs_are_named_and_not_scored(folder):
    synthetic.add(folder, method="bm25")
    fail(folder)
    (table,) = tables(load(folder))
    assert [row.method for row in table.rows] == ["bm25"] and len(table.failed) == 1
    page = render(folder, folder.parent / "site")
    assert "out of luck" in page.read_text()
    assert "1 record, 1 of them failed" in words_of(page.with_name("methods.html"))


def test_files_of_the_same_code_have_a_record_each(folder):
    synthetic.add(folder, method="bm25")
    paths = [fail(folder, name) for name in ("mine", "yours")]
    assert len({record.read(path)["id"] for path in paths}) == 1
    entries = load(folder)
    assert {entry.path for entry in entries} == {path for path, _ in record.read_all(folder)} and len(entries) == 3
    assert {entry.path for entry in tables(entries)[0].failed} == set(paths)
    assert len(release.distinct(record.read_all(folder))) == 3
    page = render(folder, folder.parent / "site")
    for path in paths:
        assert words_of(page.parent / "runs" / f"{path.stem}.html").count("Equal compute board failed") == 1


def test_failed_runs_are_counted_apart_and_their_methods_have_no_place(folder):
    synthetic.add(folder, method="bm25")
    for name, title in (("mine", "Missing config"), ("yours", "Missing config"), ("untitled", "untitled")):
        fail(folder, name, title=title)
    page = render(folder, folder.parent / "site")
    board, about = words_of(page), words_of(page.with_name("methods.html"))
    assert "4 records, 3 of them failed 1 method 1 task" in board
    assert all(f"Missing config ({name}), seed 0, failed: ValueError" in board for name in ("mine", "yours"))
    assert " untitled, seed 0, failed: " in board
    assert "4 records, 3 of them failed, newest" in about and "Missing config" not in about


def test_no_records_and_no_folder(folder):
    with pytest.raises(DataError, match="ftbench run"):
        render(folder, folder.parent / "site")
    folder.mkdir()
    assert "No records yet" in render(folder, folder.parent / "site").read_text()
    synthetic.add(folder, method="bm25")  # a single row still makes a page
    assert "BM25" in render(folder, folder.parent / "site").read_text()
    (folder.parent / "file").write_text("")
    with pytest.raises(DataError, match="--site DIR"):
        render(folder, folder.parent / "file" / "site")


def test_a_failed_run_of_a_method_that_was_mended_since_is_not_shown(folder):
    synthetic.add(folder, method="bm25", date="2026-01-02T00:00:00Z")
    nothing = record.measure(record.Run({}), synthetic.MEASURES, [])
    for method, date in (("bm25", "2026-01-01T00:00:00Z"), ("mean_pooling", "2026-01-01T00:00:00Z"),
                         ("bm25", "2026-01-03T00:00:00Z")):  # fmt: skip
        entry = synthetic.draft(method=method, date=date, config={"k1": date}) | {"status": "error", "error": date}
        entry["method"]["sha256"] = synthetic.sha(date)
        record.write(folder, entry | nothing, {})
    (table,) = tables(load(folder))
    shown = {(entry.record["method"]["name"], entry.record["error"]) for entry in table.failed}
    assert shown == {("mean_pooling", "2026-01-01T00:00:00Z"), ("bm25", "2026-01-03T00:00:00Z")}
    assert table.replaced == 1
