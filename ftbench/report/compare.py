"""compare.html: any two rows of a table against each other, in the browser. Must not know how records are made.

The page carries the headline of every query of every row; its script does the statistics. Without a script it has each
table's rows against their leader.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ftbench import record as records
from ftbench.errors import DataError
from ftbench.report import gallery, words
from ftbench.report.aggregate import Row, Table
from ftbench.report.columns import parts
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page

_STEPS = 65_535  # values are whole steps of the table's largest: 0.00002 apart, in two bytes
_MOST_CHARACTERS = 5_000_000  # of values and ids in the page: 24 tables of 28 rows and 2,000 queries take 4.3 million


@dataclass(frozen=True)
class Against:
    """A row against the leader of its table: mean difference, units won, tied and lost; None without values."""

    row: Row
    difference: float | None = None
    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def shares(self) -> str:
        """Wins, ties and losses as properties that the style draws, in percent."""
        return shares(self.wins, self.ties, self.losses)


@dataclass(frozen=True)
class Section:
    """A table as readers without a script see it."""

    table: Table
    leader: Row
    rows: tuple[Against, ...]


def shares(wins: int, ties: int, losses: int) -> str:
    """--w and --t: where a bar of wins, ties and losses changes its colour, in percent of its width."""
    whole = max(1, wins + ties + losses)
    return f"--w:{100 * wins / whole:.1f};--t:{100 * (wins + ties) / whole:.1f}"


def exists(board: Board) -> bool:
    """Whether any table has two rows whose queries can be paired."""
    return any(_comparable(table) for table in board.tables)


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """compare.html, self-contained."""
    chosen = [table for table in board.tables if _comparable(table)]
    data = _island(board, chosen, {file for file, _ in nav})
    sections = [_section(table) for table in chosen]
    yield page("compare.html", "compare.html.j2", nav, board.facts, sections=sections, data=data)


def _comparable(table: Table) -> bool:
    return sum(row.values is not None for row in table.all_rows) > 1


def _section(table: Table) -> Section:
    leader = next((row for row in table.rows if row.values is not None), None) or _paired(table)[0]
    return Section(table, leader, tuple(_against(row, leader) for row in (*table.rows, *table.references)))


def _paired(table: Table) -> list[Row]:
    """Rows with values, ranked ones first."""
    return [row for row in (*table.rows, *table.references) if row.values is not None]


def _against(row: Row, leader: Row) -> Against:
    if row.values is None:
        return Against(row)
    differences = np.round(row.values - leader.values, 12)  # equal means may be added up differently
    signs = [int((np.sign(differences) == sign).sum()) for sign in (1, 0, -1)]
    return Against(row, float(differences.mean()), *signs)


def _island(board: Board, chosen: Sequence[Table], files: set[str]) -> dict:
    """The value that the script reads; tables beyond the page's size are named in `left`."""
    units: dict[tuple[str, ...], int] = {}
    lists, made, left, spent = [], [], [], 0
    for table in chosen:
        rows = _paired(table)
        new = table.units not in units
        numbers = len(rows) * len(table.units) * (1 + len(table.task["pairs"]))
        spent += sum(map(len, table.units)) * new + numbers * 8 // 3
        if spent > _MOST_CHARACTERS:
            left.append(table.key)
            continue
        if new:
            units[table.units] = len(lists)
            texts = gallery.query_texts(board, table)
            lists.append(
                {"ids": list(table.units), "texts": [texts.get(unit, "") for unit in table.units] if texts else []}
            )
        made.append(_table(table, rows) | {"units": units[table.units]})
    shown = gallery.shown(board) if "gallery.html" in files else {}
    return {"tables": made, "units": lists, "left": left, "steps": _STEPS, "gallery": shown}


def _table(table: Table, rows: Sequence[Row]) -> dict:
    scale = max(1.0, *(float(row.values.max(initial=0)) for row in rows))
    headline, asks = table.task["headline"], _asks(rows[0])
    return {
        "key": table.key,
        "data": table.data["name"],
        "title": f"{table.task['title']} on {table.data['name']}, {table.board.replace('-', ' ')}",
        "measure": words.measure(headline),
        "help": words.meaning(headline),
        "unit": ["item", "items"] if table.task["pairs"] else ["query", "queries"],
        "scale": scale,
        "pairs": len(table.task["pairs"]),
        "rows": [
            {"id": row.slug, "title": row.title, "note": _note(row), "record": row.entries[0].path.stem,
             "seeds": len(row.entries), "values": _packed(row.values / scale * _STEPS, "<u2"),
             "apart": [_packed(row.apart[pair][inside] * _STEPS, "<u2") for pair, inside in enumerate(asks)]}
            for row in rows
        ],
        "parts": _pairs(table, asks) if table.task["pairs"] else _slices(table, rows[0]),
    }  # fmt: skip


def _note(row: Row) -> str:
    """What tells a row from others of its method."""
    return ", ".join([*row.variant, *(["zero-shot"] if row.is_zero_shot else []), *([] if row.ranked else ["ceiling"])])


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.round(values).astype(kind).tobytes()).decode()


def _slices(table: Table, row: Row) -> list[dict]:
    """The slices of a table's queries, each with a bit per unit; [] where a row's run file does not say."""
    try:
        found = records.slices_of(row.entries[0].path, row.first)
    except DataError:
        return []
    titles = {part.name: part.title for part in parts(table)}
    made = []
    for name, members in found.items():
        inside = set(members)
        made.append(_part(name, titles.get(name, words.spaced(name)), [unit in inside for unit in table.units]))
    return made


def _asks(row: Row) -> list[np.ndarray]:
    """For each pair (u,) bool: the items that ask in it, the same for all rows of a table; [] without pairs."""
    return [] if row.apart is None else list(~np.isnan(row.apart))


def _pairs(table: Table, asks: Sequence[np.ndarray]) -> list[dict]:
    """The pairs of a table, each with a bit per item."""
    return [_part(pair["name"], pair["title"], inside) for pair, inside in zip(table.task["pairs"], asks, strict=True)]


def _part(name: str, title: str, inside: Sequence[bool]) -> dict:
    return {"name": name, "title": title, "bits": _packed(np.packbits(inside, bitorder="little"), "u1")}
