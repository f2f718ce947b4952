"""Marqo GS-10M in exactly its published schema: positions as labels, one image per row, rows that add up."""

import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ftbench.errors import DataError
from ftbench.images import BrokenImage
from ftbench.items import silent, split_of, unit_hash
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.marqo_gs import (
    RELEVANT_FROM,
    SHARES,
    MarqoGs,
    add_pair,
    new_product,
    photograph_bytes,
    position_of,
    shards,
    unpacked,
)
from ftbench.sources.rows import LARGE_SHARES, Tally
from ftbench.sources.tables import parquet_rows, smallest
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
SCHEMA = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("query", pa.string()),
     ("product_id", pa.uint64()), ("position", pa.int64()), ("title", pa.string()), ("pair_id", pa.string()),
     ("score_linear", pa.int64()), ("score_reciprocal", pa.float64()), ("no_score", pa.int64()),
     ("query_id", pa.int64())]
)  # fmt: skip


def text_in(split, start):
    """A query text whose hash falls into a split."""
    return next(t for i in range(9999) if split_of("query", t := f"{start} {i}", LARGE_SHARES) == split)


def picture(shade, side=120):
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 60, 60)).save(out, "JPEG")
    return out.getvalue()


def row(query_id, query, product_id, position, image=None, **cells):
    """One row; the scores are those of the paper, which nothing here may use."""
    return {"image": {"bytes": picture(product_id % 251) if image is None else image, "path": None}, "query": query,
            "product_id": product_id, "position": position, "title": f"Product {product_id}",
            "pair_id": f"{query_id}-{product_id}", "score_linear": 101 - position,
            "score_reciprocal": 1 / (position or 1), "no_score": 1, "query_id": query_id} | cells  # fmt: skip


TRAIN, VALID = text_in("train", "shelf"), text_in("valid", "desk")
BIG = 2**64 - 1  # product ids are unsigned 64-bit numbers
IN_DOMAIN = [
    *(row(1, TRAIN, 100 + i, i) for i in (1, 2, 10, 11)),  # 11: beyond the first page
    row(1, TRAIN, 101, 1),  # the same pair again
    row(2, VALID, 200, 1),
    row(2, VALID, BIG, 3),
    row(3, " LAMP ", 300, 1),  # asks the text of a test query
    row(4, "no title", 400, 1, title=" "),
    row(4, "no position", 301, 0),
    row(4, "  ", 302, 2),
]
ZERO_SHOT = [
    row(9, "lamp", 900, 1),
    row(9, "lamp", 901, 50),
    row(9, "lamp", 902, 2, image=b""),
    row(9, "lamp", 903, 3, image=picture(900 % 251)),  # the same photograph as 900
    row(9, "lamp", 904, 4, image=b"not an image"),
]


def write(folder, files):
    (folder / "data").mkdir(parents=True)
    for name, rows in files.items():
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "data" / name)
    return folder


def collect(rows, test, products=None, evidence=None, seen=None):
    """(products tally, evidence, item ids) of rows."""
    products, evidence, seen = products or Tally(), evidence or Evidence(Tally()), set() if seen is None else seen
    found = []
    for one in rows:
        products.read += 1
        add_pair(one, test, evidence)
        found += filter(None, [new_product(one, seen, products)])
    return products, evidence, found


def adds_up(tally):
    assert tally.read == tally.kept + tally.merged + tally.dropped
    assert tally.dropped == sum(tally.reasons.values())


def test_the_gain_is_the_position_alone(tmp_path):
    folder = write(tmp_path, {"zero_shot-0.parquet": ZERO_SHOT})
    columns = ("query", "query_id", "product_id", "position", "title", "image")
    rows = list(parquet_rows(folder / "data" / "zero_shot-0.parquet", columns, Tally()))
    assert photograph_bytes(rows[0]) == picture(900 % 251)
    _, evidence, found = collect(rows, True)
    judged = evidence.evidence({i: "test" for i in found}, RELEVANT_FROM, {}).judgements
    assert {j.item_id: j.gain for j in judged} == {"900": 1, "901": 1 / 50, "902": 1 / 2, "903": 1 / 3, "904": 1 / 4}
    assert 1 / 10 >= RELEVANT_FROM > 1 / 11


def test_train_pairs_are_of_the_first_page_and_of_train_items():
    products, evidence, found = collect(IN_DOMAIN, False)
    collect(ZERO_SHOT, True, products, evidence, seen := set(found))
    placed = place_items({i: i for i in seen}, evidence.claims())
    queries = evidence.evidence(placed, RELEVANT_FROM, {})
    assert {q.query_id: q.split for q in queries.queries} == {"gs:1": "train", "gs:2": "valid", "gs:9": "test"}
    train = {f"{100 + i}" for i in (1, 2, 10)}
    assert {p.item_id for p in queries.interactions} == {i for i in train if placed[i] == "train"}
    assert (placed["200"], placed[str(BIG)], placed["900"]) == ("valid", "valid", "test")
    assert evidence.pairs.reasons["train pair below the relevant gain"] == 1
    assert evidence.pairs.reasons["train pair whose query text is in the official test"] == 1
    assert evidence.pairs.reasons["pair without a product id or a title"] == 1
    assert evidence.pairs.reasons["pair without a position"] == 1
    assert evidence.pairs.reasons["pair without a query"] == 1
    assert (evidence.pairs.read, evidence.pairs.merged) == (16, 1)
    assert products.counts() == {"read": 16, "kept": 14, "merged": 1, "dropped": 1}
    adds_up(evidence.pairs)
    adds_up(products)


def test_positions():
    assert [position_of(v) for v in (1, "12", 3.0)] == [1, 12, 3]
    assert [position_of(v) for v in (0, -1, True, "x", "1.5", 2.5, float("nan"), None, "9" * 5000, [1])] == [None] * 10


def test_files_are_told_by_their_names_and_ordered_by_hash():
    paths = [f"data/in_domain-{n}.parquet" for n in range(9)] + ["data/zero_shot-1.parquet", "data/in_domain.txt",
             "data/novel_query-0.parquet", "in-domain/in-domain-3.parquet", "data/in_domains-1.parquet"]  # fmt: skip
    found = shards(paths, "in_domain")
    assert len(found) == 10
    assert found == sorted(found, key=lambda path: unit_hash("tier", path))
    assert shards(paths, "zero_shot") == ["data/zero_shot-1.parquet"]


def grid(part, first, files=3):
    """Rows of four queries with five products each, per file."""
    return {
        f"{part}-{n}.parquet": [
            row(first + n * 10 + k, f"{part} {n} {k}", first * 100 + n * 1000 + k * 100 + i, i)
            for k in range(4) for i in range(1, 6)
        ]
        for n in range(files)
    }  # fmt: skip


def test_the_whole_way_and_tiers_that_nest(tmp_path):
    write(tmp_path, grid("in_domain", 0) | grid("zero_shot", 900) | {"novel_query-0.parquet": []})
    smaller = set()
    for tier in (5, 20, 60, None):
        source = MarqoGs(tier, tmp_path, "marqo-gs")
        items = {item.item_id: item for item in source.items(silent)}
        assert smaller < items.keys() and len(items) == (tier or 120)
        smaller = set(items)
        if tier == 5:
            first = shards([f"data/in_domain-{n}.parquet" for n in range(3)], "in_domain")[0]
            ids = [str(r["product_id"]) for r in grid("in_domain", 0)[first.removeprefix("data/")]]
            assert {i for i in items if int(i) < 90_000} == smallest(ids, 4)
        assert all([v.kind for v in item.views] == ["image", "text"] for item in items.values())
        assert sum(int(i) >= 90_000 for i in items) == (round(tier * SHARES["zero_shot"]) if tier else 60)
        assert {q.split for q in source.queries().queries if "zero" in q.text} == {"test"}
        for counts in source.rows.values():
            assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"]
    catalogue = prepare(source, silent, tmp_path / "cache")
    assert catalogue.manifest["counts"]["images"] == 120
    assert catalogue.manifest["counts"]["interactions"] == len(source.queries().interactions) > 0


def test_shared_missing_and_broken_photographs(tmp_path):
    write(tmp_path, {"in_domain-0.parquet": IN_DOMAIN, "zero_shot-0.parquet": ZERO_SHOT})
    source = MarqoGs(None, tmp_path, "marqo-gs")
    catalogue = prepare(source, silent, tmp_path / "cache")
    items = {item.item_id: item for item in source.items(silent)}
    assert items["900"].group == items["903"].group == "900"
    assert [len(items[i].views) for i in ("900", "902", "904", str(BIG))] == [2, 1, 1, 2]
    assert catalogue.manifest["dropped"]["product without an image"] == 1
    assert catalogue.manifest["dropped"]["broken image (not an image)"] == 1
    for view in (items[i].views[0] for i in ("900", "901")):
        with Image.open(view.content) as image:
            assert (image.format, image.size) == ("JPEG", (120, 120))
    banner = [row(1, TRAIN, 5000 + i, 1 + i, image=picture(7)) for i in range(21)]
    write(tmp_path / "banner", {"in_domain-0.parquet": banner, "zero_shot-0.parquet": ZERO_SHOT})
    source = MarqoGs(None, tmp_path / "banner", "marqo-gs")
    assert {len(item.views) for item in source.items(silent) if item.item_id >= "5"} == {1, 2}
    assert source.dropped["image shared by more than 20 products"] == 21
    plain = MarqoGs(None, tmp_path, "marqo-gs", with_images=False)
    assert {len(item.views) for item in plain.items(silent)} == {1}


def test_photographs_are_kept_or_scaled(tmp_path):
    small, large = picture(9), picture(9, side=600)
    out = io.BytesIO()
    Image.new("RGBA", (50, 40), (0, 0, 0, 0)).save(out, "PNG")
    paths = [unpacked(data, f"{n}{n}", tmp_path) for n, data in enumerate((small, large, out.getvalue()))]
    assert paths[0].read_bytes() == small
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append((image.format, image.size))
    assert sizes == [("JPEG", (120, 120)), ("JPEG", (256, 256)), ("JPEG", (50, 40))]
    with pytest.raises(BrokenImage):
        unpacked(b"<html>", "33", tmp_path)
    assert len(list(tmp_path.rglob("*.*"))) == 3


def test_an_empty_folder_of_parts_says_what_is_missing(tmp_path):
    write(tmp_path, {"novel_query-0.parquet": []})
    with pytest.raises(DataError, match="no files data/in_domain-N.parquet"):
        list(MarqoGs(None, tmp_path, "marqo-gs").items(silent))


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=9),
    st.sampled_from(["a", 1, 2, 10, 11, "1", "x" * 200_000, "\ud800", "{{" * 3000]), st.lists(st.integers()),
)  # fmt: skip
NAMES = ("query", "query_id", "product_id", "position", "title", "image")


@FUZZ
@given(st.lists(st.tuples(st.booleans(), st.fixed_dictionaries({name: CELL for name in NAMES}))))
def test_any_rows_add_up(rows):
    products, evidence, seen = Tally(), Evidence(Tally()), set()
    for test, one in rows:
        collect([one], test, products, evidence, seen)
        assert isinstance(photograph_bytes(one), bytes)
    queries = evidence.evidence(place_items({i: i for i in seen}, evidence.claims()), RELEVANT_FROM, {})
    assert products.read == evidence.pairs.read == len(rows)
    adds_up(products)
    adds_up(evidence.pairs)
    assert len(seen) == products.kept
    assert evidence.pairs.kept == len(queries.judgements) + len(queries.interactions)
