"""Shopify exports: the three headers in the wild, rows of one handle, photographs by file name, rows that add up."""

import csv
import io
import os
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from standin import StandIn

from ftbench.errors import DataError
from ftbench.items import silent, split_of
from ftbench.sources.rows import SHARES, Tally
from ftbench.sources.shopify import COLUMNS, Shopify, address_of, columns_of, parse_export, path_of, read_export
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
CDN = "https://cdn.shopify.com/s/files/1/0001/products/"

OLDER = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,Option2 Value,"
    "Option3 Name,Option3 Value,Variant SKU,Variant Price,Image Src,Image Alt Text,Gift Card,Variant Image"
)
OLD = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,"
    "Option2 Value,Option3 Name,Option3 Value,Variant SKU,Variant Price,Image Src,Image Position,Image Alt Text,"
    "Gift Card,SEO Title,SEO Description,Variant Image,Variant Weight Unit,Variant Tax Code,Cost per item,Status"
)
NEW = (
    "Title,URL handle,Description,Vendor,Product category,Type,Tags,Published on online store,Status,SKU,Barcode,"
    "Option1 name,Option1 value,Option1 Linked To,Option2 name,Option2 value,Price,Product image URL,Image position,"
    "Image alt text,Variant image URL,Gift card,SEO title,SEO description"
)
HEADERS = {"older": OLDER, "old": OLD, "new": NEW}


def write(path, rows, header=OLD):
    """An export; the rows' keys are those of COLUMNS, written under the header's own names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = header.split(",")
    columns, problems = columns_of(names)
    assert not problems
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({columns[key]: cell for key, cell in row.items() if key in columns} for row in rows)
    return path


def shop(folder, rows, photographs=(), **options):
    """A source over an export and a folder of photographs: name -> bytes, or names whose bytes are the names."""
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    for name in photographs:
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(photographs[name] if isinstance(photographs, dict) else name.encode())
    options = {"images": media, "name": "mine"} | options
    return Shopify(rows if not isinstance(rows, list) else write(folder / "products.csv", rows), **options)


def read(source):
    return {item.item_id: item for item in source.items(silent)}


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def images(item):
    return [(view.name, view.role, view.content.name) for view in item.views if view.kind == "image"]


def row(handle, image="", position="", **cells):
    return {"handle": handle, "image": image and CDN + image, "position": position} | cells


TEE = [
    row("tee", "c.jpg?v=9", "3", title="Fine &amp; Light Tee", body="<p>Soft.<br>Caf&eacute;</p>", vendor="Acme",
        type="Shirts", tags="cotton, summer,Cotton, ", published="true", status="active", **{"option1 name": "Color",
        "option1 value": "Red", "option2 name": "Size", "option2 value": "M", "variant": CDN + "red.jpg"}),
    row("hat", "h.jpg", "1", title="Hat", category="Apparel > Clothing > Hats"),
    row("tee", "a.jpg", "1", **{"option1 value": "Blue", "option2 value": "M", "variant": CDN + "a.jpg?v=2"}),
    row("tee", "z.jpg", ""),
    row("tee", "b.jpg", "2"),
    row("tee", "y%20y.jpg", "first"),
]  # fmt: skip
PHOTOGRAPHS = ("a.jpg", "b.jpg", "c.jpg", "y y.jpg", "z.jpg", "red.jpg", "h.jpg")


@pytest.mark.parametrize("header", HEADERS)
def test_each_header_in_the_wild(tmp_path, header):
    source = shop(tmp_path, write(tmp_path / "products.csv", TEE, HEADERS[header]), PHOTOGRAPHS)
    items = read(source)
    assert list(items) == ["tee", "hat"]
    tee = items["tee"]
    ordered = ["c.jpg", "a.jpg", "z.jpg", "b.jpg", "y y.jpg"]  # as the rows come, where the export has no positions
    if header != "older":
        ordered = ["a.jpg", "b.jpg", "c.jpg", "z.jpg", "y y.jpg"]
    assert [name for *_, name in images(tee)] == [*ordered, "red.jpg"]
    assert images(tee)[0][:2] == ("main", "primary")
    assert texts(tee) == {
        "title": "Fine & Light Tee",
        "description": "Soft. Café",
        "tags": "Shirts, cotton, summer, Acme",
    }
    assert tee.category == "Shirts" and items["hat"].category == ("Hats" if header != "older" else "")
    assert tee.attributes == {
        "color": "Red|Blue", "size": "M", "vendor": "Acme", "tags": "Shirts|cotton|summer|Cotton|Acme",
    }  # fmt: skip
    assert source.rows["products"] == {"read": 6, "kept": 2, "merged": 4, "dropped": 0} and source.dropped == {}


def test_odd_rows_are_dropped_and_counted(tmp_path):
    rows = [
        row("a", title="A"),
        row("", title="No handle"),
        row("x" * 300, title="Long"),
        row("untitled", "u.jpg"),
        row("untitled", "v.jpg"),
        row("draft", title="Draft", status="draft"),
        row("draft", "d.jpg"),
        row("hidden", title="Hidden", published="FALSE"),
        row("My Handle", title="<b>Spaces</b>"),
        row("late", "l.jpg", "2"),
        row("late", "k.jpg", "1", title="Title on the second row"),
    ]
    path = write(tmp_path / "products.csv", rows)
    with open(path, "a", encoding="utf-8") as file:
        file.write("b,too,few\n,,\n\n")
    source = shop(tmp_path, path, ["l.jpg", "k.jpg"])
    items = read(source)
    assert list(items) == ["a", "My-Handle", "late"]
    assert [name for *_, name in images(items["late"])] == ["k.jpg", "l.jpg"]
    assert source.rows["products"] == {"read": 12, "kept": 3, "merged": 1, "dropped": 8}
    assert source.dropped == {
        "row without a handle": 1,
        "row with a handle that is none": 1,
        "row of a product without a title": 2,
        "row of a product that is a draft or archived": 2,
        "row of a product that is not published": 1,
        "row with another number of cells than the header": 1,
    }


def test_photographs_are_found_by_file_name(tmp_path):
    rows = [
        row("a", "one.jpg", "1", title="A"),
        row("a", "gone.jpg", "2"),
        row("a", "twice.jpg", "3"),
        row("b", "same.jpg", title="B"),
        {
            "handle": "c",
            "title": "C",
            "image": "http://[broken/x.jpg",
            "variant": "https://host.example/files/same.jpg",
        },
        {"handle": "d", "title": "D", "image": "C:\\photos\\own.jpg"},
        {"handle": "e", "title": "E", "image": "https://host.example/a/..%2F"},
        {"handle": "f", "title": "F", "image": "https://host.example/secret.jpg"},
    ]
    photographs = ["one.jpg", "x/twice.jpg", "y/twice.jpg", "same.jpg", "x/own.jpg"]
    source = shop(tmp_path, rows, photographs)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "media" / "secret.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "media" / "out").symlink_to(tmp_path)
    items = read(source)
    assert images(items["a"]) == [("main", "primary", "one.jpg"), ("additional", "auxiliary", "gone.jpg")]
    assert images(items["d"]) == [("main", "primary", "own.jpg")]
    assert not any(images(items[handle]) for handle in "bcef")
    assert source.dropped == {
        "image whose file name several files have": 1,
        "image whose file name several addresses have": 2,
        "image address without a file name": 2,
        "image whose file is a link out of the folder": 1,
    }


def test_a_folder_of_other_photographs_is_an_error(tmp_path):
    with pytest.raises(DataError, match="(?s)none of the export's 7 photographs.*'a.jpg'"):
        read(shop(tmp_path, TEE, ["other.jpg"]))


def test_shared_photographs_make_one_group_and_one_split(tmp_path):
    rows = []
    for i in range(30):
        rows.append(row(f"p{i:02}", f"{i}.jpg", title=f"P {i}"))
        if i % 3:
            rows.append(row(f"p{i:02}", f"{i + 1}.jpg"))
    rows += [row(f"q{i:02}", "banner.jpg", title=f"Q {i}") for i in range(21)] + [row("copy", "copy.jpg", title="C")]
    photographs = {f"{i}.jpg": b"%d" % i for i in range(31)} | {"banner.jpg": b"banner", "copy.jpg": b"1"}
    source = shop(tmp_path, rows, photographs)
    items = read(source)
    for a, b in combinations(items.values(), 2):
        if {n for *_, n in images(a)} & {n for *_, n in images(b)}:
            assert (a.group, a.split) == (b.group, b.split)
    assert items["p03"].group == items["p01"].group == items["copy"].group == "copy"
    assert all(item.split == split_of("item", item.group, SHARES) for item in items.values())
    assert source.dropped == {"image shared by more than 20 products": 21}


def test_problems_of_all_files_are_told_together(tmp_path):
    folder = tmp_path / "exports"
    write(folder / "1.csv", TEE)
    (folder / "2.csv").write_text("Handle;Title;Body (HTML);Vendor;Tags;Image Src\na;b;c;d;e;f\n")
    (folder / "3.csv").write_text("Handle,Title,Title,Vendor\na,b,c,d\n")
    (folder / "4.csv").write_bytes("Handle,Title,Body (HTML),Image Src\nä,b,c,d\n".encode("latin-1"))
    (folder / "5.csv").write_text('Handle,Title,Body (HTML),Image Src\na,b,c,d\ne,"f,g,h\ni,j,k,l\n')
    (folder / "6.csv").write_text("")
    with pytest.raises(DataError) as caught:
        read(Shopify(folder, None, "mine"))
    message = str(caught.value)
    for part in (
        "2.csv, row 1: cells are separated by ';'", "3.csv, row 1: the column Title occurs 2 times",
        "3.csv, row 1: missing column 'body (html)' or 'description'", "3.csv, row 1: missing column 'image src' or",
        "4.csv: not UTF-8", "5.csv, row 3: a quotation mark", "6.csv, row 1: missing column 'handle' or 'url handle'",
    ):  # fmt: skip
        assert part in message
    assert "1.csv" not in message and message.count("4.csv") == 1
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    write(folder / "2.csv", [row("hat", "back.jpg", "2"), row("bag", "bag.jpg", title="Bag")])
    items = read(Shopify(folder, None, "mine"))
    assert list(items) == ["tee", "hat", "bag"] and not images(items["bag"])


def test_photographs_are_downloaded_from_their_addresses(tmp_path):
    colours = {"a": (200, 0, 0), "b": (0, 200, 0), "c": (0, 0, 200)}
    files = {}
    for name, colour in colours.items():
        out = io.BytesIO()
        Image.new("RGB", (400, 300), colour).save(out, format="PNG")
        files[f"/files/{name} {name}.png"] = out.getvalue()
    with StandIn(files=files) as server:
        server.misbehave("/files/page.png", "html")
        base = f"{server.url}/files"
        cells = (
            f"{base}/a a.png?v=1",
            f"{base}/b%20b.png",
            f"{base}/gone.png",
            f"{base}/page.png",
            "a.png",
            "file:///etc/hosts",
        )
        rows = [{"handle": "p", "title": "P", "image": cell, "position": str(i)} for i, cell in enumerate(cells)]
        rows += [
            {"handle": "q", "title": "Q", "image": f"{base}/b b.png"},
            {"handle": "r", "title": "R", "image": f"{base}/c c.png"},
        ]
        path = write(tmp_path / "products.csv", rows)
        source = Shopify(path, None, "mine", download=tmp_path / "images")
        items = read(source)
        seen = len(server.requests)
        again = Shopify(path, None, "mine", download=tmp_path / "images")
        assert read(again) == items and len(server.requests) == seen
    shown = {handle: [Image.open(v.content) for v in item.views if v.kind == "image"] for handle, item in items.items()}
    assert [picture.size for picture in shown["p"]] == [(256, 192)] * 2
    assert shown["p"][0].getpixel((9, 9))[0] > 190 and shown["r"][0].getpixel((9, 9))[2] > 190
    assert items["p"].group == items["q"].group == "p" and items["r"].group == "r"
    assert (
        source.dropped
        == again.dropped
        == {
            "image not to be had (404)": 1,
            "image not to be had (not an image)": 1,
            "image whose address is no web address": 2,
        }
    )


def test_wrong_paths_are_told_together(tmp_path):
    with pytest.raises(DataError) as caught:
        Shopify(tmp_path / "no.csv", tmp_path / "no", "mine", tmp_path / "no.tsv", tmp_path / "downloads")
    assert "4 problems" in str(caught.value) and "or `download`: --images" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no .csv"):
        Shopify(tmp_path / "empty", None, "mine")


def test_own_queries_and_prepared_data(tmp_path):
    rows = [row(f"p{i}", f"{i}.png", title=f"Lamp {i}") for i in range(12)]
    lines = [f"lamp {q}\tp{i}\t{1 + i % 3}" for q in range(20) for i in range(12)] + ["lamp\tgone"]
    (tmp_path / "mine.tsv").write_text("\n".join(["query\titem_id\tgain", *lines]))
    source = shop(tmp_path, rows, queries=tmp_path / "mine.tsv")
    for i in range(12):
        Image.new("RGB", (20, 10), (20 * i, 0, 0)).save(tmp_path / "media" / f"{i}.png")
    found = source.queries()
    assert found.judgements and found.interactions and source.queries() == found
    assert source.rows["queries"]["read"] == 241 and source.dropped["query line that names an absent product"] == 1
    catalogue = prepare(source, silent, tmp_path / "cache")
    assert len(catalogue.item_ids) == 12 and (catalogue.view_ids("image") >= 0).all()


@pytest.mark.parametrize(
    ("cell", "address", "path"),
    [
        ("https://h.example/a/b.jpg?v=1#x", "https://h.example/a/b.jpg?v=1#x", "/a/b.jpg"),
        ("//h.example/ü b.jpg", "https://h.example/%C3%BC%20b.jpg", "/ü b.jpg"),
        ("photos/a.jpg", "photos/a.jpg", "photos/a.jpg"),
        ("http://[x", "http://[x", ""),
        ("\ud800", "", ""),
        ("  ", "", ""),
    ],
)
def test_addresses(cell, address, path):
    assert (address_of(cell), path_of(address_of(cell))) == (address, path)


CELL = st.text(max_size=6) | st.sampled_from(
    [
        "a",
        "b",
        "1",
        "inf",
        "nan",
        "-1",
        "1e999",
        "true",
        "FALSE",
        "draft",
        "<script>" * 50,
        CDN + "a.jpg",
        "//[",
        "\0",
        ",",
        ">",
    ]
)
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, CELL))


@FUZZ
@given(st.lists(ROW, max_size=8))
def test_no_row_is_lost(rows):
    tally = Tally(read=len(rows))
    found = parse_export(rows, tally)
    assert tally.read == tally.kept + tally.merged + tally.dropped
    assert tally.dropped == sum(tally.reasons.values())
    assert len(found) == tally.kept == len({listing.item_id for listing in found})
    for listing in found:
        for text in (listing.title, listing.description, listing.category, *listing.tags, *listing.images):
            text.encode()


NOISE = st.binary(max_size=12) | st.sampled_from(
    [b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b";", b"\xef\xbb\xbf"]
)


@FUZZ
@given(st.sampled_from(sorted(HEADERS)), st.lists(st.tuples(NOISE, st.integers(0, 900)), max_size=4), st.data())
def test_exports_of_any_bytes_are_read_or_refused(tmp_path_factory, header, noise, data):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    path = write(folder / "products.csv", TEE, HEADERS[header])
    content = path.read_bytes()
    for insert, place in noise:
        content = content[:place] + insert + content[place + data.draw(st.integers(0, 9)) :]
    path.write_bytes(content)
    tally = Tally()
    try:
        found = read_export([path], tally)
    except DataError as problem:
        assert "products.csv" in str(problem)
        return
    assert tally.read == tally.kept + tally.merged + tally.dropped and len(found) == tally.kept
    records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
    assert tally.read == sum(any(cells) for cells in records)
