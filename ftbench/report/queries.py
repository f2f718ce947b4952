"""Per-query values of the headline measure of many records, straight from the columns of their run files.

Reads only what stands in the top of a ranking, and once what the runs of a data set share: ids, judgements, ideals. The
values are those of `scores.PairScores`, to the last digit. Must not know pages or rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ftbench import metrics, runfile, scores
from ftbench import record as records

_HEAD = ("pair", "depth", "relevant_from", "query_ids.list.element", "item_ids.list.element")
_MOST_CELLS = 64_000_000  # queries x items that are held as a table (a byte each); larger ones are searched
_ROUNDING = 1e-9  # a record's mean and that of its values differ by less; means are near 1

Values = tuple[tuple[str, ...], np.ndarray]  # ids (u) ascending, values (u,) float64


@dataclass(frozen=True)
class Top:
    """The top of a ranking: as much of a `search.Ranking` as measures to its depth ask for. gain (q depth,) float64."""

    query_ids: Sequence[str]
    gain: np.ndarray
    relevant_from: float
    depth: int

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.arange(len(self.query_ids) + 1) * self.depth

    @cached_property
    def rank(self) -> np.ndarray:
        return np.tile(np.arange(1, self.depth + 1, dtype=np.int32), len(self.query_ids))


class Gallery:
    """What all runs of a pair share: who asks, what is judged and how. Raises ValueError for an id given twice."""

    def __init__(self, head: Mapping, judged):
        """head: the row of a run file, its ids as arrow arrays; judged: the pair's judgements, an arrow table."""
        import pyarrow.compute as pc

        self.pair, self.depth, self.relevant_from = head["pair"], head["depth"], head["relevant_from"]
        queries, items = head["query_ids"], head["item_ids"]
        if any(pc.count_distinct(ids, mode="all").as_py() < len(ids) for ids in (queries, items)):
            raise ValueError("an id is given twice")
        self.query_ids, self.n_items = queries.to_pylist(), len(items)
        places = [pc.index_in(judged[name], ids) for name, ids in (("query_id", queries), ("item_id", items))]
        query, item = (place.to_numpy(zero_copy_only=False) for place in map(_whole, places))
        gain = _whole(judged["gain"]).to_numpy(zero_copy_only=False).astype(np.float64)
        known = ~np.isnan(query) & ~np.isnan(item) & (gain > 0)
        query, item, gain = query[known].astype(np.int64), item[known].astype(np.int64), gain[known]
        order = np.lexsort((-gain, query))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(self.query_ids)))])
        self.ideals = metrics.Ideals(offsets, gain[order], self.relevant_from)
        keys = query * self.n_items + item
        order = np.argsort(keys)
        self._keys, self._gain = keys[order], gain[order]
        if (np.diff(self._keys) == 0).any():
            raise ValueError("a judgement is given twice")
        self._starts = np.arange(len(self.query_ids))[:, None] * self.n_items

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(q n,) uint8 and the gains they stand for; None where there are too many of either."""
        size = len(self.query_ids) * self.n_items
        levels, code = np.unique(self._gain, return_inverse=True)
        if size > _MOST_CELLS or len(levels) > 255:
            return None
        cells = np.zeros(size, dtype=np.uint8)
        cells[self._keys] = code + 1
        return cells, np.concatenate([[0.0], levels])

    def gains(self, item: np.ndarray) -> np.ndarray:
        """(q depth,) float64 of the items (q depth,) int32 that stand first, in order of rank."""
        wanted = (self._starts + item.reshape(len(self.query_ids), -1)).ravel()
        if self._cells:
            cells, levels = self._cells
            return levels.take(cells.take(wanted))  # much faster than by brackets
        near = np.minimum(np.searchsorted(self._keys, wanted), max(len(self._keys) - 1, 0))
        return np.where(self._keys[near] == wanted, self._gain[near], 0.0) if len(self._keys) else np.zeros(len(wanted))

    def values(self, item: np.ndarray, measure: str) -> np.ndarray:
        """(q,) float64, NaN for queries without a relevant item. Raises ValueError for items of another gallery."""
        fits = len(item) == len(self.query_ids) * self.depth
        if not fits or item.min(initial=0) < 0 or item.max(initial=0) >= self.n_items:
            raise ValueError("other items than the gallery's")
        top = Top(self.query_ids, self.gains(item), self.relevant_from, self.depth)
        return metrics.evaluate(top, [measure], self.ideals)[measure]


def _whole(column):
    """A chunked arrow array in one piece."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


class Reader:
    """Reads the records of one task and data set, one after the other."""

    def __init__(self):
        self._judged: dict[Path, object] = {}
        self._galleries: dict[tuple[Path, bytes], Gallery] = {}
        self._units: dict[tuple, tuple[scores.Units, np.ndarray, tuple[str, ...]]] = {}

    def values(self, path: Path, record: Mapping) -> Values | None:
        """The units and values of a record's headline; None where it is null. Raises DataError."""
        headline = record["task"]["headline"]
        mean = record["scores"][headline]["mean"]
        if mean is None:
            return None
        data = runfile.read_bytes(path.with_name(record["run_file"]["name"]), record["run_file"])
        try:
            found = self._quick(data, path, record)
            if found is not None and abs(found[1].mean() - mean) < _ROUNDING:
                return found
        except (ValueError, TypeError, KeyError, IndexError, OSError):
            pass  # whatever is wrong with the file, the careful way finds the words for it
        return careful(path, record)

    def _quick(self, data: bytes, path: Path, record: Mapping) -> Values | None:
        """The values where the tops of the rankings tell them, else None."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        headline, judgements = record["task"]["headline"], records.judgements_path(path, record)
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            heads = _heads(file, data)
            found = [self._gallery(file, row, head, judgements) for row, head in enumerate(heads)]
            items = file.read(columns=["item"], use_threads=False)["item"]
        rows = {gallery.pair: row for row, gallery in enumerate(found)}
        wanted = [rows[pair["name"]] for pair in record["task"]["pairs"]] or [rows[""]]
        if any(found[row].depth < metrics.parse(headline).k for row in wanted):
            return None
        galleries = [found[row] for row in wanted]
        parts = [found[row].values(items[row].values.to_numpy(), headline) for row in wanted]
        key = (headline, *map(id, galleries))
        if key not in self._units:
            pairs = [(gallery.query_ids, ~np.isnan(part)) for gallery, part in zip(galleries, parts, strict=True)]
            units = scores.Units.of(pairs)
            order = np.array(sorted(range(len(units.ids)), key=units.ids.__getitem__), dtype=np.int64)
            self._units[key] = units, order, tuple(units.ids[i] for i in order)
        units, order, ids = self._units[key]
        return ids, units.values(parts)[order]

    def _gallery(self, file, row: int, head: bytes, judgements: Path) -> Gallery:
        """The gallery of a row; rows whose ids stand in the same bytes, `head`, have the same."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if judgements not in self._judged:
            self._judged[judgements] = pq.read_table(judgements, columns=["pair", "query_id", "item_id", "gain"])
        if (judgements, head) not in self._galleries:
            names = [name.partition(".")[0] for name in _HEAD]
            columns = file.read_row_group(row, columns=names, use_threads=False)
            known = {name: columns[name][0] for name in names}
            known |= {name: known[name].values if name.endswith("_ids") else known[name].as_py() for name in names}
            judged = self._judged[judgements]
            gallery = Gallery(known, judged.filter(pc.equal(judged["pair"], known["pair"])))
            self._galleries[judgements, head] = gallery
        return self._galleries[judgements, head]


def _heads(file, data: bytes) -> list[bytes]:
    """Per row, the compressed bytes of the columns that say what was asked of what."""
    about = file.metadata
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
    """The same as `Reader.values`, from the whole run file, of the headline or another measure. Raises DataError."""
    measure = measure or record["task"]["headline"]
    if record["scores"][measure]["mean"] is None:
        return None
    run = records.run_of(path, record)
    pairs = [pair["name"] for pair in record["task"]["pairs"]] or [""]
    ids, values = scores.units([scores.PairScores(run.rankings[pair], (measure,)) for pair in pairs], measure)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return tuple(ids[i] for i in order), values[order]
