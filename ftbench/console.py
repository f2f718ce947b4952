"""What a terminal shows: progress bars with remaining time, plain lines where output is no terminal, closing tables.

Must not know what is being run.
"""

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager

from ftbench.items import Progress

_SHOW_AFTER = 2.0  # seconds: shorter work shows nothing
_PLAIN_EVERY = 10.0  # seconds between plain lines


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class _Plain:
    """Progress as plain lines on standard error, at most one in ten seconds."""

    def __init__(self, title: str):
        self.title, self.started = title, time.monotonic()
        self.last = self.started - _PLAIN_EVERY + _SHOW_AFTER
        self.shown = False

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        finished = total is not None and done >= total
        if now - self.last < _PLAIN_EVERY and not (finished and self.shown):
            return
        self.last, self.shown = now, not finished
        line = f"{self.title}: {done:,}" + (f" of {total:,}" if total else "")
        spent = now - self.started
        if finished:
            line += f", {_clock(spent)}"
        elif total and done:
            line += f", {_clock(spent * (total - done) / done)} left"
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bars():
    """Gives `start(title) -> Progress`: bars that appear for work longer than two seconds."""
    if not sys.stderr.isatty():
        yield _Plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def start(title: str) -> Progress:
            started = time.monotonic()
            task: list = []

            def report(done: int, total: int | None) -> None:
                if not task:
                    if time.monotonic() - started < _SHOW_AFTER and not (total and done < 0.1 * total):
                        return
                    task.append(bars.add_task(title, total=total))
                bars.update(task[0], completed=done, total=total)
                if total is not None and done >= total:
                    bars.remove_task(task.pop())

            return report

        yield start


def table(title: str, columns: list[str], rows: list[list[str]], numeric: Callable[[int], bool]) -> None:
    """Print a table; columns for which `numeric(index)` holds are right-aligned. Plain and unwrapped when piped."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="right" if numeric(i) else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(drawn)
