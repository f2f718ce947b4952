"""Searches: the settings that a method declares, tried on the validation split, the same number of times for each.

Successive halving (Jamieson & Talwalkar 2016, algorithm 1) in two rungs: all trials at a quarter of the budget, the
better half of them at half of it, twice as much. Not from an eighth: what a method spends before its first step may be
at most half of a run's budget, and the bank of `factorized_transport_cached` costs 33,173 forward-equivalents on studio
(33,131 images and 11,040 texts of 4,000 items, a text being 1/261 of an image), more than half of 43,750 (an eighth of
350,000) and less than half of 87,500. What runs without a budget has one rung.

Trial 1 is the defaults as they were before any search, and it enters the last rung whatever came before, so that the
gain over it is measured at one budget. Gain and choice come from the same queries: the gain is of the best of several,
and says less than a test split would. Must not know pages.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ftbench import cells, metrics, provenance, record, runner, stats
from ftbench.catalogue import cache_folder
from ftbench.cells import Cell, Done
from ftbench.errors import FtbenchError, RunError, counted
from ftbench.files import write_atomic
from ftbench.method import Method
from ftbench.request import DEFAULT_METHODS, Named, Request, check, device_of, enters
from ftbench.runner import Session
from ftbench.settings import default_settings

FOLDER = "tuning"  # of a results folder
SHARES = (1 / 4, 1 / 2)  # of the budget, a rung each
TRIALS = 8
_SEED = 20250103  # of the bootstrap and the random signs; any constant would do
_RESERVED = "studio-confirm"
_BUDGETS = ("trainer.budget", "trainer.steps")  # what a rung has a share of


@dataclass(frozen=True)
class Asked:
    """A search as a person asked for it. fixed: settings that every trial has, as typed."""

    method: str
    task: str
    data: str = "studio"
    trials: int = TRIALS
    fixed: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> str:
        """The command that makes this search again."""
        words = ["ftbench tune", "--method", self.method, "--task", self.task, "--data", self.data]
        words += ["--trials", str(self.trials)]
        return " ".join(words + [word for key, value in self.fixed for word in ("--set", f"{key}={value}")])


@dataclass(frozen=True)
class Found:
    """A finished search. told: as its file has it; again: whether it was found, not made."""

    told: Mapping
    path: Path
    again: bool


@dataclass(frozen=True)
class _Plan:
    """A search checked, before any data is opened. trials: the settings of each, the defaults first; rungs: the
    settings that stand for each one's budget, with its share."""

    asked: Asked
    named: Named
    space: Mapping[str, tuple]
    trials: tuple[Mapping[str, object], ...]
    rungs: tuple[tuple[float, Mapping[str, object]], ...]

    def request(self, trial: int, rung: int) -> Request:
        asked = self.asked
        settings = dict(asked.fixed) | {
            key: typed(value) for key, value in (self.trials[trial] | self.rungs[rung][1]).items()
        }
        return Request(asked.method, asked.task, asked.data, settings=tuple(settings.items()), split="valid")


def asked(methods: Sequence[str], tasks: Sequence[str], data: Sequence[str], common: Asked) -> list[Asked]:
    """One search per method, task and data set, all checked. The method `default` stands for those of the board that
    declare a space for the task's track and can enter it. Raises FtbenchError with everything that is wrong."""
    found, wrong = [], {}
    for name in data:
        for task in tasks:
            for method in dict.fromkeys(one for given in methods for one in _expanded(given, task, name)):
                one = Asked(method, task, name, common.trials, common.fixed)
                try:
                    plan(one)
                except FtbenchError as problem:
                    wrong[str(problem)] = None
                found.append(one)
    if wrong:
        raise FtbenchError("\n".join(wrong))
    return list(dict.fromkeys(found))


def _expanded(method: str, task: str, data: str) -> list[str]:
    if method != "default":
        return [method]
    named = {name: check(Request(name, task, data)) for name in DEFAULT_METHODS}
    return [name for name, one in named.items() if enters(one.method, one.task.kind) and one.track in one.method.space]


def plan(one: Asked) -> _Plan:
    """Check a search and draw its trials. Raises FtbenchError."""
    if one.data.partition("@")[0] == _RESERVED:
        raise RunError(f"{one.data} confirms what was tuned, and no search may see it. Type: --data studio")
    named = check(Request(one.method, one.task, one.data, settings=one.fixed, split="valid"))
    method, track = named.method, named.track
    space = {key: tuple(dict.fromkeys(values)) for key, values in method.space.get(track, {}).items()}
    if not space:
        known = ", ".join(method.space) or "none"
        raise RunError(
            f"{one.method} declares no settings to search on the {track} track (tracks that it does: {known}). "
            f'In its file: space = {{"{track}": {{"KEY": (VALUE, VALUE)}}}}'
        )
    if one.trials < 2:
        raise RunError(f"--trials {one.trials} given, expected at least 2: the defaults, and another to compare with.")
    if both := sorted(set(space) & dict(one.fixed).keys()):
        raise RunError(f"--set {both[0]}: {one.method} searches this setting. Name one that it does not search.")
    wrong = sorted(set(space) & set(_BUDGETS))
    if wrong:
        raise RunError(f"the space of {one.method} has {wrong[0]}: a search shares out the budget, and cannot try any.")
    start = defaults(method, track, [*space, *method.tuned.get(track, {})])
    rungs = ((1.0, {}),)
    if method.trained:
        full = named.config
        rungs = tuple((s, dict(zip(_BUDGETS, (s * full.budget, max(1, round(s * full.steps))), strict=True)))
                      for s in SHARES)  # fmt: skip
    drawn = draw(space, start, one.trials, f"{method.name} {named.task.name}")
    return _Plan(one, named, space, drawn, rungs)


def defaults(method: Method, track: str, keys: Sequence[str]) -> dict[str, object]:
    """The values of settings as they were before any search. Raises RunError for what is no setting."""
    known = {f"trainer.{key}": value for key, value in vars(default_settings(track)).items()}
    known |= vars(type(method).Config())
    if missing := [key for key in keys if key not in known]:
        raise RunError(f"the space of {method.name} has {missing[0]}, which is no setting. Known: {', '.join(known)}.")
    return {key: known[key] for key in keys}


def draw(space: Mapping[str, tuple], start: Mapping[str, object], count: int, key: str) -> tuple[dict, ...]:
    """`start`, then distinct others of the space at random, `count` in all; fewer where the space has no more.

    key: what the draws depend on besides the space; the bits are Philox's own (Salmon et al. 2011), which no release of
    a library changes.
    """
    digest = hashlib.sha256(key.encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    total = configurations(space)
    others = total - all(start[name] in values for name, values in space.items())
    found = [dict(start)]
    while len(found) < min(count, 1 + others):
        number, one = int(bits.random_raw()) % total, dict(start)
        for name, values in space.items():
            number, place = divmod(number, len(values))
            one[name] = values[place]
        if one not in found:
            found.append(one)
    return tuple(found)


def configurations(space: Mapping[str, tuple]) -> int:
    """How many there are of a space."""
    return math.prod(map(len, space.values()))


def typed(value: object) -> str:
    """A setting as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def run(
    one: Asked, session: Session, jobs: int = 1, force: bool = False, tell: Callable[[str], None] = lambda line: None
) -> Found:
    """Make a search, or find it where nothing that it depends on has changed; what of it was made before is kept.

    tell: shows a line per trial. A trial that fails ranks last. Raises FtbenchError, and RunError where all fail.
    """
    planned = plan(one)
    opened = runner.plan(planned.request(0, 0), session)
    _check_scored(planned, opened)
    results = session.folder(opened.catalogue)
    record.check_writable(results)
    inside = Path(FOLDER, opened.catalogue.name, planned.named.task.name.removesuffix("-valid"), opened.method.name)
    path, known = results / inside.with_name(f"{inside.name}.json"), None
    key = _key(planned, opened)
    identity = record.record_id(key)
    if path.is_file() and not force:
        known = _read(path)
        if known.get("id") == identity:
            return Found(known, path, True)
    if len(planned.trials) < one.trials:
        tell(f"{one.method}: its space has no more than {len(planned.trials)} configurations, the defaults among them.")
    made = _climb(planned, cache_folder() / inside, Session(None, session.progress, session.source), jobs, force, tell)
    told = _told(planned, opened, made) | {"id": identity}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return Found(told, path, False)


def _check_scored(planned: _Plan, opened) -> None:
    """Raise RunError where the headline of the validation split cannot be had."""
    task = planned.named.task
    missing = {pair.name for pair in task.pairs} - {trial.pair for trial in opened.trials}
    reasons = [f"{planned.asked.method} cannot enter {', '.join(sorted(missing))}"] if missing else []
    reasons += filter(None, (metrics.unavailable(task.headline, len(trial.item_ids)) for trial in opened.trials))
    if reasons or not opened.trials:
        why = reasons[0] if reasons else "the method cannot enter any part of it"
        raise RunError(f"{task.headline} cannot be had on {task.name}, {planned.asked.data}: {why}. Name another task.")


def _read(path: Path) -> Mapping:
    """A search's file; {} for one that is damaged."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _key(planned: _Plan, opened) -> dict:
    """What the numbers of a search depend on. Of the method's file all but `tuned`, which comes from searches."""
    method, encoder = opened.method, opened.encoder
    return {
        "task": opened.task.definition_sha256,
        "data": opened.catalogue.fingerprint,
        "method": provenance.source_sha256(method.path, tuned=False),
        "parts": {part.name: provenance.source_sha256(part.path) for part in method.parts},
        "encoder": [encoder.name, encoder.weights] if encoder else None,
        "track": opened.track,
        "fixed": dict(planned.asked.fixed),
        "trials": [dict(settings) for settings in planned.trials],
        "rungs": [dict(budget) for _, budget in planned.rungs],
        "numerics": record.NUMERICS,
    }


def _climb(
    planned: _Plan, folder: Path, session: Session, jobs: int, force: bool, tell: Callable[[str], None]
) -> list[dict[int, Done | None]]:
    """What each trial did at each rung that it reached; None where its process died."""
    made: list[dict[int, Done | None]] = []
    entered = list(range(len(planned.trials)))
    for rung, (share, _) in enumerate(planned.rungs):
        if len(planned.rungs) > 1:
            tell(f"{planned.asked.method}: {counted(len(entered), 'trial')} at {share:g} of the budget")
        wanted = {trial: f"{rung + 1}-{trial + 1:03d}" for trial in entered}
        done = cells.make(folder, [Cell(name, planned.request(trial, rung)) for trial, name in wanted.items()],
                          jobs, force, tell, session.source)  # fmt: skip
        made.append({trial: done.get(name) for trial, name in wanted.items()})
        order = best_first(made[-1])
        if not order:
            errors = list(dict.fromkeys(_error(one) for one in made[-1].values()))
            raise RunError(f"all trials of {planned.asked.method} failed:\n" + "\n".join(errors[:3]))
        entered = sorted({0, *order[: -(-len(entered) // 2)]})
    return made


def best_first(made: Mapping[int, Done | None]) -> list[int]:
    """The trials that did not fail, by score; of equals the first, so that the defaults stay where none is better."""
    fine = [trial for trial, one in made.items() if one is not None and not one.failed]
    return sorted(fine, key=lambda trial: (-made[trial].score, trial))


def _error(one: Done | None) -> str:
    return "its process was ended by the system" if one is None else str(one.record["error"])


def _told(planned: _Plan, opened, made: Sequence[Mapping[int, Done | None]]) -> dict:
    """A search as its file has it, all but the id."""
    method, task, catalogue, encoder = opened.method, opened.task, opened.catalogue, opened.encoder
    return {
        "schema_version": 1,
        "command": planned.asked.command,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "method": {
            "name": method.name,
            "title": provenance.method_title(method.path),
            "sha256": provenance.source_sha256(method.path),
            "untuned_sha256": provenance.source_sha256(method.path, tuned=False),
        },
        "task": {
            "name": task.name.removesuffix("-valid"),
            "title": task.title.removesuffix(" (validation split)"),
            "headline": task.headline,
            "split": task.split,
            "definition_sha256": task.definition_sha256,
        },
        "data": {"name": catalogue.name, "version": catalogue.info.version, "fingerprint": catalogue.fingerprint},
        "track": opened.track,
        "encoder": {"name": encoder.name, "weights_sha256": encoder.weights} if encoder else None,
        "seed": 0,
        "numerics": record.NUMERICS,
        "fixed": dict(planned.asked.fixed),
        "space": {key: list(values) for key, values in planned.space.items()},
        "rungs": [
            {"share": share, "budget": budget.get("trainer.budget"), "steps": budget.get("trainer.steps"),
             "trials": len(done)}
            for (share, budget), done in zip(planned.rungs, made, strict=True)
        ],
        "trials": [_trial(settings, [done[trial] for done in made if trial in done], len(made))
                   for trial, settings in enumerate(planned.trials)],
        "chosen": _chosen(planned, made[-1]),
        "environment": provenance.environment(opened.config.threads, device_of("auto").type),
        "git": provenance.git_state(),
    }  # fmt: skip


def _trial(settings: Mapping, reached: Sequence[Done | None], rungs: int) -> dict:
    """What became of one trial. scores: one per rung, null where it did not come so far or failed."""
    scores = [None if one is None or one.failed else one.score for one in reached]
    costs = [one.record["cost"] for one in reached if one is not None and not one.failed]
    spent = [cost["forward_equivalents"] for cost in costs if cost["forward_equivalents"] is not None]
    errors = [_error(one) for one in reached if one is None or one.failed]
    return {
        "settings": dict(settings),
        "scores": scores + [None] * (rungs - len(scores)),
        "seconds": round(sum(cost["total_seconds"] for cost in costs), 1),
        "forward_equivalents": round(sum(spent), 1) if spent else None,
        "error": errors[-1][:500] if errors else None,
    }


def _chosen(planned: _Plan, last: Mapping[int, Done | None]) -> dict:
    """The best trial of the last rung, and its gain over the defaults there: null where it is the defaults, or they
    failed. settings: those that are not the defaults'."""
    best = best_first(last)[0]
    start, gain = planned.trials[0], dict.fromkeys(("difference", "low", "high", "p"))
    default = last[0] if last[0] is not None and not last[0].failed else None
    if best and default:
        found = stats.compare(last[best].values, default.values, np.random.default_rng(_SEED))
        gain = {name: round(getattr(found, name), 9) for name in gain}
    own = {key: value for key, value in planned.trials[best].items() if value != start[key]}
    score = default.score if default else None
    return {"trial": best + 1, "settings": own, "score": last[best].score, "default": score} | gain


# --- what a terminal shows


def rows(told: Mapping) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a search's closing table: trial, settings, a score per rung, seconds."""
    rungs = [f"{rung['share']:g} of budget" if rung["budget"] is not None else told["task"]["headline"]
             for rung in told["rungs"]]  # fmt: skip
    lines = []
    for number, trial in enumerate(told["trials"], start=1):
        mark = " *" if number == told["chosen"]["trial"] else ""
        scores = ["—" if score is None else f"{score:.4f}" for score in trial["scores"]]
        text = "  ".join(f"{key}={typed(value)}" for key, value in trial["settings"].items())
        shown = f"{text}  failed: {trial['error']}" if trial["error"] else text
        lines.append([f"{number}{mark}", shown, *scores, f"{trial['seconds']:.0f}"])
    return ["trial", "settings", *rungs, "seconds"], lines


def outcome(told: Mapping) -> str:
    """What a search found, in a line."""
    chosen = told["chosen"]
    if chosen["trial"] == 1:
        return "Trial 1, the defaults, stays: no other was better."
    if chosen["difference"] is None:
        return f"* Trial {chosen['trial']} is chosen; the defaults failed."
    return (
        f"* Trial {chosen['trial']} is chosen: {chosen['difference']:+.4f} over the defaults, 95% interval "
        f"{chosen['low']:+.4f} to {chosen['high']:+.4f}, p = {chosen['p']:.3g}"
    )


def tuned(searches: Sequence[Mapping]) -> str:
    """The line of a method's file that holds what its searches chose, by track."""

    def shown(value: object) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f'"{key}": {shown(inner)}' for key, inner in value.items()) + "}"
        return f'"{value}"' if isinstance(value, str) else repr(value)

    chosen = {told["track"]: told["chosen"]["settings"] for told in searches}
    return f"tuned = {shown({track: settings for track, settings in chosen.items() if settings})}"
