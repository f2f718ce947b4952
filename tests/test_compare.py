"""Two runs against each other: numbers from their definitions, in the terminal and in the browser."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic

from ftbench import compare, metrics, record, search, stats
from ftbench.errors import FtbenchError
from ftbench.report import compare as page_of_two
from ftbench.report import quiet, site

HOSTILE = "</script><script>window.harmed=1</script>\"'><img src=x onerror=window.harmed=2>{{7*7}}\u2028$&~^\\end{x}"
NAV = (("index.html", "Board"), ("compare.html", "Compare"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return synthetic.board(tmp_path_factory.mktemp("board") / "results", n_queries=45, n_items=110, seeds=2)


@pytest.fixture(scope="module")
def board(results):
    return site.gather(results, quiet)


@pytest.fixture(scope="module")
def page(board, tmp_path_factory):
    (made,) = page_of_two.pages(board, NAV)
    path = tmp_path_factory.mktemp("site") / made.path
    path.write_bytes(made.content)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


def path_of(results, method, task="query2item", data="studio", which=0):
    found = [(p, r) for p, r in record.read_all(results)
             if (r["method"]["name"], r["task"]["name"], r["data"]["name"]) == (method, task, data)
             and not (r["method"]["trained"] and r["track"] == "zero-shot")]  # fmt: skip
    return sorted(found, key=lambda one: one[1]["seed"])[which][0]


def both(results, *methods, all_seeds=False, **where):
    return [compare.side(path_of(results, method, **where), all_seeds) for method in methods]


# --- the numbers


def test_differences_wins_and_swings_follow_from_the_queries_values(results):
    a, b = both(results, "factorized_transport", "single_view_clip")
    found = compare.compare(a, b)
    values = []
    for one in (a, b):
        ranking = record.run_of(one.paths[0], one.first).rankings[""]
        values.append(dict(zip(ranking.query_ids, metrics.evaluate(ranking, ["ndcg@10"])["ndcg@10"], strict=True)))
    differences = {query: values[0][query] - values[1][query] for query in values[0]}
    line = found.headline
    assert (line.name, line.n) == ("ndcg@10", 45)
    assert line.found.wins == sum(d > 0 for d in differences.values()) > 0
    assert line.found.losses == sum(d < 0 for d in differences.values()) > 0
    assert line.found.wins + line.found.ties + line.found.losses == 45
    np.testing.assert_allclose(line.found.difference, np.mean(list(differences.values())), atol=1e-12)
    assert line.found.low < line.found.difference < line.found.high
    best = max(differences, key=differences.get)
    assert found.ahead[0].unit == best and found.behind[0].unit == min(differences, key=differences.get)
    np.testing.assert_allclose(found.ahead[0].a - found.ahead[0].b, differences[best], atol=1e-9)
    assert all(swing.a > swing.b for swing in found.ahead) and all(swing.a < swing.b for swing in found.behind)


@pytest.mark.parametrize("task", ["query2item", "cross_view"])
def test_means_are_those_of_the_records_on_the_whole_and_in_parts(results, task):
    a, b = both(results, "factorized_transport", "mean_pooling", task=task)
    found = compare.compare(a, b)
    for line in found.measures:
        for one, mean in ((a, line.a), (b, line.b)):
            published = one.first["scores"][line.name]["mean"]
            assert (mean is None) == (published is None)
            if mean is None:
                assert line.reason
            else:
                np.testing.assert_allclose(mean, published, atol=1e-12)
    assert len(found.parts) == (3 if task == "query2item" else 5)
    headline = a.first["task"]["headline"]
    for line in found.parts:
        published = a.first["slices" if task == "query2item" else "pairs"][line.name]["scores"][headline]["mean"]
        np.testing.assert_allclose(line.a, published, atol=1e-12)


def test_all_seeds_of_a_setting_are_averaged(results):
    (one,) = both(results, "factorized_transport")
    (all_of_it,) = both(results, "factorized_transport", all_seeds=True)
    assert (one.seeds, all_of_it.seeds) == ((0,), (0, 1))
    found = compare.compare(all_of_it, *both(results, "bm25", all_seeds=True))
    means = [r["scores"]["ndcg@10"]["mean"] for r in all_of_it.records]
    np.testing.assert_allclose(found.headline.a, np.mean(means), atol=1e-12)


def test_queries_are_paired_by_their_ids_whatever_their_order(results):
    one, other = both(results, "factorized_transport", "bm25")
    ranked, gains, _ = synthetic.rankings(1.5, [""], 12, 40, np.random.default_rng(0))
    scores = np.random.default_rng(1).standard_normal((12, 40)).astype(np.float32)
    ids, items = ranked[""].query_ids, ranked[""].item_ids
    runs = [
        search.rank_scores(scores[order], [ids[i] for i in order], items, gains[""], relevant_from=3.0)
        for order in (np.arange(12), np.random.default_rng(2).permutation(12))
    ]
    sides = [replace(side, runs=(record.Run({"": run}),)) for side, run in zip((one, other), runs, strict=True)]
    units, values = compare._values("ndcg@10", sides, [""], None)
    assert units == sorted(ids)
    np.testing.assert_array_equal(values[0], values[1])
    assert len(set(values[0])) > 3


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"task": "cross_view"}, "tasks are not the same: query2item and cross_view"),
        ({"data": "magento-luma"}, "data sets are not the same"),
    ],
)
def test_runs_of_other_tasks_or_data_are_refused(results, other, said):
    (a,), (b,) = both(results, "mean_pooling"), both(results, "mean_pooling", **other)
    with pytest.raises(FtbenchError, match=said):
        compare.compare(a, b)


@pytest.mark.parametrize(
    ("part", "field", "said"),
    [("data", "fingerprint", "fingerprints are .* and 111111111111"), ("task", "definition_sha256", "definition of")],
)
def test_runs_of_changed_data_or_definitions_are_refused(results, part, field, said):
    a, b = both(results, "mean_pooling", "bm25")
    changed = {**b.first, part: {**b.first[part], field: "1" * 64}}
    with pytest.raises(FtbenchError, match=said):
        compare.compare(a, compare.Side(b.paths, (changed,)))


def test_runs_that_failed_or_entered_other_pairs_are_refused(results):
    a, b = both(results, "mean_pooling", "single_view_clip", task="cross_view")
    fewer = {**b.first, "pairs": dict(list(b.first["pairs"].items())[:3])}
    assert re.search("only one of them entered the pairs", "".join(compare.problems(a.first, fewer)))
    failed = {**b.first, "status": "error", "error": "out of luck"}
    assert compare.problems(a.first, failed) == [f"single_view_clip-{b.first['id'][:12]} failed: out of luck"]


# --- the page of any two rows


def island(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)[1])


def test_the_page_holds_every_rows_values_closely_enough(board, page):
    held = {table["key"]: table for table in island(page)["tables"]}
    assert len(held) == len(board.tables) == 4
    for table in board.tables:
        mine = held[table.key]
        assert island(page)["units"][mine["units"]]["ids"] == list(table.units)
        for row in table.all_rows:
            (found,) = [one for one in mine["rows"] if one["id"] == row.slug]
            steps = np.frombuffer(base64.b64decode(found["values"]), dtype="<u2")
            np.testing.assert_allclose(steps / 65_535 * mine["scale"], row.values, atol=mine["scale"] / 65_535)


def test_the_page_holds_what_each_item_has_in_each_pair(board, page):
    held = {table["key"]: table for table in island(page)["tables"]}
    table = next(t for t in board.tables if t.key == "cross_view-studio-equal-compute")
    row, mine = table.rows[0], held[table.key]
    (found,) = [one for one in mine["rows"] if one["id"] == row.slug]
    assert [part["title"] for part in mine["parts"]] == [pair["title"] for pair in table.task["pairs"]]
    for pair, text in enumerate(found["apart"]):
        values = np.frombuffer(base64.b64decode(text), dtype="<u2") / 65_535
        np.testing.assert_allclose(values, row.apart[pair][~np.isnan(row.apart[pair])], atol=1 / 65_535)


def test_the_page_has_the_slices_of_the_run_files(board, page):
    table, mine = board.tables[0], island(page)["tables"][0]
    assert [part["name"] for part in mine["parts"]] == list(synthetic.SLICES)
    for i, part in enumerate(mine["parts"]):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(part["bits"]), dtype=np.uint8), bitorder="little")
        assert [table.units[k] for k in np.flatnonzero(bits)] == [f"q{k:05d}" for k in range(i, 45, 3)]


def large(board, tables, rows, units):
    """A board of many tables, rows and queries, made of one row."""
    rng = np.random.default_rng(0)
    row, ids = board.tables[0].rows[0], [f"q0-{i:07d}-0" for i in range(units)]
    made = []
    for t in range(tables):
        own = [replace(row, values=rng.random(units)) for _ in range(rows)]
        data = {**board.tables[0].data, "name": f"data-{t}"}
        made.append(replace(board.tables[0], rows=tuple(own), references=(), units=(*ids[1:], f"own-{t}"), data=data))
    return replace(board, tables=tuple(made))


def test_a_large_board_keeps_the_page_below_six_megabytes(board):
    (made,) = page_of_two.pages(large(board, 24, 28, 2000), NAV)
    assert 3e6 < len(made.content) < 6e6 and b'"left": []' in made.content


def test_tables_beyond_the_pages_size_are_named(board):
    (made,) = page_of_two.pages(large(board, 4, 10, 60_000), NAV)
    assert len(made.content) < 6e6
    assert json.loads(re.search(r'"left": (\[.*?\])', made.content.decode())[1]) == [
        f"query2item-data-{t}-equal-compute" for t in (2, 3)
    ]


def test_a_board_without_run_files_has_nothing_to_compare(board):
    bare = [replace(t, rows=tuple(replace(r, values=None) for r in t.rows), references=()) for t in board.tables]
    assert page_of_two.exists(board) and not page_of_two.exists(replace(board, tables=tuple(bare)))


# --- in a browser


def choose(tab, name, value):
    tab.locator(f"#controls [name={name}]").select_option(value)


def shown(tab):
    return tab.locator("#result").inner_text()


def test_any_choice_is_a_link(board, opened):
    table = next(t for t in board.tables if t.key == "query2item-magento-luma-equal-compute")
    a, b = (next(r for r in table.rows if r.method == name) for name in ("mean_pooling_all_views", "random"))
    tab = opened()
    first = shown(tab)
    choose(tab, "table", table.key)
    choose(tab, "a", a.slug)
    choose(tab, "b", b.slug)
    address = f"#table={table.key}&a={a.slug}&b={b.slug}"
    assert tab.evaluate("location.hash") == address and shown(tab) != first
    assert "Mean pooling with all views encoded at every step is ahead of Random vectors" in shown(tab)
    again = opened(address)
    assert shown(again) == shown(tab)
    again.locator("#swap").click()
    assert "Random vectors is behind" in shown(again)
    again.evaluate("hash => { location.hash = hash; }", address)
    again.wait_for_function("document.querySelector('#verdict').textContent.includes('ahead')")
    assert shown(again) == shown(tab)


def test_an_address_that_the_page_does_not_have_is_said_and_mended(page, opened):
    tab = opened("#table=query2item-gone-equal-compute&a=bm25-000000")
    notice = tab.get_by_role("status")
    assert "“query2item-gone-equal-compute” and “bm25-000000”, which this page does not have" in notice.inner_text()
    assert notice.is_visible() and tab.locator("#verdict").is_visible()
    first, second = (tab.locator(f"#controls [name={name}]").input_value() for name in ("a", "b"))
    table = island(page)["tables"][0]["key"]
    assert tab.evaluate("location.hash") == f"#table={table}&a={first}&b={second}"
    choose(tab, "b", first)
    assert notice.inner_text() == "" and notice.bounding_box()["height"] == 0


def uneven(row):
    """The row with its last pair asked by the first two of three items alone, its values weighted accordingly."""
    apart = row.apart.copy()
    apart[-1, 2::3] = np.nan
    weights = apart.shape[1] / (len(apart) * (~np.isnan(apart)).sum(axis=1))
    return replace(row, apart=apart, values=np.nansum(apart * weights[:, None], axis=0))


def test_pairs_are_shown_as_the_command_has_them_and_items_by_their_own_measure(board, opened, tmp_path):
    table = next(t for t in board.tables if t.key == "cross_view-studio-equal-compute")
    table = replace(table, rows=tuple(map(uneven, table.rows)), references=())
    (made,) = page_of_two.pages(replace(board, tables=(table,)), NAV)
    (tmp_path / made.path).write_bytes(made.content)
    a, b = (next(r for r in table.rows if r.method == name) for name in ("factorized_transport", "random"))
    assert max(a.values.max(), b.values.max()) > 1  # what the macro-mean is a mean over is no recall
    tab = opened(f"#a={a.slug}&b={b.slug}", path=tmp_path / made.path)
    lines = [line.split("\t") for line in tab.locator("#parts tbody tr").all_inner_texts()]
    assert [line[0] for line in lines] == ["mean over the pairs", *(pair["title"] for pair in table.task["pairs"])]
    for pair, line in enumerate(lines[1:]):
        mine, other = (row.apart[pair][~np.isnan(row.apart[pair])] for row in (a, b))
        counts = [((mine - other) > 1e-9).sum(), (abs(mine - other) < 1e-9).sum(), ((mine - other) < -1e-9).sum()]
        assert line[1:4] == [str(len(mine)), f"{mine.mean():.3f}", f"{other.mean():.3f}"]
        assert line[7] == ", ".join(map(str, counts))
    assert [float(n) for n in lines[0][2:4]] == pytest.approx([a.values.mean(), b.values.mean()], abs=6e-4)
    first = re.search(r"(\S+)\s+([\d.]+) against ([\d.]+) \+([\d.]+)", tab.locator(".swings li").first.inner_text())
    own = [np.nanmean(row.apart, axis=0) for row in (a, b)]
    item = table.units.index(first[1])
    assert first[2] == f"{own[0][item]:.3f}" and first[3] == f"{own[1][item]:.3f}"
    assert (own[0] - own[1])[item] == pytest.approx((own[0] - own[1]).max())
    values = re.findall(r"([\d.]+) against ([\d.]+)", shown(tab))
    assert values and all(float(value) <= 1 for pair in values for value in pair)
    assert "times 1/65,535" not in shown(tab)


@pytest.mark.parametrize("names", [("mean_pooling", "single_view_clip"), ("factorized_transport", "random")])
def test_the_browsers_numbers_are_numpys(board, opened, names):
    table = board.tables[0]
    a, b = (next(r for r in table.rows if r.method == name and not r.is_zero_shot) for name in names)
    truth = stats.compare(a.values, b.values, np.random.default_rng(0))
    tab = opened(f"#table={table.key}&a={a.slug}&b={b.slug}")
    said = tab.locator("#numbers").inner_text().replace("−", "-")
    number = r"([+-]?\d\.\d+)"
    found = re.search(rf"mean difference {number}, 95% interval {number} to {number}, p (<|=) {number}", said)
    difference, low, high, sign, p = found.groups()
    assert float(difference) == pytest.approx(truth.difference, abs=6e-4)
    wide = truth.high - truth.low
    assert float(low) == pytest.approx(truth.low, abs=0.08 * wide)  # ends of 2,000 resamples: 3 errors of a percentile
    assert float(high) == pytest.approx(truth.high, abs=0.08 * wide)
    if sign == "<":
        assert truth.p < 0.0025
    else:
        assert float(p) == pytest.approx(truth.p, abs=4 * np.sqrt(truth.p / 10_000) + 1e-3)
    counts = [int(n) for n in tab.locator("#won b").all_inner_texts()]
    assert counts == [truth.wins, truth.ties, truth.losses]
    lines = tab.locator("#parts tbody tr").all_inner_texts()
    assert [line.split("\t")[:2] for line in lines] == [["all queries", "45"], *([name, "15"] for name in
                                                        ("primary", "auxiliary image", "auxiliary text"))]  # fmt: skip
    assert tab.locator(".histogram rect").count() == 41
    first = tab.locator(".swings li").first.inner_text()
    differences = a.values - b.values
    assert table.units[int(differences.argmax())] in first and f"{differences.max():+.3f}" in first


@pytest.mark.parametrize("width", [390, 1280])
def test_without_a_script_every_row_stands_against_its_leader(board, opened, width):
    tab = opened(java_script_enabled=False, viewport={"width": width, "height": 900})
    assert tab.locator("#controls").is_hidden()
    assert tab.locator(".still table").count() == 4
    table = board.tables[0]
    leader, other = table.rows[0], table.rows[1]
    line = tab.locator(".still table").first.locator("tbody tr").nth(1).inner_text()
    differences = np.round(other.values - leader.values, 12)
    for text in (
        other.title,
        f"{abs(differences.mean()):.3f}",
        f"{(differences > 0).sum()}, {(differences == 0).sum()}",
    ):
        assert text in line


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_schemes(opened, scheme):
    tab = opened(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    inside = "[...document.querySelectorAll('#result .scroll')].every(node => node.scrollWidth <= node.clientWidth)"
    assert tab.evaluate(inside)  # nothing is cut
    light = int(re.search(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[0]) > 128
    assert light == (scheme == "light")
    assert tab.locator(".still").is_hidden() and tab.locator("#verdict").is_visible()


def test_hostile_records_do_no_harm(folder, opened, tmp_path):
    for method in ("bm25", "mean_pooling"):
        path = synthetic.add(folder, n_queries=20, n_items=60, method=method)
        entry = json.loads(path.read_text())
        entry["method"]["title"] = entry["task"]["title"] = HOSTILE + method
        entry["method"]["config"] = {HOSTILE: HOSTILE}
        entry["id"] = record.record_id(record.key(entry))
        path.write_text(json.dumps(entry))
    (made,) = page_of_two.pages(site.gather(folder, quiet), NAV)
    (tmp_path / made.path).write_bytes(made.content)
    tab = opened(path=tmp_path / made.path)
    assert tab.evaluate("window.harmed === undefined && document.images.length === 0")
    assert "window.harmed" in shown(tab)


def test_the_same_records_give_the_same_bytes(results, page):
    (made,) = page_of_two.pages(site.gather(results, quiet), NAV)
    assert made.content == page.read_bytes()
