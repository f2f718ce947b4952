"""Many runs for the board: one after the other or several at a time, with progress over all of them, and what failed.

Records are written by one process alone, whatever made the runs. Must not know the terminal.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ftbench import pool, runner
from ftbench.errors import FtbenchError, MethodError, RunError, SettingsError, duration
from ftbench.items import Progress
from ftbench.plan import PRIVATE_RESULTS, Session, plan, worker_session
from ftbench.request import Request, check
from ftbench.runner import Attempt, Outcome


@dataclass(frozen=True)
class Suite:
    """Where runs are made and how. results: the folder of records, as of a Session. progress, tell: show a stage and a
    line. jobs: how many runs are made at a time, each in a process of its own where there are several."""

    results: Path | None
    progress: Callable[[str], Progress]
    tell: Callable[[str], None]
    source: Path | None = None
    force: bool = False
    jobs: int = 1


@dataclass
class _State:
    """How far a suite is. seconds: of each run that was made, not found."""

    requests: Sequence[Request]
    jobs: int
    ended: int = 0
    seconds: list[float] = field(default_factory=list)

    def line(self, outcome: Outcome, seconds: float | None) -> str:
        """`[12/127] method · task · data · seed 1: 0.7312, 41 s; about 52 min left`."""
        self.ended += 1
        if seconds is not None and outcome.record:
            self.seconds.append(seconds)
        score = outcome.record and not outcome.problem and outcome.record["scores"][outcome.record["task"]["headline"]]
        # the problem of a single run is said once, as the error that the command ends with
        shown = outcome.skipped
        if outcome.problem:
            shown = f"failed: {outcome.problem}" if len(self.requests) > 1 else "failed"
        if score:
            shown = "no score" if score["mean"] is None else f"{score['mean']:.4f}"
            shown += ", found" if seconds is None else f", {seconds:.0f} s"
        left = len(self.requests) - self.ended
        if left and self.seconds:
            wait = sum(self.seconds) / len(self.seconds) * left / min(self.jobs, left)
            shown += f"; about {duration(wait)} left"
        return f"[{self.ended}/{len(self.requests)}] {outcome.request.label}: {shown}"


def make(requests: Sequence[Request], suite: Suite) -> list[Outcome]:
    """All runs, in the order of the requests: found where they are finished, else made and written at once.

    A run that fails is a record with `error`, its Outcome has the problem, and the others go on. So does one whose
    method cannot be loaded or does not take its settings. Raises FtbenchError before any run for what a person typed
    wrong: names that do not exist, and settings that none of the methods takes.
    """
    broken = _checked(requests)
    state, outcomes = _State(requests, suite.jobs), {}
    session = Session(suite.results, suite.progress, suite.source, suite.force, suite.tell)

    def done(place: int, outcome: Outcome, seconds: float | None = None) -> None:
        outcomes[place] = replace(outcome, request=_named(requests[place], outcome.request))
        suite.tell(state.line(replace(outcome, request=requests[place]), seconds))

    for place, problem in broken.items():
        done(place, _failed(requests[place], session, problem))
    waiting = [place for place in range(len(requests)) if place not in broken]
    if suite.jobs > 1:
        waiting, twins = _settled(requests, waiting, session, done)
        work = partial(_made, suite.source)
        with closing(pool.each(work, [requests[place] for place in waiting], suite.jobs)) as answers:
            for i, answer in answers:
                place = waiting[i]
                done(place, *_kept(requests[place], session, answer))
        waiting = twins  # other words for runs that are finished now
    for place in waiting:
        started, request = time.monotonic(), requests[place]
        title = f"[{place + 1}/{len(requests)}] {request.label}, "
        session.progress = (lambda stage, title=title: suite.progress(title + stage)) if len(requests) > 1 else suite.progress  # noqa: E501  # fmt: skip
        try:
            found = runner.finished(request, session)
            outcome = found or runner.keep(runner.attempt(request, session), session)
        except FtbenchError as problem:
            found, outcome = None, Outcome(request, None, None, problem=problem)
        done(place, outcome, None if found else time.monotonic() - started)
    return [outcomes[place] for place in range(len(requests))]


def _checked(requests: Sequence[Request]) -> dict[int, FtbenchError]:
    """By place, the requests whose method or settings cannot be used. Raises FtbenchError for all other mistakes."""
    broken, settings, wrong = {}, {}, {}
    for place, request in enumerate(requests):
        try:
            check(request)
        except MethodError as problem:
            broken[place] = problem
        except SettingsError as problem:
            settings[place] = problem
        except FtbenchError as problem:
            wrong[str(problem)] = None
    if settings and len(settings) + len(broken) == len(requests):
        wrong |= dict.fromkeys(map(str, settings.values()))
    if wrong:
        raise FtbenchError("\n".join(wrong))
    return broken | settings


def _named(asked: Request, made: Request) -> Request:
    """The request of an outcome: as it was made, with the seed and the encoder that were used."""
    return replace(asked, seed=made.seed, encoder=made.encoder)


def _failed(request: Request, session: Session, problem: Exception) -> Outcome:
    """A run that ended before it had a record of its own: the record is made here."""
    own = problem if isinstance(problem, FtbenchError) else RunError(f"{type(problem).__name__}: {problem}")
    try:
        made = runner.failed(request, session, problem)
    except FtbenchError:  # nothing is known that a record could hold
        return Outcome(request, None, None, problem=own)
    return runner.keep(Attempt(request, made, problem=own), session)


def _settled(requests: Sequence[Request], places: Sequence[int], session: Session, done: Callable):
    """Those of the places that are still to be made, and those which another of them makes, too.

    All data sets are prepared on the way, and what locked encoders see is computed, so that no two processes do it.
    """
    by_id, twins = {}, []
    for place in places:
        request = requests[place]
        try:
            found = runner.finished(request, session)
            identity = runner.identity(request, session)
        except FtbenchError as problem:
            done(place, Outcome(request, None, None, problem=problem))
            continue
        if found:
            done(place, found)
        elif identity in by_id:
            twins.append(place)
        else:
            by_id[identity] = place
    _warm([requests[place] for place in by_id.values()], session)
    return list(by_id.values()), twins


def _warm(requests: Sequence[Request], session: Session) -> None:
    """Let locked encoders see all pictures once: their outputs are kept, and no two processes compute them."""
    seen = set()
    for request in requests:
        planned = plan(request, session)
        about = request.data, planned.encoder and planned.encoder.name
        if planned.encoder and planned.encoder.locked and about not in seen:
            planned.encoder.image_inputs(planned.catalogue.assets, session.progress("Reading features"))
        seen.add(about)


def _made(source: Path | None, request: Request) -> tuple[Attempt, float]:
    """A run in a process of its own: nothing of it is written here."""
    started = time.monotonic()
    return runner.attempt(request, worker_session(source)), time.monotonic() - started


def _kept(request: Request, session: Session, answer: object) -> tuple[Outcome, float | None]:
    """A worker's answer as an outcome whose record is written, and its seconds."""
    if isinstance(answer, BaseException):
        return _failed(request, session, answer), None
    made, seconds = answer
    for line in (made.record or {}).get("training", {}).get("adaptations", ()):
        session.tell(f"{request.label}: {line}")
    return runner.keep(made, session), seconds


# --- what is said of it


def one_seed(requests: Sequence[Request], seeds: Sequence[int]) -> list[str]:
    """Which of the methods get one run though several seeds were named, a line each."""
    made: dict[tuple, set[int]] = {}
    for request in requests:
        made.setdefault((request.method, request.track), set()).add(request.seed)
    several = len(set(seeds)) > 1
    alone = [f"{method}{f' ({track})' if track else ''}" for (method, track), own in made.items() if len(own) == 1]
    return [f"{name}: a seed changes nothing of it, so that one run suffices." for name in alone if several]


def tables(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str], list[list[str]]]]:
    """A table per task and data set, (title, columns, rows): scores with intervals, seconds and which record."""
    found: dict[tuple, list[Outcome]] = {}
    for outcome in outcomes:
        request = outcome.request
        split = ", validation split" if request.split == "valid" else ""
        board = "" if request.board == "equal-compute" else f", {request.board.replace('-', ' ')}"
        found.setdefault((request.task, request.data, split + board), []).append(outcome)
    made = []
    for (task, data, how), own in found.items():
        headlines = dict.fromkeys(o.record["task"]["headline"] for o in own if o.record)
        columns = ["method", "seed", " ".join(headlines) or "score", "95% interval", "seconds", "record"]
        made.append((f"{task} on {data}{how}", columns, [_row(outcome) for outcome in own]))
    return made


def _row(outcome: Outcome) -> list[str]:
    name, record = outcome.request.label.partition(" · ")[0], outcome.record
    if record is None:
        return [name, "", "failed" if outcome.problem else "—", "", "—", "—"]
    short = outcome.path.stem.removeprefix(f"{record['method']['name']}-")
    if outcome.problem:
        return [name, str(outcome.request.seed), "failed", "", "—", short]
    score = record["scores"][record["task"]["headline"]]
    shown = "—" if score["mean"] is None else f"{score['mean']:.3f}"
    interval = "" if score["low"] is None else f"{score['low']:.3f}–{score['high']:.3f}"
    seconds = f"{record['cost']['total_seconds']:.1f}" + (" *" if outcome.skipped else "")
    return [name, str(outcome.request.seed), shown, interval, seconds, short]


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Where records are, and what the tables do not say, a line each."""
    paths, made = [outcome.path for outcome in outcomes if outcome.path], []
    if len(paths) == 1:
        made.append(f"Record: {paths[0]}")
    elif paths:
        made.append(f"Records: {paths[0].parents[2] / 'DATA' / 'TASK' / 'METHOD-RECORD.json'}")
    if any(PRIVATE_RESULTS.name in path.parts for path in paths):
        made.append("The page of them: ftbench report --results private-results --site private-site")
    if any(outcome.skipped and outcome.record for outcome in outcomes):
        made.append("* finished before and found by its id; --force runs it again.")
    skipped = [o for o in outcomes if o.record is None and o.skipped]
    return made + list(dict.fromkeys(f"{o.request.label.partition(' · ')[0]}: {o.skipped}." for o in skipped))


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise RunError naming all runs that failed, each with its problem and its record; tracebacks are its notes."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    if not failed:
        return
    told = [f"{o.request.label}: {o.problem}" + (f"\nIts record: {o.path}" if o.path else "") for o in failed]
    head = [f"{len(failed)} of {len(outcomes)} runs failed:"] if len(outcomes) > 1 else []
    raised = RunError("\n".join([*head, *told]))
    for outcome in failed:
        raised.add_note("".join(traceback.format_exception(outcome.problem)))
    raise raised
