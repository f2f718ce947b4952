"""The leaderboard: records in, a folder of pages out. Must not know how records are made."""

import gc
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from ftbench.items import Progress


def quiet(*_: object) -> None:
    """Says nothing."""


def render(
    results_dir: Path,
    site_dir: Path,
    progress: Progress = quiet,
    warn: Callable[[str], None] = quiet,
    release: str | None = None,
) -> Path:
    """Write the site of all records of a results folder; returns the path of its `index.html`.

    progress: told of run files read. warn: told of run files that are missing or not the ones their records name.
    release: show exactly the records of this board version. The same records give the same bytes. Raises DataError
    listing every record that cannot be read or was changed since its release, and where the folders cannot be read or
    written.
    """
    from ftbench.report.site import render as render_site  # Jinja2 and numpy wait until a page is wanted

    with _uncollected():
        return render_site(Path(results_dir), Path(site_dir), progress, warn, release)


@contextmanager
def _uncollected():
    """No search for cyclic garbage: a rendering makes hardly any, and walking thousands of records takes its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
