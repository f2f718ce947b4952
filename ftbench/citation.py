"""How to cite ftbench, a board, a run and the papers behind the methods: BibTeX and plain text. Must not know pages."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ftbench import __version__, release, rescore
from ftbench import record as records
from ftbench.errors import DataError, FtbenchError, counted, several
from ftbench.release import digest

TITLE = "ftbench: a reproducible benchmark of retrieval over products with several images and several texts"
AUTHORS = "The ftbench authors"
_WSDM = "ACM International Conference on Web Search and Data Mining"
_SIGNS = {  # BibTeX counts braces whether or not a backslash stands before them, so that none may stand alone
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "—": "---", "–": "--", "→": r"$\to$",
}  # fmt: skip
_TABLE = str.maketrans(dict.fromkeys(map(chr, (*range(32), 127)), "") | _SIGNS)
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v ", "\u0327": "c "}


@dataclass(frozen=True)
class Citation:
    """One entry. authors: "Given Family" each, or one name of a group; fields: (BibTeX name, plain text), in order;
    short: what people call it."""

    key: str
    kind: str
    authors: tuple[str, ...]
    title: str
    year: str
    fields: tuple[tuple[str, str], ...] = ()
    short: str = ""

    def bibtex(self) -> str:
        """The entry in BibTeX: accents as TeX commands, braces balanced whatever the texts say."""
        author = f"{{{tex(self.authors[0])}}}" if len(self.authors) == 1 else " and ".join(map(_inverted, self.authors))
        fields = [("title", f"{{{tex(self.title)}}}"), ("author", author), ("year", self.year)]
        fields += [(name, value if name == "url" else tex(value)) for name, value in self.fields]
        shown = [(name, value) for name, value in fields if value]
        wide = max(len(name) for name, _ in shown)
        lines = ",\n".join(f"  {name:<{wide}} = {{{value}}}" for name, value in shown)
        return f"@{self.kind}{{{self.key},\n{lines}\n}}"

    def text(self) -> str:
        """The entry as a sentence or three."""
        rest = [value for name, value in self.fields if name not in ("url", "eprinttype")]
        parts = [listed(self.authors), self.title, *([self.year] if self.year else []), ", ".join(rest)]
        return " ".join(part.rstrip(".") + "." for part in parts if part)


PAPERS = (
    Citation(
        "chen2026factorized", "inproceedings",
        ("Xiwen Chen", "Yen-Chieh Lien", "Susan Liu", "María Castaños", "Abolfazl Razi", "Xiaoting Zhao", "Congzhe Su"),
        "Factorized Transport Alignment for Multimodal and Multiview E-commerce Representation Learning", "2026",
        (("booktitle", f"Proceedings of the 19th {_WSDM} (WSDM 2026)"), ("note", "arXiv 2512.18117"), ("url", "https://arxiv.org/abs/2512.18117")),
        "factorized transport",
    ),
    Citation(
        "lien2024generalized", "article", ("Yen-Chieh Lien", "Hamed Zamani", "W. Bruce Croft"),
        "Generalized Weak Supervision for Neural Information Retrieval", "2024",
        (("journal", "ACM Transactions on Information Systems"), ("note", "arXiv 2304.08912"),
         ("url", "https://arxiv.org/abs/2304.08912")),
        "generalized weak supervision",
    ),
)  # fmt: skip
SOFTWARE = Citation("ftbench", "software", (AUTHORS,), TITLE, "", (("version", __version__),))


@dataclass(frozen=True)
class Version:
    """Which board is meant. release: its name, None for the records as they are; digest: of all records; newest: the
    day of the newest record, as 2026-01-15."""

    release: str | None
    digest: str
    records: int
    newest: str

    @property
    def name(self) -> str:
        return f"board {self.release}, digest {self.digest}" if self.release else f"board of digest {self.digest}"


def version(records: Sequence[Mapping], release: str | None = None) -> Version:
    """The version of a board that consists of these records, reproductions not among them."""
    newest = max((record["date"][:10] for record in records), default="1970-01-01")
    return Version(release, digest(records), len(records), newest)


def of_board(board: Version) -> Citation:
    """A board as a whole."""
    note = f"{counted(board.records, 'record')}, newest of {board.newest}, ftbench {__version__}"
    named = f"{board.release}, digest {board.digest}" if board.release else f"digest {board.digest}"
    return Citation(f"ftbench_board_{_key(board.release or board.digest)}", "misc", (AUTHORS,),
                    f"The ftbench leaderboard{f', board {board.release}' if board.release else ''}", board.newest[:4],
                    (("version", named), ("note", note)))  # fmt: skip


def of_run(record: Mapping, board: Version) -> Citation:
    """One run: record id, date and the board that it is read from; its headline with interval where it has one."""
    task, score = record["task"], record["scores"].get(record["task"]["headline"]) or {}
    said = []
    if score.get("mean") is not None:
        said.append(f"{task['headline']} {score['mean']:.3f}")
        if score["low"] is not None:
            said[-1] += f" (95% interval {score['low']:.3f} to {score['high']:.3f})"
    method = record["method"]["name"]
    said += [f"seed {record['seed']}", f"record {record['id']}", f"run of {day(record['date'])}", board.name]
    return Citation(f"ftbench_{_key(method)}_{record['id'][:12]}", "misc", (AUTHORS,),
                    f"ftbench run: {method} on {task['name']}, {record['data']['name']}", record["date"][:4],
                    (("note", ", ".join(said)),))  # fmt: skip


def cited(
    results: Path, given: str | None, released: str | None = None, warn: Callable[[str], None] = lambda text: None
) -> Citation:
    """The entry of the record that a person names, or of the board where none is named.

    released: a board version, None for the records as they are. warn: told where there is no run file to check the
    record by. Raises FtbenchError for names that do not exist, where the release does not hold the record, and where
    its scores do not follow from its run file.
    """
    found = None
    if given is not None:
        path, found = records.named(results, given)
        _check(path, found, warn)
    held = release.frozen(results, released) if released else records.read_all(results)
    shown = release.distinct(held)
    board = version(shown, released)
    if found is None:
        return of_board(board)
    if found["id"] not in {record["id"] for record in shown}:
        raise FtbenchError(f"record {given} is not on the board of {released or results}.")
    return of_run(found, board)


def _check(path: Path, record: Mapping, warn: Callable[[str], None]) -> None:
    """Compute a record's scores again, where it has a run file. Raises DataError listing those that differ."""
    wrong = list(rescore.rescore_one(path).problems)
    if not wrong:
        return
    if not path.with_name(record["run_file"]["name"]).is_file():
        warn(f"{path}: its scores were not checked, because its run file is missing.")
        return
    hint = f"Take the record from where it was made, or run it again with --force. To see all: ftbench rescore {path}"
    raise several(f"{path} is not cited: its scores do not follow from its run file", wrong, DataError, hint, 5)


def bibliography(entries: Iterable[Citation]) -> str:
    """BibTeX of several entries, an empty line between."""
    return "\n\n".join(entry.bibtex() for entry in entries)


def tex(text: str) -> str:
    """A text for TeX: its special signs written out, accents as commands, no line breaks or control characters."""
    plain = " ".join(text.split()).translate(_TABLE)
    return plain if plain.isascii() else "".join(map(_accented, plain))


def _accented(letter: str) -> str:
    parts = unicodedata.normalize("NFD", letter)
    if unicodedata.category(letter)[0] == "C":
        return ""
    if len(parts) == 2 and parts[1] in _ACCENTS:
        base = {"i": r"\i", "j": r"\j"}.get(parts[0], parts[0]) if parts[1] != "\u0327" else parts[0]
        return f"{{\\{_ACCENTS[parts[1]]}{base}}}"
    return letter


def _inverted(name: str) -> str:
    given, _, family = name.rpartition(" ")
    return tex(f"{family}, {given}" if given else family)


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def day(moment: str) -> str:
    """The day of a record's date in words: 15 January 2026; as it is where there is no such day."""
    try:
        found = date.fromisoformat(moment[:10])
    except ValueError:
        return moment[:10]
    return f"{found.day} {found:%B %Y}"
