"""Run files: what one run ranked, in one small Parquet file, exactly. Must not know records or measures.

One row per pair (one row named "" for query2item), one list column per array of `search.Ranking`. What others give is
left out: gains and ideals come from the judgements, which are committed once per data set; `offsets` is kept as counts,
`tie_first` as its distance from the rank. Of each query the top `depth` stand first; the entries below follow in the
order of its judgements (gain descending, then item id), as steps in that list: mostly zeros. Scores go through
BYTE_STREAM_SPLIT and ids through DELTA_BYTE_ARRAY before zstd: about 120 KB for 2,000 queries against 2,000 items.
The same rankings give the same bytes on one machine (the version of pyarrow is part of the file).
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.search import Ranking

_INTEGERS = ("entries", "item", "below", "rank", "tie_before", "tie_size")  # int32
_IDS = ("query_ids", "item_ids")
COLUMNS = ("pair", "depth", "relevant_from", *_IDS, *_INTEGERS, "score", "slice_names", "slice_bits")
_MOST_SLICES = 62  # bits of an int64 that a mask may use
_ZSTD_LEVEL = 19  # the highest that needs no special window; a file takes about 50 ms

Judgements = Mapping[str, Mapping[str, Mapping[str, float]]]  # {pair: {query id: {item id: gain}}}


@dataclass(frozen=True)
class Run:
    """What a run file holds: a ranking per pair ("" for query2item), and the query ids that each slice counts."""

    rankings: Mapping[str, Ranking]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def write_run(path: Path, run: Run, judgements: Judgements) -> dict:
    """Write a run file; returns the record's `run_file` field: {name, sha256, bytes, depth}.

    judgements: those that the rankings were made with. Raises DataError where they are not.
    """
    data = _encode(run, judgements)
    write_atomic(path, data)
    depths = {ranking.depth for ranking in run.rankings.values()}
    return {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "depth": min(depths)}


def read_run(path: Path, judgements: Judgements, expected: Mapping | None = None) -> Run:
    """The run of a file, exactly as it was written.

    judgements: those it was written with. expected: the record's `run_file` field; size and sha256 are then checked.
    Raises DataError where the file is missing, is not the one that the record names, or does not hold a run.
    """
    data = read_bytes(path, expected)
    try:
        return _decode(data, judgements)
    except (ValueError, TypeError, KeyError, OSError) as problem:  # pyarrow's own errors are ValueErrors
        raise DataError(
            f"{path} is not a run file of these judgements: {problem}. "
            f"Expected the Parquet columns {', '.join(COLUMNS)}."
        ) from None


def read_slices(path: Path, expected: Mapping | None = None) -> dict[str, tuple[str, ...]]:
    """`Run.slices` of a run file alone: much faster than `read_run`, and without judgements. Raises DataError too."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(io.BytesIO(read_bytes(path, expected))) as file:
            table = file.read(columns=["query_ids", "slice_names", "slice_bits"])
        return _slices(table, [ids.as_py() for ids in table["query_ids"]])
    except (ValueError, TypeError, KeyError, OSError) as problem:
        raise DataError(f"{path} is not a run file: {problem}.") from None


def numbers(column) -> np.ndarray:
    """A column without gaps as an array, through DLPack: arrow's own `to_numpy` imports pandas, which takes 0.3 s."""
    return np.from_dlpack(column.combine_chunks() if hasattr(column, "combine_chunks") else column)


def read_bytes(path: Path, expected: Mapping | None = None) -> bytes:
    """A run file as it is on disk, the sha256 of a record's `run_file` field checked. Raises DataError."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise DataError(
            f"run file {path} cannot be read: {problem.strerror}. Run the record's command again with --force."
        ) from None
    if expected is not None and hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise DataError(
            f"run file {path} ({len(data)} bytes) is not the one its record names ({expected['bytes']} bytes, sha256 "
            f"{expected['sha256'][:12]}…). Run the record's command again with --force."
        )
    return data


def export_trec(run: Run, tag: str = "ftbench") -> Iterator[str]:
    """The run as TREC lines "query Q0 item rank score tag"; a pair other than "" is put before the query as "pair:".

    Scores are printed with the fewest digits that give the same float32 back. Raises DataError for an id with a space.
    """
    for pair, ranking in run.rankings.items():
        prefix = f"{pair}:" if pair else ""
        for identifier in (*ranking.query_ids, *ranking.item_ids, tag):
            if not identifier or any(character.isspace() for character in identifier):
                raise DataError(f"{identifier!r} cannot stand in a TREC line: no spaces in ids.")
        for q, query in enumerate(ranking.query_ids):
            for e in range(ranking.offsets[q], ranking.offsets[q + 1]):
                score = np.format_float_positional(ranking.score[e], unique=True, trim="0")
                yield f"{prefix}{query} Q0 {ranking.item_ids[ranking.item[e]]} {ranking.rank[e]} {score} {tag}"


def export_qrels(judgements: Judgements) -> Iterator[str]:
    """Judgements as TREC lines "query 0 item gain", in order; pairs as in `export_trec`. Raises DataError for gains
    that are not whole numbers, and for ids with a space."""
    for pair, gains in judgements.items():
        prefix = f"{pair}:" if pair else ""
        for query, items in gains.items():
            for item, gain in items.items():
                if gain != int(gain):
                    raise DataError(f"the gain of {item} for {query} is {gain:g}: qrels hold whole numbers alone.")
                if any(character.isspace() for character in query + item):
                    raise DataError(f"{query!r} or {item!r} cannot stand in a TREC line: no spaces in ids.")
                yield f"{prefix}{query} 0 {item} {int(gain)}"


@dataclass(frozen=True)
class _Judged:
    """Positive judgements of some queries, of each by gain descending, then item id, of items in the gallery.

    offsets (q+1,) int64: those of query i are [offsets[i], offsets[i+1]); item (j,) int32, gain (j,) float64.
    """

    offsets: np.ndarray
    item: np.ndarray
    gain: np.ndarray

    @classmethod
    def of(cls, query_ids: list[str], item_ids: list[str], gains: Mapping[str, Mapping[str, float]]) -> "_Judged":
        place = {item: i for i, item in enumerate(item_ids)}
        lists = [
            sorted((-gain, item) for item, gain in gains.get(query, {}).items() if gain > 0 and item in place)
            for query in query_ids
        ]
        return cls(
            np.cumsum([0, *map(len, lists)], dtype=np.int64),
            np.array([place[item] for judged in lists for _, item in judged], dtype=np.int32),
            np.array([-gain for judged in lists for gain, _ in judged], dtype=np.float64),
        )

    def places(self, owner: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(e,) int64: where each entry's item stands among all judgements, -1 where its query has none of it."""
        size = 1 + max(self.item.max(initial=0), item.max(initial=0))
        keys = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets)) * size + self.item
        order = np.argsort(keys)
        wanted = owner * size + item
        near = np.append(order, -1)[np.searchsorted(keys, wanted, sorter=order)]
        return np.where(np.append(keys, -1)[near] == wanted, near, -1)

    def gains(self, places: np.ndarray) -> np.ndarray:
        """(e,) float64, 0 for place -1."""
        return np.append(self.gain, 0.0)[places]


def _row(pair: str, ranking: Ranking, slices: Mapping[str, tuple[str, ...]], gains: Mapping) -> dict:
    """One pair as the values of one row."""
    bits = np.zeros(len(ranking.query_ids), dtype=np.int64)
    for i, members in enumerate(slices.values()):
        inside = set(members)
        bits |= np.array([query in inside for query in ranking.query_ids], dtype=np.int64) << i
    judged = _Judged.of(ranking.query_ids, ranking.item_ids, gains)
    owner = ranking.owner
    places, below = judged.places(owner, ranking.item), ranking.rank > ranking.depth
    fits = np.array_equal(judged.gains(places), ranking.gain) and (places[below] >= 0).all()
    if not fits or not np.array_equal(judged.gain, ranking.ideal):
        raise DataError(
            f"the ranking of pair {pair!r} was not made with the judgements given; expected the same gains."
        )
    order = np.lexsort((np.where(below, places, ranking.rank), below, owner))
    places, owner, below = places[order][below[order]], owner[order][below[order]], below[order]
    start = np.where(_firsts(owner), judged.offsets[owner], np.roll(places, 1) + 1)
    return {
        "pair": pair,
        "depth": ranking.depth,
        "relevant_from": ranking.relevant_from,
        "query_ids": ranking.query_ids,
        "item_ids": ranking.item_ids,
        "entries": np.diff(ranking.offsets),
        "item": ranking.item[order][~below],
        "below": places - start,
        "rank": ranking.rank[order],
        "tie_before": (ranking.rank - ranking.tie_first)[order],
        "tie_size": ranking.tie_size[order],
        "score": ranking.score[order],
        "slice_names": list(slices),
        "slice_bits": bits,
    }


def _firsts(owner: np.ndarray) -> np.ndarray:
    """(e,) bool: whether an entry is the first of its owner."""
    return np.diff(owner, prepend=-1) != 0


def _types() -> dict:
    import pyarrow as pa

    types = {"pair": pa.string(), "depth": pa.int32(), "relevant_from": pa.float64()}
    types |= dict.fromkeys((*_IDS, "slice_names"), pa.list_(pa.string()))
    types |= dict.fromkeys(_INTEGERS, pa.list_(pa.int32()))
    types |= {"score": pa.list_(pa.float32()), "slice_bits": pa.list_(pa.int64())}
    return {name: types[name] for name in COLUMNS}


def _encode(run: Run, judgements: Judgements) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(run.slices) > _MOST_SLICES:
        raise DataError(f"{len(run.slices)} slices given; a run file holds at most {_MOST_SLICES}.")
    rows = [_row(pair, ranking, run.slices, judgements.get(pair, {})) for pair, ranking in run.rankings.items()]
    columns = {name: pa.array([row[name] for row in rows], type=kind) for name, kind in _types().items()}

    def leaf(name: str) -> str:
        return f"{name}.list.element"

    encodings = dict.fromkeys(map(leaf, (*_INTEGERS, "score")), "BYTE_STREAM_SPLIT")
    encodings |= dict.fromkeys(map(leaf, _IDS), "DELTA_BYTE_ARRAY")
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        buffer,
        row_group_size=1,  # one pair can be read without the others
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[leaf("slice_bits")],
        column_encoding=encodings,
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


def _decode(data: bytes, judgements: Judgements) -> Run:
    import pyarrow.parquet as pq

    with pq.ParquetFile(io.BytesIO(data)) as file:
        missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"without the columns {', '.join(missing)}")
        table = file.read(columns=list(COLUMNS))
    rankings = {}
    for i, pair in enumerate(table["pair"].to_pylist()):
        row = {name: table[name][i] for name in COLUMNS}
        rankings[pair] = _ranking(pair, row, judgements.get(pair, {}))
    return Run(rankings, _slices(table, [ranking.query_ids for ranking in rankings.values()]))


def _slices(table, queries: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The members of each slice. queries: the query ids of each row of the table."""
    slices: dict[str, dict] = {}
    for row, query_ids in enumerate(queries):
        bits = numbers(table["slice_bits"][row].values)
        if len(bits) != len(query_ids):
            raise ValueError(f"{len(bits)} slice masks for {len(query_ids)} queries")
        for s, name in enumerate(table["slice_names"][row].as_py()):
            known = slices.setdefault(name, {})  # a dict keeps the order of first sight
            known.update(dict.fromkeys(query_ids[q] for q in np.flatnonzero(bits >> s & 1)))
    return {name: tuple(members) for name, members in slices.items()}


def _ranking(pair: str, row: Mapping, gains: Mapping[str, Mapping[str, float]]) -> Ranking:
    """A row as a Ranking; ValueError where its arrays do not fit together, or do not fit the judgements."""
    arrays = {name: numbers(row[name].values) for name in (*_INTEGERS, "score")}
    query_ids, item_ids, depth = row["query_ids"].as_py(), row["item_ids"].as_py(), row["depth"].as_py()
    counts, rank, below = arrays["entries"].astype(np.int64), arrays["rank"], arrays["rank"] > depth
    judged = _Judged.of(query_ids, item_ids, gains)
    fits = (
        len(counts) == len(query_ids)
        and (counts >= 0).all()
        and {len(arrays[name]) for name in ("rank", "tie_before", "tie_size", "score")} == {int(counts.sum())}
        and (len(arrays["item"]), len(arrays["below"])) == ((~below).sum(), below.sum())
    )
    if not fits:
        raise ValueError(f"pair {pair!r} has arrays that do not fit together")
    owner = np.repeat(np.arange(len(counts)), counts)
    item = np.zeros(len(rank), dtype=np.int32)
    item[~below] = arrays["item"]
    # within a query each step counts from the place after the one before: running sums, restarted at each query
    asks = owner[below]
    first, running = _firsts(asks), np.cumsum(arrays["below"].astype(np.int64) + 1)
    before = np.where(first, running - arrays["below"] - 1, 0)
    places = judged.offsets[asks] + running - np.maximum.accumulate(before) - 1
    if (places >= judged.offsets[asks + 1]).any() or (arrays["below"] < 0).any():
        raise ValueError(f"pair {pair!r} has entries that the judgements do not have")
    item[below] = judged.item[places]
    if len(item) and not 0 <= item.min() <= item.max() < len(item_ids):
        raise ValueError(f"pair {pair!r} has arrays that do not fit together")
    order = np.lexsort((rank, owner))
    return Ranking(
        query_ids=query_ids,
        item_ids=item_ids,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        item=item[order],
        rank=rank[order].astype(np.int32),
        score=arrays["score"][order].astype(np.float32),
        gain=judged.gains(judged.places(owner, item))[order],
        tie_first=(rank - arrays["tie_before"])[order].astype(np.int32),
        tie_size=arrays["tie_size"][order].astype(np.int32),
        ideal_offsets=judged.offsets,
        ideal=judged.gain,
        relevant_from=row["relevant_from"].as_py(),
        depth=depth,
    )


def write_judgements(path: Path, gains: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Write {pair: {query id: {item id: gain}}} as the Parquet columns pair, query_id, item_id, gain.

    A file that is already there must say the same of the pairs it has, and gains those it has not (a method may enter
    some pairs only). Raises DataError otherwise: the gains of a data set's fingerprint do not change.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = read_judgements(path) if path.is_file() else {}
    given = {pair: {query: dict(items) for query, items in queries.items() if items} for pair, queries in gains.items()}
    given = {pair: queries for pair, queries in given.items() if queries}
    if any(known[pair] != queries for pair, queries in given.items() if pair in known):
        raise DataError(
            f"{path} holds other judgements than this run used, for the same data fingerprint. If the data set was "
            "changed, raise its version; otherwise remove the file and run again."
        )
    if path.is_file() and set(given) <= set(known):
        return
    rows = [
        (pair, query, item, float(gain))
        for pair, queries in sorted((known | given).items())
        for query, items in sorted(queries.items())
        for item, gain in sorted(items.items())
    ]
    kinds = {"pair": pa.string(), "query_id": pa.string(), "item_id": pa.string(), "gain": pa.float64()}
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    table = pa.table({name: pa.array(c, type=kinds[name]) for name, c in zip(kinds, columns, strict=True)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=_ZSTD_LEVEL, store_schema=False)
    write_atomic(path, buffer.getvalue())


def read_judgements(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """{pair: {query id: {item id: gain}}} as written; queries without a judged item are not in it."""
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise DataError(f"the judgements {path} are missing. Run a record's command again with --force to write them.")
    try:
        with pq.ParquetFile(path) as file:  # `read_table` imports pandas, which takes a tenth of a second
            return _nested(file.read(columns=["pair", "query_id", "item_id", "gain"]))
    except (ValueError, OSError) as problem:
        raise DataError(
            f"{path} does not hold judgements: {problem}. Remove it and run a record's command again with --force."
        ) from None


def _nested(table) -> dict[str, dict[str, dict[str, float]]]:
    gains: dict = {}
    for pair, query, item, gain in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        gains.setdefault(pair, {}).setdefault(query, {})[item] = gain
    return gains
