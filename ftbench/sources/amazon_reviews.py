"""Amazon Reviews 2023, one category: listings with several photographs, searched by what buyers wrote of them.

Must not know stores. The metadata is streamed twice (ids and photographs, which settle groups, splits and the tier;
then the tier's items), the reviews once; only ids, hashes and the queries that are kept stay in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ftbench.errors import DataError, unknown
from ftbench.items import (
    SPLITS,
    Interaction,
    Item,
    Judgement,
    Progress,
    Queries,
    Query,
    SourceInfo,
    normalize_query,
    silent,
    split_of,
)
from ftbench.sources.amazon_images import most_images, with_photographs
from ftbench.sources.amazon_rows import (
    HEAD_COLUMNS,
    ITEM_COLUMNS,
    LONGEST_QUERY,
    LOWEST_RATING,
    REVIEW_COLUMNS,
    SHORTEST_REVIEW,
    Draft,
    parse_head,
    parse_item,
    parse_review,
    photographs,
    query_text,
)
from ftbench.sources.rows import LARGE_SHARES, PLACEHOLDER, SharedImages, Tally, image_key
from ftbench.sources.tables import clean_id, json_rows, leave_out, parquet_rows, read_lines, reported, smallest

REPOSITORY = "McAuley-Lab/Amazon-Reviews-2023"
REVISION = "2b6d039ed471f2ba5fd2acb718bf33b0a7e5598e"  # holds both forms (DATASETS.md)
CATEGORIES = (  # all_categories.txt
    "All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products Beauty_and_Personal_Care "
    "Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards "
    "Grocery_and_Gourmet_Food Handmade_Products Health_and_Household Health_and_Personal_Care Home_and_Kitchen "
    "Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products "
    "Patio_Lawn_and_Garden Pet_Supplies Software Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement "
    "Toys_and_Games Unknown Video_Games"
).split()
# Milliseconds since 1970: train ends before the first, validation before the second (the maintainers' absolute cuts).
TIME_CUTS = (1628643414042, 1658002729837)
# Queries of each split, those of smallest hash: the interactions of the paper's setting; as many as Amazon-C4 has.
MOST_QUERIES = {"train": 300_000, "valid": 20_000, "test": 20_000}
RELEVANT_FROM = 1.0  # the gain of the product that a review was written of
_META = ("raw_meta_{}", "raw/meta_categories/meta_{}.jsonl")  # the Parquet form's folder, the JSON lines' file
_REVIEWS = ("raw_review_{}", "raw/review_categories/{}.jsonl")


def period(written: int) -> str:
    """The split of a time, in milliseconds since 1970."""
    return "train" if written < TIME_CUTS[0] else "valid" if written < TIME_CUTS[1] else "test"


def raw_files(folder: Path, category: str, form: tuple[str, str], progress: Progress) -> list[Path]:
    """The files of a category's metadata or reviews: those in `folder`, laid out as in the repository, else the hub's.

    Parquet where there is any, else JSON lines (in `folder` also `.jsonl.gz`). Raises DataError for missing shards.
    """
    shards, lines = (name.format(category) for name in form)
    if found := sorted((folder / shards).glob("*.parquet")):
        _check_shards([path.name for path in found], f"{folder.name}/{shards}")
        return found
    for path in (folder / lines, folder / f"{lines}.gz"):
        if path.is_file():
            return [path]
    from ftbench.sources.fetch import hub_files, hub_tree

    names = sorted(name for name in hub_tree(REPOSITORY, shards, REVISION) if name.endswith(".parquet"))
    _check_shards(names, shards)
    return hub_files(REPOSITORY, names or [lines], REVISION, progress)


def _check_shards(names: Sequence[str], where: str) -> None:
    """Raises DataError where `full-00000-of-00003.parquet` stands without the others that it announces."""
    counts = {PurePosixPath(name).stem.rpartition("-of-")[2] for name in names}
    if names and counts != {f"{len(names):05d}"}:
        raise DataError(
            f"{where}: {len(names)} Parquet files that announce {' and '.join(sorted(counts))}: {', '.join(names)}. "
            "Put the missing ones beside them, or remove all of them to have the JSON lines read."
        )


def raw_rows(paths: Iterable[Path], columns: Sequence[str], tally: Tally) -> Iterator[dict]:
    """The rows of files of either form."""
    for path in paths:
        if path.suffix == ".parquet":
            yield from parquet_rows(path, columns, tally)
        else:
            yield from json_rows(read_lines(path), tally)


def image_lists(
    folder: Path, categories: Iterable[str], wanted: Collection[str], progress: Progress
) -> dict[str, tuple[str, ...]]:
    """Item id -> addresses of its photographs, primary first: for data sets of Amazon's items that have none.

    wanted: item ids. Items without a photograph, or outside the categories, are not in the answer.
    """
    found: dict[str, tuple[str, ...]] = {}
    for category in categories:
        paths = raw_files(folder, category, _META, progress)
        for row in reported(raw_rows(paths, ("parent_asin", "images"), Tally()), progress):
            item_id = clean_id(row.get("parent_asin"))
            if item_id in wanted and item_id not in found and (images := photographs(row.get("images"))[0]):
                found[item_id] = tuple(images.values())
    return found


class Praise:
    """The queries of one split: the texts of smallest hash, with the items that they were written of.

    Holds at most twice `most` texts at any time; which texts it ends with does not depend on the reviews' order.
    """

    def __init__(self, most: int, tally: Tally):
        self.most, self.tally = most, tally
        self.texts: dict[int, tuple[str, dict[str, None]]] = {}  # hash -> text, its items
        self._bound = 1 << 64  # hashes from here on have no place

    def add(self, key: int, text: str, item_id: str) -> None:
        """One review, already counted as read."""
        if key >= self._bound:
            self.tally.drop(self._beyond())
            return
        items = self.texts.setdefault(key, (text, {}))[1]
        if item_id in items:
            self.tally.merged += 1
            return
        items[item_id] = None
        self.tally.kept += 1
        if len(self.texts) > 2 * self.most:
            self.settle()

    def settle(self) -> None:
        """Leave out the texts beyond the first `most`."""
        if len(self.texts) > self.most:
            self._bound = sorted(self.texts)[self.most]
            for key in [key for key in self.texts if key >= self._bound]:
                self.remove(key, self._beyond())

    def remove(self, key: int, reason: str) -> None:
        """Leave one text out after all."""
        leave_out(self.tally, len(self.texts.pop(key)[1]), reason)

    def _beyond(self) -> str:
        return f"review beyond the first {self.most:,} queries of its split"


def parse_reviews(rows: Iterable[Mapping], places: Mapping[str, str], tally: Tally, most: Mapping[str, int]) -> Queries:
    """Queries with interactions (train) and judgements (valid, test), in file order within each split.

    places: item id -> split, "" where the item is beyond the tier. most: split -> how many queries. A review counts
    where its time is of its item's split. A text that would then be in several splits stays in that of its own hash, or
    else in the strictest; so none is in two, and train pairs have both sides in train.
    """
    praise = {split: Praise(most[split], tally) for split in SPLITS}
    for row in rows:
        review = parse_review(row)
        if isinstance(review, str):
            tally.drop(review)
        elif (place := places.get(review.item_id)) is None:
            tally.drop("review of an item without usable metadata")
        elif not place:
            tally.drop("review of an item beyond the tier")
        elif place != period(review.written):
            tally.drop("review of another time than its item's split")
        elif not (text := query_text(row)):
            tally.drop(f"review of at most {SHORTEST_REVIEW} characters")
        else:
            key = hashlib.sha256(normalize_query(text).encode()).digest()[:8]
            praise[place].add(int.from_bytes(key, "big"), text, review.item_id)
    for found in praise.values():
        found.settle()
    _part(praise)
    return Queries(
        queries=tuple(Query(_query_id(k), t, split) for split in SPLITS for k, (t, _) in praise[split].texts.items()),
        judgements=tuple(
            Judgement(_query_id(key), item_id, RELEVANT_FROM)
            for split in SPLITS[1:]
            for key, (_, items) in praise[split].texts.items()
            for item_id in items
        ),
        interactions=tuple(
            Interaction(_query_id(key), i) for key, (_, items) in praise["train"].texts.items() for i in items
        ),
    )


def _part(praise: Mapping[str, Praise]) -> None:
    """Leave each text in one split."""
    seen = Counter(key for found in praise.values() for key in found.texts)
    for key in [key for key, count in seen.items() if count > 1]:
        found = {split: praise[split] for split in SPLITS if key in praise[split].texts}
        own = split_of("query", normalize_query(next(iter(found.values())).texts[key][0]), LARGE_SHARES)
        stays = own if own in found else list(found)[-1]
        for split in found.keys() - {stays}:
            found[split].remove(key, "review whose text is a query of another split")


def _query_id(key: int) -> str:
    return f"review-{key:016x}"


class AmazonReviews:
    """One category of Amazon Reviews 2023.

    category: as in the repository (All_Beauty). tier: how many items, None for all. folder: where photographs are
    fetched to; raw files that lie there as in the repository are read instead of the hub's. with_images: whether items
    have photographs; without them groups and splits are the same.
    """

    def __init__(self, category: str, tier: int | None, folder: Path, name: str, with_images: bool = True):
        if category not in CATEGORIES:
            raise unknown("category", category, CATEGORIES, "Type it as Amazon Reviews 2023 does: All_Beauty")
        self.category, self.tier, self.folder, self.with_images = category, tier, Path(folder), with_images
        self.most_queries = MOST_QUERIES
        self.info = SourceInfo(
            name=name,
            version="amazon-reviews-v1",
            title=f"Amazon Reviews 2023, {category.replace('_', ' ')}",
            licence="none assigned by its maintainers: for research, ids only are shown",
            redistributable=False,
            description="Listings with several photographs each, searched by what buyers wrote of them (Hou et al. "
            "2024, arXiv 2403.03952).",
            photographs=True,
            disclosures=(
                f"A query is the title and text of a review of {LOWEST_RATING} stars or more, of more than "
                f"{SHORTEST_REVIEW} and at most {LONGEST_QUERY:,} characters; its product is the one relevant item.",
                "Items are split 90/5/5 by the hash of their group; items that share a photograph are one group. A "
                f"photograph of more than {PLACEHOLDER} items is a placeholder and ties none.",
                f"Train reviews are from before {TIME_CUTS[0]}, validation from then to {TIME_CUTS[1]}, test from then "
                "on (milliseconds since 1970); a review of another time than its item's split is left out. So no "
                "test query and no test item is seen in training.",
                "A text that several splits would share stays in one: that of its hash, or else test before "
                "validation before train.",
                "At most " + ", ".join(f"{most:,} {split}" for split, most in self.most_queries.items())
                + " queries, those of smallest hash.",
                "A tier takes items by hash: it keeps the reviews of its items.",
                f"At most {most_images(tier)} images per item, longest side 256 pixels.",
            ),
        )  # fmt: skip
        self._plan: _Plan | None = None
        self._queries: Queries | None = None
        self._progress: Progress = silent
        self._tallies = {"items": Tally(), "reviews": Tally()}
        self._images_lost: Counter = Counter()

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason; complete when items and queries have been read."""
        return dict(sum((tally.reasons for tally in self._tallies.values()), Counter()) + self._images_lost)

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """What became of the rows of each table."""
        return {name: tally.counts() for name, tally in self._tallies.items()}

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in file order. Raises DataError for files that cannot be had or read."""
        self._progress, lost = progress, Counter()
        drafts = self._drafts(self._planned(progress), progress, lost)
        if self.with_images:
            yield from with_photographs(drafts, self.folder / "images", progress, lost)
        else:
            yield from (item for item, _ in drafts)
        self._images_lost = lost

    def queries(self) -> Queries:
        """The reviews that are queries, with the items they were written of. Raises DataError, as `items`."""
        if self._queries is None:
            places, tally = self._planned(self._progress).places, Tally()
            paths = raw_files(self.folder, self.category, _REVIEWS, self._progress)
            rows = reported(raw_rows(paths, REVIEW_COLUMNS, tally), self._progress)
            self._queries = parse_reviews(rows, places, tally, self.most_queries)
            self._tallies["reviews"] = tally
        return self._queries

    def _planned(self, progress: Progress) -> "_Plan":
        """Groups, splits and the tier's items, worked out once."""
        if self._plan is None:
            paths, tally = raw_files(self.folder, self.category, _META, progress), Tally()
            shared, places = SharedImages(), {}
            for row in reported(raw_rows(paths, HEAD_COLUMNS, tally), progress):
                head = parse_head(row)
                if isinstance(head, str):
                    tally.drop(head)
                elif head.item_id in places:
                    tally.merged += 1
                else:
                    tally.kept += 1
                    places[head.item_id] = ""
                    shared.add(head.item_id, map(image_key, head.photographs))
            shared.settle()
            chosen = smallest(places, self.tier)
            leave_out(tally, len(places) - len(chosen), "item beyond the tier")
            for item_id in chosen:
                places[item_id] = split_of("item", shared.group(item_id), LARGE_SHARES)
            self._plan = _Plan(paths, shared, places, len(chosen))
            self._tallies["items"] = tally
        return self._plan

    def _drafts(self, plan: "_Plan", progress: Progress, lost: Counter) -> Iterator[tuple[Item, tuple[str, ...]]]:
        """The tier's items with their texts and the addresses of their images, in file order."""
        waiting = {item_id for item_id, place in plan.places.items() if place}
        columns = [name for name in ITEM_COLUMNS if self.with_images or name != "images"]
        for row in raw_rows(plan.paths, columns, Tally()):
            if clean_id(row.get("parent_asin")) not in waiting:
                continue
            if not self.with_images:
                row.pop("images", None)  # sorted and compared in the first pass; no use to sort them again
            draft = parse_item(row, self.category.replace("_", " "))
            if isinstance(draft, str):
                continue
            waiting.remove(draft.item_id)
            progress(plan.count - len(waiting), plan.count, "writing items")
            item = Item(
                item_id=draft.item_id,
                group=plan.shared.group(draft.item_id),
                split=plan.places[draft.item_id],
                category=draft.category,
                views=draft.texts(),
            )
            yield item, self._addresses(draft, plan.shared, lost) if self.with_images else ()

    def _addresses(self, draft: Draft, shared: SharedImages, lost: Counter) -> tuple[str, ...]:
        """Addresses of the images that an item keeps; `lost` counts the others."""
        most, out = most_images(self.tier), shared.placeholders
        usable = [a for name, a in draft.images.items() if not out or image_key(name) not in out]
        for reason, count in (
            ("image without an address", draft.nowhere),
            (f"image shared by more than {PLACEHOLDER} products", len(draft.images) - len(usable)),
            (f"image beyond the first {most} of an item", len(usable) - most),
        ):
            if count > 0:
                lost[reason] += count
        return tuple(usable[:most])


@dataclass(frozen=True)
class _Plan:
    """What is known before the items are streamed. places: item id -> split, "" beyond the tier; count: of the tier."""

    paths: Sequence[Path]
    shared: SharedImages
    places: Mapping[str, str]
    count: int
