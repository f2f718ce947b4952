"""Shopify product exports: rows of one handle become one item. Must not know stores.

The first row of a handle has title and description, each further one an image or a variant. Three headers are in the
wild: the old one, an older one without `Image Position`, and the new one with other names for the same columns.
"""

import csv as csv_format
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ftbench.errors import DataError, several
from ftbench.items import Item, Progress, Queries, SourceInfo, silent
from ftbench.sources.listings import DISCLOSURES, Listing, listing_items
from ftbench.sources.rows import Tally, inside, read_queries, read_rows, safe_path
from ftbench.sources.tables import plain

# What is read -> its column in the old and in the new header, compared without case (DATASETS.md (f)).
COLUMNS = {
    "handle": ("handle", "url handle"),
    "title": ("title",),
    "body": ("body (html)", "description"),
    "vendor": ("vendor",),
    "category": ("product category",),
    "type": ("type",),
    "tags": ("tags",),
    "image": ("image src", "product image url"),
    "position": ("image position",),
    "variant": ("variant image", "variant image url"),
    "published": ("published", "published on online store"),
    "status": ("status",),
} | {f"option{i} {part}": (f"option{i} {part}",) for i in (1, 2, 3) for part in ("name", "value")}
REQUIRED = ("handle", "title", "body", "image")
_LONGEST_HANDLE = 255  # characters, Shopify's own limit
_LONGEST_ADDRESS = 2000  # characters (ours)
_RESERVED = "%/:?#[]@!$&'()*+,;=~"  # what an address may hold beside letters and digits (RFC 3986)


def columns_of(header: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What is read -> the header's name for it, and the problems of the header."""
    names = [name.strip() for name in header]
    found, problems = {}, []
    for field, known in COLUMNS.items():
        here = [name for wanted in known for name in names if name.casefold() == wanted]
        if here:
            found[field] = here[0]
            if names.count(here[0]) > 1:
                problems.append(f"row 1: the column {here[0]} occurs {names.count(here[0])} times")
        elif field in REQUIRED:
            problems.append(f"row 1: missing column {' or '.join(repr(name) for name in known)}")
    if problems and len(names) == 1 and names[0].count(";") > 3:
        problems = ["row 1: cells are separated by ';'; save it with commas, as Shopify exports it"]
    return found, problems


def address_of(cell: str) -> str:
    """An image's address as it is compared and fetched: ASCII, with a scheme where it has a host.

    >>> address_of(" //cdn.shopify.com/s/files/1/a b.jpg?v=1 ")
    'https://cdn.shopify.com/s/files/1/a%20b.jpg?v=1'
    """
    text = re.sub(r"^//", "https://", cell.strip()[:_LONGEST_ADDRESS])
    return quote(text.encode("utf-8", "ignore"), safe=_RESERVED)


def path_of(address: str) -> str:
    """The path in an address, without host and query: what tells one image from another. "" for what has none."""
    try:
        return unquote(urlsplit(address).path).replace("\\", "/")
    except ValueError:
        return ""


def parse_export(rows: Iterable[Mapping[str, str]], tally: Tally) -> list[Listing]:
    """The products of an export's rows, in the order of their first ones; rows by the names of COLUMNS.

    The row that a product is made of is kept, its further ones are merged; dropped are rows without a handle and those
    of products that have no title or that shoppers cannot see. Every row is already counted as read.
    """
    products: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        handle = re.sub(r"\s+", "-", row.get("handle", "").strip())
        if 0 < len(handle) <= _LONGEST_HANDLE and handle.isprintable():
            products.setdefault(handle, []).append(row)
        else:
            tally.drop("row without a handle" if not handle else "row with a handle that is none")
    listings = []
    for handle, found in products.items():
        first = next((row for row in found if plain(row.get("title"))), {})
        if reason := _unseen(first, found):
            for _ in found:
                tally.drop(reason)
            continue
        tally.kept += 1
        tally.merged += len(found) - 1
        kind = plain(first.get("type")) or plain(first.get("category", "").rpartition(">")[2])
        vendor = plain(first.get("vendor"))
        listings.append(
            Listing(
                item_id=handle,
                title=plain(first["title"]),
                description=plain(first.get("body")),
                tags=tuple(filter(None, (kind, *map(plain, first.get("tags", "").split(",")), vendor))),
                category=kind,
                images=_gallery(found),
                attributes=_options(found) | ({"vendor": vendor} if vendor else {}),
            )
        )
    return listings


def _unseen(first: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> str | None:
    """Why a product is left out, or None. first: its first row with a title, {} where none has."""
    if not first:
        return "row of a product without a title"
    status = next(filter(None, (row.get("status", "").strip().lower() for row in rows)), "active")
    published = next(filter(None, (row.get("published", "").strip().lower() for row in rows)), "true")
    if status in ("draft", "archived"):
        return "row of a product that is a draft or archived"
    return "row of a product that is not published" if published in ("false", "no", "0") else None


def _gallery(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Addresses by position, those without one after the others in the rows' order, then the variants'; no repeats."""
    found = []
    for number, row in enumerate(rows):
        for field, late in (("image", False), ("variant", True)):
            if address := address_of(row.get(field, "")):
                found.append((late, float("inf") if late else _position(row.get("position", "")), number, address))
    by_path: dict[str, str] = {}
    for *_, address in sorted(found):
        by_path.setdefault(path_of(address) or address, address)
    return tuple(by_path.values())


def _position(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        return float("inf")
    return number if number == number else float("inf")


def _options(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Option name -> values joined by `|` ("color": "Red|Blue"); names stand on a product's first row only."""
    options = {}
    for i in (1, 2, 3):
        name = next(filter(None, (plain(row.get(f"option{i} name")) for row in rows)), "").lower()
        values = dict.fromkeys(filter(None, (plain(row.get(f"option{i} value")) for row in rows)))
        if name and values and list(values) != ["Default Title"]:
            options[name] = "|".join(values)
    return options


def read_export(files: Iterable[Path], tally: Tally) -> list[Listing]:
    """The products of export files; Shopify splits large exports into several.

    Raises DataError naming every problem of every file, with row numbers.
    """
    problems: list[str] = []
    rows: list[dict[str, str]] = []
    for path in files:
        header, unreadable = _header(path), len(problems)
        columns, wrong = columns_of(header)
        found = read_rows(path, (), tally, problems, tuple(columns.values()))
        if header or len(problems) == unreadable:
            problems += [f"{path.name}, {problem}" for problem in wrong]
        rows += [{field: row[name] for field, name in columns.items()} for _, row in found]
    if problems:
        raise several("this Shopify export cannot be used as it is", problems, DataError)
    return parse_export(rows, tally)


def _header(path: Path) -> list[str]:
    """The first row of a CSV file; [] where it cannot be read, which `read_rows` reports."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv_format.reader(file), [])
    except (OSError, UnicodeDecodeError, csv_format.Error):
        return []


def local_images(folder: Path, addresses: Iterable[str]) -> Callable[[str], Path | str]:
    """Where the photographs of addresses lie in a folder, found by file name, or why one cannot be told.

    Files in folders below count too; links that leave the folder do not. Raises DataError where no file fits at all.
    """
    files: dict[str, list[Path | None]] = {}  # None for one that a link leads elsewhere
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            stays = not file.is_symlink() or inside(folder, file.relative_to(folder))
            files.setdefault(file.name, []).append(file if stays else None)
    tails: dict[str, set[str]] = {}  # file name -> the last two parts of the paths that end with it
    for address in addresses:
        parts = path_of(address).split("/")
        tails.setdefault(parts[-1], set()).add("/".join(parts[-2:]))
    if tails and not tails.keys() & files.keys():
        examples = ", ".join(repr(name) for name in list(tails)[:3])
        raise DataError(
            f"none of the export's {len(tails)} photographs lies in {folder}, which holds {len(files)} file names. "
            f"They are found by file name; expected such as {examples}."
        )

    def place(address: str) -> Path | str:
        name = path_of(address).rpartition("/")[2]
        if not safe_path(name):
            return "image address without a file name"
        if len(tails.get(name, ())) > 1:
            return "image whose file name several addresses have"
        found = files.get(name, [folder / name])
        if len(found) > 1:
            return "image whose file name several files have"
        return found[0] or "image whose file is a link out of the folder"

    return place


def fetched_images(folder: Path, addresses: Iterable[str], progress: Progress) -> Callable[[str], Path | str]:
    """Where the photographs of addresses lie once they are fetched into a folder, or why one cannot be had."""
    from ftbench.sources.fetch import fetch_images

    wanted = [a for a in dict.fromkeys(addresses) if re.fullmatch(r"https?://[^/].*", a)]
    fetched = fetch_images(wanted, folder, progress)

    def place(address: str) -> Path | str:
        image = fetched.get(address)
        if image is None:
            return "image whose address is no web address"
        return image.path or f"image not to be had ({image.status})"

    return place


class Shopify:
    """A shop owner's Shopify export: a CSV file, or a folder with several.

    images: the folder of the photographs, which are found by file name; or `download`: the folder that they are fetched
    into from the addresses in the export; with neither, items have no photographs. queries: the owner's own `query,
    item_id[, gain]` as TSV; item ids are handles. `dropped` counts what was left out, `rows` what became of the rows.
    """

    def __init__(
        self, csv: Path, images: Path | None, name: str, queries: Path | None = None, download: Path | None = None
    ):
        self.csv, self.images, self.own_queries, self.download = Path(csv), images, queries, download
        self.dropped: dict[str, int] = {}
        self.rows: dict[str, dict[str, int]] = {}
        self._splits: dict[str, str] | None = None
        self.info = SourceInfo(
            name=name,
            version="shopify-v1",
            title=f"Shopify catalogue export ({name})",
            licence="the shop owner's",
            redistributable=False,
            description="Products of a Shopify shop, read from its product export.",
            photographs=True,
            private=True,
            disclosures=(*DISCLOSURES, "Drafts, archived and unpublished products are left out."),
        )
        self.files = sorted(self.csv.glob("*.csv")) if self.csv.is_dir() else [self.csv]
        problems = []
        if not self.files:
            problems.append(f"{csv} holds no .csv file; give the export")
        elif not self.csv.exists():
            problems.append(f"{csv} does not exist; give the CSV file that Shopify exported")
        if images is not None and not Path(images).is_dir():
            problems.append(f"{images} is no folder; give the one with the photographs, or `download`: --images")
        if images is not None and download is not None:
            problems.append("photographs come from a folder or are downloaded; give one of both")
        if queries is not None and not Path(queries).is_file():
            problems.append(f"{queries} is no file; give a TSV with the header query<TAB>item_id[<TAB>gain]")
        if problems:
            raise several("this import cannot start", problems, DataError)

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in file order. Raises DataError for exports that cannot be used."""
        tally, lost, splits = Tally(), Counter(), {}
        listings = read_export(self.files, tally)
        addresses = [address for listing in listings for address in listing.images]
        if self.images is not None:
            place = local_images(Path(self.images), addresses)
        elif self.download is not None:
            place = fetched_images(Path(self.download), addresses, progress)
        else:
            place = None
            if addresses:
                lost["photograph listed, and not read: add --images FOLDER or --images download"] += len(addresses)
        for item in listing_items(lambda: listings, place, lost, progress):
            splits[item.item_id] = item.split
            yield item
        self._splits = splits
        self.dropped, self.rows = dict(tally.reasons + lost), {"products": tally.counts()}

    def queries(self) -> Queries:
        """The owner's own queries; none where no file of them was given. Raises DataError for malformed lines."""
        if self.own_queries is None:
            return Queries()
        if self._splits is None:
            for _ in self.items(silent):
                pass
        tally = Tally()
        found = read_queries(Path(self.own_queries), self._splits, tally)
        self.rows = self.rows | {"queries": tally.counts()}
        self.dropped = self.dropped | dict(tally.reasons)
        return found
