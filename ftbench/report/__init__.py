"""The leaderboard: records in, one self-contained page out. Must not know how records are made."""

from collections.abc import Callable
from pathlib import Path

from ftbench.items import Progress


def quiet(*_: object) -> None:
    """Says nothing."""


def render(results_dir: Path, site_dir: Path, progress: Progress = quiet, warn: Callable[[str], None] = quiet) -> Path:
    """Write `index.html` from all records of a results folder; returns its path.

    progress: told of run files read. warn: told of run files that are missing or not the ones their records name. The
    same records give the same bytes. Raises DataError listing every record that cannot be read, and where the
    folders cannot be read or written.
    """
    from ftbench.report.page import render as render_page  # Jinja2 and numpy wait until a page is wanted

    return render_page(Path(results_dir), Path(site_dir), progress, warn)
