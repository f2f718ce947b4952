"""Quality against cost for papers: the main tables as SVG and PNG, drawn by matplotlib. Must not know HTML.

The same data give the same bytes with one version of matplotlib. Each file holds the hash of what it shows, so that a
file of an earlier rendering is kept while its data are the same: drawing is slow, and versions of matplotlib differ.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

from ftbench.report import island, plot, words
from ftbench.report.aggregate import Row, Table
from ftbench.report.columns import COSTS
from ftbench.report.gathered import Board
from ftbench.report.html import Page

_AXES = (  # (cost, axis); the first that separate a table's methods are drawn
    ("total_seconds", "seconds of the whole run"),
    ("forward_equivalents", "forward-equivalents of training"),
    ("search_p95_ms", "milliseconds per query, p95"),
    ("index_bytes_per_item", "bytes per item in the index"),
)  # fmt: skip
_MOST_AXES, _MOST_TABLES, _MOST_MACHINES = 2, 4, 3  # so that drawing all of them anew stays a matter of seconds
_DRAWING = 3  # changes with the look of the figures: earlier files are drawn anew
_DPI = 200  # of the PNG: sharp on a page, and small in a repository
KINDS = ("svg", "png")
_LEFT_OUT = {"svg": ("Date", "Creator"), "png": ("Software",)}  # what matplotlib would write of the time and itself
_FONT = 9.5  # points; a figure is 400 points wide
_HALO = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # behind a label: a line below it stops there
_COLOURS = {"best": "#0b6b61", "dot": "#918a7d", "ink": "#1d1c1a", "soft": "#57534d", "grid": "#e7e2d9",
            "axis": "#cfc8bb", "ceiling": "#a8481c"}  # of style.css.j2, on white  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One figure: its file name without ending, the words at its axes, the methods, (name, score) of each ceiling, and
    the machine that all of its rows ran on."""

    stem: str
    axis: str
    measure: str
    points: tuple[plot.Point, ...]
    ceilings: tuple[tuple[str, float], ...]
    machine: str

    @property
    def key(self) -> str:
        """A hash of all that the figure shows."""
        return hashlib.sha256(repr((_DRAWING, astuple(self))).encode()).hexdigest()


def is_main(table: Table) -> bool:
    """Whether a table belongs to the overview: equal compute, and no catalogue that only confirms another."""
    return table.board == "equal-compute" and not table.data["name"].endswith("-confirm")


def drawn(tables: Sequence[Table]) -> list[Table]:
    """The tables that have figures."""
    return [table for table in tables if is_main(table)][:_MOST_TABLES]


def exists(board: Board) -> bool:
    return any(of_table(table) for table in drawn(board.tables))


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """figures/*.svg and *.png."""
    for table in drawn(board.tables):
        for figure in of_table(table):
            paths = {kind: f"figures/{figure.stem}.{kind}" for kind in KINDS}
            found = {kind: _kept(board, path, figure.key) for kind, path in paths.items()}
            made = {} if all(found.values()) else draw(figure)
            yield from (Page(path, found[kind] or made[kind]) for kind, path in paths.items())


def _kept(board: Board, path: str, key: str) -> bytes | None:
    """The file of an earlier rendering, where it shows the same."""
    file = board.site and board.site / path
    content = file.read_bytes() if file and file.is_file() else b""
    return content if key.encode() in content else None


def of_table(table: Table) -> list[Figure]:
    """Scatters of a table's rows, those of one machine in each: costs of several are not comparable.

    The machine of most rows comes first; another has its own where it has two rows at least.
    """
    rows = [row for row in table.rows if row.headline.mean is not None and len(row.hardware) == 1]
    tags = [row.hardware[0] for row in rows]
    often = sorted(sorted(set(tags)), key=tags.count, reverse=True)
    chosen = [tag for i, tag in enumerate(often) if i == 0 or tags.count(tag) > 1][:_MOST_MACHINES]
    made: list[Figure] = []
    for i, tag in enumerate(chosen):
        here = [row for row in rows if row.hardware == (tag,)]
        made += _of_machine(table, here, f"-{tag[:4]}" if i else "", f", on {tag[:4]}" if len(chosen) > 1 else "")
    return made


def _of_machine(table: Table, rows: Sequence[Row], ending: str, where: str) -> list[Figure]:
    """The figures of the rows of one machine. ending: of their file names; where: what their axes say of it."""
    costs, made = {cost.name: cost for cost in COSTS}, []
    about = next(entry.record["environment"] for entry in rows[0].entries)
    ceilings = tuple((reference(row), row.headline.mean) for row in table.ceilings)
    for name, axis in _AXES:
        known = [(row, cost) for row in rows if (cost := costs[name].value(row)) is not None]
        if not known or (made and not plot.says_something([cost for _, cost in known])) or len(made) == _MOST_AXES:
            continue
        points = [
            plot.Point(label(row), cost, row.headline.mean, row.headline.low, row.headline.high, row.group == "best")
            for row, cost in known
        ]
        stem = f"{table.key}-{name.replace('_', '-')}{ending}"
        machine = f"{island.machine(about)} ({about['fingerprint'][:4]})"
        measure = words.measure(table.task["headline"])
        made.append(Figure(stem, axis + where, measure, tuple(points), ceilings, machine))
    return made


def reference(row: Row) -> str:
    """What a ceiling is called beside its line: "oracle (reads images)", or "ceiling" where it is the only one."""
    own = ", ".join(chip.replace("=", " ") for chip in row.variant)
    return f"{words.spaced(row.method)} ({own})" if own else "ceiling"


def label(row: Row) -> str:
    """A short name for a figure."""
    parts = [words.spaced(row.method), *row.variant]
    return " ".join(parts) + (" (zero-shot)" if row.is_zero_shot else "")


def draw(figure: Figure) -> dict[str, bytes]:
    """The figure as a file of each kind. No date and no random name is in it."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    made, files = plot.plot(figure.axis, figure.points, figure.ceilings), {}
    settings = {"svg.hashsalt": "ftbench", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": _FONT,
                "text.parse_math": False}  # fmt: skip
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks: a box stands for them
        canvas = Canvas(figsize=(plot.WIDTH / 72, plot.HEIGHT / 72), facecolor="white")
        axes = canvas.add_axes((0, 0, 1, 1), xlim=(0, plot.WIDTH), ylim=(plot.HEIGHT, 0))  # a unit is a point
        axes.axis("off")
        _draw_frame(axes, made, figure.measure)
        axes.text(2, plot.HEIGHT - 3, figure.machine, color=_COLOURS["soft"], fontsize=0.72 * _FONT)
        _draw_marks(axes, made)
        for kind in KINDS:
            about = {"Description": f"ftbench {figure.key}"} | dict.fromkeys(_LEFT_OUT[kind])
            canvas.savefig(out := io.BytesIO(), format=kind, dpi=_DPI, metadata=about)
            files[kind] = out.getvalue()
    return files


def _draw_frame(axes, made: plot.Plot, measure: str) -> None:
    """Axes with their ticks, the ceilings and the Pareto front."""
    base, end, soft, thin = plot.HEIGHT - plot.BOTTOM, plot.WIDTH - plot.RIGHT, _COLOURS["soft"], {"linewidth": 0.8}
    for i, (y, text) in enumerate(made.y_ticks):
        axes.plot((plot.LEFT, end), (y, y), color=_COLOURS["grid" if i else "axis"], zorder=1, **thin)
        axes.text(plot.LEFT - 6, y, text, ha="right", va="center_baseline", color=soft)
    for x, text in made.x_ticks:
        axes.plot((x, x), (base, base + 4), color=_COLOURS["axis"], zorder=1, **thin)
        axes.text(min(x, plot.WIDTH - 3.2 * len(text)), base + 15, text, ha="center", color=soft)  # not cut at the edge
    axes.text(end, base + 33, f"{made.axis}{', logarithmic' if made.logarithmic else ''} →", ha="right", color=soft)
    axes.text(2, plot.TOP - 16, f"↑ {measure}", color=soft)
    for y, text, x, anchor in made.ceilings:
        axes.plot((plot.LEFT, end), (y, y), color=_COLOURS["ceiling"], linewidth=1, dashes=(4, 3))
        axes.text(x, y - 4, text, ha={"start": "left", "end": "right"}[anchor], color=_COLOURS["ceiling"])
    if made.above:
        axes.text(end, plot.TOP - 16, f"{made.above} ↑", ha="right", color=_COLOURS["ceiling"])
    corners = plot.corners(made.marks)
    xs, ys = [mark.x for mark in corners], [mark.y for mark in corners]
    axes.step([*xs, end], [*ys, ys[-1]], where="post", color=_COLOURS["best"], alpha=0.7, linewidth=1.3, zorder=2)


def _draw_marks(axes, made: plot.Plot) -> None:
    """Points with whiskers, and their labels."""
    for mark in made.marks:
        colour = _COLOURS["best" if mark.point.best else "dot"]
        if mark.leader:
            from_x, from_y, to_x, to_y = mark.leader
            axes.plot((from_x, to_x), (from_y, to_y), color=_COLOURS["soft"], linewidth=0.7, dashes=(2, 2), zorder=3)
        if mark.low is not None:
            axes.plot((mark.x, mark.x), (mark.low, mark.high), color=_COLOURS["soft"], linewidth=1.1, zorder=4)
        axes.plot(mark.x, mark.y, "o", markersize=8.5, color=colour, markeredgecolor="white", zorder=5)
        side = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
        colour = _COLOURS["best" if mark.point.best else "ink"]
        for i, line in enumerate(mark.lines):
            axes.text(mark.label_x, mark.label_y + i * plot.LINE, line, ha=side, color=colour, zorder=6, bbox=_HALO)
