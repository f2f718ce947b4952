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
        error = "" if math.isnan(self.error) else f" ± {self.error:.2f}"
        return f"{round(self.slope, 2) + 0.0:.2f}{error}"  # + 0.0: never -0.00


def exponent(x: Sequence[float], y: Sequence[float]) -> Exponent:
    """Least squares of log y on log x: y grows like x to that power. The error is nan for two points.

    Raises FtbenchError for fewer than two different x, and for values that are not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
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
    """What a figure of curves says beside them. order: all names of a study, so that a curve has its colour and marker
    in each of its figures. slopes: (name, exponent) of faint lines to compare with, from the lowest curve's first
    point."""

    x: str
    y: str
    ticks: Sequence[float]
    order: Sequence[str]
    slopes: Sequence[tuple[str, float]] = ()


def curves(canvas, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], axes: Axes) -> None:
    """Draw {name: (x, y)} on two logarithmic axes, each curve named at its right end in its own colour."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    drawn = canvas.subplots()
    drawn.set(xscale="log", yscale="log", xlabel=axes.x, ylabel=axes.y)
    values = [value for _, y in lines.values() for value in y]
    lowest, first, last = min(y[0] for _, y in lines.values()), axes.ticks[0], axes.ticks[-1]
    spare = max(max(values) / min(values), 2) ** 0.07
    drawn.set_ylim(min(values) / spare, max(values) * spare)
    for name, power in axes.slopes:
        x = np.geomspace(first, last, 50)
        drawn.plot(x, lowest * (x / first) ** power, color="#B8B8B8", linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        at = x[20], lowest * (x[20] / first) ** power
        apart = [math.log(np.interp(at[0], *line) / at[1]) for line in lines.values() if line[0][-1] >= at[0]]
        up = min([d for d in apart if d > 0.03], default=9) > -max([d for d in apart if d < -0.03], default=-9)
        drawn.annotate(name, at, (-3, 5) if up else (3, -5), textcoords="offset points", color=GREY, fontsize=10,
                       ha="right" if up else "left", va="bottom" if up else "top")  # fmt: skip
    for name, (x, y) in lines.items():
        place = axes.order.index(name)
        drawn.plot(x, y, color=COLOURS[place], marker=_MARKERS[place], label=name, zorder=3 + 0.01 * place,
                   markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip
    drawn.set_xticks(axes.ticks, [f"{tick:g}" for tick in axes.ticks])
    drawn.xaxis.set_minor_locator(NullLocator())
    decades = math.log10(max(values) / min(values))
    drawn.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    drawn.yaxis.set_minor_locator(NullLocator())
    drawn.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    drawn.grid(axis="x", visible=False)
    _named(canvas, drawn, lines, axes)


def _named(canvas, drawn, lines: Mapping[str, tuple], axes: Axes) -> None:
    """Names of curves to the right of the axes, kept apart, each with a thin line from its curve's end; of a curve that
    ends earlier below its end."""
    for name, (x, y) in lines.items():
        if x[-1] < axes.ticks[-1]:
            drawn.annotate(name, (x[-1], y[-1]), (0, -7), textcoords="offset points", ha="center", va="top",
                           color=_dark(COLOURS[axes.order.index(name)]), fontsize=11.5)  # fmt: skip
    lines = {name: ends for name, ends in lines.items() if ends[0][-1] == axes.ticks[-1]}
    height = canvas.get_size_inches()[1] * 72 * 0.78  # points that the axes are high, about
    low, high = (math.log(value) for value in drawn.get_ylim())
    ends = [(math.log(y[-1]) - low) / (high - low) * height for _, y in lines.values()]
    placed = spread_labels(ends, _LABEL)
    down = max(0.0, max(placed, default=0.0) - height) + min([0.0, *placed])
    for (name, (x, y)), at in zip(lines.items(), placed, strict=True):
        colour = COLOURS[axes.order.index(name)]
        drawn.annotate(
            name, (x[-1], y[-1]), (1.05, (at - down) / height), xycoords="data", textcoords="axes fraction",
            color=_dark(colour), va="center", ha="left", fontsize=11.5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 5},
        )  # fmt: skip
    drawn.set_xlim(right=axes.ticks[-1] * 1.06)


def _dark(colour: str) -> str:
    """A shade in which text can be read on white."""
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * 0.68):02x}" for i in (1, 3, 5))


def ratios(canvas, rows: Sequence[tuple[str, float, float, float]], limit: float, label: str) -> None:
    """Draw (name, ratio, low, high) as points with intervals, with lines at 1 and at a limit; a ratio that is further
    from 1 than six times the limit is written at the edge instead."""
    drawn = canvas.subplots()
    edges = 1 - 6 * (limit - 1), 1 + 6 * (limit - 1)
    shown = [low for _, ratio, low, _ in rows if edges[0] < ratio < edges[1]]
    start = max(edges[0], min([0.97, *shown]) - 0.005)
    for place, (_, ratio, low, high) in enumerate(reversed(rows)):
        colour, marker = (COLOURS[0], "o") if ratio <= limit else (COLOURS[1], "D")
        if edges[0] < ratio < edges[1]:
            drawn.plot([low, min(high, edges[1])], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            drawn.plot([ratio], [place], color=colour, marker=marker)
        else:
            edge, side, away = (start, "left", 18) if ratio < 1 else (edges[1], "right", -18)
            drawn.annotate(
                f"{ratio:.1f} times", (edge, place), (away, 0), textcoords="offset points", color=_dark(colour),
                ha=side, va="center", arrowprops={"arrowstyle": "->", "color": colour},
            )  # fmt: skip
    drawn.axvline(1, color=GREY, linewidth=1, zorder=1)
    drawn.axvline(limit, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    drawn.set(xlabel=label, xlim=(start, edges[1]), ylim=(-0.7, len(rows) - 0.3))
    drawn.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    drawn.grid(axis="y", visible=False)
