"""The methods of a board: what each one's file says of itself, where it stands on the main tables, how it was tuned.

Files are read, never imported or run. Only ftbench's own methods have their file read: those of others would make the
page depend on what is installed, and show what their records say.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ftbench.provenance import short_title, source_sha256
from ftbench.report import figures, words
from ftbench.report.aggregate import Row, Table
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page
from ftbench.report.searches import Search, searches, typed

DEPARTURE = "Differs from the paper:"
_LABELS = re.compile(rf"^(?=Idea:|{DEPARTURE})", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """A field of a method's Config. comment: its unit and source."""

    name: str
    kind: str
    default: str
    comment: str


@dataclass(frozen=True)
class Source:
    """A method's file. lead: the first paragraph; paragraphs: (label, text) of the others; sha256: of its syntax tree
    without docstrings, as records hold it; untuned_sha256: without what searches put into it."""

    file: str
    lead: str
    paragraphs: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]
    sha256: str
    untuned_sha256: str

    @property
    def departure(self) -> str:
        return next((text for label, text in self.paragraphs if label == DEPARTURE), "")

    @property
    def said(self) -> list[tuple[str, str]]:
        return [paragraph for paragraph in self.paragraphs if paragraph[0] != DEPARTURE]


@dataclass(frozen=True)
class Standing:
    """A method's best row on a table, trained or zero-shot, and its place among the ranked; None for a reference."""

    table: Table
    row: Row
    place: int | None


@dataclass(frozen=True)
class Method:
    """A method as its page shows it. hashes: (SHA-256 of a file, records made with it); source: None where its file is
    not part of ftbench."""

    name: str
    records: Sequence[Mapping]
    source: Source | None
    standings: Sequence[Standing]
    searches: Sequence[Search] = ()

    @property
    def title(self) -> str:
        told = [*(search.told for search in self.searches), *self.records]
        return short_title(self.source.lead if self.source else told[-1]["method"]["title"])

    def changed(self, search: Search) -> bool:
        """Whether the method's file is another than the search had, apart from what searches put into it."""
        return bool(self.source) and self.source.untuned_sha256 != search.told["method"]["untuned_sha256"]

    @property
    def after_title(self) -> tuple[str, str]:
        """What the docstring's first paragraph says beyond the title: the origin, in brackets there, and the rest."""
        text = self.source.lead.removeprefix(self.title) if self.source else ""
        origin, rest = re.fullmatch(r"\s*(?:\(([^()]*)\))?[\s:,.]*(.*)", text).groups()
        return origin or "", rest[:1].upper() + rest[1:]

    @property
    def hashes(self) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        for record in self.records:
            sha256 = record["method"]["sha256"]
            found[sha256] = found.get(sha256, 0) + 1
        return list(found.items())

    @property
    def made(self) -> str:
        """How many records there are, and how many of them were made with the file as it is."""
        if not self.records:
            return "no record on this board"
        text = words.records(len(self.records), sum(record["status"] != "ok" for record in self.records))
        if not self.source:
            return text
        own = sum(record["method"]["sha256"] == self.source.sha256 for record in self.records)
        return f"{text}, {'all' if own == len(self.records) else 'none' if not own else own} made with this file"


def exists(board: Board) -> bool:
    return bool(board.entries)


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """methods.html."""
    yield page("methods.html", "methods.html.j2", nav, board.facts, methods=methods(board), typed=typed)


def methods(board: Board) -> list[Method]:
    """All methods: those on tables in the order of the first that has them, then those with other records, then those
    without any. A file of others of which no run succeeded has no place: boards name its failures."""
    records: dict[str, list[Mapping]] = {}
    for table in board.tables:
        for row in (*table.rows, *table.references):
            records.setdefault(row.method, [])
    for entry in board.entries:
        records.setdefault(entry.record["method"]["name"], []).append(entry.record)
    main = [table for table in board.tables if figures.is_main(table)] or list(board.tables)
    known = {path.stem: path for path in installed()}
    tuned = searches(board.results)
    without = {*known, *(search.method for search in tuned)}
    ran = [name for name, own in records.items() if name in without or any(r["status"] == "ok" for r in own)]
    names = [*ran, *sorted(without - set(ran))]
    return [
        Method(name, records.get(name, []), source(known[name]) if name in known else None, standings(name, main),
               [search for search in tuned if search.method == name])
        for name in names
    ]  # fmt: skip


def standings(name: str, tables: Sequence[Table]) -> list[Standing]:
    """The method's best row on each table that has it; of a method that is trained, then the best untrained one."""
    found = []
    for table in tables:
        places = [(place, row) for place, row in enumerate(table.rows, start=1) if row.headline.mean is not None]
        own = [*((place, row) for place, row in places if row.method == name),
               *((None, row) for row in table.references if row.method == name)]  # fmt: skip
        for untrained in (False, True):
            best = next((one for one in own if one[1].is_zero_shot is untrained), None)
            found += [Standing(table, best[1], best[0])] if best else []
    return found


@cache
def installed() -> tuple[Path, ...]:
    """The files of ftbench's own methods, by name."""
    folder = files("ftbench.baselines")
    return tuple(sorted(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".py") and f.name[0] != "_"))


@cache
def source(path: Path) -> Source:
    """A method's file, read."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lead, *others = [" ".join(part.split()) for part in _paragraphs(ast.get_docstring(tree) or path.stem)]
    config = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Config"), None)
    found = tuple(_setting(node, text.splitlines()) for node in (config.body if config else ())
                  if isinstance(node, ast.AnnAssign))  # fmt: skip
    return Source(path.name, lead, tuple(map(_labelled, others)), found, source_sha256(path),
                  source_sha256(path, tuned=False))  # fmt: skip


def _paragraphs(docstring: str) -> list[str]:
    """Parts of a docstring: at empty lines, and where a line begins with a label that all methods have."""
    return [part for block in re.split(r"\n\s*\n", docstring) for part in _LABELS.split(block) if part.strip()]


def _labelled(text: str) -> tuple[str, str]:
    label, sign, rest = text.partition(":")
    known = sign and label + sign in ("Idea:", DEPARTURE)
    said = rest.strip()
    return (label + sign, said[:1].upper() + said[1:]) if known else ("", text)


def _setting(node: ast.AnnAssign, lines: Sequence[str]) -> Setting:
    comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip().lstrip("# ")
    default = ast.unparse(node.value) if node.value else ""
    return Setting(ast.unparse(node.target), ast.unparse(node.annotation), default, comment)
