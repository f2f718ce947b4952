"""Small line charts of a run page as inline SVG paths: recall by depth, loss by step. Must not know HTML.

Coordinates are in units of the picture, from the upper left corner.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ftbench.report import words

WIDTH, HEIGHT = 420, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 16, 18, 28  # margins of the plotting area
_MOST_POINTS = 200  # of a line: more would not be seen at this width


@dataclass(frozen=True)
class Dot:
    """A measured point with its text, and the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Chart:
    """What is drawn. ticks: (position, text); line: the path of this run; others: those of runs to compare with; said:
    the chart in words, for those who do not see it."""

    axis: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    line: str
    said: str
    others: tuple[str, ...] = ()
    dots: tuple[Dot, ...] = ()


def _to_y(top: float) -> Callable[[float], float]:
    return lambda value: round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top, 1)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


_Y_OF_SHARE = _to_y(1.0)
_SHARE_TICKS = tuple((_Y_OF_SHARE(value), f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1))


def recall(scores: Mapping[str, Mapping]) -> Chart | None:
    """recall@k by k, on a logarithmic axis from the smallest k that was measured; None with fewer than two depths."""
    known = sorted((int(name.partition("@")[2]), score) for name, score in scores.items()
                   if name.startswith("recall@") and score["mean"] is not None)  # fmt: skip
    if len(known) < 2:
        return None
    first, last = math.log10(known[0][0]), math.log10(known[-1][0])
    left, span = _LEFT + 32, WIDTH - _LEFT - _RIGHT - 46  # room for the texts at both ends, apart from the axis's own

    def to_x(k: int) -> float:
        return round(left + span * (math.log10(k) - first) / (last - first), 1)

    def to_y(value: float | None) -> float | None:
        return None if value is None else _Y_OF_SHARE(value)

    dots = tuple(
        Dot(to_x(k), to_y(s["mean"]), to_y(s["low"]), to_y(s["high"]), words.score(s["mean"])) for k, s in known
    )
    said = ", ".join(f"recall@{k} {words.score(s['mean'])}" for k, s in known)
    return Chart("k, items looked at", tuple((to_x(k), f"{k:,}") for k, _ in known), _SHARE_TICKS,
                 _path([(dot.x, dot.y) for dot in dots]), f"Recall by depth: {said}", dots=dots)  # fmt: skip


def losses(curves: Mapping[str, Sequence]) -> dict[str, Chart]:
    """A chart for each of some runs of one row, by id, on one scale, with the other runs behind its own line.

    curves: by id [[step, loss or null], ...] as records hold it. Runs of fewer than two losses have no chart.
    """
    known = {run: kept for run, curve in curves.items() if len(kept := _finite(curve)) > 1}
    if not known:
        return {}
    most = max(step for curve in known.values() for step, _ in curve) or 1
    top, y_values = _round_up(max(loss for curve in known.values() for _, loss in curve))
    to_y, span = _to_y(top), WIDTH - _LEFT - _RIGHT
    last, x_values = _round_up(most)
    x_ticks = tuple((round(_LEFT + span * v / last, 1), words.number(v)) for v in x_values)
    y_ticks = tuple((to_y(v), f"{v:g}") for v in y_values)
    paths = {
        run: _path([(round(_LEFT + span * step / last, 1), to_y(loss)) for step, loss in curve])
        for run, curve in known.items()
    }
    return {
        run: Chart("optimiser steps", x_ticks, y_ticks, paths[run],
                   "Loss by step: " + ", ".join(f"{loss:.3g} at step {step:,}" for step, loss in (curve[0], curve[-1])),
                   tuple(path for other, path in paths.items() if other != run))
        for run, curve in known.items()
    }  # fmt: skip


def _finite(curve: Sequence) -> list[tuple[int, float]]:
    """The points that have a loss, ascending, thinned evenly; losses below 0 are drawn as 0."""
    kept = sorted((step, max(0.0, loss)) for step, loss in curve if loss is not None and math.isfinite(loss))
    apart = -(-len(kept) // _MOST_POINTS) or 1
    return kept[::apart] + (kept[-1:] if (len(kept) - 1) % apart else [])


def _round_up(most: float) -> tuple[float, list[float]]:
    """The end of an axis from 0 that holds `most`, and round values on it: three to six."""
    if not 0 < most < 1e300:
        return 1.0, [0, 1]
    step = 10 ** math.floor(math.log10(most))
    step = next(s for s in (step / 5, step / 4, step / 2, step, 2 * step) if most <= 5 * s)
    count = math.ceil(round(most / step, 6))
    return count * step, [float(f"{i * step:.6g}") for i in range(count + 1)]
