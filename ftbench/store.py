"""Preparing a catalogue on disk: Arrow files through `datasets`, with a manifest and a fingerprint.

Must not know methods, encoders or tasks. A catalogue is written into a temporary folder and renamed when it is whole,
so an interrupted `prepare` leaves nothing that looks prepared.
"""

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from ftbench.catalogue import MANIFEST_SCHEMA, TABLES, Catalogue, cache_folder, file_sha256, note_hashed
from ftbench.errors import DataError, several
from ftbench.images import BrokenImage, load_photograph, perceptual_hash, png_bytes
from ftbench.items import SPLITS, Item, Progress, Queries, Source, SourceInfo, View
from ftbench.sources.fetch_files import held

# Rows written at a time: some 15 MB of studio pixels, 5 MB of texts. A reader keeps some 5 kB in memory for each batch.
_BATCH = {
    "items": 10_000,
    "images": 2_048,
    "texts": 4_096,
    "queries": 10_000,
    "judgements": 10_000,
    "interactions": 10_000,
}
_json = json.JSONEncoder(sort_keys=True).encode  # made once: json.dumps with settings makes one at every call


def _features(table: str) -> "object":
    from datasets import Features, List, Value

    text, number, truth = Value("string"), Value("int32"), Value("bool")
    asset = {"item": number, "name": text, "role": text, "probe": truth, "reveals": List(text), "sha256": text}
    return Features(
        {
            "items": {
                "item_id": text, "group": text, "split": text, "category": text, "attributes": text,
                "images": List(number), "texts": List(number),
            },
            "images": asset | {
                "phash": text, "height": number, "width": number, "encoding": text, "data": Value("large_binary"),
            },
            "texts": asset | {"text": text},
            "queries": {"query_id": text, "text": text, "split": text, "slices": List(text), "attributes": text},
            "judgements": {"query_id": text, "item_id": text, "gain": Value("float64")},
            "interactions": {"query_id": text, "item_id": text},
        }[table]
    )  # fmt: skip


class _Tables:
    """The Arrow files of one catalogue while they are being written."""

    def __init__(self, folder: Path):
        from datasets.arrow_writer import ArrowWriter

        self._features = {name: _features(name) for name in TABLES}
        self._writers = {
            name: ArrowWriter(path=str(folder / f"{name}.arrow"), features=self._features[name]) for name in TABLES
        }
        self.rows: Counter = Counter()

    def write(self, table: str, rows: list[dict]) -> None:
        import pyarrow as pa

        if rows:
            made = pa.Table.from_pylist(rows, schema=self._features[table].arrow_schema)
            self._writers[table].write_table(made, writer_batch_size=len(rows))
            self.rows[table] += len(rows)

    def close(self) -> None:
        import pyarrow as pa

        for name, writer in self._writers.items():
            if not self.rows[name]:
                writer.write_table(pa.Table.from_pylist([], schema=self._features[name].arrow_schema))
            writer.finalize()


def _image_row(content: "Path | np.ndarray", photographs: bool) -> dict:
    """The stored form of one image; raises BrokenImage with the reason when it cannot be decoded."""
    if isinstance(content, np.ndarray):
        shape = f"{content.shape[0]}x{content.shape[1]}|".encode()
        digest = hashlib.sha256(shape + content.tobytes()).hexdigest()
        return {"sha256": digest, "phash": "", "height": content.shape[0], "width": content.shape[1],
                "encoding": "raw", "data": content.tobytes()}  # fmt: skip
    photograph = load_photograph(content)
    pixels, kept = photograph.pixels, photograph.jpeg
    phash = f"{perceptual_hash(pixels):016x}" if photographs else ""
    return {"sha256": photograph.sha256, "phash": phash, "height": pixels.shape[0], "width": pixels.shape[1],
            "encoding": "jpeg" if kept else "png", "data": kept or png_bytes(pixels)}  # fmt: skip


class _Writer:
    """Turns items into rows, promotes the first valid view where the primary is broken, and keeps the fingerprint."""

    def __init__(self, folder: Path, info: SourceInfo):
        self.tables = _Tables(folder)
        self.info = info
        self.digest = hashlib.sha256(f"{info.name}|{info.version}".encode())
        self.broken: list[dict] = []
        self.counts: Counter = Counter()
        self.pending: dict[str, list[dict]] = {"items": [], "images": [], "texts": []}
        self.seen: dict[str, str] = {}

    def add(self, item: Item) -> None:
        if item.item_id in self.seen:
            raise DataError(f"{self.info.name}: item {item.item_id!r} occurs twice; item ids must be unique.")
        if item.split not in SPLITS:
            raise DataError(f"{self.info.name}: item {item.item_id!r} has split {item.split!r}; expected {SPLITS}.")
        self.seen[item.item_id] = item.split
        number = len(self.seen) - 1
        ids: dict[str, list[int]] = {"images": [], "texts": []}
        for kind, table in (("image", "images"), ("text", "texts")):
            rows = [row for view in item.views if view.kind == kind and (row := self._row(item, number, view))]
            if rows and all(row["role"] != "primary" for row in rows):
                rows[0]["role"] = "primary"
            for row in sorted(rows, key=lambda row: row["role"] != "primary"):
                ids[table].append(self.counts[table])
                self.counts[table] += 1
                self.pending[table].append(row)
                self._hash(kind, row["name"], row["role"], row["probe"], row["reveals"], row["sha256"])
        row = {"item_id": item.item_id, "group": item.group, "split": item.split, "category": item.category,
               "attributes": _json(dict(item.attributes))}  # fmt: skip
        self._hash(*row.values())
        self.pending["items"].append(row | ids)
        self.counts[item.split] += 1
        self.flush(whole=True)

    def _row(self, item: Item, number: int, view: View) -> dict | None:
        common = {"item": number, "name": view.name, "role": view.role, "probe": view.probe,
                  "reveals": list(view.reveals)}  # fmt: skip
        if view.kind == "text":
            if not view.content:
                return None
            return common | {"text": view.content, "sha256": hashlib.sha256(view.content.encode()).hexdigest()}
        try:
            return common | _image_row(view.content, self.info.photographs)
        except BrokenImage as problem:
            file = view.content.name if isinstance(view.content, Path) else ""
            self.broken.append({"item_id": item.item_id, "view": view.name, "file": file, "reason": str(problem)})
            return None

    def _hash(self, *values: object) -> None:
        self.digest.update(_json(values).encode())

    def flush(self, whole: bool = False) -> None:
        """Write the rows that wait; `whole`: only whole batches of them."""
        for table, rows in self.pending.items():
            if len(rows) >= _BATCH[table] or not whole:
                self.tables.write(table, rows)
                rows.clear()

    def add_queries(self, queries: Queries) -> None:
        known = {query.query_id: query.split for query in queries.queries}
        for evidence in (*queries.judgements, *queries.interactions):
            if evidence.query_id not in known or evidence.item_id not in self.seen:
                raise DataError(
                    f"{self.info.name}: evidence names query {evidence.query_id!r} and item {evidence.item_id!r}, "
                    "and one of them does not exist; the source must drop and count such rows."
                )
        for pair in queries.interactions:
            if (known[pair.query_id], self.seen[pair.item_id]) != ("train", "train"):
                raise DataError(
                    f"{self.info.name}: interaction {pair.query_id!r}-{pair.item_id!r} leaves the train split."
                )
        self._add_rows("queries", (
            {"query_id": query.query_id, "text": query.text, "split": query.split, "slices": list(query.slices),
             "attributes": _json(dict(query.attributes))} for query in queries.queries
        ))  # fmt: skip
        self._add_rows("judgements", (
            {"query_id": pair.query_id, "item_id": pair.item_id, "gain": pair.gain} for pair in queries.judgements
        ))  # fmt: skip
        self._add_rows("interactions", (
            {"query_id": pair.query_id, "item_id": pair.item_id} for pair in queries.interactions
        ))  # fmt: skip

    def _add_rows(self, table: str, rows: Iterable[dict]) -> None:
        rows = iter(rows)
        while batch := list(islice(rows, _BATCH[table])):
            for row in batch:
                self._hash(*row.values())
            self.tables.write(table, batch)
            self.counts[table] += len(batch)


def _rows_of(source: Source) -> dict[str, dict[str, int]]:
    """What became of the rows of each of a source's tables; {} where it reads none. Raises DataError for lost rows."""
    rows: Mapping[str, Mapping[str, int]] = getattr(source, "rows", {})
    lost = [
        f"{table}: {counts['read']:,} rows read, but {counts['kept']:,} kept, {counts['merged']:,} merged and "
        f"{counts['dropped']:,} dropped"
        for table, counts in rows.items()
        if counts["read"] != counts["kept"] + counts["merged"] + counts["dropped"]
    ]
    if lost:
        raise several(f"{source.info.name}: the source lost rows without a reason, a defect of it", lost, DataError)
    return {table: dict(counts) for table, counts in rows.items()}


def _check_photographs(source: Source, writer: _Writer) -> None:
    """Raises DataError where a person's own catalogue names photographs and not one of them can be used."""
    reasons = Counter({reason: n for reason, n in source.dropped.items() if reason.startswith("image ")})
    reasons.update(broken["reason"].split(":")[0] for broken in writer.broken)
    if source.info.private and reasons and not writer.counts["images"]:
        whys = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common(3))
        example = next((f", such as {broken['file']}" for broken in writer.broken if broken["file"]), "")
        raise DataError(
            f"{source.info.name}: none of its photographs can be used ({whys}{example}). Check where they lie: --images"
        )


def prepare(source: Source, progress: Progress, cache: Path | None = None) -> Catalogue:
    """Read a source into a catalogue on disk and open it. An existing catalogue of that name is replaced whole.

    Raises DataError where another command prepares the same name, and where the disk is full.
    """
    root, name = (cache or cache_folder()) / "data", source.info.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / f".{name}.lock").touch()
    except OSError as problem:
        raise DataError(f"cannot write to {root}: {problem}. Set FTBENCH_CACHE to a folder you may write to.") from None
    lock = root / f".{name}.lock"
    with held(lock):
        try:
            return _prepare(source, progress, root)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT) and "No space left" not in str(problem):
                raise
            raise DataError(
                f"{name}: no space is left on the disk of {root.parent}. Free some, or set FTBENCH_CACHE to a folder "
                "with more; what was fetched is kept, and the same command goes on from there."
            ) from None
        finally:
            lock.unlink(missing_ok=True)  # while it is held: whoever waits for it finds another file and tries anew


def _prepare(source: Source, progress: Progress, root: Path) -> Catalogue:
    for leftover in root.glob(f".{source.info.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = root / f".{source.info.name}.{os.getpid()}.tmp"
    folder.mkdir()
    try:
        writer = _Writer(folder, source.info)
        for item in source.items(progress):
            writer.add(item)
        writer.flush()
        writer.add_queries(source.queries())
        writer.tables.close()
        if not writer.seen:
            raise DataError(f"{source.info.name}: the source has no items.")
        _check_photographs(source, writer)
        rows = _rows_of(source)  # complete now that items and queries have been read
        reasons = Counter(broken["reason"].split(":")[0] for broken in writer.broken)
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "info": asdict(source.info),
            "fingerprint": writer.digest.hexdigest(),
            "counts": {name: writer.counts[name] for name in (*SPLITS, *TABLES[1:])} | {"items": len(writer.seen)},
            "rows": rows,
            "dropped": dict(source.dropped) | {f"broken image ({reason})": n for reason, n in reasons.items()},
            "broken": writer.broken,
            "files": {
                f"{name}.arrow": {
                    "bytes": (folder / f"{name}.arrow").stat().st_size,
                    "sha256": file_sha256(folder / f"{name}.arrow"),
                }
                for name in TABLES
            },
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        target = root / source.info.name
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
        note_hashed(target, manifest["files"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Catalogue(target, manifest)
