"""A contact sheet: items as rows, their pictures side by side, their texts below. Must not know where items come from.

For people to look at. Small pictures are enlarged in whole steps without smoothing, photographs are reduced to fit.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftbench.errors import FtbenchError
from ftbench.images import BrokenImage, load_photograph
from ftbench.items import Item, View

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_CELL = 48  # pixels of a cell at scale 1: the side of a studio drawing
_MOST_COLUMNS = 12  # an item with more pictures continues on a further line
_MOST_LINES = 3  # of each text
_GAP, _MARGIN, _FONT = 10, 28, 13  # pixels
_LINE = _FONT + 6
_PAGE, _INK, _QUIET, _RULE, _HOLE = (252, 252, 250), (32, 32, 38), (128, 128, 138), (222, 222, 218), (236, 232, 230)


def _pixels(view: View) -> np.ndarray:
    """Pixels uint8 (h, w, 3) of an image view. Raises BrokenImage for a file that cannot be shown."""
    if isinstance(view.content, np.ndarray):
        return view.content
    return load_photograph(Path(view.content)).pixels


def _fitted(pixels: np.ndarray, side: int) -> "Image.Image":
    """The picture within side x side pixels: enlarged in whole steps, or reduced with smoothing."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    step = side // max(image.size)
    if step >= 1:
        return image.resize((image.width * step, image.height * step), Image.Resampling.NEAREST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _wrapped(text: str, font: "ImageFont.ImageFont", width: int) -> list[str]:
    """The text in lines of at most `width` pixels where its words allow; the last of _MOST_LINES ends in "..."."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1] + " ..."]
    return lines


def _shortened(text: str, font: "ImageFont.ImageFont", width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    text = text[:1000]  # no line of a sheet holds more, and measuring costs time
    if font.getlength(text) <= width:
        return text
    fits = bisect_right(range(1, len(text)), width, key=lambda end: font.getlength(text[:end] + "…"))
    return text[:fits] + "…"


class _Page:
    """Widths and fonts of one sheet. Every item is drawn twice: once to learn its height, once for good."""

    def __init__(self, columns: int, side: int):
        from PIL import ImageFont

        self.columns, self.side = columns, side
        self.width = max(2 * _MARGIN + columns * (side + _GAP) - _GAP, 420)
        self.text, self.small = ImageFont.load_default(_FONT), ImageFont.load_default(_FONT - 2)

    def lines(self, item: Item) -> Iterator[tuple[str, str, tuple[int, int, int]]]:
        """(label, line, colour) of an item's texts and attributes; the label only on a text's first line."""
        room = self.width - 2 * _MARGIN - 90
        for view in item.views:
            if view.kind == "text":
                for number, line in enumerate(_wrapped(str(view.content), self.text, room)):
                    yield ("" if number else view.name), line, _INK
        known = ", ".join(f"{name} {value}" for name, value in item.attributes.items())
        for number, line in enumerate(_wrapped(known, self.text, room) if known else ()):
            yield ("" if number else "attributes"), line, _QUIET

    def height(self, item: Item) -> int:
        rows = -(-sum(view.kind == "image" for view in item.views) // self.columns)
        return 2 * _LINE + rows * (self.side + _LINE + _GAP) + _LINE * sum(1 for _ in self.lines(item)) + _MARGIN

    def draw(self, sheet: "Image.Image", pen: "ImageDraw.ImageDraw", item: Item, top: int) -> None:
        pen.line((_MARGIN, top, self.width - _MARGIN, top), fill=_RULE)
        top += _LINE // 2
        head = f"{item.item_id}   {item.category}   {item.split}".rstrip()
        pen.text((_MARGIN, top), _shortened(head, self.text, self.width - 2 * _MARGIN), _QUIET, self.text)
        top += _LINE + _LINE // 2
        images = [view for view in item.views if view.kind == "image"]
        for number, view in enumerate(images):
            left = _MARGIN + number % self.columns * (self.side + _GAP)
            self._cell(sheet, pen, view, left, top + number // self.columns * (self.side + _LINE + _GAP))
        top += -(-len(images) // self.columns) * (self.side + _LINE + _GAP)
        for label, line, colour in self.lines(item):
            pen.text((_MARGIN, top), _shortened(label, self.text, 84), _QUIET, self.text)
            pen.text((_MARGIN + 90, top), _shortened(line, self.text, self.width - 2 * _MARGIN - 90), colour, self.text)
            top += _LINE

    def _cell(self, sheet: "Image.Image", pen: "ImageDraw.ImageDraw", view: View, left: int, top: int) -> None:
        side = self.side
        try:
            image = _fitted(_pixels(view), side)
        except BrokenImage as problem:
            pen.rectangle((left, top, left + side - 1, top + side - 1), fill=_HOLE)
            for number, line in enumerate(_wrapped(str(problem), self.small, side - 8)):
                pen.text((left + 4, top + 4 + number * _LINE), line, _QUIET, self.small)
        else:
            sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        if view.role == "primary":
            pen.rectangle((left - 2, top - 2, left + side + 1, top + side + 1), outline=_INK)
        name = view.name if view.probe else f"{view.name} (no probe)"
        pen.text((left, top + side + 3), _shortened(name, self.small, side), _INK if view.probe else _QUIET, self.small)


def contact_sheet(items: Iterable[Item], columns: int | None = None, scale: int = 2) -> "Image.Image":
    """An RGB picture (PIL) of items: one block each, its image views with their names, then its texts and attributes.

    columns: pictures side by side, by default as many as the item with most has, up to 12; more continue below.
    scale: a cell is 48 * scale pixels wide. A broken file shows its reason. The primary image has a frame.
    Raises FtbenchError where there is no item, or columns or scale is below 1.
    """
    from PIL import Image, ImageDraw

    items = list(items)
    if not items:
        raise FtbenchError("a contact sheet needs at least one item; this selection has none.")
    if scale < 1 or (columns is not None and columns < 1):
        raise FtbenchError(f"columns {columns}, scale {scale}: expected whole numbers of at least 1.")
    most = max(sum(view.kind == "image" for view in item.views) for item in items)
    page = _Page(columns or max(1, min(most, _MOST_COLUMNS)), _CELL * scale)
    heights = [page.height(item) for item in items]
    sheet = Image.new("RGB", (page.width, sum(heights) + _MARGIN), _PAGE)
    pen, top = ImageDraw.Draw(sheet), _MARGIN
    for item, height in zip(items, heights, strict=True):
        page.draw(sheet, pen, item, top)
        top += height
    return sheet
