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
_BAR_EVERY = 0.2  # seconds between two states of a bar


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


def amount(number: float, unit: str) -> str:
    """A count with separators, or bytes as people read them.

    >>> amount(12_345, ""), amount(3_253_381_120, "B")
    ('12,345', '3.25 GB')
    """
    if unit != "B":
        return f"{number:,.0f}"
    for name in ("B", "kB", "MB", "GB"):
        if number < 1000 or name == "GB":
            return f"{number:.0f} B" if name == "B" else f"{number:.3g} {name}"
        number /= 1000
    raise AssertionError("unreachable")


class _Stage:
    """One stage of some work: since when it runs, and from how much it went on (what was there before is no speed)."""

    def __init__(self, title: str, done: int):
        self.title, self.started, self.first = title, time.monotonic(), done
        self.told = self.started - _PLAIN_EVERY + _SHOW_AFTER
        self.shown = False

    def line(self, done: int, total: int | None, unit: str) -> str:
        """`Preparing x, downloading: 1.2 GB of 3.2 GB, 40 MB/s, 0:50 left`."""
        spent, new = time.monotonic() - self.started, done - self.first
        parts = [amount(done, unit) + (f" of {amount(total, unit)}" if total else "")]
        if new > 0 and spent > 0:
            parts.append(f"{amount(new / spent, unit)}/s")
        if total is not None and done >= total:
            parts.append(f"done in {_clock(spent)}")
        elif total and new > 0:
            parts.append(f"{_clock(spent * (total - done) / new)} left")
        return f"{self.title}: " + ", ".join(parts)


class _Told:
    """Progress of some work with one or several stages; `show` gets a stage's line."""

    def __init__(self, title: str, every: float, show: Callable[[str, int, int | None], None]):
        self.title, self.every, self.show = title, every, show
        self.stages: dict[str, _Stage] = {}

    def __call__(self, done: int, total: int | None, stage: str = "", unit: str = "") -> None:
        known = self.stages.get(stage)
        if known is None:
            known = self.stages[stage] = _Stage(f"{self.title}, {stage}" if stage else self.title, done)
        now, finished = time.monotonic(), total is not None and done >= total
        if finished:
            del self.stages[stage]  # the same stage may come again: then it starts anew
            if not known.shown:
                return
        elif now - known.told < (self.every if known.shown else _PLAIN_EVERY):
            return
        known.told, known.shown = now, True
        self.show(known.line(done, total, unit), done, total)


@contextmanager
def progress_bars():
    """Gives `start(title) -> Progress`: told where work takes longer than two seconds, with rate and time left.

    On a terminal one bar that moves, elsewhere plain lines on standard error, at most one in ten seconds a stage.
    """
    if not sys.stderr.isatty():
        yield lambda title: _Told(title, _PLAIN_EVERY, lambda line, *_: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def start(title: str) -> Progress:
            task: list = []

            def show(line: str, done: int, total: int | None) -> None:
                if total is not None and done >= total:
                    if task:
                        bars.remove_task(task.pop())
                    return
                if not task:
                    task.append(bars.add_task(line, total=total))
                bars.update(task[0], description=line, completed=done, total=total)

            return _Told(title, _BAR_EVERY, show)

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
