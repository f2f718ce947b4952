"""Figures that several studies draw: differences with their intervals, names of curves. Must not know what is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ftbench.studies.base import BLUE, GREY, Difference, spread_labels


@dataclass(frozen=True)
class Row:
    """One line of a forest plot. found: by panel, where it has one; marked: drawn in blue, the others in grey."""

    name: str
    found: Mapping[str, Difference]
    marked: bool = False


def forest(rows: Sequence[Row], panels: Mapping[str, str], axis: str, apart: Sequence[int] = ()) -> Callable:
    """A function that draws differences with their intervals, a panel beside the other; the first row is on top.

    panels: titles by panel; axis: what the differences are of; apart: rows above which a line is drawn.
    """

    def draw(canvas):
        drawn = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (panel, title) in zip(drawn, panels.items(), strict=True):
            axes.axvline(0, color="black", linewidth=1)
            for place, row in enumerate(rows):
                if one := row.found.get(panel):
                    colour = BLUE if row.marked else GREY
                    axes.plot((one.low, one.high), (place, place), color=colour, linewidth=2)
                    axes.plot(one.mean, place, "o", color=colour)
            for place in apart:
                axes.axhline(place - 0.5, color="#9A9A9A", linewidth=0.8)
            axes.set_title(title)
            axes.locator_params(axis="x", nbins=4)
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        drawn[0].set_ylim(len(rows) - 0.5, -0.5)
        drawn[0].set_yticks(range(len(rows)), [row.name for row in rows])
        canvas.supxlabel(axis, fontsize=12)

    return draw


def name_ends(axes, ends: Mapping[str, tuple[float, float]], x: float, colours: Mapping[str, str], size=11) -> None:
    """Names of curves at x, right of their last points `ends`, moved apart where they would touch; limits stand."""
    low, high = axes.get_ylim()
    height = axes.figure.get_size_inches()[1] * 72 * axes.get_position().height
    apart = (high - low) * 1.25 * size / height
    places = spread_labels([y for _, y in ends.values()], apart)
    for (name, end), place in zip(ends.items(), places, strict=True):
        line = {"arrowstyle": "-", "color": colours[name], "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            name.replace("_", " "), end, (x, place), va="center", color=colours[name], fontsize=size,
            annotation_clip=False, arrowprops=line,
        )  # fmt: skip
