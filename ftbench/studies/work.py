"""Making a study: its cells one by one under its cap, then findings and figures. Must not know what is asked.

In the results folder: studies/NAME/cells/KEY.json as soon as a cell is made; at the end the pictures, studies/NAME/*,
and last studies/NAME.json, which the page shows.
"""

import importlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from ftbench import cells, pool, provenance, record
from ftbench.cells import Cell, Done
from ftbench.encoders.cache import NUMERICS
from ftbench.errors import FtbenchError, RunError, counted
from ftbench.files import write_atomic
from ftbench.method import load_method
from ftbench.studies.base import STYLE, Figure, Study, Timed

_DATA = "studio"  # what --data takes the place of
_DPI = 200
_MOST_HOURS = 3.0


@dataclass(frozen=True)
class Options:
    """What was typed. data: in the place of studio; jobs: runs at a time; full: beyond the cap."""

    results: Path
    data: str = _DATA
    jobs: int = 2
    full: bool = False
    force: bool = False


@dataclass(frozen=True)
class Kept:
    """A cell's file. done: what the outcome gets, None where it failed, with error; seconds: it took; origin: its git
    and environment; stale: whether it is of another form than is asked for now."""

    done: Done | Mapping | None
    error: str | None
    seconds: float
    origin: Mapping
    stale: bool = False


@dataclass
class _Clock:
    """What of a cap is spent: seconds of cells that were found, and since the first was begun."""

    cap: float
    found: float
    started: float = field(default_factory=time.monotonic)
    stopped: bool = False

    def more(self) -> bool:
        """Whether another cell may begin."""
        self.stopped = self.stopped or self.spent >= self.cap
        return not self.stopped

    @property
    def spent(self) -> float:
        return self.found + time.monotonic() - self.started


def listing(study: Study, options: Options) -> list[tuple[str, Sequence[str], str]]:
    """(key, the parts of what it is, state) of every cell; the state is done with its seconds, failed, of earlier code,
    or empty."""
    wanted = _cells(study, options, options.full)
    known = _known(study, options, wanted)
    rows = []
    for cell in wanted:
        state = ""
        if cell.key in known:
            kept = known[cell.key]
            state = f"failed: {kept.error}" if kept.error else f"done, {kept.seconds:.0f} s"
        elif _read(_folder(study, options), cell):
            state = "earlier code"
        rows.append((cell.key, _parts(cell), state))
    return rows


def make(study: Study, options: Options, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Make what is missing of a study and write its findings and figures; the path of its JSON.

    Stops before a cell once the cap is spent. Raises FtbenchError, naming what is missing, where a cell without which
    the study cannot be drawn was not made.
    """
    wanted = _cells(study, options, options.full)
    folder = _folder(study, options)
    record.check_writable(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    known = {} if options.force else _known(study, options, wanted)
    missing = [cell for cell in wanted if cell.key not in known or known[cell.key].error]
    spent = sum(_cost(known[cell.key], cell, options) for cell in wanted if cell not in missing)
    clock = _Clock(float("inf") if options.full else 3600 * study.hours, spent)
    if found := len(wanted) - len(missing):
        tell(f"{found} of {counted(len(wanted), 'cell')} found, {spent / 60:.0f} min of work")
    runs = [cell for cell in missing if isinstance(cell, Cell)]
    made = set(cells.make(folder, runs, options.jobs, options.force, tell, more=clock.more, board=options.results))
    timed = [cell for cell in missing if isinstance(cell, Timed)]
    for place, cell in enumerate(timed, start=1):
        if not clock.more():
            break
        kept = _measure(folder, cell)
        made.add(cell.key)
        tell(f"[{place}/{len(timed)}] {cell.key}: " + (f"failed: {kept.error}" if kept.error else f"{kept.seconds:.0f} s"))  # noqa: E501  # fmt: skip
    now = known.keys() | made  # a file that is of other settings or of an earlier file of the method is no cell
    found = {cell.key: _read(folder, cell) if cell.key in now else None for cell in wanted}
    return _written(study, options, found, clock.stopped, tell)


def redraw(study: Study, options: Options, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Findings and figures again, from the cells as they are kept, whatever changed since."""
    folder = _folder(study, options)
    wanted = _cells(study, options, True)
    known = _known(study, options, wanted)
    found = {}
    for cell in wanted:
        if kept := _read(folder, cell):
            found[cell.key] = replace(kept, stale=cell.key not in known)
    return _written(study, options, found, False, tell)


def _cells(study: Study, options: Options, full: bool) -> list[Cell | Timed]:
    """The cells of a study, those that name studio with --data in its place."""
    found = []
    for cell in study.cells(full):
        if isinstance(cell, Cell):
            cell = replace(cell, request=replace(cell.request, data=_in_the_place_of(cell.request.data, options.data)))
        elif isinstance(cell, Timed) and cell.arguments.get("data") == _DATA:
            cell = replace(cell, arguments={**cell.arguments, "data": options.data})
        found.append(cell)
    twice = [key for key, count in Counter(cell.key for cell in found).items() if count > 1]
    if twice or not 0 < study.hours <= _MOST_HOURS:
        raise FtbenchError(f"study {study.name}: keys {twice} occur twice, or its cap of {study.hours} h is none.")
    return found


def _in_the_place_of(name: str, data: str) -> str:
    """A cell's data set with --data in the place of studio; studio@N-wrong50 keeps what follows N.

    >>> _in_the_place_of("studio", "my-shop"), _in_the_place_of("studio@6500-wrong50", "studio@240")
    ('my-shop', 'studio@240-wrong50')
    """
    if name == _DATA:
        return data
    sized, wanted = (re.fullmatch(rf"({_DATA}(?:-confirm)?)(?:@(\d+)(-.+)?)?", text) for text in (name, data))
    if sized and wanted and wanted[2] and not wanted[3]:
        return f"{sized[1]}@{wanted[2]}{sized[3] or ''}"
    return name


def _folder(study: Study, options: Options) -> Path:
    return options.results / "studies" / study.name / "cells"


def _cost(kept: Kept, cell: Cell | Timed, options: Options) -> float:
    """Seconds of the cap that a found cell stands for: runs were made several at a time, unlike what is timed, and one
    that the board has was none of the study's."""
    if isinstance(cell, Timed):
        return kept.seconds
    return 0.0 if record.find(options.results, kept.origin["id"]) else kept.seconds / options.jobs


def _known(study: Study, options: Options, wanted: Sequence[Cell | Timed]) -> dict[str, Kept]:
    """The cells that were made and of which nothing changed since, failed ones included."""
    folder = _folder(study, options)
    current = set(cells.find(folder, [cell for cell in wanted if isinstance(cell, Cell)]))
    found = {}
    for cell in wanted:
        kept = _read(folder, cell)
        if kept is None:
            continue
        if isinstance(cell, Timed):
            same = kept.error or kept.origin["identity"] == _identity(cell)
        else:
            same = kept.error or cell.key in current
        if same:
            found[cell.key] = kept
    return found


def _read(folder: Path, cell: Cell | Timed) -> Kept | None:
    """A cell's file; None where there is none, or it is damaged."""
    if isinstance(cell, Cell):
        done = cells.read(folder, cell.key)
        if done is None:
            return None
        seconds = done.record["cost"]["total_seconds"] or 0.0
        return Kept(None if done.failed else done, done.record["error"], seconds, done.record)
    try:
        told = json.loads((folder / f"{cell.key}.json").read_text(encoding="utf-8"))
        return Kept(told["values"], told["error"], told["seconds"], told)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _parts(cell: Cell | Timed) -> list[str]:
    """What a cell is: a run's names and settings, without what nobody changed, or a function and its arguments."""
    if isinstance(cell, Timed):
        return [cell.function.rpartition(":")[2], *(f"{name}={value}" for name, value in cell.arguments.items())]
    asked = cell.request
    return [
        asked.method, *([asked.track] if asked.track else []), asked.task, asked.data, f"seed {asked.seed}",
        *(f"{key.removeprefix('trainer.')}={value}" for key, value in asked.settings),
        *(["validation split"] if asked.split == "valid" else []),
    ]  # fmt: skip


# --- timed cells


@cache
def _machine() -> str:
    return provenance.environment(1)["fingerprint"]


def _identity(cell: Timed) -> str:
    """What the numbers of a timed cell depend on, as SHA-256."""
    module = importlib.import_module(cell.function.partition(":")[0])
    method = provenance.source_sha256(load_method(cell.method).path) if cell.method else None
    return record.record_id({
        "function": cell.function, "arguments": dict(cell.arguments), "numerics": NUMERICS, "machine": _machine(),
        "module": provenance.source_sha256(Path(module.__file__)), "method": method,
    })  # fmt: skip


def _called(cell: Timed) -> Mapping:
    """What a timed cell's function gives, threads pinned: for a process of its own."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    module, _, name = cell.function.partition(":")
    with threadpool_limits(limits=1):
        return getattr(importlib.import_module(module), name)(**cell.arguments)


def _measure(folder: Path, cell: Timed) -> Kept:
    """Make a timed cell and keep it, be it as a failure."""
    started = time.monotonic()
    try:
        identity = _identity(cell)
        answer = pool.alone(_called, cell)
        if not isinstance(answer, Exception):
            json.dumps(answer, allow_nan=False)
    except (FtbenchError, TypeError, ValueError) as problem:  # no such method; an answer that is not JSON
        identity, answer = None, problem
    failed = isinstance(answer, Exception)
    told = {
        "key": cell.key, "function": cell.function, "arguments": dict(cell.arguments), "identity": identity,
        "values": None if failed else answer,
        "error": f"{type(answer).__name__}: {answer}" if failed else None,
        "seconds": round(time.monotonic() - started, 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "environment": provenance.environment(1), "git": provenance.git_state(),
    }  # fmt: skip
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1)
    write_atomic(folder / f"{cell.key}.json", (text + "\n").encode())
    return _read(folder, cell)


# --- what is shown


def _written(
    study: Study, options: Options, found: Mapping[str, Kept | None], stopped: bool, tell: Callable[[str], None]
) -> Path:
    """Draw and write a study whose cells are all there; its JSON comes last."""
    needed = [cell.key for cell in _cells(study, options, False)]
    lacking = [key for key in needed if found.get(key) is None]
    if lacking:
        raise _incomplete(study, lacking, len(needed), stopped)
    kept = {key: one for key, one in found.items() if one is not None}
    failed = {key: one.error for key, one in kept.items() if one.error}
    made = study.outcome({key: one.done for key, one in kept.items() if not one.error})
    beyond = set(kept) - set(needed)
    words = ["ftbench study", study.name, *(["--data", options.data] if options.data != _DATA else [])]
    told = [f"Failed and left out: {key}: {error}" for key, error in failed.items()]
    told.append(origin([one.origin for one in kept.values()]))
    if stale := sum(one.stale for one in kept.values()):
        told.append(
            f"The code that made {stale} of these has changed since: ftbench study {study.name} would make them again."
        )
    folder = options.results / "studies" / study.name
    names = set()
    for figure in made.figures:
        for suffix, data in pictures(study.name, figure).items():
            write_atomic(folder / f"{figure.name}{suffix}", data)
            names.add(f"{figure.name}{suffix}")
    page = {
        "title": study.title, "question": study.question, "command": " ".join(words + ["--full"] * bool(beyond)),
        "findings": [*made.findings, *told],
        "figures": [{"file": f"{figure.name}.svg", "caption": figure.caption} for figure in made.figures],
    }  # fmt: skip
    path = folder.with_name(f"{study.name}.json")
    write_atomic(path, (json.dumps(page, ensure_ascii=False, indent=1) + "\n").encode())
    for old in folder.iterdir():
        if old.suffix in (".svg", ".png") and old.name not in names:
            old.unlink()  # a figure of an earlier outcome
    for text in page["findings"]:
        tell(f"- {text}")
    return path


def _incomplete(study: Study, lacking: Sequence[str], needed: int, stopped: bool) -> FtbenchError:
    """An error that says why a study was not drawn and what to type."""
    names = ", ".join(lacking[:12]) + (f" and {len(lacking) - 12} more" if len(lacking) > 12 else "")
    what = f"study {study.name}: {len(lacking)} of {counted(needed, 'cell')} left: {names}."
    if stopped:
        return RunError(
            f"{what}\nIts cap of {study.hours:g} h is spent, so it stopped before the next cell and nothing was drawn. "
            f"What was made is kept; to go on beyond the cap: ftbench study {study.name} --full"
        )
    return RunError(f"{what} Nothing was drawn. To make them: ftbench study {study.name}")


def origin(records: Sequence[Mapping]) -> str:
    """One line on where cells come from: commits, machines, dirty trees. records: each with git and environment."""
    commits = Counter((one["git"]["commit"] or "none")[:10] for one in records)
    machines = Counter(_of_machine(one["environment"]) for one in records)
    dirty = sum(one["git"]["dirty"] is not False for one in records)
    many = len(records)

    def listed(counts: Counter) -> str:
        alone = len(counts) == 1
        return "; ".join(name if alone else f"{name} ({counted(count, 'cell')})" for name, count in counts.items())

    tree = "all on a clean tree" if not dirty else f"{dirty} of them on a tree with changes that are in no commit"
    return f"{counted(many, 'cell')} made at commit {listed(commits)}, on {listed(machines)}; {tree}."


def _of_machine(environment: Mapping) -> str:
    threads = environment["threads"]["torch"]
    processor = environment["gpu"] or environment["cpu"] or "an unknown processor"
    return f"{processor}, {counted(environment['cores'] or 0, 'core')}, {counted(threads or 0, 'thread')}"


def pictures(salt: str, figure: Figure) -> dict[str, bytes]:
    """A figure as {".svg": …, ".png": …}; the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    made = {}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{salt}/{figure.name}"}):
        canvas = Canvas(figsize=figure.size)
        figure.draw(canvas)
        for suffix, settings in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": _DPI})):
            held = io.BytesIO()
            canvas.savefig(held, format=suffix[1:], **settings)
            made[suffix] = held.getvalue()
    return made
