"""The datasheet of a prepared data set: its facts, as text, page and Croissant. Must not know methods or runs."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pyarrow, numpy and Jinja2 wait until a datasheet is wanted
    from ftbench.catalogue import Catalogue
    from ftbench.datasheet.counts import Facts


def facts(catalogue: "Catalogue") -> "Facts":
    """Everything that a datasheet says of a prepared catalogue, counted from its tables."""
    from ftbench.datasheet.counts import count

    return count(catalogue)


def as_text(found: "Facts") -> str:
    """The facts as lines for a terminal, at most 100 characters wide; ids, names of categories and numbers only."""
    from ftbench.datasheet.text import as_text as lines

    return lines(found)


def write(catalogue: "Catalogue", folder: Path) -> list[Path]:
    """Write NAME.html, NAME.croissant.json and NAME-sheet.png into `folder`; returns their paths.

    Where texts and images may not be redistributed, the page holds ids and numbers alone; the contact sheet, a file of
    its own, is for the eyes of whoever prepared the data. The same catalogue gives the same bytes. Raises DataError
    where the folder cannot be written.
    """
    from ftbench.datasheet.page import write as write_all

    return write_all(catalogue, Path(folder))


def write_json(catalogue: "Catalogue", results: Path) -> Path:
    """Write the facts to <results>/<name>/datasheet.json, from which the leaderboard makes its page of the data.

    It holds no text or picture of data that may not be redistributed. Raises DataError where it cannot be written.
    """
    from ftbench.datasheet.blocks import as_json
    from ftbench.errors import DataError
    from ftbench.files import write_atomic

    path = Path(results) / catalogue.name / "datasheet.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make {path.parent}: {problem.strerror}. Name another folder: --results") from None
    write_atomic(path, as_json(facts(catalogue)).encode())
    return path
