"""Streams of raw rows, clean cells, image addresses: what the loaders of public data share, fed with anything."""

import gzip
import io
import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftbench.errors import DataError
from ftbench.items import unit_hash
from ftbench.sources.amazon_esci import parse_sqid
from ftbench.sources.amazon_images import gallery, shared_images, small_image, usable_images
from ftbench.sources.judged import place_items
from ftbench.sources.rows import Tally
from ftbench.sources.tables import clean_id, csv_rows, json_rows, parquet_rows, plain, read_lines, smallest

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
HOST = "https://m.media-amazon.com"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/images/I/71a._AC_SY879_.jpg", "/images/I/71a._SL256_.jpg"),
        ("/images/I/71a.jpg", "/images/I/71a._SL256_.jpg"),
        ("/images/I/81Q+8-a._AC_UL600_SR600,400_.jpg", "/images/I/81Q+8-a._SL256_.jpg"),
        ("/images/I/81b.__AC_SY300_SX300_QL70_FMwebp_.jpg", "/images/I/81b._SL256_.jpg"),
        ("/elsewhere/71a.webp", "/elsewhere/71a.webp"),
    ],
)
def test_addresses_ask_for_the_small_form(address, expected):
    assert small_image(HOST + address) == HOST + expected


def test_what_is_no_address_is_none():
    for value in (None, 3, "", "ftp://a/b.jpg", "https://a b", "no address", ["https://a"], "https://a\0b"):
        assert small_image(value) is None
    assert gallery([f"{HOST}/images/I/1.jpg", None, f"{HOST}/images/I/1._SX9_.jpg"]) == (
        f"{HOST}/images/I/1._SL256_.jpg",
    )
    other_host = "https://images-na.ssl-images-amazon.com/images/I/1.jpg"
    assert gallery([f"{HOST}/images/I/1.jpg", other_host]) == (f"{HOST}/images/I/1._SL256_.jpg",)
    assert gallery("https://a/b.jpg") == gallery(None) == gallery({}) == ()


def test_images_of_more_than_twenty_products_are_placeholders():
    galleries = {f"i{n:02d}": (f"{HOST}/images/I/all.jpg", f"{HOST}/images/I/{n // 2}.jpg") for n in range(21)}
    shared, lost = shared_images(galleries.items()), Counter()
    assert usable_images(galleries["i03"], shared, 8, lost) == (f"{HOST}/images/I/1.jpg",)
    assert lost == {"image shared by more than 20 products": 1}
    assert [shared.group(i) for i in ("i03", "i20")] == ["i02", "i20"]
    del galleries["i20"]
    shared = shared_images(galleries.items())
    assert usable_images(galleries["i03"], shared, 1, lost) == (f"{HOST}/images/I/all.jpg",)
    assert lost["image beyond the first 1 of an item"] == 1
    assert shared.group("i19") == "i00"


def test_a_group_with_a_test_item_is_a_test_group():
    placed = place_items({"a": "a", "b": "a", "c": "a", "d": "d", "e": "d"}, {"b": "valid", "c": "test", "e": "valid"})
    assert placed == {"a": "test", "b": "test", "c": "test", "d": "valid", "e": "valid"}
    assert set(place_items({"a": "a", "b": "a"}, {"a": "test", "b": "valid"}).values()) == {"test"}


def test_a_git_lfs_pointer_is_recognised(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:25124442\nsize 1108857465\n")
    with pytest.raises(DataError, match="Git LFS pointer of 79 bytes"):
        list(parquet_rows(path, ("product_id",), Tally()))
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(parquet_rows(path, ("product_id",), Tally()))
    pq.write_table(pa.table({"product_id": ["S1"], "product_title": ["A title"]}), path)
    with pytest.raises(DataError, match="no column esci_label; it has product_id"):
        list(parquet_rows(path, ("product_id", "esci_label"), Tally()))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(parquet_rows(path, ("product_id",), Tally()))


def test_tiers_nest():
    names = [f"us:{n}" for n in range(300)]
    assert smallest(names, 10) < smallest(names, 100) < smallest(names, None) == frozenset(names)
    assert max(unit_hash("tier", n) for n in smallest(names, 10)) <= min(
        unit_hash("tier", n) for n in set(names) - smallest(names, 10)
    )


def test_csv_rows_that_are_not_utf_8_or_not_csv_are_dropped_and_the_rest_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid, text\n1,caf\xe9\n2,caf\xc3\xa9\n\n3\n4,"' + b"x" * (17 << 20) + b'"\n5,"a ""b""\nc"\n'
    )
    tally = Tally()
    rows = list(csv_rows(path, ("text",), tally))
    assert rows == [{"text": "café"}, {"text": 'a "b"\nc'}]
    assert tally.reasons["row that is not UTF-8"] == tally.reasons["row that is not readable CSV"] == 1
    assert tally.read - tally.dropped == 2


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_as_json_lines_add_up(data):
    tally = Tally()
    lines = io.BytesIO(data).readlines()
    assert sum(1 for _ in json_rows(lines, tally)) == tally.read - tally.dropped
    assert tally.read == sum(1 for line in lines if line.strip())


def test_json_nested_without_end_and_lines_without_end_are_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n" + b'{"a":"' + b"x" * (17 << 20) + b'"}\n{"a": 1}\n'
    )
    tally = Tally()
    assert list(json_rows(read_lines(path), tally)) == [{"a": 1}]
    assert tally.reasons == {"line nested too deeply": 1, "line that is not JSON": 1}


def test_plain_text_of_anything_can_be_written():
    assert plain("a\ud800\0 &#55296;<b>c</b>") == "a \ufffd c"
    assert plain(None) == plain(3) == plain(["a"]) == plain(b"a") == ""
    assert [clean_id(v) for v in (" A1 ", 7, True, -1, "", "a b", "a\nb", "\ud800", None, 1.0, "x" * 129)] == [
        "A1", "7", *[None] * 9
    ]  # fmt: skip


def test_parquet_cells_that_python_cannot_hold_lose_themselves_and_no_row(tmp_path):
    path = tmp_path / "odd.parquet"
    broken = pa.array([b"fine", b"\xff\xfe bad", None], pa.binary()).view(pa.string())
    far = pa.array([0, 2**62, None], pa.int64()).cast(pa.timestamp("ms"))
    image = pa.array([{"bytes": b"jpg", "path": "a"}, None, {"bytes": None, "path": "b"}])
    pq.write_table(pa.table({"text": broken, "time": far, "image": image}), path)
    tally = Tally()
    rows = list(parquet_rows(path, ("text", "time", "image"), tally))
    assert tally.read == len(rows) == 3
    assert [plain(row["text"]) for row in rows] == ["fine", "bad", ""]
    assert [row["time"] is None for row in rows] == [False, True, True]
    assert [row["image"] for row in rows] == [b"jpg", None, None]


def test_files_that_cannot_be_unpacked_to_their_end_say_so(tmp_path):
    for name, data in (
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 999)),
        ("a.jsonl.zst", pa.compress(b"{}\n", "zstd", True)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert set(read_lines(path)) == {b"{}\n"}
        for broken in (data[:-4], b"garbage"):
            path.write_bytes(broken)
            with pytest.raises(DataError, match="cannot be read to its end"):
                list(read_lines(path))
    with pytest.raises(DataError, match="absent.jsonl: cannot be read"):
        list(read_lines(tmp_path / "absent.jsonl"))


@FUZZ
@given(st.binary(max_size=400), st.sampled_from([b"", b"\n", b'"', b"A1,https://a/b.jpg\n", b"\xff,\xfe\n", b"\r"]))
def test_any_bytes_as_sqid_add_up(tmp_path_factory, data, extra):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(b"product_id,image_url\n" + data + extra + data)
    tally = Tally()
    found = list(parse_sqid(csv_rows(path, ("product_id", "image_url"), tally), {"A1"}, tally))
    assert tally.read == tally.kept + tally.merged + tally.dropped
    assert len(found) == tally.kept
