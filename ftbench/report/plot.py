"""The geometry of a figure of quality against cost: ticks, points, the Pareto front, labels that do not overlap.

Must not know matplotlib: `figures` draws what is computed here. Coordinates are in points, from the upper left corner.
"""

import math
from collections.abc import Mapping, Sequence
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
_FORBIDDEN = 1e6  # the cost of a place where a label would hide a point or another label
_CROWD = 40  # marks beyond which one order is tried
_SWEEPS = 4  # how often each label is placed, all others standing
_LEAST_SPREAD = 1.2  # an axis on which all methods cost the same says nothing


Box = tuple[float, float, float, float]  # left, top, right, bottom
Line = tuple[float, float, float, float]  # from x, y to x, y


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
    """A point where it is drawn, its whisker, and its label: lines anchored at label_x, the first one's baseline at
    label_y, all within box; leader: a line to it from the point or an end of the whisker, None where it is beside."""

    point: Point
    x: float
    y: float
    low: float | None
    high: float | None
    lines: tuple[str, ...] = ()
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"
    leader: Line | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn. ticks: (position, text); ceilings: (height, text, x, anchor) of each line; above: the
    words of those that are far above all, which have no line."""

    axis: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    logarithmic: bool
    ceilings: tuple[tuple[float, str, float, str], ...] = ()
    above: str = ""


def says_something(costs: Sequence[float | None]) -> bool:
    """Whether an axis separates at least two methods."""
    known = [cost for cost in costs if cost is not None]
    return len(known) > 1 and max(known) > _LEAST_SPREAD * max(min(known), 0)


def plot(axis: str, points: Sequence[Point], ceilings: Sequence[tuple[str, float]] = ()) -> Plot:
    """Lay out a scatter of at least one point. ceilings: (name, quality) to mark, above the points' axis as words."""
    logarithmic = min(p.x for p in points) > 0 and max(p.x for p in points) > _LOG_FROM * min(p.x for p in points)
    to_x, x_ticks = _log_axis(points) if logarithmic else _linear_axis(max(p.x for p in points))
    top = max(max(p.y, p.high or 0) for p in points) or 1.0
    near = [one for one in ceilings if one[1] <= 1.35 * top]
    far = [one for one in ceilings if one not in near]
    y_ticks, upper = _ticks(max([top, *(value for _, value in near)]), most=1.0)
    span = HEIGHT - TOP - BOTTOM

    def to_y(value: float | None) -> float | None:
        return None if value is None else round(HEIGHT - BOTTOM - span * value / upper, 1)

    marks = [Mark(p, to_x(p.x), to_y(p.y), to_y(p.low), to_y(p.high)) for p in points]
    above = f"{far[0][0]} {words.score(far[0][1])}" if len(far) == 1 else ""
    if len(far) > 1:
        above = f"ceilings {', '.join(words.score(value) for _, value in far)}"
    drawn, named, right = [], [], WIDTH - RIGHT
    filled = [(m.x - 6, min(m.y - 6, m.high or m.y), m.x + 6, max(m.y + 6, m.low or m.y)) for m in marks]
    if above:
        named.append((right - _CHARACTER * len(above), TOP - 26, right, TOP - 12))
    for name, value in near:
        y, text = to_y(value), f"{name} {words.score(value)}"
        long = _CHARACTER * len(text)
        sides = [
            (right, "end", (right - long, y - 14, right, y)),
            (LEFT + 4, "start", (LEFT + 4, y - 14, LEFT + 4 + long, y)),
        ]
        x, anchor, box = min(
            sides, key=lambda side: sum(_meet(np.array([side[2]]), [*named, *filled]))
        )  # the first, unless taken
        drawn.append((y, text, x, anchor))
        named.append(box)
    lines = [(LEFT, y - 1, right, y + 1) for y, *_ in drawn]
    return Plot(
        axis, tuple(_labelled(marks, named, lines)),
        tuple((to_x(value), f"{value:.4g}" if value < 1000 else words.number(value)) for value in x_ticks),
        tuple((to_y(value), f"{value:.2f}".rstrip("0").rstrip(".") or "0") for value in y_ticks),
        logarithmic, tuple(drawn), above,
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


def _front_boxes(marks: Sequence[Mark]) -> list[Box]:
    """The front's segments as boxes that labels keep clear of."""
    front = corners(marks)
    boxes = []
    for mark, after in zip(front, [*front[1:], None], strict=True):
        end = after.x if after else WIDTH - RIGHT
        boxes.append((mark.x, mark.y - 2, end, mark.y + 2))
        if after:
            boxes.append((end - 2, after.y, end + 2, mark.y))
    return boxes


def _meet(boxes: np.ndarray, others: Sequence[Box] | np.ndarray) -> np.ndarray:
    """(p,) int: how many of the others each of the boxes (p, 4), left, top, right, bottom, meets."""
    other = np.reshape(others, (-1, 4)).T
    left, top, right, bottom = (boxes[:, [i]] for i in range(4))
    return ((left < other[2]) & (other[0] < right) & (top < other[3]) & (other[1] < bottom)).sum(axis=1)


def _cross(leaders: np.ndarray, others: Sequence[Box] | np.ndarray) -> np.ndarray:
    """(p,) int: how many of the others each of the leaders (p, 4), from x, y to x, y, runs through."""
    box = np.reshape(others, (-1, 4))
    enter, leave = np.zeros((len(leaders), len(box))), np.ones((len(leaders), len(box)))
    for axis in (0, 1):  # the part of a leader, from 0 to 1, that lies between two sides of a box
        from_, step = leaders[:, [axis]], leaders[:, [axis + 2]] - leaders[:, [axis]]
        step = np.where(np.abs(step) < 1e-9, 1e-9, step)
        one, other = (box[:, axis] - from_) / step, (box[:, axis + 2] - from_) / step
        enter, leave = np.maximum(enter, np.minimum(one, other)), np.minimum(leave, np.maximum(one, other))
    return (enter < leave).sum(axis=1)


def _chain(leader: np.ndarray) -> np.ndarray:
    """A leader as small boxes (8, 4)."""
    at = np.linspace(leader[:2], leader[2:], 9)
    low, high = np.minimum(at[:-1], at[1:]) - 0.5, np.maximum(at[:-1], at[1:]) + 0.5
    return np.hstack([low, high])


@dataclass(frozen=True)
class _Places:
    """Where a label could stand. boxes, leaders (p, 4); led (p,): whether the leader is drawn, or the label is so near
    that it needs none; cost (p,): less is better."""

    boxes: np.ndarray
    leaders: np.ndarray
    led: np.ndarray
    anchors: tuple[str, ...]
    cost: np.ndarray
    lines: tuple[tuple[str, ...], ...]

    def allowed(self) -> "_Places":
        """Those that are not forbidden, with their costs so far."""
        kept = np.flatnonzero(self.cost < _FORBIDDEN)
        return _Places(self.boxes[kept], self.leaders[kept], self.led[kept], tuple(self.anchors[i] for i in kept),
                       self.cost[kept], tuple(self.lines[i] for i in kept))  # fmt: skip


@cache
def _beside() -> np.ndarray:
    """(p, 3): side, gap and shift of places beside a point."""
    far = [(side, gap, shift) for side in (1, -1) for gap in (16, 28, 44) for shift in range(-138, 139, 6)]
    return np.array([(side, 9, shift) for side in (1, -1) for shift in (0, -3, 3, -6, 6, -9, 9)] + far, dtype=float)


@cache
def _beyond() -> np.ndarray:
    """(p, 3): end of the whisker (-1: the upper one), gap and shift of places above and below it."""
    gaps = (4, 10, 18, 28, 40, 54, 70)
    return np.array([(end, gap, dx) for end in (-1, 1) for gap in gaps for dx in range(-96, 97, 6)], dtype=float)


def _places(mark: Mark) -> _Places:
    """All places of a label in the plotting area: beside its point, or led to from it or an end of its whisker."""
    parts = []
    for lines in dict.fromkeys(tuple(words.lines(mark.point.label, width)) for width in (_WIDE, _NARROW)):
        width, height = _CHARACTER * max(map(len, lines)) + 2, LINE * len(lines)
        side, gap, shift = _beside().T
        near, middle = mark.x + side * gap, mark.y + shift
        left, top = np.where(side > 0, near - 1, near - width + 1), middle - height / 2
        tip = np.stack([np.full_like(near, mark.x), np.full_like(near, mark.y), near - side, middle], axis=1)
        roomier = -1 if mark.x > (LEFT + WIDTH - RIGHT) / 2 else 1
        cost = np.where(gap > 9, 18 + np.hypot(gap, shift), 1.2 * np.abs(shift)) + np.where(side == roomier, 0, 4)
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        anchors = ["start" if s > 0 else "end" for s in side]
        parts.append((boxes, tip, gap > 9, cost + 3 * (len(lines) - 1), anchors, lines))

        end, gap, dx = _beyond().T
        reach = _RADIUS + 1 if mark.low is None else 0
        from_y = np.where(end < 0, mark.y if mark.high is None else mark.high, mark.y if mark.low is None else mark.low)
        from_y = from_y + end * (reach or 1.5)  # apart from the whisker, which says how wide the interval is
        near = from_y + end * gap
        left, top = mark.x + dx - width / 2, np.where(end < 0, near - height, near)
        tip = np.clip(mark.x, left + 6, left + width - 6)  # upright where the label is right above or below
        leaders = np.stack([np.full_like(tip, mark.x), from_y, tip, near], axis=1)
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        cost = 14 + np.hypot(gap, tip - mark.x) + 0.1 * np.abs(dx) + 0.1 * np.abs(from_y - mark.y)
        parts.append((boxes, leaders, gap > 0, cost + 3 * (len(lines) - 1), ["middle"] * len(end), lines))
    boxes, leaders, led, cost = (np.concatenate([part[i] for part in parts]) for i in range(4))
    inside = (boxes[:, 0] >= LEFT + 2) & (boxes[:, 2] <= WIDTH - 1)
    inside &= (boxes[:, 1] >= TOP - 12) & (boxes[:, 3] <= HEIGHT - BOTTOM - 1)
    anchors = [anchor for part in parts for anchor in part[4]]
    lines = [part[5] for part in parts for _ in part[4]]
    kept = np.flatnonzero(inside).tolist()
    return _Places(boxes[inside], leaders[inside], led[inside], tuple(anchors[i] for i in kept), cost[inside],
                   tuple(lines[i] for i in kept))  # fmt: skip


def _labelled(marks: Sequence[Mark], words_of_ceiling: Sequence[Box] = (), ceiling: Sequence[Box] = ()) -> list[Mark]:
    """Marks with labels that meet neither each other nor a point, and whiskers and lines only where all else is worse.

    Each label takes its cheapest place; then each is moved again, now that all others stand. Of several orders the
    cheapest end is taken. A label without a free place is left to the tooltip.
    """
    reach = _RADIUS + 1.5
    points = [(m.x - reach, m.y - reach, m.x + reach, m.y + reach) for m in marks]
    near = [(x0 - 4, y0 - 2, x1 + 4, y1 + 2) for x0, y0, x1, y1 in points]
    whiskers = [(m.x - 2, m.high - 1, m.x + 2, m.low + 1) if m.low is not None else (0.0, 0.0, 0.0, 0.0) for m in marks]
    front, on_front = _front_boxes(marks), corners(marks)
    order = sorted(range(len(marks)), key=lambda i: (marks[i] not in on_front, not marks[i].point.best, marks[i].y,
                                                     marks[i].x, marks[i].point.label))  # fmt: skip
    places = {}
    for i in order:
        made = _places(marks[i])
        # those on the front are named, come what may
        each = 5000 if marks[i] in on_front else _FORBIDDEN
        met = _meet(made.boxes, points) + _meet(made.boxes, words_of_ceiling)
        made = replace(made, cost=made.cost + each * met).allowed()
        others = [k for k in range(len(marks)) if k != i]
        apart = [k for k in others if abs(marks[k].x - marks[i].x) > _RADIUS]  # of the same column all would be crossed
        rest, sticks = [points[k] for k in apart], [whiskers[k] for k in apart]
        cost = (
            made.cost
            + 400 * _meet(made.boxes, whiskers) + 100 * _meet(made.boxes, front) + 60 * _meet(made.boxes, ceiling)
            + 40 * _meet(made.boxes, [near[k] for k in others])
            + 300 * _cross(made.leaders, rest) + 300 * _cross(made.leaders, sticks) + 6 * _cross(made.leaders, front)
        )  # fmt: skip
        places[i] = replace(made, cost=cost).allowed()
    by_cost = sorted(order, key=lambda i: marks[i].x)
    tries = [_settled(way, places) for way in (order, by_cost, by_cost[::-1])[: 3 if len(marks) <= _CROWD else 1]]
    chosen = min(tries, key=lambda found: found[0])[1]
    return [_placed(marks[i], places[i], chosen.get(i)) for i in order]


def _settled(order: Sequence[int], places: Mapping[int, _Places]) -> tuple[float, dict]:
    """The places of labels that are placed in this order, in `_SWEEPS` rounds, and what they cost together."""
    chosen: dict[int, int] = {}
    chains: dict[tuple[int, int], np.ndarray] = {}
    for _ in range(_SWEEPS):
        total, before = 0.0, dict(chosen)
        for i in order:
            made = places[i]
            others = [(k, place) for k, place in chosen.items() if k != i]
            labels = np.array([places[k].boxes[place] for k, place in others])
            leaders = np.concatenate([np.empty((0, 4)), *(chains[other] for other in others)])
            cost = made.cost + _FORBIDDEN * _meet(made.boxes, labels) + 400 * _meet(made.boxes, leaders)
            chosen.pop(i, None)

            def whole(some, made=made, cost=cost, labels=labels, leaders=leaders):
                lines = made.leaders[some]
                return cost[some] + 1000 * _cross(lines, labels) + 300 * _cross(lines, leaders)

            least = _FORBIDDEN
            if len(cost):
                bound = whole([int(cost.argmin())])[0]
                near = np.flatnonzero(cost <= bound)  # what leaders cross only adds to the others
                costs = whole(near)
                least = min(least, float(costs.min()))
            if least < _FORBIDDEN:
                chosen[i] = int(near[costs.argmin()])
                if (i, chosen[i]) not in chains:
                    chains[i, chosen[i]] = _chain(made.leaders[chosen[i]])
            total += least
        if chosen == before:
            break
    return total, chosen


def _placed(mark: Mark, places: _Places, place: int | None) -> Mark:
    """The mark with its label there."""
    if place is None:
        return mark
    left, top, right, bottom = (round(float(side), 1) for side in places.boxes[place])
    anchor, leader = places.anchors[place], places.leaders[place]
    x = {"start": left + 1, "middle": (left + right) / 2, "end": right - 1}[anchor]
    line = tuple(round(float(value), 1) for value in leader) if places.led[place] else None
    return replace(mark, lines=places.lines[place], label_x=round(x, 1), label_y=round(top + 9.6, 1), anchor=anchor,
                   leader=line, box=(left, top, right, bottom))  # fmt: skip
