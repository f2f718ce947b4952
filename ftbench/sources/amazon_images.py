"""Photographs on Amazon's image servers: addresses, galleries, groups, fetching. Must not know which data set asks.

The address of a photograph carries its id and, between dots, how it is to be scaled; two addresses of one id are one
photograph.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftbench.errors import DataError
from ftbench.items import Item, Progress, View
from ftbench.sources.rows import MOST_IMAGES, PLACEHOLDER, SharedImages, image_key

if TYPE_CHECKING:
    from ftbench.sources.fetch import Fetched

# DATASETS.md, "image URLs", in printable ASCII without "/" after the id; a name's first "." ends the id.
_PHOTOGRAPH = re.compile(r"(https?://[!-~]+?/images/I/[!-\-0-~]+)(?:\._[!-.0-~]*_)?\.(jpg|png|gif)")
_ADDRESS = re.compile(r"https?://[!-~]+")
_LONGEST = 2000  # characters of an address (ours)
_FULL_TIER = 1_000_000  # from so many items on, four images each (DATASETS.md, "Tiers")
# Photographs that cannot be had at present, of those asked for together, with which a catalogue is still made (ours):
# with more it would be another one than tomorrow's. So many always, and that share.
_LACKING, _LACKING_SHARE = 20, 0.01
_FETCHED_AT_ONCE = 10_000  # items whose texts wait in memory for their images: about 20 MB


def small_image(address: object) -> str | None:
    """The address of a photograph's 256-pixel form, other addresses as they are; None for what is no address.

    >>> small_image("https://m.media-amazon.com/images/I/71+a._AC_SR600,400_.jpg")
    'https://m.media-amazon.com/images/I/71+a._SL256_.jpg'
    """
    if not isinstance(address, str) or len(address := address.strip()) > _LONGEST:
        return None
    if found := _PHOTOGRAPH.fullmatch(address):
        return f"{found[1]}._SL256_.{found[2]}"
    return address if _ADDRESS.fullmatch(address) else None


def image_id(address: str) -> str:
    """What the addresses of one photograph have in common, whatever their host: `/images/I/71+a`."""
    start = address.rfind("/images/I/")
    return address[start:].partition(".")[0] if start >= 0 else address


def gallery(addresses: object) -> tuple[str, ...]:
    """Addresses of small images, in order, without repeats of an image id; () for what is no list of addresses."""
    found: dict[str, str] = {}
    if isinstance(addresses, Sequence) and not isinstance(addresses, str | bytes):
        for address in filter(None, map(small_image, addresses)):
            found.setdefault(image_id(address), address)
    return tuple(found.values())


# ASIN -> addresses of its images, primary first; or what finds them for the ASINs that are wanted.
Lists = Mapping[str, Sequence[str]] | Callable[[Collection[str], Progress], Mapping[str, Sequence[str]]]


def lists_for(lists: Lists | None, wanted: Collection[str], progress: Progress) -> Mapping[str, Sequence[str]]:
    """The lists of images of the wanted ASINs, at least; none for None."""
    if lists is None:
        return {}
    return lists(wanted, progress) if callable(lists) else lists


def most_images(tier: int | None) -> int:
    """How many images an item of a tier keeps."""
    return MOST_IMAGES if tier is not None and tier < _FULL_TIER else 4


def shared_images(galleries: Iterable[tuple[str, Sequence[str]]]) -> SharedImages:
    """Placeholders and groups of all items of a data set, so that neither depends on the tier: (item id, addresses)."""
    shared = SharedImages()
    for item_id, addresses in galleries:
        shared.add(item_id, [image_key(image_id(address)) for address in addresses])
    shared.settle()
    return shared


def usable_images(addresses: Sequence[str], shared: SharedImages, most: int, lost: Counter) -> tuple[str, ...]:
    """An item's addresses without placeholders, at most `most`; `lost` counts the others."""
    usable = (
        list(addresses)
        if not shared.placeholders
        else [a for a in addresses if image_key(image_id(a)) not in shared.placeholders]
    )
    for reason, count in (
        (f"image shared by more than {PLACEHOLDER} products", len(addresses) - len(usable)),
        (f"image beyond the first {most} of an item", max(0, len(usable) - most)),
    ):
        if count:
            lost[reason] += count
    return tuple(usable[:most])


def with_photographs(
    items: Iterable[tuple[Item, tuple[str, ...]]], folder: Path, progress: Progress, lost: Counter
) -> Iterator[Item]:
    """Items with their images before their texts, fetched into `folder`; images that cannot be had go to `lost`.

    Raises DataError where many of them may be had later.
    """
    items = iter(items)
    while batch := list(islice(items, _FETCHED_AT_ONCE)):
        fetched = {}
        if wanted := [address for _, addresses in batch for address in addresses]:
            from ftbench.sources.fetch import fetch_images

            fetched = fetch_images(wanted, folder, progress)
            _check_lacking(fetched)
        for item, addresses in batch:
            views: list[View] = []
            for address in addresses:
                image = fetched.get(address)
                if image is None or image.path is None:
                    lost[f"image not to be had{_why(image)}"] += 1
                    continue
                name = ("main", "additional")[len(views)] if len(views) < 2 else f"additional {len(views)}"
                views.append(View("image", name, "auxiliary" if views else "primary", image.path))
            yield replace(item, views=(*views, *item.views)) if views else item


def _why(image: "Fetched | None") -> str:
    from ftbench.sources.fetch_images import passing

    if image is None:
        return ""
    return f" at present ({image.status}): prepare again" if passing(image.status) else f" ({image.status})"


def _check_lacking(fetched: "Mapping[str, Fetched]") -> None:
    """Raises DataError where a catalogue made now would lack many photographs that it will not lack later."""
    from ftbench.sources.fetch_images import passing

    lacking = Counter(image.status for image in fetched.values() if passing(image.status))
    if lacking.total() > max(_LACKING, _LACKING_SHARE * len(fetched)):
        whys = ", ".join(f"{status}: {count:,}" for status, count in lacking.most_common(3))
        raise DataError(
            f"{lacking.total():,} of {len(fetched):,} photographs cannot be had at present ({whys}). Type the same "
            "command again later: what is here is kept, and only the others are asked for."
        )
