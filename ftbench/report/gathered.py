"""What the pages of a site are made of: the records of a results folder, gathered once. Must not know pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ftbench import __version__, citation, release
from ftbench.items import Progress
from ftbench.report.aggregate import Entry, Table, load, tables


@dataclass(frozen=True)
class Board:
    """What pages are made of. release: the board version that is shown, None for the records as they are. site: the
    folder of the pages, whose figures are kept while they show the same; None where all are to be made."""

    results: Path
    entries: tuple[Entry, ...]
    tables: tuple[Table, ...]
    facts: Mapping
    release: str | None = None
    site: Path | None = None


def gather(results: Path, progress: Progress, version: str | None = None) -> Board:
    """The board of a results folder as it is, or of a release of it."""
    entries = load(results, version)
    found = tuple(tables(entries, progress))
    wrong = {entry.path for table in found for entry in table.left_out}
    entries = [entry for entry in entries if entry.path not in wrong]
    facts = _facts(entries, found) | {"release": version, "changes": release.changes(results, version)}
    return Board(Path(results), tuple(entries), found, facts, version)


def _facts(entries: Sequence[Entry], found: Sequence[Table]) -> dict:
    """What the head and foot of the pages say. No clock: the date is that of the newest record."""
    records = [entry.record for entry in entries]
    newest = max((record["date"][:10] for record in records), default="1970-01-01")
    day = date.fromisoformat(newest)
    data = {(r["data"]["name"], r["data"]["version"], r["data"]["fingerprint"], r["data"]["licence"]) for r in records}
    machines = {r["environment"]["fingerprint"]: r["environment"] for r in records}
    return {
        "version": __version__,
        "records": len(records),
        "failed": sum(record["status"] != "ok" for record in records),
        "reproductions": sum(len(entry.reproductions) for entry in entries),
        "methods": len({record["method"]["name"] for record in records if record["status"] == "ok"}),
        "tasks": len({table.task["name"] for table in found}),
        "data": sorted(data),
        "machines": [machines[tag] for tag in sorted(machines)],
        "newest": newest,
        "day": f"{day.day} {day:%B %Y}",
        "year": newest[:4],
        "digest": citation.digest(records),
        "commits": sorted({record["git"]["commit"][:12] for record in records if record["git"]["commit"]}),
        "dirty": sum(bool(record["git"]["dirty"]) for record in records),
    }
