"""Amazon-C4 in exactly its published schemas: the review never seen, one positive per query, rows that add up."""

import csv
import json
import os
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftbench.items import silent, split_of
from ftbench.sources.amazon_c4 import POOL, QUERIES, QUERY_COLUMNS, AmazonC4, parse_pool, parse_queries
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.rows import LARGE_SHARES, Tally
from ftbench.sources.tables import csv_rows, json_rows
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
COLUMNS = ("qid", "query", "item_id", "user_id", "ori_rating", "ori_review")
SECRET = 'Really helps in the bathtub,\n"smear" some on. SECRET'


def product_in(split, start):
    """An ASIN whose own hash falls into a split."""
    return next(n for i in range(9999) if split_of("item", n := f"{start}{i:05d}", LARGE_SHARES) == split)


A, B, OTHER = product_in("train", "CA"), product_in("train", "CB"), product_in("train", "CC")
POSITIVE = (
    (288, "I need something for <i>bath</i> time.", A),
    (289, "Another wish", B),
    (289, "The same qid again", OTHER),  # dropped: one positive per query
    (290, "", A),
    (291, "Its product is not in the pool", "GONE"),
    ("", "no qid", A),
    (292, "another wish", B),  # the text of another query: a query of its own
)
PRODUCTS = (
    {"item_id": A, "category": "Toys", "metadata": "Bath paint &amp; <b>brush</b>"},
    {"item_id": B, "category": "Care", "metadata": "A sunscreen"},
    {"item_id": OTHER, "category": None, "metadata": "A lamp"},
    {"item_id": A, "category": "Toys", "metadata": "The same product again"},
    {"item_id": "NOTEXT", "category": "Toys", "metadata": None},
    {"category": "Toys", "metadata": "No id"},
    {"item_id": "E1", "category": ["Toys"], "metadata": "A tent"},
)


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / QUERIES, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            (qid, query, item_id, "AEIDF5SU5ZJIQYDAYKYKNJBBOOFQ", 5, SECRET) for qid, query, item_id in POSITIVE
        )
    lines = [json.dumps(row) for row in PRODUCTS]
    (folder / POOL).write_text("\n".join([*lines, "{torn", "[]", ""]), encoding="utf-8")
    return folder


def read(folder):
    asked, products = Tally(), Tally()
    evidence = Evidence(asked)
    parse_queries(csv_rows(folder / QUERIES, QUERY_COLUMNS, asked), evidence)
    with open(folder / POOL, "rb") as file:
        pool = list(parse_pool(json_rows(file, products), products))
    return evidence, pool, asked, products


def adds_up(tally):
    assert tally.read == tally.kept + tally.merged + tally.dropped
    assert tally.dropped == sum(tally.reasons.values())


def test_every_row_is_kept_merged_or_dropped(tmp_path):
    evidence, pool, asked, products = read(write(tmp_path))
    placed = place_items({i: i for i, _, _ in pool}, evidence.claims())
    queries = evidence.evidence(placed, 1.0, {})
    assert pool[0] == (A, "Toys", "Bath paint & brush")
    assert [(i, category) for i, category, _ in pool[1:]] == [(B, "Care"), (OTHER, ""), ("E1", "")]
    assert products.counts() == {"read": 9, "kept": 4, "merged": 1, "dropped": 4}
    assert asked.counts() == {"read": 7, "kept": 3, "merged": 0, "dropped": 4}
    assert asked.reasons == {
        "second row of a query": 1,
        "query without a text": 1,
        "query without ids": 1,
        "pair whose item is not in the data set or its tier": 1,
    }
    assert [(j.query_id, j.item_id, j.gain) for j in queries.judgements] == [
        ("c4:288", A, 1.0), ("c4:289", B, 1.0), ("c4:292", B, 1.0)
    ]  # fmt: skip
    adds_up(asked)
    adds_up(products)


def test_positives_leave_train_and_the_pool_does_not(tmp_path):
    evidence, pool, _, _ = read(write(tmp_path))
    placed = place_items({i: i for i, _, _ in pool}, evidence.claims())
    assert (placed[A], placed[B], placed[OTHER]) == ("test", "test", "train")
    queries = evidence.evidence(placed, 1.0, {})
    assert {q.split for q in queries.queries} == {"test"}
    assert not queries.interactions
    shared = place_items({A: "g", OTHER: "g"}, evidence.claims())
    assert shared[OTHER] == "test", "an item that shares an image with a positive leaves train with it"


def test_the_review_is_not_even_read(tmp_path):
    write(tmp_path)
    for row in csv_rows(tmp_path / QUERIES, QUERY_COLUMNS, Tally()):
        assert set(row) == {"qid", "query", "item_id"}
        assert "SECRET" not in str(row)


def test_the_whole_way_into_the_store(tmp_path):
    for tier, kept in ((None, 4), (2, 2)):
        source = AmazonC4(tier, write(tmp_path / "c4"), "amazon-c4")
        catalogue = prepare(source, silent, tmp_path / "cache")
        items = list(source.items(silent))
        assert [item.item_id for item in items if not tier] == ([A, B, OTHER, "E1"] if not tier else [])
        assert len(items) == catalogue.manifest["counts"]["items"] == kept
        assert source.rows["products"] == {"read": 9, "kept": kept, "merged": 1, "dropped": 8 - kept}
        assert {j.item_id for j in source.queries().judgements} <= {item.item_id for item in items}
        for counts in source.rows.values():
            assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"]
        for file in catalogue.folder.iterdir():
            assert b"SECRET" not in file.read_bytes(), "the review that a query was written from is in no file"


def test_images_are_joined_on_the_parent_asin_and_tie_groups(tmp_path):
    host = "https://m.media-amazon.com/images/I/"
    images = {
        A: [f"{host}1.jpg", f"{host}2.jpg"],
        OTHER: [f"{host}2._SL99_.jpg"],
        "E1": None,
        "STRANGER": [f"{host}3.jpg"],
    }
    source = AmazonC4(None, write(tmp_path / "c4"), "amazon-c4", images=images)
    drafts = {item.item_id: (item, found) for item, found in source._drafts(source._planned(silent), silent, Counter())}
    assert drafts[A][1] == (f"{host}1._SL256_.jpg", f"{host}2._SL256_.jpg")
    assert drafts[B][1] == drafts["E1"][1] == ()
    assert drafts[OTHER][0].group == drafts[A][0].group == min(A, OTHER)
    assert drafts[OTHER][0].split == "test", "it shares an image with the product of a query"
    asked = []
    finder = AmazonC4(None, tmp_path / "c4", "amazon-c4", images=lambda wanted, _: asked.append(set(wanted)) or images)
    assert [found for _, found in finder._drafts(finder._planned(silent), silent, Counter())] == [
        f for _, f in drafts.values()
    ]
    assert asked == [{A, B, OTHER, "E1"}]
    bare = AmazonC4(None, tmp_path / "c4", "amazon-c4", with_images=False, images=images)
    assert not [v for item in bare.items(silent) for v in item.views if v.kind == "image"]


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.sampled_from(["A", "", "\ud800"]),
    st.lists(st.integers(), max_size=2), st.sampled_from(["x" * 200_000, "<!--" * 3000, "a\0b", "&#" + "9" * 5000]),
)  # fmt: skip


@FUZZ
@given(st.lists(st.dictionaries(st.sampled_from(["item_id", "category", "metadata", "more"]), CELL)))
def test_any_pool_adds_up(rows):
    lines = [json.dumps(row).encode("utf-8", "surrogatepass") for row in rows]
    tally = Tally()
    found = list(parse_pool(json_rows(lines, tally), tally))
    assert tally.read == len(lines)
    adds_up(tally)
    assert len(found) == len({i for i, _, _ in found}) == tally.kept
    assert all(cell.encode() for _, category, text in found for cell in (category or "-", text))


@FUZZ
@given(st.lists(st.lists(st.text(max_size=9), min_size=5, max_size=7)), st.binary(max_size=60))
def test_any_queries_add_up(tmp_path_factory, rows, garbage):
    path = tmp_path_factory.getbasetemp() / "c4.csv"
    with open(path, "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows((COLUMNS, *rows))
    with open(path, "ab") as file:
        file.write(garbage)
    tally = Tally()
    evidence = Evidence(tally)
    parse_queries(csv_rows(path, QUERY_COLUMNS, tally), evidence)
    queries = evidence.evidence(place_items({i: i for i in evidence.claims()}, evidence.claims()), 1.0, {})
    adds_up(tally)
    assert len(queries.judgements) == len(queries.queries) == tally.kept
