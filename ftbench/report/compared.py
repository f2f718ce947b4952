"""A comparison of two runs as people read it: in the terminal and as a page. Must not know how it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftbench import __version__, bundle
from ftbench.compare import Comparison, Line, Side, Swing
from ftbench.errors import DataError
from ftbench.files import write_atomic
from ftbench.provenance import short_title
from ftbench.report import words
from ftbench.report.compare import shares
from ftbench.report.html import NAV, Page, page


@dataclass(frozen=True)
class Shown:
    """A table for the terminal. numeric: places of the columns that are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[list[str], ...]
    numeric: range


def head(found: Comparison) -> str:
    """What is compared, in lines."""
    task, data = found.a.first["task"], found.a.first["data"]
    lines = [f"{task['title']} on {data['name']} ({data['version']}, {data['fingerprint'][:12]})"]
    for letter, one in (("A", found.a), ("B", found.b)):
        seeds = f"seed{'s' * (len(one.seeds) > 1)} {', '.join(map(str, one.seeds))}"
        own = [str(pair[letter == "B"]) for what, pair in found.apart.items() if what in ("board", "encoder")]
        lines.append(f"{letter}  {title_of(one)}: {', '.join([one.name, one.first['track'], *own, seeds])}")
    if tuned := _apart(found, True):
        lines.append(f"each as tuned: {tuned}.")
    if others := _apart(found, False):
        lines.append(f"warning: they differ in more than the method: {others}.")
    if found.same:
        lines.append("notice: A and B are the same record, so that nothing differs. Name two.")
    return "\n".join(lines)


def _apart(found: Comparison, tuned: bool) -> str:
    """What differs besides the method: where each side is as its method is tuned, or everything else."""
    chosen = {what: pair for what, pair in found.apart.items() if (what in found.tuned) == tuned}
    return ", ".join(f"{what} ({a} and {b})" for what, (a, b) in chosen.items())


def tables(found: Comparison, results: Path) -> list[Shown]:
    """Every measure, the headline in parts, the largest swings for each side."""
    task = found.a.first["task"]
    unit = "items" if task["pairs"] else "queries"
    heads = (unit, "A", "B", "A - B", "95% interval", "p", "wins", "ties", "losses")
    made = [Shown("", ("measure", *heads), _rows(found.measures), range(1, 10))]
    if found.parts:
        part = "pair" if task["pairs"] else "slice"
        made.append(Shown(f"{task['headline']} in parts", (part, *heads), _rows(found.parts), range(1, 10)))
    texts = _texts(found, results)
    columns = (unit, "A", "B", "A - B", *(("text",) if texts else ()))
    for title, swings in (("Largest swings for A", found.ahead), ("Largest swings for B", found.behind)):
        if swings:
            made.append(Shown(title, columns, tuple(_swing(swing, texts) for swing in swings), range(1, 4)))
    return made


def notes(found: Comparison) -> list[str]:
    """What a reader of the tables has to know, a line each."""
    missing = [
        f"{line.reason}." if line.name in line.reason else f"{line.name}: {line.reason}."
        for line in (*found.measures, *found.parts)
        if line.found is None
    ]
    if found.a.first["task"]["pairs"]:
        missing.append(
            "Swings are an item's mean over the pairs in which it asks. Wins and losses are by what it adds to the "
            "mean over pairs, in which each pair counts alike however many items ask in it."
        )
    unit = "items" if found.a.first["task"]["pairs"] else "queries"
    return [
        *missing,
        f"95% interval: 2,000 resamples of {unit} alone; those of the board's pages resample seeds, too.",
        "p: paired randomization test, 100,000 random draws, not adjusted for how many runs are compared. Pages of the "
        "site draw others: their p may differ in the last digit.",
    ]


def _rows(lines: Sequence[Line]) -> tuple[list[str], ...]:
    """The lines that have numbers."""
    made = []
    for line in lines:
        if line.found is not None:
            f = line.found
            counts = [f"{count:,}" for count in (f.wins, f.ties, f.losses)]
            interval = f"{words.signed(f.low)} to {words.signed(f.high)}"
            made.append([line.name, f"{line.n:,}", words.score(line.a), words.score(line.b),
                         words.signed(f.difference), interval, words.p_value(f.p), *counts])  # fmt: skip
    return tuple(made)


def _swing(swing: Swing, texts: Mapping[str, str]) -> list[str]:
    shown = [words.score(swing.a), words.score(swing.b), words.signed(swing.a - swing.b)]
    return [swing.unit, *shown, *([texts.get(swing.unit, "")] if texts else [])]


def _texts(found: Comparison, results: Path) -> Mapping[str, str]:
    """Texts of the queries, as far as they may be shown and are at hand."""
    return {} if found.a.first["task"]["pairs"] else bundle.query_texts(results, found.a.first["data"])


def title_of(one: Side) -> str:
    """A side as people call it."""
    return short_title(one.first["method"]["title"])


def write(found: Comparison, results: Path, site: Path) -> Path:
    """Write the page of a comparison into a folder of pages; returns its path. Raises DataError."""
    made = page_of(found, _texts(found, results), site)
    try:
        site.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make the folder {site}: {problem.strerror}. Name another: --site DIR") from None
    write_atomic(site / made.path, made.content)
    return site / made.path


def page_of(found: Comparison, texts: Mapping[str, str], site: Path) -> Page:
    """compare-<12 of a's id>-<12 of b's>.html, self-contained. texts: of queries; site: whose pages it links to."""
    nav = tuple((file, title) for file, title in NAV if (site / file).is_file())
    everything = [record for one in (found.a, found.b) for record in one.records]
    about = {
        "version": __version__, "records": len(everything), "failed": 0, "release": None,
        "newest": max(record["date"][:10] for record in everything),
        "digest": " ".join(record["id"][:12] for record in everything),
    }  # fmt: skip
    task = found.a.first["task"]
    return page(
        f"compare-{found.a.first['id'][:12]}-{found.b.first['id'][:12]}.html", "pair.html.j2", nav, about, found=found,
        texts=texts, title_of=title_of, shares=shares, task=task, data=found.a.first["data"],
        tuned=_apart(found, True), apart=_apart(found, False),
        pair_titles={pair["name"]: pair["title"] for pair in task["pairs"]},
    )  # fmt: skip
