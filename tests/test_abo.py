"""Amazon Berkeley Objects: groups over shared photographs, capped kinds, hostile archives, rows that add up."""

import gzip
import io
import json
import os
import tarfile
from collections import Counter
from itertools import combinations

import pytest
from abo_files import add, listing, path_of, picture, said, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin import StandIn

from ftbench.errors import DataError
from ftbench.items import silent, split_of
from ftbench.sources.abo import (
    ARCHIVE,
    FILES,
    IMAGES,
    LISTINGS,
    SERVER,
    VARIABLE,
    Abo,
    localized,
    missing_files,
    parse_head,
    parse_images,
    text_views,
)
from ftbench.sources.abo_archive import index_archive, listing_lines
from ftbench.sources.rows import LARGE_SHARES, Tally
from ftbench.sources.tables import json_rows
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def sample_server(monkeypatch):
    """Files of these tests are not of the published size; nothing listens here, so nothing is fetched either."""
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9")


def read(folder, tier=None, **options):
    source = Abo(tier, folder, "abo", **options)
    return source, {item.item_id: item for item in source.items(silent)}


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def images(item):
    return [(view.name, view.role, view.content.name) for view in item.views if view.kind == "image"]


def adds_up(source):
    for counts in source.rows.values():
        assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"]


CAKE = listing(
    "B0841RDVFS",
    ("81H", "31K", "81H", "GONE"),
    item_name=[*said("Torte", tag="de_DE"), *said("A <b>cake</b> &amp; tea", "A cake"), *said("Cake!", tag="en_GB")],
    bullet_point=[*said("Saftig", tag="de_DE"), *said("Moist", "Sweet", "Moist")],
    product_description=said("<p>With cream.</p>"),
    item_keywords=said("cake", "party"),
    color=said("Brown"),
    material=said("cake"),
    brand=said("Nobody"),
    node=[{"node_id": 1, "node_name": "/Food"}],
)


def test_a_listing_becomes_an_item(tmp_path):
    folder = write(tmp_path, [CAKE, listing("B2", domain="amazon.de", item_name=said("Nur deutsch", tag="de_DE"))],
                   {"81H": picture(1), "31K": picture(2)})  # fmt: skip
    source, items = read(folder)
    cake, german = items["amazon.com:B0841RDVFS"], items["amazon.de:B2"]
    assert images(cake) == [("main", "primary", "81h.jpg"), ("additional", "auxiliary", "31k.jpg")]
    assert texts(cake) == {
        "title": "A cake & tea",
        "description": "Moist Sweet With cream.",
        "tags": "cake, party, Brown",
    }
    assert (cake.category, cake.attributes, german.attributes) == ("CAKE", {"language": "en_US"}, {"language": "de_DE"})
    assert texts(german) == {"title": "Nur deutsch"} and images(german) == []
    assert source.dropped == {"image that the archive does not have": 1}
    assert source.queries().queries == ()
    first = next(view.content for view in cake.views if view.kind == "image")
    assert first.read_bytes() == picture(1)
    adds_up(source)


def test_every_key_is_optional_and_odd_lines_are_counted(tmp_path):
    rows = [
        {"item_id": "A", "domain_name": "amazon.com", "item_name": said("Bare")},
        {"item_id": "A", "domain_name": "amazon.com", "item_name": said("The same key again")},
        {"domain_name": "amazon.com", "item_name": said("No id")},
        {"item_id": "B", "item_name": said("No domain")},
        {"item_id": "C", "domain_name": "amazon.com"},
        {"item_id": "D", "domain_name": "amazon.com", "item_name": said("<p> </p>")},
        {"item_id": "E", "domain_name": "amazon.com", "item_name": "Odd types", "main_image_id": 5},
        listing("F", main_image_id={}, other_image_id="x", product_type="CAKE", bullet_point=[3, {"value": None}]),
    ]
    garbage = [b"{torn", b"[1]", b"\xff\xfe{}", b"[" * 100_000, b'{"item_id": ' + b"9" * 5000 + b"}", b"", b"\0"]
    source, items = read(write(tmp_path, rows, {}, garbage))
    assert set(items) == {"amazon.com:A", "amazon.com:F"}
    assert source.rows["listings"] == {"read": 14, "kept": 2, "merged": 0, "dropped": 12}
    assert source.dropped == {
        "listing with a key seen before": 1,
        "listing without an item_id or a domain_name": 2,
        "listing without a name": 3,
        "line that is not UTF-8": 1,
        "line nested too deeply": 1,
        "line that is not JSON": 3,
        "line that is not an object": 1,
    }


def test_shared_photographs_and_products_are_one_group_and_one_split(tmp_path):
    rows = [listing(f"P{i:02}", (f"I{i}", f"I{i + 1}") if i % 3 else (f"I{i}",)) for i in range(30)]
    rows += [listing("P05", ("X1",), domain="amazon.in"), listing("Q1", ("X1",)), listing("Q2", ("SAME",))]
    photographs = {f"I{i}": picture(i) for i in range(31)} | {"X1": picture(500), "SAME": picture(7)}
    _, items = read(write(tmp_path, rows, photographs))
    files = {
        item_id: {v.content.read_bytes() for v in item.views if v.kind == "image"} for item_id, item in items.items()
    }
    for a, b in combinations(items.values(), 2):
        if files[a.item_id] & files[b.item_id]:
            assert (a.group, a.split) == (b.group, b.split)
    assert items["amazon.in:P05"].group == items["amazon.com:Q1"].group == items["amazon.com:P04"].group
    assert items["amazon.com:Q2"].group == items["amazon.com:P07"].group == "amazon.com:P07"
    assert all(item.split == split_of("item", item.group, LARGE_SHARES) for item in items.values())
    _, bare = read(tmp_path, with_images=False)
    assert bare["amazon.com:Q1"].group == items["amazon.com:Q1"].group
    assert bare["amazon.com:Q2"].group == "amazon.com:Q2" and not images(bare["amazon.com:P07"])


def test_placeholders_are_counted_by_product(tmp_path):
    offers = [listing("ONE", ("OFFER",), domain=f"amazon.{i}") for i in range(30)]
    rows = offers + [listing(f"P{i:02}", ("BANNER", f"I{i}")) for i in range(21)]
    source, items = read(write(tmp_path, rows))
    assert images(items["amazon.com:P03"]) == [("main", "primary", "i3.jpg")]
    assert images(items["amazon.4:ONE"]) == [("main", "primary", "offer.jpg")]
    assert len({item.group for item in items.values()}) == 22
    assert source.dropped == {"image shared by more than 20 products": 21}


def test_at_most_eight_images_and_no_repeats(tmp_path):
    ids = [f"I{i}" for i in range(11)]
    photographs = {image_id: picture(max(i, 1)) for i, image_id in enumerate(ids)}
    source, items = read(write(tmp_path, [listing("A", ids)], photographs))
    assert [name for *_, name in images(items["amazon.com:A"])] == ["i0.jpg", *(f"i{i}.jpg" for i in range(2, 9))]
    assert source.dropped == {"image beyond the first 8 of an item": 2, "image that repeats another of its item": 1}


def test_kinds_are_capped_before_tiers_and_tiers_nest(tmp_path):
    rows = [listing(f"C{i}", kind="CELLULAR_PHONE_CASE") for i in range(300)] + [
        listing(f"S{i}", kind="") for i in range(80)
    ]
    folder = write(tmp_path, rows)
    found = {}
    for tier in (30, 90, None, 10_000):
        source = Abo(tier, folder, "abo")
        source.most_of_a_kind = 40
        found[tier] = {item.item_id: item for item in source.items(silent)}
        adds_up(source)
    assert source.rows["listings"] == {"read": 380, "kept": 120, "merged": 0, "dropped": 260}
    assert source.dropped == {"listing beyond 40 of its product type": 260}
    assert len(found[30]) == 30 and len(found[90]) == 90 and len(found[None]) == 120
    assert found[30].keys() < found[90].keys() < found[None].keys() == found[10_000].keys()
    assert all(found[None][item_id] == item for item_id, item in found[30].items())
    assert Counter(item.category for item in found[None].values()) == {"CELLULAR_PHONE_CASE": 40, "": 80}
    cases = sum(item.category != "" for item in found[30].values())
    assert cases <= 16  # 10 expected of 30; without a hash of its own, the cap would leave 24


def test_hostile_archives_write_nothing_outside(tmp_path):
    folder = write(tmp_path / "abo", [listing("A", ("EVIL", "ABS", "LINK", "HARD", "OK"))], {})
    with gzip.open(folder / IMAGES, "wt") as file:
        file.write(
            "image_id,height,width,path\nEVIL,1,1,../../evil.jpg\nABS,1,1,/abs.jpg\nLINK,1,1,aa/link.jpg\n"
            "HARD,1,1,aa/hard.jpg\nOK,1,1,aa/ok.jpg\nTWO,1\nOK,1,1,other.jpg\n"
        )
    with tarfile.open(folder / ARCHIVE, "w") as archive:
        add(archive, "../evil.jpg", picture(1))
        add(archive, "images/small/../../../evil.jpg", picture(1))
        add(archive, "/images/small/abs.jpg", picture(1))
        add(archive, "images/small/aa/link.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "images/small/aa/hard.jpg", type=tarfile.LNKTYPE, linkname="../../../secret")
        add(archive, "images/small/aa/pipe", type=tarfile.FIFOTYPE)
        add(archive, "images/README.md", b"read me")
        add(archive, "images/small/aa/ok.jpg", picture(2))
        add(archive, "./images/small/aa/ok.jpg", picture(3))
    source, items = read(folder)
    assert images(items["amazon.com:A"]) == [("main", "primary", "ok.jpg")]
    assert source.rows["archive"] == {"read": 9, "kept": 1, "merged": 1, "dropped": 7}
    assert source.rows["images"] == {"read": 7, "kept": 4, "merged": 1, "dropped": 2}
    assert source.dropped == {
        "archive member whose name leaves the folder": 3,
        "archive member that is a link or no plain file": 3,
        "archive member that is no small image": 1,
        "image row without an id or a path inside the archive": 1,
        "image row with another number of cells than the header": 1,
        "image that the archive does not have": 4,
    }
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {f"abo/{name}" for name in (LISTINGS, IMAGES, ARCHIVE, "images/aa/ok.jpg")}
    assert (folder / "images/aa/ok.jpg").read_bytes() == picture(3)


def test_a_link_in_the_folder_of_photographs_is_not_followed(tmp_path):
    folder = write(tmp_path / "abo", [listing("A", ("I1",))])
    (folder / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "images" / path_of("I1")[:2]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="by a link"):
        read(folder)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_crash_left_behind_is_written_again(tmp_path):
    folder = write(tmp_path, [listing("A", ("I1",))])
    read(folder)
    file = folder / "images" / path_of("I1")
    for torn in (file.read_bytes()[:50], b"\0" * file.stat().st_size):
        file.write_bytes(torn)
        read(folder)
        assert file.read_bytes() == picture(0)


def test_damaged_files_say_what_is_wrong(tmp_path):
    folder = write(tmp_path, [listing(f"P{i}", (f"I{i}",)) for i in range(40)])
    whole = {name: (folder / name).read_bytes() for name in (LISTINGS, IMAGES, ARCHIVE)}
    for name, damage, expected in (
        (ARCHIVE, lambda data: data[: len(data) // 2], "whole tar"),
        (ARCHIVE, lambda data: data[: 512 * 4], "whole tar"),
        (ARCHIVE, lambda data: data[:512] + b"x" * 512 + data[1024:], "no end mark at byte 512"),
        (ARCHIVE, lambda data: b"<html>", "whole tar"),
        (LISTINGS, lambda data: b"", "(?s)whole tar.*listings_0.json.gz is missing.*listings_f.json.gz is missing"),
        (
            LISTINGS,
            lambda data: data.replace(b"listings_3", b"listings_z"),
            "not a whole|listings_3.json.gz is missing",
        ),
        (LISTINGS, lambda data: data.replace(b"\x1f\x8b", b"\x1f\x8c", 2), "(?s)listings_0.*listings_1.json.gz cannot"),
        (IMAGES, lambda data: data[:-9], "to its end"),
        (IMAGES, lambda data: gzip.compress(b"a,b\n"), "no column image_id, path"),
    ):
        (folder / name).write_bytes(damage(whole[name]))
        with pytest.raises(DataError, match=expected):
            read(folder)
        (folder / name).write_bytes(whole[name])
    assert len(read(folder)[1]) == 40


def test_a_source_is_the_same_twice_and_prepares(tmp_path):
    folder = write(tmp_path / "abo", [listing(f"P{i}", (f"I{i}", f"J{i}")) for i in range(40)])
    source, items = read(folder)
    assert {item.item_id: item for item in source.items(silent)} == items
    catalogue = prepare(Abo(25, folder, "abo@25"), silent, tmp_path / "cache")
    assert len(catalogue.item_ids) == 25 and catalogue.info.redistributable
    assert (catalogue.view_ids("image") >= 0).all()


def test_files_are_fetched_from_their_server_once(tmp_path, monkeypatch):
    made = write(tmp_path / "made", [listing(f"P{i}", (f"I{i}",)) for i in range(20)])
    with StandIn(files={f"/sample/{path}": (made / name).read_bytes() for name, (path, _) in FILES.items()}) as server:
        monkeypatch.setenv(VARIABLE, f"{server.url}/sample/")
        _, bare = read(tmp_path / "bare", with_images=False)
        assert [path.name for path in (tmp_path / "bare").glob("[!.]*")] == [LISTINGS] and len(bare) == 20
        server.misbehave(f"/sample/{FILES[ARCHIVE][0]}", "cut", times=1)
        _, items = read(tmp_path / "folder")
        assert len(items) == 20 and all(images(item) for item in items.values())
        seen = len(server.requests)
        assert read(tmp_path / "folder")[1] == items
        assert len(server.requests) == seen
        server.misbehave(f"/sample/{FILES[LISTINGS][0]}", "html")
        with pytest.raises(DataError, match="a web page"):
            read(tmp_path / "other")


def test_files_of_another_size_than_published_are_not_taken(tmp_path):
    folder = write(tmp_path, [listing("A")])
    missing = missing_files(folder, SERVER, True)
    assert {name: size for name, (_, size) in missing.items()} == {LISTINGS: 87_480_320, ARCHIVE: 3_253_381_120}
    assert missing[LISTINGS][0] == f"{SERVER}/archives/abo-listings.tar"
    assert list(missing_files(folder, SERVER, False)) == [LISTINGS]
    assert not missing_files(folder, "http://127.0.0.1:9", True)


def test_localized_values():
    assert localized([*said("rot", tag="de_DE"), *said("vert", tag="fr_FR"), *said("grün", tag="de_DE")]) == (
        ("rot", "grün"),
        "de_DE",
    )
    assert localized([{"value": "CAKE"}]) == (("CAKE",), "")
    assert localized(None) == localized("x") == localized([]) == localized([[], {}, {"value": 3}]) == ((), "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        key: JSON | st.just(CAKE[key])
        for key in ("item_id", "domain_name", "item_name", "bullet_point", "color", "product_type", "main_image_id",
                    "other_image_id")
    },
).map(lambda row: json.dumps(CAKE | row).encode())  # fmt: skip
LINES = st.lists(
    FIELDS | st.binary(max_size=30) | FIELDS.flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n])),
    max_size=6,
)


@FUZZ
@given(LINES)
def test_no_line_is_lost(lines):
    tally, found = Tally(), []
    for row in json_rows(lines, tally):
        head = parse_head(row)
        if isinstance(head, str):
            tally.drop(head)
        else:
            tally.kept += 1
            found.append((head, text_views(row)))
    assert tally.read == sum(bool(line.strip()) for line in lines) == tally.kept + tally.dropped
    assert tally.dropped == sum(tally.reasons.values())
    for head, views in found:
        assert head.item_id.isprintable() and views[0].name == "title"
        assert all(view.content.encode() for view in views)


@FUZZ
@given(
    st.lists(
        st.binary(max_size=20) | st.sampled_from([b"A,1,1,aa/b.jpg", b'"A,1', b"A,1,1,../x", b"\xef\xbb\xbfB,1,1,c"])
    )
)
def test_no_image_row_is_lost(lines):
    tally = Tally()
    paths = parse_images([b"image_id,height,width,path\n", *lines], tally)
    assert tally.read == tally.kept + tally.merged + tally.dropped == sum(bool(line.strip()) for line in lines)
    assert len(paths) == tally.kept
    assert not any(path.startswith("/") or ".." in path.split("/") for path in paths.values())


@FUZZ
@given(st.binary(max_size=600), st.integers(0, 3000), st.booleans())
def test_archives_of_any_bytes_end_in_an_error_or_whole(noise, place, inside_it):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "images/small/aa/ok.jpg", b"x" * 700)
        add(archive, "images/small/aa/two.jpg", b"y")
    data = out.getvalue()
    data = data[:place] + noise + data[place + len(noise) :] if inside_it else noise
    tally = Tally()
    for reader in (lambda f: index_archive(f, "a.tar", tally, silent), lambda f: list(listing_lines(f, "a.tar"))):
        try:
            reader(io.BytesIO(data))
        except DataError as problem:
            assert "a.tar" in str(problem)
    assert tally.read == tally.kept + tally.merged + tally.dropped
