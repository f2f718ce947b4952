"""The commands that read records: pages, comparisons, checks, submissions. Heavy imports wait until a command runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftbench.errors import FtbenchError, counted, several

Results = Annotated[Path, typer.Option("--results", help="Folder of records and run files.")]
Task = Annotated[str | None, typer.Option("--task", "-t", help="Of a METHOD: its records of this task.")]
Data = Annotated[str | None, typer.Option("--data", "-d", help="Of a METHOD: its records of this data set.")]
Seed = Annotated[int | None, typer.Option("--seed", "-s", help="Of a METHOD: this seed alone. Default: all seeds.")]
AllSeeds = Annotated[
    bool, typer.Option("--all-seeds", help="Of a RECORD: all seeds of its setting, averaged, as of a METHOD.")
]
Site = Annotated[Path, typer.Option("--site", help="Folder that the pages are written to.")]


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which `ftbench --help` lists them."""
    for command in (report, compare, export, cite, rescore, verify, submit, validate, release):
        app.command()(command)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _where(task: str | None, data: str | None, seed: int | None) -> dict:
    return {name: value for name, value in (("task", task), ("data", data), ("seed", seed)) if value is not None}


def report(
    results: Results = Path("results"),
    site: Site = Path("site"),
    version: Annotated[
        str | None, typer.Option("--release", help="Show exactly the records of this board version, as 2026.1.")
    ] = None,
) -> None:
    """Render the leaderboard: pages that open without a server."""
    from ftbench import console
    from ftbench.report import reading, render

    with console.progress_bars() as progress:
        told: list[str] = []
        path = render(results, site, progress("Reading run files"), told.append, version)
    for text in told:
        _warn(text)
    for what, end in (
        (reading.LEFT_OUT, "left out of the board"), (reading.UNCHECKED, "shown without an interval, not checked")
    ):  # fmt: skip
        if count := sum(what in text for text in told):
            _warn(f"{counted(count, 'record')} {'is' if count == 1 else 'are'} {end}: see above.")
    print(path)


def compare(
    a: Annotated[
        str, typer.Argument(help="A record: path, name, or first digits of its id; or a METHOD.", metavar="A")
    ],
    b: Annotated[str, typer.Argument(help="What it is compared with.", metavar="B")],
    results: Results = Path("results"),
    task: Task = None,
    data: Data = None,
    seed: Seed = None,
    all_seeds: AllSeeds = False,
    site: Annotated[
        Path | None, typer.Option("--site", help="Also write compare-A-B.html into this folder of pages.")
    ] = None,
) -> None:
    """Compare two runs query by query. Differences with interval and p-value, wins and losses, largest swings.

    Intervals resample queries, and not seeds as the board's do. Example:

    ftbench compare m3g cwcl --task query2item --data studio
    """
    from ftbench import compare as comparing
    from ftbench import console, lookup
    from ftbench.report import compared

    meant = [lookup.seeds(results, text, _where(task, data, seed)) for text in (a, b)]
    sides = [comparing.side(found[0][0], all_seeds or len(found) > 1) for found in meant]
    found = comparing.compare(*sides)
    print(compared.head(found) + "\n")
    for table in compared.tables(found, results):
        console.table(table.title, list(table.columns), list(table.rows), lambda i, table=table: i in table.numeric)
    print("\n".join(compared.notes(found)))
    if site is not None:
        print(compared.write(found, results, site))


def export(
    record: Annotated[
        str | None,
        typer.Argument(
            help="A record, as results/studio/query2item/bm25-….json. Default: the board.", metavar="RECORD"
        ),
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", "-f", help="csv, json, latex, markdown; of a RECORD: trec, qrels.")
    ] = None,
    task: Annotated[list[str], typer.Option("--task", "-t", help="Tasks. Default: all. Repeatable.")] = [],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Data sets. Default: all. Repeatable.")] = [],
    board: Annotated[list[str], typer.Option("--board", help="equal-compute or equal-steps. Default: both.")] = [],
    measure: Annotated[
        list[str], typer.Option("--measure", help="Such as ndcg@10. Default: all of a task's. Repeatable.")
    ] = [],
    intervals: Annotated[bool, typer.Option("--intervals", help="With 95% intervals of every measure.")] = False,
    version: Annotated[str | None, typer.Option("--release", help="Of this board version, as 2026.1.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File. Default: standard output.")] = None,
    results: Results = Path("results"),
) -> None:
    """Print the board's tables for a paper or a program. Of a RECORD: its run file or judgements for trec_eval.

    ftbench export --format latex --task query2item --data studio --intervals
    """
    from ftbench import export as exporting
    from ftbench import files, lookup

    if out is not None and out.is_dir():
        raise FtbenchError(f"--out {out} is a folder. Name a file in it, such as {out / 'board.csv'}")
    if record is not None:
        path, found = lookup.named(results, record)
        text = exporting.of_record(path, found, format_ or "trec")
        if format_ == "qrels":
            least = found["task"]["relevant_from"]
            print(f"Relevant from a gain of {least:g}: trec_eval -l {least:g}", file=sys.stderr)
    else:
        from ftbench import console

        choice = exporting.Choice(tuple(task), tuple(data), tuple(board), tuple(measure), intervals, version)
        with console.progress_bars() as progress:
            text = exporting.export(results, format_ or "csv", choice, progress("Reading run files"), _warn)
    if out is None:
        sys.stdout.write(text)
    else:
        files.write_atomic(out, text.encode())
        print(out)


def cite(
    record: Annotated[
        str | None,
        typer.Argument(help="Path, name, or first digits of the id; or a METHOD. Default: ftbench.", metavar="RECORD"),
    ] = None,
    board: Annotated[bool, typer.Option("--board", help="The board as a whole, by its version or digest.")] = False,
    version: Annotated[str | None, typer.Option("--release", help="Of this board version, as 2026.1.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Plain text instead of BibTeX.")] = False,
    task: Task = None,
    data: Data = None,
    seed: Seed = None,
    all_seeds: AllSeeds = False,
    results: Results = Path("results"),
) -> None:
    """Print how to cite a run, a row, the board or ftbench. With the papers behind the methods, as BibTeX.

    A row's number is the mean over its seeds. Example:

    ftbench cite m3g --task query2item --data studio
    """
    from ftbench import citation, console, lookup
    from ftbench import export as exporting

    where = _where(task, data, seed)
    if record is not None and board:
        raise FtbenchError(f"cite {record} --board: expected one of the two. A run's entry names its board.")
    if record is None and (where or all_seeds):
        raise FtbenchError("--task, --data, --seed and --all-seeds are of a method or a record: ftbench cite METHOD …")
    if record is None and not board and not version:
        entries = [citation.SOFTWARE, *citation.PAPERS]
    else:
        runs, mean = lookup.seeds(results, record, where) if record is not None else [], None
        if all_seeds or len(runs) > 1:
            with console.progress_bars() as progress:
                row = exporting.row_of(results, runs[0][1], version, progress("Reading run files"))
            runs, mean = [(entry.path, entry.record) for entry in row.entries], vars(row.headline)
        entries = citation.cited(results, runs, mean, version, _warn)
    print("\n".join(entry.text() for entry in entries) if text else citation.bibliography(entries))


def rescore(
    record: Annotated[
        list[str], typer.Argument(help="Records. Default: all of --results.", metavar="[RECORD]...", show_default=False)
    ] = [],
    results: Results = Path("results"),
) -> None:
    """Compute every score again from the run files. Fails where one differs; notes what agrees in rescored.json."""
    from ftbench import console, lookup
    from ftbench import record as records
    from ftbench import rescore as rescoring

    paths = [lookup.named(results, name)[0] for name in record] or [path for path, _ in records.read_all(results)]
    with console.progress_bars() as progress:
        done = rescoring.rescore(paths, progress("Re-scoring"))
    for folder in dict.fromkeys(path.resolve().parents[2] for path in paths):
        rescoring.write_note(folder, [one for one in done if one.path.resolve().parents[2] == folder])
    wrong = [f"{one.path}: {text}" for one in done for text in one.problems]
    if wrong:
        failed = sum(bool(one.problems) for one in done)
        start = "the record" if len(done) == 1 else f"{failed} of {len(done)} records"
        does = "does not follow from its run file" if failed == 1 else "do not follow from their run files"
        raise FtbenchError("\n".join([f"{start} {does}:", *wrong]))
    failed = sum(one.hashes["run_file"] is None for one in done)  # nothing was ranked, and nothing is to follow from it
    if failed < len(done) or not done:
        many = counted(len(done) - failed, "record")
        print(f"{many} re-scored: every score follows from the run file, to the last digit. Costs are not scores.")
    if failed:
        print(f"{counted(failed, 'failed run')} without run file and scores: nothing to re-score.")


def verify(
    record: Annotated[str, typer.Argument(help="Path, file name, or first digits of the id.", metavar="RECORD")],
    rerun: Annotated[bool, typer.Option("--rerun", help="Make the run again, and compare.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Store the rerun beside the original: other hardware only.")
    ] = False,
    results: Results = Path("results"),
) -> None:
    """Check a record; if asked, make its run again. Schema, hashes, scores, what must hold of any ranking."""
    from ftbench import console, lookup, reproduce

    if keep and not rerun:
        raise FtbenchError(f"--keep stores a second run; to make one, type: ftbench verify {record} --rerun --keep")
    path, found = lookup.named(results, record)
    problems = reproduce.verify(path, found)
    if problems:
        raise several(f"{path}", problems)
    print(f"{path}: schema, hashes, scores and invariants hold. Costs agree with each other; none is measured again.")
    if not rerun:
        return
    with console.progress_bars() as progress:
        made = reproduce.rerun(path, found, progress, keep)
    for line in reproduce.told(made):
        print(line)
    if not made.succeeded:
        raise FtbenchError("not reproduced: see above.")


def submit(
    folder: Annotated[Path, typer.Argument(help="A new folder, such as submissions/my_method.", metavar="DIR")],
    method: Annotated[str, typer.Option("--method", "-m", help="Name, or path to the method's file.")],
    results: Results = Path("results"),
) -> None:
    """Pack a new method's runs and code for one pull request. Records, run files and code, in one folder."""
    from ftbench import console, submission

    with console.progress_bars() as progress:
        packed = submission.submit(folder, method, results, progress("Checking run files"))
    kinds = ((packed.left, "of earlier code"), (packed.there, "on the board already"))
    parts = [f"{count} {what}" for count, what in kinds if count]
    left = f" (left out: {', '.join(parts)})" if parts else ""
    many = counted(packed.records, "record")
    print(f"{packed.folder}: {many}{left}. Commit this folder alone, and open a pull request.")
    if packed.unnamed:
        print(
            f"Note: {packed.unnamed} lies outside of the checkout, so that no commit could be named for its code: the "
            "submission has the only copy. To name one, put the file into baselines/, commit, and run again."
        )


def validate(
    folder: Annotated[Path, typer.Argument(help="What `ftbench submit` wrote.", metavar="DIR")],
    results: Results = Path("results"),
    json_: Annotated[Path | None, typer.Option("--json", help="Also write the outcome to this file.")] = None,
) -> None:
    """Check a submission without running any of it: what CI does. The exit code is 1 where it fails."""
    from ftbench import console, validation
    from ftbench.files import write_atomic

    if not folder.exists():
        raise FtbenchError(f"there is no folder {folder}. Name one that `ftbench submit` wrote: ftbench validate DIR")
    with console.progress_bars() as progress:
        verdict = validation.validate(folder, results, progress=progress("Checking run files"))
    if json_ is not None:
        write_atomic(json_, verdict.as_json().encode())
    print(verdict.as_text())
    if not verdict.passed:
        raise typer.Exit(1)


def release(
    name: Annotated[str, typer.Argument(help="YEAR.NUMBER, such as 2026.1.", metavar="NAME")],
    results: Results = Path("results"),
) -> None:
    """Freeze the board's records under a name that can be cited. All re-scored, as results/releases/NAME.json."""
    from ftbench import release as releases

    print(releases.freeze(results, name))
