"""What the board says in words and where: reasons, orders, references, figures' labels, paper; in a browser."""

import re

import pytest
import synthetic

from ftbench.report import render, words


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    results = synthetic.board(folder / "results", n_queries=24, n_items=70, seeds=2)
    synthetic.add(results, n_queries=24, n_items=70, method="mean_pooling", board="equal-steps")
    return render(results, folder / "site")


@pytest.fixture
def opened(browser, page):
    contexts = []

    def go(address="", **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
        contexts.append(context)
        tab = context.new_page()
        tab.goto(page.as_uri() + address)
        return tab

    yield go
    for context in contexts:
        context.close()


def test_caption_and_footnote_say_the_same_of_intervals(opened):
    tab = opened("#measure=rr%4010")
    assert "over queries alone, averaged over seeds" in tab.locator("#legend").inner_text()
    said = tab.locator("#notes").inner_text()
    assert "Intervals of nDCG@10 on all queries resample seeds and, within them, queries; those of other" in said
    assert "resample queries alone, averaged over seeds" in said


@pytest.mark.parametrize("javascript", [True, False])
def test_every_dash_has_its_reason_as_text(opened, javascript):
    tab = opened(java_script_enabled=javascript)
    notes = tab.locator("#notes" if javascript else ".still .foot").first.inner_text()
    assert "No row has recall@500: recall@500 is reported from" in notes
    assert notes.count("— in a cost: the row has none") == 1
    if javascript:
        offered = tab.locator("#controls select[name=measure] option").all_inner_texts()
        assert "recall@500" not in offered and "nDCG@10" in offered
        tab.locator("#views input[value=measures]").check()
        assert "recall@500" not in tab.locator(".scores thead").inner_text()
        assert "— in a cost" not in tab.locator("#notes").inner_text()  # no cost is shown


def test_an_address_keeps_what_the_board_has(opened):
    tab = opened("#table=cross_view-studio-equal-compute&measure=recall%40500&part=zz&view=cost")
    notice = tab.get_by_role("status").filter(has_text="does not have")
    assert "measure “recall@500”, pair “zz”" in notice.inner_text()
    assert tab.url.endswith("#table=cross_view-studio-equal-compute&view=cost")
    tab.locator("#controls select[name=measure]").select_option("rr@10")
    assert not tab.locator("#notice").is_visible()


def test_an_order_that_no_column_shows_is_said(opened):
    tab = opened("#sort=part:primary")
    assert "sorted by" not in tab.locator("#shown").inner_text()
    tab.locator("#views input[value=cost]").check()
    assert tab.locator("#shown").inner_text().endswith("rows, sorted by nDCG@10 on “primary”, highest first")


def test_rows_for_reference_stand_below_a_rule(opened):
    for address in ("", "#sort=method", "#sort=search_p95_ms&view=cost"):
        tab = opened(address)
        bodies = tab.locator(".scores tbody")
        kinds = [body.get_attribute("class") or "" for body in bodies.all()]
        assert kinds[-3] == "rule" and kinds[-1] == "ref apart" and not any("apart" in kind for kind in kinds[:-3])
        assert bodies.nth(len(kinds) - 3).inner_text().strip() == "For reference: chance, and the ceiling, never ranked"
    still = opened(java_script_enabled=False).locator(".still table").first.locator("tbody tr")
    assert [kind.get_attribute("class") for kind in still.all()][-2:] == ["below apart", "ref apart"]


def test_a_column_of_costs_has_as_many_digits_in_each_row_and_one_machine_is_said_once(opened):
    tab = opened()
    found = [text for text in tab.locator(".scores td[data-label='p95 ms']").all_inner_texts() if text != words.GAP]
    assert all(len(re.sub(r"^0\.0*|\.", "", text)) == 3 for text in found), found
    values = [None, 0, 6, 0.019, 99.96, 0.9996, 0.0995, 384.2, 999.6, 1234.6, 349_900, 1e-7]
    assert tab.evaluate("(values) => values.map(amount)", values) == [words.amount(value) for value in values]
    machines = tab.evaluate("new Set(data.tables[0].rows.map((row) => row.machines.join(' '))).size")
    assert (tab.get_by_role("columnheader", name="hardware").count() == 0) == (machines == 1)
    zero = tab.locator(".scores tbody").filter(has_text="zero-shot · tiny").locator("td[data-label='train s']")
    assert set(zero.all_inner_texts()) == {words.GAP}  # nothing was trained, as for the rows that train never


def test_the_overview_leads_to_all_tables(opened):
    tab = opened()
    tab.locator(".others a").first.click()
    assert tab.locator("#eyebrow").inner_text().startswith("Equal steps board")


def test_pictures_are_named_in_words_or_said_to_be_missing(opened):
    tab = opened(java_script_enabled=False)
    said = tab.locator(".still .pictures").all_inner_texts()
    assert said[0].startswith("Pictures of nDCG@10 against ") and "equal-compute" not in said[0]
    assert "No picture files are drawn of this table." in said
    live = opened("#table=query2item-studio-equal-steps")
    assert "no picture files are drawn of this table" in live.locator("#cost figcaption").inner_text()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("table", range(5))
def test_labels_of_the_figure_are_with_their_points(opened, width, table):
    tab = opened(viewport={"width": width, "height": 900})
    key = tab.evaluate(f"data.tables[{table}].key")
    tab.goto(tab.url.partition("#")[0] + f"#table={key}")
    found = tab.evaluate(
        """() => {
      const box = (e) => { const b = e.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; };
      const of = (e, names) => names.map((name) => Number(e.getAttribute(name)));
      return {
        front: new Set(document.querySelector("#cost .front").getAttribute("d").match(/V/g)).size,
        labels: [...document.querySelectorAll("#cost .named")].map((g) => ({
          text: g.textContent, box: box(g.querySelector("text")),
          leader: g.querySelector("line") && of(g.querySelector("line"), ["x1", "y1", "x2", "y2"]) })),
        dots: [...document.querySelectorAll("#cost .dot-mark")].map((e) => of(e, ["cx", "cy"])),
        whiskers: [...document.querySelectorAll("#cost .whisker")].map((e) => of(e, ["x1", "y2", "y1"])),
        words: [...document.querySelectorAll("#cost .plot > text")].map((e) => box(e)),
      };
    }"""
    )
    boxes = [label["box"] for label in found["labels"]]
    assert len(boxes) == len(found["dots"])  # so few are all named
    meet = [(a, b) for i, a in enumerate([*boxes, *found["words"]]) for b in [*boxes, *found["words"]][:i]
            if a[0] + 1 < b[2] and b[0] + 1 < a[2] and a[1] + 3 < b[3] and b[1] + 3 < a[3]]  # fmt: skip
    assert not meet
    for label in found["labels"]:
        left, top, right, bottom = label["box"]
        assert not [dot for dot in found["dots"] if left < dot[0] < right and top < dot[1] < bottom], label
        if label["leader"]:
            assert label["leader"][0] in [dot[0] for dot in found["dots"]]
        else:  # right beside it
            near = [dot for dot in found["dots"] if top - 4 < dot[1] < bottom + 4]
            assert [dot for dot in near if min(abs(left - dot[0]), abs(right - dot[0])) < 14], label


def test_on_paper_the_table_is_a_table(opened):
    tab = opened(viewport={"width": 718, "height": 1000})
    assert not tab.locator(".scores thead").is_visible()  # cards on a narrow screen
    tab.emulate_media(media="print")
    assert tab.locator(".scores thead").is_visible() and tab.locator(".scores td.num").first.is_visible()
    assert not tab.locator(".for-papers").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718


def test_a_badge_on_a_phone_cuts_nothing(opened):
    tab = opened(viewport={"width": 390, "height": 900})
    row = tab.locator(".scores summary").first
    row.evaluate("""(e) => e.insertBefore(h("span", { class: "ties" }, "ties move it from 0.193 to 0.267"),
      e.querySelector(".open"))""")
    ends = row.locator(".open").evaluate("(e) => e.getBoundingClientRect().right")
    assert ends <= 390
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def _luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dots_and_bars_are_seen_against_the_page(opened, scheme):
    tab = opened(color_scheme=scheme)
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    for kind in (".dot-mark:not(.best)", ".key.n"):
        name = "fill" if "dot" in kind else "backgroundColor"
        colour = tab.locator(f"#board {kind}").first.evaluate(f"(e) => getComputedStyle(e).{name}")
        high, low = sorted((_luminance(colour), _luminance(paper)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, (kind, colour, paper)
