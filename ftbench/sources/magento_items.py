"""From Magento products to items: galleries, shared photographs, groups, tags. Must not know CSV files or queries.

Photographs are compared by the SHA-256 of their bytes: repeats inside one gallery are left out, and products that share
one fall into one group, so that no photograph is in two splits.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftbench.items import Item, Progress, View, split_of
from ftbench.sources.rows import MOST_IMAGES, PLACEHOLDER, file_digest, groups

_LONGEST_TAG = 60  # characters: longer attribute values are prose, not tags
_YES, _NO = {"yes", "1", "true"}, {"no", "0", "false"}


@dataclass(frozen=True, slots=True)
class Product:
    """A listing as its export describes it: plain texts, attribute values as exported, image paths in the media folder.

    categories: paths of names without the store's root. images: its own gallery, base image first; variants: its
    children's images.
    """

    sku: str
    name: str
    description: str
    categories: tuple[tuple[str, ...], ...]
    attributes: Mapping[str, tuple[str, ...]]
    images: tuple[str, ...]
    variants: tuple[str, ...] = ()


def leaf(product: Product) -> str:
    """The product's kind: the last name of its deepest category path, the first of equally deep ones."""
    return max(product.categories, key=len)[-1] if product.categories else ""


def words(text: str) -> str:
    """A text as lower-case words between single spaces, to look words up in: trade marks and punctuation out.

    >>> words("LumaTech™ V-neck Tee, black/red, 1/4 zip")
    ' lumatech v neck tee black red 1/4 zip '
    """
    text = re.sub(r"[^\w¼½/]+", " ", text.lower().replace("™", "").replace("®", ""))
    return " " + " ".join(re.sub(r"(?<!\d)/|/(?!\d)", " ", text).split()) + " "


def tags(product: Product, hidden: Sequence[str]) -> str:
    """Category leaves, then attribute values, joined by commas; without the values of the hidden attributes.

    A tag that contains the words of one of the product's hidden values is left out too ("Women Sale" where gender is
    hidden), so that no hidden value comes back through another column; its category's own name always stays.
    A yes/no attribute gives its name when it is yes; numbers and prose give no tag.
    """
    secret = [words(value) for key in hidden for value in product.attributes.get(key, ())]
    found = [path[-1] for path in product.categories]
    for key, values in product.attributes.items():
        if key in hidden:
            continue
        for value in values:
            if value.lower() in _YES:
                found.append(key.replace("_", " "))
            elif value.lower() not in _NO and len(value) <= _LONGEST_TAG and re.search(r"[^\W\d_]", value):
                found.append(value)
    kept: dict[str, str] = {}
    for tag in found:
        if tag == leaf(product) or not any(value in words(tag) for value in secret):
            kept.setdefault(tag.lower(), tag)
    return ", ".join(kept.values())


def _view_name(path: str, origin: str) -> str:
    """What a photograph shows, as far as its place and file name tell; never a colour, which queries are judged by."""
    if origin in ("main", "variant"):
        return origin
    return next((name for name in ("back", "alt") if re.search(rf"_{name}\d*$", Path(path).stem)), "additional")


def _galleries(
    products: Sequence[Product], place: Callable[[str], Path], dropped: Counter, progress: Progress
) -> list[dict[str, tuple]]:
    """Per product: image key (SHA-256 of the file, its path where it is absent) -> (path, origin), no repeats."""
    digests: dict[str, str] = {}
    galleries, seen_by = [], Counter()
    for number, product in enumerate(products):
        gallery: dict[str, tuple] = {}
        for origin, paths in (("own", product.images), ("variant", product.variants)):
            for path in paths:
                if path not in digests:
                    file = place(path)
                    digests[path] = file_digest(file) if file.is_file() else f"absent:{path}"
                gallery.setdefault(digests[path], (path, origin))
        seen_by.update(gallery.keys())
        galleries.append(gallery)
        progress(number + 1, len(products), "reading photographs")
    placeholders = {key for key, count in seen_by.items() if count > PLACEHOLDER}
    if placeholders:
        dropped[f"image shared by more than {PLACEHOLDER} products"] += sum(seen_by[key] for key in placeholders)
    return [{key: found for key, found in gallery.items() if key not in placeholders} for gallery in galleries]


def build_items(
    products: Sequence[Product],
    place: Callable[[str], Path],
    hidden: Sequence[str],
    shares: tuple[float, float, float],
    dropped: Counter,
    progress: Progress,
) -> Iterator[Item]:
    """Items in the order of the products; `dropped` gains the images left out, by reason.

    An image file that does not exist stays a view with its path: the store counts and masks it. Attribute values are
    joined by `|`. place: where a photograph of the products lies. Reads every photograph once, for its SHA-256.
    """
    galleries = _galleries(products, place, dropped, progress)
    group_of = groups({p.sku: list(gallery) for p, gallery in zip(products, galleries, strict=True)})
    for number, (product, gallery) in enumerate(zip(products, galleries, strict=True), start=1):
        progress(number, len(products), "writing items")
        images, names = [], Counter()
        for path, origin in gallery.values():
            if len(images) == MOST_IMAGES:
                dropped[f"image beyond the first {MOST_IMAGES} of an item"] += len(gallery) - MOST_IMAGES
                break
            name = _view_name(path, origin if images else "main")
            names[name] += 1
            name = name if names[name] == 1 else f"{name} {names[name]}"
            images.append(View("image", name, "auxiliary" if images else "primary", place(path)))
        texts = [View("text", "title", "primary", product.name)]
        for name, text in (("description", product.description), ("tags", tags(product, hidden))):
            if text:
                texts.append(View("text", name, "auxiliary", text))
        group = group_of[product.sku]
        yield Item(
            item_id=product.sku,
            group=group,
            split=split_of("item", group, shares),
            category=leaf(product),
            views=(*images, *texts),
            attributes={key: "|".join(values) for key, values in sorted(product.attributes.items())},
        )
