"""What each part of the factorized methods is worth: one thing changed at a time, on validation. Must not know test
scores.
"""

from collections.abc import Mapping, Sequence

from ftbench.errors import counted, listed
from ftbench.request import Request
from ftbench.studies import cached_options, drawing
from ftbench.studies.base import (
    COLOURS,
    GREY,
    SEEDS,
    Cell,
    Difference,
    Done,
    Figure,
    Outcome,
    Study,
    difference,
    holm,
    mean,
    seeds_of,
)
from ftbench.studies.words import TITLES, ahead, certain, chance, interval, verdict

TASKS = ("query2item", "cross_view")
BUDGET = 175_000  # half of the default
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the primary view in training
SHARE = {"query2item": "primary_share", "cross_view": "alignment_share"}
MISSING, WRONG = (0, 25, 50, 75), (0, 25, 50)  # percent of auxiliary views
CACHED, SAMPLED = "factorized_transport_cached", "factorized_transport"
# single views, a random one, all of them alike, and two that may tell a wrong one from the others
RIVALS = ("single_view_clip", "random_view", "mean_pooling_all_views", "max_pooling", "gated_fusion")
ROBUST = (CACHED, SAMPLED, *RIVALS)
_ITEMS = 6500  # of studio

# group: what it varies, then each variant as (label, the setting it is compared with, its own); a setting is a method
# and what differs from that method's base
_PARTS = {
    # the loss of the fused vectors: the others' image-text loss is of encoded views alone, which no bank enters
    "the bank": (("cached instead of sampled", (SAMPLED, {"loss": "fused"}), (CACHED, {"loss": "fused"})),),
    "the image-text loss": (
        ("cached: fused instead of views", (CACHED, {}), (CACHED, {"loss": "fused"})),
        ("cached: blocks instead of views", (CACHED, {}), (CACHED, {"loss": "blocks"})),
        ("sampled: fused instead of blocks", (SAMPLED, {}), (SAMPLED, {"loss": "fused"})),
    ),
    "view weights": (  # at inference, and those that are learned in training, too
        ("cached: fixed share instead of uniform", (CACHED, {}), (CACHED, {"inference": "matched"})),
        ("cached: learned per slot instead of fixed", (CACHED, {"inference": "matched"}),
         (CACHED, {"inference": "matched", "weighting": "slot"})),
        ("cached: gate per view instead of fixed", (CACHED, {"inference": "matched"}),
         (CACHED, {"inference": "matched", "weighting": "gate"})),
    ),
    "auxiliary views drawn": (
        ("sampled: 2 instead of 1", (SAMPLED, {}), (SAMPLED, {"draws": "2"})),
        ("sampled: 4 instead of 1", (SAMPLED, {}), (SAMPLED, {"draws": "4"})),
    ),
}  # fmt: skip


class _Ablations(Study):
    name = "ablations"
    title = "Ablations of the factorized methods"
    question = (
        "What is each part worth: the primary share, the bank of cached views, the form of the image-text loss, the "
        "weights of views, the number of auxiliary views drawn? One thing is changed at a time, from a plain base "
        "(rest_weight 0, uniform weights at inference, untuned rates), so that no other part stands in for it. And "
        "what do missing and wrong views cost the methods as they are tuned? Half of the default budget, at which "
        "methods that encode all views have trained little (quality-vs-cost), validation split."
    )
    hours = 2.5

    def cells(self, full: bool) -> Sequence[Cell]:
        made = {}
        for seed in SEEDS:
            for task in TASKS:
                changes = [(CACHED, {SHARE[task]: f"{share:g}"}) for share in SHARES]
                changes += [side for part in _PARTS.values() for _, *sides in part for side in sides]
                for method, change in changes:
                    made[_key(task, method, change, seed)] = _request(task, method, change, seed)
            for method in ROBUST:
                for data in _levels():
                    key = f"{data.partition('@')[2]}-{method}-{seed}"
                    half = (("trainer.budget", f"{BUDGET}"),)
                    made[key] = Request(method, "query2item", data, seed=seed, settings=half, split="valid")
        return [Cell(key, request) for key, request in made.items()]

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        findings, figures = [], []
        for part in (_shares, _parts, _views):
            told, drawn = part(done)
            findings += told
            figures += drawn
        if findings:
            findings.append(
                "p is of the paired randomization test over queries, with Holm's correction within a group and task; "
                "intervals are over seeds, too, so that one may hold 0 where p is small. Certain is what both say."
            )
        return Outcome(tuple(findings) or ("No two settings can be compared.",), tuple(figures))


def _base(method: str, task: str) -> dict[str, str]:
    """All settings of a method's base."""
    typed = cached_options.base(task, BUDGET)
    if method == CACHED:
        return typed
    trainer = {key: value for key, value in typed.items() if key.startswith("trainer.")}
    own = {"alignment_weight": "0.1"}
    if method == SAMPLED:
        own |= {
            "loss": "blocks",
            "inference": "uniform",
            "draws": "1",
            "primary_share": "0.25",
            "alignment_share": "0.5",
        }
    return own | trainer


def _request(task: str, method: str, change: Mapping[str, str], seed: int) -> Request:
    settings = tuple((_base(method, task) | change).items())
    return Request(method, task, seed=seed, settings=settings, split="valid")


def _key(task: str, method: str, change: Mapping[str, str], seed: int) -> str:
    base = _base(method, task)
    apart = {key: value for key, value in change.items() if base[key] != value}
    words = [f"{key}-{value}".replace(".", "p") for key, value in sorted(apart.items())] or ["base"]
    return "-".join([task, method, *words, str(seed)])


def _levels() -> list[str]:
    """The data sets of missing and wrong views; 0% is one of them, so that all are of one size."""
    kinds = [("missing", percent) for percent in MISSING] + [("wrong", percent) for percent in WRONG if percent]
    return [f"studio@{_ITEMS}-{kind}{percent}" for kind, percent in kinds]


def _of(task: str, method: str, change: Mapping[str, str]) -> str:
    """A cell's key without its seed."""
    return _key(task, method, change, 0)[:-2]


# --- the primary share


def _shares(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    curves, told = {}, []
    for task in TASKS:
        found = {share: seeds_of(done, _of(task, CACHED, {SHARE[task]: f"{share:g}"}))[0] for share in SHARES}
        curves[task] = {share: cells for share, cells in found.items() if cells}
        if len(curves[task]) < 2:
            continue
        best = max(curves[task], key=lambda share: mean(curves[task][share])[0])
        family = {}
        for share in curves[task]:
            keys = [_of(task, CACHED, {SHARE[task]: f"{one:g}"}) for one in (best, share)]
            if share != best:
                family[share] = difference(*seeds_of(done, *keys))
        p = holm(family)
        alike = [f"{share:g}" for share in family if not certain(family[share], p[share])]
        shown = f"not to be told apart from {listed(alike)}" if alike else "ahead of all others"
        worst = max(family, key=lambda share: family[share].mean)
        told.append(
            f"Primary share, {TITLES[task]}: {best:g} is the best of {len(curves[task])} "
            f"({mean(curves[task][best])[0]:.3f}), {shown}; against {worst:g}, the worst, it gains "
            f"{interval(family[worst])}."
        )
    curves = {task: points for task, points in curves.items() if points}
    if not curves:
        return told, []

    def draw(canvas):
        panels = canvas.subplots(1, len(curves), squeeze=False)[0]
        for axes, (task, points) in zip(panels, curves.items(), strict=True):
            values = {share: mean(cells) for share, cells in points.items()}
            axes.plot(list(values), [value for value, _, _ in values.values()], color=COLOURS[0], marker="o")
            for share, (_, low, high) in values.items():
                axes.plot((share, share), (low, high), color=COLOURS[0], linewidth=1.4)
            axes.set_title(TITLES[task])
            axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", ".25", ".5", ".75", "1"))
            axes.set_xlabel("primary share in training")

    caption = (
        "Quality of a plain factorized_transport_cached by the share of the primary view in training, with 95% "
        "intervals over queries and seeds; at 1 an item's fused vector in training is its primary views alone, at 0 "
        "primary views have no weight in it. Validation split, half budget."
    )
    return told, [Figure("primary-share", caption, draw, (7.2, 3.6))]


# --- parts of the methods


def _parts(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    told, rows, apart = [], [], []
    for part, variants in _PARTS.items():
        found: dict[str, dict[str, Difference]] = {}
        p: dict[str, dict[str, float]] = {}
        for task in TASKS:
            family = {}
            for label, plain, own in variants:
                sides = seeds_of(done, _of(task, *own), _of(task, *plain))
                if sides[0]:
                    family[label] = difference(*sides)
            p[task] = holm(family)
            for label, one in family.items():
                found.setdefault(label, {})[task] = one
        apart.append(len(rows))
        for label, one in found.items():
            sure = [task for task in one if certain(one[task], p[task][label])]
            shown = [f"{interval(one[task])} in {TITLES[task]} ({chance(p[task][label])})" for task in one]
            told.append(f"{part[0].upper() + part[1:]}, {label}: {listed(shown)}.")
            rows.append(drawing.Row(label, one, sure))
    if not rows:
        return told, []
    caption = (
        "Difference that each change makes alone, with 95% intervals over queries and seeds; right of 0 it is better. "
        "Blue: certain after Holm's correction within its group and task; lines part the groups "
        f"({listed(list(_PARTS))}). Validation split, half budget."
    )
    panels = {task: TITLES[task].replace(" on ", "\n") for task in TASKS}
    size = (8.0, 1.6 + 0.34 * len(rows))
    return told, [Figure("parts", caption, drawing.forest(rows, panels, "difference", apart[1:]), size)]


# --- missing and wrong views


def _views(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    told, curves = [], {}
    for kind, levels in (("missing", MISSING), ("wrong", WRONG)):
        for method in ROBUST:
            cells = {level: seeds_of(done, f"{_level(kind, level)}-{method}")[0] for level in levels}
            curves[kind, method] = {level: one for level, one in cells.items() if one}
        last = levels[-1]
        if curves[kind, CACHED].get(0) and curves[kind, CACHED].get(last):
            before, after = (mean(curves[kind, CACHED][level])[0] for level in (0, last))
            told.append(
                f"With {last}% of auxiliary views {kind}, {TITLES['query2item']} of {CACHED} goes from {before:.3f} to "
                f"{after:.3f}, a change of {(after - before) / before:+.0%}."
            )
        for rival in RIVALS:
            told += _against(done, kind, levels, rival)
    if not any(curves.values()):
        return told, []

    def draw(canvas):
        panels = canvas.subplots(1, 2, sharey=True, width_ratios=(4, 3))
        colours = dict(zip(ROBUST, (*COLOURS[:6], GREY), strict=True))
        for axes, (kind, levels) in zip(panels, (("missing", MISSING), ("wrong", WRONG)), strict=True):
            for method in ROBUST:
                values = {level: mean(cells) for level, cells in curves[kind, method].items()}
                label = method.replace("_", " ") if kind == "missing" else None
                axes.plot(
                    list(values), [y for y, _, _ in values.values()], marker="o", color=colours[method], label=label
                )
                for level, (_, low, high) in values.items():
                    axes.plot((level, level), (low, high), color=colours[method], linewidth=1.2)
            axes.set_xticks(levels, [f"{level}%" for level in levels])
            axes.set_xlabel(f"auxiliary views {kind}")
        panels[0].set_ylabel(TITLES["query2item"])
        canvas.legend(loc="outside upper center", ncols=2)

    caption = (
        "Quality when a share of auxiliary views, images and texts of all items, is missing (left) or is replaced by "
        "another product's (right), in training and in the gallery alike, with 95% intervals over queries and seeds. "
        "Methods as they are tuned, validation split, half budget; studio's own wrong and missing views are in all of "
        "them."
    )
    return told, [Figure("views", caption, draw, (7.2, 4.4))]


def _level(kind: str, level: int) -> str:
    return f"{_ITEMS}-{kind if level else 'missing'}{level}"


def _against(done: Mapping[str, Done], kind: str, levels: Sequence[int], rival: str) -> list[str]:
    family = {}
    for level in levels:
        sides = seeds_of(done, *(f"{_level(kind, level)}-{method}" for method in (CACHED, rival)))
        if sides[0]:
            family[level] = difference(*sides)
    if not family:
        return []
    p = holm(family)
    sure = [level for level in family if ahead(family[level], p[level])]
    shown = [f"{interval(one)} at {level}%" for level, one in family.items()]
    claim = f"{CACHED} stays ahead of {rival} however many auxiliary views are {kind}, up to {max(family)}%"
    many = f"certain at {len(sure)} of {counted(len(family), 'level')} (Holm)"
    return [verdict(claim, len(sure) == len(family)) + f" {TITLES['query2item']}: {listed(shown)}; {many}."]


STUDY = _Ablations()
