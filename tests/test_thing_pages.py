"""Pages of methods, data sets and studies: what files and records say, checked where it may come from others."""

import json
from dataclasses import replace

import pytest
import synthetic
from test_run_pages import HOSTILE, SIZE, hostile, read, words_of, write

from ftbench.errors import DataError
from ftbench.report import data, methods, quiet, render, studies
from ftbench.report.gathered import gather


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things") / "results"
    for method in ("factorized_transport_cached", "oracle", "bm25"):
        synthetic.add(folder, method=method, **SIZE)
    hostile(folder)
    return folder


@pytest.fixture(scope="module")
def site(results, tmp_path_factory):
    return render(results, tmp_path_factory.mktemp("site") / "site").parent


@pytest.fixture(scope="module")
def board(results):
    return gather(results, quiet)


# --- methods and data


def test_methods_say_what_their_files_say_and_where_they_depart(site, board):
    page = words_of(read(site / "methods.html"))
    found = {method.name: method for method in methods.methods(board)}
    assert {path.stem for path in methods.installed()} < set(found) == {*found}
    for method in found.values():
        if method.source:
            assert method.source.departure and method.source.departure in page
            assert all(text in page for _, text in method.source.said)
            assert all(setting.comment and setting.comment in page for setting in method.source.settings)
    cached = found["factorized_transport_cached"]
    assert [setting.name for setting in cached.source.settings][:2] == ["primary_share", "alignment_share"]
    assert cached.after_title[0] == "ours" and "none made with this file" in page
    assert found["evil.method"].source is None and "its file is not here" in page


def test_standings_are_the_best_row_of_each_table(board):
    found = {method.name: method for method in methods.methods(board)}
    (standing,) = found["oracle"].standings
    assert standing.place is None and standing.row.method == "oracle"
    assert found["bm25"].standings[0].place == 2 and found["random"].standings == []


def test_standings_tell_trained_rows_from_zero_shot_ones(tmp_path):
    folder = tmp_path / "results"
    synthetic.add(folder, method="mean_pooling", **SIZE)
    synthetic.add(folder, method="mean_pooling", track="zero-shot", **SIZE)
    synthetic.add(folder, method="bm25", **SIZE)
    (table,) = gather(folder, quiet).tables
    for rows in (table.rows, table.rows[::-1]):  # also where the untrained form is ahead
        found = methods.standings("mean_pooling", [replace(table, rows=rows)])
        assert [standing.row.is_zero_shot for standing in found] == [False, True]
        assert all(rows[standing.place - 1] is standing.row for standing in found)
    page = words_of(read(render(folder, tmp_path / "site").with_name("methods.html")))
    trained, untrained = (next(r for r in table.rows if r.method == "mean_pooling" and r.is_zero_shot is kind)
                          for kind in (False, True))  # fmt: skip
    for label, row in (("nDCG@10", trained), ("nDCG@10, zero-shot", untrained)):
        place = table.rows.index(row) + 1
        assert f"Query to item, studio {label} {place} of 3 {row.headline.mean:.3f}" in page
    assert "zero-shot" not in page[page.index("BM25 over an item's texts With") :]


def test_data_sets_show_the_newest_and_count_the_others(tmp_path):
    folder = tmp_path / "results"
    synthetic.add(folder, method="bm25", **SIZE)
    entry = synthetic.draft(method="mean_pooling", date="2026-02-01T00:00:00Z")
    entry["data"] |= {"fingerprint": "1" * 64, "version": "studio-v2", "counts": {"items": 7, "odd": 1},
                      "coverage": {"broken_images": 2, "dropped": {"few": 1, "many": 1200}}}  # fmt: skip
    write(folder, entry)
    (found,) = data.data_sets(gather(folder, quiet))
    assert found.about["version"] == "studio-v2" and found.records == 1
    assert [(version, count) for version, _, count in found.others] == [("studio-v1", 1)]
    assert found.counts == [("items", "7"), ("odd", "1")]
    assert found.coverage == [("broken images", "2"), ("dropped: many", "1,200"), ("dropped: few", "1")]


SHEET = {
    "schema_version": 1, "name": "studio", "version": "studio-v1", "fingerprint": synthetic.sha("studio"),
    "title": HOSTILE, "description": HOSTILE, "disclosures": [HOSTILE],
    "blocks": [{"title": HOSTILE, "head": [], "rows": [[HOSTILE, "1", "1%"]], "bars": [0.5]},
               {"title": "table", "head": ["a", HOSTILE], "rows": [["1", HOSTILE]], "bars": None},
               {"title": "pairs", "head": [], "rows": [["1", HOSTILE]], "bars": None}],
}  # fmt: skip


def test_a_datasheet_has_a_page_while_it_is_of_the_data(tmp_path):
    folder = tmp_path / "results"
    synthetic.add(folder, method="bm25", **SIZE)
    file = folder / "studio" / data.FILE
    file.write_text(json.dumps(SHEET))
    site = render(folder, tmp_path / "site").parent
    page = read(site / "data" / "studio.html")
    assert words_of(page).count(HOSTILE) >= 7 and "<img" not in (site / "data" / "studio.html").read_text()
    assert "data/studio.html" in read(site / "data.html").links
    file.write_text(json.dumps(SHEET | {"fingerprint": "0" * 64}))
    render(folder, site)
    assert not (site / "data" / "studio.html").exists() and "data/studio.html" not in read(site / "data.html").links


def test_a_table_of_many_columns_and_few_rows_is_turned_to_fit_a_phone(browser, tmp_path):
    folder = tmp_path / "results"
    synthetic.add(folder, method="bm25", **SIZE)
    head = ["split", "items", "groups", "images", "texts", "queries", "judgements", "interactions"]
    rows = [[name, *(f"{n}1,234" for n in range(1, 8))] for name in ("train", "valid", "test")]
    block = {"title": "splits", "head": head, "rows": rows, "bars": None}
    few = {"title": "few", "head": ["", "a", "b"], "rows": [["x", "1", "2"], ["y", "3", "4"]], "bars": None}
    (folder / "studio" / data.FILE).write_text(json.dumps(SHEET | {"blocks": [block, few]}))
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto((render(folder, tmp_path / "site").parent / "data" / "studio.html").as_uri())
    first, second = (table.locator("tr").all_inner_texts() for table in tab.locator("table").all())
    assert first[0].split() == ["split", "train", "valid", "test"] and len(first) == 8
    assert first[1].split() == ["items", *["11,234"] * 3] and first[7].split() == ["interactions", *["71,234"] * 3]
    assert second[1].split() == ["x", "1", "2"]
    inside = "[...document.querySelectorAll('.scroll')].every(node => node.scrollWidth <= node.clientWidth)"
    assert tab.evaluate(inside)
    tab.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "is not JSON"), ("[" * 100_000, "is not JSON"), (json.dumps(SHEET | {"blocks": [{}]}), "blocks.0"),
     (json.dumps(SHEET | {"more": 1}), "more"), (" " * 1_000_001, "bytes")],
)  # fmt: skip
def test_a_datasheet_that_is_none_is_refused_in_words(tmp_path, text, problem):
    file = tmp_path / "studio" / data.FILE
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(DataError, match=problem) as told:
        data.read(file)
    assert "ftbench data inspect studio" in str(told.value)


# --- studies

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink">{}</svg>'


def study(results, picture, **changed):
    folder = results / studies.FOLDER / "views"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cost.svg").write_text(picture)
    told = {"title": HOSTILE, "question": f"Does it pay? {HOSTILE}", "findings": ["It pays.", HOSTILE],
            "command": "ftbench study views", "figures": [{"file": "cost.svg", "caption": HOSTILE}]}  # fmt: skip
    folder.with_suffix(".json").write_text(json.dumps(told | changed))


def png(path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path)


def test_pictures_of_matplotlib_are_shown_and_a_study_fits_a_phone(browser, tmp_path):
    from matplotlib.figure import Figure

    folder = tmp_path / "results"
    synthetic.add(folder, method="bm25", **SIZE)
    study(folder, SVG.format(""), findings=["A finding of some words, " * 6] * 30)
    figure = Figure(figsize=(7, 4))
    left, right = figure.subplots(1, 2)
    left.imshow([[0, 1], [1, 0]])  # an embedded picture
    right.errorbar([1, 2], [1, 3], yerr=0.2, label="$x_2$, é", clip_on=True)
    right.legend()
    figure.savefig(folder / studies.FOLDER / "views" / "cost.svg")
    path = render(folder, tmp_path / "site").with_name("studies.html")
    for width in (390, 1280):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.goto(path.as_uri())
        tab.locator("summary").click()
        assert tab.locator("li:visible", has_text="A finding").count() == 30
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("figure img").evaluate("node => node.complete && node.naturalWidth > 0")
        tab.close()


def test_studies_have_a_page_only_where_there_are_any(site, tmp_path):
    assert not (site / "studies.html").exists()
    folder = tmp_path / "results"
    synthetic.add(folder, method="bm25", **SIZE)
    study(folder, SVG.format('<use x:href="#a"/><path style="fill: url(#b)"/>'))
    made = render(folder, tmp_path / "site").parent
    page = read(made / "studies.html")
    for text in ("Does it pay?", "It pays.", "ftbench study views", f"It pays. {HOSTILE}"):
        assert text in words_of(page)
    assert "figures/study-views-cost.svg" in page.links and (made / "figures/study-views-cost.svg").is_file()
    html = (made / "studies.html").read_text()
    assert "PNG" not in words_of(page) and "<details" not in html and html.count("<img") == 1
    png(folder / studies.FOLDER / "views" / "cost.png")
    study(folder, SVG.format(""), findings=[f"Finding {i}." for i in range(30)])
    page = read(render(folder, made).with_name("studies.html"))
    assert "figures/study-views-cost.png" in page.links and (made / "figures/study-views-cost.png").is_file()
    said = words_of(page)
    assert (
        said.index("Finding 4.") < said.index("25 more findings") < said.index("Finding 5.") < said.index("Finding 29.")
    )
    assert ("studies.html", "Studies")[0] in read(made / "index.html").links


@pytest.mark.parametrize(
    "inside",
    ["<script>1</script>", '<path onload="1"/>', '<image x:href="https://example.org/a.png"/>',
     '<image href="//example.org/a.png"/>', '<path style="fill:url(https://example.org)"/>',
     "<style>@import 'x'</style>", '<path style="fill:u\\72l(x)"/>', "<foreignObject/>", '<a href="#x"/>', "<"],
)  # fmt: skip
def test_a_picture_that_could_do_anything_is_refused(tmp_path, inside):
    study(tmp_path, SVG.format(inside))
    with pytest.raises(DataError, match="cost.svg: it (holds|names|is not)|its style"):
        studies.studies(tmp_path)


def test_all_problems_of_a_study_are_told_together(tmp_path):
    figures = [{"file": "../../x.svg", "caption": ""}, {"file": "none.png", "caption": ""}, 3]
    study(tmp_path, SVG.format(""), title=1, figures=figures)
    with pytest.raises(DataError) as told:
        studies.studies(tmp_path)
    for problem in ("title: expected a text", "'../../x.svg'", "none.png: there is no such file", "figure 3"):
        assert problem in str(told.value)
    study(tmp_path, SVG.format(""), more=1)
    with pytest.raises(DataError, match="expected title, question, findings, command and figures"):
        studies.studies(tmp_path)
    study(tmp_path, SVG.format(""), findings="It pays.")
    with pytest.raises(DataError, match="expected a list of findings"):
        studies.studies(tmp_path)
    study(tmp_path, SVG.format(""), findings=[1])
    (tmp_path / studies.FOLDER / "views" / "cost.png").write_text("no picture")
    with pytest.raises(DataError, match=r"finding 1: expected a text\n.*cost.png: it is not a PNG"):
        studies.studies(tmp_path)
