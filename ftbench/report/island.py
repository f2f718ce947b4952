"""The board's data as its script reads it: one JSON value with every table, row and score. Must not know HTML.

Numbers are rounded as far as what is shown of them stays the same; a missing score is the place of its reason.
"""

from collections.abc import Callable, Mapping, Sequence

from ftbench.report import words
from ftbench.report.aggregate import CHANCE, Row, Score, Table
from ftbench.report.columns import COST_GAP, COSTS, HARDWARE_HELP, VIEWS, Part, parts

_DECIMALS = 4  # of a score at least: one more than is shown, so that sorting separates what looks the same


class Reasons:
    """Why scores are missing, each text once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, reason: str | None) -> int:
        return self.places.setdefault(reason or "not measured", len(self.places))


def island(tables: Sequence[Table], notes: Mapping[str, Sequence[str]], figures: Mapping[str, Sequence]) -> dict:
    """The value. notes: texts below each table, by its key; figures: (name, axis) of its figures in the site's folder.

    A row's `scores` has one list for all queries and one for each part of its table, with a cell for each measure:
    [mean, low, high], [mean] without an interval, [mean, low, high, tie low, tie high] where ties move it noticeably
    (low and high may then be null), or an index into `reasons` where there is none.
    """
    reasons = Reasons()
    measures = dict.fromkeys(name for table in tables for name in table.task["measures"])
    return {
        "tables": [
            _table(table, reasons) | {"notes": notes[table.key], "figures": figures.get(table.key, [])}
            for table in tables
        ],
        "measures": {name: {"title": words.measure(name), "help": words.meaning(name)} for name in measures},
        "costs": [
            {"name": c.name, "title": c.title, "help": c.help, "views": c.views, "kind": c.kind, "training": c.training}
            for c in COSTS
        ],
        "costGap": COST_GAP,
        "hardwareHelp": HARDWARE_HELP,
        "views": [{"name": name, "title": title} for name, title in VIEWS],
        "machines": _machines(tables),
        "reasons": list(reasons.places),
    }  # fmt: skip


def missing(table: Table) -> dict[str, str]:
    """The measures that no row of a table has on any part of its queries, and why."""
    found = [entry.record for row in table.all_rows for entry in row.entries]
    why = {}
    for name in table.task["measures"]:
        everywhere = [
            part for record in found for part in (record, *record["slices"].values(), *record["pairs"].values())
        ]
        scores = [part["scores"].get(name) for part in everywhere]
        if name != table.task["headline"] and not any(score and score["mean"] is not None for score in scores):
            reasons = dict.fromkeys(score["reason"] for score in scores if score and score["reason"])
            why[name] = "; ".join(reasons) or "not measured"
    return why


def _machines(tables: Sequence[Table]) -> dict[str, str]:
    """What stands behind each fingerprint, in words."""
    rows = [row for table in tables for row in table.all_rows]
    found = {e.record["environment"]["fingerprint"]: e.record["environment"] for row in rows for e in row.entries}
    return {tag: machine(found[tag]) for tag in sorted(found)}


def machine(environment: Mapping) -> str:
    """A machine in words: processor, cores, accelerator."""
    about = [environment["cpu"] or "unknown processor", words.plural(environment["cores"] or 0, "core")]
    return ", ".join([*about, *([environment["gpu"]] if environment["gpu"] else [])])


def _table(table: Table, reasons: Reasons) -> dict:
    task = table.task
    found = parts(table)
    return {
        "key": table.key,
        "task": task["title"],
        "data": table.data["name"],
        "board": table.board.replace("-", " "),
        "headline": task["headline"],
        "measures": list(task["measures"]),
        "missing": list(missing(table)),
        "parts": [{"name": part.name, "title": part.title} for part in found],
        "partWord": "pair" if task["pairs"] else "slice",
        "unit": "item" if task["pairs"] else "query",
        "queries": queries(table),
        "rows": [_row(row, table, found, reasons) for row in table.all_rows],
    }


def queries(table: Table) -> str:
    """How many queries or probes a table's scores are means of, in words."""
    n, pairs = table.n_queries, table.task["pairs"]
    text = words.plural(n, "query", "queries")
    if pairs:
        text = f"{words.plural(n, 'probe')} over {words.plural(len(pairs), 'pair')}"
    return text + (f", {table.n_skipped:,} more without a relevant item" if table.n_skipped else "")


def _row(row: Row, table: Table, found: Sequence[Part], reasons: Reasons) -> dict:
    headline = table.task["headline"]
    made = {
        "id": row.slug,
        "title": row.title,
        "method": row.method,
        "variant": list(row.variant),
        "track": row.track,
        "encoder": row.encoder,
        "seeds": [
            [e.record["seed"], f"{row.method}-{e.record['id'][:12]}", _score(e.record["scores"][headline]["mean"])]
            for e in row.entries
        ],
        "command": row.first["command"],
        "costs": [_rounded(cost.value(row), cost.text) for cost in COSTS],
        "machines": list(row.hardware),
        "scores": _scores(row, table, found, reasons),
    }
    flags = {
        "reference": not row.ranked,
        "chance": row.method == CHANCE,
        "zeroShot": row.is_zero_shot,
        "group": row.group,
        "p": row.p and _rounded(row.p, words.p_value),
        "again": sum(len(entry.reproductions) for entry in row.entries),
    }
    return made | {name: value for name, value in flags.items() if value}


def _scores(row: Row, table: Table, found: Sequence[Part], reasons: Reasons) -> list[list]:
    """Cells of all queries and of each part, in the order of the table's measures."""
    records = [entry.record for entry in row.entries]
    headline = table.task["headline"]
    sources = [[record["scores"] for record in records]]
    sources += [[record[part.field].get(part.name, {}).get("scores", {}) for record in records] for part in found]
    cells = [[_cell(mean_of(name, source), reasons) for name in table.task["measures"]] for source in sources]
    cells[0][table.task["measures"].index(headline)] = _cell(row.headline, reasons)  # its interval resamples seeds too
    return cells


def mean_of(measure: str, seeds: Sequence[Mapping]) -> Score:
    """The mean over seeds of a measure and of the ends of its interval; a gap where any seed has none.

    seeds: each seed's scores by measure. Such an interval is over queries alone: that of a typical seed.
    """
    found = [scores.get(measure) for scores in seeds]
    if any(part is None or part["mean"] is None for part in found):
        return Score(None, reason=next((part["reason"] for part in found if part and part["reason"]), None))
    fields = ("mean", "low", "high", "tie_low", "tie_high")
    columns = [[part[name] for part in found] for name in fields]
    return Score(*(None if None in column else sum(column) / len(column) for column in columns))


def _cell(score: Score, reasons: Reasons) -> list[float] | int:
    if score.mean is None:
        return reasons.place(score.reason)
    cell = [_score(score.mean), _score(score.low), _score(score.high)]
    if score.wide:
        return [*cell, _score(score.tie_low), _score(score.tie_high)]
    return cell if score.low is not None else cell[:1]


def _score(value: float | None) -> float | None:
    """Four decimals, or as many more as it takes to be shown alike."""
    if value is None:
        return None
    shown = words.score(value)
    return next((r for d in range(_DECIMALS, 9) if words.score(r := round(value, d)) == shown), value)


def _rounded(value: float | None, text: Callable[[float], str]) -> float | None:
    """Four significant digits, or as many more as it takes to be shown alike."""
    if value is None or isinstance(value, int):
        return value
    shown = text(value)
    return next((r for d in range(4, 12) if text(r := float(f"{value:.{d}g}")) == shown), value)
