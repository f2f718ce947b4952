"""Catalogues in ftbench's own form: rows that add up, paths that stay inside, queries that keep to their splits."""

import json
import os
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ftbench.errors import DataError
from ftbench.items import normalize_query, silent, split_of
from ftbench.sources.folder import PRODUCTS, Folder, parse_products
from ftbench.sources.folder_queries import INTERACTIONS, OWN, QRELS, QUERIES, Evidence
from ftbench.sources.rows import SHARES, Tally
from ftbench.store import prepare

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


def write(folder, rows, photographs=(), **files):
    """A catalogue folder. rows: objects, or lines as they are; photographs: path -> bytes, or paths."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / PRODUCTS).write_bytes(b"\n".join(lines))
    for path in photographs:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photographs[path] if isinstance(photographs, dict) else path.encode())
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def read(folder, **options):
    source = Folder(folder, "mine", **options)
    return source, {item.item_id: item for item in source.items(silent)}


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def images(item):
    return [(view.name, view.role, view.content.name) for view in item.views if view.kind == "image"]


def row(item_id, *paths, **fields):
    return {"item_id": item_id, "title": f"Title of {item_id}", "images": list(paths)} | fields


def test_rows_become_items(tmp_path):
    rows = [
        row("b", "p/1.jpg", "p/2.jpg", "./p/1.jpg", "copy.jpg", "gone.jpg", description="<p>Soft &amp; warm</p>",
            tags=["Red", "red", "", "wool"], category="Hats", price=3),
        {"item_id": 7, "title": "Bare"},
        row("a", tags="x, y", images=None, description=None),
        b"",
        row("a"),
        row("c", title="<br>"),
    ]  # fmt: skip
    photographs = {"p/1.jpg": b"one", "p/2.jpg": b"two", "copy.jpg": b"two"}
    source, items = read(write(tmp_path, rows, photographs))
    assert list(items) == ["b", "7", "a"]
    hat = items["b"]
    assert images(hat) == [
        ("main", "primary", "1.jpg"),
        ("additional", "auxiliary", "2.jpg"),
        ("additional 2", "auxiliary", "gone.jpg"),
    ]
    assert texts(hat) == {"title": "Title of b", "description": "Soft & warm", "tags": "Red, wool"}
    assert hat.category == "Hats"
    assert texts(items["7"]) == {"title": "Bare"} and texts(items["a"])["tags"] == "x, y"
    assert source.rows == {"products": {"read": 5, "kept": 3, "merged": 0, "dropped": 2}}
    assert source.dropped == {
        "product with an item_id seen before": 1,
        "product without a title": 1,
        "image that repeats another of its item": 1,
    }
    assert not images(read(tmp_path, with_images=False)[1]["b"])


def test_shared_photographs_make_one_group_and_one_split(tmp_path):
    rows = [row(f"P{i:02}", f"{i}.jpg", *([f"{i + 1}.jpg"] if i % 3 else [])) for i in range(30)]
    rows += [row(f"Q{i:02}", "banner.jpg", f"q{i}.jpg") for i in range(21)]
    names = [f"{i}.jpg" for i in range(31)] + ["banner.jpg"] + [f"q{i}.jpg" for i in range(21)]
    source, items = read(write(tmp_path, rows, names))
    for a, b in combinations(items.values(), 2):
        if {n for *_, n in images(a)} & {n for *_, n in images(b)}:
            assert (a.group, a.split) == (b.group, b.split)
    assert items["P01"].group == items["P03"].group == "P01"
    assert all(item.split == split_of("item", item.group, SHARES) for item in items.values())
    assert {items[f"Q{i:02}"].group for i in range(21)} == {f"Q{i:02}" for i in range(21)}
    assert source.dropped == {"image shared by more than 20 products": 21}


def test_at_most_eight_images(tmp_path):
    names = [f"{i}.jpg" for i in range(11)]
    source, items = read(write(tmp_path, [row("a", *names)], names))
    assert [name for *_, name in images(items["a"])] == names[:8]
    assert source.dropped == {"image beyond the first 8 of an item": 3}


def test_malformed_rows_are_told_together(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    rows = [
        row("a", "../secret.jpg", "/etc/hosts", "link.jpg", "out/secret.jpg", "C:\\x.jpg", "in/ok.jpg"),
        b"{torn",
        b"\xff\xfe",
        [1],
        {"title": "no id"},
        row("with space"),
        row("b", title=5, tags={"a": 1}, category=["x"]),
        row("c", images="one.jpg"),
        {"item_id": "d", "title": "typo", "image": ["a.jpg"]},
        row("e", "\0.jpg", "a" * 300 + ".jpg", "\ud800.jpg"),
        row("ok", "in/ok.jpg", "in/loop"),
    ]
    folder = write(tmp_path / "mine", rows, ["in/ok.jpg"])
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "out").symlink_to(tmp_path)
    (folder / "in" / "loop").symlink_to(folder / "in" / "loop")
    with pytest.raises(DataError) as caught:
        read(folder)
    message = str(caught.value)
    for part in (
        "19 problems", "row 1: images: '../secret.jpg' is no path inside the folder", "row 1: images: '/etc/hosts'",
        "row 1: images: 'link.jpg'", "row 1: images: 'out/secret.jpg'", "row 1: images: 'C:", "row 2: line that is not",
        "row 3: line that is not UTF-8", "row 4: line that is not an object", "row 5: no item_id", "row 6: item_id",
        "row 7: title: expected a text, got 5", "row 7: tags", "row 7: category", "row 8: images: expected a list",
        "row 9: unknown key 'image'; did you mean 'images'?", "row 10: images", "row 11: images: 'in/loop'",
    ):  # fmt: skip
        assert part in message
    assert "in/ok.jpg" not in message and str(tmp_path) not in message
    write(folder, [b"{"] * 5000)
    with pytest.raises(DataError) as caught:
        read(folder)
    assert str(caught.value).count("\n") == 21 and "there are more" in str(caught.value)


def test_folders_without_a_catalogue(tmp_path):
    with pytest.raises(DataError, match="holds no products.jsonl"):
        Folder(tmp_path, "mine")


def test_own_queries(tmp_path):
    folder = write(tmp_path, [row(f"P{i}") for i in range(12)])
    lines = [f"tee {q}\tP{i}\t{1 + i % 3}" for q in range(20) for i in range(12)] + ["tee 1\tgone"]
    (folder / OWN).write_text("\n".join(["query\titem_id\tgain", *lines]))
    source = Folder(folder, "mine")
    found = source.queries()
    items = {item.item_id: item for item in source.items(silent)}
    splits = {query.query_id: query.split for query in found.queries}
    assert all(splits[pair.query_id] == items[pair.item_id].split == "train" for pair in found.interactions)
    assert source.rows["queries"]["read"] == 241 and source.dropped["query line that names an absent product"] == 1
    (folder / QUERIES).write_text("")
    with pytest.raises(DataError, match="queries.tsv and queries.jsonl"):
        Folder(folder, "mine").queries()


def judged(folder):
    """12 products and 30 queries with judgements of every kind."""
    write(folder, [row(f"P{i}") for i in range(12)])
    queries = [{"query_id": f"q{i}", "text": f"red  lamp {i}"} for i in range(30)]
    queries += [
        {"query_id": "again", "text": "RED lamp 3"},
        {"query_id": "q4", "text": "x"},
        {"query_id": "e", "text": " "},
    ]
    (folder / QUERIES).write_text("\n".join(map(json.dumps, queries)))
    pairs = [f"q{q}\tP{i}\t{i % 4}" for q in range(28) for i in range(12)]
    pairs += ["again\tP1\t3", "again\tP2\t3", "nobody\tP1\t1", "q1\tnothing\t1"]
    pairs += [f"q{q}\tP{i}\t0" for q in (28, 29) for i in range(12)]
    (folder / QRELS).write_text("\n".join(["query_id\titem_id\tgain", *pairs]))
    (folder / INTERACTIONS).write_text(
        "\n".join(["query_id\titem_id", *(f"q{q}\tP{i}" for q in range(30) for i in range(12))])
    )
    return folder


def test_judged_queries_keep_to_their_splits(tmp_path):
    source = Folder(judged(tmp_path), "mine")
    found = source.queries()
    assert source.queries() == found
    items = {item.item_id: item.split for item in source.items(silent)}
    splits = {query.query_id: query.split for query in found.queries}
    assert all(q.split == split_of("query", normalize_query(q.text), SHARES) for q in found.queries)
    assert "again" not in splits and splits["q3"]
    assert all(splits[pair.query_id] == items[pair.item_id] == "train" for pair in found.interactions)
    assert len({(pair.query_id, pair.item_id) for pair in found.interactions}) == len(found.interactions)
    assert all(splits[judgement.query_id] != "train" for judgement in found.judgements)
    assert {judgement.gain for judgement in found.judgements} == {0.0, 1.0, 2.0, 3.0}
    judged_queries = {judgement.query_id for judgement in found.judgements}
    assert judged_queries == {query_id for query_id, split in splits.items() if split != "train"}
    for name, read_rows in (("queries", 33), ("qrels", 28 * 12 + 4 + 24), ("interactions", 360)):
        counts = source.rows[name]
        assert counts["read"] == read_rows == counts["kept"] + counts["merged"] + counts["dropped"]
    train = {query_id for query_id, split in splits.items() if split == "train"}
    inside = [item_id for item_id, split in items.items() if split == "train"]
    assert len(found.interactions) == len(train) * len(inside)
    assert source.rows["qrels"]["kept"] + source.rows["interactions"]["kept"] == len(found.judgements) + len(
        found.interactions
    )
    assert source.rows["queries"]["kept"] == len(found.queries)
    assert source.dropped["line that names an absent query"] == source.dropped["line that names an absent product"] == 1
    prepare(Folder(tmp_path, "mine"), silent, tmp_path / "cache")


def test_malformed_queries_are_told_together(tmp_path):
    folder = write(tmp_path, [row("P1")])
    (folder / QRELS).write_bytes(
        b"query_id\titem_id\tgain\nq1\tP1\tmany\nq1\tP1\nq1\tP1\t-1\nq\xff\tP1\t1\n\nq1\tP1\tinf\n"
    )
    with pytest.raises(DataError, match="qrels.tsv without queries.jsonl"):
        Folder(folder, "mine").queries()
    (folder / QUERIES).write_text(
        '{"query_id": "q1", "text": "lamp"}\n{"query_id": "a b", "text": "x"}\n{torn\n{"query_id": "c"}'
    )
    (folder / INTERACTIONS).write_text("query\titem\n")
    with pytest.raises(DataError) as caught:
        Folder(folder, "mine").queries()
    message = str(caught.value)
    for part in ("9 problems", "queries.jsonl, row 2", "queries.jsonl, row 3: line that is not JSON",
                 "queries.jsonl, row 4",
                 "qrels.tsv, row 2: expected a gain of 0 or more, got 'many'", "qrels.tsv, row 3", "qrels.tsv, row 4",
                 "qrels.tsv, row 5", "qrels.tsv, row 7", "interactions.tsv, row 1: expected the header"):  # fmt: skip
        assert part in message
    (folder / INTERACTIONS).write_text("")
    with pytest.raises(DataError, match="got an empty file"):
        Folder(folder, "mine").queries()


def test_a_folder_prepares(tmp_path):
    folder = write(tmp_path / "mine", [row(f"P{i}", f"{i}.png", "broken.jpg") for i in range(5)], ["broken.jpg"])
    for i in range(5):
        Image.new("RGB", (20, 10), (50 * i, 0, 0)).save(folder / f"{i}.png")
    catalogue = prepare(Folder(folder, "mine"), silent, tmp_path / "cache")
    assert list(catalogue.item_ids) == [f"P{i}" for i in range(5)]
    assert catalogue.manifest["dropped"] == {"broken image (not an image)": 5}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\0", "a/../.."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
USUAL = row("a", "a.jpg", tags=["x"], category="c", description="d")
ROWS = st.fixed_dictionaries({}, optional={key: JSON | st.just(value) for key, value in USUAL.items()}).flatmap(
    lambda changed: st.sampled_from([USUAL | changed, changed])
)
JSON_LINES = (ROWS | JSON).map(lambda value: json.dumps(value).encode())
CUT = st.tuples(JSON_LINES, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]])
HUGE = st.sampled_from([b"[" * 100_000, b'{"title": "' + b"<" * 200_000 + b'"}', b'{"item_id": ' + b"9" * 5000 + b"}"])
LINES = st.lists(
    st.one_of(JSON_LINES, CUT, st.binary(max_size=20), HUGE, st.sampled_from([b"", b"\xef\xbb\xbf{}"])), max_size=6
)


@FUZZ
@given(LINES)
def test_no_product_row_is_lost(lines):
    tally, problems = Tally(), []
    found = list(parse_products(lines, lambda path: True, tally, problems))
    assert tally.read == sum(bool(line.strip()) for line in lines) == tally.kept + tally.dropped
    assert tally.dropped == sum(tally.reasons.values()) and len(found) == tally.kept
    assert bool(problems) == bool(tally.reasons["malformed row"])
    for listing in found:
        assert listing.item_id.isprintable() and listing.title
        for text in (listing.title, listing.description, listing.category, *listing.tags, *listing.images):
            text.encode()
        assert not any(Path(path).is_absolute() or ".." in Path(path).parts for path in listing.images)


CELLS = st.sampled_from(["q0", "q1", "q2", "P0", "P1", "1", "0", "-1", "nan", "", "x y", "\t", "é", "1e400"])
TSV = st.lists(st.lists(CELLS, max_size=4).map("\t".join).map(str.encode) | st.binary(max_size=12), max_size=8)
ASKED = st.lists(
    st.fixed_dictionaries({}, optional={"query_id": CELLS | JSON, "text": CELLS | JSON}).map(
        lambda q: json.dumps(q).encode()
    )
    | st.binary(max_size=12),
    max_size=5,
)


@FUZZ
@given(ASKED, TSV, TSV)
def test_no_query_row_is_lost(asked, judgements, led):
    splits = {"P0": "train", "P1": "test"}
    evidence, problems = Evidence(splits), []
    tallies = {name: Tally() for name in ("queries", "qrels", "interactions")}
    evidence.add_queries([b'{"query_id": "q0", "text": "lamp"}', *asked], tallies["queries"], problems)
    evidence.add_qrels([b"query_id\titem_id\tgain", *judgements], tallies["qrels"], problems)
    evidence.add_interactions([b"query_id\titem_id", *led], tallies["interactions"], problems)
    found = evidence.queries(tallies)
    for tally in tallies.values():
        assert tally.read == tally.kept + tally.merged + tally.dropped
        assert tally.dropped == sum(tally.reasons.values())
    kept = {query.query_id: query.split for query in found.queries}
    assert len(kept) == tallies["queries"].kept
    assert all((kept[p.query_id], splits[p.item_id]) == ("train", "train") for p in found.interactions)
    assert all(kept[j.query_id] != "train" and j.item_id in splits for j in found.judgements)
    assert len(found.judgements) + len(found.interactions) == tallies["qrels"].kept + tallies["interactions"].kept
    for query in found.queries:
        query.text.encode()
