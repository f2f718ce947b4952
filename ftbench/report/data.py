"""The data sets of a board: one page of what its records say, and a datasheet for each that has one committed.

Must not know prepared catalogues: the same records and datasheets give the same pages everywhere. A datasheet is
`datasheet.json` in the folder of a data set's results, as `ftbench data inspect NAME --results DIR` writes it: titles,
tables of texts, and shares that are drawn as bars. It may come from others: what it holds is checked, then escaped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ftbench.errors import DataError, several
from ftbench.report import words
from ftbench.report.aggregate import Table
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page

FILE = "datasheet.json"
_LARGEST = 1_000_000  # bytes of a datasheet; ours have about ten thousand
_ORDER = ("items", "train", "valid", "test", "images", "texts", "queries", "judgements", "interactions")


@dataclass(frozen=True)
class DataSet:
    """One data set as the records name it. about: the `data` field of its newest record; others: (version, fingerprint,
    records) of earlier ones; sheet: its datasheet, None where there is none for this fingerprint."""

    about: Mapping
    records: int
    others: Sequence[tuple[str, str, int]]
    tables: Sequence[Table]
    sheet: Mapping | None

    @property
    def name(self) -> str:
        return self.about["name"]

    @property
    def counts(self) -> list[tuple[str, str]]:
        return counts(self.about)

    @property
    def coverage(self) -> list[tuple[str, str]]:
        return coverage(self.about)


def exists(board: Board) -> bool:
    return bool(board.entries)


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """data.html, and data/<name>.html for each datasheet."""
    found = data_sets(board)
    yield page("data.html", "data.html.j2", nav, board.facts, sets=found)
    for data_set in found:
        if data_set.sheet:
            path = f"data/{data_set.name}.html"
            yield page(path, "data_set.html.j2", nav, board.facts, data_set=data_set, sheet=data_set.sheet)


def data_sets(board: Board) -> list[DataSet]:
    """All data sets, in the order of the tables; one with failed runs alone is among them."""
    by_name: dict[str, list[Mapping]] = {table.data["name"]: [] for table in board.tables}
    for entry in board.entries:
        by_name.setdefault(entry.record["data"]["name"], []).append(entry.record)
    made = []
    for name, records in by_name.items():
        newest = max(records, key=lambda record: (record["date"], record["id"]))["data"]
        counted: dict[tuple[str, str], int] = {}
        for record in records:
            key = (record["data"]["version"], record["data"]["fingerprint"])
            counted[key] = counted.get(key, 0) + 1
        own = counted.pop((newest["version"], newest["fingerprint"]))
        others = sorted((*key, count) for key, count in counted.items())
        tables = [table for table in board.tables if table.data["name"] == name]
        sheet = read(board.results / name / FILE)
        fits = sheet and sheet["fingerprint"] == newest["fingerprint"]
        made.append(DataSet(newest, own, others, tables, sheet if fits else None))
    return made


def counts(about: Mapping) -> list[tuple[str, str]]:
    """The counts of a record's data, in the order in which people ask for them."""
    found = about["counts"]
    names = [*(name for name in _ORDER if name in found), *sorted(set(found) - set(_ORDER))]
    shown = {name: f"{name} items" for name in ("train", "valid", "test")}
    return [(shown.get(name, name), f"{found[name]:,}") for name in names]


def coverage(about: Mapping) -> list[tuple[str, str]]:
    """What a record says of what its data lack: counts by reason, the largest first; nested ones by their reason."""
    rows: list[tuple[str, object]] = []
    for name, value in about["coverage"].items():
        if isinstance(value, Mapping):
            rows += sorted(((f"{words.spaced(name)}: {why}", n) for why, n in value.items()), key=_by_size)
        else:
            rows.append((words.spaced(name), value))
    return [(name, f"{n:,}" if isinstance(n, int) else str(n)) for name, n in rows]


def _by_size(row: tuple[str, object]) -> tuple:
    return (-row[1] if isinstance(row[1], int | float) else 0, row[0])


def read(path: Path) -> dict | None:
    """A datasheet, or None where there is no file. Raises DataError with all that is wrong with it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise DataError(f"datasheet {path} cannot be read: {problem.strerror}.") from None
    again = f"Write it anew: ftbench data inspect {path.parent.name} --results {path.parent.parent}"
    if len(raw) > _LARGEST:
        raise DataError(f"datasheet {path} has {len(raw):,} bytes, expected at most {_LARGEST:,}. {again}")
    try:
        sheet = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"datasheet {path} is not JSON: {problem}. {again}") from None
    wrong = [f"{'.'.join(map(str, e.absolute_path)) or 'datasheet'}: {e.message[:200]}" for e in _errors(sheet)]
    if wrong:
        raise several(f"datasheet {path}", wrong, DataError, hint=again, most=10)
    return sheet


def _errors(sheet: object) -> list:
    return sorted(_validator().iter_errors(sheet), key=lambda error: str(list(error.absolute_path)))


@cache
def _validator():
    from jsonschema import Draft202012Validator

    schema = json.loads(files("ftbench.report").joinpath("datasheet.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)
