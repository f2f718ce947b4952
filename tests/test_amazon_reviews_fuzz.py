"""Amazon Reviews 2023 fed with anything: mutated rows, damaged lines, odd Parquet cells. FTBENCH_FUZZ says how much."""

import json
import os

import amazon_files as files
import pyarrow as pa
import pyarrow.parquet as pq
from amazon_files import CATEGORY, META, REVIEWS, TIMES, A, B, C
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftbench.errors import DataError
from ftbench.items import SPLITS, normalize_query, silent
from ftbench.sources.amazon_reviews import AmazonReviews, Praise
from ftbench.sources.amazon_rows import parse_head, parse_item, photographs
from ftbench.sources.rows import Tally

CASES = int(os.environ.get("FTBENCH_FUZZ", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
HOST = files.HOST


def source_of(folder, tier=None):
    return AmazonReviews(CATEGORY, tier, folder, f"amazon-reviews@{CATEGORY}", with_images=False)


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=80), st.integers(0, 6), st.randoms())
def test_what_stays_is_what_a_sort_would_keep(pairs, most, random):
    expected = {}
    for key, item_id in pairs:
        expected.setdefault(key, set()).add(item_id)
    expected = {key: expected[key] for key in sorted(expected)[:most]}
    for _ in range(2):
        tally = Tally(read=len(pairs))
        found = Praise(most, tally)
        for key, item_id in pairs:
            found.add(key, str(key), item_id)
        found.settle()
        assert {key: set(items) for key, (_, items) in found.texts.items()} == expected
        assert tally.read == tally.kept + tally.merged + tally.dropped
        assert tally.kept == sum(map(len, expected.values()))
        random.shuffle(pairs)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from([A, B, C, files.TEST, "MAIN", "", " ", "None", "\ud800", "a\0b", "&#" + "9" * 5000, "<!--" * 3000,
                     "<script" * 3000, "{{" * 3000, "x" * 200_000, "[" * 100_000, f"{HOST}1.jpg", f"{HOST}1._SX9_.jpg",
                     f"{HOST}{'2' * 3000}.jpg", "/images/I/", 5.0, 4, -1, 2**63, 10**400, TIMES["valid"]]),
    st.recursive(st.text(max_size=3) | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["hi_res", "large", "variant", "Brand", "bytes"]), inner), max_leaves=8),
)  # fmt: skip


def mutated(rows):
    """Rows of the published schema, some of their cells replaced or removed, some new."""
    names = st.sampled_from([*dict.fromkeys(name for row in rows for name in row), "more"])
    return st.builds(
        lambda row, cells, without: {k: v for k, v in (row | cells).items() if k not in without},
        st.sampled_from(rows), st.dictionaries(names, CELL, max_size=3), st.lists(names, max_size=1),
    )  # fmt: skip


def damaged(line, place, size, extra):
    """A line with `size` bytes from `place` on replaced by others."""
    return line[: place % (len(line) + 1)] + extra + line[place % (len(line) + 1) + size :]


def lines_of(rows):
    """Lines of a file: whole ones, damaged ones, and any bytes."""
    whole = mutated(rows).map(lambda row: json.dumps(row).encode())
    hurt = st.builds(damaged, whole, st.integers(0, 2000), st.integers(0, 9), st.binary(max_size=9))
    return st.lists(whole | hurt | st.binary(max_size=40), max_size=12)


META_ROWS, REVIEW_ROWS = list(META.values()), list(REVIEWS.values())


@FUZZ
@given(lines_of(META_ROWS), lines_of(REVIEW_ROWS), st.sampled_from([None, 1, 3]))
def test_any_lines_add_up(tmp_path_factory, meta, reviews, tier):
    folder = tmp_path_factory.getbasetemp() / "lines"
    files.write_lines(folder / "raw/meta_categories" / f"meta_{CATEGORY}.jsonl", meta)
    files.write_lines(folder / "raw/review_categories" / f"{CATEGORY}.jsonl", reviews)
    holds(source_of(folder, tier), tier)


def holds(source, tier=None):
    """What is true of any source whatever its files hold."""
    read = list(source.items(silent))
    items = {item.item_id: item for item in read}
    queries = source.queries()
    for name, counts in source.rows.items():
        assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"], (name, counts)
    assert len(items) == len(read) == source.rows["items"]["kept"] <= (tier or 1 << 30)
    for item in read:
        assert item.item_id.encode() and item.category.encode() and item.split in SPLITS
        assert all(view.content and view.content.encode() for view in item.views)
        assert item.views[0].name == "title"
    splits = {query.query_id: query.split for query in queries.queries}
    assert len(splits) == len(queries.queries)
    assert all(normalize_query(query.text) and query.text.encode() for query in queries.queries)
    evidence = (*queries.judgements, *queries.interactions)
    assert len(evidence) == source.rows["reviews"]["kept"]
    assert all(splits[pair.query_id] == items[pair.item_id].split for pair in evidence)
    assert {pair.query_id for pair in evidence} == splits.keys()


@FUZZ
@given(st.lists(mutated(META_ROWS), max_size=8))
def test_any_row_gives_a_draft_or_a_reason(rows):
    for row in rows:
        head, draft = parse_head(row), parse_item(row, "Else")
        if isinstance(draft, str):
            assert draft == head
            continue
        assert head.item_id == draft.item_id
        assert head.photographs == tuple(draft.images)
        assert len(set(draft.images.values())) == len(draft.images)
        entries = row.get("images") if isinstance(row.get("images"), list) else []
        assert draft.nowhere + len(draft.images) <= len(entries) or isinstance(row.get("images"), dict)
        columns = {
            name: [e.get(name) for e in entries if isinstance(e, dict)] for name in ("variant", "large", "hi_res")
        }
        if entries:
            assert photographs(columns) == photographs(entries), "both forms, one gallery"


PARTS = {
    "string": st.none() | st.text(max_size=9) | st.sampled_from([A, B, "", "[" * 50_000, '{"Brand": "X"}', "\0"]),
    "list<element: string>": st.none() | st.lists(st.none() | st.text(max_size=9), max_size=3),
    "int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "double": st.none() | st.floats(),
}
URL = st.none() | st.sampled_from(["", "None", *(f"{HOST}{i}.jpg" for i in range(4))])


def table(schema, number):
    """A table of `number` rows: any cells that the schema allows, or for a column those of another type."""

    def column(field):
        kind = str(field.type).replace("item:", "element:")
        if pa.types.is_struct(field.type):
            lists = st.none() | st.lists(URL, max_size=3)
            cell = st.none() | st.fixed_dictionaries({f.name: lists for f in field.type})
        else:
            cell = PARTS.get(kind, st.none())
        return st.lists(cell, min_size=number, max_size=number).map(lambda cells: pa.array(cells, field.type))

    other = st.lists(st.binary(max_size=4), min_size=number, max_size=number).map(pa.array)
    columns = st.tuples(*(column(field) if i % 5 else column(field) | other for i, field in enumerate(schema)))
    return columns.map(lambda found: pa.table(dict(zip(schema.names, found, strict=True))))


@FUZZ
@given(st.data())
def test_any_parquet_adds_up(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "parquet"
    for kind, schema in (("meta", files.META_SCHEMA), ("review", files.REVIEW_SCHEMA)):
        path = folder / f"raw_{kind}_{CATEGORY}" / "full-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(data.draw(table(schema, data.draw(st.integers(0, 4)))), path)
    holds(source_of(folder))
    if data.draw(st.integers(0, 3)) == 0:
        path.write_bytes(
            damaged(path.read_bytes(), data.draw(st.integers(0, 20_000)), data.draw(st.integers(0, 9)), b"?")
        )
        try:
            holds(source_of(folder))
        except DataError as problem:
            assert path.name in str(problem)
