"""What a study is, and what studies share: paired differences of cells, the look of figures. Must not know how cells
are made or where they are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ftbench import stats
from ftbench.cells import Cell, Done
from ftbench.errors import FtbenchError

__all__ = ["BLUE", "COLOURS", "GREY", "Cell", "Difference", "Done", "Figure", "Outcome", "Study", "Timed",
           "difference", "holm", "mean", "spread_labels", "seeds_of", "SEEDS", "STYLE"]  # fmt: skip

SEEDS = (0, 1, 2)
_SEED = 20250412  # of the bootstrap and the random signs; any constant would do

# Okabe and Ito (2008): told apart with every common form of colour blindness, and in grey for the first five
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
BLUE, GREY = COLOURS[0], "#767676"
STYLE = {  # of matplotlib; large type, so that a figure can be read at half a column's width
    "font.family": "DejaVu Sans", "font.size": 12, "axes.titlesize": 12, "axes.labelsize": 12,
    "xtick.labelsize": 11, "ytick.labelsize": 11, "legend.fontsize": 11, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.7,
    "xtick.color": "#333333", "ytick.color": "#333333", "lines.linewidth": 2.0, "lines.markersize": 6.0,
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "svg.fonttype": "path",
}  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """A measurement that is no run: `function`, as "package.module:name", is called with `arguments` (JSON values) in a
    process of its own, one thread, nothing beside it, and gives a dict of JSON values.

    method: whose file the numbers depend on, too, "" for none. It is made again where function's module, arguments,
    method, numerics version or the machine changed.
    """

    key: str
    function: str
    arguments: Mapping = field(default_factory=dict)
    method: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure. name: the stem of its files; caption: what it shows, also for those who do not see it; draw: draws on a
    matplotlib Figure that has the style of all studies already; size: inches."""

    name: str
    caption: str
    draw: Callable
    size: tuple[float, float] = (7.2, 4.2)


@dataclass(frozen=True)
class Outcome:
    """findings: sentences, each with its numbers."""

    findings: tuple[str, ...]
    figures: tuple[Figure, ...]


class Study:
    """One module each in this folder, which exposes STUDY, an instance.

    name: as typed, letters, digits and -. question: a sentence or two. hours: the cap on 2 cores, at most 3, that
    `ftbench study` keeps unless --full is given.
    """

    name: str
    title: str
    question: str
    hours: float

    def cells(self, full: bool) -> Sequence[Cell | Timed]:
        """All cells, in the order in which they are made; full: those beyond the cap, too, after the others. Cells that
        name the data set `studio` follow --data."""
        raise NotImplementedError

    def outcome(self, done: Mapping[str, Done | Mapping]) -> Outcome:
        """Findings and figures from finished cells by key: Done of a Cell, what its function gave of a Timed.

        A cell that failed is missing here: leave it out, it is named for you; so are commit and machine.
        """
        raise NotImplementedError


# --- comparing cells


def seeds_of(done: Mapping[str, Done], *names: str) -> list[list[Done]]:
    """The cells NAME-SEED of each name, seed by seed, where every one of the names has the seed: pairs of one seed."""
    shared = [seed for seed in SEEDS if all(f"{name}-{seed}" in done for name in names)]
    return [[done[f"{name}-{seed}"] for seed in shared] for name in names]


@dataclass(frozen=True)
class Difference:
    """Headline of a minus that of b on the same queries, averaged over seeds: mean, 95% bootstrap interval over seeds
    and queries, p of the randomization test. a, b: the two means; queries, seeds: how many were paired. Of several
    pairs of views (cross_view) an item's probes go together: an item that asks is what a query is here."""

    mean: float
    low: float
    high: float
    p: float
    a: float
    b: float
    queries: int
    seeds: int


def difference(a: Sequence[Done], b: Sequence[Done]) -> Difference:
    """The paired difference of two settings, the cells of one per seed, in the same order of seeds.

    A side with one cell (a method without a seed) is paired with every seed of the other. Raises FtbenchError where
    there is nothing to pair: other numbers of seeds, other queries.
    """
    if not (a and b and (len(a) == len(b) or 1 in (len(a), len(b)))):
        raise FtbenchError(f"{len(a)} and {len(b)} seeds cannot be paired: expected as many, or one on a side.")
    left, right = (np.array([done.values for done in side]) for side in _alike(a, b))
    differences = np.broadcast_to(left - right, (max(len(a), len(b)), left.shape[1]))
    low, high = stats.bootstrap(differences, np.random.default_rng(_SEED))
    p = stats.randomization_test(differences.mean(axis=0), np.random.default_rng(_SEED))
    return Difference(float(differences.mean()), low, high, p, float(left.mean()), float(right.mean()),
                      differences.shape[1], len(differences))  # fmt: skip


def _alike(a: Sequence[Done], b: Sequence[Done]) -> tuple[Sequence[Done], Sequence[Done]]:
    """Both sides, where all their cells answered the same queries."""
    shapes = [len(done.values) for done in (*a, *b)]
    prints = {done.record["data"]["fingerprint"] for done in (*a, *b)}
    tasks = {done.record["task"]["definition_sha256"] for done in (*a, *b)}
    if len(prints) > 1 or len(tasks) > 1 or any(shape != shapes[0] for shape in shapes):
        names = ", ".join(done.key for done in (*a, *b))
        raise FtbenchError(
            f"the cells {names} did not answer the same queries of the same data: they cannot be paired."
        )
    return a, b


def holm(family: Mapping[str, Difference]) -> dict[str, float]:
    """Holm's adjusted p-values of a family of differences, fixed before any of them was looked at, by name."""
    return dict(zip(family, stats.holm(np.array([one.p for one in family.values()])).tolist(), strict=True))


def mean(cells: Sequence[Done]) -> tuple[float, float, float]:
    """The headline's mean over seeds and its 95% bootstrap interval over seeds and queries."""
    table = np.array([done.values for done in _alike(cells, cells)[0]])
    return float(table.mean()), *stats.bootstrap(table, np.random.default_rng(_SEED))


# --- figures


def spread_labels(positions: Sequence[float], apart: float) -> list[float]:
    """Positions moved as little as needed for neighbours to be `apart` at least: where labels of curves stand.

    >>> spread_labels([1.0, 1.2, 5.0], 1.0)
    [0.6, 1.6, 5.0]
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    groups: list[tuple[float, int]] = []  # centre and size of labels that touch
    for i in order:
        groups.append((float(positions[i]), 1))
        while len(groups) > 1:
            (low, m), (high, n) = groups[-2:]
            if high - low >= apart * (m + n) / 2:
                break
            groups[-2:] = [((low * m + high * n) / (m + n), m + n)]
    placed = [centre + apart * (k - (size - 1) / 2) for centre, size in groups for k in range(size)]
    moved = dict(zip(order, placed, strict=True))
    return [round(moved[i], 9) for i in range(len(positions))]
