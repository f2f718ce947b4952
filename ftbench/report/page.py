"""The page: what the templates show, gathered from tables. Must not know how records are made."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

from ftbench import __version__
from ftbench.errors import DataError
from ftbench.items import Progress
from ftbench.report import plot, words
from ftbench.report.aggregate import Entry, Row, Table, load, tables
from ftbench.report.columns import VIEWS, Column, columns
from ftbench.runfile import write_atomic

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


def render(results: Path, site: Path, progress: Progress, warn: Callable[[str], None]) -> Path:
    """Write site/index.html; see `ftbench.report.render`."""
    entries = load(results)
    sections = [_section(table) for table in tables(entries, progress)]
    for problem in dict.fromkeys(text for section in sections for text in section.table.runs_missing):
        warn(problem)
    main = [section for section in sections if _is_main(section.table)] or sections
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            sections=sections,
            main=main,
            glance=_glance([section.table for section in main]),
            facts=_facts(entries, sections),
            version=__version__,
        )
    )
    path = site / "index.html"
    try:
        site.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make the folder {site}: {problem.strerror}. Name another: --site DIR") from None
    write_atomic(path, html.encode())
    return path


def _environment():
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ftbench.report", "templates"),
        autoescape=True,  # every name and text comes from records, which others may have written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": words.score, "number": words.number, "size": words.size, "measure": words.measure,
        "column_groups": _column_groups,
    }  # fmt: skip
    environment.globals |= {"words": words, "plot": plot}
    return environment


def _column_groups(made: Sequence[Column]) -> list[dict]:
    """The upper row of a table's head: for each view its groups of columns, with how many of them it shows."""
    return [
        {"name": name, "views": view, "count": len(list(shown))}
        for view, _ in VIEWS
        for name, shown in groupby((c for c in made if view in c.views), key=lambda c: c.group)
    ]


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


def _facts(entries: Sequence[Entry], sections: Sequence[Section]) -> dict:
    """What the head and foot of the page say. No clock: the date is that of the newest record."""
    found = [entry.record for entry in entries]
    newest = max((record["date"][:10] for record in found), default="1970-01-01")
    contents = sorted(record["id"] + (record["run_file"] or {}).get("sha256", "") for record in found)
    digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
    day = date.fromisoformat(newest)
    data = {(r["data"]["name"], r["data"]["version"], r["data"]["fingerprint"], r["data"]["licence"]) for r in found}
    machines = {r["environment"]["fingerprint"]: r["environment"] for r in found}
    return {
        "records": len(found),
        "reproductions": sum(len(entry.reproductions) for entry in entries),
        "methods": len({record["method"]["name"] for record in found}),
        "tasks": len({section.table.task["name"] for section in sections}),
        "data": sorted(data),
        "machines": [machines[tag] for tag in sorted(machines)],
        "newest": newest,
        "day": f"{day.day} {day:%B %Y}",
        "year": newest[:4],
        "digest": digest[:12],
        "commits": sorted({record["git"]["commit"][:12] for record in found if record["git"]["commit"]}),
        "dirty": sum(bool(record["git"]["dirty"]) for record in found),
    }
