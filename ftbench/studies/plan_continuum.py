"""What the transport plan's regularisation is worth: Sinkhorn from nearly exact to the independent plan. Must not know
how plans are solved.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ftbench.errors import listed
from ftbench.request import Request
from ftbench.settings import TrainerConfig
from ftbench.studies import cached_options
from ftbench.studies.base import (
    COLOURS,
    GREY,
    SEEDS,
    Cell,
    Done,
    Figure,
    Outcome,
    Study,
    difference,
    holm,
    mean,
    seeds_of,
)
from ftbench.studies.words import TITLES, ahead, chance, interval, signed, verdict

TASKS = ("query2item", "cross_view")
EPSILONS = (0.01, 0.03, 0.1, 0.3, 1.0)  # in units of cosine
INDEPENDENT = "independent"  # epsilon infinite
SAMPLED = ("factorized_transport", "factorized_transport_cached")
_SHARE = "0.25"  # of the primary view, in every plan
# what all have in common; rates and budget are those of `cached_options.base`, alike for all
_PLAN = {"alignment_weight": "0.1", "iterations": "300", "primary_share": _SHARE, "inference": "fused"}
_SAMPLED = {"alignment_weight": "0.1", "primary_share": _SHARE, "alignment_share": _SHARE, "loss": "fused",
            "inference": "matched"}  # fmt: skip
_OF_CACHED = {"rest_weight": "0", "blocks_weight": "0", "weighting": "share"}
_WHERE = {
    "query2item": "On query2item the plan enters by the image-text loss alone, at a weight of 0.1, since a query has "
    "one view and the plan no choice.",
    "cross_view": "On cross_view the plan is all of the loss.",
}
MARGIN = 0.01  # what a solved plan may gain at most for the independent one to be as good, fixed beforehand
_RIGHT = 6.0  # where the infinite epsilon stands on the axis


class _Continuum(Study):
    name = "plan-continuum"
    title = "From the exact plan to the factorized one"
    question = (
        "How much does the factorized (independent) plan lose against a solved one? The same method is trained with "
        "Sinkhorn plans of epsilon 0.01 to 1 and with the independent plan, which is the limit of an infinite epsilon; "
        "the two methods that sample views of the independent plan are drawn beside them, with the plan's image-text "
        "loss alone: none of the terms that factorized_transport_cached has on the board. Shares of views in training "
        "and in the item's vector, rates, weights of the losses and the budget are alike for all; the image-text loss "
        "is of inner products of weighted means with a plan, of their cosines where views are sampled. Validation "
        "split."
    )
    hours = 2.5

    def cells(self, full: bool) -> Sequence[Cell]:
        return [
            Cell(f"{task}-{name}-{seed}", _request(task, name, seed))
            for seed in SEEDS
            for task in TASKS
            for name in _names()
        ]

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        found = {
            (task, name): cells for task in TASKS for name in _names() if (cells := seeds_of(done, f"{task}-{name}")[0])
        }
        findings = [sentence for task in TASKS for sentence in _told(task, found, done)]
        caption = (
            "Top: quality of the same all-views method by the plan's epsilon, with 95% intervals over queries and "
            "seeds; at the right end the independent plan. Bottom: seconds of an optimiser step against the "
            "independent plan's, logarithmic, medians over seeds of runs with one thread each. Dashed and "
            "dotted: the two methods that encode four views of an item, the cached one with the warm-up of its bank, "
            "both with that loss alone, which is less than they have on the board. "
            "Same budget of encoder passes throughout, validation split."
        )
        figures = (Figure("epsilon", caption, _draw(found), (7.2, 6.6)),) if found else ()
        return Outcome(tuple(findings), figures)


def _names() -> list[str]:
    """What is compared, in the order of the axis: epsilons as text, the independent plan, the sampled methods."""
    return [*(f"epsilon{value:g}".replace(".", "p") for value in EPSILONS), INDEPENDENT, *SAMPLED]


def _request(task: str, name: str, seed: int) -> Request:
    typed = cached_options.base(task, TrainerConfig().budget)
    trainer = {key: value for key, value in typed.items() if key.startswith("trainer.")}
    if name in SAMPLED:
        own = _SAMPLED | (_OF_CACHED if name == SAMPLED[1] else {})
        return Request(name, task, seed=seed, settings=tuple((own | trainer).items()), split="valid")
    if name == INDEPENDENT:
        plan = {"plan": "independent"}
    else:
        plan = {"plan": "sinkhorn", "epsilon": name.removeprefix("epsilon").replace("p", ".")}
    settings = tuple((_PLAN | plan | trainer).items())
    return Request("sinkhorn_transport", task, seed=seed, settings=settings, split="valid")


def _step_seconds(cells: Sequence[Done]) -> float:
    """Seconds of an optimiser step, the median over seeds."""
    costs = [done.record["cost"] for done in cells]
    return float(np.median([cost["train_seconds"] / cost["steps"] for cost in costs]))


def _told(task: str, found: Mapping[tuple[str, str], Sequence[Done]], done: Mapping[str, Done]) -> list[str]:
    pairs = {name: seeds_of(done, f"{task}-{name}", f"{task}-{INDEPENDENT}") for name in _names()}
    apart = {name: difference(*pair) for name, pair in pairs.items() if name != INDEPENDENT and pair[0]}
    gains = {value: apart[name] for value, name in zip(EPSILONS, _names(), strict=False) if name in apart}
    if not gains:
        return [f"{TITLES[task]}: the independent plan or all solved plans failed; nothing can be compared."]
    independent = found[task, INDEPENDENT]
    solved = [found[task, name] for name in _names()[: len(EPSILONS)] if name in apart]
    p = holm(gains)
    best = max(gains, key=lambda value: gains[value].mean)
    sure = [value for value in gains if ahead(gains[value], p[value])]
    dearest = max(map(_step_seconds, solved)) / _step_seconds(independent)
    most = max(one.high for one in gains.values())
    told = [
        verdict(f"on {task} no solved plan gains more than {MARGIN:g} over the independent one", most <= MARGIN)
        + f" The highest end of their intervals is {signed(most)}. The best epsilon, {best:g}, gives "
        f"{interval(gains[best])} in {TITLES[task]} against the independent plan's {gains[best].b:.3f} "
        f"({chance(p[best])}, Holm over {len(gains)} epsilons)"
        + (f"; better with certainty: {listed([f'{value:g}' for value in sure])}." if sure else "."),
        f"{_WHERE[task]} An optimiser step takes up to {dearest:.1f} times as long with a solved plan as with the "
        "independent one, though both make the same encoder passes.",
    ]
    for method in SAMPLED:
        if method in apart:
            took = _step_seconds(found[task, method]) / _step_seconds(independent)
            told.append(
                f"{method} against the independent plan over all views, same encoder passes, cosines in the place of "
                f"inner products, {TITLES[task]}: "
                f"{interval(apart[method])}; its step takes {took:.2f} times as long."
            )
    return told


def _draw(found: Mapping[tuple[str, str], Sequence[Done]]):
    places = dict(zip(_names(), (*EPSILONS, _RIGHT), strict=False))

    def draw(canvas):
        top, bottom = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for task, colour in zip(TASKS, COLOURS, strict=False):
            known = {name: found[task, name] for name in places if (task, name) in found}
            _points(top, {places[name]: mean(cells) for name, cells in known.items()}, colour, TITLES[task])
            for method, dashes in zip(SAMPLED, ("--", ":"), strict=True):
                if (task, method) in found:
                    top.axhline(mean(found[task, method])[0], color=colour, linestyle=dashes, linewidth=1.4)
            if INDEPENDENT not in known:
                continue
            unit = _step_seconds(known[INDEPENDENT])
            times = {places[name]: _step_seconds(cells) / unit for name, cells in known.items()}
            _points(bottom, {x: (y, y, y) for x, y in times.items()}, colour, task)
            for method, dashes in zip(SAMPLED, ("--", ":"), strict=True):
                if (task, method) in found:
                    took = _step_seconds(found[task, method]) / unit
                    bottom.axhline(took, color=colour, linestyle=dashes, linewidth=1.4)
        for method, dashes in zip(SAMPLED, ("--", ":"), strict=True):
            label = f"{method.replace('_', ' ')}, this loss alone"
            top.plot([], [], color=GREY, linestyle=dashes, linewidth=1.4, label=label)
        bottom.set_xscale("log")
        bottom.set_yscale("log")
        bottom.set_xticks([*EPSILONS, _RIGHT], [*(f"{value:g}" for value in EPSILONS), "∞\n(independent)"])
        bottom.minorticks_off()
        low, high = bottom.get_ylim()
        times = [tick for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50) if low <= tick <= high]
        bottom.set_yticks(times, [f"{tick:g}" for tick in times])
        bottom.set_xlabel("epsilon of the plan, in units of cosine")
        bottom.set_ylabel("step time,\nindependent = 1")
        top.set_ylabel("quality")
        canvas.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=1)

    return draw


def _points(axes, points: Mapping[float, tuple[float, float, float]], colour: str, label: str) -> None:
    """A curve through the finite epsilons, its intervals, and the independent plan apart: the axis breaks before it."""
    xs = sorted(points)
    finite = [x for x in xs if x != _RIGHT]
    axes.plot(finite, [points[x][0] for x in finite], color=colour, marker="o", label=label)
    for x in xs:
        axes.plot((x, x), points[x][1:], color=colour, linewidth=1.4)
    if _RIGHT in points:
        axes.plot(_RIGHT, points[_RIGHT][0], "D", color=colour, markersize=8)
        if finite:
            link = (finite[-1], _RIGHT), (points[finite[-1]][0], points[_RIGHT][0])
            axes.plot(*link, color=colour, linewidth=1, alpha=0.5)


STUDY = _Continuum()
