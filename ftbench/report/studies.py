"""Studies: what was asked and found, in studies/<name>.json of the results folder, with pictures in studies/<name>/.

Must not know how studies are made. Such files may come from others: texts are escaped, names stay in their folder, and
a picture that could run a script or fetch anything is refused.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ftbench.errors import DataError, several
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page

FOLDER = "studies"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.(svg|png)")
_LARGEST = 4_000_000  # bytes of a picture
_TEXTS, _LISTS = ("title", "question", "command"), ("findings", "figures")
_VISIBLE = 5  # findings that stand open; those of a long list are behind a click


@dataclass(frozen=True)
class Figure:
    """A picture. path: its file; caption: what it shows, also for those who do not see it; png: the same for slides and
    documents, where there is one beside an SVG."""

    path: Path
    caption: str
    png: Path | None = None

    @property
    def files(self) -> list[Path]:
        return [self.path, *([self.png] if self.png else [])]


@dataclass(frozen=True)
class Study:
    """A question, what was found, a text each, the command that makes it again, and figures."""

    name: str
    title: str
    question: str
    command: str
    findings: tuple[str, ...]
    figures: tuple[Figure, ...]

    def target(self, picture: Path) -> str:
        """Where a picture lies in the site."""
        return f"figures/study-{self.name}-{picture.name}"


def exists(board: Board) -> bool:
    return any((board.results / FOLDER).glob("*.json"))


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """studies.html and the pictures."""
    found = studies(board.results)
    yield page("studies.html", "studies.html.j2", nav, board.facts, studies=found, visible=_VISIBLE)
    for study in found:
        for picture in dict.fromkeys(path for figure in study.figures for path in figure.files):
            yield Page(study.target(picture), picture.read_bytes())


def studies(results: Path) -> list[Study]:
    """All studies of a results folder, by name. Raises DataError listing the problems of all of them."""
    found, wrong = [], []
    for path in sorted((results / FOLDER).glob("*.json")):
        problems: list[str] = []
        study = _read(path, problems)
        found.append(study)
        wrong += [f"{path.name}: {problem}" for problem in problems]
    if wrong:
        raise several(f"studies in {results / FOLDER}", wrong, DataError)
    return found


def _read(path: Path, problems: list[str]) -> Study | None:
    """A study; what is wrong with it is added to `problems`."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        problems.append(f"is not JSON: {problem}")
        return None
    if not isinstance(told, dict) or set(told) != {*_TEXTS, *_LISTS}:
        problems.append("expected title, question, findings, command and figures, and nothing else")
        return None
    if not all(isinstance(told[name], list) for name in _LISTS):
        problems.append("expected a list of findings and a list of figures")
        return None
    if not _NAME.fullmatch(path.stem):
        problems.append("expected a file name of letters, digits, _ and -")
    problems += [f"{name}: expected a text" for name in _TEXTS if not isinstance(told[name], str)]
    problems += [f"finding {text!r:.80}: expected a text" for text in told["findings"] if not isinstance(text, str)]
    figures = []
    for given in told["figures"]:
        if not (isinstance(given, dict) and set(given) == {"file", "caption"} and isinstance(given["caption"], str)):
            problems.append(f"figure {given!r:.80}: expected a file and a caption")
        elif not (isinstance(given["file"], str) and _PICTURE.fullmatch(given["file"])):
            problems.append(f"figure {given['file']!r:.80}: expected a file name that ends in .svg or .png")
        else:
            picture = path.with_suffix("") / given["file"]
            beside = picture.with_suffix(".png")
            figure = Figure(picture, given["caption"], beside if beside != picture and beside.exists() else None)
            wrong = [(file.name, picture_problem(file)) for file in figure.files]
            problems += [f"figure {name}: {problem}" for name, problem in wrong if problem]
            figures.append(figure)
    return Study(path.stem, *(told[name] for name in _TEXTS), tuple(told["findings"]), tuple(figures))


def picture_problem(path: Path) -> str | None:
    """Why a picture cannot be shown, or None."""
    if path.is_symlink() or not path.is_file():
        return "there is no such file"
    data = path.read_bytes()
    if len(data) > _LARGEST:
        return f"it has {len(data):,} bytes, expected at most {_LARGEST:,}"
    if path.suffix == ".png":
        return None if data.startswith(b"\x89PNG\r\n\x1a\n") else "it is not a PNG"
    if b"<!ENTITY" in data:
        return "it declares entities"
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as problem:
        return f"it is not SVG: {problem}"
    return next(filter(None, map(_danger, tree.iter())), None)


def _danger(node: ElementTree.Element) -> str | None:
    """What of an element could run a script or fetch something."""
    tag = str(node.tag).rpartition("}")[2].lower()
    if tag in ("script", "foreignobject", "iframe", "embed", "object", "set", "animate", "a", "handler"):
        return f"it holds <{tag}>"
    for name, value in node.attrib.items():
        short, plain = name.rpartition("}")[2].lower(), value.strip().lower()
        if short.startswith("on"):
            return f"it holds the attribute {short}"
        if short in ("href", "src") and not plain.startswith(("#", "data:image/png")):
            return f"it names another file in {short}"
        if _fetches(plain):
            return f"it names another file in {short}"
    text = (node.text or "").lower()
    return "its style names another file" if tag == "style" and (_fetches(text) or "@import" in text) else None


def _fetches(style: str) -> bool:
    """Whether a style names anything but a part of its own picture; one with escapes is not read."""
    return "\\" in style or any(sign != "#" for sign in re.findall(r"url\(\s*['\"]?(.?)", style))
