"""The geometry of a figure of quality against cost: ticks, points, the Pareto front, labels that do not overlap.

Must not know matplotlib: `figures` draws what is computed here. Coordinates are in points, from the upper left corner.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ftbench.report import words

WIDTH, HEIGHT = 400, 320
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 28, 46  # margins of the plotting area
_RADIUS = 4.5
_CHARACTER, LINE = 5.7, 12.5  # mean width and line height of 11-unit sans-serif text
_LOG_FROM = 25  # costs further apart than this factor are drawn on a logarithmic axis
_WIDE, _NARROW = 20, 12  # characters in a line of a label
_CLUSTER = 60  # points closer than this along the axis share the order of their labels
_LEAST_SPREAD = 1.2  # an axis on which all methods cost the same says nothing


@dataclass(frozen=True)
class Point:
    """One method: cost x, quality y with its interval."""

    label: str
    x: float
    y: float
    low: float | None
    high: float | None
    best: bool


@dataclass(frozen=True)
class Mark:
    """A point where it is drawn, its whisker, and its label's lines (anchored at label_x, middle at leader_y)."""

    point: Point
    x: float
    y: float
    low: float | None
    high: float | None
    lines: tuple[str, ...] = ()
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"
    leader: bool = False
    leader_y: float = 0.0


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn. ticks: (position, text)."""

    axis: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    logarithmic: bool
    ceiling: float | None
    ceiling_text: str


def says_something(costs: Sequence[float | None]) -> bool:
    """Whether an axis separates at least two methods."""
    known = [cost for cost in costs if cost is not None]
    return len(known) > 1 and max(known) > _LEAST_SPREAD * max(min(known), 0)


def plot(axis: str, points: Sequence[Point], ceiling: float | None = None) -> Plot:
    """Lay out a scatter of at least one point. ceiling: a quality to mark, on the top edge where it is far above."""
    logarithmic = min(p.x for p in points) > 0 and max(p.x for p in points) > _LOG_FROM * min(p.x for p in points)
    to_x, x_ticks = _log_axis(points) if logarithmic else _linear_axis(max(p.x for p in points))
    top = max(max(p.y, p.high or 0) for p in points) or 1.0
    near = ceiling is not None and ceiling <= 1.35 * top
    y_ticks, upper = _ticks(max(top, ceiling) if near else top, most=1.0)
    span = HEIGHT - TOP - BOTTOM

    def to_y(value: float | None) -> float | None:
        return None if value is None else round(HEIGHT - BOTTOM - span * value / upper, 1)

    marks = [Mark(p, to_x(p.x), to_y(p.y), to_y(p.low), to_y(p.high)) for p in points]
    return Plot(
        axis, tuple(_labelled(marks)),
        tuple((to_x(value), words.number(value)) for value in x_ticks),
        tuple((to_y(value), f"{value:.2f}".rstrip("0").rstrip(".") or "0") for value in y_ticks),
        logarithmic, to_y(ceiling) if near else None,
        "" if ceiling is None else f"ceiling {words.score(ceiling)}",
    )  # fmt: skip


def _ticks(top: float, most: float = math.inf) -> tuple[list[float], float]:
    """About five round values from 0 to a little above `top`, but not above `most`; and the end of the axis."""
    step = 10 ** math.floor(math.log10(top))
    step = next(s for s in (step / 10, step / 5, step / 4, step / 2, step, 2 * step) if top / s <= 5)
    count = math.ceil(round(min(top * 1.04, most) / step, 6))
    return [i * step for i in range(count + 1)], count * step


def _linear_axis(most: float):
    ticks, upper = _ticks(most or 1.0)
    return (lambda x: round(LEFT + (WIDTH - LEFT - RIGHT) * x / upper, 1)), ticks


def _log_axis(points: Sequence[Point]):
    low = math.log10(min(p.x for p in points)) - 0.12
    high = math.log10(max(p.x for p in points)) + 0.12
    candidates = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    ticks = [t for t in candidates if low <= math.log10(t) <= high]
    if len(ticks) > 6:
        ticks = [t for t in ticks if math.log10(t) == round(math.log10(t))]

    def to_x(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(x) - low) / (high - low), 1)

    return to_x, ticks


def corners(marks: Sequence[Mark]) -> list[Mark]:
    """The methods on the Pareto front, cheapest first: no method is both cheaper and better than one of them."""
    found: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.point.x, -m.point.y)):
        if not found or mark.point.y > found[-1].point.y:
            found.append(mark)
    return found


def _front_boxes(marks: Sequence[Mark]) -> list[tuple]:
    """The front's segments as boxes that labels keep clear of."""
    front = corners(marks)
    boxes = []
    for mark, after in zip(front, [*front[1:], None], strict=True):
        end = after.x if after else WIDTH - RIGHT
        boxes.append((mark.x, mark.y - 1, end, mark.y + 1))
        if after:
            boxes.append((end - 1, after.y, end + 1, mark.y))
    return boxes


@cache
def _offsets(roomier: int) -> np.ndarray:
    """(p, 3): side, gap and shift of every place a label is tried at, nearest and roomier side first."""
    tried = [(side, gap, shift) for side in (roomier, -roomier) for gap in (9, 22, 36) for shift in range(-138, 139, 3)]
    return np.array(sorted(tried, key=lambda t: t[1] + 1.2 * abs(t[2]) + (0 if t[0] == roomier else 4)), dtype=float)


def _meet(boxes: np.ndarray, others: Sequence[tuple]) -> np.ndarray:
    """(p,) bool: whether each of the boxes (p, 4), left, top, right, bottom, meets one of the others."""
    other = np.reshape(others, (-1, 4)).T
    left, top, right, bottom = (boxes[:, [i]] for i in range(4))
    return ((left < other[2]) & (other[0] < right) & (top < other[3]) & (other[1] < bottom)).any(axis=1)


def _places(mark: Mark, lines: Sequence[str], taken: Sequence[tuple]):
    """(label_x, middle of the label, anchor, leader, box) of every place that meets nothing taken, nearest first."""
    width, height = _CHARACTER * max(map(len, lines)), LINE * len(lines)
    side, gap, shift = _offsets(-1 if mark.x > (LEFT + WIDTH - RIGHT) / 2 else 1).T
    x, y = mark.x + side * gap, mark.y + shift
    left = np.where(side > 0, x, x - width)
    boxes = np.stack([left - 1, y - height / 2, left + width + 1, y + height / 2], axis=1)
    inside = (boxes[:, 0] >= LEFT + 2) & (boxes[:, 2] <= WIDTH) & (boxes[:, 1] >= 0)
    inside &= boxes[:, 3] <= HEIGHT - BOTTOM - 1
    for i in np.flatnonzero(inside)[~_meet(boxes[inside], taken)]:
        anchor, leader = "start" if side[i] > 0 else "end", bool(gap[i] > 9 or abs(shift[i]) > 6)
        yield float(x[i]), float(y[i]), anchor, leader, tuple(map(float, boxes[i]))


def _leader_box(mark: Mark, x: float, y: float) -> list[tuple]:
    """A leader as a chain of small boxes, from where it leaves its point."""
    steps = [i / 8 for i in range(2, 8)]
    at = [(mark.x + t * (x - mark.x), mark.y + t * (y - mark.y)) for t in steps]
    return [(px - 0.5, py - 0.5, px + 0.5, py + 0.5) for px, py in at]


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """Marks with labels that meet neither each other nor a point nor the front, best first.

    Labels on one side of a cluster keep the order of their points, so that leaders do not cross. A label without a free
    place is left to the tooltip.
    """
    reach = _RADIUS + 1.5
    points = [(m.x - reach, m.y - reach, m.x + reach, m.y + reach) for m in marks]
    taken = points + [(m.x - 1, m.high, m.x + 1, m.low) for m in marks if m.low is not None] + _front_boxes(marks)
    labels: list[tuple] = []
    leaders: list[tuple] = []
    done: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.y, m.x, m.point.label)):
        near = [m for m in done if m.lines and abs(m.x - mark.x) < _CLUSTER]
        tries = (
            (_WIDE, labels + leaders, near), (_NARROW, labels + leaders, near),
            (_WIDE, labels, near), (_NARROW, labels, near),  # a leader may cross another one
            (_WIDE, labels, ()), (_NARROW, labels, ()),  # and the order may change
        )  # fmt: skip
        found = (_free_place(mark, width, taken + leaders, avoid, above) for width, avoid, above in tries)
        place = next(filter(None, found), None)
        if place:
            mark, box, line = place
            labels.append(box)
            leaders += line
        done.append(mark)
    return done


def _free_place(mark: Mark, width: int, taken: list, labels: list, near: Sequence[Mark]):
    """The mark with its label at the nearest place that meets neither `taken` nor `labels`, and the boxes it takes.

    It is below the labels of `near` on its side; its leader keeps clear of `labels` alone.
    """
    lines = tuple(words.lines(mark.point.label, width))
    for x, y, anchor, leader, box in _places(mark, lines, [*taken, *labels]):
        if any(m.anchor == anchor and m.leader_y > y for m in near):
            continue
        line = _leader_box(mark, x, y) if leader else []
        if line and labels and _meet(np.array(line), labels).any():
            continue
        first = round(y - LINE * len(lines) / 2 + 9.6, 1)  # baseline of the first line
        placed = replace(mark, lines=lines, label_x=round(x, 1), label_y=first, anchor=anchor, leader=leader,
                         leader_y=round(y, 1))  # fmt: skip
        return placed, box, line
    return None
