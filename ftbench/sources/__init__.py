"""Data families: each turns one kind of raw data into items and queries. Must not know stores, methods or tasks."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ftbench.errors import DataError, unknown
from ftbench.items import Progress, Source, SourceInfo

# family: what it is. A name may go on after "@": studio@N, amazon-reviews@CATEGORY[-TIER], FAMILY[@TIER].
DATA = {
    "studio": "drawn catalogue, in the package: 4,000 train, 500 valid, 2,000 test items (studio@N: N items in all)",
    "studio-confirm": "the same generator with a reserved seed, to confirm the board: no setting was chosen on it",
    "magento-luma": "a real store's catalogue with photographs (Magento 2 sample data)",
    "amazon-reviews": "Amazon Reviews 2023, one category (amazon-reviews@All_Beauty-10k): reviews search items",
    "amazon-c4": "Amazon-C4: complex queries, one product each; evaluation only (amazon-c4@all-100k: with photographs)",
    "amazon-esci": "Amazon shopping queries with graded judgements (amazon-esci@100k)",
    "abo": "Amazon Berkeley Objects: 147,702 listings with images under CC BY 4.0; cross-view only (abo@10k)",
    "marqo-gs": "Marqo GS-10M: one image per product, ranks as labels; a single-image control (marqo-gs@10k)",
}
WITHOUT_QUERIES = ("abo",)
_TIERS = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}  # items; each holds the smaller ones (DATASETS.md)
_OWN_SUFFIX = ("studio", "studio-confirm")  # these read what follows "@" themselves
_ALL = "all"  # every category
# What a folder of raw files holds, laid out as it is published.
_RAW = {"amazon-reviews": "raw*", "amazon-c4": "test.csv", "amazon-esci": "*.parquet", "abo": "abo-listings.tar",
        "marqo-gs": "**/*.parquet"}  # fmt: skip
# Families that a category may follow; of the last two it says whose lists of photographs are joined.
_BY_CATEGORY = ("amazon-reviews", "amazon-c4", "amazon-esci")


def compose_name(family: str, category: str | None = None, tier: str | None = None) -> str:
    """The name of a data set: amazon-reviews, All_Beauty, 10k -> amazon-reviews@All_Beauty-10k. Raises FtbenchError."""
    if not category and not tier:
        return family
    if "@" in family:
        raise DataError(f"{family} says after '@' what it is; leave --category and --tier out.")
    if tier and tier not in _TIERS:
        raise unknown("tier", tier, _TIERS, "Leave --tier out for all items.")
    if category and family in DATA and family not in _BY_CATEGORY:
        raise DataError(f"{family} has no categories; leave --category out.")
    return f"{family}@{'-'.join(part for part in (category, tier) if part)}"


def _scope(name: str) -> tuple[str, str | None, int | None]:
    """(family, category, number of items) of a data set's name."""
    family, _, scope = name.partition("@")
    category, _, tier = scope.rpartition("-")
    if tier not in _TIERS:
        if re.fullmatch(r"\d+\w*", tier):
            raise unknown("tier", tier, _TIERS, f"Such as {family}@{category + '-' if category else ''}10k.")
        category, tier = scope, ""
    if category and family not in _BY_CATEGORY:
        raise unknown("tier", category, _TIERS, f"After {family}@ stands a tier: {family}@10k")
    if category:
        _categories(category, family)
    return family, category or None, _TIERS.get(tier)


def _categories(category: str, family: str) -> tuple[str, ...]:
    """The categories of Amazon Reviews 2023 that a name means. Raises FtbenchError for one that does not exist."""
    from ftbench.sources.amazon_reviews import CATEGORIES

    if category == _ALL and family != "amazon-reviews":
        return tuple(CATEGORIES)
    if category not in CATEGORIES:
        also = "" if family == "amazon-reviews" else f", or {_ALL}"
        raise unknown("category", category, CATEGORIES, f"As Amazon Reviews 2023 writes it, such as All_Beauty{also}.")
    return (category,)


def check_name(name: str, own: Sequence[str] = ()) -> None:
    """Raise FtbenchError with near matches for a data set's name that does not exist. own: names that a person gave."""
    base = re.sub(r"@.*$", "", name)
    if name in own:
        return
    if base not in DATA or ("@" in name and base == "magento-luma"):
        raise unknown("data set", name, [*DATA, *own], "See: ftbench list data; your own: ftbench data import")
    if base in _OWN_SUFFIX:
        from ftbench.sources.studio import parse_name

        parse_name(name)
    else:
        _scope(name)


def source_for(name: str, folder: Path | None = None, downloads: Path | None = None) -> Source:
    """The source behind a data set's name. `folder` is where a source with files of its own lies.

    downloads: the folder for what is fetched from the internet. Raises FtbenchError with near matches for a name that
    does not exist.
    """
    check_name(name)
    base = re.sub(r"@.*$", "", name)
    if base in _OWN_SUFFIX:
        from ftbench.sources.studio import parse_name

        return parse_name(name)
    if base == "magento-luma":
        from ftbench.sources.magento_luma import Luma

        return Luma(folder, downloads and downloads / base)
    downloads = downloads or Path("downloads")
    if folder is not None and not any(folder.glob(_RAW[base])):
        raise DataError(
            f"--source {folder}: no raw files of {base} there (looked for {_RAW[base]}); without it they are fetched."
        )
    return _public(name, folder or downloads / base, downloads)


def _public(name: str, folder: Path, downloads: Path) -> Source:
    """A source of public data, read from `folder` as far as it lies there, else downloaded into it."""
    family, category, tier = _scope(name)
    if family == "abo":
        from ftbench.sources.abo import Abo

        return Abo(tier, folder, name)
    if family == "marqo-gs":
        from ftbench.sources.marqo_gs import MarqoGs

        return MarqoGs(tier, folder, name)
    from ftbench.sources.amazon_reviews import AmazonReviews, image_lists

    if family == "amazon-reviews":
        if not category:
            raise DataError(
                "amazon-reviews is prepared one category at a time. Type: "
                "ftbench data prepare amazon-reviews --category All_Beauty --tier 10k"
            )
        return AmazonReviews(category, tier, folder, name)
    lists = None
    if category:
        reviews, categories = downloads / "amazon-reviews", _categories(category, family)

        def lists(wanted: Collection[str], progress: Progress) -> Mapping[str, Sequence[str]]:
            return image_lists(reviews, categories, wanted, progress)

    if family == "amazon-c4":
        from ftbench.sources.amazon_c4 import AmazonC4

        return AmazonC4(tier, folder, name, images=lists)
    from ftbench.sources.amazon_esci import AmazonEsci, ImageLists

    return AmazonEsci(tier, folder, name, images=ImageLists(reviews=lists))


def terms(info: SourceInfo) -> str:
    """What is said before anything of a data set is fetched."""
    shown = "" if info.redistributable else " Its texts and pictures are never written into results or pages: ids only."
    return f"{info.title}. Licence and terms: {info.licence}.{shown}"
