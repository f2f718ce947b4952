"""Runs that are not for the board: the cells of a study and the trials of a search, each kept as soon as it is made.

A cell's file has its record and the headline's value of each query or item that asks, so that cells can be compared in
pairs; there is no run file. A cell is made again where its id has changed: its method, its settings, its data. Must not
know what is asked of cells.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ftbench import metrics, pool, record, runner
from ftbench.errors import FtbenchError, MethodError, duration
from ftbench.files import write_atomic
from ftbench.plan import Session, worker_session
from ftbench.request import Request
from ftbench.runfile import Run
from ftbench.scores import Units


@dataclass(frozen=True)
class Cell:
    """A run, named by its key (letters, digits, - and _) within a study or search.

    also: further measures (recall@500) whose values are kept beside the headline's; of one pair of views alone where it
    is named before them (auxiliary_image-item:recall@10).
    """

    key: str
    request: Request
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """A cell that was made or found. record: without a run file; status "error" where it failed. values: (u,) float64
    whose mean is the headline, a value for each query or, of several pairs, for each item that asks (`scores.Units`),
    in the order of the data set. also: the same of the cell's further measures."""

    key: str
    record: Mapping
    values: np.ndarray
    also: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The headline's mean; None of a failed run."""
        return self.record["scores"][self.record["task"]["headline"]]["mean"] if self.record["scores"] else None

    @property
    def failed(self) -> bool:
        return self.record["status"] != "ok"


def make(
    folder: Path,
    cells: Sequence[Cell],
    jobs: int = 1,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    source: Path | None = None,
    more: Callable[[], bool] = lambda: True,
    board: Path | None = None,
) -> dict[str, Done]:
    """All cells by key: found in `folder` where they are finished, else made, `jobs` at a time, and written there.

    board: a results folder; a cell that is a finished run of it is taken from there. tell: shows a line per cell.
    more: asked before a cell is begun; once it says False the rest is left out. A cell that fails is kept with its
    error and does not stop the others; it is tried again the next time. Raises FtbenchError for requests that name what
    does not exist, before any run.
    """
    from ftbench.request import check

    wrong = {}
    for cell in cells:
        try:
            check(cell.request)
        except MethodError:
            continue  # this cell fails, not the others
        except FtbenchError as problem:
            wrong[str(problem)] = None
    if wrong:
        raise FtbenchError("\n".join(wrong))
    folder.mkdir(parents=True, exist_ok=True)
    if jobs > 1:  # data that is not there is prepared now, or several processes would each begin to
        for data in dict.fromkeys(cell.request.data for cell in cells):
            with suppress(Exception):  # its cells fail, and say why
                worker_session(source).catalogue(data)
    made, started, new = {}, time.monotonic(), 0
    work = partial(_make, folder, None if force else board, force, source)
    with closing(pool.each(work, cells, jobs, more)) as answers:
        for place, answer in answers:
            cell = cells[place]
            if isinstance(answer, Exception):  # its process died
                answer = _kept(folder, cell, runner.failed(cell.request, worker_session(source), answer), {}), False
            done, found = answer
            made[cell.key] = done
            new += not found
            left = (time.monotonic() - started) / max(new, 1) * (len(cells) - len(made))
            shown = f"failed: {done.record['error']}" if done.failed else "no score"
            if done.score is not None:
                shown = f"{done.score:.4f}"
            rest = f", about {duration(left)} left" if new and len(made) < len(cells) else ""
            tell(f"[{len(made)}/{len(cells)}] {cell.key}: {shown}{' (found)' if found else ''}{rest}")
    return {cell.key: made[cell.key] for cell in cells if cell.key in made}


def find(folder: Path, cells: Sequence[Cell], source: Path | None = None) -> dict[str, Done]:
    """The cells that need not be made: finished, and nothing of them changed since. By key."""
    session = worker_session(source)
    known = {cell.key: (cell, read(folder, cell.key)) for cell in cells}
    return {key: done for key, (cell, done) in known.items() if _finished(cell, done, session)}


def _finished(cell: Cell, known: Done | None, session: Session) -> bool:
    """Whether a cell that was kept is what was asked for, and nothing of it changed since."""
    if known is None or known.failed or not set(cell.also) <= set(known.also):
        return False
    return known.record["id"] == runner.identity(cell.request, session)


def read(folder: Path, key: str) -> Done | None:
    """A cell that was made, or None. A file that is damaged counts as none."""
    path = folder / f"{key}.json"
    try:
        return _done(key, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make(folder: Path, board: Path | None, force: bool, source: Path | None, cell: Cell) -> tuple[Done, bool]:
    session = worker_session(source)
    known = read(folder, cell.key)
    try:
        if not force and _finished(cell, known, session):
            return known, True
        found = _of_board(board, cell, session)
        made, ranked = found or runner.measured(cell.request, session)
        values = {name: _values(ranked, name) for name in (made["task"]["headline"], *cell.also)}
    except Exception as problem:
        found, made, values = None, runner.failed(cell.request, session, problem), {}
    return _kept(folder, cell, made, values), found is not None


def _of_board(board: Path | None, cell: Cell, session: Session) -> tuple[dict, Run] | None:
    """A cell's run where the board has it: its record, all but the run file, and what it ranked."""
    found = record.find(board, runner.identity(cell.request, session)) if board else None
    if found is None:
        return None
    path, made = found
    return {name: value for name, value in made.items() if name != "run_file"}, record.run_of(path, made)


def _kept(folder: Path, cell: Cell, made: Mapping, values: Mapping) -> Done:
    """A cell as it is written; values: by measure, a list with a number for each unit."""
    headline = made["task"]["headline"]
    also = {name: values[name] for name in cell.also if name in values}
    told = {"record": made, "values": values.get(headline, [])} | ({"also": also} if also else {})
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_atomic(folder / f"{cell.key}.json", (text + "\n").encode())
    return _done(cell.key, json.loads(text))


def _values(ranked: Run, measure: str) -> list[float]:
    """A measure of each unit, to six decimals."""
    pair, _, name = measure.rpartition(":")
    rankings = {pair: ranked.rankings[pair]} if pair else ranked.rankings
    parts = {pair: metrics.evaluate(own, [name])[name] for pair, own in rankings.items()}
    asked = [(ranked.rankings[pair].query_ids, ~np.isnan(own)) for pair, own in parts.items()]
    return [round(float(value), 6) for value in Units.of(asked).values(list(parts.values()))]


def _done(key: str, told: Mapping) -> Done:
    also = {measure: np.array(values, dtype=np.float64) for measure, values in told.get("also", {}).items()}
    return Done(key, told["record"], np.array(told["values"], dtype=np.float64), also)
