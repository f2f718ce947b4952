"""All pages of a site from a results folder: gathers the board once, asks each kind of page for its files, writes them.

Must not know how records are made. The same records give the same bytes; files of an earlier rendering that this one no
longer has are removed, other files of the folder are left alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.items import Progress
from ftbench.report import beside, cite, compare, data, figures, gallery, methods, runs, studies
from ftbench.report import board as board_page
from ftbench.report.gathered import Board, gather
from ftbench.report.html import NAV, Page, environment

MADE = ".ftbench-site.json"  # lists the files of the last rendering


def render(
    results: Path, site: Path, progress: Progress, warn: Callable[[str], None], version: str | None = None
) -> Path:
    """Write the site; see `ftbench.report.render`. Returns the path of `index.html`."""
    board = replace(gather(results, progress, version), site=site)
    missing = [text for table in board.tables for text in table.runs_missing]
    for problem in dict.fromkeys(missing + gallery.problems(board)):
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


def pages(board: Board) -> dict[str, Iterator[Page]]:
    """All files of the site by their kind, made as they are asked for. Each kind has a module with `exists(board)` and
    `pages(board, nav)`."""
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
