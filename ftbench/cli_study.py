"""The command that makes studies. Heavy imports wait until it runs."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ftbench.errors import FtbenchError, counted

_RESULTS = Path("results")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(study)


def study(
    name: Annotated[str | None, typer.Argument(help="A study. Default: list them.", metavar="[NAME]")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List its cells, and which are done; make none.")] = False,
    data: Annotated[
        str, typer.Option("--data", "-d", help="In the place of studio, such as studio@240 for a quick look.")
    ] = "studio",
    results: Annotated[
        Path, typer.Option("--results", help="Cells, findings and figures go into its studies.")
    ] = _RESULTS,  # noqa: E501
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time; what is timed runs alone.")] = 2,
    full: Annotated[bool, typer.Option("--full", help="All cells, beyond the cap in hours.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Make again what is done.")] = False,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Findings and figures again, from the cells there are.")
    ] = False,  # noqa: E501
) -> None:
    """Answer a question that takes many runs. Its cells are made, then findings and figures for the page.

    Every cell is kept as soon as it is made: stopped at any moment, the same command goes on where it was. Example:

    ftbench study cost-vs-views
    """
    from ftbench.studies import load_study, studies, work
    from ftbench.studies.work import Options

    if name is None:
        for one in studies().values():
            count = len(one.cells(False))
            print(f"{one.name:<20} {one.title} ({counted(count, 'cell')}, at most {one.hours:g} h)")
        return
    if redraw and (force or list_ or full):
        raise FtbenchError("--redraw makes no cells: it goes with neither --force nor --full nor --list.")
    if data != "studio" and results == _RESULTS:
        raise FtbenchError(f"--data {data} makes other cells than the ones of {results}: give them a folder, such as --results private-results")  # noqa: E501  # fmt: skip
    chosen, options = load_study(name), Options(results, data, jobs, full, force)
    if list_:
        rows = work.listing(chosen, options)
        print("\n".join(_lines(rows, shutil.get_terminal_size((200, 24)).columns)))
        done = sum(state.startswith("done") for _, _, state in rows)
        beyond = 0 if full else len(chosen.cells(True)) - len(rows)
        print(
            f"{done} of {counted(len(rows), 'cell')} done, "
            + ("no cap" if full else f"at most {chosen.hours:g} h")
            + (f"; {beyond} more with --full" if beyond else "")
        )
        return

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    print(work.redraw(chosen, options, tell) if redraw else work.make(chosen, options, tell))


def _lines(rows: Sequence[tuple[str, Sequence[str], str]], width: int) -> list[str]:
    """A line for each cell (key, the parts of what it is, state), cut at the width: key, state, and what tells it from
    other cells beyond its key, the rarest first."""
    counts = Counter(part for _, parts, _ in rows for part in parts)
    wide, lines = max((len(key) for key, _, _ in rows), default=0), []
    for key, parts, state in rows:
        short, _, error = state.partition(": ")
        apart = [word for word in parts if counts[word] < len(rows) and word.replace("seed ", "-") not in key]
        rest = ", ".join([*([error] if error else []), *sorted(apart, key=counts.get)])
        line = " ".join(f"{key:<{wide}}  {short or 'not made':<12}  {rest}".rstrip().splitlines())
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return lines
