"""What stands in two splits of a prepared catalogue, and how far item texts give queries away.

Problems (`problems`) are errors of a data set: whoever trains on it has seen what is tested. Remarks (`remarks`) are
properties that readers of a score should know: photographs that look alike across splits, queries that stand word for
word in the text they should find. Must not know methods or tasks.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ftbench.catalogue import Catalogue
from ftbench.items import SPLITS, normalize_query

NEAR_BITS = 3  # of 64: the distance at which Manku et al., "Detecting Near-Duplicates for Web Crawling" (2007), work
SAME_PICTURE = 6.0  # grey levels: photographs saved anew at JPEG quality 50 differ by less, Luma's poses by 9 and more
_LEAST_BITS = 8  # a hash with fewer bits set, or unset, is of a nearly blank picture and says nothing
_THUMBNAIL = 32  # pixels of a side, for comparing two pictures
_MOST_COMPARED = 2_000  # pairs of pictures decoded: a few seconds
_MOST_SHOWN = 10  # problems of a kind that are written out


def problems(catalogue: Catalogue) -> list[str]:
    """All that makes a data set unusable: leaks, evidence that names nothing or crosses splits, empty splits."""
    return [*leaks(catalogue), *_dangling(catalogue), *_empty(catalogue)]


def leaks(catalogue: Catalogue) -> list[str]:
    """Everything that stands in two splits: item groups, identical photographs, query ids and query texts."""
    items, queries = catalogue.table("items"), catalogue.table("queries")
    of_item, of_query = _codes(items), _codes(queries)
    ids, texts = queries.column("query_id"), queries.column("text")
    normal = [normalize_query(text) for text in _values(texts)]
    found = [
        *_in_two_splits("item id", items.column("item_id"), of_item),
        *_in_two_splits("group", items.column("group"), of_item),
        *_in_two_splits("query id", ids, of_query),
        *_in_two_splits("query", normal, of_query),
    ]
    if catalogue.info.photographs:
        images = catalogue.table("images")
        owner = images.column("item").to_numpy()
        found += _in_two_splits("image", images.column("sha256"), of_item[owner])
    return found


def _codes(table) -> np.ndarray:
    """The split of each row as its place in SPLITS, uint8 (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(table.column("split"), value_set=pa.array(SPLITS)).to_numpy().astype(np.uint8)


def _values(column) -> Iterator:
    """A column's values, a batch of rows in memory at a time."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), 10_000):
            yield from chunk[start : start + 10_000].to_pylist()


def _in_two_splits(kind: str, keys, splits: np.ndarray) -> list[str]:
    """A line for each key that occurs with more than one split; the last says how many more there are.

    keys: strings as a list or an Arrow column, of rows whose splits are given (n,) uint8.
    """
    import pyarrow as pa

    if not len(splits):
        return []
    array = pa.array(keys) if isinstance(keys, list) else keys.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # more than 2 GB of keys
        array = pa.array(array.to_pylist(), type=pa.large_string())
    coded = array.dictionary_encode()
    marks = np.zeros(len(coded.dictionary), dtype=np.uint8)
    np.bitwise_or.at(marks, coded.indices.to_numpy(), np.uint8(1) << splits)
    wrong = np.flatnonzero(marks & (marks - np.uint8(1)))
    lines = []
    for code in wrong[:_MOST_SHOWN].tolist():
        places = sorted(split for bit, split in enumerate(SPLITS) if marks[code] >> bit & 1)
        lines.append(f"{kind} {coded.dictionary[code].as_py()!r} stands in {' and '.join(places)}")
    if len(wrong) > _MOST_SHOWN:
        lines.append(f"{kind}: {len(wrong) - _MOST_SHOWN:,} more in two splits")
    return lines


def _dangling(catalogue: Catalogue) -> list[str]:
    """Judgements and interactions that name no query or item, and interactions beyond the train split."""
    import pyarrow.compute as pc

    items, queries = catalogue.table("items"), catalogue.table("queries")
    found = []
    for name in ("judgements", "interactions"):
        table = catalogue.table(name)
        known = pc.and_(
            pc.is_in(table.column("query_id"), value_set=queries.column("query_id").combine_chunks()),
            pc.is_in(table.column("item_id"), value_set=items.column("item_id").combine_chunks()),
        )
        lost = table.filter(pc.invert(known)).select(["query_id", "item_id"])
        found += _lines(name, "names something that does not exist", lost)
    table = catalogue.table("interactions")
    inside = [
        pc.is_in(table.column(key), value_set=rows.filter(pc.equal(rows.column("split"), "train")).column(key)
                 .combine_chunks())
        for key, rows in (("query_id", queries), ("item_id", items))
    ]  # fmt: skip
    outside = table.filter(pc.invert(pc.and_(*inside)))
    return found + _lines("interactions", "is not between a train query and a train item", outside)


def _lines(name: str, what: str, rows) -> list[str]:
    shown = [f"{name}: {row['query_id']!r}, {row['item_id']!r} {what}" for row in rows[:_MOST_SHOWN].to_pylist()]
    return shown + [f"{name}: {len(rows) - _MOST_SHOWN:,} more such rows"] * (len(rows) > _MOST_SHOWN)


def _empty(catalogue: Catalogue) -> list[str]:
    counts = np.bincount(_codes(catalogue.table("items")), minlength=len(SPLITS))
    return [f"the split {split!r} has no items" for split, count in zip(SPLITS, counts, strict=True) if not count]


@dataclass(frozen=True, slots=True)
class Near:
    """Photographs that look like one of another split.

    compared: photographs with a perceptual hash that says something; blank: those without. images: photographs within
    NEAR_BITS of one in another split, in `pairs` pairs. checked: pairs, one of each two hashes and the nearest first,
    whose pictures were compared; same: those of them that show the same picture; examples: (item id, item id) of these.
    """

    compared: int
    blank: int
    images: int
    pairs: int
    checked: int
    same: int
    examples: tuple[tuple[str, str], ...]

    @property
    def said(self) -> str:
        """The finding as a sentence without its full stop."""
        text = f"{self.images:,} of {self.compared:,} photographs are within {NEAR_BITS} bits of 64 of one in another"
        text += " split"
        if self.same:
            text += f"; of {self.checked:,} pairs looked at, {self.same:,} show the same picture"
        elif self.checked:
            text += f"; none of the {self.checked:,} pairs looked at is the same picture, only a like pose or layout"
        return text + (f"; {self.blank:,} nearly blank ones are left out" if self.blank else "")


def near_duplicates(catalogue: Catalogue) -> Near | None:
    """Photographs within NEAR_BITS of one in another split; None where perceptual hashes mean nothing (drawings).

    A small distance may be a shared pose or layout: the nearest pairs, up to 2,000, are decoded and compared.
    """
    if not catalogue.info.photographs:
        return None
    images = catalogue.table("images")
    hashes = np.fromiter((int(text or "0", 16) for text in _values(images.column("phash"))), np.uint64, len(images))
    owner = images.column("item").to_numpy()
    bits = _set_bits(hashes)
    telling = np.flatnonzero((bits >= _LEAST_BITS) & (bits <= 64 - _LEAST_BITS))
    split = _codes(catalogue.table("items"))[owner[telling]]
    distinct, place = np.unique(hashes[telling], return_inverse=True)
    counts = np.zeros((len(distinct), len(SPLITS)), dtype=np.int64)
    np.add.at(counts, (place, split), 1)
    marks = ((counts > 0) << np.arange(len(SPLITS))).sum(axis=1).astype(np.uint8)
    both = np.flatnonzero(marks & (marks - np.uint8(1)))  # the same hash in two splits
    pairs = np.concatenate([np.stack([both, both], axis=1), near_pairs(distinct, marks)])
    pairs = pairs[np.argsort(_set_bits(distinct[pairs[:, 0]] ^ distinct[pairs[:, 1]]), kind="stable")]
    first, second = pairs.T
    involved = counts[np.unique(pairs)].sum()  # an image of such a hash has one of another split beside it
    crossing = counts[first].sum(axis=1) * counts[second].sum(axis=1) - (counts[first] * counts[second]).sum(axis=1)
    total = int(crossing.sum() - crossing[first == second].sum() // 2)  # of two images, both orders were counted
    shown = np.full_like(counts, -1)
    shown[place[::-1], split[::-1]] = telling[::-1]  # the first image of each hash in each split
    looked_at = [_across(shown[a], shown[b]) for a, b in pairs[:_MOST_COMPARED].tolist()]
    same = [pair for pair in looked_at if picture_difference(*catalogue.assets.pixels(pair)) < SAME_PICTURE]
    names = dict.fromkeys(tuple(catalogue.item_ids[int(owner[image])] for image in pair) for pair in same)
    return Near(len(telling), len(hashes) - len(telling), int(involved), total, len(looked_at), len(same),
                tuple(names)[:_MOST_SHOWN])  # fmt: skip


def _across(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """One image of each of two hashes, in different splits. first, second: an image of each split, or -1."""
    places = range(len(SPLITS))
    return next(
        (int(first[s]), int(second[t])) for s in places for t in places if s != t and min(first[s], second[t]) >= 0
    )


def _set_bits(numbers: np.ndarray) -> np.ndarray:
    """How many bits of each uint64 are set: int64 (n,)."""
    octets = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)


def near_pairs(hashes: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Pairs (p, 2) int64 of places whose hashes differ in 1 to NEAR_BITS bits, and whose marks together are several.

    hashes: (n,) uint64, distinct. marks: (n,) uint8, a bit for each split in which a hash occurs.
    Two hashes at most three bits apart agree on one of four 16-bit bands and, of the other 48 bits, on one of four
    12-bit bands (Manku et al. 2007): only those that agree on a pair of bands are compared.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    single = [1 << split for split in range(len(SPLITS))]
    commonest = max(single, key=np.bincount(marks, minlength=256).__getitem__)  # its hashes make no pair by themselves
    for band in range(4):
        outer, rest = _without(hashes, 16 * band, 16)
        for inner in range(4):
            keys = outer << np.uint64(12) | (rest >> np.uint64(12 * inner)) & np.uint64(0xFFF)
            for a, b in _agreeing(keys, marks == commonest):
                differ = hashes[a] ^ hashes[b]
                for _ in range(NEAR_BITS):
                    differ &= differ - np.minimum(differ, np.uint64(1))  # takes out the lowest bit that is set
                union = marks[a] | marks[b]
                near = (differ == 0) & (union & (union - np.uint8(1)) != 0)
                found.append(np.sort(np.stack([a[near], b[near]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _without(hashes: np.ndarray, start: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The bits of a band, and the other bits moved together; both uint64 (n,)."""
    low = hashes & np.uint64((1 << start) - 1)
    upper = hashes >> np.uint64(start)
    return upper & np.uint64((1 << width) - 1), (upper >> np.uint64(width)) << np.uint64(start) | low


def _agreeing(keys: np.ndarray, common: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places with equal keys, as two arrays at a time; pairs of two `common` places are left out."""
    order = np.lexsort((common, keys))
    sorted_keys = keys[order]
    ends = np.searchsorted(sorted_keys, sorted_keys, side="right")
    active = np.flatnonzero((ends - np.arange(len(keys)) > 1) & ~common[order])
    step = 1
    while len(active):
        yield order[active], order[active + step]
        step += 1
        active = active[active + step < ends[active]]


def picture_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference, in levels of 255, of two pictures uint8 (h, w, 3) reduced to 32 x 32 pixels."""
    from PIL import Image

    small = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(picture)).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        )
        for picture in (first, second)
    ]
    return float(np.abs(small[0].astype(np.int16) - small[1]).mean())


@dataclass(frozen=True, slots=True)
class Contamination:
    """Queries of a split that stand word for word in the text of an item they should find.

    queries: those with a relevant item; verbatim: how many of them are contaminated; longer: of three words or more
    among the contaminated (a query of one or two words is likely to stand in a good title); examples: their ids.
    """

    split: str
    queries: int
    verbatim: int
    longer: int
    examples: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.verbatim / self.queries if self.queries else 0.0

    @property
    def said(self) -> str:
        """The finding as a sentence without its full stop."""
        return (
            f"{self.verbatim:,} of {self.queries:,} {self.split} queries ({100 * self.share:.1f}%) occur word for word "
            f"in the text of a relevant item, {self.longer:,} of them with three words or more"
        )


def contamination(catalogue: Catalogue, split: str = "test") -> Contamination:
    """How many queries of a split occur in the text of an item of their highest gain.

    Both are compared in lower case, without punctuation, at word boundaries.
    """
    queries = {query.query_id: plain(query.text) for query in catalogue.queries(split)}
    best: dict[str, tuple[float, list[str]]] = {}
    for judgement in catalogue.judgements(split):
        gain, items = best.get(judgement.query_id, (0.0, []))
        if judgement.gain > gain:
            best[judgement.query_id] = (judgement.gain, [judgement.item_id])
        elif judgement.gain == gain and gain > 0:
            items.append(judgement.item_id)
    texts = _item_texts(catalogue, {item for _, items in best.values() for item in items})
    found = [
        query for query, (_, items) in best.items()
        if queries[query] and any(f" {queries[query]} " in texts[item] for item in items if item in texts)
    ]  # fmt: skip
    longer = sum(queries[query].count(" ") >= 2 for query in found)
    return Contamination(split, len(best), len(found), longer, tuple(found[:_MOST_SHOWN]))


def plain(text: str) -> str:
    """The words of a text as they are compared: normalised, without punctuation, single spaces."""
    return re.sub(r"[\W_]+", " ", normalize_query(text)).strip()


def _item_texts(catalogue: Catalogue, items: Iterable[str]) -> dict[str, str]:
    """Item id -> its texts as `plain` words between spaces, a line each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = catalogue.table("items").select(["item_id", "texts"])
    chosen = table.filter(pc.is_in(table.column("item_id"), value_set=pa.array(sorted(items), type=pa.string())))
    texts = catalogue.assets.texts
    return {
        row["item_id"]: "\n".join(f" {plain(texts[i])} " for i in row["texts"]) for batch in chosen.to_batches()
        for row in batch.to_pylist()
    }  # fmt: skip


def remarks(catalogue: Catalogue) -> list[str]:
    """What readers of a score should know: near-duplicate photographs across splits, contamination of test queries."""
    lines = []
    if near := near_duplicates(catalogue):
        lines.append(near.said + _listed(map("–".join, near.examples)))
    found = contamination(catalogue)
    if found.queries:
        lines.append(found.said + _listed(found.examples))
    return lines


def _listed(examples: Iterable[str]) -> str:
    shown = ", ".join(examples)
    return f": {shown}" if shown else ""
