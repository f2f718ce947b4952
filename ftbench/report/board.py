"""The board: index.html, one self-contained file. Must not know how records are made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ftbench.report import plot, words
from ftbench.report.aggregate import Row, Table
from ftbench.report.columns import VIEWS, Column, columns
from ftbench.report.html import Page, page
from ftbench.report.site import Board

_AXES = (  # (cost field, title, axis); the first always, then those that separate the methods
    ("total_seconds", "Quality against time", "seconds of the whole run"),
    ("forward_equivalents", "Quality against training compute", "forward-equivalents of training"),
    ("search_p95_ms", "Quality against search time", "milliseconds per query, p95"),
    ("index_bytes_per_item", "Quality against index size", "bytes per item in the index"),
)  # fmt: skip
_MOST_PLOTS = 2


@dataclass(frozen=True)
class Section:
    """One table as the template draws it. scale: the score at the right end of a bar."""

    table: Table
    columns: Sequence[Column]
    scale: float
    plots: Sequence[plot.Plot]
    plotted_on: Mapping | None
    hardware: Sequence[Mapping]

    @property
    def views(self) -> tuple:
        return VIEWS

    def percent(self, value: float) -> float:
        """Where a score lies on a bar, in percent of its width."""
        return round(100 * max(0.0, min(1.0, value / self.scale)), 2)

    @property
    def boards(self) -> str:
        return self.table.board.replace("-", " ")


@dataclass(frozen=True)
class Glance:
    """A method across all tables: a cell (row or None) for each."""

    title: str
    note: str
    ranked: bool
    cells: tuple[Row | None, ...]


def exists(board: Board) -> bool:
    """Always: a board without records says how to make one."""
    return True


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """index.html, self-contained."""
    sections = [_section(table) for table in board.tables]
    main = [section for section in sections if _is_main(section.table)] or sections
    values = {"sections": sections, "main": main, "glance": _glance([section.table for section in main])}
    yield page("index.html", "board.html.j2", nav, board.facts, **values)


def _section(table: Table) -> Section:
    rows = [row for row in table.all_rows if row.headline.mean is not None]
    most = max([row.headline.high or row.headline.mean for row in rows], default=1.0)
    scale = 1.0 if most > 0.6 else max(0.1, -(-most * 1.02 // 0.1) * 0.1)
    plots, machine = _plots(table)
    machines = [entry.record["environment"] for row in table.all_rows for entry in row.entries]
    hardware = {machine["fingerprint"]: machine for machine in machines}
    return Section(table, columns(table), scale, plots, machine, [hardware[tag] for tag in sorted(hardware)])


def _plots(table: Table) -> tuple[list[plot.Plot], Mapping | None]:
    """Scatters of the rows measured on the machine that most records come from."""
    rows = [row for row in table.rows if row.headline.mean is not None]
    tags = [tag for row in rows if len(row.hardware) == 1 for tag in row.hardware]
    if not tags:
        return [], None
    tag = max(sorted(set(tags)), key=tags.count)
    here = [row for row in rows if row.hardware == (tag,)]
    made = []
    for field, title, axis in _AXES:
        costs = [row.cost[field] for row in here]
        known = [(row, cost) for row, cost in zip(here, costs, strict=True) if cost is not None]
        if not known or (made and not plot.says_something(costs)) or len(made) == _MOST_PLOTS:
            continue
        points = [
            plot.Point(_label(row), cost, row.headline.mean, row.headline.low, row.headline.high, row.group == "best")
            for row, cost in known
        ]
        ceiling = table.ceiling.headline.mean if table.ceiling else None
        drawn = [id(row) for row, _ in known]
        left_out = [_label(row) for row in rows if id(row) not in drawn]
        made.append(plot.plot(title, axis, points, ceiling, left_out))
    return made, here[0].first["environment"]


def _label(row: Row) -> str:
    """A short name for a figure."""
    parts = [words.spaced(row.method), *row.variant]
    return " ".join(parts) + (" (zero-shot)" if row.is_zero_shot else "")


def _is_main(table: Table) -> bool:
    """Whether a table belongs to the overview: equal compute, and no catalogue that only confirms another."""
    return table.board == "equal-compute" and not table.data["name"].endswith("-confirm")


def _glance(made: Sequence[Table]) -> list[Glance]:
    """Every method with its headline on every table, in the order of the first table that has it."""
    found: dict[tuple, dict[int, Row]] = {}
    for i, table in enumerate(made):
        for row in (*table.rows, *table.references):
            note = " ".join([*row.variant, *(["zero-shot"] if row.is_zero_shot else [])])
            found.setdefault((not row.ranked, row.title, note), {}).setdefault(i, row)
    ordered = sorted(found, key=lambda key: key[0])  # stable: references last, otherwise first seen first
    return [
        Glance(title, note, not reference, tuple(found[(reference, title, note)].get(i) for i in range(len(made))))
        for reference, title, note in ordered
    ]
