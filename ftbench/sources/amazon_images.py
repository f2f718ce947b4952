"""Photographs on Amazon's image servers: addresses, galleries, groups, fetching. Must not know which data set asks.

The address of a photograph carries its id and, between dots, how it is to be scaled; two addresses of one id are one
photograph.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ftbench.items import Item, Progress, View
from ftbench.sources.rows import MOST_IMAGES, PLACEHOLDER, groups

_SMALL = re.compile(r"(/images/I/[^./]+)(?:\._[^/]*_)?\.(jpg|png|gif)$")  # DATASETS.md, "image URLs"
_FULL_TIER = 1_000_000  # from so many items on, four images each (DATASETS.md, "Tiers")
_FETCHED_AT_ONCE = 10_000  # items whose texts wait in memory for their images: about 20 MB


def small_image(address: object) -> tuple[str, str] | None:
    """(image id, address of its 256-pixel form) of a photograph; None for what is no address.

    >>> small_image("https://m.media-amazon.com/images/I/71+a._AC_SR600,400_.jpg")
    ('/images/I/71+a', 'https://m.media-amazon.com/images/I/71+a._SL256_.jpg')
    """
    if not isinstance(address, str) or not re.fullmatch(r"https?://[!-~]{1,2000}", address := address.strip()):
        return None
    found = _SMALL.search(address)
    return (found[1], _SMALL.sub(r"\1._SL256_.\2", address)) if found else (address, address)


def gallery(addresses: object) -> tuple[str, ...]:
    """Addresses of small images, in order, without repeats of an image id; () for what is no list of addresses."""
    found: dict[str, str] = {}
    if isinstance(addresses, Sequence) and not isinstance(addresses, str | bytes):
        for key, address in filter(None, map(small_image, addresses)):
            found.setdefault(key, address)
    return tuple(found.values())


def most_images(tier: int | None) -> int:
    """How many images an item of a tier keeps."""
    return MOST_IMAGES if tier is not None and tier < _FULL_TIER else 4


def usable_images(
    galleries: Mapping[str, tuple[str, ...]], chosen: Collection[str], most: int, lost: Counter
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The chosen items' galleries without placeholders, at most `most` images each; the group of every item.

    galleries: every item's addresses, as `gallery` gives them. Placeholders and groups (shared image ids) are found
    over all items, so that neither depends on the tier; `lost` counts images of chosen items alone.
    """
    keys = {item_id: [small_image(a)[0] for a in addresses] for item_id, addresses in galleries.items()}
    seen_by = Counter(key for found in keys.values() for key in found)
    banned = {key for key, count in seen_by.items() if count > PLACEHOLDER}
    kept = {}
    for item_id in filter(chosen.__contains__, galleries):
        pairs = zip(keys[item_id], galleries[item_id], strict=True)
        usable = [address for key, address in pairs if key not in banned]
        for reason, count in (
            (f"image shared by more than {PLACEHOLDER} products", len(keys[item_id]) - len(usable)),
            (f"image beyond the first {most} of an item", max(0, len(usable) - most)),
        ):
            if count:
                lost[reason] += count
        if usable:
            kept[item_id] = tuple(usable[:most])
    shared = {item_id: [key for key in found if key not in banned] for item_id, found in keys.items()}
    return kept, groups(shared)


def with_photographs(
    items: Iterable[Item], galleries: Mapping[str, tuple[str, ...]], folder: Path, progress: Progress, lost: Counter
) -> Iterator[Item]:
    """The items with their images before their texts, fetched into `folder`; images that cannot be had go to `lost`."""
    from ftbench.sources.fetch import fetch_images

    items = iter(items)
    while batch := list(islice(items, _FETCHED_AT_ONCE)):
        wanted = [address for item in batch for address in galleries.get(item.item_id, ())]
        fetched = fetch_images(wanted, folder, progress) if wanted else {}
        for item in batch:
            views: list[View] = []
            for address in galleries.get(item.item_id, ()):
                image = fetched.get(address)
                if image is None or image.path is None:
                    lost[f"image not to be had ({image.status if image else 'not asked for'})"] += 1
                    continue
                name = ("main", "additional")[len(views)] if len(views) < 2 else f"additional {len(views)}"
                views.append(View("image", name, "auxiliary" if views else "primary", image.path))
            yield replace(item, views=(*views, *item.views))
