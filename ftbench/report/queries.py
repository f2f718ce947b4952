"""Per-query values of the headline measure of many records, straight from the columns of their run files.

Reads only what stands in the top of a ranking, and once what the runs of a data set share: ids, judgements, ideals. The
values are those of `scores.PairScores`, to the last digit. Must not know pages or rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ftbench import metrics, runfile, scores
from ftbench import record as records
from ftbench.errors import DataError

_HEAD = ("pair", "depth", "relevant_from", "query_ids.list.element", "item_ids.list.element")
_MOST_CELLS = 64_000_000  # queries x items that are held as a table (a byte each); beyond, lists are compared,
_FEW = 8  # as they are where queries have at most so many judgements: that is faster then
_WRONG = (ValueError, TypeError, KeyError, IndexError, OSError)  # what a file raises that is no run file
_ROUNDING = 1e-9  # a record's mean and that of its values differ by less; means are near 1

# ids (u) ascending, values (u,) float64, and of a task with p pairs the value of each unit in each (p, u) float64, NaN
# where it does not ask; else None
Values = tuple[tuple[str, ...], np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Top:
    """The top of a ranking: as much of a `search.Ranking` as measures to its depth ask for. gain (q k,) float64."""

    query_ids: Sequence[str]
    owner: np.ndarray
    rank: np.ndarray
    gain: np.ndarray
    relevant_from: float
    depth: int


class Gallery:
    """What all runs of a pair share: who asks, what is judged and how. Raises ValueError for an id given twice."""

    def __init__(self, head: Mapping, judged):
        """head: the row of a run file, its ids as arrow arrays; judged: the pair's judgements, an arrow table."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.pair, self.depth, self.relevant_from = head["pair"], head["depth"], head["relevant_from"]
        queries, items = head["query_ids"], head["item_ids"]
        if any(pc.count_distinct(ids, mode="all").as_py() < len(ids) for ids in (queries, items)):
            raise ValueError("an id is given twice")
        self.query_ids, self.n_items = queries.to_pylist(), len(items)
        places = {name: pc.index_in(judged[name], ids) for name, ids in (("query_id", queries), ("item_id", items))}
        known = pa.Table.from_pydict(places | {"gain": judged["gain"]}).drop_null()  # those of other queries
        query, item, gain = (runfile.numbers(known[name]) for name in known.column_names)
        query, item, gain = query[gain > 0].astype(np.int64), item[gain > 0].astype(np.int64), gain[gain > 0]
        order = np.lexsort((-gain, query))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(self.query_ids)))])
        self.ideals = metrics.Ideals(offsets, gain[order], self.relevant_from)
        self._judged, self._to = (query, item, gain), {}
        if len(np.unique(query * self.n_items + item)) < len(query):
            raise ValueError("a judgement is given twice")
        self._starts = np.arange(len(self.query_ids))[:, None] * self.n_items

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(q n,) uint8 and the gains they stand for; None where a table is too large, or more than it takes."""
        (query, item, gain), size = self._judged, len(self.query_ids) * self.n_items
        levels, code = np.unique(gain, return_inverse=True)
        if size > _MOST_CELLS or len(levels) > 255 or np.bincount(query, minlength=1).max() <= _FEW:
            return None
        cells = np.zeros(size, dtype=np.uint8)
        cells[query * self.n_items + item] = code + 1
        return cells, np.concatenate([[0.0], levels])

    @cached_property
    def _lists(self) -> tuple[np.ndarray, np.ndarray]:
        """(m, q, 1) int32 and float64: the judged items of each query, -1 beyond the last, and their gains."""
        query, item, gain = self._judged
        order = np.argsort(query, kind="stable")
        counts = np.bincount(query, minlength=len(self.query_ids))
        place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = np.full((counts.max(initial=0), len(counts), 1), -1, dtype=np.int32)
        gains = np.zeros(items.shape)
        items[place, query[order], 0], gains[place, query[order], 0] = item[order], gain[order]
        return items, gains

    def gains(self, item: np.ndarray) -> np.ndarray:
        """(q k,) float64 of the items (q, k) int32 that stand first, in order of rank."""
        if self._cells:
            cells, levels = self._cells
            return levels.take(cells.take((self._starts + item).ravel()))  # much faster than by brackets
        found = np.zeros(item.shape)
        for judged, gain in zip(*self._lists, strict=True):
            found += (item == judged) * gain  # (q, k) == (q, 1)
        return found.ravel()

    def _ranks(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of rankings k deep: owner (q k,) int64 and rank (q k,) int32."""
        if k not in self._to:
            asks = np.arange(len(self.query_ids))
            self._to[k] = np.repeat(asks, k), np.tile(np.arange(1, k + 1, dtype=np.int32), len(asks))
        return self._to[k]

    def values(self, item: np.ndarray, measure: str) -> np.ndarray:
        """(q,) float64, NaN for queries without a relevant item, of the items (q depth,) int32 that stand first.

        Raises ValueError for items of another gallery.
        """
        fits = len(item) == len(self.query_ids) * self.depth
        if not fits or item.min(initial=0) < 0 or item.max(initial=0) >= self.n_items:
            raise ValueError("other items than the gallery's")
        k = min(metrics.parse(measure).k, self.depth)
        gains = self.gains(item.reshape(len(self.query_ids), self.depth)[:, :k])
        top = Top(self.query_ids, *self._ranks(k), gains, self.relevant_from, k)
        return metrics.evaluate(top, [measure], self.ideals)[measure]


@dataclass(frozen=True)
class _File:
    """A run file. heads: per row, the compressed bytes of the columns that say what was asked of what. items: per row,
    (q depth,) int32, what stands first."""

    data: bytes
    heads: list[bytes]
    items: list[np.ndarray]


def read(found: Iterable[tuple[Path, Mapping]]) -> Iterator[Values | DataError | None]:
    """The units and values of the headlines of records of one task and data set, in order; None for a headline that is
    null, an error where the run file does not give it.
    """
    shared = _Shared()
    for path, record in found:
        try:
            known = record["scores"][record["task"]["headline"]]["mean"] is not None
            yield shared.values(path, record, _opened(path, record)) if known else None
        except DataError as problem:
            yield problem


def _opened(path: Path, record: Mapping) -> _File | None:
    """A record's run file, its sha256 checked; None for one that has not the columns. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = runfile.read_bytes(path.with_name(record["run_file"]["name"]), record["run_file"])
    try:
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            heads = _heads(file.metadata, data)
            items = file.read(columns=["item"], use_threads=False)["item"]
        return _File(data, heads, [runfile.numbers(items[row].values) for row in range(len(heads))])
    except _WRONG:
        return None


class _Shared:
    """What the run files of one task and data set share, found as they are read."""

    def __init__(self):
        self._judged: dict[Path, object] = {}
        self._galleries: dict[tuple[Path, bytes], Gallery] = {}
        self._units: dict[tuple, tuple[scores.Units, np.ndarray, tuple[str, ...]]] = {}

    def values(self, path: Path, record: Mapping, file: _File | None) -> Values | None:
        mean = record["scores"][record["task"]["headline"]]["mean"]
        try:
            found = file and self._quick(file, path, record)
            if found and abs(found[1].mean() - mean) < _ROUNDING:
                return found
        except _WRONG:
            pass
        return careful(path, record)  # which has the words for whatever is wrong with the file

    def _quick(self, file: _File, path: Path, record: Mapping) -> Values | None:
        """The values where the tops of the rankings tell them, else None."""
        headline, judgements = record["task"]["headline"], records.judgements_path(path, record)
        found = [self._gallery(file, row, judgements) for row in range(len(file.heads))]
        rows = {gallery.pair: row for row, gallery in enumerate(found)}
        wanted = [rows[pair["name"]] for pair in record["task"]["pairs"]] or [rows[""]]
        galleries = [found[row] for row in wanted]
        if any(gallery.depth < metrics.parse(headline).k for gallery in galleries):
            return None
        parts = [found[row].values(file.items[row], headline) for row in wanted]
        key = (headline, *map(id, galleries))
        if key not in self._units:
            pairs = [(gallery.query_ids, ~np.isnan(part)) for gallery, part in zip(galleries, parts, strict=True)]
            units = scores.Units.of(pairs)
            order = np.array(sorted(range(len(units.ids)), key=units.ids.__getitem__), dtype=np.int64)
            self._units[key] = units, order, tuple(units.ids[i] for i in order)
        units, order, ids = self._units[key]
        return ids, units.values(parts)[order], _by_pair(units, parts)[:, order] if record["task"]["pairs"] else None

    def _gallery(self, file: _File, row: int, judgements: Path) -> Gallery:
        """The gallery of a row; rows of the same head have the same."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if judgements not in self._judged:
            with pq.ParquetFile(judgements) as judged:
                self._judged[judgements] = judged.read(columns=["pair", "query_id", "item_id", "gain"])
        key = judgements, file.heads[row]
        if key not in self._galleries:
            names = [name.partition(".")[0] for name in _HEAD]
            columns = pq.ParquetFile(pa.BufferReader(file.data)).read_row_group(row, columns=names)
            known = {name: columns[name][0] for name in names}
            known |= {name: known[name].values if name.endswith("_ids") else known[name].as_py() for name in names}
            judged = self._judged[judgements]
            self._galleries[key] = Gallery(known, judged.filter(pc.equal(judged["pair"], columns["pair"][0])))
        return self._galleries[key]


def _heads(about, data: bytes) -> list[bytes]:
    """See `_File`, from the file's metadata."""
    place = {about.schema.column(i).path: i for i in range(about.num_columns)}
    heads = []
    for row in range(about.num_row_groups):
        group, parts = about.row_group(row), []
        for column in (group.column(place[name]) for name in _HEAD):
            start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
            parts.append(data[start : start + column.total_compressed_size])
        heads.append(b"|".join(parts))
    return heads


def careful(path: Path, record: Mapping, measure: str | None = None) -> Values | None:
    """The same for one record, from its whole run file, of the headline or another measure. Raises DataError."""
    measure = measure or record["task"]["headline"]
    if record["scores"][measure]["mean"] is None:
        return None
    run = records.run_of(path, record)
    pairs = [pair["name"] for pair in record["task"]["pairs"]] or [""]
    parts = [scores.PairScores(run.rankings[pair], (measure,)).values(measure) for pair in pairs]
    units = scores.Units.of([(run.rankings[p].query_ids, ~np.isnan(v)) for p, v in zip(pairs, parts, strict=True)])
    order = sorted(range(len(units.ids)), key=units.ids.__getitem__)
    apart = _by_pair(units, parts)[:, order] if record["task"]["pairs"] else None
    return tuple(units.ids[i] for i in order), units.values(parts)[order], apart


def _by_pair(units: scores.Units, parts: Sequence[np.ndarray]) -> np.ndarray:
    """(p, u) float64: what each unit has in each pair, NaN where it does not ask."""
    found = np.full((len(parts), len(units.ids)), np.nan)
    for row, values, scored, places in zip(found, parts, units.scored, units.rows, strict=True):
        row[places] = values[scored]
    return found
