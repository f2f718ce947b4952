"""The facts of a data set as titled blocks of texts, for a terminal and for the leaderboard's data page.

Must not know how facts are counted, or what becomes of the blocks.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from ftbench.datasheet.counts import Facts
from ftbench.datasheet.numbers import gain, number, percent
from ftbench.report import words

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Block:
    """Rows of texts. head: names of the columns, () for pairs of a name and what is said of it; bars: the length of
    each row's bar, as a fraction, None where the rows have none."""

    title: str
    rows: Rows
    head: tuple[str, ...] = ()
    bars: tuple[float, ...] | None = None


def as_json(facts: Facts) -> str:
    """The file that the leaderboard reads (ftbench/report/datasheet.schema.json).

    Of data that may not be passed on it holds ids, numbers and names of ftbench's own; names of categories stay out.
    """
    made = {
        "schema_version": 1, "name": facts.name, "version": facts.version, "fingerprint": facts.fingerprint,
        "title": facts.title, "description": facts.description, "disclosures": facts.disclosures,
        "blocks": [asdict(block) for block in blocks(facts, with_names=facts.redistributable)],
    }  # fmt: skip
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def blocks(facts: Facts, with_names: bool = True) -> list[Block]:
    """All that is said of a data set. with_names: whether the names of its categories and views may be shown."""
    return [block for block in _all(facts, with_names) if block.rows]


def _all(facts: Facts, with_names: bool) -> Iterator[Block]:
    yield Block("terms", [
        ("licence and terms", facts.licence),
        ("redistributable", "yes" if facts.redistributable else "no: pages and results hold ids only"),
        ("fingerprint", facts.fingerprint),
    ])  # fmt: skip
    yield Block("splits", [
        (s.name, *(f"{n:,}" for n in (s.items, s.groups, s.images, s.texts, s.queries, s.judgements, s.interactions)))
        for s in facts.splits
    ], ("split", "items", "groups", "images", "texts", "queries", "judgements", "interactions"))  # fmt: skip
    yield _bars("images per item", [(str(n), count) for n, count in facts.images_per_item], facts.items)
    yield _bars("missing views", facts.missing, facts.items, shares=True)
    if with_names:
        yield _bars("image views", facts.pictures.names, facts.items, shares=True)
    yield Block("texts, in words", [
        (t.name, f"{t.items:,}", number(t.median_words), number(t.p95_words), f"{t.most_words:,}")
        for t in facts.lengths
    ], ("", "items", "median", "p95", "longest"))  # fmt: skip
    yield _bars(f"languages of {facts.languages_of:,} items", facts.languages, facts.languages_of, shares=True)
    named = facts.categories if with_names else [(f"largest of {facts.distinct_categories:,}", facts.categories[0][1])]
    yield _bars(f"categories ({facts.distinct_categories:,})", named, facts.items, shares=not with_names)
    yield Block("queries and judgements", _judgements(facts))
    yield Block("duplicates", _duplicates(facts))
    yield Block("dropped, and why", [(f"{n:>9,}", why) for why, n in facts.dropped] or [("nothing", "")])
    yield Block("rows", [
        (name, *(f"{row[key]:,}" for key in ("read", "kept", "merged", "dropped"))) for name, row in facts.rows.items()
    ], ("table", "read", "kept", "merged", "dropped"))  # fmt: skip


def _bars(title: str, rows: Sequence[tuple[str, int]], whole: int, shares: bool = False) -> Block:
    """Counts with their share of `whole` and a bar: full at the largest count or, for `shares`, at the whole."""
    full = max(whole if shares else max((count for _, count in rows), default=0), 1)
    return Block(title, [(name, f"{count:,}", percent(count, whole)) for name, count in rows],
                 bars=tuple(round(min(1, count / full), 4) for _, count in rows))  # fmt: skip


def _judgements(facts: Facts) -> Rows:
    if not facts.asked:
        return [("no queries", "only tasks that need none can run")]
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
    return rows


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
