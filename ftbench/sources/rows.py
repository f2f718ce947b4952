"""What loaders of raw data share: counted rows, clean text, own queries, groups by shared images.

Must not know any source. Every row that is read is kept, merged or dropped with a reason; a loader that loses one
silently is broken.
"""

import csv
import hashlib
import html
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from ftbench.errors import DataError, several
from ftbench.items import Interaction, Judgement, Queries, Query, normalize_query, split_of

MOST_IMAGES = 8  # per item (DATASETS.md, "Mapping and splits")
PLACEHOLDER = 20  # an image that more items than this share is a placeholder or a banner (DATASETS.md)
SHARES = (0.40, 0.10, 0.50)  # train, valid, test of a small store (DESIGN.md, "Splits and galleries")
LARGE_SHARES = (0.90, 0.05, 0.05)  # of public sources (DESIGN.md, likewise)
_FIELD_LIMIT = 16 * 1024 * 1024  # characters; `configurable_variations` outgrows the csv module's 131,072
_END = "\0 end \0"  # read after a CSV file's last line: found inside a cell, that cell was never closed
_PATH_LIMIT, _NAME_LIMIT = 1024, 255  # bytes of a path and of a name in it: what common file systems take
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# What no reader sees (code, comments, Magento's own directives): how it opens, and by that how it ends.
_OPENS = re.compile(r"<(?:script|style)\b|<!--|\{\{", re.I)
_ENDS = {
    opening: re.compile(end, re.I)
    for opening, end in (("<script", r"</script\s*>"), ("<style", r"</style\s*>"), ("<!--", "-->"), ("{{", r"\}\}"))
}
_STARTS = ("{{", "<!--", "<s", "<S")  # a quick look, before the slower search for _OPENS
_ENDLESS = re.compile(r"&#[0-9]{8,};?")  # int() refuses 4,300 digits; the last code point, 1114111, has seven


@dataclass
class Tally:
    """What became of the rows: `read` = `kept` + `merged` + `dropped`; `reasons` says why rows were dropped."""

    read: int = 0
    kept: int = 0
    merged: int = 0
    dropped: int = 0
    reasons: Counter = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        """Count one row that is left out."""
        self.dropped += 1
        self.reasons[reason] += 1

    def counts(self) -> dict[str, int]:
        """The four counts by name."""
        return {"read": self.read, "kept": self.kept, "merged": self.merged, "dropped": self.dropped}


def strip_html(text: str) -> str:
    """Plain text of an HTML fragment: tags and directives out, entities resolved (twice escaped too), single spaces."""
    for more in (True, True, False):
        if "<" in text or "{{" in text:
            text = _TAG.sub(" ", _without_unseen(text))
        if more and "&" in text:
            text = unescaped(text)
        elif "<" not in text:
            break
    text = text.replace("\u2022", " ")
    if text.isprintable() and "  " not in text:  # no white space but single spaces: most texts, three times as fast
        return text.strip()
    return " ".join(text.split())


def unescaped(text: str) -> str:
    """The text with its HTML entities resolved; one of a number that no character has gives U+FFFD."""
    return html.unescape(_ENDLESS.sub("\ufffd", text))


def _without_unseen(text: str) -> str:
    """The text without scripts, styles, comments and directives, each up to its first end; time linear in its length.

    (A regular expression with `.*?` takes quadratic time on openings that are never closed.)
    """
    if not any(start in text for start in _STARTS):
        return text
    kept, place, endless = [], 0, set()
    for opening in _OPENS.finditer(text):
        kind = opening.group().lower()
        if opening.start() < place or kind in endless:
            continue
        if end := _ENDS[kind].search(text, opening.end()):
            kept.append(text[place : opening.start()])
            place = end.end()
        else:
            endless.add(kind)
    return " ".join((*kept, text[place:]))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_path(text: str) -> str | None:
    """A relative path that stays in its folder, forward slashes; None for what leaves it or can be no file's path.

    Links are not looked at: whoever opens the file compares its resolved path with the folder's.

    >>> safe_path("/m/h/./mh01.jpg"), safe_path("a/../../b"), safe_path("C:/x.jpg")
    ('m/h/mh01.jpg', None, None)
    """
    parts = [part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:  # lone surrogates
        return None
    if not parts or ".." in parts or ":" in parts[0] or not text.strip().isprintable():
        return None
    return "/".join(parts) if max(sizes) <= _NAME_LIMIT and sum(sizes) + len(sizes) <= _PATH_LIMIT else None


def inside(folder: Path, path: str | Path) -> bool:
    """Whether a path below `folder` stays there when its links are followed; the file need not exist."""
    try:
        return (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, NUL
        return False


def query_id(prefix: str, text: str) -> str:
    """A query's id: it depends on its normalised text alone, so adding queries renames none."""
    return f"{prefix}-{hashlib.sha256(normalize_query(text).encode()).hexdigest()[:10]}"


def read_rows(
    path: Path, required: Iterable[str], tally: Tally, problems: list[str], columns: Collection[str] | None = None
) -> list[tuple[int, dict]]:
    """A CSV file's rows with their numbers as a spreadsheet shows them (the header is row 1).

    columns: those that are kept, all of them where None. A file that cannot be read as UTF-8 CSV with the required
    columns is added to `problems`; a row with another number of cells than the header is dropped and counted. Every row
    read counts in `tally.read`. A quotation mark that is never closed would swallow all rows after it: a problem too.
    """
    rows: list[tuple[int, dict]] = []
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(chain(file, (_END,)))
            header = [name.strip() for name in next(reader)]
            unclosed = "a quotation mark opens a cell and is never closed, so that nothing after it can be read"
            if len(header) > 1 and header[-1].endswith(_END):
                problems.append(f"{path.name}, row 1: {unclosed}")
                return []
            missing = [name for name in required if name not in header]
            if missing:
                problems.append(f"{path.name}, row 1: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
                return []
            for number, cells in enumerate(reader, start=2):
                if not any(cells) or cells == [_END]:
                    continue
                tally.read += 1
                if cells[-1].endswith(_END):
                    problems.append(f"{path.name}, row {number}: {unclosed}")
                    tally.drop("row with a quotation mark that is never closed")
                    continue
                if len(cells) != len(header):
                    tally.drop("row with another number of cells than the header")
                    continue
                row = zip(header, cells, strict=True)
                rows.append((number, {name: cell for name, cell in row if columns is None or name in columns}))
    except UnicodeDecodeError:
        problems.append(f"{path.name}: not UTF-8; export it again as UTF-8 CSV")
    except csv.Error as problem:
        problems.append(f"{path.name}: not a readable CSV file ({problem})")
    except OSError as problem:
        problems.append(f"{path.name}: cannot be opened ({problem.strerror})")
    finally:
        csv.field_size_limit(limit)
    return rows


def read_queries(path: Path, splits: Mapping[str, str], tally: Tally) -> Queries:
    """A person's own `query<TAB>item_id[<TAB>gain]` file (header row; gain 1 where absent) as queries of each split.

    splits: item id -> split. Train queries become interactions with train items, the others judgements. Lines that name
    an unknown item, or a train query with an item outside train, are dropped and counted. Raises DataError with lines.
    """
    problems: list[str] = []
    texts: dict[str, str] = {}
    gains: dict[str, dict[str, float]] = {}
    first = ""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: not UTF-8; save it again as UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split("\t")]
        if number == 1 and cells[:2] != ["query", "item_id"]:
            problems.append("line 1: expected the header 'query<TAB>item_id[<TAB>gain]'")
        if number == 1 or not any(cells):
            continue
        tally.read += 1
        try:
            text, item_id, gain = cells[0], cells[1], float(cells[2]) if len(cells) > 2 and cells[2] else 1.0
        except (IndexError, ValueError):
            problems.append(f"line {number}: expected a query, an item id and a number, got {line!r}")
            continue
        first = first or item_id
        key = normalize_query(text)
        split = split_of("query", key, SHARES)
        if item_id not in splits:
            tally.drop("query line that names an absent product")
        elif not key or not 0 < gain < float("inf"):
            tally.drop("query line without text or with a gain that is not positive")
        elif split == "train" and splits[item_id] != "train":
            tally.drop("train query of a product outside train")
        else:
            tally.kept += 1
            texts.setdefault(key, re.sub(r"\s+", " ", text))
            gains.setdefault(key, {})[item_id] = gain
    if problems:
        if lines and "\t" not in lines[0] and lines[0].count(",") + lines[0].count(";"):
            problems = ["its cells are separated by commas or semicolons; save it with tabs between them"]
        raise several(str(path.name), problems, DataError)
    if tally.read and not gains:
        whys = "; ".join(f"{reason}: {count:,}" for reason, count in tally.reasons.most_common())
        raise DataError(
            f"{path.name}: none of its {tally.read:,} lines can be used ({whys}). Its first product is {first!r}; the "
            f"catalogue's products are such as {next(iter(splits), '')!r}."
        )
    rows = [
        (Query(query_id("q", key), texts[key], split_of("query", key, SHARES)), found) for key, found in gains.items()
    ]
    return Queries(
        queries=tuple(query for query, _ in rows),
        judgements=tuple(
            Judgement(q.query_id, i, g) for q, found in rows if q.split != "train" for i, g in found.items()
        ),
        interactions=tuple(Interaction(q.query_id, i) for q, found in rows if q.split == "train" for i in found),
    )


def groups(shared: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Union-find: item id -> the smallest item id reachable over shared keys. shared: item id -> its image keys."""
    parent = {item_id: item_id for item_id in shared}

    def root(item_id: str) -> str:
        while parent[item_id] != item_id:
            parent[item_id] = parent[parent[item_id]]
            item_id = parent[item_id]
        return item_id

    owner: dict[str, str] = {}
    for item_id, keys in shared.items():
        for key in keys:
            first, second = sorted((root(item_id), root(owner.setdefault(key, item_id))))
            parent[second] = first
    return {item_id: root(item_id) for item_id in shared}


def image_key(name: str) -> int:
    """The first 64 bits of an image's name or digest, hashed: 4 million images collide with probability 5e-7."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big")


class SharedImages:
    """Which items share images, for catalogues too large for sets of strings: 16 bytes per image of an item.

    Add every item once with the keys of its images (`image_key`), then `settle`. Items of one `owner` are offers of
    one product: always in one group, and counted once when an image's products are counted.
    """

    def __init__(self) -> None:
        self.placeholders: frozenset[int] = frozenset()  # keys of images that more than PLACEHOLDER products have
        self._items: list[str] = []
        self._first: dict[str, int] = {}  # owner -> number of its first item
        self._ties: dict[str, list[str]] = {}  # item -> what ties it to others of its owner
        self._item, self._owner, self._key = array("I"), array("I"), array("Q")  # one entry per image of an item
        self._groups: dict[str, str] = {}

    def add(self, item_id: str, keys: Iterable[int], owner: str | None = None) -> None:
        """One item with its images. owner: the product it offers, itself where None."""
        number = len(self._items)
        self._items.append(item_id)
        first = number if owner is None else self._first.setdefault(owner, number)
        if first != number:
            self._ties[self._items[first]] = self._ties[item_id] = [f"owner {owner}"]
        for key in dict.fromkeys(keys):
            self._item.append(number)
            self._owner.append(first)
            self._key.append(key)

    def settle(self) -> int:
        """Find placeholders and groups. Returns how often placeholders stood among the items' images."""
        item, owner, key = (np.array(column) for column in (self._item, self._owner, self._key))
        order = np.lexsort((item, owner, key))
        item, owner, key = item[order], owner[order], key[order]
        new = np.ones(len(key), dtype=np.int64)  # 1 where another product begins, within an image's entries
        new[1:] = (key[1:] != key[:-1]) | (owner[1:] != owner[:-1])
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]][: len(key)])  # (images,)
        entries = np.diff(np.r_[starts, len(key)])
        placeholder = np.add.reduceat(new, starts) > PLACEHOLDER if len(starts) else np.zeros(0, dtype=bool)
        self.placeholders = frozenset(key[starts[placeholder]].tolist())
        shared = {item_id: list(ties) for item_id, ties in self._ties.items()}
        for image in np.flatnonzero((entries > 1) & ~placeholder).tolist():
            for number in item[starts[image] : starts[image] + entries[image]].tolist():
                shared.setdefault(self._items[number], []).append(f"image {image}")
        self._groups = {item_id: group for item_id, group in groups(shared).items() if item_id != group}
        return int(entries[placeholder].sum())

    def group(self, item_id: str) -> str:
        """The smallest item id of an item's group; its own where it shares nothing."""
        return self._groups.get(item_id, item_id)
