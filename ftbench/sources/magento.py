"""Magento 2 catalogue exports: rows of simple and configurable products become items. Must not know any one store.

One CSV row is one product of one store view. Children (`configurable_variations`) merge into their configurable parent;
a product nobody can see and no parent names is dropped. Image paths are relative to `pub/media/catalog/product`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from ftbench.errors import DataError, several
from ftbench.items import Item, Progress, Queries, SourceInfo, silent
from ftbench.sources.magento_items import Product, build_items
from ftbench.sources.rows import SHARES, Tally, inside, read_queries, read_rows, safe_path, strip_html, unescaped

REQUIRED = ("sku", "product_type", "name", "description", "categories", "base_image")
MEDIA = ("pub/media/catalog/product", "media/catalog/product", "catalog/product")  # beside an export, first that exists
_SYSTEM = {"has_options", "required_options"}  # how the shop works, not what the product is


def parse_pairs(text: str) -> dict[str, tuple[str, ...]]:
    """`key=value,key=value` with `|` between several values of one key; commas inside a value are kept.

    >>> parse_pairs("color=Blue,climate=Cool|Windy,note=red, or so")
    {'color': ('Blue',), 'climate': ('Cool', 'Windy'), 'note': ('red, or so',)}
    """
    pairs = {}
    for part in re.split(r",(?=\s*\w+=)", text):
        key, equals, value = part.partition("=")
        values = (unescaped(v).strip().strip('"').strip() for v in value.split("|"))
        if equals and (kept := tuple(dict.fromkeys(v for v in values if v))):
            pairs[key.strip()] = kept
    return pairs


def category_paths(text: str) -> tuple[tuple[str, ...], ...]:
    """`Default Category/Men/Tops,Default Category/Sale` as paths of names, the store's root left off."""
    paths = []
    for part in text.split(","):
        names = [unescaped(n.replace(r"\/", "/")).strip() for n in re.split(r"(?<!\\)/", part)]
        if len(names) > 1 and all(names):
            paths.append(tuple(names[1:]))
    return tuple(dict.fromkeys(paths))


def read_export(files: Iterable[Path], media: Path | None, tally: Tally) -> list[Product]:
    """The products of Magento 2 export files, children merged, in file order. media: None where it is not on disk.

    Raises DataError naming every missing column and every image path outside `media`, with row numbers.
    """
    problems: list[str] = []
    rows: dict[str, dict] = {}
    images: dict[str, list[str]] = {}
    for path in files:
        found = read_rows(path, REQUIRED, tally, problems)
        default = {row["sku"].strip() for _, row in found if not row.get("store_view_code", "").strip()}
        for number, row in found:
            sku, view = row["sku"].strip(), row.get("store_view_code", "").strip()
            if reason := _odd(row, sku, view, default, rows):
                tally.drop(reason)
                continue
            rows[sku] = row
            images[sku] = _gallery(row, media, f"{path.name}, row {number}", problems)
    if problems:
        raise several("this Magento export cannot be used as it is", problems, DataError)
    return list(_merge(rows, images, tally))


def _odd(row: dict, sku: str, view: str, default: set[str], rows: dict[str, dict]) -> str | None:
    """Why a row is left out, or None."""
    if not sku:
        return "row without a sku"
    if view and (view != "default" or sku in default):
        return "row of another store view"
    if sku in rows:
        return "row with a sku seen before"
    if not strip_html(row["name"]):
        return "product without a name"
    if row.get("product_online", "1").strip() not in ("", "1"):
        return "product switched off"
    return None


def _gallery(row: dict, media: Path | None, place: str, problems: list[str]) -> list[str]:
    """Image paths of one row, the base image first, without repeats."""
    paths: dict[str, None] = {}
    for column in ("base_image", "additional_images"):
        for text in row.get(column, "").split(","):
            if not text.strip() or text.strip() == "no_selection":
                continue
            path = safe_path(text)
            if path is None or (media is not None and not inside(media, path)):
                problems.append(f"{place}, column {column}: {text.strip()!r} is no path inside the media folder")
            else:
                paths[path] = None
    return list(paths)


def _merge(rows: dict[str, dict], images: dict[str, list[str]], tally: Tally) -> Iterator[Product]:
    """One product per parent or stand-alone row. A child that two parents name goes to both."""
    children: dict[str, list[str]] = {}
    for sku, row in rows.items():
        if row["product_type"].strip() == "configurable":
            for variation in row.get("configurable_variations", "").split("|"):
                child = next(iter(parse_pairs(variation).get("sku", ())), "")
                if child in rows and child != sku:
                    children.setdefault(sku, []).append(child)
                elif child:
                    tally.reasons["variation that names an absent sku"] += 1
    merged = {child for skus in children.values() for child in skus} - children.keys()
    tally.merged += len(merged)
    for sku, row in rows.items():
        if sku in merged:
            continue
        if row.get("visibility", "").strip() == "Not Visible Individually":
            tally.drop("product not visible and without a parent")
            continue
        tally.kept += 1
        attributes: dict[str, dict[str, None]] = {}
        for part in (sku, *children.get(sku, ())):
            for key, values in parse_pairs(rows[part].get("additional_attributes", "")).items():
                if key not in _SYSTEM:
                    attributes.setdefault(key, {}).update(dict.fromkeys(values))
        description = (strip_html(row.get(column, "")) for column in ("description", "short_description"))
        yield Product(
            sku=sku,
            name=strip_html(row["name"]),
            description=" ".join(dict.fromkeys(text for text in description if text)),
            categories=category_paths(row["categories"]),
            attributes={key: tuple(values) for key, values in attributes.items()},
            images=tuple(images[sku]),
            variants=tuple(dict.fromkeys(path for child in children.get(sku, ()) for path in images[child])),
        )


@dataclass(frozen=True)
class Photographs:
    """Where an export's photographs are. folder: with the paths of the export below it; or address: of such a folder on
    the web, and download: the folder that they are fetched into. None of them: in a media folder beside the export."""

    folder: Path | None = None
    address: str | None = None
    download: Path | None = None


class Magento:
    """A shop owner's Magento 2 export: a CSV file, or a folder with several.

    queries: the owner's own `query, item_id[, gain]` as TSV (item ids are skus), `queries.tsv` beside the export where
    None. `dropped` counts what was left out by reason, `rows` what became of the product rows and the query lines.
    """

    def __init__(
        self,
        export: Path,
        name: str = "magento",
        photographs: Photographs = Photographs(),  # noqa: B008 (frozen)
        queries: Path | None = None,
        hidden: tuple[str, ...] = (),
    ):
        self.export, self._hidden, self.photographs = Path(export), tuple(hidden), photographs
        self.dropped: dict[str, int] = {}
        self.rows: dict[str, dict[str, int]] = {}
        self.info = SourceInfo(
            name=name,
            version="magento-v1",
            title=f"Magento 2 catalogue export ({name})",
            licence="the shop owner's",
            redistributable=False,
            description="Products of a Magento 2 shop, read from its catalogue export and its photographs.",
            photographs=True,
            disclosures=("At most 8 images per item.", "Images shared by more than 20 products are left out."),
            private=True,
        )
        self._items: tuple[Item, ...] | None = None
        folder = self.export if self.export.is_dir() else self.export.parent
        self.files = sorted(folder.glob("*.csv")) if self.export.is_dir() else [self.export]
        if not self.files:
            raise DataError(f"no export found: {export} holds no .csv file. Give the export itself, or its folder.")
        if not self.export.exists():
            raise DataError(f"{export} does not exist. Give the CSV file that Magento exported, or its folder.")
        self.media = photographs.folder or next((folder / m for m in MEDIA if (folder / m).is_dir()), None)
        if photographs.address is None and (self.media is None or not self.media.is_dir()):
            raise DataError(
                f"no media folder found: {self.media or folder} {'is none' if self.media else 'holds none of '}"
                f"{'' if self.media else ', '.join(MEDIA)}. Copy the shop's there, or give it: --images DIR; or fetch "
                "the photographs from the shop: --images https://SHOP/media/catalog/product"
            )
        self._own_queries = queries or folder / "queries.tsv"

    @property
    def has_queries(self) -> bool:
        """Whether the owner gave any."""
        return self._own_queries.is_file()

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in file order. Raises DataError for exports that cannot be used."""
        if self._items is None:
            tally = Tally()
            place = self.media.joinpath if self.photographs.address is None else None
            products = read_export(self.files, self.media if place else None, tally)
            if place is None:
                products, place = self._fetched(products, tally, progress)
            self._items = tuple(build_items(products, place, self._hidden, SHARES, tally.reasons, progress))
            self.dropped, self.rows = dict(tally.reasons), {"products": tally.counts()}
        yield from self._items

    def _fetched(
        self, products: list[Product], tally: Tally, progress: Progress
    ) -> tuple[list[Product], Callable[[str], Path]]:
        """The products with the photographs that could be fetched, and where these lie."""
        from ftbench.sources.fetch import fetch_images

        base = self.photographs.address.rstrip("/")
        paths = dict.fromkeys(path for product in products for path in (*product.images, *product.variants))
        address = {path: f"{base}/{quote(path)}" for path in paths}
        fetched = fetch_images(address.values(), self.photographs.download, progress)
        files = {path: fetched[url].path for path, url in address.items() if fetched[url].path}
        for path in paths:
            if path not in files:
                tally.reasons[f"image not to be had ({fetched[address[path]].status})"] += 1

        def had(paths: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(path for path in paths if path in files)

        return [replace(p, images=had(p.images), variants=had(p.variants)) for p in products], files.__getitem__

    def queries(self) -> Queries:
        """The owner's own queries; none where there is no file of them."""
        items = tuple(self.items(silent))
        if not self.has_queries:
            return Queries()
        tally = Tally()
        found = read_queries(self._own_queries, {item.item_id: item.split for item in items}, tally)
        self.rows = self.rows | {"queries": tally.counts()}
        self.dropped = self.dropped | dict(tally.reasons)
        return found
