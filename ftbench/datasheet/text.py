"""The facts of a data set as lines for a terminal. Must not know how they are counted."""

from collections.abc import Iterable, Sequence
from textwrap import fill

from ftbench.datasheet.counts import Facts
from ftbench.datasheet.numbers import gain, number, percent
from ftbench.report import words

_WIDTH = 100
_BAR = 30  # characters


def as_text(facts: Facts) -> str:
    """The facts as lines, at most 100 characters wide; ids, names and numbers only, none of the data's texts."""
    parts = [
        f"{facts.name} ({facts.version}): {facts.title}",
        fill(facts.description, _WIDTH),
        _pairs([
            ("licence and terms", facts.licence),
            ("redistributable", "yes" if facts.redistributable else "no: pages and results hold ids only"),
            ("fingerprint", facts.fingerprint),
        ]),
        _table("", ["split", "items", "groups", "images", "texts", "queries", "judgements", "interactions"],
               [[s.name, *(f"{n:,}" for n in (s.items, s.groups, s.images, s.texts, s.queries, s.judgements,
                                              s.interactions))] for s in facts.splits]),
        _bars("images per item", [(str(n), count) for n, count in facts.images_per_item], facts.items),
        _bars("missing views", facts.missing, facts.items, shares=True),
        _bars("image views", facts.pictures.names, facts.items, shares=True),
        _table("texts, in words", ["", "items", "median", "p95", "longest"],
               [[t.name, f"{t.items:,}", number(t.median_words), number(t.p95_words), f"{t.most_words:,}"]
                for t in facts.lengths]),
        _bars(f"languages of {facts.languages_of:,} items", facts.languages, facts.languages_of, shares=True),
        _bars(f"categories ({facts.distinct_categories:,})", facts.categories, facts.items),
        _judgements(facts),
        _pairs(_duplicates(facts), "duplicates"),
        _pairs([(f"{n:>9,}", why) for why, n in facts.dropped] or [("nothing", "")], "dropped, and why"),
        _table("rows", ["table", "read", "kept", "merged", "dropped"],
               [[name, *(f"{row[key]:,}" for key in ("read", "kept", "merged", "dropped"))]
                for name, row in facts.rows.items()]) if facts.rows else "",
        "\n".join(fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ") for text in facts.disclosures),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _pairs(rows: Iterable[tuple[str, str]], title: str = "") -> str:
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


def _bars(title: str, rows: Sequence[tuple[str, int]], whole: int, shares: bool = False) -> str:
    """Counts with their share of `whole` and a bar: full at the largest count or, for `shares`, at the whole."""
    if not rows:
        return ""
    wide = max(len(_short(name)) for name, _ in rows)
    full = max(whole if shares else max(count for _, count in rows), 1)
    lines = []
    for name, count in rows:
        bar = "█" * round(_BAR * min(1, count / full))
        lines.append(f"  {_short(name):<{wide}}  {count:>9,}  {percent(count, whole):>6}  {bar}".rstrip())
    return "\n".join([title, *lines])


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"


def _judgements(facts: Facts) -> str:
    if not facts.asked:
        return "no queries: only tasks that need none can run"
    rows = []
    for c in facts.asked.coverage:
        gains = ", ".join(f"{count:,} of gain {gain(value)}" for value, count in c.gains)
        rows.append((c.split, f"{c.answered:,} of {c.queries:,} queries have a relevant item; per query "
                              f"{number(c.median_judged)} items judged (p95 {number(c.p95_judged)}), "
                              f"{number(c.median_best)} of the highest gain; {gains or 'no judgements'}; "
                              f"{c.items:,} of {c.gallery:,} items judged by some query"))  # fmt: skip
    rows.append(("train", f"interactions name {percent(facts.asked.train_items, 1)} of the train items"))
    if facts.asked.slices:
        rows.append(("slices", ", ".join(f"{words.spaced(name)} {count:,}" for name, count in facts.asked.slices)))
    if facts.contamination:
        rows.append(("in item text", facts.contamination.said))
    return _pairs(rows, "queries and judgements")


def _duplicates(facts: Facts) -> list[tuple[str, str]]:
    found = facts.duplicates
    rows = [
        ("images", f"{words.plural(found.images, 'image')} beyond the first with the same bytes, {found.in_items:,} "
                   f"within one item; {found.items:,} items share an image with another"),
        ("titles", f"{found.titles:,} items have the primary text of another item"),
        ("groups", f"{words.plural(found.groups, 'group')} of several items ({found.grouped:,} items, the largest "
                   f"{found.largest:,}), each within one split"),
    ]  # fmt: skip
    rows += [("across splits", facts.near.said)] if facts.near else []
    leaking = f"groups, photographs or queries stand in two splits: ftbench data verify {facts.name}"
    return rows + ([("leaks", leaking)] if facts.leaks else [])
