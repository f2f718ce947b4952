"""The Luma store's queries: exact relevance, slices, splits that do not leak; on the real store where it is present."""

import csv
import hashlib
import re
from collections import Counter

import pytest
from test_end_to_end import ftbench

from ftbench.errors import DataError
from ftbench.items import Item, View, normalize_query, silent
from ftbench.sources import magento_luma
from ftbench.sources.magento_items import words
from ftbench.sources.magento_luma import JUDGED, VARIABLE, Luma, luma_folder
from ftbench.sources.magento_queries import (
    FORMS,
    MOST_RELEVANT,
    PER_ANSWER,
    PER_TYPE,
    VISIBLE_STYLES,
    Relevance,
    Review,
    attribute_slices,
    build_queries,
    phrase,
    review_text,
)
from ftbench.sources.rows import SHARES


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def toy(item_id, text="", split="train", **attributes):
    return Item(item_id, item_id, split, "c", (View("text", "title", "primary", text or item_id),), attributes)


STOCK = [
    toy("a", "red cotton thing", kind="tee", color="red|blue", material="cotton"),
    toy("b", kind="tee", color="red", material="wool|cotton"),
    toy("c", kind="tee", color="green", material="cotton"),
    toy("d", kind="pants", color="red", material="cotton"),
    toy("e", kind="pants", color="green"),
]


def test_gains_agree_with_a_naive_loop():
    relevance = Relevance(STOCK)
    three, two = {"kind": "tee", "color": "red", "material": "cotton"}, {"kind": "tee", "color": "green"}
    for asked in (three, two, {"kind": "pants", "color": "red", "material": "wool"}):
        expected = {}
        for item in STOCK:
            met = sum(value in item.attributes.get(name, "").split("|") for name, value in asked.items())
            if met == len(asked):
                expected[item.item_id] = 3.0
            elif met == len(asked) - 1 and len(asked) >= 3:
                expected[item.item_id] = 1.0
        assert relevance.gains(asked) == expected


def test_combinations_that_cannot_be_judged_or_ask_nothing_new():
    relevance = Relevance(STOCK)
    assert not relevance.exact(
        {"kind": "pants", "color": "green", "material": "cotton"}
    )  # e does not state its material
    assert relevance.exact({"kind": "pants", "color": "red", "material": "cotton"})  # e fails by its colour already
    assert not relevance.narrows({"kind": "tee", "material": "cotton"})  # every tee is
    assert relevance.narrows({"kind": "tee", "color": "red"})


def test_slices_say_what_the_texts_say():
    asked = {"kind": "tee", "color": "red", "material": "cotton"}
    assert attribute_slices(asked, STOCK[:2]) == ("attributes", "in_text")
    assert attribute_slices(asked, STOCK[1:2]) == ("attributes", "photo_only")
    assert attribute_slices({"kind": "tee", "material": "wool"}, STOCK[1:2]) == ("attributes",)
    assert attribute_slices({"kind": "tee", "material": "wool", "color": "blue"}, STOCK[:1]) == (
        "attributes",
        "photo_only",
    )


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"kind": "hoodie", "color": "blue", "climate": "cool"}, "blue hoodie or sweatshirt for cool weather"),
        ({"kind": "pants", "style": "leggings", "climate": "all-weather"}, "all-weather leggings"),
        ({"kind": "jacket", "gender": "men", "style": "¼ zip", "climate": "windy"},
         "men's quarter-zip jacket for windy days"),
        ({"kind": "bag", "style": "backpack", "activity": "hiking", "material": "nylon"}, "nylon backpack for hiking"),
    ],
)  # fmt: skip
def test_phrases(asked, text):
    assert phrase(asked) == text


@pytest.mark.parametrize(
    ("title", "text", "query"),
    [
        ("Very comfortable for long evening runs", "Other words.", "Very comfortable for long evening runs"),
        ("Love it!", "Great for skiing. And more.", "Love it! Great for skiing."),
        ("Soft", "So soft and warm", "Soft. So soft and warm"),
        ("Good dog pants", "Good dog pants for the winter. Yes.", "Good dog pants for the winter."),
        ("These are far too narrow for me and the mater",
         "These are far too narrow for me and the material is thin. No.",
         "These are far too narrow for me and the material is thin."),
    ],
)  # fmt: skip
def test_review_text(title, text, query):
    assert review_text(Review("x", 4, title, text)) == query


def test_reviews_are_dropped_with_a_reason_or_kept_in_their_split():
    stock = [toy("in", split="train"), toy("out", split="test"), toy("MSH01")]
    reviews = [
        Review(sku, 4, f"warm enough for a long run number {i}", "x") for i in range(40) for sku in ("in", "out")
    ]
    reviews += [Review("gone", 5, "warm enough for a run", ""), Review("in", 2, "warm but it broke at once", ""),
                Review("in", 5, "nice", "so warm"), Review("in", 5, "it is just so very good", ""),
                Review("MSH01", 5, "good shoes to run in", "")]  # fmt: skip
    dropped = Counter()
    found, kept = build_queries(stock, reviews, SHARES, dropped)
    assert kept + dropped.total() == len(reviews)
    splits = {query.query_id: query.split for query in found.queries}
    trains = [query for query in found.queries if query.split == "train"]
    assert dropped["review: train query without a relevant train item"] == len(trains) > 0
    assert {pair.item_id for pair in found.interactions} == {"in"} and len(found.interactions) == len(trains)
    assert all(splits[j.query_id] != "train" and j.gain == 3.0 for j in found.judgements)
    assert len(found.judgements) == 2 * (40 - len(trains))
    assert {reason for reason in dropped if dropped[reason] == 1} == {
        "review: names an absent product",
        "review: fewer than 3 stars",
        "review: fewer than 5 words",
        "review: names no product, use, weather or feature",
        "review: of another product that once had this number",
    }


def luma_or_skip():
    folder = luma_folder()
    if folder is None:
        pytest.skip(f"the Luma store is not on this machine (shared/data/magento-luma, or {VARIABLE})")
    return folder


@pytest.fixture(scope="module")
def luma():
    source = Luma(luma_or_skip())
    return source, tuple(source.items(silent)), source.queries()


def test_luma_counts(luma):
    source, items, queries = luma
    assert source.rows["products"] == {"read": 1994 + 44, "kept": 147 + 44, "merged": 1847, "dropped": 0}
    assert sum(item.item_id.startswith("24-") for item in items) == 44
    assert source.rows["reviews"]["read"] == 500
    assert source.dropped["review: names an absent product"] == 152
    assert (
        sum(n for reason, n in source.dropped.items() if reason.startswith("review: "))
        == source.rows["reviews"]["dropped"]
    )
    assert Counter(item.split for item in items) == {"train": 86, "valid": 19, "test": 86}
    assert sum(view.kind == "image" for item in items for view in item.views) == 725
    assert all(view.content.is_file() for item in items for view in item.views if view.kind == "image")
    slices = Counter(s for query in queries.queries if query.split == "test" for s in query.slices)
    assert slices["attributes"] >= 300 and slices["reviews"] >= 60
    assert min(slices["in_text"], slices["photo_only"]) >= 50


def test_luma_kinds_and_materials_as_a_shopper_means_them(luma):
    kinds = {item.item_id: item.attributes["kind"] for item in luma[1]}
    assert Counter(kinds.values())["bra"] == 5 and kinds["WB01"] == "bra" and kinds["WT01"] == kinds["MT01"] == "tank"
    materials = [set(item.attributes.get("material", "").split("|")) for item in luma[1]]
    assert sum("organic cotton" in found for found in materials) == 41
    assert all("cotton" in found for found in materials if "organic cotton" in found)
    assert all(item.attributes["gender"] in ("men", "women") for item in luma[1] if not item.item_id.startswith("24-"))


def test_luma_names_56_absent_products(luma):
    source, items, _ = luma
    with open(source.folder / magento_luma._REVIEWS, newline="", encoding="utf-8") as file:
        named = {line["sku"] for line in csv.DictReader(file)}
    assert len(named - {item.item_id for item in items}) == 56


def test_luma_splits_do_not_leak(luma):
    _, items, queries = luma
    by_text, by_group, by_photograph = {}, {}, {}
    for query in queries.queries:
        assert by_text.setdefault(normalize_query(query.text), query.split) == query.split
    for item in items:
        assert by_group.setdefault(item.group, item.split) == item.split
        for view in item.views:
            if view.kind == "image":
                digest = hashlib.sha256(view.content.read_bytes()).hexdigest()
                assert by_photograph.setdefault(digest, item.split) == item.split
    assert len(by_text) == len(queries.queries) == len({query.query_id for query in queries.queries})
    item_split, query_split = {i.item_id: i.split for i in items}, {q.query_id: q.split for q in queries.queries}
    assert all(item_split[p.item_id] == query_split[p.query_id] == "train" for p in queries.interactions)
    assert {query_split[j.query_id] for j in queries.judgements} == {"valid", "test"}
    evidence = {p.query_id for p in (*queries.interactions, *queries.judgements)}
    assert evidence == query_split.keys()


def test_luma_tags_hold_no_judged_value(luma):
    _, items, _ = luma
    for item in items:
        for tag in texts(item)["tags"].split(", "):
            for name, values in item.attributes.items():
                if name != "kind":
                    assert tag == item.category or not any(words(v) in words(tag) for v in values.split("|")), (
                        item.item_id,
                        tag,
                    )
        assert set(item.attributes) <= {"kind", *JUDGED.values()}


def test_luma_view_names_hold_no_colour(luma):
    colours = {value for item in luma[1] for value in item.attributes.get("color", "").split("|") if value}
    names = {view.name for item in luma[1] for view in item.views}
    assert not any(colour in name for colour in colours for name in names)
    wrong = {(i.item_id, v.content.name) for i in luma[1] for v in i.views if not v.probe}
    assert wrong == magento_luma.WRONG_PHOTOGRAPHS


def told_by(item, value):
    """Whether the item's texts have one of a value's forms, found another way than the source finds it."""
    text = " ".join(words(t) for t in texts(item).values())
    plain = words(value).strip()
    return any(re.search(rf"\b{re.escape(form)}\b", text) for form in (plain, plain + "s", *FORMS.get(value, ())))


def test_luma_attribute_queries_are_exact_and_not_too_many(luma):
    _, items, queries = luma
    gains = {}
    for judgement in queries.judgements:
        gains.setdefault(judgement.query_id, {})[judgement.item_id] = judgement.gain
    asked, answers = [query for query in queries.queries if query.attributes], Counter()
    for query in asked:
        assert query.text == phrase(query.attributes)
        met = {
            i.item_id: sum(v in i.attributes.get(n, "").split("|") for n, v in query.attributes.items()) for i in items
        }
        size = len(query.attributes)
        full = {item_id for item_id, count in met.items() if count == size}
        assert 1 <= len(full) <= MOST_RELEVANT
        if query.split != "train":
            near = {item_id for item_id, count in met.items() if count == size - 1 and size >= 3}
            assert gains[query.query_id] == dict.fromkeys(full, 3.0) | dict.fromkeys(near, 1.0)
        for item in items:  # whoever is not relevant states a value that differs
            unlike = [n for n, v in query.attributes.items() if v not in item.attributes.get(n, v).split("|")]
            assert item.item_id in full or unlike
        told = {
            i.item_id: {v: told_by(i, v) for n, v in query.attributes.items() if n != "kind"}
            for i in items
            if i.item_id in full
        }
        in_text = any(all(told[item_id].values()) for item_id in full)
        seen = [v for n, v in query.attributes.items() if n in ("color", "pattern") or v in VISIBLE_STYLES]
        photo_only = any(not any(told[item_id][v] for item_id in full) for v in seen)
        holds = {"attributes": True, "in_text": in_text, "photo_only": photo_only}
        assert set(query.slices) == {name for name, true in holds.items() if true}
        answers[frozenset(full)] += 1
    assert max(answers.values()) <= PER_ANSWER
    assert max(Counter(tuple(query.attributes) for query in asked).values()) <= PER_TYPE


def test_luma_is_the_same_when_read_again(luma):
    again = Luma(luma_or_skip())
    assert again.queries() == luma[2] and tuple(again.items(silent)) == luma[1]
    assert again.dropped == luma[0].dropped


def test_luma_of_another_commit_is_refused(tmp_path, monkeypatch):
    (tmp_path / magento_luma._EXPORT).parent.mkdir(parents=True)
    (tmp_path / magento_luma._EXPORT).write_text("sku\n")
    monkeypatch.setattr(
        magento_luma, "manifest", lambda: {magento_luma._EXPORT.as_posix(): "0" * 64, "pub/x.jpg": "1" * 64}
    )
    with pytest.raises(DataError, match="(?s)products.csv is not the file of that commit.*x.jpg is missing.*git clone"):
        list(Luma(tmp_path).items(silent))


def test_luma_folder_is_found_or_the_error_says_what_to_type(tmp_path, monkeypatch):
    store = tmp_path / "shared" / "data" / "magento-luma"
    (store / magento_luma._EXPORT).parent.mkdir(parents=True)
    (store / magento_luma._EXPORT).write_text("sku\n")
    (tmp_path / "a" / "checkout").mkdir(parents=True)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path / "a" / "checkout")
    assert luma_folder() == store == luma_folder(store)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=rf"\${VARIABLE}.*--source DIR"):
        luma_folder()
    with pytest.raises(DataError, match="--source is"):
        luma_folder(tmp_path)
    monkeypatch.setattr(magento_luma, "luma_folder", lambda source: None)
    with pytest.raises(DataError, match=f"(?s)git clone {magento_luma.REPOSITORY}.*{magento_luma.COMMIT}.*{VARIABLE}"):
        Luma()


def test_from_the_export_to_the_board(luma, tmp_path):
    """Prepared, verified, run on both tasks and rendered, as a person types it; no title of the store is in a page."""
    source, items, _ = luma
    here = {"cache": tmp_path / "cache", "cwd": tmp_path}
    for words_typed in (
        ("data", "prepare", "magento-luma", "--source", source.folder),
        ("data", "verify", "magento-luma"),
        ("run", "-m", "random", "-m", "bm25", "-m", "factorized_transport", "-t", "query2item", "-t", "cross_view",
         "-d", "magento-luma", "--encoder", "tiny", "--set", "trainer.budget=6000", "--set", "trainer.batch_size=32"),
        ("report",),
    ):  # fmt: skip
        finished = ftbench(*words_typed, **here)
        assert finished.returncode == 0, finished.stderr
    made = sorted(path.parent.name for path in (tmp_path / "results" / "magento-luma").glob("*/*.json"))
    assert made == ["cross_view"] * 2 + ["query2item"] * 3
    titles = [texts(item)["title"] for item in items]
    for page in (tmp_path / "site").rglob("*.html"):
        shown = page.read_text(encoding="utf-8")
        assert not [title for title in titles if title in shown], "texts without a licence stay at home"
    assert "magento-luma" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
