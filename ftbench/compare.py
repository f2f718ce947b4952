"""What a comparison of two runs is: paired differences, won and lost queries, largest swings. Must not know pages.

Both sides answered the same queries of the same data; each is one record, or all seeds of one setting, averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ftbench import record as records
from ftbench import scores, stats
from ftbench.errors import FtbenchError, several
from ftbench.runfile import Run

_SEED = 20250103  # of the bootstrap and the random signs; any constant would do
SWINGS = 10  # queries listed for each side
DIGITS = 12  # of means over seeds: what is equal but for the order of adding up is equal, and prints alike


@dataclass(frozen=True)
class Side:
    """One of the two: a record, or the records of one setting with several seeds. runs: their run files, in order."""

    paths: tuple[Path, ...]
    records: tuple[Mapping, ...]
    runs: tuple[Run, ...] = ()

    @property
    def first(self) -> Mapping:
        """The first record, for what all seeds share."""
        return self.records[0]

    @property
    def name(self) -> str:
        """bm25-1a2b3c4d5e6f: the method and the first 12 digits of the id, as the record's file is called."""
        return f"{self.first['method']['name']}-{self.first['id'][:12]}"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(record["seed"] for record in self.records)


@dataclass(frozen=True)
class Line:
    """One measure on all queries, or the headline on a part of them. a, b: means; found: None with the reason."""

    name: str
    n: int = 0
    a: float | None = None
    b: float | None = None
    found: stats.Comparison | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Swing:
    """A query on which the sides differ much: its headline on each. cross_view: an item, and the mean of the headline
    over the pairs in which it asks, 0 to 1; what it adds to the macro-mean over pairs weighs pairs otherwise."""

    unit: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Side a against side b. measures: on all queries, the headline among them; parts: the headline on each slice or
    pair; ahead, behind: the largest swings for and against a."""

    a: Side
    b: Side
    measures: tuple[Line, ...]
    parts: tuple[Line, ...]
    ahead: tuple[Swing, ...]
    behind: tuple[Swing, ...]

    @property
    def headline(self) -> Line:
        return next(line for line in self.measures if line.name == self.a.first["task"]["headline"])

    @property
    def apart(self) -> Mapping[str, tuple]:
        """What else than the method and its settings differs: {what: (of a, of b)}, such as board, track or encoder.

        Only what both have: a method that does not train belongs to every board and uses no encoder.
        """
        a, b = self.a.first, self.b.first
        found = {name: (a[name], b[name]) for name in ("numerics", "precision")}
        if a["method"]["trained"] and b["method"]["trained"]:
            found["track"] = a["track"], b["track"]
            found["encoder"] = tuple(r["encoder"]["name"] for r in (a, b))
            found["encoder weights"] = tuple(r["encoder"]["weights_sha256"][:12] for r in (a, b))
            if found["encoder"][0] != found["encoder"][1]:
                del found["encoder weights"]
            if "zero-shot" not in found["track"]:
                found["board"] = a["board"], b["board"]
                settings = sorted({*a["trainer"], *b["trainer"]})
                found |= {f"trainer.{name}": tuple(r["trainer"].get(name) for r in (a, b)) for name in settings}
        return {what: pair for what, pair in found.items() if pair[0] != pair[1]}

    @cached_property
    def tuned(self) -> Mapping[str, tuple]:
        """Those of `apart` that each side has as its method is tuned: no two methods train best alike, so that this is
        the benchmark's design."""
        sides = self.a.first, self.b.first
        return {what: pair for what, pair in self.apart.items() if all(_is_tuned(record, what) for record in sides)}

    @property
    def same(self) -> bool:
        """Whether both sides are the same records: then nothing can differ."""
        return [r["id"] for r in self.a.records] == [r["id"] for r in self.b.records]


def _is_tuned(record: Mapping, what: str) -> bool:
    """Whether a record has a setting of the trainer as its method, if it is there, is tuned for the track."""
    part, _, name = what.partition(".")
    if part != "trainer":
        return False
    from ftbench import method  # heavy, and most comparisons do not come here

    own = record["method"]["name"]
    if own not in method.method_names():
        return False
    try:
        settings = method.trainer_settings(method.load_method(own, track=record["track"]))
    except FtbenchError:
        return False
    return hasattr(settings, name) and getattr(settings, name) == record["trainer"].get(name)


def side(path: Path, all_seeds: bool = False) -> Side:
    """A record as a side; with `all_seeds` also the other seeds of its setting, of the same folder."""
    first = records.read(path)
    found = [(path, first)]
    if all_seeds:
        setting = records.key(first) | {"seed": None}
        for other in sorted(path.parent.glob(f"{first['method']['name']}-*.json")):
            if other == path or records.is_reproduction(other):
                continue
            record = records.read(other)
            if record["status"] == "ok" and records.key(record) | {"seed": None} == setting:
                found.append((other, record))
        found.sort(key=lambda one: one[1]["seed"])
    return Side(tuple(path for path, _ in found), tuple(record for _, record in found))


def problems(a: Mapping, b: Mapping) -> list[str]:
    """Why two records cannot be compared, each in words; [] where they can."""
    found = [f"{r['method']['name']}-{r['id'][:12]} failed: {r['error']}" for r in (a, b) if r["status"] != "ok"]
    for what, name in (("task", "name"), ("data", "name")):
        if a[what][name] != b[what][name]:
            title = {"task": "tasks", "data": "data sets"}[what]
            found.append(f"their {title} are not the same: {a[what][name]} and {b[what][name]}")
    if found:
        return found
    if a["data"]["fingerprint"] != b["data"]["fingerprint"]:
        prints = " and ".join(r["data"]["fingerprint"][:12] for r in (a, b))
        found.append(
            f"{a['data']['name']} was not the same for both: its fingerprints are {prints}. Run the older again"
        )
    if a["task"]["definition_sha256"] != b["task"]["definition_sha256"]:
        found.append(f"the definition of {a['task']['name']} changed between them. Run the older again")
    if sorted(a["pairs"]) != sorted(b["pairs"]):
        apart = sorted(set(a["pairs"]) ^ set(b["pairs"]))
        found.append(f"only one of them entered the pairs {', '.join(apart)}")
    return found


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides, reading their run files. Raises DataError listing why they cannot be compared."""
    if found := problems(a.first, b.first):
        raise several(f"{a.name} and {b.name} cannot be compared", found)
    sides = [_with_runs(one) for one in (a, b)]
    task = a.first["task"]
    headline, pairs = task["headline"], tuple(sorted(a.first["pairs"])) or ("",)
    measures = tuple(_line(name, name, sides, pairs, None) for name in task["measures"])
    parts = [
        _line(headline, name, sides, pairs, frozenset(members)) for name, members in sides[0].runs[0].slices.items()
    ]
    parts += [_line(headline, pair, sides, (pair,), None) for pair in pairs if pair]
    units, values = _own(headline, sides, pairs)
    swings = [Swing(unit, *pair) for unit, pair in zip(units, np.round(values, 12).T.tolist(), strict=True)]
    ahead = sorted((s for s in swings if s.a > s.b), key=lambda s: (s.b - s.a, s.unit))[:SWINGS]
    behind = sorted((s for s in swings if s.a < s.b), key=lambda s: (s.a - s.b, s.unit))[:SWINGS]
    return Comparison(*sides, measures, tuple(parts), tuple(ahead), tuple(behind))


def _with_runs(one: Side) -> Side:
    runs = tuple(records.run_of(path, record) for path, record in zip(one.paths, one.records, strict=True))
    return Side(one.paths, one.records, runs)


def _values(
    measure: str, sides: Sequence[Side], pairs: Sequence[str], keep: frozenset[str] | None
) -> tuple[list[str], np.ndarray]:
    """Units (u), sorted, and values (2, u) of a measure, mean over seeds. keep: a slice, None for all."""
    made, names = [], None
    for one in sides:
        seeds = []
        for run in one.runs:
            parts = [scores.PairScores(run.rankings[pair], (measure,)) for pair in pairs]
            ids, values = scores.units(parts if keep is None else [part.within(keep) for part in parts], measure)
            order = np.argsort(ids)
            found = [ids[i] for i in order]
            if names is not None and found != names:
                raise FtbenchError("the run files do not hold the same queries; nothing can be paired. Run both again.")
            names = found
            seeds.append(values[order])
        made.append(np.mean(seeds, axis=0))
    return names or [], np.stack(made)


def _own(measure: str, sides: Sequence[Side], pairs: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Units (u), sorted, and a measure of each (2, u): mean over the pairs in which it asks, and over seeds."""
    found: dict[str, list[np.ndarray]] = {}
    for pair in pairs:
        ids, values = _values(measure, sides, (pair,), None)
        for unit, own in zip(ids, values.T, strict=True):
            found.setdefault(unit, []).append(own)
    units = sorted(found)
    means = [np.mean(found[unit], axis=0) for unit in units]
    return units, np.array(means).reshape(-1, 2).T


def _line(measure: str, name: str, sides: Sequence[Side], pairs: Sequence[str], keep: frozenset | None) -> Line:
    reasons = [score["reason"] for one in sides for score in [one.first["scores"][measure]] if score["mean"] is None]
    if reasons:
        return Line(name, reason=reasons[0] or "not measured")
    _, values = _values(measure, sides, pairs, keep)
    if not values.shape[1]:
        return Line(name, reason="no query has a relevant item")
    found = stats.compare(values[0], values[1], np.random.default_rng(_SEED))
    a, b = (round(float(own.mean()), DIGITS) for own in values)
    return Line(name, values.shape[1], a, b, found)
