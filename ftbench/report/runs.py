"""A page for every record: what was run, what came out, what it rests on. Must not know how records are made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ftbench import citation, rescore, stats
from ftbench.errors import DataError
from ftbench.provenance import short_title
from ftbench.report import cite, curves, data, words
from ftbench.report.aggregate import Entry, Row, Table, _units, canonical
from ftbench.report.columns import COSTS
from ftbench.report.gathered import Board
from ftbench.report.html import Page, environment, page

_SEED = 20250103  # of the bootstrap of a reproduction's difference; any constant would do


def exists(board: Board) -> bool:
    return bool(board.entries)


def name_of(record: Mapping) -> str:
    """A run page's file name without its ending, the same as the record's."""
    return f"{record['method']['name']}-{record['id'][:12]}"


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """runs/<method>-<first 12 digits of the id>.html."""
    facts, note, places = board.facts, rescore.read_note(board.results), _places(board)
    version = cite.version(facts)
    compares = any(file == "compare.html" for file, _ in nav)
    for entry in board.entries:
        record = entry.record
        rescored = record["status"] == "ok" and rescore.note_key(entry.path, record) in note
        rescored = rescored and rescore.has_passed(note, entry.path, record)
        run = Run(entry, places.get(name_of(record), ()), rescored)
        bibtex = citation.of_run(record, version).bibtex()
        path = f"runs/{name_of(record)}.html"
        yield page(path, "run.html.j2", nav, facts, run=run, r=record, cite=bibtex, compares=compares, pairs=pairs)


def pairs(title: str, rows: Sequence[tuple[str, str]], code: bool = False) -> str:
    """A list of names and texts; many runs share theirs, of machine, data and settings, so it is made once."""
    return _pairs(title, tuple(rows), code)


@lru_cache(maxsize=1024)
def _pairs(title: str, rows: tuple, code: bool) -> str:
    return environment().get_template("pairs.html.j2").module.pairs(title, rows, code)


@dataclass(frozen=True)
class Setting:
    """A row and what the pages of its seeds share."""

    row: Row
    seeds: tuple[tuple[str, int, str, str], ...]  # (page, seed, headline, interval)
    losses: Mapping[str, curves.Chart]


@dataclass(frozen=True)
class Place:
    """Where a run stands: its table, and its row there with the row's place among the ranked (None where unranked)."""

    table: Table
    setting: Setting | None = None
    place: int | None = None
    best: Row | None = None  # another row of the table: the best, or the second where this one leads

    @property
    def said(self) -> str:
        """How the row stands, in words."""
        if not self.setting:
            return "failed"
        row = self.setting.row
        if self.place is None:
            return "not ranked: a reference" if not row.ranked else "not measured"
        text = f"{self.place} of {words.plural(len(self.table.rows), 'row')}"
        group = {"best": "not separable from the best", "below": "below the best"}.get(row.group)
        p = words.p_value(row.p)
        test = f" (p {p if p[0] == '<' else f'= {p}'}, Holm)" if row.p is not None and row.p < 1 else ""
        if self.place == 1 and group:
            return f"{text}; the best score"
        return f"{text}; {group}{test}" if group else text


def _places(board: Board) -> dict[str, list[Place]]:
    """By the name of a record's page, the tables that show it; a method that spends no budget is on several."""
    found: dict[str, list[Place]] = {}
    for table in board.tables:
        headline = table.task["headline"]
        known = [row for row in table.rows if row.headline.mean is not None]
        for row in table.all_rows:
            place = next((i for i, other in enumerate(known, start=1) if other is row), None)
            best = next((other for other in known[:2] if other is not row), None)
            made = Place(table, _setting(row, headline), place, best)
            for entry in row.entries:
                found.setdefault(name_of(entry.record), []).append(made)
        for entry in table.failed:
            found.setdefault(name_of(entry.record), []).append(Place(table))
    return found


def _setting(row: Row, headline: str) -> Setting:
    seeds = tuple(
        (name_of(e.record), e.record["seed"], words.score(s["mean"]), words.interval(s["low"], s["high"]))
        for e in row.entries for s in [e.record["scores"][headline]]
    )  # fmt: skip
    return Setting(row, seeds, curves.losses({e.record["id"]: e.record["training"]["curve"] for e in row.entries}))


@dataclass(frozen=True)
class Run:
    """A record as its page shows it; texts are made here, so that the template stays fast."""

    entry: Entry
    places: Sequence[Place]
    rescored: bool

    @cached_property
    def record(self) -> Mapping:
        return self.entry.record

    @cached_property
    def title(self) -> str:
        return short_title(self.record["method"]["title"])

    @property
    def day(self) -> str:
        return citation.day(self.record["date"])

    @cached_property
    def headline(self) -> Mapping | None:
        """The headline score where there is one."""
        score = self.record["scores"].get(self.record["task"]["headline"])
        return score if score and score["mean"] is not None else None

    @cached_property
    def setting(self) -> Setting | None:
        return next((place.setting for place in self.places if place.setting), None)

    @property
    def file(self) -> str:
        """The record's place in the results folder."""
        return "/".join(self.entry.path.parts[-3:])

    @property
    def run_file(self) -> str:
        return "/".join([*self.entry.path.parts[-3:-1], self.record["run_file"]["name"]])

    @cached_property
    def measures(self) -> list[tuple]:
        """(measure, meaning, mean, interval, band, reason, style of its bar) of each measure on everything."""
        return [_measured(name, score) for name, score in self.record["scores"].items()]

    @property
    def ties(self) -> str:
        """What the order of equal scores could change, in words; "" where no measure tells."""
        if any(band for _, _, _, _, band, _, _ in self.measures):
            return "The tie band is what other orders of equal scores would give, where it is not the mean."
        known = any(score["tie_low"] is not None for score in self.record["scores"].values())
        return "No other order of equal scores would change a mean in the digits shown." if known else ""

    @property
    def parts(self) -> list[tuple[str, str, list[str]]]:
        """(title, queries, a text per measure) of each pair or slice; the headline with its interval."""
        r, headline = self.record, self.record["task"]["headline"]
        titles = {pair["name"]: pair["title"] for pair in r["task"]["pairs"]}
        return [
            (titles.get(name) or words.spaced(name), f"{part['n_queries']:,}",
             [_cell(part["scores"].get(m), m == headline) for m in r["task"]["measures"]])
            for field in ("pairs", "slices") for name, part in r[field].items()
        ]  # fmt: skip

    @cached_property
    def recall(self) -> curves.Chart | None:
        return curves.recall(self.record["scores"])

    @cached_property
    def loss(self) -> curves.Chart | None:
        found = self.setting and self.setting.losses.get(self.record["id"])
        return found or curves.losses({"": self.record["training"]["curve"]}).get("")

    @property
    def costs(self) -> list[tuple[str, str]]:
        cost = self.record["cost"]
        found = [
            (c.help.removesuffix(", median over seeds"), c.text(c.of(cost))) for c in COSTS if c.of(cost) is not None
        ]
        return found + ([("Floating-point operations", words.number(cost["flops"]))] if cost["flops"] else [])

    @property
    def method_settings(self) -> list[tuple[str, str]]:
        return settings(self.record["method"]["config"])

    @cached_property
    def trainer_settings(self) -> list[tuple[str, str]]:
        return settings(self.record["trainer"])

    @property
    def encoder(self) -> list[tuple[str, str]]:
        found = self.record["encoder"]
        numbers = [("parameters", "parameters"), ("image_flops", "operations per image"),
                   ("text_flops", "operations per text")]  # fmt: skip
        rows = [("name", found["name"]), *((said, words.number(found[name])) for name, said in numbers if found[name])]
        return rows + ([("image size", f"{found['image_size']} pixels")] if found["image_size"] else [])

    @property
    def data(self) -> list[tuple[str, str]]:
        found = self.record["data"]
        return [
            ("version", found["version"]),
            *data.counts(found),
            *data.coverage(found),
            ("licence", found["licence"]),
        ]

    @property
    def about(self) -> list[tuple[str, str]]:
        r = self.record
        git = r["git"]
        state = {True: ", with uncommitted changes", False: ", no uncommitted changes", None: ""}[git["dirty"]]
        return [("date", r["date"]), ("track", r["track"]), ("gallery", r["task"]["gallery"]),
                ("relevant from", f"gain {r['task']['relevant_from']:g}"), ("precision", r["precision"]),
                ("numerics", str(r["numerics"])), ("commit", (git["commit"] or "unknown")[:12] + state)]  # fmt: skip

    @property
    def environment(self) -> list[tuple[str, str]]:
        found = self.record["environment"]
        threads = ", ".join(f"{name} {n}" for name, n in found["threads"].items() if n is not None)
        packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        rows = [("processor", found["cpu"]), ("cores", found["cores"] and str(found["cores"])),
                ("accelerator", found["gpu"] or "none used"), ("hardware fingerprint", found["fingerprint"]),
                ("system", found["platform"]), ("Python", found["python"]), ("threads", threads),
                ("packages", packages)]  # fmt: skip
        return [(name, text) for name, text in rows if text]

    @property
    def hashes(self) -> list[tuple[str, str]]:
        r = self.record
        rows = [("record", r["id"]), ("run file", (r["run_file"] or {}).get("sha256")),
                ("method file", r["method"]["sha256"]), ("task definition", r["task"]["definition_sha256"]),
                ("data fingerprint", r["data"]["fingerprint"]),
                ("encoder weights", (r["encoder"] or {}).get("weights_sha256"))]  # fmt: skip
        return [(name, text) for name, text in rows if text]

    @property
    def reproductions(self) -> list["Reproduction"]:
        return [reproduction(self.entry, again) for again in self.entry.reproductions]


@dataclass(frozen=True)
class Reproduction:
    """A rerun elsewhere. difference: of the headline, rerun minus original; low, high: the 95% interval of the mean
    paired difference over queries, None without both run files; same_file: whether the run files are the same bytes."""

    record: Mapping
    difference: float | None
    low: float | None = None
    high: float | None = None
    same_file: bool = False

    @property
    def said(self) -> str:
        if self.difference is None:
            return "not measured"
        if self.same_file:
            return "none: the run file is the same, byte for byte"
        interval = "" if self.low is None else f" (95% interval {self.low:+.4f} to {self.high:+.4f})"
        return f"{self.difference:+.4f}{interval}"


def reproduction(entry: Entry, again: Mapping) -> Reproduction:
    """What a rerun measured against its original."""
    headline = entry.record["task"]["headline"]
    pair = [record["scores"].get(headline, {}).get("mean") for record in (again, entry.record)]
    if None in pair:
        return Reproduction(again, None)
    same = again["run_file"]["sha256"] == entry.record["run_file"]["sha256"]
    try:
        (ids, values, _), (others, before, _) = _units(Entry(entry.path, again)), _units(entry)
    except DataError:
        return Reproduction(again, pair[0] - pair[1], same_file=same)
    if sorted(ids) != sorted(others):
        return Reproduction(again, pair[0] - pair[1], same_file=same)
    differences = values[np.argsort(ids)] - before[np.argsort(others)]
    low, high = stats.bootstrap(differences, np.random.default_rng(_SEED))
    return Reproduction(again, pair[0] - pair[1], round(low, 9), round(high, 9), same)


def settings(config: Mapping) -> list[tuple[str, str]]:
    """Names and values as a command would take them; whole numbers without a trailing ".0"."""
    return [(name, plain(value)) for name, value in config.items()]


def plain(value: object) -> str:
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else canonical(value)


def _measured(name: str, score: Mapping) -> tuple:
    shown, meaning = words.measure(name), words.meaning(name)
    mean, low, high, worst, best = (score[part] for part in ("mean", "low", "high", "tie_low", "tie_high"))
    if mean is None:
        return shown, meaning, words.GAP, "", "", score["reason"] or "not measured", ""
    ends = [("m", mean), ("l", low), ("h", high)]
    style = ";".join(f"--{end}:{100 * value:.1f}" for end, value in ends if value is not None)
    band = "" if words.score(worst) == words.score(best) else words.interval(worst, best)
    return shown, meaning, words.score(mean), words.interval(low, high), band, "", style


def _cell(score: Mapping | None, with_interval: bool) -> str:
    if not score or score["mean"] is None:
        return words.GAP
    interval = words.interval(score["low"], score["high"]) if with_interval else ""
    return f"{score['mean']:.3f} {interval}".strip()
