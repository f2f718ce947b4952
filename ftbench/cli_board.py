"""The commands that read records: pages, comparisons, checks, submissions. Heavy imports wait until a command runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftbench.errors import FtbenchError

Results = Annotated[Path, typer.Option("--results", help="Folder of records and run files.")]
Site = Annotated[Path, typer.Option("--site", help="Folder that the pages are written to.")]


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which `ftbench --help` lists them."""
    for command in (report, export):
        app.command()(command)


def report(
    results: Results = Path("results"),
    site: Site = Path("site"),
) -> None:
    """Render the leaderboard: a folder of pages that opens without a server."""
    from ftbench import console
    from ftbench.report import render

    with console.progress_bars() as progress:
        path = render(results, site, progress("Reading run files"), lambda text: print(text, file=sys.stderr))
    print(path)


def export(
    record: Annotated[
        Path, typer.Argument(help="A record, as results/studio/query2item/bm25-….json.", metavar="RECORD")
    ],
    format_: Annotated[str, typer.Option("--format", help="trec.")] = "trec",
) -> None:
    """Print a record's run file as a TREC run."""
    from ftbench import record as records
    from ftbench import runfile

    if format_ != "trec":
        raise FtbenchError(f"--format {format_}: expected trec.")
    for line in runfile.export_trec(records.run_of(record, records.read(record))):
        print(line)
