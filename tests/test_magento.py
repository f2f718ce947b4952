"""Magento 2 exports: the traps of real exports, rows that add up, groups that share no photograph."""

import csv
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftbench.errors import DataError
from ftbench.items import normalize_query, silent, split_of
from ftbench.sources.magento import (
    MEDIA,
    REQUIRED,
    Magento,
    category_paths,
    parse_pairs,
    read_export,
)
from ftbench.sources.magento_items import Product, tags
from ftbench.sources.rows import SHARES, Tally, groups, safe_path, strip_html

COLUMNS = (
    "sku store_view_code product_type categories name description short_description product_online visibility "
    "base_image additional_attributes configurable_variations additional_images"
).split()
HIDDEN_FROM_SHOPPERS = "Not Visible Individually"


def row(sku, **cells):
    """One export row with what every product has."""
    return {"sku": sku, "product_type": "simple", "name": f"Name of {sku}", "categories": "Root/Men/Tees"} | cells


def write_csv(path, rows, columns=COLUMNS):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_export(folder, rows, images=(), columns=COLUMNS):
    """An export folder; images: path -> bytes, or paths whose bytes are their own names."""
    media = folder / MEDIA[0]
    media.mkdir(parents=True, exist_ok=True)
    for path in images:
        file = media / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images[path] if isinstance(images, dict) else path.encode())
    write_csv(folder / "products.csv", rows, columns)
    return folder


def read(folder, **options):
    source = Magento(folder, **options)
    return source, {item.item_id: item for item in source.items(silent)}


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def images(item):
    return [(view.name, view.role, view.content.name) for view in item.views if view.kind == "image"]


SHIRT = [
    row("S-red", visibility=HIDDEN_FROM_SHOPPERS, base_image="/s/red.jpg", additional_attributes="size=M,color=Red"),
    row("S-blue", visibility=HIDDEN_FROM_SHOPPERS, base_image="/s/blue.jpg",
        additional_images="/s/blue.jpg,/s/blue_back.jpg", additional_attributes="has_options=0,size=M,color=Blue"),
    row("S", product_type="configurable", name="Fine &amp; Light Tee",
        description="<p>Soft.<br/>Caf&eacute; &lt;b&gt;bold&lt;/b&gt;</p>",
        short_description="Short one.", base_image="/s/red.jpg",
        additional_images="/s/red.jpg,/s/red_alt1.jpg,/s/red_back.jpg",
        categories="Root/Sale,Root/Men/Tees,Root",
        additional_attributes="has_options=1,material=Cotton|Wool &trade;,eco=Yes,new=No",
        configurable_variations="sku=S-red,size=M,color=Red|sku=S-blue,size=M,color=Blue|sku=S-gone,size=L,color=Red"),
    row("S", name="Second S"),
    row("S", store_view_code="german", name="Feines Hemd"),
]  # fmt: skip
SHIRT_IMAGES = ("/s/red.jpg", "/s/blue.jpg", "/s/red_alt1.jpg", "/s/red_back.jpg", "/s/blue_back.jpg")


def test_children_merge_into_their_parent_and_rows_add_up(tmp_path):
    source, items = read(write_export(tmp_path, SHIRT, SHIRT_IMAGES), hidden=("material", "color", "size"))
    assert list(items) == ["S"]
    shirt = items["S"]
    assert images(shirt) == [
        ("main", "primary", "red.jpg"),
        ("alt", "auxiliary", "red_alt1.jpg"),
        ("back", "auxiliary", "red_back.jpg"),
        ("variant", "auxiliary", "blue.jpg"),
        ("variant 2", "auxiliary", "blue_back.jpg"),
    ]
    assert texts(shirt) == {
        "title": "Fine & Light Tee",
        "description": "Soft. Café bold Short one.",
        "tags": "Sale, Tees, eco",
    }
    assert shirt.category == "Tees"
    assert shirt.attributes["material"] == "Cotton|Wool ™"
    assert shirt.attributes["color"] == "Red|Blue"
    assert "has_options" not in shirt.attributes
    assert source.rows["products"] == {"read": 5, "kept": 1, "merged": 2, "dropped": 2}
    assert source.dropped == {
        "row with a sku seen before": 1,
        "row of another store view": 1,
        "variation that names an absent sku": 1,
    }


def test_odd_rows_are_dropped_and_counted(tmp_path):
    rows = [
        row("A"),
        row("", name="No number"),
        row("B", name="<p> </p>"),
        row("C", product_online="2"),
        row("D", visibility=HIDDEN_FROM_SHOPPERS),
        row("E", store_view_code="default", name="Only in the default view"),
    ]
    write_export(tmp_path, rows)
    with open(tmp_path / "products.csv", "a", encoding="utf-8") as file:
        file.write("F,too,few\n\n")
    source, items = read(tmp_path)
    assert list(items) == ["A", "E"]
    assert source.rows["products"] == {"read": 7, "kept": 2, "merged": 0, "dropped": 5}
    assert sum(source.dropped.values()) == 5
    assert source.dropped["row with another number of cells than the header"] == 1
    assert source.dropped["product not visible and without a parent"] == 1


def test_repeated_photographs_are_left_out_by_content(tmp_path):
    rows = [row("A", base_image="/a.jpg", additional_images="/copy.jpg,/b.jpg,/a.jpg,no_selection")]
    _, items = read(write_export(tmp_path, rows, {"/a.jpg": b"same", "/copy.jpg": b"same", "/b.jpg": b"other"}))
    assert [name for _, _, name in images(items["A"])] == ["a.jpg", "b.jpg"]


def test_an_absent_image_file_stays_a_view(tmp_path):
    _, items = read(write_export(tmp_path, [row("A", base_image="/gone.jpg", additional_images="/b.jpg")], ["/b.jpg"]))
    assert images(items["A"]) == [("main", "primary", "gone.jpg"), ("additional", "auxiliary", "b.jpg")]


def test_at_most_eight_images(tmp_path):
    names = [f"/{i}.jpg" for i in range(11)]
    source, items = read(
        write_export(tmp_path, [row("A", base_image="/0.jpg", additional_images=",".join(names))], names)
    )
    assert [name for _, _, name in images(items["A"])] == [f"{i}.jpg" for i in range(8)]
    assert source.dropped == {"image beyond the first 8 of an item": 3}


def test_shared_photographs_make_one_group_and_one_split(tmp_path):
    rows = [
        row(f"P{i:02}", base_image=f"/{i}.jpg", additional_images=f"/{i + 1}.jpg" if i % 3 else "") for i in range(30)
    ]
    source, items = read(write_export(tmp_path, rows, [f"/{i}.jpg" for i in range(31)]))
    for a, b in combinations(items.values(), 2):
        if {n for *_, n in images(a)} & {n for *_, n in images(b)}:
            assert (a.group, a.split) == (b.group, b.split)
    assert items["P00"].group == "P00" and items["P01"].group == items["P03"].group == "P01"
    assert all(item.split == split_of("item", item.group, SHARES) for item in items.values())


def test_placeholders_join_no_groups(tmp_path):
    rows = [row(f"P{i:02}", base_image="/none.jpg", additional_images=f"/{i}.jpg") for i in range(21)]
    source, items = read(write_export(tmp_path, rows, ["/none.jpg", *(f"/{i}.jpg" for i in range(21))]))
    assert len({item.group for item in items.values()}) == 21
    assert images(items["P03"]) == [("main", "primary", "3.jpg")]
    assert source.dropped == {"image shared by more than 20 products": 21}


def test_groups_agree_with_a_naive_closure():
    shared = {"d": ["x"], "a": ["y", "z"], "c": ["x", "y"], "b": ["w"], "e": []}
    groups_found = groups(shared)
    sets = [{item} for item in shared]
    for a, b in combinations(shared, 2):
        if set(shared[a]) & set(shared[b]):
            one, two = (next(s for s in sets if item in s) for item in (a, b))
            if one is not two:
                sets.remove(two)
                one |= two
    assert groups_found == {item: min(found) for found in sets for item in found}


def test_missing_columns_and_paths_outside_are_reported_together(tmp_path):
    rows = [
        row("A", base_image="/../../secret.jpg"),
        row("B"),
        row("C", additional_images="/ok.jpg,..\\win.jpg,C:/x.jpg"),
    ]
    write_export(tmp_path, rows)
    write_csv(tmp_path / "second.csv", [row("D")], [c for c in COLUMNS if c not in ("name", "categories")])
    with pytest.raises(DataError) as caught:
        list(Magento(tmp_path).items(silent))
    message = str(caught.value)
    for part in ("4 problems", "products.csv, row 2, column base_image", "secret.jpg", "products.csv, row 4",
                 "win.jpg", "C:/x.jpg", "second.csv, row 1: missing columns name, categories"):  # fmt: skip
        assert part in message
    assert str(tmp_path) not in message


def test_a_link_out_of_the_media_folder_is_refused(tmp_path):
    write_export(tmp_path, [row("A", base_image="/out/secret.jpg")])
    (tmp_path / MEDIA[0] / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match="row 2"):
        list(Magento(tmp_path).items(silent))


def test_unreadable_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="no .csv"):
        Magento(tmp_path)
    (tmp_path / "products.csv").write_bytes("sku,nam\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="media folder"):
        Magento(tmp_path)
    (tmp_path / MEDIA[2]).mkdir(parents=True)
    with pytest.raises(DataError, match="not UTF-8"):
        list(Magento(tmp_path).items(silent))
    (tmp_path / "products.csv").write_text("")
    with pytest.raises(DataError, match="missing columns " + ", ".join(REQUIRED)):
        list(Magento(tmp_path).items(silent))


def test_own_queries_keep_to_their_splits(tmp_path):
    rows = [row(f"P{i}") for i in range(12)]
    write_export(tmp_path, rows)
    lines = [f"tee {q}\tP{i}\t{1 + i % 3}" for q in range(20) for i in range(12)] + [
        "TEE  0\tP5\t2",
        "tee 1\tgone",
        "tee 1\tP1\t0",
    ]
    (tmp_path / "queries.tsv").write_text("\n".join(["query\titem_id\tgain", *lines]))
    source, items = read(tmp_path)
    found = source.queries()
    splits = {query.query_id: query.split for query in found.queries}
    assert len(splits) == len(found.queries) == len({normalize_query(query.text) for query in found.queries})
    assert {query.split for query in found.queries} >= {"train", "test"}
    assert all(splits[pair.query_id] == items[pair.item_id].split == "train" for pair in found.interactions)
    assert all(splits[judgement.query_id] != "train" for judgement in found.judgements)
    counts = source.rows["queries"]
    assert counts["read"] == 243 == counts["kept"] + counts["dropped"]
    assert source.dropped["query line that names an absent product"] == 1
    (tmp_path / "queries.tsv").write_text("query\titem_id\na\nb\tP1\tmany\n")
    with pytest.raises(DataError, match="(?s)2 problems.*line 2.*line 3"):
        Magento(tmp_path).queries()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a &lt;b&gt; c", "a c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<style>p{}</style>x{{media url=&quot;y&quot;}}<!-- no -->z", "x z"),
        ("<li>one<li>two&trade;&nbsp;&bull; three", "one two™ three"),
        ("", ""),
    ],
)
def test_strip_html(text, expected):
    assert strip_html(text) == expected


NAMES = st.text("abcxyz_", min_size=1, max_size=5)
VALUES = st.text("abc XY7-é", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=3, unique=True), max_size=4))
def test_pairs_round_trip(pairs):
    text = ",".join(f"{key}={'|'.join(values)}" for key, values in pairs.items())
    assert parse_pairs(text) == {key: tuple(values) for key, values in pairs.items()}


@given(st.text("ab./\\:", max_size=12))
def test_image_paths_never_leave_the_folder(text):
    path = safe_path(text)
    assert path is None or not (path.startswith("/") or ".." in path.split("/") or "\\" in path)


def test_categories_and_commas_in_values():
    assert category_paths("Root/Men/Tees,Root,Root/A\\/B &amp; C") == (("Men", "Tees"), ("A/B & C",))
    assert parse_pairs('note="red, or so",color=Blue,empty=') == {"note": ("red, or so",), "color": ("Blue",)}


def test_hidden_values_come_back_through_no_tag():
    attributes = {"gender": ("Men",), "style": ("Laptop",), "extra": ("For men", "Mental"), "count": ("12",)}
    product = Product("x", "n", "d", (("Men", "Tees"), ("Men Sale",), ("Gift Laptop Sleeve",)), attributes, ())
    assert tags(product, ("gender", "style")) == "Tees, Mental"
    assert tags(product, ()) == "Tees, Men Sale, Gift Laptop Sleeve, Men, Laptop, For men, Mental"


def test_the_tally_of_rows_always_adds_up(tmp_path):
    tally = Tally()
    folder = write_export(tmp_path, [*SHIRT, row("T"), row("U", name="")], SHIRT_IMAGES)
    products = read_export([folder / "products.csv"], folder / MEDIA[0], tally)
    assert tally.read == tally.kept + tally.merged + tally.dropped == 7
    assert [product.sku for product in products] == ["S", "T"]
