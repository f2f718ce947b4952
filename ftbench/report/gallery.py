"""The gallery: what each method retrieved for a sample of queries, with pictures. Made of run files and bundles alone.

Must not know prepared data: what may be shown of it is in the bundle (`ftbench data bundle`). One self-contained page
for each data set with a bundle; `gallery.html` is that of the first.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ftbench import bundle as bundles
from ftbench import record as records
from ftbench.bundle import TOP, Asked, Bundle, Shown
from ftbench.catalogue import Catalogue
from ftbench.errors import DataError, listed
from ftbench.report import aggregate, words
from ftbench.report.aggregate import CHANCE, Row, Table
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page
from ftbench.search import Ranking

_MOST_METHODS = 12  # a page of more is too long to look through, and beyond 4 MB
_PLAIN = "single_view_clip"  # what the leader is shown beside at first, where it ran: it sees the main image alone


@dataclass(frozen=True)
class Mark:
    """A picture of a strip that tells what was asked for and the primary does not. place: from 0; right: it shows the
    value asked for; text: which attribute; caption: the same, "" where the neighbour says it; low: it stands beside
    another caption."""

    place: int
    text: str
    right: bool
    caption: str = ""
    low: bool = False


@dataclass(frozen=True)
class Chip:
    """An attribute asked for. where: the texts that tell it, where no picture does, or that nothing shows it."""

    text: str
    right: bool
    where: str = ""


@dataclass(frozen=True)
class Card:
    """A retrieved item. number: of its strip among the page's; grade: "full" (relevant), "part" (some gain), "none"."""

    item: str
    number: int | None
    shown: Shown
    gain: float | None
    grade: str
    marks: tuple[Mark, ...]
    chips: tuple[Chip, ...]

    @property
    def title(self) -> str:
        return self.shown.words[0].text if self.shown.words else self.item

    @property
    def alt(self) -> str:
        """The pictures for those who cannot see them."""
        right = [f"{self.shown.pictures[m.place].name}: {m.text}{'' if m.right else ' is another'}" for m in self.marks]
        return f"Pictures: {', '.join(p.name for p in self.shown.pictures)}." + (
            f" {'; '.join(right)}." if right else ""
        )


@dataclass(frozen=True)
class Panel:
    """What one method retrieved for one query."""

    row: Row
    cards: tuple[Card, ...]

    @property
    def found(self) -> bool:
        return any(card.grade == "full" for card in self.cards)

    @property
    def summary(self) -> str:
        count = sum(card.grade == "full" for card in self.cards)
        return f"{count} of {len(self.cards)} right" if count else "none right"


@dataclass(frozen=True)
class Question:
    """A query of the sample with the panels of all methods."""

    asked: Asked
    best: Card | None
    panels: tuple[Panel, ...]

    @property
    def kind(self) -> str:
        return words.spaced(self.asked.slices[0]) if self.asked.slices else ""


@dataclass(frozen=True)
class Gallery:
    """One page. strips: of all items on it, as base64; both: both[i][j] counts test queries that method i finds and j
    does not; first, second: slugs of the two that are shown at first."""

    file: str
    bundle: Bundle
    table: Table
    rows: tuple[Row, ...]
    questions: tuple[Question, ...]
    strips: tuple[str, ...]
    both: tuple[tuple[int, ...], ...]
    first: str
    second: str

    @property
    def slices(self) -> list[tuple[str, str]]:
        """(name, title) of the slices that the sample has, in order of sight."""
        names = dict.fromkeys(name for question in self.questions for name in question.asked.slices)
        return [(name, words.spaced(name)) for name in names]


# --- what there is


def rows_of(table: Table) -> list[Row]:
    """The rows that a gallery shows: each method's best, chance and untrained forms left out, then the ceiling."""
    best: dict[str, Row] = {}
    for row in table.rows:
        if row.method != CHANCE and not row.is_zero_shot and row.headline.mean is not None:
            best.setdefault(row.method, row)
    return [*list(best.values())[:_MOST_METHODS], *([table.ceiling] if table.ceiling else [])]


def _table_of(tables: Sequence[Table], data: str) -> Table | None:
    """The table whose methods a data set's gallery shows: queries to items, at equal compute."""
    wanted = (data, "query2item")
    of_data = (table for table in tables if (table.data["name"], table.task["kind"]) == wanted)
    return next((table for table in of_data if table.board.startswith("equal-compute")), None)


def rankings(table: Table) -> list[tuple[Row, Ranking]]:
    """The rows of a table that have their run files, each with the ranking of its first seed."""
    found = []
    for row in rows_of(table):
        try:
            run = records.run_of(row.entries[0].path, row.first)
        except DataError:  # the board says so
            continue
        found.append((row, run.rankings[""]))
    return found


def export(catalogue: Catalogue, results: Path, own: bool = False) -> Path:
    """Write the bundle of a prepared data set for the runs of a results folder; returns its path.

    own: whoever asks says that they may show this private data. Raises DataError where the runs are of other data.
    """
    found = aggregate.tables([e for e in aggregate.load(results) if e.record["data"]["name"] == catalogue.name])
    table = _table_of(found, catalogue.name)
    if table and table.data["fingerprint"] != catalogue.fingerprint:
        raise DataError(
            f"the runs in {results} are of another {catalogue.name} (fingerprint {table.data['fingerprint'][:12]}) "
            f"than the one prepared here ({catalogue.fingerprint[:12]}). Run them again, or prepare that version."
        )
    made = bundles.make(catalogue, [ranking for _, ranking in rankings(table)] if table else [], own)
    return bundles.write(results, made)


def problems(board: Board) -> list[str]:
    """Why bundles of the results folder are not shown, in words."""
    return [text for _, text in _bundles(board) if isinstance(text, str)]


def exists(board: Board) -> bool:
    """Whether a data set of the board has a bundle."""
    return any(isinstance(found, Bundle) for _, found in _bundles(board))


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """gallery.html, and gallery-<data>.html for each further data set with a bundle."""
    found = [(table, made) for table, made in _bundles(board) if isinstance(made, Bundle)]
    files = {name: about["file"] for name, about in shown(board).items()}
    for table, made in found:
        gallery = _gallery(files[table.data["name"]], table, made)
        yield page(gallery.file, "gallery.html.j2", nav, board.facts, gallery=gallery, files=files, top=TOP,
                   compared="hit@10" in table.task["measures"])  # fmt: skip


def query_texts(board: Board, table: Table) -> Mapping[str, str]:
    """The texts of a table's queries as far as its data set's bundle may tell them: {query id: text}."""
    of = {id(t): found for t, found in _bundles(board) if isinstance(found, Bundle)}
    mine = _table_of(board.tables, table.data["name"])
    found = of.get(id(mine)) if table.task["kind"] == "query2item" else None
    return found.texts if found and found.data["fingerprint"] == table.data["fingerprint"] else {}


def shown(board: Board) -> dict[str, dict]:
    """{data set: its page and the ids of the queries on it}."""
    found = [(t.data["name"], made) for t, made in _bundles(board) if isinstance(made, Bundle)]
    return {
        name: {"file": f"gallery-{name}.html" if i else "gallery.html", "queries": [q.query_id for q in made.queries]}
        for i, (name, made) in enumerate(found)
    }


def _bundles(board: Board) -> list[tuple[Table, Bundle | str]]:
    """For each data set with a bundle: its table, and the bundle or why it is refused."""
    found: list[tuple[Table, Bundle | str]] = []
    for name in dict.fromkeys(table.data["name"] for table in board.tables):
        table, path = _table_of(board.tables, name), bundles.path_of(board.results, name)
        if table is None or not path.is_file():
            continue
        try:
            made = _read(path, path.stat().st_mtime_ns)
        except DataError as problem:
            found.append((table, str(problem)))
            continue
        if made.data["fingerprint"] == table.data["fingerprint"]:
            found.append((table, made))
        else:
            prints = f"{made.data['fingerprint'][:12]}, the board {table.data['fingerprint'][:12]}"
            found.append((table, f"{path} is not shown: it has the data fingerprint {prints}. Make it again: ftbench "
                                 f"data bundle {name}"))  # fmt: skip
    return found


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Bundle:
    """A bundle, read once for all that asks for it. changed: its time of change, so that a new file is read."""
    return bundles.read(path)


# --- making the page


def _gallery(file: str, table: Table, made: Bundle) -> Gallery:
    ranked = rankings(table)
    numbers = {item: i for i, item in enumerate(k for k, shown in made.items.items() if shown.strip)}
    strips = tuple(base64.b64encode(made.items[item].strip).decode() for item in numbers)
    wanted = {asked.query_id for asked in made.queries}
    tops = [bundles.top(ranking, wanted) for _, ranking in ranked]
    from_gain = float(table.task["relevant_from"])

    def card(asked: Asked, item: str, gain: float | None) -> Card:
        shown = made.items.get(item, Shown())
        grade = "none" if not gain else "full" if gain >= from_gain else "part"
        return Card(item, numbers.get(item), shown, gain, grade, _marks(asked, shown), _chips(asked, shown))

    questions = tuple(
        Question(
            asked, card(asked, asked.best, None) if asked.best else None,
            tuple(
                Panel(row, tuple(card(asked, item, gain) for item, gain in found.get(asked.query_id, ())))
                for (row, _), found in zip(ranked, tops, strict=True)
            ),
        )
        for asked in made.queries
    )  # fmt: skip
    rows = tuple(row for row, _ in ranked)
    first = next((row for row in rows if row.ranked), None)
    second = next((r for r in rows if r.method == _PLAIN and r is not first), None)
    second = second or next((r for r in reversed(rows) if r.ranked and r is not first), first)
    slugs = [row.slug if row else "" for row in (first, second)]
    return Gallery(file, made, table, rows, questions, strips, _both([ranking for _, ranking in ranked]), *slugs)


def _marks(asked: Asked, shown: Shown) -> tuple[Mark, ...]:
    """The pictures that tell an attribute asked for which the primary does not."""
    if not shown.pictures or not shown.attributes:
        return ()
    hidden = [name for name in asked.asks if name not in shown.pictures[0].reveals]
    marks: list[Mark] = []
    for place, picture in enumerate(shown.pictures):
        told = [name for name in hidden if name in picture.reveals]
        if told:
            right = all(shown.attributes.get(name) == asked.asks[name] for name in told)
            text = words.spaced(", ".join(told))
            beside = marks[-1] if marks and marks[-1].place == place - 1 else None
            same = beside is not None and beside.text == text
            low = beside is not None and bool(beside.caption) and not beside.low
            marks.append(Mark(place, text, right, "" if same else text, low and not same))
    return tuple(marks)


def _chips(asked: Asked, shown: Shown) -> tuple[Chip, ...]:
    """What was asked for, attribute by attribute, as the item has it."""
    if not shown.attributes:
        return ()
    chips = []
    for name, value in asked.asks.items():
        own = shown.attributes.get(name, "none")
        pictured = any(name in picture.reveals for picture in shown.pictures)
        telling = [text.name for text in shown.words if name in text.reveals]
        where = "" if pictured else listed(telling, "in no view")
        chips.append(Chip(own if own == value else f"{own}, not {value}", own == value, where))
    return tuple(chips)


def _both(found: Sequence[Ranking]) -> tuple[tuple[int, ...], ...]:
    """Counts over all queries: both[i][j] of those that ranking i answers in its first TOP ranks and j does not."""
    if not found:
        return ()
    ids = sorted(set.intersection(*(set(ranking.query_ids) for ranking in found)))
    answered = np.zeros((len(found), len(ids)), dtype=np.int64)  # (m, q)
    for i, ranking in enumerate(found):
        hit = (ranking.rank <= TOP) & (ranking.gain >= ranking.relevant_from)
        yes = {ranking.query_ids[q] for q in np.unique(ranking.owner[hit])}
        answered[i] = [query in yes for query in ids]
    counts = answered @ (1 - answered).T  # (m, q) @ (q, m) -> (m, m)
    return tuple(map(tuple, counts.tolist()))
