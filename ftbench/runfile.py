"""Run files: what one run ranked, in one small Parquet file, exactly. Must not know records or measures.

One row per pair (one row named "" for query2item), one list column per array of `search.Ranking`. Numbers that
others give are left out: `offsets` is kept as counts, `tie_first` as its distance from the rank. Scores go through
BYTE_STREAM_SPLIT and ids through DELTA_BYTE_ARRAY before zstd: about 125 KB for 2,000 queries against 2,000 items.
The same rankings give the same bytes on one machine (the version of pyarrow is part of the file).
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ftbench.errors import DataError
from ftbench.search import Ranking

_INTEGERS = ("entries", "item", "rank", "tie_before", "tie_size", "ideal_counts")  # int32
_DOUBLES = ("gain", "ideal")  # float64, few distinct values: a dictionary
_IDS = ("query_ids", "item_ids")
_COLUMNS = ("pair", "depth", "relevant_from", *_IDS, *_INTEGERS, "score", *_DOUBLES, "slice_names", "slice_bits")
_MOST_SLICES = 62  # bits of an int64 that a mask may use
_ZSTD_LEVEL = 19  # the highest that needs no special window; a file takes about 50 ms


@dataclass(frozen=True)
class Run:
    """What a run file holds: a ranking per pair ("" for query2item), and the query ids that each slice counts."""

    rankings: Mapping[str, Ranking]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file in the same folder, fsync, rename.

    Raises DataError, naming the folder, where it cannot be written; the temporary file does not stay.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        raise DataError(
            f"cannot write {path.name} to {path.parent}: {problem.strerror or problem}. "
            "Choose another folder with --results."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_run(path: Path, run: Run) -> dict:
    """Write a run file; returns the record's `run_file` field: {name, sha256, bytes, depth}."""
    data = _encode(run)
    write_atomic(path, data)
    depths = {ranking.depth for ranking in run.rankings.values()}
    return {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "depth": min(depths)}


def read_run(path: Path, expected: Mapping | None = None) -> Run:
    """The run of a file, exactly as it was written.

    expected: the record's `run_file` field; size and sha256 are then checked. Raises DataError where the file is
    missing, is not the one that the record names, or does not hold a run.
    """
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
    try:
        return _decode(data)
    except (ValueError, TypeError, KeyError, OSError) as problem:  # pyarrow's own errors are ValueErrors
        raise DataError(
            f"{path} is not a run file: {problem}. Expected the Parquet columns {', '.join(_COLUMNS)}."
        ) from None


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


def _row(pair: str, ranking: Ranking, slices: Mapping[str, tuple[str, ...]]) -> dict:
    """One pair as the values of one row."""
    bits = np.zeros(len(ranking.query_ids), dtype=np.int64)
    for i, members in enumerate(slices.values()):
        inside = set(members)
        bits |= np.array([query in inside for query in ranking.query_ids], dtype=np.int64) << i
    return {
        "pair": pair,
        "depth": ranking.depth,
        "relevant_from": ranking.relevant_from,
        "query_ids": ranking.query_ids,
        "item_ids": ranking.item_ids,
        "entries": np.diff(ranking.offsets),
        "item": ranking.item,
        "rank": ranking.rank,
        "tie_before": ranking.rank - ranking.tie_first,
        "tie_size": ranking.tie_size,
        "ideal_counts": np.diff(ranking.ideal_offsets),
        "score": ranking.score,
        "gain": ranking.gain,
        "ideal": ranking.ideal,
        "slice_names": list(slices),
        "slice_bits": bits,
    }


def _types() -> dict:
    import pyarrow as pa

    types = {"pair": pa.string(), "depth": pa.int32(), "relevant_from": pa.float64()}
    types |= dict.fromkeys((*_IDS, "slice_names"), pa.list_(pa.string()))
    types |= dict.fromkeys(_INTEGERS, pa.list_(pa.int32()))
    types |= dict.fromkeys(_DOUBLES, pa.list_(pa.float64()))
    types |= {"score": pa.list_(pa.float32()), "slice_bits": pa.list_(pa.int64())}
    return {name: types[name] for name in _COLUMNS}


def _encode(run: Run) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(run.slices) > _MOST_SLICES:
        raise DataError(f"{len(run.slices)} slices given; a run file holds at most {_MOST_SLICES}.")
    rows = [_row(pair, ranking, run.slices) for pair, ranking in run.rankings.items()]
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
        use_dictionary=[leaf(name) for name in (*_DOUBLES, "slice_bits")],
        column_encoding=encodings,
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


def _decode(data: bytes) -> Run:
    import pyarrow.parquet as pq

    with pq.ParquetFile(io.BytesIO(data)) as file:
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"without the columns {', '.join(missing)}")
        table = file.read(columns=list(_COLUMNS))
    rankings, slices = {}, {}
    for i, pair in enumerate(table["pair"].to_pylist()):
        row = {name: table[name][i] for name in _COLUMNS}
        rankings[pair] = ranking = _ranking(pair, row)
        bits = row["slice_bits"].values.to_numpy()
        if len(bits) != len(ranking.query_ids):
            raise ValueError(f"pair {pair!r}: {len(bits)} slice masks for {len(ranking.query_ids)} queries")
        for s, name in enumerate(row["slice_names"].as_py()):
            inside = np.flatnonzero(bits >> s & 1)
            known = slices.setdefault(name, {})  # a dict keeps the order of first sight
            known.update(dict.fromkeys(ranking.query_ids[q] for q in inside))
    return Run(rankings, {name: tuple(members) for name, members in slices.items()})


def _ranking(pair: str, row: Mapping) -> Ranking:
    """A row as a Ranking; ValueError where its arrays do not fit together."""

    def array(name: str, dtype: type) -> np.ndarray:
        return row[name].values.to_numpy(zero_copy_only=False).astype(dtype)

    def offsets(name: str) -> np.ndarray:  # (q,) counts -> (q + 1,) offsets
        return np.concatenate([[0], np.cumsum(array(name, np.int64))])

    ranking = Ranking(
        query_ids=row["query_ids"].as_py(),
        item_ids=row["item_ids"].as_py(),
        offsets=offsets("entries"),
        item=array("item", np.int32),
        rank=array("rank", np.int32),
        score=array("score", np.float32),
        gain=array("gain", np.float64),
        tie_first=array("rank", np.int32) - array("tie_before", np.int32),
        tie_size=array("tie_size", np.int32),
        ideal_offsets=offsets("ideal_counts"),
        ideal=array("ideal", np.float64),
        relevant_from=row["relevant_from"].as_py(),
        depth=row["depth"].as_py(),
    )
    per_entry = {len(a) for a in (ranking.item, ranking.rank, ranking.score, ranking.gain, ranking.tie_first)}
    fits = (
        per_entry == {len(ranking.tie_size)} == {int(ranking.offsets[-1])}
        and len(ranking.offsets) == len(ranking.ideal_offsets) == len(ranking.query_ids) + 1
        and int(ranking.ideal_offsets[-1]) == len(ranking.ideal)
        and (np.diff(ranking.offsets) >= 0).all()
        and (np.diff(ranking.ideal_offsets) >= 0).all()
        and (not len(ranking.item) or 0 <= ranking.item.min() <= ranking.item.max() < len(ranking.item_ids))
    )
    if not fits:
        raise ValueError(f"pair {pair!r} has arrays that do not fit together")
    return ranking


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

    try:
        return _nested(pq.read_table(path, columns=["pair", "query_id", "item_id", "gain"]))
    except (ValueError, OSError) as problem:
        raise DataError(f"{path} does not hold judgements: {problem}.") from None


def _nested(table) -> dict[str, dict[str, dict[str, float]]]:
    gains: dict = {}
    for pair, query, item, gain in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        gains.setdefault(pair, {}).setdefault(query, {})[item] = gain
    return gains
