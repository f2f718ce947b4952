"""What a datasheet says of a prepared catalogue, counted from its tables. Must not know how it is shown.

Columns are counted where they lie, in Arrow and numpy: a million items need seconds and no copy of their texts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ftbench import leaks
from ftbench.catalogue import Catalogue
from ftbench.datasheet.languages import language
from ftbench.items import SPLITS

_MOST_NAMES = 12  # names of views or texts that are told apart; Amazon has PT01 to PT99
_MOST_CATEGORIES = 15
_SAMPLED = 20_000  # items whose language is looked at, evenly spaced: 15 s where texts are long


@dataclass(frozen=True, slots=True)
class Split:
    """Counts of one split. Judgements and interactions count where their query does."""

    name: str
    items: int
    groups: int
    images: int
    texts: int
    queries: int
    judgements: int
    interactions: int


@dataclass(frozen=True, slots=True)
class Text:
    """Lengths of the texts of one name (title, description, ...). words: separated by white space."""

    name: str
    items: int
    median_words: float
    p95_words: float
    most_words: int
    median_characters: float


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images: their names with counts, sizes in pixels as stored (width, height), and what is no probe."""

    names: tuple[tuple[str, int], ...]
    distinct_names: int
    median_size: tuple[int, int]
    largest_size: tuple[int, int]
    no_probe: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What occurs more than once.

    images: images beyond the first with the same bytes; in_items: of these, within one item; shared: distinct images
    in two or more items; items: items with such an image; titles: items whose primary text another item has too.
    groups: groups of several items; largest: items of the largest; grouped: items in them.
    """

    images: int
    in_items: int
    shared: int
    items: int
    titles: int
    groups: int
    largest: int
    grouped: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far one split's queries are judged.

    answered: queries with a gain above 0; median_judged, p95_judged: judged items per query; median_best: items of a
    query's highest gain; gains: (gain, judgements), highest first; items: items that some query judges; gallery: the
    split's items, or all items where those of other splits are judged too; share: judged pairs among all pairs of
    queries and gallery.
    """

    split: str
    queries: int
    answered: int
    median_judged: float
    p95_judged: float
    median_best: float
    gains: tuple[tuple[float, int], ...]
    items: int
    gallery: int
    share: float


@dataclass(frozen=True, slots=True)
class Asked:
    """The queries. slices: (name, test queries); train_items: share of train items that an interaction names."""

    median_words: float
    p95_words: float
    slices: tuple[tuple[str, int], ...]
    train_items: float
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything of a datasheet. Counts are of items unless a name says otherwise; shares are fractions."""

    name: str
    version: str
    title: str
    description: str
    licence: str
    redistributable: bool
    photographs: bool
    disclosures: tuple[str, ...]
    fingerprint: str
    files: tuple[tuple[str, int, str], ...]  # (name, bytes, sha256)
    items: int
    images: int
    texts: int
    splits: tuple[Split, ...]
    images_per_item: tuple[tuple[int, int], ...]  # (images, items), ascending, without gaps
    missing: tuple[tuple[str, int], ...]  # (what is missing, items)
    pictures: Pictures
    lengths: tuple[Text, ...]
    languages: tuple[tuple[str, int], ...]  # (language, items), most first
    languages_of: int  # items looked at
    categories: tuple[tuple[str, int], ...]
    distinct_categories: int
    duplicates: Duplicates
    asked: Asked | None  # None where there are no queries
    leaks: bool  # whether a group, photograph or query stands in two splits
    near: leaks.Near | None  # None for drawings
    contamination: leaks.Contamination | None  # None where no test query has a relevant item
    rows: Mapping[str, Mapping[str, int]]  # table -> read, kept, merged, dropped
    dropped: tuple[tuple[str, int], ...]  # (reason, rows), most first


def count(catalogue: Catalogue) -> Facts:
    """All facts of a catalogue. Photographs that nearly agree are decoded; the rest is arithmetic on columns."""
    items, images, texts = (catalogue.table(name) for name in ("items", "images", "texts"))
    info, manifest = catalogue.info, catalogue.manifest
    per_item = {kind: _lengths(items.column(kind)) for kind in ("images", "texts")}
    lengths, lacking = _texts(texts, len(items))
    languages, looked_at = _languages(items, texts)
    categories = [(name or "none given", n) for name, n in _counted(items.column("category"))]
    contamination = leaks.contamination(catalogue)
    return Facts(
        name=info.name, version=info.version, title=info.title, description=info.description, licence=info.licence,
        redistributable=info.redistributable, photographs=info.photographs, disclosures=info.disclosures,
        fingerprint=catalogue.fingerprint,
        files=tuple((name, about["bytes"], about["sha256"]) for name, about in sorted(manifest["files"].items())),
        items=len(items), images=len(images), texts=len(texts),
        splits=_splits(catalogue, per_item),
        images_per_item=tuple(enumerate(np.bincount(per_item["images"]).tolist())),
        missing=(("no image", int((per_item["images"] == 0).sum())),
                 ("one image only", int((per_item["images"] == 1).sum())),
                 ("no text", int((per_item["texts"] == 0).sum())), *lacking),
        pictures=_pictures(images), lengths=lengths, languages=languages, languages_of=looked_at,
        categories=tuple(categories[:_MOST_CATEGORIES]), distinct_categories=len(categories),
        duplicates=_duplicates(items, images, texts), asked=_asked(catalogue),
        leaks=bool(leaks.leaks(catalogue)), near=leaks.near_duplicates(catalogue),
        contamination=contamination if contamination.queries else None,
        rows={table: dict(counts) for table, counts in manifest.get("rows", {}).items()},
        dropped=tuple(sorted(((why, n) for why, n in manifest["dropped"].items() if n), key=lambda d: (-d[1], d[0]))),
    )  # fmt: skip


def _lengths(lists) -> np.ndarray:
    """Lengths (n,) int64 of a column of lists."""
    import pyarrow.compute as pc

    return pc.list_value_length(lists).to_numpy().astype(np.int64)


def _counted(column) -> list[tuple[str, int]]:
    """(value, rows) of a column of strings, most rows first, equal ones by name."""
    import pyarrow.compute as pc

    found = pc.value_counts(column)
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _of_split(table) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(table.column("split"), value_set=pa.array(SPLITS)).to_numpy().astype(np.int64)


def _places(column, among) -> np.ndarray:
    """The row (n,) int64 of each value of `column` in `among`."""
    import pyarrow.compute as pc

    return pc.index_in(column, value_set=among.combine_chunks()).to_numpy().astype(np.int64)


def _splits(catalogue: Catalogue, per_item: Mapping[str, np.ndarray]) -> tuple[Split, ...]:
    items, queries = catalogue.table("items"), catalogue.table("queries")
    of_item, of_query = _of_split(items), _of_split(queries)
    first_of_group = np.unique(_codes(items.column("group")), return_index=True)[1]
    evidence = {
        name: of_query[_places(catalogue.table(name).column("query_id"), queries.column("query_id"))]
        for name in ("judgements", "interactions")
    }

    def counts(codes: np.ndarray, weights: np.ndarray | None = None) -> list[int]:
        return np.bincount(codes, weights, minlength=len(SPLITS)).astype(int).tolist()

    columns = zip(
        SPLITS, counts(of_item), counts(of_item[first_of_group]), counts(of_item, per_item["images"]),
        counts(of_item, per_item["texts"]), counts(of_query), counts(evidence["judgements"]),
        counts(evidence["interactions"]), strict=True,
    )  # fmt: skip
    return tuple(Split(*column) for column in columns)


def _codes(column) -> np.ndarray:
    """A number (n,) int64 for each value: equal values, equal numbers."""
    import pyarrow as pa

    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # more than 2 GB of strings
        array = pa.array(array.to_pylist(), type=pa.large_string())
    return array.dictionary_encode().indices.to_numpy().astype(np.int64)


def _pictures(images) -> Pictures:
    names = _counted(images.column("name"))
    sizes = np.stack([images.column("width").to_numpy(), images.column("height").to_numpy()], axis=1)
    if not len(sizes):
        sizes = np.zeros((1, 2), dtype=np.int64)
    return Pictures(
        tuple(names[:_MOST_NAMES]), len(names), tuple(np.median(sizes, axis=0).astype(int).tolist()),
        tuple(sizes.max(axis=0).astype(int).tolist()), int((~images.column("probe").to_numpy()).sum()),
    )  # fmt: skip


def _texts(texts, items: int) -> tuple[tuple[Text, ...], tuple[tuple[str, int], ...]]:
    """Lengths by name of text, and how many items lack each."""
    import pyarrow.compute as pc

    column, owner, names = texts.column("text"), texts.column("item").to_numpy(), texts.column("name")
    words = pc.count_substring_regex(column, r"\S+").to_numpy()
    characters = pc.utf8_length(column).to_numpy()
    found = []
    for name, _ in _counted(names)[:_MOST_NAMES]:
        chosen = np.flatnonzero(pc.equal(names, name).to_numpy())
        counted = words[chosen]
        found.append(Text(name, len(np.unique(owner[chosen])), float(np.median(counted)),
                          float(np.percentile(counted, 95)), int(counted.max()),
                          float(np.median(characters[chosen]))))  # fmt: skip
    return tuple(found), tuple((f"no {text.name}", items - text.items) for text in found)


def _languages(items, texts) -> tuple[tuple[tuple[str, int], ...], int]:
    """Items by the language of their texts together, and how many items were looked at."""
    rows = np.unique(np.linspace(0, len(items) - 1, min(_SAMPLED, len(items))).astype(np.int64))
    column, found = texts.column("text"), Counter()
    for start in range(0, len(rows), 1_000):
        lists = items.column("texts").take(rows[start : start + 1_000]).to_pylist()
        flat = iter(column.take(np.array([i for ids in lists for i in ids], dtype=np.int64)).to_pylist())
        found.update(language("\n".join(next(flat) for _ in ids)) for ids in lists)
    return tuple(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))), len(rows)


def _duplicates(items, images, texts) -> Duplicates:
    owner = images.column("item").to_numpy().astype(np.int64)
    codes = _codes(images.column("sha256"))
    pairs = np.unique(np.stack([codes, owner], axis=1), axis=0) if len(codes) else np.empty((0, 2), dtype=np.int64)
    in_items = np.bincount(pairs[:, 0], minlength=1)
    distinct = len(np.unique(codes))
    primary = np.flatnonzero(np.diff(texts.column("item").to_numpy(), prepend=-1))  # an item's texts lie together
    titles = np.bincount(_codes(texts.column("sha256"))[primary], minlength=1)
    groups = np.bincount(_codes(items.column("group")))
    return Duplicates(
        images=len(codes) - distinct, in_items=len(codes) - len(pairs), shared=int((in_items > 1).sum()),
        items=len(np.unique(pairs[in_items[pairs[:, 0]] > 1, 1])), titles=int(titles[titles > 1].sum()),
        groups=int((groups > 1).sum()), largest=int(groups.max()), grouped=int(groups[groups > 1].sum()),
    )  # fmt: skip


def _asked(catalogue: Catalogue) -> Asked | None:
    import pyarrow.compute as pc

    items, queries, pairs = (catalogue.table(name) for name in ("items", "queries", "judgements"))
    if not len(queries):
        return None
    of_item, of_query = _of_split(items), _of_split(queries)
    words = pc.count_substring_regex(queries.column("text"), r"\S+").to_numpy()
    query = _places(pairs.column("query_id"), queries.column("query_id"))
    item = _places(pairs.column("item_id"), items.column("item_id"))
    gains = pairs.column("gain").to_numpy()
    coverage = []
    for code, split in enumerate(SPLITS):
        if split == "train" or not (of_query == code).any():
            continue
        chosen = of_query[query] == code
        judged = np.unique(item[chosen])
        gallery = int((of_item == code).sum()) if (of_item[judged] == code).all() else len(items)
        asked = np.flatnonzero(of_query == code)
        coverage.append(_coverage(split, asked, query[chosen], gains[chosen], (len(judged), gallery)))
    trained = _places(catalogue.table("interactions").column("item_id"), items.column("item_id"))
    train = int((of_item == SPLITS.index("train")).sum())
    tested = queries.column("slices").filter(pc.equal(queries.column("split"), "test"))
    return Asked(float(np.median(words)), float(np.percentile(words, 95)),
                 tuple(_counted(pc.list_flatten(tested))), len(np.unique(trained)) / max(1, train),
                 tuple(coverage))  # fmt: skip


def _coverage(split: str, queries: np.ndarray, query: np.ndarray, gains: np.ndarray,
              judged: tuple[int, int]) -> Coverage:  # fmt: skip
    """How far the queries of a split are judged.

    queries: their rows; query, gains: (pairs,) of their judgements; judged: how many items, of how many.
    """
    place = np.searchsorted(queries, query)
    per_query = np.bincount(place, minlength=len(queries))
    highest = np.zeros(len(queries))
    np.maximum.at(highest, place, gains)
    best = np.bincount(place[(gains == highest[place]) & (gains > 0)], minlength=len(queries))
    values, counts = np.unique(gains, return_counts=True)
    return Coverage(
        split, len(queries), int((highest > 0).sum()), float(np.median(per_query)),
        float(np.percentile(per_query, 95)), float(np.median(best[best > 0])) if best.any() else 0.0,
        tuple(zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True)), *judged,
        len(query) / max(1, len(queries) * judged[1]),
    )  # fmt: skip
