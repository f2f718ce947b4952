"""The reference method against every other one, on a catalogue that no tuning saw. Must not know how methods work."""

from collections.abc import Mapping, Sequence

import numpy as np

from ftbench import stats
from ftbench.errors import listed
from ftbench.method import load_method
from ftbench.request import DEFAULT_METHODS, Request, enters, requests
from ftbench.studies import drawing
from ftbench.studies.base import SEEDS, Cell, Difference, Done, Figure, Outcome, Study, difference, holm, seeds_of
from ftbench.studies.words import LEVEL, TITLES, ahead, certain, chance, interval, verdict

DATA = "studio-confirm"
OURS, SINGLE = "factorized_transport_cached", "single_view_clip"
TASKS = ("query2item", "cross_view")
# what the leading rank group is asked of: a task's headline, and its probes that are auxiliary images
ASKED = {
    "query2item": {"": TITLES["query2item"]},
    "cross_view": {
        "": TITLES["cross_view"],
        "auxiliary_image-item:recall@10": "recall@10 from an auxiliary image to its item",
        "auxiliary_image-title:recall@10": "recall@10 from an auxiliary image to its title",
    },
}
FORMS = ("fused", "multi")  # of one trained model: a vector for an item, or one for each of its views
_PAIRED = "sinkhorn_transport"
_SEED = 20250412  # of the random signs; any constant would do


class _Confirmation(Study):
    name = "confirmation"
    title = "The reference method against the field"
    question = (
        f"On {DATA}, which no setting was chosen on, at equal compute: is {OURS} in the leading rank group of both "
        "tasks, probes with auxiliary images included, and does it lead every other method that ends in one vector per "
        "item on query2item? And what does one vector for an item give up against one for each view? Test split, three "
        "seeds."
    )
    hours = 2.5

    def cells(self, full: bool) -> Sequence[Cell]:
        made = []
        for task in TASKS:
            for asked in requests(["default"], [task], [DATA], list(SEEDS), Request("", "")):
                method = load_method(asked.method)
                if method.ranked and enters(method, task):
                    made.append(Cell(_key(asked), asked, tuple(name for name in ASKED[task] if name)))
            made += [
                Cell(f"{task}-{form}-{seed}", Request(_PAIRED, task, DATA, seed=seed, settings=(("inference", form),)))
                for form in FORMS
                for seed in SEEDS
            ]
        return made

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        findings = [line for task in TASKS for line in _groups(task, done)]
        family = {task: _differences(task, done) for task in TASKS}
        findings += _lead(done, family["query2item"])
        findings += [line for task in TASKS for line in (*_one_or_many(task, done), *_below_untrained(task, done))]
        if not any(family.values()):
            return Outcome(tuple(findings), ())
        names = [name for name in _rows() if any(name in family[task] for task in TASKS)]
        names.sort(key=lambda name: next(family[task][name].mean for task in TASKS if name in family[task]))
        p = {task: holm(found) for task, found in family.items()}
        rows = [
            drawing.Row(
                name.replace("_", " ").replace("-zero-shot", " (zero-shot)"),
                {task: family[task][name] for task in TASKS if name in family[task]},
                [task for task in TASKS if name in family[task] and ahead(family[task][name], p[task][name])],
            )
            for name in names
        ]
        caption = (
            f"{OURS} less each other method, with 95% intervals over queries and seeds; right of 0 it is ahead. The "
            "nearest on query2item is on top. Blue: ahead beyond doubt (Holm over a task's methods)."
        )
        size = (7.2, 1.4 + 0.3 * len(rows))
        panels = {task: TITLES[task] for task in TASKS}
        return Outcome(
            tuple(findings), (Figure("differences", caption, drawing.forest(rows, panels, "difference"), size),)
        )


def _key(asked: Request) -> str:
    return "-".join([asked.task, _row(asked.method, asked.track), str(asked.seed)])


def _row(method: str, track: str | None) -> str:
    return f"{method}-{track}" if track else method


def _rows() -> list[str]:
    """The board's rows, in its order."""
    names = []
    for name in DEFAULT_METHODS:
        method = load_method(name)
        if method.ranked:
            names += [name, *([_row(name, "zero-shot")] if method.zero_shot else [])]
    return names


def _seeds(done: Mapping[str, Done], task: str, row: str) -> list[Done]:
    return seeds_of(done, f"{task}-{row}")[0]


# --- the leading rank group


def _groups(task: str, done: Mapping[str, Done]) -> list[str]:
    told = []
    for measure, title in ASKED[task].items():
        table = {}
        for row in _rows():
            values = [
                one.also.get(measure, one.values[:0]) if measure else one.values for one in _seeds(done, task, row)
            ]
            if values and all(len(own) == len(values[0]) > 0 for own in values):
                table[row] = np.mean(values, axis=0)
        if OURS not in table or len(table) < 2:
            told.append(f"{title}: {OURS} has no numbers to compare.")
            continue
        means = np.array(list(table.values()))
        (p,) = stats.against_leaders([means], np.random.default_rng(_SEED))
        group = [row for row, one in zip(table, p, strict=True) if one > LEVEL]
        leader = max(table, key=lambda row: table[row].mean())
        claim = f"by {title}, {OURS} is in the leading rank group"
        shown = f"{leader} has the highest mean, {table[leader].mean():.3f}; "
        shown += f"{OURS} has {table[OURS].mean():.3f}; " if leader != OURS else ""
        told.append(
            f"{verdict(claim, OURS in group)} {shown}the group is {listed(group)} of {len(table)} rows (paired "
            "randomization test over means of seeds, Holm)."
        )
    return told


# --- against each other method


def _differences(task: str, done: Mapping[str, Done]) -> dict[str, Difference]:
    own = _seeds(done, task, OURS)
    rows = {row: _seeds(done, task, row) for row in _rows() if row != OURS}
    return {row: difference(own, cells) for row, cells in rows.items() if own and len(cells) in (1, len(own))}


def _one_vector(done: Mapping[str, Done], task: str, row: str) -> bool:
    """Whether a method's index is as large as that of single views; of several indexes or of words there is no size."""
    size, single = (_bytes(_seeds(done, task, name)) for name in (row, SINGLE))
    return bool(size and single and size <= 1.02 * single)


def _bytes(cells: Sequence[Done]) -> float | None:
    return cells[0].record["cost"]["index_bytes_per_item"] if cells else None


def _lead(done: Mapping[str, Done], family: Mapping[str, Difference]) -> list[str]:
    rivals = {row: one for row, one in family.items() if _one_vector(done, "query2item", row)}
    if not rivals:
        return []
    p = holm(rivals)
    claim = f"on query2item {OURS} leads every other method that ends in one vector per item"
    behind = [row for row in rivals if not ahead(rivals[row], p[row])]
    nearest = min(rivals, key=lambda row: rivals[row].mean)
    return [
        f"{verdict(claim, not behind)} The nearest of {len(rivals)} is {nearest}: {interval(rivals[nearest])}, "
        f"{chance(p[nearest])} (Holm over all of them); not certainly behind it: {listed(behind)}."
    ]


# --- one vector or one for each view


def _one_or_many(task: str, done: Mapping[str, Done]) -> list[str]:
    told = []
    fused, multi = seeds_of(done, *(f"{task}-{form}" for form in FORMS))
    if fused:
        told.append(f"{TITLES[task]}, {_PAIRED}, the same trained towers: {_given_up(fused, multi)}")
    late = _seeds(done, task, "late_interaction")
    mean_of_all = _seeds(done, task, "mean_pooling_all_views")
    if late and len(late) == len(mean_of_all):
        told.append(
            f"{TITLES[task]}, mean_pooling_all_views beside late_interaction, each trained for its own form: "
            f"{_given_up(mean_of_all, late)}"
        )
    return told


def _below_untrained(task: str, done: Mapping[str, Done]) -> list[str]:
    """Which trained rows have a lower mean than the best that spent nothing."""
    found = {row: [one.values.mean() for one in _seeds(done, task, row)] for row in _rows()}
    means = {row: float(np.mean(values)) for row, values in found.items() if values}
    untrained = {row: value for row, value in means.items() if row.endswith("-zero-shot")}
    if not untrained:
        return []
    best = max(untrained, key=untrained.get)
    below = [
        f"{row} ({value:.3f})" for row, value in means.items()
        if value < means[best] and row not in untrained and load_method(row).trained
    ]  # fmt: skip
    shown = f"below {best} ({means[best]:.3f}), which nothing trained"
    return [f"{TITLES[task]}: {listed(below)} end {shown}." if below else f"{TITLES[task]}: no trained row is {shown}."]


def _given_up(one: Sequence[Done], many: Sequence[Done]) -> str:
    found = difference(many, one)
    sure = "" if certain(found, found.p) else ", no certain difference"
    return (
        f"one vector an item has {found.b:.3f} at {_bytes(one):,.0f} bytes, one for each view {found.a:.3f} at "
        f"{_bytes(many):,.0f}: {interval(found)}{sure}."
    )


STUDY = _Confirmation()
