"""The `ftbench` command. Heavy imports wait until a command needs them, so that help is there at once."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ftbench import cli_board, cli_make, cli_study
from ftbench.errors import FtbenchError

app = typer.Typer(
    help="Benchmark retrieval over products with several images and several texts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Prepare, check and look at data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_INTERRUPTED = 130  # what typer ends with after Ctrl-C: 128 and the signal's number, as shells have it
RunResults = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of records. Default: results; private-results for imported data."),
]
Source = Annotated[Path | None, typer.Option("--source", help="Folder of the raw data, where a data set needs one.")]
Data = Annotated[str, typer.Argument(help="A data set: see `ftbench list data`.", metavar="DATA")]


def _version(wanted: bool) -> None:
    if wanted:
        from ftbench import __version__

        print(f"ftbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one.")
    ] = False,
) -> None:
    if debug:
        os.environ["FTBENCH_DEBUG"] = "1"


@app.command()
def run(
    method: Annotated[
        list[str],
        typer.Option("--method", "-m", help="Name, path to a .py file, or `default` for the whole board. Repeatable."),
    ],
    task: Annotated[
        list[str], typer.Option("--task", "-t", help="query2item, cross_view, or a path to a .toml file. Repeatable.")
    ],
    data: Annotated[
        list[str], typer.Option("--data", "-d", help="Data set, as `ftbench list data` names it. Repeatable.")
    ] = ["studio"],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", "-e", help="tiny, lite, MODEL/PRETRAINED or MODEL/FILE. Default: what suits the data."
        ),
    ] = None,
    seed: Annotated[
        list[int], typer.Option("--seed", "-s", min=0, help="Seed of data order and sampling. Repeatable.")
    ] = [0],
    settings: Annotated[
        list[str], typer.Option("--set", help="KEY=VALUE of the method, or trainer.KEY=VALUE. Repeatable.")
    ] = [],
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            help="zero-shot, aligned, supervised, weak or weak-validated. Default: the method's or the task's.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="valid, to choose settings by, or test.")] = "test",
    board: Annotated[str, typer.Option("--board", help="equal-compute or equal-steps.")] = "equal-compute",
    results: RunResults = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    depth: Annotated[int, typer.Option("--depth", help="Ranks kept per query in the run file.", min=10)] = 10,
    source: Source = None,
    force: Annotated[bool, typer.Option("--force", help="Run again what is finished.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Runs made at a time, each in a process.", min=1)] = 1,
) -> None:
    """Run methods on tasks: fit, embed, search, measure, record.

    Finished runs are recognised by their id and skipped; a run that fails is a record, too, and the others go on.
    Example:

    ftbench run --method factorized_transport --task query2item
    """
    pairs = tuple(_key_value(text) for text in settings)
    from ftbench import console, suite
    from ftbench import request as asked

    requests = asked.requests(
        method, task, data, seed,
        asked.Request(
            "", "", encoder=encoder, track=track, board=board, settings=pairs, device=device, depth=depth, split=split
        ),
    )  # fmt: skip
    for note in suite.one_seed(requests, seed):
        _tell(note)
    with console.progress_bars() as progress:
        outcomes = suite.make(requests, suite.Suite(results, progress, _tell, source, force, jobs))
    for title, columns, rows in suite.tables(outcomes) if len(outcomes) > 1 or not outcomes[0].problem else ():
        console.table(title, columns, rows, numeric=lambda i: i in (1, 2, 4))
    print("\n".join(suite.notes(outcomes)))
    suite.raise_failures(outcomes)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _key_value(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise FtbenchError(f"--set {text!r}: expected KEY=VALUE, such as --set primary_share=0.3")
    return key, value


@app.command("list")
def list_(
    what: Annotated[
        str | None, typer.Argument(help="methods, tasks, data or encoders. Default: all.", metavar="[WHAT]")
    ] = None,
) -> None:
    """List methods, tasks, data sets or encoders, a line each."""
    from ftbench import inventory

    for kind in [what] if what else inventory.WHAT:
        if not what:
            print(f"\n{kind}")
        for name, line in inventory.listing(kind):
            print(f"{name:<30} {line}")


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A method, task, data set, encoder or study.", metavar="NAME")],
) -> None:
    """Describe a method, task, data set, encoder or study. What it is, its settings, its source."""
    from ftbench import inventory

    print(inventory.description(name))


@data_app.command("prepare")
def data_prepare(
    name: Data,
    category: Annotated[
        str | None,
        typer.Option(
            "--category",
            help="Of amazon-reviews, as All_Beauty; of amazon-c4 and amazon-esci: whose photographs, or `all`.",
        ),
    ] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="10k, 100k or 1M items; each holds the smaller.")] = None,
    source: Source = None,
) -> None:
    """Fetch, read, check and store a data set. It is memory-mapped, with manifest and fingerprint.

    What was fetched is kept: stopped at any moment, the same command goes on where it was. Example:

    ftbench data prepare amazon-reviews --category All_Beauty --tier 10k
    """
    from ftbench import console, inventory
    from ftbench.catalogue import downloads_folder
    from ftbench.sources import compose_name, source_for, terms
    from ftbench.store import prepare

    name = compose_name(name, category, tier)
    made = source_for(name, source, downloads_folder())
    if not name.startswith("studio"):
        print(terms(made.info), file=sys.stderr)
    with console.progress_bars() as progress:
        catalogue = prepare(made, progress(f"Preparing {name}"))
    print(inventory.data_summary(catalogue))


@data_app.command("import")
def data_import(
    form: Annotated[str, typer.Argument(help="shopify, magento or folder.", metavar="FORMAT")],
    path: Annotated[Path, typer.Argument(help="The export: a CSV file, or a folder.", metavar="PATH")],
    images: Annotated[
        str | None,
        typer.Option("--images", help="Folder of the photographs; `download` (shopify); their address (magento)."),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="TSV with the header query, item_id and, if known, gain.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it. Default: after the file.")] = None,
) -> None:
    """Make a data set of a shop's own catalogue. Every task and method then runs on it.

    Stays on this machine; runs on it are recorded in private-results. Without queries, some are made from attributes
    and tags. Example:

    ftbench data import shopify products_export.csv --images download --name my-shop
    """
    from ftbench import console, inventory
    from ftbench.catalogue import downloads_folder, own_names
    from ftbench.sources.imports import Import, import_source, own_name
    from ftbench.store import prepare

    asked = Import(form, path, own_name(name, path), images, queries)
    if asked.name in own_names():
        print(
            f"{asked.name} was imported before; this takes its place once it is whole.",
            file=sys.stderr,
        )
    source = import_source(asked, downloads_folder())
    with console.progress_bars() as progress:
        catalogue = prepare(source, progress(f"Importing {asked.name}"))
    print(inventory.data_summary(catalogue))
    task = "query2item" if catalogue.queries("test") else "cross_view"
    print(f"\nNext: ftbench run --method default --task {task} --data {asked.name}")


@data_app.command("verify")
def data_verify(name: Data) -> None:
    """Check a prepared data set offline. File hashes, dangling evidence, leaks between splits."""
    from ftbench import inventory

    print(inventory.verify(name))


@data_app.command("inspect")
def data_inspect(
    name: Data,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the datasheet: page, Croissant metadata, contact sheet.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Results folder whose leaderboard is to show the datasheet.")
    ] = None,
) -> None:
    """Say what is in a prepared data set. Splits, views, texts, duplicates, what was dropped, licence."""
    from ftbench import datasheet, inventory

    catalogue = inventory.prepared(name)
    print(datasheet.as_text(datasheet.facts(catalogue)))
    if out is not None:
        print("\n".join(map(str, datasheet.write(catalogue, out))))
        if not catalogue.info.redistributable:
            print("The contact sheet shows pictures and texts: for your eyes alone. The other files hold none.")
    if results is not None:
        print(datasheet.write_json(catalogue, results))


@data_app.command("bundle")
def data_bundle(
    name: Data,
    results: RunResults = None,
    own: Annotated[
        bool, typer.Option("--own", help="Of imported data: I may show its texts and pictures on a page.")
    ] = False,
) -> None:
    """Export what the gallery shows of a prepared data set. Sampled queries, retrieved items, small pictures.

    Written beside the records; `ftbench report` then renders the gallery without the data.
    """
    from ftbench import inventory
    from ftbench.report.gallery import export

    catalogue = inventory.prepared(name)
    folder = results or Path("private-results" if catalogue.info.private else "results")
    print(export(catalogue, folder, own))


@data_app.command("sheet")
def data_sheet(
    name: Data,
    out: Annotated[Path | None, typer.Option("--out", help="PNG file. Default: DATA-sheet.png here.")] = None,
    items: Annotated[int, typer.Option("--items", help="How many items to show.", min=1, max=200)] = 12,
) -> None:
    """Write a contact sheet of some items, as one PNG. All their views, with their texts."""
    from ftbench import console, inventory

    with console.progress_bars() as progress:
        path = inventory.sheet(name, out or Path(f"{name}-sheet.png"), items, progress)
    print(path)


@app.command()
def pretrain(
    encoder: Annotated[str, typer.Argument(help="Only `tiny` has weights of our own.", metavar="tiny")],
    out: Annotated[Path | None, typer.Option("--out", help="Weights file. Default: in the package.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.", min=1)] = 1500,
) -> None:
    """Train the weights of `tiny` on single captioned drawings. They are what all its runs start from."""
    from ftbench import console
    from ftbench import pretrain as training

    with console.progress_bars() as progress:
        print(training.pretrain(encoder, out, steps, progress("Pretraining")))


cli_make.register(app)
cli_study.register(app)
cli_board.register(app)


def main() -> None:
    """Entry point of the console script. A mistake of the user's gives one message, no traceback; exit code 1."""
    # threads that wait must not spin: on a busy machine that makes a step ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: as after Ctrl-C
    try:
        app(prog_name="ftbench", standalone_mode=True)
    except FtbenchError as problem:
        if os.environ.get("FTBENCH_DEBUG"):
            raise
        print(f"ftbench: {problem}", file=sys.stderr)
        raise SystemExit(1) from None
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            print("ftbench: interrupted; nothing half-written was left.", file=sys.stderr)
        raise
