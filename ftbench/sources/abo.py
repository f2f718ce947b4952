"""Amazon Berkeley Objects: listings of many countries with redistributable photographs; no queries.

Must not know stores. The listings are streamed twice (ids, kinds and image ids, which settle groups, splits and the
tier; then the tier's items); of the archive of photographs an index is held, and only the tier's are taken out of it.
"""

import csv
import heapq
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ftbench.errors import DataError
from ftbench.items import Item, Progress, Queries, SourceInfo, View, split_of, unit_hash
from ftbench.sources.abo_archive import Member, index_archive, listing_lines, take_out
from ftbench.sources.rows import LARGE_SHARES, MOST_IMAGES, PLACEHOLDER, SharedImages, Tally, image_key, safe_path
from ftbench.sources.tables import clean_id, json_rows, leave_out, plain, read_lines, reported, smallest

SERVER = "https://amazon-berkeley-objects.s3.amazonaws.com"  # DATASETS.md (d)
VARIABLE = "FTBENCH_ABO_SERVER"  # another server that has the same files
# File as stored here -> (path on the server, bytes where published), DATASETS.md (d).
FILES = {
    "abo-listings.tar": ("archives/abo-listings.tar", 87_480_320),
    "images.csv.gz": ("images/metadata/images.csv.gz", None),
    "abo-images-small.tar": ("archives/abo-images-small.tar", 3_253_381_120),
}
LISTINGS, IMAGES, ARCHIVE = FILES
# Listings of one product type that are kept (ours): phone cases, 44% of all, become some 11%.
MOST_OF_A_KIND = 10_000


@dataclass(frozen=True, slots=True)
class Head:
    """What decides over a listing. asin: the product, which several domains may list. images: ids, main one first."""

    item_id: str
    asin: str
    kind: str
    images: tuple[str, ...]


def localized(value: object) -> tuple[tuple[str, ...], str]:
    """The texts of a localized field and their language tag: English ones, else those of the first one's language.

    >>> localized([{"language_tag": "de_DE", "value": "rot"}, {"language_tag": "en_GB", "value": "red"}])
    (('red',), 'en_GB')
    """
    found = []
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and (text := plain(entry.get("value"))):
            tag = entry.get("language_tag")
            found.append((tag if isinstance(tag, str) and re.fullmatch(r"[A-Za-z_-]{2,20}", tag) else "", text))
    english = [(tag, text) for tag, text in found if re.split("[_-]", tag)[0] == "en"]
    kept = english or [(tag, text) for tag, text in found if tag == found[0][0]]
    return tuple(dict.fromkeys(text for _, text in kept)), kept[0][0] if kept else ""


def parse_head(row: Mapping) -> Head | str:
    """A listing's head, or why it is left out."""
    asin, domain = clean_id(row.get("item_id")), clean_id(row.get("domain_name"))
    if not asin or not domain:
        return "listing without an item_id or a domain_name"
    if not localized(row.get("item_name"))[0]:
        return "listing without a name"
    others = row.get("other_image_id")
    ids = map(clean_id, (row.get("main_image_id"), *(others if isinstance(others, list) else ())))
    kinds = localized(row.get("product_type"))[0]
    return Head(f"{domain}:{asin}", asin, kinds[0] if kinds else "", tuple(dict.fromkeys(filter(None, ids))))


def text_views(row: Mapping) -> tuple[View, ...]:
    """Title, description (bullet points, then the product description) and tags (keywords, colour, material)."""
    title = localized(row.get("item_name"))[0][0]
    views = [View("text", "title", "primary", title)]
    for name, columns, between in (
        ("description", ("bullet_point", "product_description"), " "),
        ("tags", ("item_keywords", "color", "material"), ", "),
    ):
        texts = dict.fromkeys(text for column in columns for text in localized(row.get(column))[0])
        if texts:
            views.append(View("text", name, "auxiliary", between.join(texts)))
    return tuple(views)


def parse_images(lines: Iterable[bytes], tally: Tally) -> dict[str, str]:
    """Image id -> path below the archive's folder of small images. Raises DataError where columns are missing."""
    lines = iter(lines)
    header = [name.strip() for name in next(lines, b"").decode("utf-8-sig", "replace").split(",")]
    if missing := [name for name in ("image_id", "path") if name not in header]:
        raise DataError(f"{IMAGES}: no column {', '.join(missing)}; it has {', '.join(header)[:200]!r}.")
    paths: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            continue
        tally.read += 1
        try:
            cells = next(csv.reader([line.decode()]))
        except (UnicodeDecodeError, csv.Error):
            tally.drop("image row that is not UTF-8 CSV")
            continue
        row = dict(zip(header, cells, strict=False)) if len(cells) == len(header) else {}
        image_id, path = clean_id(row.get("image_id")), safe_path(row.get("path", ""))
        if not row:
            tally.drop("image row with another number of cells than the header")
        elif not image_id or not path:
            tally.drop("image row without an id or a path inside the archive")
        elif image_id in paths:
            tally.merged += 1
        else:
            tally.kept += 1
            paths[image_id] = path
    return paths


def within_kinds(kinds: Mapping[str, str], most: int) -> list[str]:
    """Item ids of which no kind has more than `most`: those of smallest hash. kinds: item id -> kind, "" for unknown.

    The hash is another than the tiers', so that each tier has the kinds in the same shares.
    """
    of_kind: dict[str, list[str]] = {}
    for item_id, kind in kinds.items():
        of_kind.setdefault(kind, []).append(item_id)
    kept = []
    for kind, ids in of_kind.items():
        if kind and len(ids) > most:
            ids = [i for _, i in heapq.nsmallest(most, ((unit_hash("kind", i), i) for i in ids))]
        kept += ids
    return kept


def missing_files(folder: Path, server: str, with_images: bool) -> dict[str, tuple[str, int | None]]:
    """File name -> (address, bytes in all) of what does not lie in the folder, or not in the published size."""
    missing = {}
    for name, (path, size) in FILES.items():
        size = size if server == SERVER else None  # another server may carry a sample
        here = folder / name
        if (with_images or name == LISTINGS) and not (here.is_file() and size in (None, here.stat().st_size)):
            missing[name] = (f"{server}/{path}", size)
    return missing


class Abo:
    """Amazon Berkeley Objects.

    tier: how many items, None for all. folder: where the files lie or are downloaded to. with_images: whether items
    have photographs; without them groups rest on image ids alone, with them on the files' bytes too.
    """

    def __init__(self, tier: int | None, folder: Path, name: str, with_images: bool = True):
        self.tier, self.folder, self.with_images = tier, Path(folder), with_images
        self.most_of_a_kind = MOST_OF_A_KIND
        self._tallies = {"listings": Tally()} | ({"images": Tally(), "archive": Tally()} if with_images else {})
        self._lost: Counter = Counter()
        self._plan: _Plan | None = None
        self.info = SourceInfo(
            name=name,
            version="abo-v1",
            title="Amazon Berkeley Objects",
            licence="CC BY 4.0",
            redistributable=True,
            description="Amazon's listings of many countries with photographs (Collins et al. 2022, "
            "arXiv 2110.06199); no queries: for cross-view retrieval.",
            photographs=True,
            disclosures=(
                f"At most {self.most_of_a_kind:,} listings of one product type, chosen by hash before the tier is: "
                "phone cases are 44% of the source.",
                "Items are listings of one domain. English texts where a listing has any, else those of the first "
                "language.",
                "Items are split 90/5/5 by the hash of their group: listings of one product in several domains, and "
                "those that share a photograph, are one group.",
                f"Images of more than {PLACEHOLDER} products are placeholders: left out, and they tie no groups.",
                f"At most {MOST_IMAGES} images per item, longest side 256 pixels as published.",
            ),
        )

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason; complete when the items have been read."""
        return dict(sum((tally.reasons for tally in self._tallies.values()), Counter()) + self._lost)

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """What became of the rows of each table."""
        return {name: tally.counts() for name, tally in self._tallies.items()}

    def queries(self) -> Queries:
        """None: the source has no queries."""
        return Queries()

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in the shards' order. Raises DataError for files that cannot be had or read."""
        plan, lost = self._planned(progress), Counter()
        waiting, done = set(plan.chosen), 0
        photographs = open(self.folder / ARCHIVE, "rb") if self.with_images else nullcontext()
        with open(self.folder / LISTINGS, "rb") as listings, photographs as archive:
            for row in json_rows(listing_lines(listings, LISTINGS), Tally()):
                head = parse_head(row)
                if isinstance(head, str) or head.item_id not in waiting:
                    continue
                waiting.remove(head.item_id)
                done += 1
                progress(done, len(plan.chosen), "writing items")
                group, language = plan.shared.group(head.item_id), localized(row.get("item_name"))[1]
                yield Item(
                    item_id=head.item_id,
                    group=group,
                    split=split_of("item", group, LARGE_SHARES),
                    category=head.kind,
                    views=(*self._images(head, plan, archive, lost), *text_views(row)),
                    attributes={"language": language} if language else {},
                )
        self._lost = lost

    def _images(self, head: Head, plan: "_Plan", archive: BinaryIO | None, lost: Counter) -> list[View]:
        """An item's image views, their files taken out of the archive."""
        if archive is None:
            return []
        found: dict[int, str] = {}
        for image_id in head.images:
            path = plan.paths.get(image_id)
            if path not in plan.archived:
                lost["image that the archive does not have"] += 1
            elif plan.archived[path].key in plan.shared.placeholders:
                lost[f"image shared by more than {PLACEHOLDER} products"] += 1
            elif plan.archived[path].key in found:
                lost["image that repeats another of its item"] += 1
            else:
                found[plan.archived[path].key] = path
        if len(found) > MOST_IMAGES:
            lost[f"image beyond the first {MOST_IMAGES} of an item"] += len(found) - MOST_IMAGES
        views: list[View] = []
        for path in list(found.values())[:MOST_IMAGES]:
            name = ("main", "additional")[len(views)] if len(views) < 2 else f"additional {len(views)}"
            file = take_out(archive, plan.archived[path], self.folder / "images", path)
            views.append(View("image", name, "auxiliary" if views else "primary", file))
        return views

    def _planned(self, progress: Progress) -> "_Plan":
        """Files in place, then groups and the tier's items, worked out once."""
        if self._plan is not None:
            return self._plan
        self._fetch(progress)
        self._tallies = {name: Tally() for name in self._tallies}
        paths, archived = {}, {}
        if self.with_images:
            paths = parse_images(read_lines(self.folder / IMAGES), self._tallies["images"])
            with open(self.folder / ARCHIVE, "rb") as file:
                archived = index_archive(file, ARCHIVE, self._tallies["archive"], progress)
        tally, shared, kinds = self._tallies["listings"], SharedImages(), {}
        with open(self.folder / LISTINGS, "rb") as file:
            for row in reported(json_rows(listing_lines(file, LISTINGS), tally), progress):
                head = parse_head(row)
                if isinstance(head, str):
                    tally.drop(head)
                elif head.item_id in kinds:
                    tally.drop("listing with a key seen before")
                else:
                    tally.kept += 1
                    kinds[head.item_id] = head.kind
                    keys = (archived[p].key if (p := paths.get(i)) in archived else image_key(i) for i in head.images)
                    shared.add(head.item_id, keys, owner=head.asin)
        shared.settle()
        capped = within_kinds(kinds, self.most_of_a_kind)
        leave_out(tally, len(kinds) - len(capped), f"listing beyond {self.most_of_a_kind:,} of its product type")
        chosen = smallest(capped, self.tier)
        leave_out(tally, len(capped) - len(chosen), "listing beyond the tier")
        self._plan = _Plan(paths, archived, shared, chosen)
        return self._plan

    def _fetch(self, progress: Progress) -> None:
        """Download what does not lie in the folder yet."""
        server = os.environ.get(VARIABLE, SERVER).rstrip("/")
        if missing := missing_files(self.folder, server, self.with_images):
            from ftbench.sources.fetch import Remote, download

            remotes = [Remote(url=url, name=name, bytes=size) for name, (url, size) in missing.items()]
            download(remotes, self.folder, progress)


@dataclass(frozen=True)
class _Plan:
    """What is known before the items are streamed. paths: image id -> path; archived: path -> its place."""

    paths: Mapping[str, str]
    archived: Mapping[str, Member]
    shared: SharedImages
    chosen: frozenset[str]
