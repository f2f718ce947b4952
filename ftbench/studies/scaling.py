"""What the figures of several studies are made of: curves with their names beside them, exponents, bars against a line.

Must not know what is measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ftbench.errors import FtbenchError
from ftbench.studies.base import COLOURS, GREY, spread_labels

_MARKERS = "osD^vPX*"
_LABEL = 13  # points between the names of two curves


@dataclass(frozen=True)
class Exponent:
    """The slope of a straight line through (log x, log y), its standard error and the number of points."""

    slope: float
    error: float
    points: int

    def __str__(self) -> str:
        return f"{self.slope:.2f} ± {self.error:.2f}"


def exponent(x: Sequence[float], y: Sequence[float]) -> Exponent:
    """Least squares of log y on log x: y grows like x to that power. The error is nan for two points.

    Raises FtbenchError for fewer than two different x, and for values that are not positive.
    """
    log_x, log_y = (np.log(np.asarray(values, dtype=np.float64)) for values in (x, y))
    if len(set(x)) < 2 or not (np.isfinite(log_x).all() and np.isfinite(log_y).all()):
        raise FtbenchError(f"no exponent of {list(y)} at {list(x)}: expected positive values at two points or more.")
    centred = log_x - log_x.mean()
    slope = float((centred * log_y).sum() / (centred**2).sum())
    off = log_y - log_y.mean() - slope * centred
    spare = len(log_x) - 2
    error = math.sqrt(float((off**2).sum()) / spare / float((centred**2).sum())) if spare else math.nan
    return Exponent(slope, error, len(log_x))


@dataclass(frozen=True)
class Axes:
    """What a figure of curves says beside them. slopes: (name, exponent) of faint lines to compare with, each from the
    lowest curve's first point."""

    x: str
    y: str
    ticks: Sequence[float] = ()
    slopes: Sequence[tuple[str, float]] = ()


def curves(canvas, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], axes: Axes) -> None:
    """Draw {name: (x, y)} on two logarithmic axes, each curve named at its right end in its own colour."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    drawn = canvas.subplots()
    drawn.set(xscale="log", yscale="log", xlabel=axes.x, ylabel=axes.y)
    lowest = min(y[0] for _, y in lines.values())
    first, last = (end(x for xs, _ in lines.values() for x in xs) for end in (min, max))
    top = max(max(y) for _, y in lines.values())
    low = min(min(y) for _, y in lines.values())
    drawn.set_ylim(low / (top / low) ** 0.07, top * (top / low) ** 0.07)
    for name, power in axes.slopes:
        x = np.geomspace(first, last, 50)
        drawn.plot(x, lowest * (x / first) ** power, color="#B8B8B8", linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        at = x[20]
        drawn.annotate(name, (at, lowest * (at / first) ** power), (0, -6), textcoords="offset points", va="top",
                       color=GREY, fontsize=10, ha="left")  # fmt: skip
    for place, (name, (x, y)) in enumerate(lines.items()):
        drawn.plot(x, y, color=COLOURS[place % len(COLOURS)], marker=_MARKERS[place % len(_MARKERS)], label=name,
                   zorder=3 + 0.01 * place, markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip
    ticks = list(axes.ticks or sorted({x for xs, _ in lines.values() for x in xs}))
    drawn.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    drawn.xaxis.set_minor_locator(NullLocator())
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    drawn.yaxis.set_major_formatter(plain)
    drawn.yaxis.set_minor_formatter(plain if top / low < 8 else NullFormatter())
    drawn.tick_params(axis="y", which="minor", labelsize=11)
    drawn.grid(axis="x", visible=False)
    _named(canvas, drawn, lines, last)


def _named(canvas, drawn, lines: Mapping[str, tuple], last: float) -> None:
    """Names of curves to the right of the axes, kept apart, each with a thin line from its curve's end."""
    height = canvas.get_size_inches()[1] * 72 * 0.72  # points that the axes are high, about
    low, high = (math.log(value) for value in drawn.get_ylim())
    ends = [(math.log(y[-1]) - low) / (high - low) * height for _, y in lines.values()]
    placed = spread_labels(ends, _LABEL)
    down = max(0.0, max(placed) - height) - max(0.0, -min(placed))
    for place, (name, (x, y)) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        drawn.annotate(
            name, (x[-1], y[-1]), (1.05, (placed[place] - down) / height), xycoords="data", textcoords="axes fraction",
            color=colour, va="center", ha="left", fontsize=11, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.6, "shrinkA": 2, "shrinkB": 5},
        )  # fmt: skip
    drawn.set_xlim(right=last * 1.06)


def ratios(canvas, rows: Sequence[tuple[str, float, float, float]], limit: float, label: str) -> None:
    """Draw (name, ratio, low, high) as points with intervals on a logarithmic axis, with lines at 1 and at a limit."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    drawn = canvas.subplots()
    drawn.set(xscale="log", xlabel=label)
    for place, (_, ratio, low, high) in enumerate(reversed(rows)):
        colour = COLOURS[0] if ratio <= limit else COLOURS[1]
        drawn.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        drawn.plot([ratio], [place], color=colour, marker="o" if ratio <= limit else "D")
    drawn.axvline(1, color=GREY, linewidth=1, zorder=1)
    drawn.axvline(limit, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    drawn.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    drawn.set_ylim(-0.7, len(rows) - 0.3)
    drawn.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    most = max(high for *_, high in rows)
    drawn.xaxis.set_minor_formatter(NullFormatter())
    if most < 3:
        ticks = [tick for tick in (0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 2.5) if tick <= most * 1.02]
    else:
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200) if tick <= most * 1.3]
    drawn.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    drawn.grid(axis="y", visible=False)
