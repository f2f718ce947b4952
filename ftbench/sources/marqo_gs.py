"""Marqo GS-10M: search results with one photograph per product, a single-image control. Must not know stores.

A row is a query, a product and the position at which one search engine showed it: labels are ranks, not judgements. Of
its four parts two are used: `in_domain` to train and validate, `zero_shot` (its queries and products are in no other)
to test; the two others pair train queries with test products and the reverse, which no training pair may do.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftbench.errors import DataError
from ftbench.images import BrokenImage, load_photograph
from ftbench.items import Item, Progress, Queries, SourceInfo, View, silent, unit_hash
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.rows import PLACEHOLDER, SharedImages, Tally, image_key
from ftbench.sources.tables import clean_id, leave_out, parquet_rows, plain, reported

REPOSITORY = "Marqo/marqo-GS-10M"
REVISION = "cf665f0a2fb39830a4ae6011c54beb7bbc7a39a5"  # holds data/in_domain-N.parquet and the like, about 0.2 GB each
PARTS = ("in_domain", "zero_shot")
SHARES = {"in_domain": 0.8, "zero_shot": 0.2}  # of a tier's items: as the parts' rows, 3.93 to 0.98 million
RELEVANT_POSITION = 10  # a product on the first results page is a relevant one (ours)
RELEVANT_FROM = 1 / RELEVANT_POSITION
_COLUMNS = ("query", "query_id", "product_id", "position", "title", "image")
_QUALITY = 90  # of the JPEG files that are encoded here, as of those that are fetched
_BATCH = 1024  # rows at a time: about 10 MB of images


def shards(paths: Iterable[str], part: str) -> list[str]:
    """A part's files in the order in which tiers take them: by ascending hash of their paths."""
    name = part.replace("_", "[_-]")
    found = [path for path in paths if re.search(rf"(?:^|/){name}(?![a-z])[^/]*\.parquet$", path)]
    return sorted(found, key=lambda path: (unit_hash("tier", path), path))


def position_of(value: object) -> int | None:
    """A search position, from 1 on; None for what is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, float) and value.is_integer():
        value, whole = int(value), True
    return value if whole and value >= 1 else None


def add_pair(row: Mapping, test: bool, evidence: Evidence) -> None:
    """The pair of one row into `evidence`, which counts it, with gain 1 / position. test: is it of the test part?"""
    evidence.pairs.read += 1
    item_id, title = clean_id(row["product_id"]), plain(row["title"])
    query_id, text, position = clean_id(row["query_id"]), plain(row["query"]), position_of(row["position"])
    if not item_id or not title:
        evidence.pairs.drop("pair without a product id or a title")
    elif not query_id or not text:
        evidence.pairs.drop("pair without a query")
    elif position is None:
        evidence.pairs.drop("pair without a position")
    else:
        evidence.add(f"gs:{query_id}", text, item_id, 1 / position, test)


def new_product(row: Mapping, seen: set[str], tally: Tally) -> str | None:
    """The item id of one row's product where it is the first of that product, which joins `seen`; else None."""
    item_id = clean_id(row["product_id"])
    if not item_id or not plain(row["title"]):
        tally.drop("row without a product id or a title")
        return None
    if item_id in seen:
        tally.merged += 1
        return None
    tally.kept += 1
    seen.add(item_id)
    return item_id


def photograph_bytes(row: Mapping) -> bytes:
    """The image file in a row; b"" where there is none."""
    data = row.get("image")
    return data if isinstance(data, bytes) else b""


def unpacked(data: bytes, digest: str, folder: Path) -> Path:
    """A photograph's file below `folder`, at its stored size: JPEG as it is where it is small, else scaled and encoded.

    Raises BrokenImage. The file has its name only when it is whole.
    """
    from PIL import Image

    path = folder / digest[:2] / f"{digest}.jpg"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.new")
    try:
        draft.write_bytes(data)
        photograph = load_photograph(draft)
        if not photograph.jpeg:
            Image.fromarray(photograph.pixels).save(draft, "JPEG", quality=_QUALITY)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


class MarqoGs:
    """Marqo GS-10M as a control: one photograph and one title per product, search positions as labels.

    tier: how many items, None for all (some 35 GB). folder: where photographs are unpacked; raw files
    that lie in its `data` are read instead of the hub's. with_images: whether items have photographs; groups and splits
    are the same without.
    """

    def __init__(self, tier: int | None, folder: Path, name: str, with_images: bool = True):
        self.tier, self.folder, self.with_images = tier, Path(folder), with_images
        self.info = SourceInfo(
            name=name,
            version="marqo-gs-v1",
            title="Marqo GS-10M (Google Shopping results)",
            licence="Apache-2.0 (the collection); texts and photographs are their sellers'",
            redistributable=False,
            description="Search results with one photograph per product (Zhu et al. 2024, arXiv 2404.08535): "
            "a single-image control.",
            photographs=True,
            disclosures=(
                "Labels are positions in one search engine's results, neither judgements nor clicks: the gain is "
                f"1 / position, relevant are the first {RELEVANT_POSITION}.",
                "One photograph and one title per product: nothing here can gain from more views.",
                "Train and validation are the part in_domain (5% of its queries, by hash, and their items for "
                "validation), test is the part zero_shot; novel_query and novel_document are not used.",
                "A tier takes whole files in the order of their names' hashes, 80% of its items from in_domain.",
                "Products with the same photograph are in one split.",
            ),
        )
        self._plan: _Plan | None = None
        self._images_lost: Counter = Counter()

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason; complete when the items have been read."""
        total = Counter()
        for tally in self._plan.tallies.values() if self._plan else ():
            total += tally.reasons
        return dict(total + self._images_lost)

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """What became of the rows of each table."""
        return {name: tally.counts() for name, tally in (self._plan.tallies if self._plan else {}).items()}

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in the order of the files taken. Raises DataError for files that cannot be had or read."""
        plan, lost, seen, done = self._planned(progress), Counter(), set(), 0
        for row in (row for path in plan.files for row in self._rows(path, Tally())):
            item_id = new_product(row, seen, Tally())
            if item_id is None or item_id not in plan.splits:
                continue
            done += 1
            progress(done, len(plan.splits), "writing items")
            images = self._image(photograph_bytes(row), plan.shared, lost) if self.with_images else ()
            title = View("text", "title", "primary", plain(row["title"]))
            yield Item(item_id, plan.shared.group(item_id), plan.splits[item_id], "", (*images, title))
        self._images_lost = lost

    def queries(self) -> Queries:
        """The queries: pairs of the first ten positions (train), judgements by position (valid, test)."""
        return self._planned(silent).queries

    def _rows(self, path: Path, tally: Tally) -> Iterator[dict]:
        return parquet_rows(path, _COLUMNS, tally, _BATCH)

    def _image(self, data: bytes, shared: SharedImages, lost: Counter) -> tuple[View, ...]:
        """The photograph of a row, unpacked into the folder unless it lies there."""
        digest = hashlib.sha256(data).hexdigest()
        if not data:
            lost["product without an image"] += 1
        elif image_key(digest) in shared.placeholders:
            lost[f"image shared by more than {PLACEHOLDER} products"] += 1
        else:
            try:
                return (View("image", "main", "primary", unpacked(data, digest, self.folder / "images")),)
            except BrokenImage as problem:
                lost[f"broken image ({str(problem).partition(':')[0]})"] += 1
        return ()

    def _planned(self, progress: Progress) -> "_Plan":
        """Everything but the items' texts and images, worked out once."""
        if self._plan is None:
            products, evidence, shared = Tally(), Evidence(Tally()), SharedImages()
            reading, chosen = _Reading(set(), products, evidence, shared, []), set()
            for part in PARTS:
                chosen.update(self._take(part, reading, progress))
            shared.settle()
            leave_out(products, products.kept - len(chosen), "product beyond the tier")
            splits = place_items({item_id: shared.group(item_id) for item_id in reading.seen}, evidence.claims())
            splits = {item_id: splits[item_id] for item_id in chosen}
            found = evidence.evidence(splits, RELEVANT_FROM, {})
            tallies = {"products": products, "pairs": evidence.pairs, "queries": evidence.queries}
            self._plan = _Plan(tuple(reading.files), found, splits, shared, tallies)
        return self._plan

    def _listed(self) -> list[str]:
        """Paths of the raw files: those in the folder, where there are any, else the hub's."""
        if own := [f"data/{path.name}" for path in (self.folder / "data").glob("*.parquet")]:
            return own
        from ftbench.sources.fetch import hub_tree

        return hub_tree(REPOSITORY, "data", REVISION)

    def _file(self, path: str, progress: Progress) -> Path:
        if (self.folder / path).is_file():
            return self.folder / path
        from ftbench.sources.fetch import hub_files

        return hub_files(REPOSITORY, (path,), REVISION, progress)[0]

    def _take(self, part: str, reading: "_Reading", progress: Progress) -> Sequence[str]:
        """Read as many files of a part as the tier needs; its products: file by file, by hash within a file."""
        paths = shards(self._listed(), part)
        if not paths:
            raise DataError(f"{REPOSITORY} has no files data/{part}-N.parquet at revision {REVISION}.")
        quota = None if self.tier is None else round(self.tier * SHARES[part])
        taken: list[str] = []
        for shard in paths:
            if quota is not None and len(taken) >= quota:
                break
            path = self._file(shard, progress)
            reading.files.append(path)
            found = []
            for row in reported(self._rows(path, reading.products), progress):
                add_pair(row, part == PARTS[1], reading.evidence)
                if item_id := new_product(row, reading.seen, reading.products):
                    found.append(item_id)
                    data = photograph_bytes(row)
                    reading.shared.add(item_id, [image_key(hashlib.sha256(data).hexdigest())] if data else [])
            taken += sorted(found, key=lambda item_id: (unit_hash("tier", item_id), item_id))
        return taken[:quota]


@dataclass(frozen=True)
class _Reading:
    """What grows while files are read."""

    seen: set[str]
    products: Tally
    evidence: Evidence
    shared: SharedImages
    files: list[Path]


@dataclass(frozen=True)
class _Plan:
    """What is known before the items are streamed; `splits` has the tier's items alone."""

    files: Sequence[Path]
    queries: Queries
    splits: Mapping[str, str]
    shared: SharedImages
    tallies: Mapping[str, Tally]
