"""All pages of a site from a results folder: gathers the board once, asks each kind of page for its files, writes them.

Must not know how records are made. The same records give the same bytes; files of an earlier rendering that this one no
longer has are removed, other files of the folder are left alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path

from ftbench import __version__, citation, release
from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.items import Progress
from ftbench.report import beside
from ftbench.report.aggregate import Entry, Table, load, tables
from ftbench.report.html import NAV, Page, environment

MADE = ".ftbench-site.json"  # lists the files of the last rendering


@dataclass(frozen=True)
class Board:
    """What pages are made of. release: the board version that is shown, None for the records as they are. site: the
    folder of the pages, whose figures are kept while they show the same; None where all are to be made."""

    results: Path
    entries: tuple[Entry, ...]
    tables: tuple[Table, ...]
    facts: Mapping
    release: str | None = None
    site: Path | None = None


def render(
    results: Path, site: Path, progress: Progress, warn: Callable[[str], None], version: str | None = None
) -> Path:
    """Write the site; see `ftbench.report.render`. Returns the path of `index.html`."""
    board = replace(gather(results, progress, version), site=site)
    for problem in dict.fromkeys([text for table in board.tables for text in table.runs_missing] + problems(board)):
        warn(problem)
    try:
        site.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make the folder {site}: {problem.strerror}. Name another: --site DIR") from None
    kinds = pages(board)
    runs = beside.begun(partial(_write, site, kinds.pop("runs", ())))  # by far the most pages
    made = _write(site, chain.from_iterable(kinds.values()))
    _sweep(site, made + runs())
    return site / "index.html"


def gather(results: Path, progress: Progress, version: str | None = None) -> Board:
    """The board of a results folder as it is, or of a release of it."""
    entries = load(results, version)
    found = tuple(tables(entries, progress))
    wrong = {entry.path for table in found for entry in table.left_out}
    entries = [entry for entry in entries if entry.path not in wrong]
    facts = _facts(entries, found) | {"release": version, "changes": release.changes(results, version)}
    return Board(Path(results), tuple(entries), found, facts, version)


def problems(board: Board) -> list[str]:
    """What of the results folder is not shown though it is there, in words."""
    from ftbench.report import gallery

    return gallery.problems(board)


def pages(board: Board) -> dict[str, Iterator[Page]]:
    """All files of the site by their kind, made as they are asked for. Each kind has a module with `exists(board)` and
    `pages(board, nav)`."""
    from ftbench.report import board as board_page
    from ftbench.report import cite, compare, data, figures, gallery, methods, runs, studies

    kinds = {
        "index.html": board_page, "compare.html": compare, "gallery.html": gallery, "studies.html": studies,
        "data.html": data, "methods.html": methods, "cite.html": cite, "runs": runs, "figures": figures,
    }  # fmt: skip
    shown = {kind: module for kind, module in kinds.items() if module.exists(board)}
    nav = tuple((file, title) for file, title in NAV if file in shown)
    style = environment().get_template("site.css.j2").render()
    made = {kind: module.pages(board, nav) for kind, module in shown.items()}
    return made | {"assets": iter([Page("assets/site.css", style.encode())])}


def _write(site: Path, made: Iterable[Page]) -> list[str]:
    """Write pages that are not there already; returns the paths of all."""
    paths = []
    for page in made:
        path = site / page.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.is_file() and path.read_bytes() == page.content):
            write_atomic(path, page.content, durable=False)
        paths.append(page.path)
    return paths


def _sweep(site: Path, made: Sequence[str]) -> None:
    """Remove what the last rendering wrote and this one did not."""
    note = site / MADE
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = []
    for name in set(before if isinstance(before, list) else []) - set(made):
        path = (site / str(name)).resolve()
        if path.is_relative_to(site.resolve()):
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
    write_atomic(note, (json.dumps(sorted(made), indent=0) + "\n").encode())


def _facts(entries: Sequence[Entry], found: Sequence[Table]) -> dict:
    """What the head and foot of the pages say. No clock: the date is that of the newest record."""
    records = [entry.record for entry in entries]
    newest = max((record["date"][:10] for record in records), default="1970-01-01")
    day = date.fromisoformat(newest)
    data = {(r["data"]["name"], r["data"]["version"], r["data"]["fingerprint"], r["data"]["licence"]) for r in records}
    machines = {r["environment"]["fingerprint"]: r["environment"] for r in records}
    return {
        "version": __version__,
        "records": len(records),
        "reproductions": sum(len(entry.reproductions) for entry in entries),
        "methods": len({record["method"]["name"] for record in records}),
        "tasks": len({table.task["name"] for table in found}),
        "data": sorted(data),
        "machines": [machines[tag] for tag in sorted(machines)],
        "newest": newest,
        "day": f"{day.day} {day:%B %Y}",
        "year": newest[:4],
        "digest": citation.digest(records),
        "commits": sorted({record["git"]["commit"][:12] for record in records if record["git"]["commit"]}),
        "dirty": sum(bool(record["git"]["dirty"]) for record in records),
    }
