"""The prepared data set `magento-luma`: Magento's own sample store, real photographs. Must not know stores or methods.

The store's folder is found, or else the public repository's archive of one commit is downloaded. Its files are the
repository's, byte for byte, checked against `magento_luma.sha256` (made with `sha256sum`, so that `sha256sum -c` checks
a folder by hand).
"""

import os
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

from ftbench.errors import DataError, several
from ftbench.items import Item, Progress, Queries, SourceInfo, silent
from ftbench.sources.magento import read_export
from ftbench.sources.magento_items import Product, build_items, leaf
from ftbench.sources.magento_queries import Review, build_queries
from ftbench.sources.rows import SHARES, Tally, file_digest, read_rows, safe_path, strip_html

REPOSITORY = "https://github.com/magento/magento2-sample-data"
COMMIT = "53807565ba9f23c9409268c02bb995cf39ef553d"
SERVER = "https://codeload.github.com/magento/magento2-sample-data/tar.gz"  # /COMMIT: its archive
VARIABLE = "FTBENCH_MAGENTO_LUMA"
SERVER_VARIABLE = "FTBENCH_MAGENTO_LUMA_SERVER"  # another server that has the same archive
_PLACE = Path("shared") / "data" / "magento-luma"  # searched for beside the checkout and in every folder above
_CODE = Path("app") / "code" / "Magento"
_EXPORT = _CODE / "ConfigurableSampleData" / "fixtures" / "products.csv"
_GEAR = _CODE / "CatalogSampleData" / "fixtures" / "SimpleProduct"
_REVIEWS = _CODE / "ReviewSampleData" / "fixtures" / "products_reviews.csv"
_MEDIA = Path("pub") / "media" / "catalog" / "product"

# Attribute keys of the store -> the attribute that queries ask for. None of these keys gives a tag.
JUDGED = {
    "gender": "gender", "color": "color", "material": "material", "pattern": "pattern", "climate": "climate",
    "activity": "activity", "style_general": "style", "style_bottom": "style", "style_bags": "style",
}  # fmt: skip
_HIDDEN = (*JUDGED, "size")  # sizes ("XS", "32") say nothing that a query asks
# Photographs of bags that the store's own rows list for two sports bras: their numbers, WB01 and WB04, are also bags'.
WRONG_PHOTOGRAPHS = {("WB01", "wb01-black-0.jpg"), ("WB04", "wb04-blue-0.jpg")}
KIND_OF = {
    "Jackets": "jacket", "Hoodies & Sweatshirts": "hoodie", "Tees": "tee", "Tanks": "tank", "Bras & Tanks": "tank",
    "Pants": "pants", "Shorts": "shorts", "Bags": "bag", "Watches": "watch", "Fitness Equipment": "equipment",
}  # fmt: skip
_NOT_GEAR_ATTRIBUTES = {"category", "name", "sku", "price", "qty", "description", "special_price", "attribute_set",
                        "visibility", "url_key"}  # fmt: skip


def luma_folder(source: Path | str | None = None) -> Path | None:
    """The store's folder: `source`, else $FTBENCH_MAGENTO_LUMA, else shared/data/magento-luma here or further up.

    None where there is none. Raises DataError where `source` or the variable names a folder that is not the store.
    """
    named = source or os.environ.get(VARIABLE)
    if named:
        if not (Path(named) / _EXPORT).is_file():
            origin = "--source" if source else f"${VARIABLE}"
            raise DataError(f"{origin} is {str(named)!r}, which holds no {_EXPORT.as_posix()}. {_how_to_get()}")
        return Path(named)
    checkout = Path(__file__).resolve().parents[2]
    for base in (Path.cwd(), *Path.cwd().parents, checkout, checkout.parent):
        if (base / _PLACE / _EXPORT).is_file():
            return base / _PLACE
    return None


def _how_to_get() -> str:
    return (
        f"Fetch the store once: git clone {REPOSITORY} && git -C magento2-sample-data checkout {COMMIT}; then give "
        f"that folder with --source DIR, or set {VARIABLE} to it."
    )


def manifest() -> dict[str, str]:
    """Relative path -> SHA-256 of every file of the store that is read."""
    text = resources.files("ftbench.sources").joinpath("magento_luma.sha256").read_text(encoding="utf-8")
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in text.splitlines())}


def fetch_store(folder: Path, downloads: Path, progress: Progress) -> None:
    """Download the repository's archive and unpack the files that are read into `folder`, which is then whole.

    Raises DataError: the archive cannot be had, or lacks files of the manifest.
    """
    from ftbench.sources.fetch import Remote, download

    server = os.environ.get(SERVER_VARIABLE, SERVER).rstrip("/")
    name = f"{REPOSITORY.rpartition('/')[2]}-{COMMIT}.tar.gz"
    try:
        (archive,) = download([Remote(f"{server}/{COMMIT}", name)], downloads, progress)
    except DataError as problem:
        raise DataError(f"{problem}\nOr: {_how_to_get()}") from None
    part, wanted = folder.with_name(f"{folder.name}.part"), set(manifest())
    shutil.rmtree(part, ignore_errors=True)
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                path = member.name.partition("/")[2]  # below the folder that is named for the commit
                if member.isfile() and path in wanted:
                    (part / path).parent.mkdir(parents=True, exist_ok=True)
                    with members.extractfile(member) as file, open(part / path, "wb") as copy:
                        shutil.copyfileobj(file, copy)
                    wanted.remove(path)
                    progress(len(manifest()) - len(wanted), len(manifest()), "unpacking")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as problem:
        archive.unlink(missing_ok=True)
        raise DataError(f"{name} cannot be unpacked ({problem}). Type that again. {_how_to_get()}") from None
    if wanted:
        archive.unlink(missing_ok=True)
        raise DataError(f"{name} lacks {len(wanted)} files, such as {min(wanted)}. {_how_to_get()}")
    os.replace(part, folder)


def check_files(folder: Path) -> None:
    """Compare the folder with the manifest. Raises DataError naming every file that is missing or differs."""
    problems = []
    for path, digest in manifest().items():
        if not (folder / path).is_file():
            problems.append(f"{path} is missing")
        elif file_digest(folder / path) != digest:
            problems.append(f"{path} is not the file of that commit")
    if problems:
        problems.append(_how_to_get())
        raise several(f"{folder} is not the store that magento-luma-v1 is made from", problems, DataError)


def _lines(text: str) -> tuple[str, ...]:
    """The values of a gear cell, one a line, blanks and repeats out."""
    return tuple(dict.fromkeys(line.strip() for line in text.split("\n") if line.strip()))


def read_gear(folder: Path, tally: Tally) -> list[Product]:
    """The gear products of the per-type fixture files (folder: SimpleProduct), whose columns differ from an export's.

    Photographs come from the images_*.csv beside them (sku, image). Raises DataError listing all problems.
    """
    problems: list[str] = []
    images: dict[str, list[str]] = {}
    for path in sorted(folder.glob("images_*.csv")):
        for number, row in read_rows(path, ("sku", "image"), Tally(), problems):
            if (image := safe_path(row["image"])) is None:
                problems.append(f"{path.name}, row {number}: {row['image']!r} is no path inside the media folder")
            else:
                images.setdefault(row["sku"].strip(), []).append(image)
    products: dict[str, Product] = {}
    for path in sorted(folder.glob("products_*.csv")):
        for _, row in read_rows(path, ("sku", "name", "category", "description"), tally, problems):
            sku = row["sku"].strip()
            if not sku or sku in products:
                tally.drop("row with a sku seen before" if sku else "row without a sku")
                continue
            tally.kept += 1
            products[sku] = Product(
                sku=sku,
                name=strip_html(row["name"]),
                description=strip_html(row["description"]),
                categories=_gear_categories(_lines(row["category"])),
                attributes={k: v for k, text in row.items() if k not in _NOT_GEAR_ATTRIBUTES and (v := _lines(text))},
                images=tuple(images.get(sku, ())),
            )
    if problems:
        raise several("the gear files cannot be used as they are", problems, DataError)
    return list(products.values())


def _gear_categories(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Gear cells list a path's names one below the other: Gear, its kind, then further sections such as Collections."""
    return (names[:2], *((name,) for name in names[2:] if name not in ("Collections", "Promotions")))


def _canonical(value: str) -> str:
    return value.lower().replace("™", "").replace("®", "").strip()


def _with_gender(product: Product) -> Product:
    """Garments say whom they are for by their category: Men/..., Women/...; gear says it itself, or not at all."""
    found = tuple(dict.fromkeys(path[0] for path in product.categories if path[0] in ("Men", "Women")))
    return replace(product, attributes=dict(product.attributes) | {"gender": found}) if found else product


def judged_attributes(product: Product) -> dict[str, str]:
    """kind and the judged attributes of a product, lower case, several values joined by `|`.

    "organic cotton" is also "cotton"; a "Bras & Tanks" product is a bra where its style says so, else a tank.
    """
    found: dict[str, dict[str, None]] = {}
    for key, name in JUDGED.items():
        for value in map(_canonical, product.attributes.get(key, ())):
            found.setdefault(name, {})[value] = None
            if value == "organic cotton":
                found[name]["cotton"] = None
    kind = KIND_OF[leaf(product)]
    if leaf(product) == "Bras & Tanks" and "bra" in found.get("style", ()):
        kind = "bra"
    return {"kind": kind} | {name: "|".join(values) for name, values in found.items()}


def _mark_wrong(item: Item) -> Item:
    """The item with photographs that are known to show something else barred from probing."""
    views = (
        replace(view, probe=False)
        if isinstance(view.content, Path) and (item.item_id, view.content.name) in WRONG_PHOTOGRAPHS
        else view
        for view in item.views
    )
    return replace(item, views=tuple(views))


class Luma:
    """`magento-luma`: 147 garments and 44 gear products of Magento's sample store, attribute and review queries.

    `dropped` counts what was left out by reason; `rows` what became of product rows and reviews: for each, read =
    kept + merged + dropped.
    """

    info = SourceInfo(
        name="magento-luma",
        version="magento-luma-v1",
        title="Luma (Magento 2 sample store)",
        licence="OSL-3.0 / AFL-3.0",
        redistributable=False,
        description=(
            "A sportswear store with product photographs, descriptions, attributes and customer reviews, from "
            f"{REPOSITORY} at commit {COMMIT}. "
            "Queries are attribute combinations with exact relevance, and customers' reviews."
        ),
        photographs=True,
        disclosures=(
            "At most 8 images per item: the product's own gallery, then one per further colour.",
            "Attributes that queries ask for (colour, material, pattern, climate, style, activity, gender) and "
            "sizes are taken out of the tags, not out of titles and descriptions.",
            "A colour counts where the product can be bought in it; each colour has its photograph.",
            "Organic cotton also counts as cotton. Attribute values are the store's, not checked against photographs.",
            "Gain 3: all attributes of a query, its kind of product included; 1: all but one, of three or more.",
            "Queries of all splits are judged on all items of the store: train items stand in the gallery.",
            "Review queries are titles of reviews of three or more stars, with or replaced by the first sentence where "
            "the title is short or cut off, that name a product, a use, weather or a feature. The reviewed product is "
            "their only relevant item, though others may serve as well.",
            "Reviews of shoes under numbers that the store now gives to shorts (MSH, WSH), and of a polo shirt (WS12), "
            "are left out; all others are taken as they are, though a few may speak of an older product too.",
            "Two sports bras list a bag's photograph, by the store's own mistake: kept as views, never used as probes.",
            "12 gear products (balls and straps) belong to sets that the folder does not have; they are items of their "
            "own, and those that share a photograph lie within one split.",
        ),
    )

    def __init__(self, folder: Path | None = None, downloads: Path | None = None):
        """folder: where the store lies; found as `luma_folder` says when None, else downloaded into `downloads`.

        Raises DataError where there is none and nothing may be downloaded.
        """
        found = luma_folder(folder)
        if found is None and downloads is None:
            raise DataError(f"magento-luma: no folder with the store was found. {_how_to_get()}")
        self._downloads = downloads
        self.folder = found or downloads / f"magento2-sample-data-{COMMIT}"
        self.dropped: dict[str, int] = {}
        self.rows: dict[str, dict[str, int]] = {}
        self._items: tuple[Item, ...] | None = None

    def items(self, progress: Progress) -> Iterator[Item]:
        """The 191 items: garments in the export's order, then gear. Raises DataError where a file is another's."""
        if self._items is None:
            if self._downloads is not None and not self.folder.is_dir():
                fetch_store(self.folder, self._downloads, progress)
            check_files(self.folder)
            tally = Tally()
            media = self.folder / _MEDIA
            products = [_with_gender(p) for p in read_export([self.folder / _EXPORT], media, tally)]
            products += read_gear(self.folder / _GEAR, tally)
            items = build_items(products, media.joinpath, _HIDDEN, SHARES, tally.reasons, progress)
            judged = {product.sku: judged_attributes(product) for product in products}
            self._items = tuple(_mark_wrong(replace(item, attributes=judged[item.item_id])) for item in items)
            self.dropped, self.rows = dict(tally.reasons), {"products": tally.counts()}
        yield from self._items

    def queries(self) -> Queries:
        """Attribute and review queries with their evidence; the same on every call."""
        items = tuple(self.items(silent))
        problems: list[str] = []
        tally = Tally()
        reviews = []
        for _, row in read_rows(self.folder / _REVIEWS, ("sku", "rating_value", "title", "review"), tally, problems):
            reviews.append(Review(row["sku"].strip(), int(row["rating_value"]), row["title"], row["review"]))
        if problems:
            raise several("the reviews cannot be used as they are", problems, DataError)
        reasons: Counter = Counter()
        found, kept = build_queries(items, reviews, SHARES, reasons)
        counts = {"read": tally.read, "kept": kept, "merged": 0, "dropped": tally.read - kept}
        self.rows = self.rows | {"reviews": counts}
        self.dropped = self.dropped | dict(reasons) | dict(tally.reasons)
        return found
