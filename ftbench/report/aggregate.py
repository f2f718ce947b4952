"""From records to the tables of a page: one row per method and setting, its seeds together. Must not know HTML.

Means over seeds come from the records; intervals and rank groups from the run files beside them. Without run files (a
wheel has none) both are unknown, never guessed. A record whose headline is not what its run file gives is left out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np

from ftbench import record as records
from ftbench import release
from ftbench.compare import DIGITS
from ftbench.items import Progress
from ftbench.provenance import short_title
from ftbench.report import certainty, queries, quiet
from ftbench.report.reading import read_all

_ALPHA = 0.05  # family-wise error of "not separable from the best"
WIDE_BAND = 0.01  # a tie band wider than this is worth a warning: it moves the second decimal
CHANCE = "random"  # the method whose score is drawn as chance


@dataclass(frozen=True)
class Score:
    """A mean over seeds with its 95% interval and its range under ties; None where unknown, with the reason."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    tie_low: float | None = None
    tie_high: float | None = None
    reason: str | None = None

    @property
    def wide(self) -> bool:
        """Whether ties alone could move the score noticeably."""
        return self.tie_low is not None and self.tie_high - self.tie_low > WIDE_BAND


@dataclass(frozen=True)
class Entry:
    """A record, where it lies, and its reruns on other hardware."""

    path: Path
    record: Mapping
    reproductions: tuple[Mapping, ...] = ()


@dataclass(frozen=True)
class Row:
    """A method with one setting on one table. group: "best" (not separable from the leader), "below", or "" where
    unknown or not ranked. p: Holm-adjusted p-value against the leader. cost: medians over seeds. values (u,) float64:
    the headline of each of `Table.units`, mean over seeds; None without run files, or where the units are others. apart
    (p, u): of a task with pairs, the same in each pair, NaN where the unit does not ask in it."""

    entries: tuple[Entry, ...]
    variant: tuple[str, ...] = ()
    headline: Score = Score(None)
    scores: Mapping[str, Score] = field(default_factory=dict)
    slices: Mapping[str, Score] = field(default_factory=dict)
    pairs: Mapping[str, Score] = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    group: str = ""
    p: float | None = None
    values: np.ndarray | None = field(default=None, repr=False, compare=False)
    apart: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> Mapping:
        """The record of the first seed, for what all seeds share."""
        return self.entries[0].record

    @property
    def method(self) -> str:
        return self.first["method"]["name"]

    @property
    def title(self) -> str:
        return short_title(self.first["method"]["title"])

    @property
    def ranked(self) -> bool:
        return self.first["method"]["ranked"]

    @property
    def track(self) -> str:
        return self.first["track"]

    @property
    def is_zero_shot(self) -> bool:
        """Whether this is a trainable method's row with budget 0."""
        return self.first["method"]["trained"] and self.track == "zero-shot"

    @property
    def encoder(self) -> str | None:
        return self.first["encoder"] and self.first["encoder"]["name"]

    @property
    def hardware(self) -> tuple[str, ...]:
        return tuple(sorted({entry.record["environment"]["fingerprint"] for entry in self.entries}))

    @property
    def slug(self) -> str:
        """A short name of the row within its table, the same from one rendering to the next: addresses hold it."""
        return f"{self.method}-{hashlib.sha256(canonical(_identity(self.first)).encode()).hexdigest()[:6]}"

    @property
    def sort_key(self) -> tuple:
        mean = self.headline.mean
        return (mean is None, -(mean or 0), self.method, self.track, canonical(self.first["method"]["config"]))


@dataclass(frozen=True)
class Table:
    """One task on one data set on one board. rows: ranked ones, best first; references: ceilings, never ranked. units:
    query ids, or item ids on cross_view, in ascending order: what the headline is a mean over; () without run files."""

    task: Mapping
    data: Mapping
    board: str
    rows: tuple[Row, ...]
    references: tuple[Row, ...]
    failed: tuple[Entry, ...]
    n_queries: int
    n_skipped: int
    replaced: int  # records of earlier code, data or task definitions that are not shown
    runs_missing: tuple[str, ...]  # why, for each record without its run file, and each that is left out
    units: tuple[str, ...] = field(default=(), repr=False)
    left_out: tuple[Entry, ...] = ()  # records whose headline is not what their run file gives

    @property
    def key(self) -> str:
        return f"{self.task['name']}-{self.data['name']}-{self.board}".replace("@", "-")

    @property
    def all_rows(self) -> tuple[Row, ...]:
        return (*self.references, *self.rows)

    @property
    def ceilings(self) -> tuple[Row, ...]:
        """The references that have a score, highest first."""
        known = [row for row in self.references if row.headline.mean is not None]
        return tuple(sorted(known, key=lambda row: -row.headline.mean))

    @property
    def ceiling(self) -> Row | None:
        """The highest of the references."""
        return next(iter(self.ceilings), None)

    @property
    def chance(self) -> Row | None:
        return next((row for row in self.rows if row.method == CHANCE and row.headline.mean is not None), None)


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def load(results: Path, version: str | None = None) -> list[Entry]:
    """All records of a results folder or of a release of it, reproductions beside their originals. Raises DataError."""
    originals, again = {}, {}
    for path, record in release.frozen(results, version) if version else records.read_all(results):
        kind = again if records.is_reproduction(path) else originals
        kind.setdefault(records.apart(record), []).append((path, record))
    for identity, found in again.items():
        originals.setdefault(identity, found)
    return [
        Entry(*found[0], tuple(record for _, record in again.get(identity, []) if record is not found[0][1]))
        for identity, found in originals.items()
    ]


def tables(entries: Iterable[Entry], progress: Progress = quiet) -> list[Table]:
    """The tables of a page, in order of task, data set and board; query2item first, equal-compute first."""
    entries = list(entries)
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        task, data = entry.record["task"], entry.record["data"]
        groups.setdefault((task["kind"] != "query2item", task["name"], data["name"]), []).append(entry)
    order = sorted(groups, key=lambda name: (name[0], name[1], not name[2].startswith("studio"), name[2]))
    chosen = {name: _current(groups[name]) for name in order}
    read = read_all({name: [(e.path, e.record) for e in current] for name, (current, _) in chosen.items()}, progress)
    made, values = [], {}
    for name, (current, replaced) in chosen.items():
        missing, wrong = read[name].missing, read[name].wrong
        values |= read[name].values
        budgets = sorted({_budget(e.record) for e in current if _spends(e.record)}) or [("equal-compute", 0.0)]
        kinds = [board for board, _ in budgets]
        for board, spent in budgets:
            label = board if kinds.count(board) == 1 else f"{board}-{spent:g}"
            own = [e for e in current if not _spends(e.record) or _budget(e.record) == (board, spent)]
            table = _table(label, own, [e for e in own if e.path not in wrong], replaced)
            told = tuple(missing[e.path] for e in own if e.path in missing)
            made.append(replace(table, runs_missing=told, left_out=tuple(e for e in own if e.path in wrong)))
    return _with_certainty(made, values)


def _budget(record: Mapping) -> tuple[str, float]:
    """The board that a run belongs to and what it may spend: only runs of one budget are compared."""
    trainer = record["trainer"]
    by_steps = record["board"] == "equal-steps" or not trainer["budget"]  # locked towers spend steps alone
    return record["board"], float(trainer["steps"] if by_steps else trainer["budget"])


def _spends(record: Mapping) -> bool:
    """Whether a run spends a training budget, and so belongs to one board alone."""
    return record["method"]["trained"] and record["track"] != "zero-shot"


def _identity(record: Mapping) -> tuple:
    """What makes a row, apart from the seed."""
    encoder = record["encoder"]
    return (
        record["method"]["name"], canonical(record["method"]["config"]), record["track"],
        (encoder["name"], encoder["weights_sha256"]) if encoder else None,
        canonical(record["trainer"]) if _spends(record) else "", record["precision"],
    )  # fmt: skip


def _current(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """The records of the newest data and task definition, the newest of each row and seed; and how many were left."""
    newest = max(entries, key=lambda e: (e.record["date"], e.record["id"])).record
    same = [
        e for e in entries
        if e.record["data"]["fingerprint"] == newest["data"]["fingerprint"]
        and e.record["task"]["definition_sha256"] == newest["task"]["definition_sha256"]
        and e.record["numerics"] == newest["numerics"]
    ]  # fmt: skip
    kept: dict[tuple, Entry] = {}
    for entry in sorted(same, key=lambda e: (e.record["status"] == "ok", e.record["date"], e.record["id"])):
        board = entry.record["board"] if _spends(entry.record) else ""
        kept[(_identity(entry.record), board, entry.record["seed"])] = entry
    done = [e.record for e in kept.values() if e.record["status"] == "ok"]
    kept = {name: e for name, e in kept.items() if e.record["status"] == "ok" or not _mended(e.record, done)}
    chosen = sorted(kept.values(), key=lambda e: (_identity(e.record), e.record["seed"]))
    return chosen, len(entries) - len(chosen)


def _mended(failed: Mapping, done: Sequence[Mapping]) -> bool:
    """Whether a later run of a failed one's method finished after the method's file was changed."""
    own = failed["method"]
    later = [r["method"] for r in done if r["method"]["name"] == own["name"] and r["date"] >= failed["date"]]
    return any(method["sha256"] != own["sha256"] for method in later)


def _table(board: str, entries: Sequence[Entry], shown: Sequence[Entry], replaced: int) -> Table:
    """A table of the entries that are shown, none maybe; its scores have no intervals yet."""
    done = [entry for entry in shown if entry.record["status"] == "ok"]
    failed = tuple(entry for entry in shown if entry.record["status"] != "ok")
    grouped: dict[tuple, list[Entry]] = {}
    for entry in done:
        grouped.setdefault(_identity(entry.record), []).append(entry)
    rows = _with_variants(sorted((_row(group) for group in grouped.values()), key=lambda row: row.sort_key))
    ranked, references = (tuple(row for row in rows if row.ranked is kind) for kind in (True, False))
    first = (done or entries)[0].record
    return Table(first["task"], first["data"], board, ranked, references, failed, first["n_queries"],
                 first["n_skipped"], replaced, ())  # fmt: skip


def _units(entry: Entry, measure: str | None = None) -> queries.Values | None:
    """Units and values of a measure (the headline unless named), from the run file; None where it is null."""
    return queries.careful(entry.path, entry.record, measure)


def _stacked(row: Row, values: Mapping[str, queries.Values | None]) -> queries.Values | None:
    """Units (u), values (s, u) and, of pairs, the mean over seeds in each (p, u) of a row, by record id; None where a
    seed has none, or other units."""
    found = [values.get(entry.record["id"]) for entry in row.entries]
    if any(part is None or part[0] != found[0][0] for part in found):
        return None
    apart = None if found[0][2] is None else np.mean([part[2] for part in found], axis=0)
    return found[0][0], np.stack([part[1] for part in found]), apart


def _row(entries: Sequence[Entry]) -> Row:
    found = [entry.record for entry in entries]
    task = found[0]["task"]
    row = Row(
        entries=tuple(entries),
        scores={name: _mean(r["scores"].get(name) for r in found) for name in task["measures"]},
        slices={
            name: _mean(r["slices"].get(name, {}).get("scores", {}).get(task["headline"]) for r in found)
            for name in found[0]["slices"]
        },
        pairs={
            pair["name"]: _mean(r["pairs"].get(pair["name"], {}).get("scores", {}).get(task["headline"]) for r in found)
            for pair in task["pairs"]
        },
        cost={name: _median(r["cost"][name] for r in found) for name in records.COST_FIELDS},
    )
    return replace(row, headline=row.scores[task["headline"]])


def _mean(parts: Iterable[Mapping | None]) -> Score:
    """The mean over seeds; a gap where any seed has none. Tie bands are averaged alike."""
    parts = list(parts)
    if any(part is None or part["mean"] is None for part in parts):
        return Score(None, reason=next((part["reason"] for part in parts if part and part["reason"]), "not measured"))

    def over(name: str) -> float | None:
        found = [part[name] for part in parts]
        return None if None in found else round(fmean(found), DIGITS)

    return Score(over("mean"), tie_low=over("tie_low"), tie_high=over("tie_high"))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _with_variants(rows: list[Row]) -> list[Row]:
    """Each row with the settings in which it differs from others of its method."""
    made = []
    for row in rows:
        others = [r for r in rows if r.method == row.method]
        chips = []
        for part in ("method", "trainer"):
            settings = [r.first["method"]["config"] if part == "method" else r.first["trainer"] for r in others
                        if part == "method" or _spends(r.first)]  # fmt: skip
            own = row.first["method"]["config"] if part == "method" else row.first["trainer"]
            if part == "trainer" and not _spends(row.first):
                continue
            names = sorted({name for setting in settings for name in setting})
            chips += [
                f"{name}={_plain(own[name])}" for name in names
                if name in own and len({canonical(setting.get(name)) for setting in settings}) > 1
            ]  # fmt: skip
        made.append(replace(row, variant=tuple(chips)))
    return made


def _plain(value: object) -> object:
    """A setting without a trailing ".0"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_certainty(found: list[Table], values: Mapping) -> list[Table]:
    """The tables with intervals, values by unit and rank groups of their rows."""
    stacked = [[_stacked(row, values) for row in table.all_rows] for table in found]
    ends = iter(certainty.intervals([part and part[1] for parts in stacked for part in parts]))
    made = []
    for table, parts in zip(found, stacked, strict=True):
        count, rows = len(table.references), []
        units = next((part[0] for part in (*parts[count:], *parts[:count]) if part), ())
        for row, part in zip(table.all_rows, parts, strict=True):
            low, high = next(ends) or (None, None)
            own, apart = (part[1].mean(axis=0), part[2]) if part and part[0] == units else (None, None)
            rows.append(replace(row, headline=replace(row.headline, low=low, high=high), values=own, apart=apart))
        made.append(replace(table, units=units, references=tuple(rows[:count]), rows=tuple(rows[count:])))
    p_values = certainty.against_leaders([_family(table) for table in made])
    return [table if p is None else _grouped(table, p) for table, p in zip(made, p_values, strict=True)]


def _family(table: Table) -> np.ndarray | None:
    """Values (r, u) of all ranked rows with a score, whatever is shown; None where the run file of one is missing."""
    rows = [row for row in table.rows if row.headline.mean is not None]
    if not rows or any(row.values is None for row in rows):
        return None  # no claim
    return np.stack([row.values for row in rows])


def _grouped(table: Table, p_values: np.ndarray) -> Table:
    adjusted = iter(p_values.tolist())
    rows = [
        replace(row, group="best" if p > _ALPHA else "below", p=p)
        if row.headline.mean is not None and (p := next(adjusted)) is not None else row
        for row in table.rows
    ]  # fmt: skip
    return replace(table, rows=tuple(rows))
