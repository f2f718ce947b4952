"""The commands that make many runs for one answer. Heavy imports wait until a command runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftbench.errors import FtbenchError


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which `ftbench --help` lists them."""
    app.command()(tune)


def tune(
    method: Annotated[
        list[str],
        typer.Option("--method", "-m", help="Name, path, or `default`: all trained ones of the board. Repeatable."),
    ],
    task: Annotated[list[str], typer.Option("--task", "-t", help="Task, or path to a .toml file. Repeatable.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Data set. Repeatable.")] = ["studio"],
    trials: Annotated[int, typer.Option("--trials", help="Configurations, the defaults among them.")] = 8,
    settings: Annotated[
        list[str], typer.Option("--set", help="KEY=VALUE of all trials; trainer.budget is shared out. Repeatable.")
    ] = [],
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Trials at a time.", min=1)] = 1,
    results: Annotated[
        Path | None, typer.Option("--results", help="Folder of records; the search goes into tuning/ in it.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--source", help="Folder of the raw data, where it is needed.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Search again what is finished.")] = False,
) -> None:
    """Search methods' settings on the validation split. Each search is written into results/tuning.

    The same number of trials for every method: all at a quarter of the budget, the better half at half of it. Stopped
    at any moment, the same command goes on where it was. Example:

    ftbench tune --method factorized_transport --task query2item
    """
    from ftbench import console, runner
    from ftbench import tune as tuning

    pairs = []
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise FtbenchError(f"--set {text!r}: expected KEY=VALUE, such as --set trainer.budget=100000")
        pairs.append((key, value))
    wanted = tuning.asked(method, task, data, tuning.Asked("", "", trials=trials, fixed=tuple(pairs)))
    found, failures = [], []
    with console.progress_bars() as progress:
        session = runner.Session(results, progress, source, force, _say)
        for number, one in enumerate(wanted, start=1):
            _say(f"[{number}/{len(wanted)}] {one.method} · {one.task} · {one.data} · {one.trials} trials")
            try:
                found.append(tuning.run(one, session, jobs, force, _say))
            except FtbenchError as problem:
                if len(wanted) == 1:
                    raise
                failures.append(f"{one.method} on {one.task}, {one.data}: {problem}")
    for search in found:
        told = search.told
        title = f"{told['method']['name']}: {told['task']['name']} on {told['data']['name']}, validation split"
        columns, rows = tuning.rows(told)
        console.table(title, columns, rows, numeric=lambda i: i > 1)
        print(tuning.outcome(told) + (" (Finished before; --force searches again.)" if search.again else ""))
        print(f"Search: {search.path}\n")
    for name in dict.fromkeys(search.told["method"]["name"] for search in found):
        own = [search.told for search in found if search.told["method"]["name"] == name]
        print(f"In {name}.py: {tuning.tuned(own)}")
    if failures:
        raise FtbenchError(f"{len(failures)} of {len(wanted)} searches failed:\n" + "\n".join(failures))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
