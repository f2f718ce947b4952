"""Run pages: they say what the records say, link only what exists, and believe nothing that is not checked."""

import json
import re

import numpy as np
import pytest
import synthetic
from test_report import Reader

from ftbench import record, rescore
from ftbench.report import curves, quiet, render, runs, words
from ftbench.report.aggregate import Entry
from ftbench.report.gathered import gather

HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7 * 7 }} & \'"'
SIZE = {"n_queries": 40, "n_items": 110}


class Page(Reader):
    VOID = Reader.VOID | {"img"}


def read(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == [] and len(page.ids) == len(set(page.ids)), path
    return page


def words_of(page):
    return " ".join(" ".join(page.text).split())


def write(folder, entry, run=None):
    ranked, gains, slices = run or synthetic.rankings(1.5, [""], 40, 110, np.random.default_rng(1))
    return record.write(folder, entry | record.measure(record.Run(ranked, slices), synthetic.MEASURES, []), ranked,
                        gains, slices)  # fmt: skip


def failed(folder, **about):
    empty = {"scores": {}, "pairs": {}, "slices": {}, "n_queries": 0, "n_skipped": 0}
    told = {"status": "error", "error": f"RuntimeError: no memory left\n{HOSTILE}"}
    return record.write(folder, synthetic.draft(**about) | empty | told, {})


def hostile(folder):
    """A record whose every free text is an attack."""
    entry = synthetic.draft(method="single_view_clip", seed=7)
    entry["method"] |= {"title": HOSTILE, "name": "evil.method", "config": {HOSTILE: [HOSTILE, {HOSTILE: None}]}}
    entry["trainer"][HOSTILE] = HOSTILE
    entry["command"] = f"ftbench run {HOSTILE}"
    entry["data"] |= {"name": "evil", "version": HOSTILE, "licence": HOSTILE,
                      "coverage": {HOSTILE: {HOSTILE: 3}, "dropped": HOSTILE}}  # fmt: skip
    entry["encoder"]["name"] = HOSTILE
    entry["environment"] |= {"cpu": HOSTILE, "platform": HOSTILE, "python": HOSTILE, "packages": {HOSTILE: HOSTILE}}
    ranked, gains, slices = synthetic.rankings(1.5, [""], 40, 110, np.random.default_rng(1))
    return write(folder, entry, (ranked, gains, {HOSTILE: next(iter(slices.values()))}))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single") / "results"
    for seed in (0, 1, 2):
        synthetic.add(folder, method="factorized_transport_cached", seed=seed, **SIZE)
    synthetic.add(folder, method="mean_pooling", task="cross_view", **SIZE)
    synthetic.add(folder, method="mean_pooling", board="equal-steps", **SIZE)
    synthetic.add(folder, method="oracle", **SIZE)
    synthetic.add(folder, method="bm25", **SIZE)
    synthetic.add(folder, method="bm25", hardware="0123456789ab", **SIZE)  # the same run elsewhere
    failed(folder, method="mean_pooling_all_views", seed=5)
    hostile(folder)
    done = [rescore.rescore_one(path) for path, _ in record.read_all(folder)]
    rescore.write_note(folder, [one for one in done if one.path.stem.startswith(("bm25", "factorized"))])
    return folder


@pytest.fixture(scope="module")
def site(results, tmp_path_factory):
    return render(results, tmp_path_factory.mktemp("site") / "site").parent


@pytest.fixture(scope="module")
def board(results):
    return gather(results, quiet)


def page_of(site, stem):
    (path,) = [path for path in (site / "runs").glob(f"{stem}-*.html")]
    return path


# --- all of them


def test_every_page_is_well_formed_and_every_link_leads_somewhere(site):
    pages = [site / name for name in ("methods.html", "data.html", "cite.html")] + sorted((site / "runs").iterdir())
    ids = {}
    for path in (*pages, site / "index.html"):
        ids[path.resolve()] = read(path).ids
    for path in pages:
        for link in read(path).links:
            if link == "data:," or link.startswith(("https://arxiv.org/abs/", "https://doi.org/")):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path.resolve()
            assert target.is_file(), f"{path.name}: {link}"
            if target in ids and anchor and "&" not in anchor:
                assert anchor in ids[target], f"{path.name}: {link}"


def test_every_record_has_a_page_and_no_other_has(site, board):
    expected = {f"{runs.name_of(entry.record)}.html" for entry in board.entries}
    assert {path.name for path in (site / "runs").iterdir()} == expected and len(expected) == 9


def test_hostile_texts_are_texts_everywhere(site):
    for path in (page_of(site, "evil.method"), page_of(site, "mean_pooling_all_views"), site / "data.html",
                 site / "methods.html"):  # fmt: skip
        html = path.read_text(encoding="utf-8")
        assert "<img" not in html
        assert html.count("<script>") == html.count("</script>") <= 1
        assert "&lt;img src=x onerror=" in html and "{{ 7 * 7 }}" in html


def test_the_same_records_give_the_same_pages(results, site, tmp_path):
    again = render(results, tmp_path / "site").parent
    for path in sorted(site.rglob("*.html")):
        assert (again / path.relative_to(site)).read_bytes() == path.read_bytes(), path.name


# --- runs


def test_a_run_page_says_what_its_record_says(site, results):
    path = next(results.rglob("mean_pooling-*.json"))
    told = record.read(path)
    html = (site / "runs" / f"{path.stem}.html").read_text(encoding="utf-8")
    page = words_of(read(site / "runs" / f"{path.stem}.html"))
    for text in (told["command"], told["id"], told["run_file"]["sha256"], told["method"]["sha256"],
                 told["task"]["definition_sha256"], told["data"]["fingerprint"], told["encoder"]["weights_sha256"],
                 told["git"]["commit"][:12], told["environment"]["fingerprint"], "700000", "52,000"):  # fmt: skip
        assert text in page, text
    for name, score in told["scores"].items():
        shown = words.score(score["mean"])
        assert words.measure(name) in page and shown in page
        assert words.interval(score["low"], score["high"]) in page
        assert score["reason"] is None or score["reason"] in page
    assert 'class="line"' in html


def test_the_tie_band_stands_where_it_is_not_the_mean(tmp_path):
    def table(ties):
        folder = tmp_path / str(ties)
        path = synthetic.add(folder, method="bm25", ties=ties, **SIZE)
        site = render(folder, folder / "site").parent
        return record.read(path)["scores"], words_of(read(site / "runs" / f"{path.stem}.html"))

    scores, page = table(ties=True)
    bands = {name: words.interval(score["tie_low"], score["tie_high"]) for name, score in scores.items()}
    assert "tie band" in page and bands["recall@10"] in page and bands["recall@10"][:5] != bands["recall@10"][6:]
    scores, page = table(ties=False)
    assert "No other order of equal scores would change a mean" in page and "tie band" not in page
    assert words.interval(*[scores["recall@10"]["mean"]] * 2) not in page


def test_pairs_and_slices_have_all_measures(site, results):
    for stem, field in (("mean_pooling", "pairs"), ("oracle", "slices")):
        for path in results.rglob(f"{stem}-*.json"):
            told = record.read(path)
            page = words_of(read(site / "runs" / f"{path.stem}.html"))
            for part in told[field].values():
                assert all(words.score(score["mean"]) in page for score in part["scores"].values())


def test_seeds_of_a_setting_link_each_other(site, results):
    stems = sorted(path.stem for path in results.rglob("factorized_transport_cached-*.json"))
    for stem in stems:
        page = read(site / "runs" / f"{stem}.html")
        assert sorted(link[:-5] for link in page.links if link.startswith("factorized")) == stems
        assert "Seeds of this setting" in page.text


def test_a_run_links_its_board_method_and_data(site):
    links = read(page_of(site, "oracle")).links
    assert "../index.html#table=query2item-studio-equal-compute" in links
    assert "../methods.html#oracle" in links and "../data.html#studio" in links
    bm25 = read(page_of(site, "bm25"))  # spends no budget: stands on both boards
    assert sum(link.startswith("../index.html#table=query2item-studio-equal-") for link in bm25.links) == 2


def test_a_failed_run_has_a_page_with_its_error_and_no_scores(site):
    page = words_of(read(page_of(site, "mean_pooling_all_views")))
    assert "failed" in page and "RuntimeError: no memory left" in page and HOSTILE in page
    assert "Scores" not in page and "run file" not in page


def test_what_a_machine_could_not_do_as_asked_is_told(tmp_path):
    told, other = synthetic.draft(seed=1), synthetic.draft(seed=2)
    told["training"]["adaptations"] = ["out of memory: 2 at a time <b>"]
    stems = [write(tmp_path, entry).stem for entry in (told, other)]
    render(tmp_path, tmp_path / "site")
    first, second = (words_of(read(tmp_path / "site/runs" / f"{stem}.html")) for stem in stems)
    assert "since the machine could not: out of memory: 2 at a time <b>." in first
    assert "the machine could not" not in second


def test_a_run_that_was_replaced_says_so(tmp_path):
    folder = tmp_path / "results"
    old = synthetic.add(folder, method="bm25", date="2026-01-01T00:00:00Z", **SIZE)
    entry = synthetic.draft(method="bm25", date="2026-03-01T00:00:00Z")
    entry["method"]["sha256"] = "2" * 64
    write(folder, entry)
    site = render(folder, tmp_path / "site").parent
    assert "Not on the board" in words_of(read(site / "runs" / f"{old.stem}.html"))


# --- badges


def badges(results, stem):
    board = gather(results, quiet)
    pages = {page.path: page.content.decode() for page in runs.pages(board, ())}
    (html,) = [html for path, html in pages.items() if path.startswith(f"runs/{stem}-")]
    return re.findall(r'class="badge[^>]*>([^<]+)<', html)


def test_badges_show_only_while_record_and_run_file_are_what_was_rescored(tmp_path):
    folder = tmp_path / "results"
    path = synthetic.add(folder, method="bm25", **SIZE)
    assert badges(folder, "bm25") == []
    rescore.write_note(folder, [rescore.rescore_one(path)])
    assert badges(folder, "bm25") == ["re-scored"]
    told = path.read_bytes()
    path.write_bytes(told.replace(b"2026-01-15", b"2026-01-16"))
    assert badges(folder, "bm25") == []
    path.write_bytes(told)
    run_file = path.with_suffix(".parquet")
    ranked = run_file.read_bytes()
    run_file.write_bytes(ranked[:-1] + b"x")
    assert badges(folder, "bm25") == []
    run_file.unlink()
    assert badges(folder, "bm25") == []
    run_file.write_bytes(ranked)
    assert badges(folder, "bm25") == ["re-scored"]


def test_what_was_not_rescored_says_so_and_costs_are_not_claimed(site):
    told, untold = (words_of(read(page_of(site, stem))) for stem in ("bm25", "oracle"))
    assert "Not re-scored" not in told and "Not re-scored: as record and run file are now" in untold
    for page in (told, untold):
        assert "The scores follow from the run file" in page and "Costs were measured during the run" in page
    assert "re-scored" not in words_of(read(page_of(site, "mean_pooling_all_views"))).lower()  # failed: no scores


def test_a_note_that_is_no_note_gives_no_badge(tmp_path):
    folder = tmp_path / "results"
    path = synthetic.add(folder, method="bm25", **SIZE)
    for note in ("not json", "[1]", json.dumps({record.read(path)["id"]: {"record": "0" * 64}})):
        (folder / rescore.NOTE).write_text(note)
        assert badges(folder, "bm25") == []


def test_a_reference_and_a_failure_are_marked(site):
    for stem, badge in (("oracle", "reference, never ranked"), ("mean_pooling_all_views", "failed")):
        assert badge in read(page_of(site, stem)).text


def test_a_reproduction_is_shown_with_its_measured_difference(site):
    page = words_of(read(page_of(site, "bm25")))
    assert "reproduced" in page and "the same, byte for byte" in page and "0123456789ab" in page


def test_the_difference_of_a_reproduction_is_paired_and_has_an_interval(tmp_path):
    path = synthetic.add(tmp_path, method="bm25", **SIZE)
    entry = synthetic.draft(method="bm25")
    entry["environment"]["fingerprint"] = "0123456789ab"
    again = record.read(write(tmp_path, entry))
    found = runs.reproduction(Entry(path, record.read(path)), again)
    means = [told["scores"]["ndcg@10"]["mean"] for told in (again, record.read(path))]
    assert found.difference == means[0] - means[1] != 0
    assert found.low < found.difference < found.high and not found.same_file
    record.run_of(path, again)
    path.with_name(again["run_file"]["name"]).unlink()
    alone = runs.reproduction(Entry(path, record.read(path)), again)
    assert alone.difference == found.difference and alone.low is None and "interval" not in alone.said


# --- curves


def score(mean, low=None, high=None):
    return {"mean": mean, "low": low, "high": high, "reason": None}


def test_recall_is_drawn_where_it_was_measured():
    found = curves.recall({"recall@10": score(0.5, 0.4, 0.6), "recall@1": score(0.25), "recall@500": score(None),
                           "recall@100": score(1.0), "hit@10": score(0.9)})  # fmt: skip
    assert [text for _, text in found.x_ticks] == ["1", "10", "100"]
    assert [dot.text for dot in found.dots] == ["0.250", "0.500", "1.000"]
    ys = [dot.y for dot in found.dots]
    assert ys[0] - ys[1] == pytest.approx((ys[0] - ys[2]) / 3) and found.dots[1].low > ys[1] > found.dots[1].high
    xs = [dot.x for dot in found.dots]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # a logarithmic axis
    assert xs[0] - 14 > 34 + 18 and xs[-1] + 14 < curves.WIDTH  # texts half as wide; the axis's own end at 34
    assert curves.recall({"recall@1": score(0.25), "hit@1": score(0.25)}) is None


def test_losses_of_seeds_share_a_scale_and_leave_gaps_out():
    found = curves.losses({"a": [[0, 4.0], [50, None], [100, 2.0]], "b": [[0, 1.0], [100, 0.5]], "c": [[0, 1.0]]})
    assert set(found) == {"a", "b"} and found["a"].others == (found["b"].line,)
    assert found["a"].y_ticks == found["b"].y_ticks and found["a"].y_ticks[-1][1] in ("4", "5")
    assert found["a"].line.count("L") == 1 and "4 at step 0, 2 at step 100" in found["a"].said
    assert curves.losses({"a": [[0, float("inf")], [1, float("nan")]]}) == {}


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    curve = [[i, 1 + 1 / (i + 1)] for i in range(10_001)]
    line = curves.losses({"a": curve})["a"].line
    ends = curves.losses({"a": [curve[0], curve[-1]]})["a"].line.split("L")
    assert 100 < line.count("L") <= 201 and line.startswith(ends[0]) and line.endswith(ends[1])


# --- in a browser


def test_parts_fit_a_phone_as_cards_and_paper_as_a_table(browser, site):
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(page_of(site, "oracle").as_uri())
    table = tab.locator("table.cards")
    inside = "[...document.querySelectorAll('.scroll')].every(node => node.scrollWidth <= node.clientWidth)"
    assert tab.evaluate(inside) and table.locator("thead").is_hidden()
    first = table.locator("tbody td").first
    assert first.evaluate("node => getComputedStyle(node, '::before').content") == '"queries"'
    tab.set_viewport_size({"width": 718, "height": 1000})
    tab.emulate_media(media="print")
    assert table.locator("thead").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718
    tab.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_open_quietly_at_any_width_and_copy(browser, site, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    noise, asked = [], set()
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("request", lambda request: asked.add(request.url))
    pages = [site / name for name in ("methods.html", "data.html", "cite.html")]
    for path in (*pages, *(site / "runs").iterdir()):
        asked.clear()
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert asked <= {path.as_uri(), (site / "assets" / "site.css").as_uri()} and noise == [], path.name
    tab.locator(".command .copy").first.click()
    done = "document.querySelector('.copy').textContent == 'Copied' || document.querySelector('.by-hand')"
    tab.wait_for_function(done)
    tab.close()
