"""The board: index.html, one self-contained file. Must not know how records are made."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftbench import citation
from ftbench.report import cite, figures, words
from ftbench.report.aggregate import CHANCE, Row, Score, Table
from ftbench.report.columns import COST_GAP, COSTS, HARDWARE_HELP, Cost, Part, parts
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page
from ftbench.report.island import island, machine, missing, queries

_CEILINGS = ("c", "c2", "c3", "c4")  # of board.css.j2
_STANDINGS = ("", "chance", "ceiling")  # in this order in every table


def standing(row: Row) -> str:
    """What a row is for: "" one to rank, "chance" or a "ceiling" for reference, which stand below the others."""
    return "ceiling" if not row.ranked else "chance" if row.method == CHANCE else ""


@dataclass(frozen=True)
class Section:
    """One table as the page without a script draws it. scale: the score at the right end of a bar; notes: texts below
    it; figures: (name, axis) of its figures."""

    table: Table
    parts: Sequence[Part]
    scale: float
    notes: Sequence[str]
    figures: Sequence[tuple[str, str]]

    @property
    def board(self) -> str:
        return self.table.board.replace("-", " ")

    @property
    def queries(self) -> str:
        return queries(self.table)

    @property
    def costs(self) -> list[Cost]:
        return [cost for cost in COSTS if "overview" in cost.views]

    @property
    def rows(self) -> list[Row]:
        """The ranked rows, best first, then those for reference: chance and the ceilings."""
        return [*sorted(self.table.rows, key=lambda row: row.method == CHANCE), *self.table.references]

    def standing(self, row: Row) -> str:
        return standing(row)

    @property
    def machines(self) -> int:
        return len({row.hardware for row in self.table.all_rows})

    def part(self, row: Row, part: Part) -> float | None:
        """A row's headline measure on a part of the queries."""
        found = getattr(row, part.field).get(part.name)
        return found.mean if found else None

    @property
    def gaps(self) -> list[str]:
        """Why cells are empty, a text each: what a pointer would show must also stand on paper."""
        cells = [(words.measure(self.table.task["headline"]), row.headline) for row in self.rows]
        cells += [(part.title, getattr(row, part.field).get(part.name)) for row in self.rows for part in self.parts]
        found = dict.fromkeys((title, (score and score.reason) or "not measured") for title, score in cells
                              if score is None or score.mean is None)  # fmt: skip
        costs = [COST_GAP] if any(cost.shown(row) == words.GAP for row in self.rows for cost in self.costs) else []
        return [*(f"{words.GAP} in {title}: {reason}." for title, reason in found), *costs]

    def percent(self, value: float) -> float:
        """Where a score lies on a bar, in percent of its width."""
        return round(100 * max(0.0, min(1.0, value / self.scale)), 1)

    def bar(self, score: Score) -> str:
        """The ends of a bar and its whisker, as properties that the style draws."""
        ends = [("m", score.mean), ("l", score.low), ("h", score.high)]
        return ";".join(f"--{name}:{self.percent(value)}" for name, value in ends if value is not None)

    @property
    def lines(self) -> str:
        """Where ceilings and chance lie, as properties that the style draws."""
        found = [*zip(_CEILINGS, self.table.ceilings, strict=False), ("r", self.table.chance)]
        return ";".join(f"--{name}:{self.percent(row.headline.mean)}" for name, row in found if row)


@dataclass(frozen=True)
class Glance:
    """A method across all tables: a cell (row or None) for each."""

    title: str
    note: str
    standing: str  # "", "chance" or "ceiling"
    cells: tuple[Row | None, ...]


def exists(board: Board) -> bool:
    """Always: a board without records says how to make one."""
    return True


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """index.html, self-contained."""
    drawn = {table.key: [(f.stem, f.axis) for f in figures.of_table(table)] for table in figures.drawn(board.tables)}
    sections = [_section(table, drawn.get(table.key, ())) for table in board.tables]
    main = [section for section in sections if figures.is_main(section.table)] or sections
    glanced = [section for section in sections if section.table.board == "equal-compute"] or sections
    others = [section for section in sections if section not in glanced]
    data = island(board.tables, {section.table.key: section.notes for section in sections}, drawn)
    data["compare"] = any(file == "compare.html" for file, _ in nav)
    data["digest"] = board.facts["digest"]
    data["version"] = f"{board.facts['records']} records, {board.facts['newest']}, digest {board.facts['digest']}"
    yield page(
        "index.html", "board.html.j2", nav, board.facts, sections=sections, main=main, others=others,
        glanced=glanced, glance=_glance([section.table for section in glanced]), data=_html_safe(data),
        cite=citation.of_board(cite.version(board.facts)).bibtex(),
    )  # fmt: skip


def _html_safe(value: object) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element, whatever the records hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(table: Table, drawn: Sequence[tuple[str, str]]) -> Section:
    scores = [row.headline for row in table.all_rows if row.headline.mean is not None]
    most = max([score.high or score.mean for score in scores], default=1.0)
    scale = 1.0 if most > 0.6 else max(0.1, -(-most * 1.02 // 0.1) * 0.1)
    return Section(table, parts(table), scale, _notes(table), drawn)


def _notes(table: Table) -> list[str]:
    """What a reader of a table has to know, a text each."""
    of = "items" if table.task["pairs"] else "queries"
    rows = words.plural(len(table.rows), "row")
    headline = f"{words.measure(table.task['headline'])} on all {'pairs' if table.task['pairs'] else 'queries'}"
    made = [
        f"Intervals of {headline} resample seeds and, within them, {of}; those of other measures and "
        f"{'pairs' if table.task['pairs'] else 'slices'} resample {of} alone, averaged over seeds. Not separable: "
        f"paired randomization test of {headline} against the leader, 100,000 permutations, Holm over the {rows}, "
        f"5%. {words.HOLES}",
    ]
    made += [f"No row has {words.measure(name)}: {reason}." for name, reason in missing(table).items()]
    machines = {e.record["environment"]["fingerprint"]: e.record["environment"]
                for row in table.all_rows for e in row.entries}  # fmt: skip
    if machines:
        named = "; ".join(f"{machine(machines[tag])} ({tag[:4]})" for tag in sorted(machines))
        made.append(f"Times were taken on {named}. They depend on what else it did meanwhile; passes do not.")
    spent = [row.first["trainer"] for row in table.rows if row.first["method"]["trained"] and not row.is_zero_shot]
    locked = {trainer["steps"] for trainer in spent if not trainer["budget"]}
    if table.board == "equal-compute" and locked:
        made.append(f"The encoder is locked and its features are kept, so training spends no passes: equal compute is "
                    f"{' or '.join(map(str, sorted(locked)))} steps here. Passes are of kept features.")  # fmt: skip
    if len({row.hardware for row in table.all_rows}) > 1:
        made.append(f"hardware: {HARDWARE_HELP[0].lower()}{HARDWARE_HELP[1:]}.")
    if table.left_out:
        many = words.plural(len(table.left_out), "record is", "records are")
        made.append(f"{many} left out: the headline is not what the run file gives.")
    if len(table.runs_missing) > len(table.left_out):
        many = words.plural(len(table.runs_missing) - len(table.left_out), "run file is", "run files are")
        made.append(f"{many} not beside the records or not the one they name: intervals over seeds and rank groups "
                    "need them, and are not shown where they are missing.")  # fmt: skip
    if table.replaced:
        many = words.plural(table.replaced, "earlier record is", "earlier records are")
        made.append(f"{many} not shown: made with another version of the data, the task, the method or the measures, "
                    "or superseded by a later run.")  # fmt: skip
    for entry in table.failed:
        error = entry.record["error"]
        short = error if len(error) <= 240 else error[:237] + "…"
        name, title = entry.record["method"]["name"], entry.record["method"]["title"]
        named = name if title == name else f"{title} ({name})"  # titles may be alike
        made.append(f"{named}, seed {entry.record['seed']}, failed: {short}")
    return made


def _glance(made: Sequence[Table]) -> list[Glance]:
    """Every method with its headline on every table, in the order of the first table that has it."""
    found: dict[tuple, dict[int, Row]] = {}
    for i, table in enumerate(made):
        for row in (*table.rows, *table.references):
            note = " ".join([*row.variant, *(["zero-shot"] if row.is_zero_shot else [])])
            found.setdefault((_STANDINGS.index(standing(row)), row.title, note), {}).setdefault(i, row)
    ordered = sorted(found, key=lambda key: key[0])  # stable: otherwise first seen first
    return [
        Glance(key[1], key[2], _STANDINGS[key[0]], tuple(found[key].get(i) for i in range(len(made))))
        for key in ordered
    ]
