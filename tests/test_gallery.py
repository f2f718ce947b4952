"""The gallery's page: made of run files and a bundle alone, looked through in a browser."""

import base64
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from bundles import made_for, shown

from ftbench import bundle
from ftbench.bundle import Asked, Picture, Shown, Words
from ftbench.report import gallery, quiet, render, site

HOSTILE = "</style></script><script>window.harmed=1</script>\"'><img src=x onerror=window.harmed=2>{{7*7}}\u2028&~\\e"
NAV = (("index.html", "Board"), ("gallery.html", "Gallery"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = synthetic.board(tmp_path_factory.mktemp("board") / "results", n_queries=30, n_items=600, seeds=2)
    bundle.write(results, made_for(results))
    return results


@pytest.fixture(scope="module")
def board(results):
    return site.gather(results, quiet)


@pytest.fixture(scope="module")
def page(board, tmp_path_factory):
    (made,) = gallery.pages(board, NAV)
    path = tmp_path_factory.mktemp("site") / made.path
    path.write_bytes(made.content)
    return path


@pytest.fixture
def folder(tmp_path):
    for method in ("mean_pooling_all_views", "single_view_clip"):
        synthetic.add(tmp_path / "results", n_queries=12, n_items=40, method=method)
    return tmp_path / "results"


# --- what the page says


def test_marks_are_the_pictures_that_tell_what_the_primary_does_not():
    asked = Asked("q", "star hat", (), {"kind": "hat", "motif": "star"}, None)
    marks = gallery._marks(asked, shown("a"))
    assert [(mark.place, mark.text, mark.right) for mark in marks] == [(1, "motif", True), (2, "motif", True)]
    assert [mark.caption for mark in marks] == ["motif", ""]
    assert not any(mark.right for mark in gallery._marks(asked, shown("a", "moon")))
    assert gallery._marks(replace(asked, asks={"kind": "hat"}), shown("a")) == ()
    assert gallery._marks(asked, replace(shown("a"), attributes={})) == ()


def test_chips_say_what_is_so_and_which_view_tells_it():
    asked = Asked("q", "", (), {"kind": "hat", "motif": "star", "occasion": "party"}, None)
    chips = gallery._chips(asked, shown("a", "moon"))
    assert [(chip.text, chip.right, chip.where) for chip in chips] == [
        ("hat", True, ""), ("moon, not star", False, ""), ("party", True, "tags"),
    ]  # fmt: skip
    unseen = gallery._chips(asked, shown("a", pictures=("main", "detail")))
    assert unseen[1].where == "in no view"


def test_every_method_shows_its_first_five_of_the_first_seed(board, page):
    table = gallery._table_of(board.tables, "studio")
    made = gallery._gallery("gallery.html", table, bundle.read(bundle.path_of(board.results, "studio")))
    assert [row.method for row in made.rows][-1] == "oracle" and "random" not in [row.method for row in made.rows]
    assert not any(row.is_zero_shot for row in made.rows)
    assert (made.first, made.second) == (
        table.rows[0].slug,
        next(r.slug for r in made.rows if r.method == "single_view_clip"),
    )
    for row, ranking in gallery.rankings(table):
        assert row.first["seed"] == 0
        for question in made.questions:
            (panel,) = [p for p in question.panels if p.row == row]
            q = ranking.query_ids.index(question.asked.query_id)
            mine = slice(ranking.offsets[q], ranking.offsets[q] + 5)
            assert [card.item for card in panel.cards] == [ranking.item_ids[i] for i in ranking.item[mine]]
            grades = ["full" if gain >= 3 else "part" if gain else "none" for gain in ranking.gain[mine]]
            assert [card.grade for card in panel.cards] == grades


def test_counts_over_all_queries_by_hand(board):
    found = [ranking for _, ranking in gallery.rankings(gallery._table_of(board.tables, "studio"))]
    answers = []
    for ranking in found:
        owner = np.repeat(np.arange(30), np.diff(ranking.offsets))
        good = (ranking.rank <= 5) & (ranking.gain >= 3)
        answers.append({ranking.query_ids[q] for q in owner[good]})
    both = gallery._both(found)
    for i, mine in enumerate(answers):
        for j, other in enumerate(answers):
            assert both[i][j] == len(mine - other)


def test_the_page_is_made_of_records_and_bundle_alone_and_always_the_same(results, tmp_path, monkeypatch):
    copied = shutil.copytree(results, tmp_path / "results")
    monkeypatch.setenv("FTBENCH_CACHE", str(tmp_path / "nothing"))
    pages = [
        render(folder, tmp_path / f"site{i}").with_name("gallery.html") for i, folder in enumerate((results, copied))
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert pages[0].stat().st_size < 4e6
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.|@import", pages[0].read_text())
    compared = pages[0].with_name("compare.html").read_text()
    assert "text of q00003" in compared and '"file": "gallery.html"' in compared
    bundle.path_of(copied, "studio").unlink()
    render(copied, tmp_path / "site1")
    assert not pages[1].exists()


# --- in a browser


@pytest.fixture
def allowed():
    return ("data:image/webp;base64,",)


def asks(tab):
    return tab.locator(".ask:visible").evaluate_all("nodes => nodes.map(node => node.dataset.query)")


def finds(tab, query, row):
    panel = tab.locator(f".ask[data-query='{query}'] .panel[data-row='{row}']")
    return panel.locator(".card.full").count() > 0


def choose(tab, name, value):
    tab.locator(f"#controls [name={name}]").select_option(value)


def test_a_finds_it_and_b_does_not(board, opened):
    tab = opened()
    rows = {row.method: row.slug for row in gallery.rows_of(gallery._table_of(board.tables, "studio"))}
    everything = asks(tab)
    assert len(everything) == 9
    choose(tab, "a", rows["oracle"])
    choose(tab, "b", rows["bm25"])
    a, b = ({q: finds(tab, q, rows[name]) for q in everything} for name in ("oracle", "bm25"))
    expected = {"ab": lambda q: a[q] and not b[q], "ba": lambda q: b[q] and not a[q], "both": lambda q: a[q] and b[q],
                "neither": lambda q: not a[q] and not b[q], "": lambda q: True}  # fmt: skip
    for show, holds in expected.items():
        choose(tab, "show", show)
        assert asks(tab) == [q for q in everything if holds(q)], show
        assert tab.locator("#nothing").is_visible() == (not asks(tab))
        assert tab.locator("#count").inner_text().startswith(f"{len(asks(tab))} of 9")
    assert any(a[q] and not b[q] for q in everything)
    choose(tab, "slice", "auxiliary image")
    assert len(asks(tab)) == 3
    said = r"Of all 30 test queries, A answers (\d+) among its first 5 that B does not, and B (\d+) that A does not"
    (both,) = re.findall(said, tab.locator("#count").inner_text())
    made = gallery.rankings(gallery._table_of(board.tables, "studio"))
    counts, order = gallery._both([ranking for _, ranking in made]), [row.slug for row, _ in made]
    i, j = order.index(rows["oracle"]), order.index(rows["bm25"])
    assert both == (str(counts[i][j]), str(counts[j][i]))
    assert "counts hit@10: the first 10" in tab.locator("main").inner_text()


def test_on_paper_stands_what_is_chosen_and_open(opened):
    tab = opened("#slice=primary", viewport={"width": 718, "height": 1000})
    tab.emulate_media(media="print")
    assert len(asks(tab)) == 3 and tab.locator("#controls form").is_hidden() and tab.locator("#count").is_visible()
    first = tab.locator(".ask:visible").first
    left, right = first.locator(".panel:visible").all()  # the others are closed
    assert left.bounding_box()["y"] == right.bounding_box()["y"]  # no phone's layout
    heights = tab.locator(".ask:visible").evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().height)"
    )
    assert max(heights) < 400  # at least two a sheet
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718


def test_the_two_stand_open_beside_each_other_and_the_address_says_so(board, opened):
    rows = {row.method: row.slug for row in gallery.rows_of(gallery._table_of(board.tables, "studio"))}
    tab = opened()
    choose(tab, "a", rows["bm25"])
    choose(tab, "b", rows["mean_pooling"])
    choose(tab, "show", "ba")
    address = tab.evaluate("location.hash")
    again = opened(address)
    for one in (tab, again):
        assert asks(one) == asks(tab)
        first = one.locator(".ask:visible").first
        assert first.locator(".panel").evaluate_all("nodes => nodes.slice(0, 2).map(node => node.dataset.row)") == [
            rows["bm25"], rows["mean_pooling"],
        ]  # fmt: skip
        assert first.locator(".panel[open]").count() == 2
        left, right = (first.locator(".panel").nth(i).bounding_box() for i in (0, 1))
        assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
    same = opened(f"#a={rows['bm25']}&b={rows['bm25']}")
    assert same.locator(".ask:visible").first.locator(".panel[open]").count() == 1
    assert opened("#a=gone-000000&slice=nothing").locator(".ask:visible").count() == 9


def test_a_query_in_the_address_is_gone_to(opened):
    tab = opened()
    last = asks(tab)[-1]
    tab = opened(f"#q={last}")
    tab.wait_for_timeout(200)
    top = tab.locator(f".ask[data-query='{last}']").bounding_box()["y"]
    assert -5 <= top <= 900


def test_pictures_are_those_of_the_item(opened, results):
    tab = opened()
    held = bundle.read(bundle.path_of(results, "studio"))
    card = tab.locator(".ask:visible .panel[open] .card").first
    (name,) = [item for item, about in held.items.items() if about.words[0].text in card.locator(".t").inner_text()]
    style = card.locator(".strip > i").evaluate("node => getComputedStyle(node).backgroundImage")
    assert base64.b64decode(style.split("base64,")[1].rstrip('")')) == held.items[name].strip
    box, mark = (card.locator(s).first.bounding_box() for s in (".strip", ".strip > b"))
    assert mark["x"] == pytest.approx(box["x"] + box["width"] / 4, abs=1)  # the second of four
    assert "back: motif" in card.locator(".strip").get_attribute("aria-label")


def test_without_a_script_all_is_there(opened):
    tab = opened(java_script_enabled=False)
    assert tab.locator("#controls").is_hidden()
    assert tab.locator(".ask").count() == 9
    first = tab.locator(".ask").first
    assert first.locator(".panel[open]").count() == 2
    closed = first.locator(".panel").nth(first.locator(".panel").count() - 1)
    assert closed.locator(".card .strip").first.is_hidden()
    closed.locator("summary").click()
    assert closed.locator(".card .strip").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_schemes(opened, scheme):
    tab = opened(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    tab.locator(".ask").last.scroll_into_view_if_needed()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    light = int(re.search(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[0]) > 128
    assert light == (scheme == "light")


def test_hostile_bundles_do_no_harm(folder, opened):
    made = made_for(folder)
    bad = {item: replace(about, words=(Words(HOSTILE, HOSTILE, ("motif",)),), attributes={"motif": HOSTILE},
                         pictures=tuple(Picture(HOSTILE, ("motif",)) for _ in about.pictures))
           for item, about in made.items.items()}  # fmt: skip
    asked = tuple(replace(q, text=HOSTILE, slices=(HOSTILE,), asks={"motif": "star"}) for q in made.queries)
    data = {**made.data, "licence": HOSTILE, "version": HOSTILE}
    bundle.write(folder, replace(made, items=bad, queries=asked, data=data, rule=HOSTILE))
    path = render(folder, folder.parent / "site").with_name("gallery.html")
    tab = opened(path=path)
    assert tab.evaluate("window.harmed === undefined && document.images.length === 0")
    assert "window.harmed" in tab.locator(".ask h2").first.inner_text()
    choose(tab, "slice", HOSTILE)
    assert tab.locator(".ask:visible").count() == len(asked)


def test_ids_stand_where_nothing_may_be_shown(folder, opened):
    made = made_for(folder)
    asked = tuple(replace(q, text="", asks={}) for q in made.queries)
    bundle.write(folder, replace(made, items={item: Shown() for item in made.items}, queries=asked, texts={}))
    tab = opened(path=render(folder, folder.parent / "site").with_name("gallery.html"))
    assert tab.locator(".strip").count() == 0
    assert re.fullmatch(r"q\d{5}", tab.locator(".ask h2").first.inner_text())
    assert "item-" in tab.locator(".card .t").first.inner_text()
    assert "does not let its texts and pictures be shown" in tab.locator("main").inner_text()
