"""Amazon-C4: complex queries of one product each over a pool of a million products. Must not know stores.

Each query was written from a review, which `test.csv` holds beside it (`ori_review`): that column is never read. The
pool has one text per product (title, features and description run together) and no photographs: these come from the
items of Amazon Reviews 2023, joined on `item_id` = `parent_asin`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftbench.items import Item, Progress, Queries, SourceInfo, View, silent
from ftbench.sources.amazon_images import (
    Lists,
    gallery,
    lists_for,
    most_images,
    shared_images,
    usable_images,
    with_photographs,
)
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.rows import SharedImages, Tally
from ftbench.sources.tables import clean_id, csv_rows, json_rows, leave_out, plain, read_lines, reported, smallest

REPOSITORY = "McAuley-Lab/Amazon-C4"
REVISION = "233734e8fa188058ce6ecc471bc3bef4e37a3451"  # the commit that completed both files, 8 April 2024
QUERIES, POOL = "test.csv", "sampled_item_metadata_1M.jsonl"
QUERY_COLUMNS = ("qid", "query", "item_id")  # not user_id, ori_rating and, above all, ori_review
RELEVANT_FROM = 1.0


def parse_queries(rows: Iterable[Mapping], evidence: Evidence) -> None:
    """`qid,query,item_id` rows into `evidence`: one positive per query, the first row of a `qid`."""
    for row in rows:
        qid, item_id, text = clean_id(row["qid"]), clean_id(row["item_id"]), plain(row["query"])
        if not qid or not item_id:
            evidence.pairs.drop("query without ids")
        elif not text:
            evidence.pairs.drop("query without a text")
        elif f"c4:{qid}" in evidence:
            evidence.pairs.drop("second row of a query")
        else:
            evidence.add(f"c4:{qid}", text, item_id, RELEVANT_FROM, test=True)


def parse_pool(rows: Iterable[Mapping], tally: Tally) -> Iterator[tuple[str, str, str]]:
    """(item id, category, text) of each product, once, in file order."""
    seen = set()
    for row in rows:
        item_id, text = clean_id(row.get("item_id")), plain(row.get("metadata"))
        if not item_id:
            tally.drop("product without an id")
        elif not text:
            tally.drop("product without a text")
        elif item_id in seen:
            tally.merged += 1
        else:
            seen.add(item_id)
            tally.kept += 1
            yield item_id, plain(row.get("category")), text


class AmazonC4:
    """Amazon-C4: evaluation only. The queries' products leave train, the rest of the pool does not.

    tier: how many items, None for all. folder: where photographs are fetched to; the two raw files are read from it
    where they lie there, instead of the hub's. images: `parent_asin` -> addresses of its images in Amazon Reviews 2023,
    primary first, or what finds them (`amazon_reviews.image_lists` with its folder and categories); without it the
    items have no images. with_images: whether items have them; groups and splits are the same without.
    """

    def __init__(
        self,
        tier: int | None,
        folder: Path,
        name: str,
        with_images: bool = True,
        images: Lists | None = None,
    ):
        self.tier, self.folder, self.with_images = tier, Path(folder), with_images
        self._lists = images
        self.info = SourceInfo(
            name=name,
            version="amazon-c4-v1",
            title="Amazon-C4",
            licence="none assigned by its maintainers: for research, ids only are shown",
            redistributable=False,
            description="Complex shopping queries, each with one product, over a pool of a million (Hou et al. 2024, "
            "arXiv 2403.03952).",
            photographs=True,
            disclosures=(
                "Evaluation only: all queries are test queries; their products, and items that share an image with "
                "one, leave train. There are no train queries.",
                "The review that a query was written from is never read.",
                "An item has one text, its primary one: title, features and description as its authors joined them.",
                "Photographs are joined from Amazon Reviews 2023 where its item lists are at hand.",
                "A tier takes items by hash: it keeps the queries whose product is among them.",
                f"At most {most_images(tier)} images per item, longest side 256 pixels.",
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
        """The items in file order. Raises DataError for files that cannot be had or read."""
        plan, lost = self._planned(progress), Counter()
        yield from with_photographs(self._drafts(plan, progress, lost), self.folder / "images", progress, lost)
        self._images_lost = lost

    def queries(self) -> Queries:
        """The queries, all of the test split, with the product of each."""
        return self._planned(silent).queries

    def _files(self, progress: Progress) -> Sequence[Path]:
        """The two raw files: those in the folder, else the hub's."""
        own = [self.folder / name for name in (QUERIES, POOL)]
        if all(path.is_file() for path in own):
            return own
        from ftbench.sources.fetch import hub_files

        return hub_files(REPOSITORY, (QUERIES, POOL), REVISION, progress)

    def _planned(self, progress: Progress) -> "_Plan":
        """Everything but the items' texts and images, worked out once."""
        if self._plan is None:
            queries, pool = self._files(progress)
            asked, products = Tally(), Tally()
            evidence = Evidence(asked)
            parse_queries(csv_rows(queries, QUERY_COLUMNS, asked), evidence)
            rows = reported(json_rows(read_lines(pool), products), progress)
            kept = [item_id for item_id, _, _ in parse_pool(rows, products)]
            lists = lists_for(self._lists, set(kept), progress)
            shared = shared_images((item_id, gallery(lists.get(item_id))) for item_id in kept)
            chosen = smallest(kept, self.tier)
            leave_out(products, len(kept) - len(chosen), "product beyond the tier")
            splits = place_items({item_id: shared.group(item_id) for item_id in kept}, evidence.claims())
            splits = {item_id: splits[item_id] for item_id in kept if item_id in chosen}
            found = evidence.evidence(splits, RELEVANT_FROM, {})
            self._plan = _Plan(pool, found, splits, shared, lists, {"products": products, "queries": asked})
        return self._plan

    def _drafts(self, plan: "_Plan", progress: Progress, lost: Counter) -> Iterator[tuple[Item, tuple[str, ...]]]:
        """The items with their texts and the addresses of their images, in file order."""
        tally, most, done = Tally(), most_images(self.tier), 0
        for item_id, category, text in parse_pool(json_rows(read_lines(plan.pool), tally), tally):
            if item_id not in plan.splits:
                continue
            done += 1
            progress(done, len(plan.splits), "writing items")
            item = Item(
                item_id=item_id,
                group=plan.shared.group(item_id),
                split=plan.splits[item_id],
                category=category,
                views=(View("text", "metadata", "primary", text),),
            )
            found = gallery(plan.lists.get(item_id)) if self.with_images else ()
            yield item, usable_images(found, plan.shared, most, lost)


@dataclass(frozen=True)
class _Plan:
    """What is known before the items are streamed; `splits` has the tier's items alone."""

    pool: Path
    queries: Queries
    splits: Mapping[str, str]
    shared: SharedImages
    lists: Mapping[str, Sequence[str]]
    tallies: Mapping[str, Tally]
