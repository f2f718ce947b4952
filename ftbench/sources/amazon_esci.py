"""Amazon's ESCI shopping queries: graded judgements of products, photographs from three lists. Must not know stores.

Queries are judged E(xact), S(ubstitute), C(omplement), I(rrelevant); products and pairs join on (locale, id). The
photographs are not part of the data set: they come from the items of Amazon Reviews 2023, from SQID, or from ESCI-S.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftbench.errors import DataError
from ftbench.items import Item, Progress, Queries, SourceInfo, View, silent
from ftbench.sources.amazon_images import (
    Lists,
    gallery,
    lists_for,
    most_images,
    shared_images,
    small_image,
    usable_images,
    with_photographs,
)
from ftbench.sources.judged import Evidence, place_items
from ftbench.sources.rows import SharedImages, Tally
from ftbench.sources.tables import (
    clean_id,
    csv_rows,
    json_rows,
    leave_out,
    parquet_rows,
    plain,
    read_lines,
    reported,
    smallest,
)

# E/S/C/I as `ranking/train.py` of the repository below has them. The trap: its path for trec_eval
# (`ranking/prepare_trec_eval_files.py`) numbers S 2 and C 3 and then passes 2=0.01, 3=0.1: it swaps the two.
GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
RELEVANT_FROM = 1.0  # an Exact product is a relevant one
LOCALES = ("us", "es", "jp")
EXAMPLES, PRODUCTS, SOURCES = (
    f"shopping_queries_dataset_{name}" for name in ("examples.parquet", "products.parquet", "sources.csv")
)
SQID = ("product_image_urls.csv", "supp_product_image_urls.csv")
ESCI_S = "esci.json.zst"
# What SQID found for 442 digital videos (its README, "Image URL Scraping"): a background, not the product.
VIDEO_IMAGE = "https://m.media-amazon.com/images/G/01/digital/video/web/Default_Background_Art_LTR._SX1080_FMjpg_.jpg"
_ESCI = "https://github.com/amazon-science/esci-data/raw/main/shopping_queries_dataset/"
_SQID = "https://github.com/Crossing-Minds/shopping-queries-image-dataset/raw/main/sqid/"
# Other servers that have the same files, or a sample of them: whatever their size.
VARIABLES = {_ESCI: "FTBENCH_ESCI_SERVER", _SQID: "FTBENCH_SQID_SERVER"}
# name -> (address, bytes, sha256): sizes and hashes are those of the repository's Git LFS pointers.
FILES = {
    EXAMPLES: (_ESCI + EXAMPLES, 51_286_808, "4a735b693b4a424a6fc67f5be6e4c811495c488bbf66d02a602d308b2744263a"),
    PRODUCTS: (_ESCI + PRODUCTS, 1_108_857_465, "25124442d064d64b26f74082d6fa09438d679efc0c183cf28d19064a2b65a265"),
    SOURCES: (_ESCI + SOURCES, None, None),
    SQID[0]: (_SQID + SQID[0], None, None),
    SQID[1]: (_SQID + SQID[1], None, None),
    ESCI_S: ("https://esci-s.s3.amazonaws.com/" + ESCI_S, None, None),
}
_PAIR = ("query", "query_id", "product_id", "product_locale", "esci_label", "small_version", "large_version", "split")
_KEY = ("product_id", "product_locale", "product_title")
_TEXTS = (*_KEY, "product_description", "product_bullet_point", "product_brand", "product_color")


@dataclass(frozen=True)
class ImageLists:
    """Where photographs come from, in order of preference; an item takes the first list that has any for it.

    reviews: ASIN (`parent_asin`) -> addresses of its images in Amazon Reviews 2023, primary first (or what finds them,
    as `amazon_reviews.image_lists` does once folder and categories are given). sqid: one image each
    of the test's products and of some others. esci_s: one image each of most products (a download of 3.4 GB), and
    their categories.
    """

    reviews: Lists | None = None
    sqid: bool = True
    esci_s: bool = False


def published_files() -> dict[str, tuple[str, int | None, str | None]]:
    """FILES, from other servers where the environment names them."""
    files = dict(FILES)
    for base, variable in VARIABLES.items():
        if server := os.environ.get(variable):
            files |= {n: (f"{server.rstrip('/')}/{n}", None, None) for n, f in FILES.items() if f[0].startswith(base)}
    return files


def parse_pairs(rows: Iterable[Mapping], locale: str, small: bool, evidence: Evidence) -> None:
    """Judged pairs of one locale and version into `evidence`; the rest is dropped there."""
    version, drop = ("small_version" if small else "large_version"), evidence.pairs.drop
    for row in rows:
        query_id, product_id = clean_id(row["query_id"]), clean_id(row["product_id"])
        text, label = plain(row["query"]), row["esci_label"]
        if row["product_locale"] != locale:
            drop("pair of another locale")
        elif row[version] not in (1, "1"):
            drop("pair outside the small version" if small else "pair outside the large version")
        elif not query_id or not product_id:
            drop("pair without ids")
        elif not text:
            drop("pair without a query text")
        elif not isinstance(label, str) or label not in GAINS:
            drop("pair with an unknown label")
        elif row["split"] not in ("train", "test"):
            drop("pair with an unknown split")
        else:
            evidence.add(f"{locale}:{query_id}", text, f"{locale}:{product_id}", GAINS[label], row["split"] == "test")


def parse_products(
    rows: Iterable[Mapping], locale: str, judged: Collection[str], tally: Tally
) -> Iterator[tuple[str, Mapping]]:
    """(item id, row) of each judged product of a locale, once, in file order; `judged` holds item ids."""
    seen = set()
    for row in rows:
        product_id = clean_id(row["product_id"])
        item_id = f"{locale}:{product_id}"
        if row["product_locale"] != locale:
            tally.drop("product of another locale")
        elif not product_id:
            tally.drop("product without an id")
        elif item_id not in judged:
            tally.drop("product that no pair of the version names")
        elif not plain(row["product_title"]):
            tally.drop("product without a title")
        elif item_id in seen:
            tally.merged += 1
        else:
            seen.add(item_id)
            tally.kept += 1
            yield item_id, row


def parse_sqid(rows: Iterable[Mapping], wanted: Collection[str], tally: Tally) -> Iterator[tuple[str, str]]:
    """(ASIN, image address) of the wanted products in SQID's rows, each once."""
    seen = set()
    for row in rows:
        product_id, image = clean_id(row["product_id"]), small_image(row["image_url"])
        if not product_id or not row["image_url"].strip():
            tally.drop("image row without a product or an address")
        elif row["image_url"].strip() == VIDEO_IMAGE:
            tally.drop("image that stands for any digital video")
        elif not image:
            tally.drop("image address that is none")
        elif product_id not in wanted:
            tally.drop("image of a product that is not in the data set or has others")
        elif product_id in seen:
            tally.merged += 1
        else:
            seen.add(product_id)
            tally.kept += 1
            yield product_id, image


def parse_esci_s(
    rows: Iterable[Mapping], locale: str, wanted: Collection[str], tally: Tally
) -> Iterator[tuple[str, str, str]]:
    """(ASIN, image address or "", top category or "") of the wanted products in ESCI-S's objects, each once."""
    seen = set()
    for row in rows:
        product_id, image, category = clean_id(row.get("asin")), small_image(row.get("image")), row.get("category")
        if not product_id or row.get("locale") != locale or product_id not in wanted:
            tally.drop("page of a product that is not in the data set")
        elif product_id in seen:
            tally.merged += 1
        else:
            seen.add(product_id)
            tally.kept += 1
            top = plain(category[0]) if isinstance(category, list) and category else ""
            yield product_id, image or "", top


def parse_sources(rows: Iterable[Mapping], locale: str, evidence: Evidence, tally: Tally) -> dict[str, tuple[str, ...]]:
    """Query id -> score slices, from `query_id,source` rows: how a query was chosen ("negations", …)."""
    slices: dict[str, tuple[str, ...]] = {}
    for row in rows:
        query_id, source = f"{locale}:{clean_id(row['query_id'])}", plain(row["source"])
        if query_id not in evidence:
            tally.drop("source of a query that is not in the data set")
        elif not source:
            tally.drop("source without a name")
        elif query_id in slices:
            tally.merged += 1
        else:
            slices[query_id] = (source,)
            tally.kept += 1
    return slices


def product_views(row: Mapping) -> tuple[View, ...]:
    """Text views of a product row: title, description (bullet points first), tags (brand, colour)."""
    details = (plain(row["product_bullet_point"]), plain(row["product_description"]))
    marks = (plain(row["product_brand"]), plain(row["product_color"]))
    texts = (("description", " ".join(filter(None, details))), ("tags", ", ".join(filter(None, marks))))
    title = View("text", "title", "primary", plain(row["product_title"]))
    return (title, *(View("text", name, "auxiliary", text) for name, text in texts if text))


class AmazonEsci:
    """ESCI of one locale: items are the products that the version's pairs name, queries keep their official test.

    tier: how many items, None for all. folder: where downloads lie. with_images: whether items have photographs; groups
    and splits are the same without. small: the reduced version (task 1), else the large one. `files` (name -> address,
    bytes, sha256) may be changed to a mirror's before the first use.
    """

    def __init__(
        self,
        tier: int | None,
        folder: Path,
        name: str,
        with_images: bool = True,
        locale: str = "us",
        small: bool = True,
        images: ImageLists = ImageLists(),  # noqa: B008 (frozen)
    ):
        if locale not in LOCALES:
            raise DataError(f"ESCI has no locale {locale!r}; expected one of {', '.join(LOCALES)}.")
        self.tier, self.folder, self.with_images = tier, Path(folder), with_images
        self.locale, self.small, self.lists = locale, small, images
        self.files = published_files()
        self.info = SourceInfo(
            name=name,
            version="amazon-esci-v1",
            title=f"Amazon ESCI shopping queries ({locale}, {'small' if small else 'large'} version)",
            licence="Apache-2.0 (queries, judgements, texts), MIT (SQID's list of images); photographs: no licence",
            redistributable=False,
            description="Shopping queries with graded products (Reddy et al. 2022, arXiv 2206.06588).",
            photographs=True,
            disclosures=(
                "Gains E/S/C/I = 1.0/0.1/0.01/0.0, those of the authors' ranking/train.py; their trec_eval path swaps "
                "S and C.",
                "The official test is kept: items judged there, and items that share an image with one, leave train. "
                "Validation: 5% of the official train queries, by hash, and the items that they judge.",
                "A train query that asks the text of a test query is left out; Exact train pairs are interactions.",
                "A tier takes items by hash: it keeps the queries and judgements that its items leave.",
                "Which list an item's photographs come from is its attribute image_source.",
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
        plan = self._planned(progress)
        lost: Counter = Counter()
        drafts = self._drafts(plan, progress, lost)
        yield from with_photographs(drafts, self.folder / "images", progress, lost)
        self._images_lost = lost

    def queries(self) -> Queries:
        """The queries with graded judgements (valid, test) and Exact pairs (train) of the items."""
        return self._planned(silent).queries

    def _planned(self, progress: Progress) -> "_Plan":
        """Everything but the items' texts and images, worked out once."""
        if self._plan is None:
            tables = ("products", "pairs", "queries", "sources", "images")
            tallies = {name: Tally() for name in tables}
            paths = self._downloaded(progress)
            evidence = Evidence(tallies["pairs"])
            pairs = reported(parquet_rows(paths[EXAMPLES], _PAIR, tallies["pairs"]), progress)
            parse_pairs(pairs, self.locale, self.small, evidence)
            claims, tally = evidence.claims(), tallies["products"]
            products = reported(parquet_rows(paths[PRODUCTS], _KEY, tally), progress)
            kept = [item_id for item_id, _ in parse_products(products, self.locale, claims, tally)]
            chosen = smallest(kept, self.tier)
            leave_out(tally, len(kept) - len(chosen), "product beyond the tier")
            galleries, origins, categories = self._lists(kept, paths, tallies, progress)
            shared = shared_images(galleries.items())
            splits = place_items({item_id: shared.group(item_id) for item_id in kept}, claims)
            slices = parse_sources(
                csv_rows(paths[SOURCES], ("query_id", "source"), tallies["sources"]),
                self.locale, evidence, tallies["sources"],
            )  # fmt: skip
            placed = {item_id: splits[item_id] for item_id in kept if item_id in chosen}
            queries = evidence.evidence(placed, RELEVANT_FROM, slices)
            tallies["queries"] = evidence.queries
            galleries = {item_id: galleries[item_id] for item_id in placed}
            self._plan = _Plan(paths[PRODUCTS], queries, placed, shared, galleries, origins, categories, tallies)
        return self._plan

    def _downloaded(self, progress: Progress) -> dict[str, Path]:
        from ftbench.sources.fetch import Remote, download

        names = [EXAMPLES, PRODUCTS, SOURCES]
        if self.lists.sqid and self.locale == "us":  # SQID has no other locale
            names += SQID
        if self.lists.esci_s:
            names.append(ESCI_S)
        remotes = [Remote(self.files[n][0], n, self.files[n][1], self.files[n][2]) for n in names]
        return dict(zip(names, download(remotes, self.folder, progress), strict=True))

    def _lists(
        self, kept: Sequence[str], paths: Mapping[str, Path], tallies: dict[str, Tally], progress: Progress
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, str], dict[str, str]]:
        """Item id -> gallery, -> which list it is from, -> category."""
        asins = {item_id.partition(":")[2]: item_id for item_id in kept}
        galleries: dict[str, tuple[str, ...]] = dict.fromkeys(kept, ())
        origins, categories = {}, {}

        def take(asin: str, found: tuple[str, ...], origin: str) -> None:
            if found and not galleries[asins[asin]]:
                galleries[asins[asin]], origins[asins[asin]] = found, origin

        reviews = lists_for(self.lists.reviews, asins.keys(), progress)
        for asin in asins if reviews else ():
            take(asin, gallery(reviews.get(asin)), "amazon-reviews")
        for name in SQID:
            if name in paths:
                wanted = {asin for asin, item_id in asins.items() if not galleries[item_id]}
                rows = csv_rows(paths[name], ("product_id", "image_url"), tallies["images"])
                for asin, address in parse_sqid(rows, wanted, tallies["images"]):
                    take(asin, (address,), "sqid")
        if ESCI_S in paths:
            tally = tallies["pages"] = Tally()
            rows = reported(json_rows(read_lines(paths[ESCI_S]), tally), progress)
            for asin, address, category in parse_esci_s(rows, self.locale, asins, tally):
                categories[asins[asin]] = category
                if address:
                    take(asin, (address,), "esci-s")
        return galleries, origins, categories

    def _drafts(self, plan: "_Plan", progress: Progress, lost: Counter) -> Iterator[tuple[Item, tuple[str, ...]]]:
        """The items with their texts and the addresses of their images, in file order."""
        most = most_images(self.tier)
        found = parse_products(parquet_rows(plan.products, _TEXTS, Tally()), self.locale, plan.splits, Tally())
        for done, (item_id, row) in enumerate(found, start=1):
            progress(done, len(plan.splits), "writing items")
            item = Item(
                item_id=item_id,
                group=plan.shared.group(item_id),
                split=plan.splits[item_id],
                category=plan.categories.get(item_id, ""),
                views=product_views(row),
                attributes={"image_source": plan.origins[item_id]} if item_id in plan.origins else {},
            )
            yield item, usable_images(plan.galleries[item_id] if self.with_images else (), plan.shared, most, lost)


@dataclass(frozen=True)
class _Plan:
    """What is known before the items are streamed; `splits` has the tier's items alone."""

    products: Path
    queries: Queries
    splits: Mapping[str, str]
    shared: SharedImages
    galleries: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, str]
    categories: Mapping[str, str]
    tallies: Mapping[str, Tally]
