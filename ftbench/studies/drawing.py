"""Figures that several studies draw: differences with their intervals. Must not know what is shown."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ftbench.studies.base import BLUE, GREY, Difference


@dataclass(frozen=True)
class Row:
    """One line of a forest plot. found: by panel, where it has one; marked: panels where it is blue, grey elsewhere."""

    name: str
    found: Mapping[str, Difference]
    marked: Collection[str] = ()


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
                    colour = BLUE if panel in row.marked else GREY
                    axes.plot((one.low, one.high), (place, place), color=colour, linewidth=2)
                    axes.plot(one.mean, place, "o", color=colour)
            for place in apart:
                axes.axhline(place - 0.5, color="#9A9A9A", linewidth=0.8)
            axes.set_title(title)
            axes.locator_params(axis="x", nbins=3)
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        drawn[0].set_ylim(len(rows) - 0.5, -0.5)
        drawn[0].set_yticks(range(len(rows)), [row.name for row in rows])
        canvas.supxlabel(axis, fontsize=12)

    return draw
