"""Rankers without judgements: where another generation helps, where it hurts, and what judgements would be worth. Must
not know how labels are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ftbench.errors import listed
from ftbench.request import Request
from ftbench.studies import drawing
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

TASK = "query2item"
ONE = "weak_supervision"  # one generation
FORMS = ("gws_self", "gws_cross", "gws_joint", "gws_greedy")
PREDICTORS = ("nqc", "wig", "smv", "clarity", "entropy")
RANKER = "factorized_transport"  # the forms' own
OWN = (("k1", "1.5"), ("b", "0.75"))  # bm25 as a labeller: not as it is tuned, since that took judgements
# labellers of falling quality: what is said of each, and its settings
LABELLERS = {
    "bm25": {},
    "bm25 with words of like meaning": {"labeller": "bm25_expanded"},
    "bm25 on titles alone": {"labeller": "bm25:title_only=true"},
    "a quarter of the labels shuffled": {"shuffled": "0.25"},
    "three quarters shuffled": {"shuffled": "0.75"},
}
_COLOURS = dict(zip((ONE, *FORMS), (GREY, *COLOURS), strict=False))
_DATA = ("studio", "magento-luma")
_SHARE = 0.8  # of the supervised ranker, that is to be reached
_HARM = 0.01  # nDCG@10 that query weights may cost on average and count as harmless; the claim states it
_MEASURES = {"ndcg@10": "nDCG@10", "recall@100": "Recall@100"}


class _Weak(Study):
    name = "weak-supervision"
    title = "Weak supervision, generation by generation"
    question = (
        "What does a ranker reach that never saw a judgement? One generation learns from bm25; the four generalized "
        "forms go on from there. Does another generation help, with which labeller, do query weights, and how far is "
        "it to a ranker that learns from interactions?"
    )
    hours = 3.0

    def cells(self, full: bool) -> Sequence[Cell]:
        made = []
        for data in _DATA:
            made += [Cell(f"{data}-bm25", Request("bm25", TASK, data, settings=OWN))]
            for seed in SEEDS:
                made += [Cell(f"{data}-{form}-{seed}", Request(form, TASK, data, seed=seed)) for form in (ONE, *FORMS)]
                made.append(Cell(f"{data}-supervised-{seed}", Request(RANKER, TASK, data, seed=seed)))
        for name, settings in _variants().items():
            seeds = SEEDS if name.endswith("-nqc") else SEEDS[:1]
            method = name.partition("-")[0]
            made += [Cell(f"{name}-{s}", Request(method, TASK, seed=s, settings=settings)) for s in seeds]
        return made

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        findings, figures = [], []
        for data in _DATA:
            findings += _headline(data, done)
        for part in (_curves, _weights, _labellers, _reranked):
            told, drawn = part(done)
            findings += told
            figures += drawn
        return Outcome(tuple(findings) or ("No two rankers can be compared.",), tuple(figures))


def _variants() -> dict[str, tuple]:
    """Further cells by name, without their seed: method, then what is changed."""
    made = {}
    for form in (ONE, *FORMS):
        made[f"{form}-nqc"] = (("importance", "nqc"),)
        for place, settings in enumerate(LABELLERS.values()):
            if settings:
                made[f"{form}-labeller{place}"] = tuple(settings.items())
    for name in PREDICTORS[1:]:
        made[f"{ONE}-{name}"] = (("importance", name),)
    made[f"{ONE}-drop"] = (("importance", "nqc"), ("drop", "0.25"))
    made["gws_joint-rerank"] = (("serve", "rerank"),)
    return made


# --- the headline


def _headline(data: str, done: Mapping[str, Done]) -> list[str]:
    """One generation against bm25, the best form against one generation, and the share of the supervised ranker."""
    (one,) = seeds_of(done, f"{data}-{ONE}")
    told, title = [], f"{TITLES[TASK]}, {data}"
    if f"{data}-bm25" in done and one:
        found = difference(one, [done[f"{data}-bm25"]])
        claim = f"one generation of weak supervision beats its labeller, bm25, on {data}"
        told.append(
            f"{verdict(claim, ahead(found, found.p))} {title}: {found.a:.3f} for {found.b:.3f}, {interval(found)}, "
            f"{chance(found.p)}."
        )
    family = {
        form: difference(*sides) for form in FORMS if (sides := seeds_of(done, f"{data}-{form}", f"{data}-{ONE}"))[0]
    }
    if family:
        p = holm(family)
        best = max(family, key=lambda form: family[form].mean)
        claim = f"the best of the four forms beats one generation on {data}"
        shown = listed([f"{form} {interval(one)} ({chance(p[form])})" for form, one in family.items()])
        told.append(f"{verdict(claim, ahead(family[best], p[best]))} The best is {best}; differences: {shown}.")
        told += _share(data, best, done)
    return told


def _share(data: str, best: str, done: Mapping[str, Done]) -> list[str]:
    sides = seeds_of(done, f"{data}-{best}", f"{data}-supervised")
    if not sides[0]:
        return []
    weak, supervised = sides
    wanted = [replace(cell, values=_SHARE * cell.values) for cell in supervised]
    found, whole = difference(weak, wanted), mean(supervised)[0]
    share, low, high = (_SHARE + value / whole for value in (found.mean, found.low, found.high))
    claim = f"without judgements at least {_SHARE:.0%} of the supervised ranker's {TITLES[TASK]} is reached on {data}"
    return [
        f"{verdict(claim, found.mean >= 0)} {best}: {found.a:.3f} of {whole:.3f}, {share:.0%} (95% interval {low:.0%} "
        f"to {high:.0%}). The supervised ranker has the settings that its search chose by judgements."
    ]


# --- over generations


def _curve(cells: Sequence[Done], measure: str) -> list[float]:
    """The mean over seeds of the served ranker's scores, generation by generation."""
    curves = []
    for cell in cells:
        stages = cell.record["training"].get("generations", ())
        curves.append([stage["scores"][measure] for stage in stages if stage["role"] == "ranker"])
    return [sum(values) / len(values) for values in zip(*curves, strict=False) if None not in values]


def _lines(axes, cells: Mapping[str, Sequence[Done]], measure: str) -> None:
    """A line over generations for each form."""
    for form, own in cells.items():
        curve = _curve(own, measure)
        axes.plot(range(1, len(curve) + 1), curve, marker="o", color=_COLOURS[form])
    axes.xaxis.get_major_locator().set_params(integer=True)


def _key(canvas, axes) -> None:
    for form, colour in _COLOURS.items():
        axes.plot([], [], color=colour, marker="o", label=form.replace("_", " "))
    canvas.legend(loc="outside upper center", ncols=3)


def _curves(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    cells = {form: seeds_of(done, f"studio-{form}")[0] for form in (ONE, *FORMS)}
    cells = {form: own for form, own in cells.items() if own}
    if not cells:
        return [], []
    told = []
    for form in FORMS:
        curve = _curve(cells.get(form, ()), "ndcg@10")
        if len(curve) > 1:
            told.append(f"{form}, nDCG@10 by generation: {', '.join(f'{value:.3f}' for value in curve)}.")
    lines = {
        "bm25": [done["studio-bm25"]] if "studio-bm25" in done else [],
        "supervised": seeds_of(done, "studio-supervised")[0],
    }

    def draw(canvas):
        panels = canvas.subplots(1, len(_MEASURES))
        for axes, (measure, title) in zip(panels, _MEASURES.items(), strict=True):
            _lines(axes, cells, measure)
            for name, own in lines.items():
                values = [cell.record["scores"][measure]["mean"] for cell in own]
                if values and None not in values:
                    axes.axhline(sum(values) / len(values), color="black", linewidth=1, linestyle=(0, (4, 3)))
                    axes.annotate(name, (1, sum(values) / len(values)), xycoords=("axes fraction", "data"),
                                  ha="right", va="bottom", fontsize=10)  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel("generation")
        _key(canvas, panels[0])

    caption = (
        "What the served ranker reaches after each generation, mean over seeds, studio's test split. Dashed: the "
        "labeller, bm25, and the same ranker trained on interactions."
    )
    return told, [Figure("generations", caption, draw, (7.2, 4.4))]


# --- query weights


def _weights(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    family: dict[str, Difference] = {}
    for form in (ONE, *FORMS):
        sides = seeds_of(done, f"{form}-nqc", f"studio-{form}")
        if sides[0]:
            family[f"{form}, nqc"] = difference(*sides)
    for name in (*PREDICTORS[1:], "drop"):
        sides = seeds_of(done, f"{ONE}-{name}", f"studio-{ONE}")
        if sides[0]:
            label = "the lowest quarter dropped" if name == "drop" else name
            family[f"{ONE}, {label}"] = difference(*sides)
    if not family:
        return [], []
    p = holm(family)
    forms = [form for form in (ONE, *FORMS) if f"{form}, nqc" in family]
    told = []
    if forms:
        sides = [_mean_of([seeds_of(done, f"{form}-nqc", f"studio-{form}")[side] for form in forms]) for side in (0, 1)]
        average = difference(*sides)
        hurt = [name for name, one in family.items() if one.mean < 0 and certain(one, p[name])]
        claim = f"query weights cost less than {_HARM} nDCG@10 on average"
        told.append(
            f"{verdict(claim, average.low > -_HARM)} nqc, mean over {len(forms)} forms: {interval(average)}; certainly "
            f"worse with weights: {listed(hurt)} (Holm)."
        )
    rows = [
        drawing.Row(name.replace("_", " "), {TASK: one}, [TASK] * certain(one, p[name])) for name, one in family.items()
    ]
    caption = (
        "What weighing queries by predicted performance changes, with 95% intervals over queries and seeds; right of 0 "
        "weights help. Blue: certain after Holm's correction. nqc has three seeds, the others one; studio's test split."
    )
    size = (7.2, 1.4 + 0.34 * len(rows))
    return told, [Figure("weights", caption, drawing.forest(rows, {TASK: TITLES[TASK]}, "difference"), size)]


def _mean_of(settings: Sequence[Sequence[Done]]) -> list[Done]:
    """Several settings as one, seed by seed: the mean of their values for each query, of the seeds that all have."""
    seeds = range(min(map(len, settings)))
    return [replace(settings[0][s], values=np.mean([cells[s].values for cells in settings], axis=0)) for s in seeds]


# --- labellers of falling quality


def _labellers(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    rows, told, apart = [], [], []
    for place, (label, settings) in enumerate(LABELLERS.items()):
        names = {form: f"{form}-labeller{place}" if settings else f"studio-{form}" for form in (ONE, *FORMS)}
        family = {}
        for form in FORMS:
            sides = [cells[:1] for cells in seeds_of(done, names[form], names[ONE])]
            if sides[0]:
                family[form] = difference(*sides)
        if not family:
            continue
        p = holm(family)
        apart.append(len(rows))
        rows += [drawing.Row(f"{form.removeprefix('gws_')}: {label}", {TASK: one}, [TASK] * certain(one, p[form]))
                 for form, one in family.items()]  # fmt: skip
        helps, hurts = ([form for form in family if certain(family[form], p[form]) and sign * family[form].mean > 0]
                        for sign in (1, -1))  # fmt: skip
        one = next(iter(family.values()))
        told.append(
            f"{label[0].upper() + label[1:]}: one generation has {one.b:.3f}; iterating helps {listed(helps)}, hurts "
            f"{listed(hurts)} (one seed, Holm over the forms)."
        )
    if not rows:
        return [], []
    caption = (
        "What iterating changes against one generation by the quality of the weak labels, with 95% intervals over "
        "queries; right of 0 iterating helps. Blue: certain after Holm's correction within a labeller. Seed 0, "
        "studio's test split."
    )
    size = (7.2, 1.4 + 0.3 * len(rows))
    return told, [
        Figure("labellers", caption, drawing.forest(rows, {TASK: TITLES[TASK]}, "difference", apart[1:]), size),
        *_curves_by_labeller(done),
    ]


def _curves_by_labeller(done: Mapping[str, Done]) -> list[Figure]:
    """Each measure over generations for each labeller, and with query weights: seed 0."""
    names = {label: "{}-labeller" + str(place) if settings else "studio-{}"
             for place, (label, settings) in enumerate(LABELLERS.items())}  # fmt: skip
    names["bm25, queries weighted by nqc"] = "{}-nqc"
    panels = {
        label: {form: [done[key]] for form in (ONE, *FORMS) if (key := f"{name.format(form)}-0") in done}
        for label, name in names.items()
    }
    panels = {label: cells for label, cells in panels.items() if cells}
    rows = -(-len(panels) // 3)
    made = []
    for measure, title in _MEASURES.items() if panels else ():

        def draw(canvas, measure=measure, title=title):
            drawn = canvas.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).ravel()
            for axes, (label, cells) in zip(drawn, panels.items(), strict=False):
                _lines(axes, cells, measure)
                axes.set_title(label, fontsize=10, wrap=True)
            for axes in drawn[len(panels) :]:
                axes.set_axis_off()
            _key(canvas, drawn[0])
            canvas.supxlabel("generation", fontsize=12)
            canvas.supylabel(title, fontsize=12)

        caption = (
            f"{title} of the served ranker over generations, for each quality of the weak labels, and with queries "
            "weighted by predicted performance; seed 0, studio's test split. One generation is a single point."
        )
        name = f"generations-by-labeller-{measure.partition('@')[0]}"
        made.append(Figure(name, caption, draw, (7.2, 1.6 + 2.2 * rows)))
    return made


# --- reranked


def _reranked(done: Mapping[str, Done]) -> tuple[list[str], list[Figure]]:
    """One seed, one comparison: no correction."""
    sides = seeds_of(done, "gws_joint-rerank", "studio-gws_joint")
    if not sides[0]:
        return [], []
    found = difference(*sides)
    claim = "with the second ranker ordering its 100 candidates gws_joint is better than without"
    return [
        f"{verdict(claim, ahead(found, found.p))} {TITLES[TASK]}, studio: {found.a:.3f} for {found.b:.3f}, "
        f"{interval(found)}, {chance(found.p)}; one seed; the same budget trains one more ranker."
    ], []


STUDY = _Weak()
