"""The leaderboard: records in, one self-contained page out. Must not know how records are made."""

from pathlib import Path


def render(results_dir: Path, site_dir: Path) -> Path:
    """Write `index.html` from all records of a results folder; returns its path.

    The same records give the same bytes. Raises DataError listing every record that cannot be read, and where the
    folders cannot be read or written.
    """
    from ftbench.report.page import render as render_page  # Jinja2 and numpy wait until a page is wanted

    return render_page(Path(results_dir), Path(site_dir))
