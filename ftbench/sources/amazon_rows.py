"""Rows of Amazon Reviews 2023, in both of their published forms, as drafts of items and reviews. Must not know files.

The two forms differ: JSON lines have `images` as a list of objects and `details` as an object, Parquet has `images` as
an object of lists and `details` as a JSON string. Every function is pure and takes whatever a row may hold; each gives
a draft, or as a string the reason why the row is left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from ftbench.items import View
from ftbench.sources.amazon_images import image_id, small_image
from ftbench.sources.tables import clean_id, plain

ITEM_COLUMNS = ("parent_asin", "title", "features", "description", "images", "store", "categories", "details")
HEAD_COLUMNS = ("parent_asin", "title", "images")  # what `parse_head` reads
REVIEW_COLUMNS = ("parent_asin", "rating", "timestamp", "title", "text")
LOWEST_RATING = 4  # stars of a review that speaks for its product (DATASETS.md, "Mapping and splits")
SHORTEST_REVIEW = 30  # characters of title and text: a query has more (DATASETS.md, likewise)
LONGEST_QUERY = 2_000  # characters of a review that are its query: some 500 tokens, more than any encoder reads (ours)
_LONGEST_PROSE = 100_000  # characters of features and description that are kept, as of any one field
_DETAILS = ("Brand", "Color", "Material")
_PATH = "/images/I/"  # in every address of a photograph
_LAST = "\uffff"  # sorts after the names of variants: images without one come last


@dataclass(frozen=True, slots=True)
class Head:
    """What the first pass needs of an item: its id and its photographs' ids, which tie it to others."""

    item_id: str
    photographs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """An item before its images are fetched and its split is known; all texts plain, "" where there is none.

    images: photograph id -> address of its small form, primary first. nowhere: images that have no usable address.
    """

    item_id: str
    title: str
    description: str
    tags: str
    category: str
    images: Mapping[str, str]
    nowhere: int = 0

    def texts(self) -> tuple[View, ...]:
        """Text views: the title first."""
        views = [View("text", "title", "primary", self.title)]
        if self.description:
            views.append(View("text", "description", "auxiliary", self.description))
        if self.tags:
            views.append(View("text", "tags", "auxiliary", self.tags))
        return tuple(views)


@dataclass(frozen=True, slots=True)
class Review:
    """A review that speaks for its product. written: milliseconds since 1970, UTC."""

    item_id: str
    written: int


def parse_head(row: Mapping) -> Head | str:
    """Id and photographs of an item. It refuses the rows that `parse_item` refuses, for the same reasons."""
    item_id = clean_id(row.get("parent_asin"))
    if reason := _refusal(item_id, plain(row.get("title"))):
        return reason
    return Head(item_id, tuple(photographs(row.get("images"))[0]))


def parse_item(row: Mapping, category: str) -> Draft | str:
    """The draft of an item from a metadata row. category: the file's, for rows that name none."""
    item_id, title = clean_id(row.get("parent_asin")), plain(row.get("title"))
    if reason := _refusal(item_id, title):
        return reason
    images, nowhere = photographs(row.get("images"))
    categories, details = row.get("categories"), _details(row.get("details"))
    if not isinstance(categories, list):
        categories = []
    tags: dict[str, str] = {}
    for cell in (*categories[1:], *map(details.get, _DETAILS), row.get("store")):
        if tag := plain(cell):
            tags.setdefault(tag.lower(), tag)
    return Draft(
        item_id=item_id,
        title=title,
        description=_prose(row.get("features"), row.get("description")),
        tags=", ".join(tags.values()),
        category=(plain(categories[0]) if categories else "") or category,
        images=images,
        nowhere=nowhere,
    )


def _refusal(item_id: str | None, title: str) -> str:
    """Why a metadata row is left out; "" where it is not."""
    return "item without an id" if item_id is None else "" if title else "item without a title"


def photographs(images: object) -> tuple[dict[str, str], int]:
    """Photograph id -> address of its small form, MAIN first, then in the variants' order; how many have no address.

    The id is that of `large`, which every listing of a photograph has, also where its `hi_res`, of another id, is
    missing; the address is that of `hi_res` where there is one. A repeat of either id is left out.
    """
    if isinstance(images, list):
        entries = [(e.get("variant"), e.get("large"), e.get("hi_res")) for e in images if isinstance(e, dict)]
    elif isinstance(images, dict):
        columns = (images.get("variant"), images.get("large"), images.get("hi_res"))
        entries = list(zip_longest(*(column if isinstance(column, list) else () for column in columns)))
    else:
        return {}, 0
    found: dict[str, str] = {}
    addresses, nowhere = set(), 0
    for _, large, hi_res in sorted(entries, key=_place) if len(entries) > 1 else entries:
        address = (hi_res and small_image(hi_res)) or small_image(large)
        if address is None:
            nowhere += 1
            continue
        photograph = image_id(large if isinstance(large, str) and _PATH in large else address)
        if photograph not in found and address not in addresses:
            found[photograph] = address
            addresses.add(address)
    return found, nowhere


def _place(entry: tuple) -> tuple[bool, str]:
    variant = entry[0]
    return variant != "MAIN", variant if isinstance(variant, str) else _LAST


def _prose(*fields: object) -> str:
    """Plain text of fields that are strings or lists of strings, one after the other."""
    cells = [c for f in fields for c in (f if isinstance(f, list) else (f,)) if isinstance(c, str)]
    text = " ".join(cells)
    if "<" in text or "{{" in text:  # what one cell opens must not swallow the next
        return " ".join(filter(None, map(plain, cells)))[:_LONGEST_PROSE].rstrip()
    return plain(text)


def _details(value: object) -> Mapping:
    """The product's details, {} where they cannot be read; Parquet has them as a JSON string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (RecursionError, ValueError):
            return {}
    return value if isinstance(value, dict) else {}


def parse_review(row: Mapping) -> Review | str:
    """Which product a review speaks for, and when it was written; its text is `query_text`'s, which takes longer."""
    item_id, rating, written = clean_id(row.get("parent_asin")), row.get("rating"), row.get("timestamp")
    if item_id is None:
        return "review without an item id"
    if not isinstance(rating, int | float) or isinstance(rating, bool) or not 1 <= rating <= 5:
        return "review without a rating of 1 to 5"
    if rating < LOWEST_RATING:
        return f"review of fewer than {LOWEST_RATING} stars"
    if isinstance(written, float) and written.is_integer():
        written = int(written)
    if not isinstance(written, int) or isinstance(written, bool) or written < 0:
        return "review without a time, or with a negative one"
    return Review(item_id, written)


def query_text(row: Mapping) -> str:
    """A review's title and text as a query; "" where they have no more than SHORTEST_REVIEW characters."""
    text = " ".join(filter(None, (plain(row.get("title")), plain(row.get("text")))))
    if len(text) <= SHORTEST_REVIEW:
        return ""
    return text[:LONGEST_QUERY].rstrip()
