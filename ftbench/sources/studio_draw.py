"""The pictures of studio: an integer rasteriser and one drawing per kind of view. Must not know catalogues or texts.

Everything is integer arithmetic on a 96 x 96 canvas, halved by an exact 2 x 2 mean, so the pixels are the same on any
machine. Shapes live in a 100 x 100 box; a `Place` maps the box onto the canvas.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from ftbench.sources.studio_words import Dice

SIDE = 48
_CANVAS = 2 * SIDE
_Y, _X = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.int32)

RGB = {
    "red": (205, 38, 42), "orange": (240, 130, 30), "yellow": (242, 208, 52), "green": (44, 142, 62),
    "teal": (28, 162, 164), "blue": (40, 78, 200), "purple": (124, 58, 172), "pink": (242, 132, 178),
    "brown": (122, 78, 44), "grey": (128, 132, 138),
}  # fmt: skip
_WHITE, _BLACK, _GOLD, _SILVER = (250, 250, 248), (28, 28, 34), (216, 172, 58), (200, 204, 210)

Shape = tuple  # ("poly", (x, y), ...) convex; ("oval", cx, cy, rx, ry)


def _rect(x0: int, y0: int, x1: int, y1: int) -> Shape:
    return ("poly", (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _line(x0: int, y0: int, x1: int, y1: int, half: int) -> Shape:
    """A bar between two points, `half` wide to each side along the axis it is steeper against."""
    if abs(x1 - x0) >= abs(y1 - y0):
        return ("poly", (x0, y0 - half), (x1, y1 - half), (x1, y1 + half), (x0, y0 + half))
    return ("poly", (x0 - half, y0), (x0 + half, y0), (x1 + half, y1), (x1 - half, y1))


# what is added, then what is cut away
_KINDS: dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {
    "shirt": ((_rect(28, 12, 72, 92), ("poly", (28, 12), (4, 34), (14, 50), (34, 36)),
               ("poly", (72, 12), (96, 34), (86, 50), (66, 36))), (("oval", 50, 10, 12, 8),)),
    "dress": ((("poly", (36, 8), (64, 8), (62, 40), (38, 40)), ("poly", (38, 38), (62, 38), (90, 96), (10, 96))),
              (("oval", 50, 6, 8, 9),)),
    "trousers": ((_rect(24, 6, 76, 26), ("poly", (24, 24), (50, 24), (42, 96), (18, 96)),
                  ("poly", (50, 24), (76, 24), (82, 96), (58, 96))), ()),
    "bag": ((("oval", 50, 32, 26, 28), ("poly", (10, 36), (90, 36), (82, 94), (18, 94))),
            (("oval", 50, 32, 18, 20),)),
    "mug": ((_rect(14, 20, 66, 90), ("oval", 68, 54, 24, 24)), (("oval", 70, 54, 13, 13),)),
    "hat": ((("oval", 50, 46, 28, 34), ("oval", 50, 72, 48, 13)), ()),
    "boot": ((_rect(30, 6, 62, 70), ("poly", (30, 60), (70, 60), (94, 74), (94, 94), (30, 94))), ()),
    "cushion": ((("poly", (16, 12), (84, 12), (90, 50), (84, 88), (16, 88), (10, 50)),), ()),
    "lamp": ((("poly", (32, 6), (68, 6), (90, 52), (10, 52)), _rect(45, 50, 55, 88), ("oval", 50, 90, 26, 8)), ()),
    "umbrella": ((("oval", 50, 50, 46, 40), _rect(47, 46, 53, 96)), (_rect(0, 52, 46, 100), _rect(54, 52, 100, 100))),
}  # fmt: skip

_MOTIFS: dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {
    "star": ((("poly", (50, 2), (92, 74), (8, 74)), ("poly", (50, 98), (8, 26), (92, 26))), ()),
    "heart": ((("oval", 29, 32, 25, 25), ("oval", 71, 32, 25, 25), ("poly", (6, 42), (94, 42), (50, 98))), ()),
    "moon": ((("oval", 46, 50, 44, 46),), (("oval", 68, 46, 38, 40),)),
    "cross": ((_rect(36, 4, 64, 96), _rect(4, 36, 96, 64)), ()),
    "ring": ((("oval", 50, 50, 47, 47),), (("oval", 50, 50, 27, 27),)),
    "bolt": ((("poly", (62, 0), (80, 0), (52, 56), (18, 56)), ("poly", (48, 44), (84, 44), (30, 100), (24, 100))), ()),
    "tree": (
        (("poly", (50, 0), (82, 44), (18, 44)), ("poly", (50, 28), (94, 80), (6, 80)), _rect(41, 78, 59, 100)),
        (),
    ),
    "arrow": ((_rect(2, 38, 58, 62), ("poly", (52, 8), (98, 50), (52, 92))), ()),
    "fish": ((("oval", 40, 50, 40, 28), ("poly", (66, 50), (98, 18), (98, 82))), (("oval", 24, 42, 6, 6),)),
    "crown": ((_rect(8, 62, 92, 92), ("poly", (8, 64), (8, 14), (40, 64)), ("poly", (28, 64), (50, 4), (72, 64)),
               ("poly", (60, 64), (92, 14), (92, 64))), ()),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a 100 x 100 box lies on the canvas: its corner, its size in canvas pixels, and whether it is mirrored."""

    x: int
    y: int
    size: int
    mirrored: bool = False

    def point(self, x: int, y: int) -> tuple[int, int]:
        x = 100 - x if self.mirrored else x
        return self.x + x * self.size // 100, self.y + y * self.size // 100


def _raster(shape: Shape, place: Place) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The shape's bounding box on the canvas and its mask there; None where it lies outside."""
    if shape[0] == "oval":
        _, cx, cy, rx, ry = shape
        cx, cy = place.point(cx, cy)
        rx, ry = max(1, rx * place.size // 100), max(1, ry * place.size // 100)
        low_x, high_x, low_y, high_y = cx - rx, cx + rx, cy - ry, cy + ry
    else:
        points = [place.point(*point) for point in shape[1:]]
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    box = (slice(max(0, low_y), min(_CANVAS, high_y + 1)), slice(max(0, low_x), min(_CANVAS, high_x + 1)))
    if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
        return None
    x, y = _X[box], _Y[box]
    if shape[0] == "oval":
        dx, dy = x - cx, y - cy
        return box, dx * dx * (ry * ry) + dy * dy * (rx * rx) <= rx * rx * ry * ry
    twice_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True))
    if twice_area < 0:
        points.reverse()
    inside = np.ones(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
    return box, inside


class Canvas:
    """96 x 96 pixels being painted."""

    def __init__(self, colour: tuple[int, int, int]):
        self.pixels = np.empty((_CANVAS, _CANVAS, 3), dtype=np.uint8)
        self.pixels[:] = colour

    def paint(self, shape: Shape, place: Place, colour: tuple[int, int, int]) -> None:
        found = _raster(shape, place)
        if found is not None:
            self.pixels[found[0]][found[1]] = colour

    def fill(self, parts: tuple[tuple[Shape, ...], tuple[Shape, ...]], place: Place, cloth: np.ndarray) -> None:
        """Paint the union of shapes, less the cut-outs, with a cloth (96, 96, 3) or a colour."""
        mask = np.zeros((_CANVAS, _CANVAS), dtype=bool)
        for shapes, value in zip(parts, (True, False), strict=True):
            for shape in shapes:
                found = _raster(shape, place)
                if found is not None:
                    mask[found[0]][found[1]] = value
        self.pixels[mask] = cloth if isinstance(cloth, tuple) else cloth[mask]

    def finish(self, brightness: int) -> np.ndarray:
        """uint8 (48, 48, 3): the exact 2 x 2 mean, times brightness / 256."""
        p = self.pixels.astype(np.int32)
        mean = (p[0::2, 0::2] + p[1::2, 0::2] + p[0::2, 1::2] + p[1::2, 1::2] + 2) >> 2
        return np.minimum((mean * brightness) >> 8, 255).astype(np.uint8)


def _shade(colour: tuple[int, int, int], percent: int) -> tuple[int, int, int]:
    """Towards black (percent < 100) or white (percent > 100)."""
    if percent <= 100:
        return tuple(c * percent // 100 for c in colour)
    return tuple(c + (255 - c) * (percent - 100) // 100 for c in colour)


def _contrast(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    return _BLACK if 3 * colour[0] + 6 * colour[1] + colour[2] > 1500 else _WHITE


def _stamp(pattern: str, period: int) -> np.ndarray:
    """Mask (96, 96) of a pattern's second colour."""
    x, y, half = _X, _Y, period // 2
    if pattern == "stripes":
        return y % period < half
    if pattern == "pinstripe":
        return x % period < max(2, period // 3)
    if pattern == "checks":
        return (x % period < half) ^ (y % period < half)
    if pattern == "diagonal":
        return (x + y) % period < half
    if pattern == "dots":
        dx, dy = x % period - half, y % period - half
        return dx * dx + dy * dy <= (period * period) // 9
    return np.zeros((_CANVAS, _CANVAS), dtype=bool)


_PERIOD = {"stripes": 14, "pinstripe": 10, "checks": 18, "dots": 14, "diagonal": 14, "plain": 8}


@cache
def _cloth(colour: str, pattern: str, zoom: int) -> np.ndarray:
    """The product's surface (96, 96, 3): its colour, with the pattern in a lighter or darker tone."""
    base = RGB[colour]
    second = _shade(base, 165) if _contrast(base) == _WHITE else _shade(base, 50)
    cloth = np.empty((_CANVAS, _CANVAS, 3), dtype=np.uint8)
    cloth[:] = base
    cloth[_stamp(pattern, _PERIOD[pattern] * zoom)] = second
    return cloth


@cache
def _lining(kind: str) -> np.ndarray:
    """The surface (96, 96, 3) of a lining."""
    cloth = np.empty((_CANVAS, _CANVAS, 3), dtype=np.uint8)
    x, y = _X, _Y
    if kind == "floral":
        cloth[:] = (250, 222, 226)
        dx, dy = x % 20 - 10, y % 20 - 10
        cloth[(abs(dx) <= 3) & (abs(dy) <= 7) | (abs(dy) <= 3) & (abs(dx) <= 7)] = (214, 64, 120)
        cloth[dx * dx + dy * dy <= 6] = (250, 220, 60)
    elif kind == "tartan":
        cloth[:] = (170, 28, 36)
        cloth[(x % 20 < 7)] = (24, 90, 48)
        cloth[(y % 20 < 7)] = (20, 60, 60)
        cloth[(x % 20 == 12) | (y % 20 == 12)] = (240, 220, 90)
    elif kind == "polka":
        cloth[:] = (26, 32, 92)
        cloth[_stamp("dots", 16)] = _WHITE
    elif kind == "camo":
        cloth[:] = (92, 110, 58)
        cloth[((x * x // 40 + y * 3) % 37 < 13)] = (58, 70, 36)
        cloth[((y * y // 50 + x * 2) % 41 < 11)] = (128, 104, 66)
    elif kind == "leopard":
        cloth[:] = (222, 178, 104)
        dx, dy = x % 16 - 8, (y + 8 * (x // 16 % 2)) % 16 - 8
        distance = dx * dx + dy * dy
        cloth[distance <= 36] = (70, 44, 22)
        cloth[distance <= 9] = (186, 126, 58)
    elif kind == "galaxy":
        cloth[:] = (46, 18, 78)
        cloth[(x * 3 + y * 5) % 61 < 18] = (92, 34, 128)
        cloth[((x // 2 * 7 + y // 2 * 13) % 29 == 0)] = (240, 240, 255)
    elif kind == "quilted":
        cloth[:] = (232, 232, 236)
        cloth[((x + y) % 18 < 3) | ((x - y) % 18 < 3)] = (120, 122, 132)
    else:  # gold: bright bands of a shining cloth
        cloth[:] = (222, 178, 44)
        cloth[(x + 2 * y) % 48 < 12] = (255, 236, 140)
        cloth[(x + 2 * y) % 48 > 40] = (160, 116, 20)
    return cloth


def _closure(canvas: Canvas, kind: str, place: Place) -> None:
    if kind == "zip":
        canvas.paint(_rect(44, 0, 56, 100), place, _BLACK)
        for y in range(2, 100, 10):
            canvas.paint(_rect(36, y, 50, y + 4), place, _SILVER)
            canvas.paint(_rect(50, y + 5, 64, y + 9), place, _SILVER)
        canvas.paint(_rect(40, 38, 60, 62), place, _GOLD)
    elif kind == "buttons":
        for y in (16, 50, 84):
            canvas.paint(("oval", 50, y, 15, 15), place, _BLACK)
            canvas.paint(("oval", 50, y, 12, 12), place, _WHITE)
            for x in (46, 54):
                canvas.paint(("oval", x, y, 2, 2), place, _BLACK)
    elif kind == "laces":
        for y in range(4, 90, 22):
            canvas.paint(_line(22, y, 78, y + 18, 4), place, _WHITE)
            canvas.paint(_line(78, y, 22, y + 18, 4), place, _BLACK)
    elif kind == "velcro":
        canvas.paint(_rect(14, 28, 86, 72), place, _BLACK)
        for y in range(32, 70, 8):
            for x in range(18, 84, 8):
                canvas.paint(_rect(x, y, x + 3, y + 3), place, (150, 150, 156))
    elif kind == "toggle":
        for y in (26, 72):
            canvas.paint(_line(10, y, 90, y, 2), place, _BLACK)
            canvas.paint(("oval", 50, y, 30, 10), place, (92, 56, 24))
            canvas.paint(("oval", 50, y, 24, 6), place, (198, 150, 92))
    else:  # buckle
        canvas.paint(_rect(0, 38, 100, 62), place, (70, 44, 26))
        canvas.fill(((_rect(26, 22, 74, 78),), (_rect(36, 32, 64, 68),)), place, _GOLD)
        canvas.paint(_line(36, 50, 72, 50, 3), place, _GOLD)


def _accessory(canvas: Canvas, kind: str, place: Place) -> None:
    def put(shape: Shape, colour: tuple[int, int, int]) -> None:
        canvas.paint(shape, place, colour)

    if kind == "ball":
        put(("oval", 50, 54, 42, 42), _WHITE)
        put(("oval", 50, 54, 13, 13), _BLACK)
        for x, y in ((18, 38), (82, 38), (30, 88), (70, 88)):
            put(("oval", x, y, 9, 9), _BLACK)
    elif kind == "book":
        put(_rect(12, 20, 88, 90), (150, 30, 40))
        put(_rect(12, 20, 26, 90), (90, 16, 24))
        put(_rect(38, 34, 76, 44), _WHITE)
        put(_rect(38, 52, 76, 58), _WHITE)
    elif kind == "candle":
        put(_rect(34, 42, 66, 96), (244, 236, 214))
        put(_rect(48, 32, 52, 44), _BLACK)
        put(("oval", 50, 20, 12, 18), (250, 150, 30))
        put(("oval", 50, 24, 6, 10), (255, 236, 120))
    elif kind == "glasses":
        for x in (24, 76):
            canvas.fill(((("oval", x, 54, 24, 24),), (("oval", x, 54, 15, 15),)), place, _BLACK)
        put(_rect(44, 48, 56, 56), _BLACK)
        put(_line(2, 34, 10, 52, 4), _BLACK)
        put(_line(98, 34, 90, 52, 4), _BLACK)
    elif kind == "key":
        canvas.fill(((("oval", 28, 50, 26, 26),), (("oval", 28, 50, 12, 12),)), place, _GOLD)
        put(_rect(50, 44, 98, 56), _GOLD)
        put(_rect(76, 54, 84, 76), _GOLD)
        put(_rect(90, 54, 98, 70), _GOLD)
    elif kind == "plant":
        put(("poly", (28, 62), (72, 62), (64, 98), (36, 98)), (178, 92, 54))
        for cx, cy in ((50, 28), (28, 42), (72, 42)):
            put(("oval", cx, cy, 15, 24), (38, 140, 54))
    elif kind == "bottle":
        put(_rect(32, 34, 68, 98), (52, 132, 190))
        put(_rect(42, 10, 58, 36), (52, 132, 190))
        put(_rect(40, 4, 60, 14), _BLACK)
        put(_rect(32, 54, 68, 74), _WHITE)
    else:  # gift
        put(_rect(10, 34, 90, 96), (224, 60, 140))
        put(_rect(43, 34, 57, 96), (250, 220, 70))
        put(_rect(10, 58, 90, 70), (250, 220, 70))
        put(("oval", 34, 24, 16, 11), (250, 220, 70))
        put(("oval", 66, 24, 16, 11), (250, 220, 70))


def _jitter(dice: Dice, centre_x: int, centre_y: int, size: int, spread: int, mirrored: bool = False) -> Place:
    size += dice.below(2 * spread + 1) - spread
    x, y = (c - size // 2 + dice.below(2 * spread + 1) - spread for c in (centre_x, centre_y))
    return Place(x, y, size, mirrored)


def _wall(dice: Dice) -> tuple[int, int, int]:
    """A pale studio background."""
    return tuple(224 + dice.below(28) for _ in range(3))


def draw(view: str, latent: dict[str, str], dice: Dice) -> np.ndarray:
    """One picture, uint8 (48, 48, 3). view: main, angle, back, crop, detail, context, inside or card."""
    colour, cloth = latent["colour"], _cloth(latent["colour"], latent["pattern"], 1)
    canvas = Canvas(_wall(dice))
    shape = _KINDS[latent["kind"]]
    if view in ("main", "angle"):
        spread, mirrored = (3, False) if view == "main" else (8, dice.chance(70))
        canvas.fill(shape, _jitter(dice, 48, 48, 84 if view == "main" else 76, spread, mirrored), cloth)
    elif view in ("back", "crop"):
        ink = _contrast(RGB[colour])
        if view == "back":
            place = _jitter(dice, 48, 48, 86, 3)
            canvas.fill(shape, place, RGB[colour])
            motif = _jitter(dice, 48, 50, 40, 3)
            canvas.paint(("oval", 50, 50, 62, 62), motif, RGB[colour])  # a patch, so that no motif meets the wall
            canvas.fill(_MOTIFS[latent["motif"]], motif, ink)
        else:
            canvas.pixels[:] = RGB[colour]
            canvas.fill(_MOTIFS[latent["motif"]], _jitter(dice, 48, 48, 66, 5), ink)
    elif view == "detail":
        canvas.pixels[:] = _cloth(colour, latent["pattern"], 2)
        _closure(canvas, latent["closure"], _jitter(dice, 48, 48, 84, 6))
    elif view == "context":
        floor = tuple(120 + dice.below(60) for _ in range(3))
        canvas.paint(_rect(0, 66 + dice.below(10), 100, 101), Place(0, 0, 96), floor)
        left = dice.chance(50)
        canvas.fill(shape, _jitter(dice, 28 if left else 68, 42, 54, 4), cloth)
        _accessory(canvas, latent["accessory"], _jitter(dice, 70 if left else 26, 66, 48, 4))
    elif view == "inside":
        canvas.fill(shape, _jitter(dice, 48, 48, 90, 3), RGB[colour])
        canvas.fill(((("oval", 50, 50, 40, 36),), ()), _jitter(dice, 48, 52, 66, 4), _lining(latent["lining"]))
    else:  # card: a care label or size chart, the same for every product but for its lines
        canvas.paint(_rect(14, 8, 86, 92), Place(0, 0, 96), _WHITE)
        for y in range(16, 88, 9):
            canvas.paint(_rect(20, y, 40 + dice.below(40), y + 3), Place(0, 0, 96), (110, 110, 120))
    return canvas.finish(236 + dice.below(36))
