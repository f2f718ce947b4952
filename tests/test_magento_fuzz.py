"""Magento 2 exports fed with anything: mutated rows, odd paths, damaged bytes. FTBENCH_FUZZ says how much."""

import csv
import io
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_magento import COLUMNS, MEDIA, SHIRT, SHIRT_IMAGES, row, write_export

from ftbench.errors import DataError
from ftbench.items import SPLITS, silent
from ftbench.sources.magento import Magento

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
CELL = st.text(max_size=9) | st.sampled_from([
    "", "S", "S-red", "S-blue", "T", " T ", "configurable", "simple", "0", "1", "Not Visible Individually", "german",
    "default", "Root/Men/Tees", "Root", "a//b,/,\\/", "sku=S-red,color=Red|sku=S|sku=|=", "color=Red|,size==M,=x,\0=1",
    "no_selection", "/s/red.jpg", "/s/red.jpg,/s/red.jpg,/s/gone_alt1.jpg", "/s/", ".", "s\\red.jpg", "\0",
    "&#" + "9" * 5000 + ";", "&lt;b&gt;" * 9, "<!--" * 3000, "<script" * 3000, "{{" * 3000, "x" * 20_000, "|" * 5000,
    ",a=" * 5000, "é" * 200 + ".jpg", "\u2028", "\ufeff",
])  # fmt: skip
ROWS = [*SHIRT, row("T", base_image="/s/red.jpg", description="Plain"), row("U", store_view_code="default")]
MUTATED = st.builds(lambda one, cells: one | cells, st.sampled_from(ROWS),
                    st.dictionaries(st.sampled_from(COLUMNS), CELL, max_size=3))  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """An export whose photographs are on disk; each case writes its own products.csv."""
    return write_export(tmp_path_factory.mktemp("shop"), ROWS, SHIRT_IMAGES)


def holds(folder, content):
    """What is true of any export: it is refused by name, or its rows add up and its items can be written."""
    (folder / "products.csv").write_bytes(content)
    source = Magento(folder, hidden=("color",))
    try:
        items = list(source.items(silent))
    except DataError as problem:
        assert "products.csv" in str(problem)
        return
    counts = source.rows["products"]
    assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"]
    csv.field_size_limit(1 << 24)
    records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
    assert counts["read"] == sum(any(cells) for cells in records)
    assert len(items) == counts["kept"] == len({item.item_id for item in items})
    for item in items:
        assert item.item_id and item.split in SPLITS
        for text in (item.item_id, item.category, *item.attributes, *item.attributes.values()):
            text.encode()
        for view in item.views:
            assert view.content if view.kind == "text" else view.content.is_relative_to(folder / MEDIA[0])
            str(view.content).encode()


def written(rows, header=COLUMNS):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, header, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


@FUZZ
@given(st.lists(MUTATED, max_size=7))
def test_any_rows_add_up(shop, rows):
    holds(shop, written(rows))


NOISE = st.binary(max_size=12) | st.sampled_from(
    [b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b";", b"\xef\xbb\xbf", b'"' + b"x" * 20_000]
)
WHOLE = written(ROWS)


@FUZZ
@given(st.lists(st.tuples(NOISE, st.integers(0, len(WHOLE)), st.integers(0, 9)), max_size=4))
def test_any_bytes_are_read_or_refused(shop, noise):
    content = WHOLE
    for extra, place, without in noise:
        content = content[:place] + extra + content[place + without :]
    holds(shop, content)
