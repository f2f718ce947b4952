"""The board in a browser: what a reader does, the address that remembers it, and records that mean harm."""

import json
import re

import pytest
import synthetic

from ftbench import record
from ftbench.report import render, words
from ftbench.report.aggregate import load, tables

HOSTILE = (
    "</script><script>window.harmed=1</script>\"'><img src=x onerror=window.harmed=2>{{7*7}}\u2028=1+1 %$&~^\\end{x}"
)
ADDRESS = "#table=cross_view-studio-equal-compute&view=measures&measure=ndcg%4010&part=title-primary_image&sort=rr%4010"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = synthetic.board(tmp_path_factory.mktemp("board") / "results", n_queries=24, n_items=70, seeds=2)
    for method in ("mean_pooling", "factorized_transport"):
        synthetic.add(results, n_queries=24, n_items=70, method=method, board="equal-steps")
    return results


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    return render(results, tmp_path_factory.mktemp("site") / "site")


def titles(tab):
    return tab.locator(".scores tbody th[scope=row]").all_inner_texts()


def column(tab, label):
    return tab.locator(f".scores td[data-label='{label}']").all_inner_texts()


def head(tab, text):
    return tab.locator(".scores thead tr:nth-child(2) th").filter(has=tab.get_by_text(text, exact=True))


def choice(tab, name):
    return tab.locator("#controls").get_by_role("searchbox" if name == "Search" else "combobox", name=name, exact=True)


def means(tab):
    return tab.locator(".scores .mean").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("javascript", [True, False])
def test_the_page_opens_quietly_at_any_width_and_without_javascript(opened, width, javascript, scheme):
    tab = opened(viewport={"width": width, "height": 900}, java_script_enabled=javascript, color_scheme=scheme)
    live, still = tab.locator("#board"), tab.locator(".still")
    assert (live.is_visible(), still.is_visible()) == (javascript, not javascript)
    table = tab.locator("table.scores" if javascript else "table.plain").first
    assert table.locator("tbody tr").first.is_visible()
    assert table.get_by_text("Factorized transport with cached views").first.is_visible()
    if javascript:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == {"light": "rgb(253, 252, 250)", "dark": "rgb(21, 20, 18)"}[scheme]
    else:
        assert tab.locator("table.plain").count() == 5


def test_what_is_read_without_a_script_is_every_table(opened, results):
    tab = opened(java_script_enabled=False)
    for table in tables(load(results)):
        section = tab.locator(f"[id='table={table.key}']")
        lines = section.locator("tbody tr").all_inner_texts()
        assert len(lines) == len(table.all_rows)
        for row, line in zip((*table.rows, *table.references), lines, strict=True):  # chance is the last of the ranked
            assert row.title in line and words.score(row.headline.mean) in line
    tab.locator(".glance thead a").nth(1).click()
    assert "#table=query2item-magento-luma-equal-compute" in tab.url


def test_the_first_view_is_the_first_table_as_the_records_rank_it(opened, results):
    tab = opened()
    (table, *_) = tables(load(results))
    assert tab.locator("#board-title").inner_text() == "Query to item on studio"
    assert tab.url.endswith("index.html") and tab.evaluate("scrollY") == 0
    assert means(tab) == [words.score(row.headline.mean) for row in (*table.rows, *table.references)]
    best = [row.title for row in table.rows if row.group == "best"]
    shown = tab.locator(".scores tbody.best th").all_inner_texts()
    assert [title.partition(",")[0].strip() for title in shown] == best
    said = tab.locator("#legend").inner_text()
    assert "is the ceiling (Oracle, never ranked)" in said and "is chance" in said
    lines = tab.locator(".scores").get_attribute("style")
    assert re.fullmatch(r"--c:[\d.]+;--r:[\d.]+", lines)


def test_numbers_are_written_as_the_library_writes_them(opened):
    tab = opened()
    values = [None, 0, 0.13, 0.1349, 0.00955, 0.0199, 1, 38.0, 38.44, 99.95, 160, 999.6, 1240, 9999.4, 52_100, 1.2e6]
    values.append(3.5e9)
    assert tab.evaluate("(values) => values.map(number)", values) == [words.number(value) for value in values]
    assert tab.evaluate("(values) => values.map(size)", values) == [words.size(value) for value in values]
    assert tab.evaluate("(values) => values.map(score)", values[:6]) == [words.score(value) for value in values[:6]]


def test_every_column_sorts_both_ways_with_the_keyboard_and_gaps_stay_last(opened):
    tab = opened()
    train = head(tab, "train s")
    train.locator("button").focus()
    tab.keyboard.press("Enter")
    assert train.get_attribute("aria-sort") == "ascending" and "sort=train_seconds" in tab.url
    assert [title.partition("\n")[0] for title in titles(tab)[-2:]] == [
        "Random vectors",
        "Oracle",
    ]  # for reference, below the rule whatever the order
    shown = column(tab, "train s")[:-2]
    numbers = [float(text) for text in shown if text != "—"]
    assert numbers == sorted(numbers) and len(numbers) < len(shown) and set(shown[len(numbers) :]) == {"—"}
    tab.keyboard.press("Enter")  # the focus is still there
    assert train.get_attribute("aria-sort") == "descending" and "order=descending" in tab.url
    assert [text for text in column(tab, "train s")[:-2] if text != "—"] == shown[: len(numbers)][::-1]
    assert column(tab, "train s")[-1] == "—"
    for view in ("overview", "measures", "cost"):
        tab.locator(f"#views input[value={view}]").check()
        heads = tab.locator(".scores thead tr:nth-child(2) th")
        for i in range(heads.count()):
            heads.nth(i).locator("button").click()
            assert heads.nth(i).get_attribute("aria-sort") and tab.locator("[aria-sort]").count() == 1
    head(tab, "Method").locator("button").click()
    shown = [re.split(r"\n| zero-shot", title)[0].lower() for title in titles(tab)[:-2]]
    assert shown == sorted(shown) and len(set(shown)) > 5


def test_a_narrow_page_sorts_by_a_list(opened):
    tab = opened(viewport={"width": 390, "height": 800})
    assert not head(tab, "Method").is_visible()
    choice(tab, "Order").select_option("train s ↓")
    shown = [float(text) for text in column(tab, "train s")[:-2] if text != "—"]
    assert shown == sorted(shown, reverse=True) and "sort=train_seconds&order=descending" in tab.url
    choice(tab, "Order").select_option("train s ↑")
    assert "sort=train_seconds" in tab.url and "order" not in tab.url


def test_search_and_filters_keep_what_they_say(opened):
    tab = opened()
    everything = len(titles(tab))
    tab.get_by_label("Search").fill("POOLING zero-shot")
    assert [title.partition("\n")[0] for title in titles(tab)] == ["Mean pooling zero-shot"]
    assert tab.locator("#shown").inner_text() == f"1 of {everything} rows"
    tab.get_by_label("Search").fill("nothing has this name")
    assert titles(tab) == [] and tab.get_by_text("No row passes these filters.").is_visible()
    tab.get_by_role("button", name="show all").click()
    assert len(titles(tab)) == everything and tab.get_by_label("Search").input_value() == ""
    choice(tab, "Track").select_option("supervised")
    assert set(tab.locator(".scores summary").all_inner_texts()) and all(
        text.startswith("supervised") for text in tab.locator(".scores summary").all_inner_texts()
    )
    choice(tab, "Track").select_option("")
    choice(tab, "Encoder").select_option("none")
    assert len(titles(tab)) == 3  # chance, words and the ceiling encode nothing


def test_task_data_and_board_are_chosen_apart(opened):
    tab = opened()
    choice(tab, "Board").select_option("equal steps")
    assert "table=query2item-studio-equal-steps" in tab.url
    choice(tab, "Data set").select_option("magento-luma")  # has no such board: the nearest table
    assert "table=query2item-magento-luma-equal-compute" in tab.url
    choice(tab, "Task").select_option("Cross-view")
    assert "table=cross_view-magento-luma-equal-compute" in tab.url
    assert tab.locator("#board-title").inner_text() == "Cross-view on magento-luma"
    tab.locator(".glance thead a").first.click()
    assert tab.locator("#board-title").inner_text() == "Query to item on studio"


def test_measure_and_slice_are_those_of_the_records(opened, results):
    tab = opened()
    choice(tab, "Measure").select_option("rr@10")
    choice(tab, "Slice").select_option("auxiliary image")
    assert "measure=rr%4010" in tab.url and "part=auxiliary+image" in tab.url
    expected = {}
    for row in tables(load(results))[0].all_rows:
        found = [entry.record["slices"]["auxiliary image"]["scores"]["rr@10"]["mean"] for entry in row.entries]
        expected[row.slug] = (
            ["random", "oracle"].index(row.method) if row.method in ("random", "oracle") else -1,
            -(sum(found) / len(found)),
        )
    assert means(tab) == [words.score(-value) for _, value in sorted(expected.values())]
    assert tab.locator(".scores tbody.best").count() == 0  # rank groups are the headline's
    assert "Rank groups are tested on the headline alone" in tab.locator("#legend").inner_text()
    assert "over queries alone" in tab.locator("#legend").inner_text()


def test_any_view_is_a_link(opened, browser):
    tab = opened()
    choice(tab, "Task").select_option("Cross-view")
    tab.locator("#views input[value=cost]").check()
    choice(tab, "Measure").select_option("hit@10")
    choice(tab, "Pair").select_option("description-images")
    choice(tab, "Track").select_option("aligned")
    choice(tab, "Encoder").select_option("tiny")
    tab.get_by_label("Search").fill("transport")
    head(tab, "steps").locator("button").click()
    tab.locator("#cost select[name=cost]").select_option("train_seconds")
    again = opened(tab.url[tab.url.index("#") :])
    for part in ("#board", ".scores", "#cost svg"):
        assert again.locator(part).inner_html() == tab.locator(part).inner_html(), part
    assert [again.evaluate("state")] == [tab.evaluate("state")]
    assert again.url == tab.url and again.evaluate("scrollY") > 0  # the view, not what stands above it
    again.goto(again.url.partition("#")[0] + ADDRESS)
    assert head(again, "RR@10").get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize(
    "address", ["#table=nothing&x=1", "#measure=<img>&sort=constructor&view=__proto__&cost=zz", "#%", "#main"]
)
def test_an_address_that_says_nothing_shows_the_first_view(opened, address):
    tab = opened(address)
    assert tab.locator("#board-title").inner_text() == "Query to item on studio" and len(means(tab)) > 5
    notice = tab.locator("#notice").inner_text()
    assert ("table “nothing”" in notice) == ("nothing" in address) and (notice == "") == (address == "#main")
    assert ("measure “<img>”, column to sort by “constructor”" in notice) == ("img" in address)
    assert "#" not in tab.url or address == "#main"  # the address says what is shown


def test_a_row_opens_with_its_command_its_runs_and_a_comparison(opened, results, page):
    tab = opened()
    (table, *_) = tables(load(results))
    tab.locator(".scores summary").nth(0).focus()
    tab.keyboard.press("Enter")
    detail = tab.locator(".detail")
    row = table.rows[0]
    assert detail.locator(".command code").inner_text() == row.first["command"]
    links = [link.get_attribute("href") for link in detail.locator("a[href^=runs]").all()]
    assert links == [f"runs/{row.method}-{entry.record['id'][:12]}.html" for entry in row.entries]
    tab.evaluate("data.compare = true")
    tab.locator(".scores summary").nth(1).click()
    other = tab.locator(".detail").nth(1).locator("a[href^=compare]").get_attribute("href")
    assert other == f"compare.html#table={table.key}&a={table.rows[1].slug}&b={row.slug}"


def test_a_view_is_copied_as_link_csv_and_latex(opened):
    tab = opened("#find=pool", permissions=["clipboard-read", "clipboard-write"])

    def copied(name):
        tab.get_by_role("button", name=name, exact=True).click()
        tab.get_by_role("button", name="Copied").wait_for()
        text = tab.evaluate("navigator.clipboard.readText()")
        tab.get_by_role("button", name=name, exact=True).wait_for()
        return text

    assert copied("Copy link") == tab.url
    lines = copied("Copy CSV").splitlines()
    about = "task,data,board,slice,method,settings,track,encoder,seeds,nDCG@10,low,high,group,"
    assert lines[0].startswith(about) and lines[0].endswith(",digest") and len(lines) == 4
    assert all(line.startswith("Query to item,studio,equal compute,all queries,") for line in lines[1:])
    assert len({line.rpartition(",")[2] for line in lines[1:]} - {""}) == 1
    found = copied("Copy LaTeX")
    assert found.count(r"\textbf{") == 1 and r"\toprule" in found and found.count(r"\\") == 4
    assert r"Query to item on studio, equal compute: nDCG@10 with 95\% intervals." in found


def test_without_a_clipboard_the_text_is_there_to_copy(opened):
    tab = opened()
    tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    tab.get_by_role("button", name="Copy LaTeX").click()
    copied = tab.get_by_label("Text to copy").input_value()
    assert re.search(r"\\midrule\n\\textit\{Oracle\}[^\n]*\n\\bottomrule", copied) and copied.count(r"\midrule") == 2


def test_quality_against_cost_shows_the_rows_of_one_machine(opened, results):
    tab = opened()
    marks = tab.locator("#cost .mark")
    (table, *_) = tables(load(results))
    assert marks.count() == len(table.rows)
    assert [mark.get_attribute("tabindex") for mark in marks.all()].count("0") == 1
    marks.first.focus()
    tab.keyboard.press("ArrowRight")
    label = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == marks.nth(1).get_attribute("aria-label")
    hint = tab.locator(".hint").inner_text()
    assert hint.splitlines()[0] == label.rpartition(":")[0]
    tab.keyboard.press("Enter")  # opens its row
    tab.locator(".detail").wait_for()
    assert tab.evaluate("document.activeElement.localName") == "summary"
    tab.locator("#cost select[name=cost]").focus()
    tab.locator("#cost select[name=cost]").select_option("train_seconds")
    assert "cost=train_seconds" in tab.url
    assert marks.count() == len([row for row in table.rows if row.cost["train_seconds"] is not None])
    assert "have no such cost here" in tab.locator("#cost figcaption").inner_text()
    assert tab.evaluate("document.activeElement.name") == "cost"
    tab.get_by_label("Search").fill("factorized")
    assert marks.count() == 2


def test_the_front_is_what_nothing_beats(opened):
    tab = opened()
    points = [{"x": x, "y": y} for x, y in [(1, 0.2), (2, 0.1), (3, 0.5), (3, 0.4), (4, 0.5), (5, 0.9)]]
    assert tab.evaluate("(points) => front(points)", points) == [points[0], points[2], points[5]]


NAMELESS = """() => [...document.querySelectorAll("a, button, select, input, summary, [role=button]")]
    .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.[0].textContent.trim()))
    .map((e) => e.outerHTML)"""
TWICE = """() => [...document.querySelectorAll("[id]")].map((e) => e.id)
    .filter((id, i, ids) => ids.indexOf(id) < i)"""


def test_controls_have_names_and_ids_are_unique(opened):
    tab = opened("#view=measures")
    tab.locator(".scores summary").nth(0).click()
    assert tab.evaluate(NAMELESS) == [] and tab.evaluate(TWICE) == []
    for name in ("Task", "Data set", "Board", "Track", "Encoder", "Measure", "Slice", "Search"):
        assert choice(tab, name).count() == 1, name


def test_where_the_script_fails_the_still_tables_are_shown(browser, page, tmp_path):
    broken = tmp_path / "index.html"
    broken.write_text(page.read_text().replace('"use strict";', "throw new Error('old browser');"))
    tab = browser.new_page()
    tab.goto(broken.as_uri())
    assert tab.locator(".still").is_visible() and not tab.locator("#board").is_visible()
    tab.close()


def test_records_that_mean_harm_are_shown_as_texts(opened, tmp_path):
    results = tmp_path / "results"
    for method in ("bm25", "mean_pooling"):
        path = synthetic.add(results, method=method)
        entry = json.loads(path.read_text())
        entry["method"]["title"] = entry["command"] = entry["environment"]["cpu"] = HOSTILE + method
        entry["data"] |= {"licence": HOSTILE, "version": HOSTILE}
        entry["task"]["title"] = HOSTILE
        entry["method"]["config"] = {HOSTILE: HOSTILE + method}
        entry["slices"] = {HOSTILE: entry["slices"]["primary"]}
        entry["scores"]["recall@500"]["reason"] = HOSTILE
        entry["id"] = record.record_id(record.key(entry))
        path.write_text(json.dumps(entry))
    second = synthetic.add(results, method="mean_pooling", seed=1)
    entry = json.loads(second.read_text()) | {
        "status": "error",
        "error": HOSTILE,
        "scores": {},
        "slices": {},
        "run_file": None,
    }
    second.write_text(json.dumps(entry))
    html = render(results, tmp_path / "site")
    for javascript in (True, False):
        tab = opened(path=html, java_script_enabled=javascript)
        assert HOSTILE.partition("\u2028")[0] in tab.locator("#main").inner_text()
        assert tab.locator("img").count() == 0 and tab.locator("script").count() == 3
        if javascript:
            for view in ("measures", "cost", "overview"):
                tab.locator(f"#views input[value={view}]").check()
            choice(tab, "Slice").select_option(HOSTILE)
            for summary in tab.locator(".scores summary").all():
                summary.click()
            for mark in tab.locator("#cost .mark").all():
                mark.focus()
            assert "'=" not in tab.evaluate("csv(look(state), arranged(look(state)))").splitlines()[0]
            made = tab.evaluate("latex(look(state), arranged(look(state)))")
            assert r"\end{x}" not in made and not re.search(r"(?<!\\)(%(?! ftbench)|\$)", made)
            assert tab.evaluate("window.harmed") is None
            assert HOSTILE.split("\u2028")[0] in tab.locator(".scores tbody th").first.inner_text()


def test_the_figure_fits_the_window_when_that_is_resized(opened):
    tab = opened()
    for width in (390, 1000):
        tab.set_viewport_size({"width": width, "height": 900})
        room = "Math.min(820, document.querySelector('#board').clientWidth)"
        tab.wait_for_function(f"Number(document.querySelector('#cost svg').getAttribute('width')) === {room}")
        assert tab.locator("#board").is_visible() and tab.evaluate(room) > 350
