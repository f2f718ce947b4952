"""Queries beside a catalogue in ftbench's own form. Must not know products or photographs.

Either `queries.tsv` (query, item_id, gain), or `queries.jsonl` (query_id, text) with `qrels.tsv` (query_id, item_id,
gain) and `interactions.tsv` (query_id, item_id), each with a header row.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ftbench.errors import DataError, several
from ftbench.items import Interaction, Judgement, Queries, Query, normalize_query, split_of
from ftbench.sources.rows import SHARES, Tally, read_queries
from ftbench.sources.tables import clean_id, json_rows, leave_out, read_lines

OWN = "queries.tsv"
QUERIES, QRELS, INTERACTIONS = "queries.jsonl", "qrels.tsv", "interactions.tsv"
MOST_PROBLEMS = 20  # of one file that are told at a time; a file of another kind has as many as it has rows
_LONGEST_QUERY = 2000  # characters (ours); CLIP's text towers read some 300
_UNDECODED = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of bytes that are not UTF-8


def note(problems: list[str], problem: str) -> None:
    """Add a problem; after MOST_PROBLEMS only that there are more."""
    if len(problems) < MOST_PROBLEMS:
        problems.append(problem)
    elif len(problems) == MOST_PROBLEMS:
        problems.append("there are more: mend these and import again")


def has_queries(folder: Path) -> bool:
    """Whether a folder holds any file of queries."""
    return any((folder / name).is_file() for name in (OWN, QUERIES, QRELS, INTERACTIONS))


def read_folder_queries(folder: Path, splits: Mapping[str, str]) -> tuple[Queries, dict[str, Tally]]:
    """The queries of a folder and what became of the rows of each file. splits: item id -> split.

    Raises DataError naming all malformed rows of all files.
    """
    here = [name for name in (OWN, QUERIES, QRELS, INTERACTIONS) if (folder / name).is_file()]
    if OWN in here:
        if len(here) > 1:
            raise DataError(f"{OWN} and {', '.join(here[1:])} both hold queries. Keep {OWN} alone, or the others.")
        tally = Tally()
        return read_queries(folder / OWN, splits, tally), {"queries": tally}
    if QUERIES not in here:
        raise DataError(
            f"{' and '.join(here)} without {QUERIES}, which gives the queries their text. Put it beside, with lines "
            'such as {"query_id": "q1", "text": "red lamp"}'
        )
    tallies, problems, evidence = {"queries": Tally()}, [], Evidence(splits)
    evidence.add_queries(read_lines(folder / QUERIES), tallies["queries"], problems)
    for name, add in ((QRELS, evidence.add_qrels), (INTERACTIONS, evidence.add_interactions)):
        if name in here:
            tallies[name.removesuffix(".tsv")] = tally = Tally()
            add(read_lines(folder / name), tally, problems)
    if problems:
        raise several("the queries cannot be used as they are", problems, DataError)
    return evidence.queries(tallies), tallies


class Evidence:
    """Queries with what is known of them, as the files are read: queries first. splits: item id -> split."""

    def __init__(self, splits: Mapping[str, str]):
        self._splits = splits
        self._queries: dict[str, Query] = {}
        self._same: dict[str, str] = {}  # query id -> the id of the first query of the same text
        self._gains: dict[str, dict[str, float]] = {}
        self._led: dict[str, dict[str, None]] = {}

    def add_queries(self, lines: Iterable[bytes], tally: Tally, problems: list[str]) -> None:
        """The lines of `queries.jsonl`. Queries of one text are one."""
        first_of: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            one = Tally()
            row = next(json_rows((line,), one), None)
            tally.read += one.read
            if not one.read:
                continue
            text = row.get("text") if row else None
            query_id = clean_id(row.get("query_id")) if row else None
            if not query_id or not isinstance(text, str):
                tally.drop("malformed row")
                note(
                    problems,
                    f"{QUERIES}, row {number}: "
                    + (", ".join(one.reasons) or 'expected {"query_id": an id without spaces, "text": a text}'),
                )
                continue
            text = re.sub(r"[\s\0]+", " ", text[:_LONGEST_QUERY].encode("utf-8", "ignore").decode()).strip()
            key = normalize_query(text)
            if query_id in self._same:
                tally.drop("query with a query_id seen before")
            elif not key:
                tally.drop("query without text")
            elif key in first_of:
                tally.merged += 1
                self._same[query_id] = first_of[key]
            else:
                tally.kept += 1
                first_of[key] = self._same[query_id] = query_id
                self._queries[query_id] = Query(query_id, text, split_of("query", key, SHARES))

    def add_qrels(self, lines: Iterable[bytes], tally: Tally, problems: list[str]) -> None:
        """The lines of `qrels.tsv`: judgements, or for train queries interactions. The first of equal pairs stays."""
        for number, cells in _tsv(lines, QRELS, ("query_id", "item_id", "gain"), tally, problems):
            try:
                gain = float(cells[2])
            except ValueError:
                gain = math.nan
            if not 0 <= gain < math.inf:
                tally.drop("malformed row")
                note(problems, f"{QRELS}, row {number}: expected a gain of 0 or more, got {cells[2][:80]!r}")
            elif pair := self._pair(cells, tally):
                query_id, item_id = pair
                train = self._queries[query_id].split == "train"
                known = self._led if train else self._gains
                if train and not gain:
                    tally.drop("train query with a product of gain 0")
                elif item_id in known.get(query_id, ()):
                    tally.merged += 1
                elif train:
                    self._lead(query_id, item_id, tally)
                else:
                    tally.kept += 1
                    self._gains.setdefault(query_id, {})[item_id] = gain

    def add_interactions(self, lines: Iterable[bytes], tally: Tally, problems: list[str]) -> None:
        """The lines of `interactions.tsv`: train queries with the products that they led to."""
        for _, cells in _tsv(lines, INTERACTIONS, ("query_id", "item_id"), tally, problems):
            if pair := self._pair(cells, tally):
                if self._queries[pair[0]].split != "train":
                    tally.drop("interaction of a query outside train")
                elif pair[1] in self._led.get(pair[0], ()):
                    tally.merged += 1
                else:
                    self._lead(*pair, tally)

    def _pair(self, cells: Sequence[str], tally: Tally) -> tuple[str, str] | None:
        """Query and item of a row; None, and counted, where one does not exist."""
        query_id = self._same.get(cells[0])
        if query_id and cells[1] in self._splits:
            return query_id, cells[1]
        tally.drop("line that names an absent product" if query_id else "line that names an absent query")
        return None

    def _lead(self, query_id: str, item_id: str, tally: Tally) -> None:
        if self._splits[item_id] != "train":
            tally.drop("train query of a product outside train")
            return
        tally.kept += 1
        self._led.setdefault(query_id, {})[item_id] = None

    def queries(self, tallies: Mapping[str, Tally]) -> Queries:
        """All of them: train queries whether or not they led anywhere, the others where a product has a gain.

        tallies: of the files by their stems; to be called once, since what is left out now is counted there.
        """
        reason = "query without a product of positive gain"
        judged = {query_id for query_id, gains in self._gains.items() if any(gains.values())}
        kept = [q for q in self._queries.values() if q.split == "train" or q.query_id in judged]
        leave_out(tallies["queries"], len(self._queries) - len(kept), reason)
        if vain := sum(len(gains) for query_id, gains in self._gains.items() if query_id not in judged):
            leave_out(tallies["qrels"], vain, f"judgement of a {reason}")
        return Queries(
            queries=tuple(kept),
            judgements=tuple(
                Judgement(q, i, g) for q, gains in self._gains.items() if q in judged for i, g in gains.items()
            ),
            interactions=tuple(Interaction(q, i) for q, items in self._led.items() for i in items),
        )


def _tsv(
    lines: Iterable[bytes], name: str, header: Sequence[str], tally: Tally, problems: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """Row numbers and cells of a TSV file with a header row; malformed rows are dropped and added to `problems`."""
    expected = "<TAB>".join(header)
    number = 0
    for number, line in enumerate(lines, start=1):
        text = line.decode("utf-8-sig", "surrogateescape")
        cells = [cell.strip() for cell in text.split("\t")]
        if number == 1:
            if tuple(cells) != tuple(header):
                note(problems, f"{name}, row 1: expected the header {expected!r}, got {text.strip()[:80]!r}")
                return
            continue
        if not any(cells):
            continue
        tally.read += 1
        if len(cells) != len(header) or not all(cells) or _UNDECODED.search(text):
            tally.drop("malformed row")
            note(problems, f"{name}, row {number}: expected {expected}, got {text.strip()[:80]!r}")
            continue
        yield number, cells
    if not number:
        note(problems, f"{name}, row 1: expected the header {expected!r}, got an empty file")
