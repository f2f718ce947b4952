"""The datasheet as files: a self-contained page, Croissant metadata and a contact sheet. Must not know methods.

A page of data that may not be redistributed is given ids, names of categories and numbers, and nothing else.
"""

import base64
import io
import json
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

import numpy as np

from ftbench import __version__
from ftbench.catalogue import Catalogue
from ftbench.datasheet import numbers
from ftbench.datasheet.counts import Facts, count
from ftbench.datasheet.croissant import croissant
from ftbench.datasheet.languages import HOW
from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.inventory import shown_items
from ftbench.items import Item, View, unit_hash
from ftbench.report import words
from ftbench.sources import DATA
from ftbench.sources.sheet import contact_sheet

_ON_PAGE, _ON_SHEET = 6, 12  # items shown
_BINS = 16  # of a histogram; items with more images share the last
_SIDE, _QUALITY = 160, 85  # pixels of a photograph on the page, and its JPEG quality: about 6 KB each


@dataclass(frozen=True)
class Picture:
    """An image view as the page embeds it."""

    uri: str
    name: str
    pixelated: bool
    primary: bool
    probe: bool


@dataclass(frozen=True)
class Shown:
    """An item on the page: pictures and texts only where they may be redistributed, always how many there are."""

    item_id: str
    split: str
    category: str
    images: int
    texts: int
    pictures: tuple[Picture, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Bin:
    """One column of a histogram. height: percent of the highest."""

    label: str
    items: int
    share: str
    height: float


def write(catalogue: Catalogue, folder: Path) -> list[Path]:
    """Write the three files of a datasheet; see `ftbench.datasheet.write`."""
    facts, name = count(catalogue), catalogue.name
    items = shown_items(catalogue, _sample(catalogue, _ON_SHEET))
    metadata = croissant(facts, catalogue)
    picture = io.BytesIO()
    contact_sheet(items).save(picture, format="PNG")
    made = {
        f"{name}.html": page(facts, items, metadata).encode(),
        f"{name}.croissant.json": (json.dumps(metadata, indent=2, ensure_ascii=False) + "\n").encode(),
        f"{name}-sheet.png": picture.getvalue(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in made.items():
            write_atomic(folder / file, data)
    except OSError as problem:
        raise DataError(f"cannot write the datasheet to {folder}: {problem.strerror}. Choose another folder.") from None
    return [folder / file for file in made]


def _sample(catalogue: Catalogue, size: int) -> list[int]:
    """Rows of a few items, drawn by the hash of their id: the same for everyone, and not the first of some shelf."""
    drawn = ((unit_hash("datasheet", item_id), row) for row, item_id in enumerate(catalogue.item_ids))
    return [row for _, row in nsmallest(size, drawn)]


def page(facts: Facts, items: list[Item], metadata: dict) -> str:
    """The datasheet as HTML. items: some items to show; metadata: its Croissant form, embedded for search engines."""
    embedded = json.dumps(metadata, ensure_ascii=False).replace("<", "\\u003c")  # no text may close the script
    return (
        _environment()
        .get_template("datasheet.html.j2")
        .render(
            facts=facts,
            shown=[_shown(item, facts.redistributable) for item in items],
            on_page=_ON_PAGE,
            bins=_bins(facts),
            how=HOW,
            metadata=embedded,
            version=__version__,
            prepared=facts.name.partition("@")[0] in DATA,
        )
    )


def _environment():
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("ftbench.datasheet"), PackageLoader("ftbench.report")]),
        autoescape=True,  # names and texts come from data that others wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "size": words.size}
    environment.globals |= {"words": words, "numbers": numbers}
    return environment


def _shown(item: Item, redistributable: bool) -> Shown:
    images = [view for view in item.views if view.kind == "image"]
    texts = [view for view in item.views if view.kind == "text"]
    plain = Shown(item.item_id, item.split, item.category, len(images), len(texts))
    if not redistributable:
        return plain
    pictures = tuple(_picture(view) for view in images)
    lines = tuple((view.name, str(view.content)) for view in texts)
    return Shown(item.item_id, item.split, item.category, len(images), len(texts), pictures, lines)


def _picture(view: View) -> Picture:
    """Small drawings as they are (PNG, enlarged in whole steps by the page), photographs reduced (JPEG)."""
    from PIL import Image

    image, out = Image.fromarray(np.ascontiguousarray(view.content)), io.BytesIO()
    drawn = max(image.size) <= _SIDE // 2
    if drawn:
        image.save(out, format="PNG", optimize=True)
    else:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        image.save(out, format="JPEG", quality=_QUALITY)
    kind = "png" if drawn else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
    return Picture(uri, view.name, drawn, view.role == "primary", view.probe)


def _bins(facts: Facts) -> list[Bin]:
    """Items by their number of images, from the first number that occurs."""
    counts = [items for _, items in facts.images_per_item]
    first = next((i for i, items in enumerate(counts) if items), 0)
    end = min(len(counts), first + _BINS)
    kept = [(str(i), counts[i]) for i in range(first, end)]
    if end < len(counts):
        kept[-1] = (f"{end - 1}+", sum(counts[end - 1 :]))
    most = max((items for _, items in kept), default=0) or 1
    return [Bin(label, n, numbers.percent(n, facts.items), round(100 * n / most, 1)) for label, n in kept]
