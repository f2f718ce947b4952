"""Reading a prepared catalogue: memory-mapped Arrow files with a manifest; nothing is read before it is asked for.

Must not know how catalogues are made, nor methods, encoders or tasks.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from ftbench.assets import Assets, Column, ImageTable
from ftbench.errors import DataError
from ftbench.items import Interaction, Judgement, Query, SourceInfo

MANIFEST_SCHEMA = 1
_HASHED = "hashed.json"  # times of change at which files had the hashes of the manifest
TABLES = ("items", "images", "texts", "queries", "judgements", "interactions")


def cache_folder() -> Path:
    """Where prepared data and embeddings live: $FTBENCH_CACHE, else ~/.cache/ftbench."""
    return Path(os.environ.get("FTBENCH_CACHE") or Path.home() / ".cache" / "ftbench")


def downloads_folder() -> Path:
    """Where files fetched from the internet are kept, so that nothing is fetched twice."""
    return cache_folder() / "downloads"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_catalogue(name: str, cache: Path | None = None, verify: bool = False) -> "Catalogue | None":
    """A prepared catalogue, memory-mapped, or None when it has not been prepared.

    Sizes of all files are checked, and their SHA-256 where a file's time of change is not the one at which it was last
    hashed; `verify` hashes them all again. Raises DataError where they differ from the manifest.
    """
    folder = (cache or cache_folder()) / "data" / name
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        again = manifest["info"].get("command") or f"ftbench data prepare {name}"
    except (OSError, ValueError, KeyError, AttributeError):
        raise DataError(
            f"{name} is damaged (its manifest cannot be read). Remove {folder} and make it again: ftbench data prepare "
            f"{name}, or ftbench data import for your own catalogue"
        ) from None
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise DataError(
            f"{name} was prepared with manifest schema {manifest.get('schema')}, this ftbench reads "
            f"{MANIFEST_SCHEMA}. Make it again: {again}"
        )
    hashed = {} if verify else _read_hashed(folder)
    problems = []
    for file, expected in manifest["files"].items():
        path = folder / file
        if not path.is_file():
            problems.append(f"{file} is missing")
        elif path.stat().st_size != expected["bytes"]:
            problems.append(f"{file} has {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif hashed.get(file) != path.stat().st_mtime_ns and file_sha256(path) != expected["sha256"]:
            problems.append(f"{file} does not have the sha256 of its manifest")
    if problems:
        raise DataError(f"{name} is damaged ({'; '.join(problems)}). Make it again: {again}")
    note_hashed(folder, manifest["files"])
    return Catalogue(folder, manifest)


def own_names(cache: Path | None = None) -> list[str]:
    """Names of the catalogues that people imported here, sorted."""
    names = []
    for path in ((cache or cache_folder()) / "data").glob("*/manifest.json"):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8"))["info"].get("private"):
                names.append(path.parent.name)
    return sorted(names)


def prepared_names(cache: Path | None = None) -> list[str]:
    """Names of all catalogues prepared here, sorted."""
    return sorted(path.parent.name for path in ((cache or cache_folder()) / "data").glob("*/manifest.json"))


def note_hashed(folder: Path, files: Iterable[str]) -> None:
    """Note the times of change of files whose SHA-256 was just found right: opening need not hash them again."""
    times = {file: (folder / file).stat().st_mtime_ns for file in files}
    if times != _read_hashed(folder):
        with suppress(OSError):  # a folder that cannot be written is hashed at every opening
            (folder / _HASHED).write_text(json.dumps(times), encoding="utf-8")


def _read_hashed(folder: Path) -> dict[str, int]:
    try:
        return json.loads((folder / _HASHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


class Catalogue:
    """A prepared data set. Items are numbered 0..n-1 in the source's order; assets likewise."""

    def __init__(self, folder: Path, manifest: dict):
        self.folder = folder
        self.manifest = manifest
        self.info = SourceInfo(**(manifest["info"] | {"disclosures": tuple(manifest["info"]["disclosures"])}))
        self.fingerprint: str = manifest["fingerprint"]

    @property
    def name(self) -> str:
        return self.info.name

    def table(self, name: str) -> "object":
        """One of the Arrow tables (`TABLES`), memory-mapped."""
        import pyarrow as pa

        return pa.ipc.open_stream(pa.memory_map(str(self.folder / f"{name}.arrow"))).read_all()

    @cached_property
    def _items(self) -> "object":
        return self.table("items")

    @cached_property
    def item_ids(self) -> Column:
        return Column(self._items.column("item_id"))

    @cached_property
    def categories(self) -> Column:
        return Column(self._items.column("category"))

    @cached_property
    def groups(self) -> Column:
        return Column(self._items.column("group"))

    @cached_property
    def _attributes(self) -> Column:
        return Column(self._items.column("attributes"))

    def attributes(self, row: int) -> dict[str, str]:
        """What judging and the oracle know of an item; never handed to a ranked method."""
        return json.loads(self._attributes[row])

    def rows(self, split: str) -> np.ndarray:
        """Item numbers (n,) int64 of a split, or of all of them for "all". Raises DataError where there are none."""
        import pyarrow.compute as pc

        column = self._items.column("split")
        chosen = np.arange(len(column)) if split == "all" else np.flatnonzero(pc.equal(column, split).to_numpy())
        if not len(chosen):
            raise DataError(
                f"{self.name}: the split {split!r} has no items; expected at least one. "
                f"See: ftbench data verify {self.name}"
            )
        return chosen.astype(np.int64)

    def view_ids(self, kind: str) -> np.ndarray:
        """Asset ids (n, most views) int64 of every item, primary in column 0, -1 where a view is missing."""
        lists = self._items.column(kind + "s").combine_chunks()
        counts = lists.value_lengths().to_numpy(zero_copy_only=False)
        ids = np.full((len(counts), max(1, int(counts.max(initial=1)))), -1, dtype=np.int64)
        ids[np.arange(ids.shape[1]) < counts[:, None]] = lists.flatten().to_numpy(zero_copy_only=False)
        return ids

    @cached_property
    def assets(self) -> Assets:
        images, texts = self.table("images"), self.table("texts")
        return Assets(
            texts=Column(texts.column("text")),
            image_sha256=Column(images.column("sha256")),
            image_phash=Column(images.column("phash")),
            text_sha256=Column(texts.column("sha256")),
            image_names=Column(images.column("name")),
            text_names=Column(texts.column("name")),
            image_probe=Column(images.column("probe")),
            image_reveals=Column(images.column("reveals")),
            text_reveals=Column(texts.column("reveals")),
            _images=ImageTable(images),
        )

    def queries(self, split: str) -> list[Query]:
        """The queries of one split."""
        import pyarrow.compute as pc

        table = self.table("queries")
        return [
            Query(r["query_id"], r["text"], r["split"], tuple(r["slices"]), json.loads(r["attributes"]))
            for r in table.filter(pc.equal(table.column("split"), split)).to_pylist()
        ]

    def judgements(self, split: str) -> list[Judgement]:
        """The judgements of one split's queries."""
        known = {query.query_id for query in self.queries(split)}
        return [Judgement(**r) for r in self.table("judgements").to_pylist() if r["query_id"] in known]

    def interactions(self) -> list[Interaction]:
        """Train queries with the train item each led to."""
        return [Interaction(**r) for r in self.table("interactions").to_pylist()]
