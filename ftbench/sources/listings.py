"""Products of a shop's own catalogue, whatever its form: galleries, shared photographs, groups, items.

Must not know files of products or queries. Photographs are compared by the SHA-256 of their bytes: repeats inside one
gallery are left out, and products that share one fall into one group, so that no photograph is in two splits.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ftbench.items import Item, Progress, View, split_of
from ftbench.sources.rows import MOST_IMAGES, PLACEHOLDER, SHARES, SharedImages, file_digest, image_key

DISCLOSURES = (
    f"At most {MOST_IMAGES} images per item, longest side 256 pixels.",
    f"Images of more than {PLACEHOLDER} products are placeholders: left out, and they tie no groups.",
    f"Products that share a photograph are one group; groups are split {'/'.join(f'{s:.0%}' for s in SHARES)} by hash.",
)
_REMEMBERED = 100_000  # paths whose digests are kept, for photographs that several products name: about 20 MB


@dataclass(frozen=True, slots=True)
class Listing:
    """A product as its catalogue describes it, in plain text. images: paths or addresses, the primary one first."""

    item_id: str
    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    category: str = ""
    images: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def listing_items(
    read: Callable[[], Iterable[Listing]], place: Callable[[str], Path | str] | None, lost: Counter, progress: Progress
) -> Iterator[Item]:
    """Items in the order of the listings, which are read twice: what is held is 24 bytes per image, and the ids.

    place: where an image's file lies, or why it cannot be had; None for items without images. A file that does not
    exist stays a view: the store counts and masks it. `lost` gains the images left out, by reason. Reads every
    photograph once, for its SHA-256.
    """

    @lru_cache(_REMEMBERED)
    def key_of(image: str) -> int:
        file = place(image)
        if isinstance(file, str):
            return 0
        try:
            return image_key(file_digest(file)) if file.is_file() else image_key(f"absent {file}")
        except OSError:
            return image_key(f"absent {file}")

    shared, keys, count = SharedImages(), array("Q"), 0
    for count, listing in enumerate(read(), start=1):
        gallery = [key_of(image) for image in listing.images] if place else ()
        keys.extend(gallery)
        shared.add(listing.item_id, filter(None, gallery))
        progress(count, None, "reading rows")
    shared.settle()
    start = 0
    for number, listing in enumerate(read(), start=1):
        gallery = keys[start : start + len(listing.images)]
        start += len(gallery)
        images = _images(listing, gallery, shared.placeholders, place, lost) if place else ()
        group = shared.group(listing.item_id)
        progress(number, count, "writing items")
        yield Item(
            item_id=listing.item_id,
            group=group,
            split=split_of("item", group, SHARES),
            category=listing.category,
            views=(*images, *_texts(listing)),
            attributes={**listing.attributes, "tags": "|".join(listing.tags)} if listing.tags else listing.attributes,
        )


def _images(
    listing: Listing, gallery: array, placeholders: frozenset[int], place: Callable[[str], Path | str], lost: Counter
) -> Iterator[View]:
    """Image views of a listing. gallery: the keys of its images, 0 for one that cannot be had."""
    seen: set[int] = set()
    for image, key in zip(listing.images, gallery, strict=True):
        if not key:
            lost[str(place(image))] += 1
        elif key in placeholders:
            lost[f"image shared by more than {PLACEHOLDER} products"] += 1
        elif key in seen:
            lost["image that repeats another of its item"] += 1
        elif len(seen) == MOST_IMAGES:
            lost[f"image beyond the first {MOST_IMAGES} of an item"] += 1
        else:
            name = ("main", "additional")[len(seen)] if len(seen) < 2 else f"additional {len(seen)}"
            yield View("image", name, "auxiliary" if seen else "primary", place(image))
            seen.add(key)


def _texts(listing: Listing) -> Iterator[View]:
    """Text views of a listing: title, and description and tags where it has any."""
    yield View("text", "title", "primary", listing.title)
    tags: dict[str, str] = {}
    for tag in listing.tags:
        tags.setdefault(tag.lower(), tag)
    for name, text in (("description", listing.description), ("tags", ", ".join(tags.values()))):
        if text:
            yield View("text", name, "auxiliary", text)
