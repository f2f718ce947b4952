"""The facts of a data set as lines for a terminal. Must not know how they are counted."""

from collections.abc import Iterable, Sequence
from textwrap import fill

from ftbench.datasheet.blocks import Block, blocks
from ftbench.datasheet.counts import Facts

_WIDTH = 100
_BAR = 30  # characters
_UNTITLED = ("terms", "splits")  # say what they are


def as_text(facts: Facts) -> str:
    """The facts as lines, at most 100 characters wide; ids, names and numbers only, none of the data's texts."""
    parts = [
        f"{facts.name} ({facts.version}): {facts.title}",
        fill(facts.description, _WIDTH),
        *map(_block, blocks(facts)),
        "\n".join(fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ") for text in facts.disclosures),
    ]
    return "\n\n".join(part for part in parts if part)


def _block(block: Block) -> str:
    if block.head:
        return _table("" if block.title in _UNTITLED else block.title, block.head, block.rows)
    return _pairs(block.rows, "" if block.title in _UNTITLED else block.title) if block.bars is None else _bars(block)


def _pairs(rows: Iterable[tuple[str, ...]], title: str = "") -> str:
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    lines = [
        fill(text, _WIDTH, initial_indent=f"  {name:<{wide}}  ", subsequent_indent=" " * (wide + 4))
        for name, text in rows
    ]
    return "\n".join([title] * bool(title) + lines)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their cells; the first flush left."""
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  " + "  ".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in
                         enumerate(zip(row, wide, strict=True))).rstrip()
        for row in (head, *rows)
    ]  # fmt: skip
    return "\n".join([title] * bool(title) + lines)


def _bars(block: Block) -> str:
    wide = max(len(_short(row[0])) for row in block.rows)
    lines = []
    for (name, count, share), bar in zip(block.rows, block.bars, strict=True):
        lines.append(f"  {_short(name):<{wide}}  {count:>9}  {share:>6}  {'█' * round(_BAR * bar)}".rstrip())
    return "\n".join([block.title, *lines])


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
