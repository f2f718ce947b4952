"""ESCI in exactly its published schemas, each known trap at a known row; rows that add up whatever a file holds."""

import functools
import http.server
import io
import json
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ftbench.errors import DataError
from ftbench.items import normalize_query, silent, split_of
from ftbench.sources.amazon_esci import (
    ESCI_S,
    EXAMPLES,
    FILES,
    GAINS,
    PRODUCTS,
    RELEVANT_FROM,
    SOURCES,
    SQID,
    VIDEO_IMAGE,
    AmazonEsci,
    ImageLists,
    parse_esci_s,
    parse_pairs,
    parse_products,
    parse_sqid,
    product_views,
)
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.rows import LARGE_SHARES, Tally
from ftbench.sources.tables import clean_id, csv_rows, json_rows
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
PAIR_SCHEMA = pa.schema(
    [("example_id", pa.int64()), ("query", pa.string()), ("query_id", pa.int64()), ("product_id", pa.string()),
     ("product_locale", pa.string()), ("esci_label", pa.string()), ("small_version", pa.int64()),
     ("large_version", pa.int64()), ("split", pa.string())]
)  # fmt: skip
PRODUCT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in (
        "product_id", "product_title", "product_description", "product_bullet_point", "product_brand",
        "product_color", "product_locale")]
)  # fmt: skip
HOST = "https://m.media-amazon.com"


def text_in(split, start="query"):
    """A query text whose hash falls into a split."""
    return next(t for t in (f"{start} {i}" for i in range(9999)) if split_of("query", t, LARGE_SHARES) == split)


def product_in(split, start="P"):
    """An ASIN whose own hash falls into a split."""
    names = (f"{start}{i:05d}" for i in range(9999))
    return next(n for n in names if split_of("item", f"us:{n}", LARGE_SHARES) == split)


def pair(query_id, query, product_id, label="E", split="train", **cells):
    return {"example_id": 1, "query": query, "query_id": query_id, "product_id": product_id, "product_locale": "us",
            "esci_label": label, "small_version": 1, "large_version": 1, "split": split} | cells  # fmt: skip


def product(product_id, title="A title", **cells):
    return dict.fromkeys(PRODUCT_SCHEMA.names) | {
        "product_id": product_id, "product_title": title, "product_locale": "us"} | cells  # fmt: skip


def write_parquet(path, rows, schema):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


TRAIN, VALID = text_in("train", "red lamp"), text_in("valid", "blue lamp")
T1, T2, T3, D1 = (product_in("train", start) for start in ("TA", "TB", "TC", "TD"))
PAIRS = [
    pair(1, "sofa", "S1", "E", "test"),
    pair(1, "sofa", "S2", "S", "test"),
    pair(1, "sofa", "S3", "C", "test"),
    pair(1, "sofa", "S4", "I", "test"),
    pair(1, "sofa", "S1", "E", "test"),  # twice: merged
    pair(2, TRAIN, T1, "E"),
    pair(2, TRAIN, T2, "S"),  # not Exact: no interaction
    pair(2, TRAIN, "S2", "E"),  # judged in the official test: no interaction
    pair(2, TRAIN, "GONE", "E"),  # not among the products
    pair(3, VALID, "V1", "E"),
    pair(3, VALID, "V2", "C"),
    pair(3, VALID, "S1", "E"),  # a test item: not for validation
    pair(4, " SOFA", T3, "E"),  # asks the text of a test query
    pair(5, "only others", "S4", "I", "test"),  # no positive gain
    pair(6, "jp query", "S1", "E", "test", product_locale="jp"),
    pair(7, "large only", "L1", "E", "test", small_version=0),
    pair(8, "bad label", T1, "X"),
    pair(9, "bad split", T1, "E", "dev"),
    pair(10, "  ", T1),
    pair(11, "no id", " "),
    pair(2, "another text", T1),
]
ROWS = [
    product("S1", "Sofa &amp; <b>Chair</b>", product_description="<p>Soft</p>", product_bullet_point="one\ntwo",
            product_brand="Acme", product_color="Red"),
    product("S1", "The same ASIN in Japan", product_locale="jp"),
    product("S1", "The same ASIN again"),
    product("S2"), product("S3"), product("S4"), product(T1), product(T2), product(T3), product("V1"), product("V2"),
    product("L1", "Only in the large version"),
    product("NOBODY", "Judged nowhere"),
    product(None),
]  # fmt: skip


def read_pairs(rows, locale="us", small=True):
    evidence = Evidence(Tally(read=len(rows)))
    parse_pairs(rows, locale, small, evidence)
    return evidence


def test_gains_are_those_of_the_training_script_not_the_swapped_ones():
    assert GAINS == {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
    assert GAINS["S"] > GAINS["C"]
    assert RELEVANT_FROM == GAINS["E"]
    gains = {j.item_id: j.gain for j in read_all().judgements if j.query_id == "us:1"}
    assert gains == {"us:S1": 1.0, "us:S2": 0.1, "us:S3": 0.01, "us:S4": 0.0}


def read_all(rows=PAIRS, products=ROWS):
    evidence, tally = read_pairs(rows), Tally()
    kept = [i for i, _ in parse_products(products, "us", evidence.claims(), tally)]
    return evidence.evidence(place_items({i: i for i in kept}, evidence.claims()), RELEVANT_FROM, {})


def test_splits_keep_the_official_test_and_leak_nothing():
    evidence = read_pairs(PAIRS)
    claims = evidence.claims()
    assert {claims[f"us:S{i}"] for i in (1, 2, 3, 4)} == {"test"}
    assert (claims["us:V1"], claims["us:V2"], claims[f"us:{T1}"]) == ("valid", "valid", "")
    queries = read_all()
    assert {q.query_id: q.split for q in queries.queries} == {"us:1": "test", "us:2": "train", "us:3": "valid"}
    assert [(p.query_id, p.item_id) for p in queries.interactions] == [("us:2", f"us:{T1}")]
    assert {j.item_id for j in queries.judgements if j.query_id == "us:3"} == {"us:V1", "us:V2"}


def test_every_pair_is_kept_merged_or_dropped_with_its_reason():
    evidence, products = read_pairs(PAIRS), Tally(read=len(ROWS))
    kept = [i for i, _ in parse_products(ROWS, "us", evidence.claims(), products)]
    evidence.evidence(place_items({i: i for i in kept}, evidence.claims()), RELEVANT_FROM, {})
    assert evidence.pairs.counts() == {"read": 21, "kept": 7, "merged": 1, "dropped": 13}
    assert evidence.pairs.reasons == {
        "train pair below the relevant gain": 1,
        "train pair of an item outside train": 1,
        "pair whose item is not in the data set or its tier": 1,
        "validation pair of a test item": 1,
        "train pair whose query text is in the official test": 1,
        "pair of a query without an item of positive gain": 1,
        "pair of another locale": 1,
        "pair outside the small version": 1,
        "pair with an unknown label": 1,
        "pair with an unknown split": 1,
        "pair without a query text": 1,
        "pair without ids": 1,
        "pair with another text than its query's": 1,
    }
    assert evidence.queries.counts() == {"read": 5, "kept": 3, "merged": 0, "dropped": 2}
    assert products.counts() == {"read": 14, "kept": 9, "merged": 1, "dropped": 4}
    assert products.reasons == {
        "product of another locale": 1, "product that no pair of the version names": 2, "product without an id": 1
    }  # fmt: skip


def test_pairs_and_products_join_on_locale_and_id():
    rows = [pair(6, "jp query", "S1", "E", "test", product_locale="jp")]
    evidence = read_pairs(rows, "jp")
    titles = [row["product_title"] for _, row in parse_products(ROWS, "jp", evidence.claims(), Tally())]
    assert titles == ["The same ASIN in Japan"]
    assert list(evidence.claims()) == ["jp:S1"]
    assert "us:7" in read_pairs(PAIRS, small=False) and "us:7" not in read_pairs(PAIRS)


def test_texts_are_plain_and_in_their_views():
    views = {v.name: (v.role, v.content) for v in product_views(ROWS[0])}
    assert views == {
        "title": ("primary", "Sofa & Chair"),
        "description": ("auxiliary", "one two Soft"),
        "tags": ("auxiliary", "Acme, Red"),
    }
    assert [v.name for v in product_views(product("S2"))] == ["title"]


SQID_CSV = f"""product_id,image_url
S1,{HOST}/images/I/1._AC_SY879_.jpg
S2,"{HOST}/images/I/2._AC_SR600,400_.jpg"
S3,{VIDEO_IMAGE}
S4,
{T1},{HOST}/images/I/1.jpg
{T1},{HOST}/images/I/7.jpg
OUTSIDE,{HOST}/images/I/8.jpg
{T2},nothing
{T3},{HOST}/images/I/9.jpg,unquoted
"""


def test_sqid_rows_with_commas_defaults_and_gaps(tmp_path):
    (tmp_path / "sqid.csv").write_text(SQID_CSV)
    tally = Tally()
    rows = csv_rows(tmp_path / "sqid.csv", ("product_id", "image_url"), tally)
    found = dict(parse_sqid(rows, {"S1", "S2", "S3", "S4", T1, T2, T3}, tally))
    assert found == {
        "S1": f"{HOST}/images/I/1._SL256_.jpg", "S2": f"{HOST}/images/I/2._SL256_.jpg",
        T1: f"{HOST}/images/I/1._SL256_.jpg",
    }  # fmt: skip
    assert tally.counts() == {"read": 9, "kept": 3, "merged": 1, "dropped": 5}
    assert tally.reasons == {
        "image that stands for any digital video": 1,
        "image row without a product or an address": 1,
        "image of a product that is not in the data set or has others": 1,
        "image address that is none": 1,
        "row with another number of cells than the header": 1,
    }


def test_an_unknown_locale_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="'de'; expected one of us, es, jp"):
        AmazonEsci(None, tmp_path, "amazon-esci", locale="de")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def served(tmp_path):
    """A folder of ESCI's files and of photographs, served over HTTP: (folder, address)."""
    folder = tmp_path / "served"
    (folder / "images" / "I").mkdir(parents=True)
    for n in range(1, 8):
        data = io.BytesIO()
        Image.new("RGB", (300, 200), (n * 30, 90, 10)).save(data, "JPEG")
        (folder / "images" / "I" / f"{n}._SL256_.jpg").write_bytes(data.getvalue())
    write_parquet(folder / EXAMPLES, PAIRS, PAIR_SCHEMA)
    write_parquet(folder / PRODUCTS, ROWS, PRODUCT_SCHEMA)
    (folder / SOURCES).write_text("query_id,source\n1,negations\n2,other\n2,other\n3,\n999,other\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    (folder / SQID[0]).write_text(
        SQID_CSV.replace(HOST, address).replace(VIDEO_IMAGE.replace(HOST, address), VIDEO_IMAGE)
    )
    (folder / SQID[1]).write_text(
        f"product_id,image_url\nV1,{address}/images/I/gone.jpg\nS1,{address}/images/I/3.jpg\n"
    )
    page = {"asin": T2, "locale": "us", "image": f"{address}/images/I/4.__AC_SY300_.jpg", "category": ["Lamps", "Desk"]}
    with pa.CompressedOutputStream(str(folder / ESCI_S), "zstd") as file:
        file.write(b"".join(json.dumps(row).encode() + b"\n" for row in (page, page, page | {"asin": "OUT"}, [])))
    yield folder, address
    server.shutdown()
    server.server_close()


def esci(served, tmp_path, **options):
    source = AmazonEsci(options.pop("tier", None), tmp_path / "downloads", "amazon-esci", **options)
    source.files = {name: (f"{served[1]}/{name}", None, None) for name in FILES}
    return source


def adds_up(source):
    for name, counts in source.rows.items():
        assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"], (name, counts)


def test_the_whole_way_into_the_store(served, tmp_path):
    lists = ImageLists(reviews={"S2": [f"{served[1]}/images/I/{n}.jpg" for n in (5, 6, 5)]}, esci_s=True)
    source = esci(served, tmp_path, images=lists)
    prepare(source, silent, tmp_path / "cache")
    items = {item.item_id.removeprefix("us:"): item for item in source.items(silent)}
    assert list(items) == ["S1", "S2", "S3", "S4", T1, T2, T3, "V1", "V2"]
    assert {i: item.attributes["image_source"] for i, item in items.items() if item.attributes} == {
        "S1": "sqid", "S2": "amazon-reviews", T1: "sqid", T2: "esci-s", "V1": "sqid"
    }  # fmt: skip
    images = {i: [v.name for v in item.views if v.kind == "image"] for i, item in items.items()}
    assert {i: names for i, names in images.items() if names} == {
        "S1": ["main"], "S2": ["main", "additional"], T1: ["main"], T2: ["main"]
    }  # fmt: skip
    assert items["S1"].group == items[T1].group and items[T1].split == "test", "an image shared with a test item"
    assert {item.split for i, item in items.items() if i.startswith("S")} == {"test"}
    assert (items[T2].category, items["S1"].category) == ("Lamps", "")
    queries = source.queries()
    assert [q.slices for q in queries.queries if q.split == "test"] == [("negations",)]
    assert not queries.interactions, "the only Exact train pair is of an item that shares an image with a test item"
    assert source.dropped["image not to be had (404)"] == 1
    assert source.rows["images"]["read"] == 11
    assert source.rows["pages"] == {"read": 4, "kept": 1, "merged": 1, "dropped": 2}
    adds_up(source)


def test_without_images_none_is_fetched_and_splits_are_the_same(served, tmp_path):
    source = esci(served, tmp_path, with_images=False)
    items = list(source.items(silent))
    assert not [v for item in items for v in item.views if v.kind == "image"]
    assert not (tmp_path / "downloads" / "images").exists()
    splits = {item.item_id: (item.group, item.split) for item in items}
    assert splits[f"us:{T1}"] == ("us:S1", "test"), "an image shared with a test item"
    assert splits == {item.item_id: (item.group, item.split) for item in esci(served, tmp_path).items(silent)}
    adds_up(source)


def test_without_a_list_of_images_train_keeps_its_pair(served, tmp_path):
    source = esci(served, tmp_path, images=ImageLists(sqid=False))
    assert {len(item.views) for item in source.items(silent)} == {1, 3}
    assert [(p.query_id, p.item_id) for p in source.queries().interactions] == [("us:2", f"us:{T1}")]
    assert not (tmp_path / "downloads" / SQID[0]).exists()
    adds_up(source)


def test_a_tier_keeps_the_evidence_that_its_items_leave(served, tmp_path):
    whole = esci(served, tmp_path, with_images=False)
    splits = {item.item_id: item.split for item in whole.items(silent)}
    for tier in (1, 4, 99):
        source = esci(served, tmp_path, with_images=False, tier=tier)
        items = {item.item_id: item.split for item in source.items(silent)}
        assert len(items) == min(tier, 9)
        assert items.items() <= splits.items()
        assert {j.item_id for j in source.queries().judgements} <= set(items)
        assert source.rows["products"]["kept"] == len(items)
        adds_up(source)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=9), st.text(max_size=12),
    st.sampled_from(["us", "jp", "E", "S", "I", "train", "test", "A1", "A2", "", " ", 1, 0, "1", "sofa", "\ud800",
                     "a\0b", "&#" + "9" * 5000, "<script" * 3000, "{{" * 3000, "x" * 200_000]),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner)),
)  # fmt: skip


@FUZZ
@given(st.lists(st.tuples(*[CELL] * 8, st.booleans()), max_size=12))
def test_any_pairs_add_up(cells):
    names = (
        "query",
        "query_id",
        "product_id",
        "product_locale",
        "esci_label",
        "small_version",
        "large_version",
        "split",
    )
    rows = []
    for *values, good in cells:
        row = dict(zip(names, values, strict=True))
        rows.append(
            row | ({"product_locale": "us", "small_version": 1, "esci_label": "E", "split": "test"} if good else {})
        )
    evidence = read_pairs(rows)
    claims = evidence.claims()
    queries = evidence.evidence(place_items({i: i for i in claims}, claims), RELEVANT_FROM, {})
    tally = evidence.pairs
    assert tally.read == len(rows) == tally.kept + tally.merged + tally.dropped
    assert sum(tally.reasons.values()) == tally.dropped
    assert tally.kept == len(queries.judgements) + len(queries.interactions)
    for query in queries.queries:
        assert normalize_query(query.text)
        assert query.text.encode() and query.query_id.encode()


@FUZZ
@given(st.lists(st.fixed_dictionaries({name: CELL for name in PRODUCT_SCHEMA.names}), max_size=8))
def test_any_products_add_up(rows):
    judged = {f"us:{clean_id(row['product_id'])}" for row in rows[::2]}
    tally = Tally(read=len(rows))
    found = list(parse_products(rows, "us", judged, tally))
    assert tally.read == tally.kept + tally.merged + tally.dropped
    assert sum(tally.reasons.values()) == tally.dropped
    assert tally.kept == len(found) == len({item_id for item_id, _ in found})
    for _, row in found:
        assert all(view.content.encode() for view in product_views(row))


@FUZZ
@given(st.lists(st.one_of(CELL, st.dictionaries(st.sampled_from(["asin", "locale", "image", "category"]), CELL))))
def test_any_esci_s_objects_add_up(rows):
    lines = [json.dumps(row, default=repr).encode("utf-8", "surrogatepass") + b"\n" for row in rows]
    tally = Tally()
    found = list(parse_esci_s(json_rows(lines, tally), "us", {"A1", "A2", "sofa"}, tally))
    assert tally.read == len(lines) == tally.kept + tally.merged + tally.dropped
    assert tally.kept == len(found)
