"""A catalogue in ftbench's own form: a folder with `products.jsonl`, photographs, and maybe queries.

Must not know stores. `products.jsonl` has one object per line: item_id, title, description, tags, category and images,
which are paths relative to the folder, the primary one first; only item_id and title are needed.
"""

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from ftbench.errors import DataError, several
from ftbench.items import Item, Progress, Queries, SourceInfo, silent
from ftbench.sources.folder_queries import has_queries, note, read_folder_queries
from ftbench.sources.listings import DISCLOSURES, Listing, listing_items
from ftbench.sources.rows import Tally, inside, safe_path
from ftbench.sources.tables import clean_id, json_rows, plain, read_lines

PRODUCTS = "products.jsonl"
KEYS = ("item_id", "title", "description", "tags", "category", "images")


def parse_products(
    lines: Iterable[bytes], stays: Callable[[str], bool], tally: Tally, problems: list[str]
) -> Iterator[Listing]:
    """The products of `products.jsonl`, in its order.

    stays: whether a relative path stays in the folder when its links are followed. A malformed row is dropped and
    added to `problems` with its number; one without a title, or with an item_id seen before, is dropped and counted.
    """
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        one = Tally()
        row = next(json_rows((line,), one), None)
        tally.read += one.read
        wrong = list(one.reasons) if row is None else _wrong(row, stays)
        if wrong:
            tally.drop("malformed row")
            for problem in wrong:
                note(problems, f"row {number}: {problem}")
            continue
        if row is None:
            continue
        item_id, title = str(clean_id(row["item_id"])), plain(row.get("title"))
        if not title:
            tally.drop("product without a title")
        elif item_id in seen:
            tally.drop("product with an item_id seen before")
        else:
            tally.kept += 1
            seen.add(item_id)
            yield Listing(
                item_id=item_id,
                title=title,
                description=plain(row.get("description")),
                tags=tuple(filter(None, map(plain, _tags(row.get("tags"))))),
                category=plain(row.get("category")),
                images=tuple(dict.fromkeys(filter(None, map(safe_path, row.get("images") or ())))),
            )


def _tags(value: object) -> Iterable[object]:
    return value.split(",") if isinstance(value, str) else value or ()


def _wrong(row: Mapping, stays: Callable[[str], bool]) -> list[str]:
    """What keeps a row from being used as it is."""
    wrong = []
    if "item_id" not in row:
        wrong.append("no item_id")
    elif not clean_id(row["item_id"]):
        wrong.append(f"item_id: expected a text of at most 128 characters without spaces, got {_shown(row['item_id'])}")
    for key in ("title", "description", "category"):
        if not isinstance(row.get(key) or "", str):
            wrong.append(f"{key}: expected a text, got {_shown(row[key])}")
    for key in ("tags", "images"):
        value = row.get(key) or []
        one_text = key == "tags" and isinstance(value, str)
        if not one_text and not (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
            wrong.append(f"{key}: expected a list of texts, got {_shown(value)}")
        elif key == "images":
            out = [path for path in value if not (safe := safe_path(path)) or _absolute(path) or not stays(safe)]
            wrong += [f"images: {_shown(path)} is no path inside the folder" for path in out]
    for key in row.keys() - set(KEYS):
        near = difflib.get_close_matches(key.lower(), [known for known in KEYS if known not in row], n=1, cutoff=0.8)
        if near:
            wrong.append(f"unknown key {_shown(key)}; did you mean {near[0]!r}?")
    return wrong


def _absolute(path: str) -> bool:
    return path.strip().startswith(("/", "\\"))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Folder:
    """A folder with `products.jsonl`, and maybe `queries.tsv`, or `queries.jsonl` with `qrels.tsv`, `interactions.tsv`.

    `dropped` counts what was left out by reason, `rows` what became of the rows of each file.
    """

    def __init__(self, folder: Path, name: str, with_images: bool = True):
        self.folder, self.with_images = Path(folder), with_images
        self._tallies: dict[str, Tally] = {}
        self._lost: Counter = Counter()
        self._splits: dict[str, str] | None = None
        self.info = SourceInfo(
            name=name,
            version="folder-v1",
            title=f"Catalogue from a folder ({name})",
            licence="the owner's",
            redistributable=False,
            description=f"Products read from {PRODUCTS} and the photographs beside it.",
            photographs=True,
            private=True,
            disclosures=DISCLOSURES,
        )
        if not (self.folder / PRODUCTS).is_file():
            raise DataError(
                f"no catalogue found: {folder} holds no {PRODUCTS}. Give a folder that has one; each of its lines is "
                'an object such as {"item_id": "a1", "title": "Red lamp", "images": ["photos/a1.jpg"]}'
            )

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason; complete when items and queries have been read."""
        return dict(sum((tally.reasons for tally in self._tallies.values()), Counter()) + self._lost)

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """What became of the rows of each file."""
        return {name: tally.counts() for name, tally in self._tallies.items()}

    def items(self, progress: Progress) -> Iterator[Item]:
        """The items in file order. Raises DataError naming all malformed rows, before the first item."""
        lost, splits = Counter(), {}
        place = (lambda path: self.folder / path) if self.with_images else None
        for item in listing_items(self._listings, place, lost, progress):
            splits[item.item_id] = item.split
            yield item
        self._lost, self._splits = lost, splits

    def _listings(self) -> Iterator[Listing]:
        problems, tally = [], Tally()
        self._tallies["products"] = tally
        lines = read_lines(self.folder / PRODUCTS)

        @cache
        def stays(directory: Path) -> bool:
            return inside(self.folder, directory)

        def file_stays(path: str) -> bool:  # following links costs many calls of the system, a file that is none one
            link = os.path.islink(self.folder / path)
            return stays(Path(path).parent) and (not link or inside(self.folder, path))

        yield from parse_products(lines, file_stays, tally, problems)
        if problems:
            raise several(f"{PRODUCTS} cannot be used as it is", problems, DataError)

    def queries(self) -> Queries:
        """The queries of the folder's files; none where there are none. Raises DataError naming all malformed rows."""
        if not has_queries(self.folder):
            return Queries()
        if self._splits is None:
            for _ in self.items(silent):
                pass
        found, tallies = read_folder_queries(self.folder, self._splits)
        self._tallies |= tallies
        return found
