"""Which options of factorized_transport_cached help, one at a time, on validation splits. Must not know test scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftbench.errors import counted, listed
from ftbench.request import Request
from ftbench.studies.base import Cell, Difference, Done, Figure, Outcome, Study, difference, holm
from ftbench.studies.drawing import Row, forest
from ftbench.studies.words import TITLES, certain, interval

METHOD = "factorized_transport_cached"
TASKS = ("query2item", "cross_view")
LUMA = "magento-luma"
BUDGET = 175_000  # half of the default: warm-up is a fifth of it
SEEDS = (0, 1)

# All settings typed out, so that another default adopted later does not change what was compared.
_OWN = {
    "alignment_weight": "0.1", "loss": "views", "blocks_weight": "0", "rest_weight": "0", "weighting": "share",
    "sampling": "weight", "gradient": "share", "draws": "1", "refresh": "0", "view_dropout": "0", "hard_negatives": "0",
    "hard_margin": "0.05", "inference": "uniform", "primary_share": "0.25", "alignment_share": "0.5",
}  # fmt: skip
_TRAINER = {
    "trainer.batch_size": "64", "trainer.queries_per_item": "4", "trainer.weight_decay": "0.01",
    "trainer.warmup": "0.05", "trainer.steps": "300", "trainer.learning_rate": "0.003",
}  # fmt: skip
_RATES = {"query2item": ("0.3", "3"), "cross_view": ("0.03", "0.03")}  # of the image tower, of words

# What each option changes, by the settings themselves. A gate or slots are learned in training and used at inference,
# hence inference=matched; sampling by weight and uniform sampling differ only where weights are learned.
_BOTH = {
    "inference matched": {"inference": "matched"},
    "weighting slot, inference matched": {"weighting": "slot", "inference": "matched"},
    "weighting gate, inference matched": {"weighting": "gate", "inference": "matched"},
    "weighting gate, inference matched, sampling uniform": {
        "weighting": "gate",
        "inference": "matched",
        "sampling": "uniform",
    },  # fmt: skip
    "gradient weight": {"gradient": "weight"},
    "loss fused": {"loss": "fused"},
    "loss blocks": {"loss": "blocks"},
    "blocks_weight 0.1": {"blocks_weight": "0.1"},
    "blocks_weight 0.3": {"blocks_weight": "0.3"},
    "rest_weight 0.3": {"rest_weight": "0.3"},
    "rest_weight 1": {"rest_weight": "1"},
    "loss blocks, rest_weight 0.3": {"loss": "blocks", "rest_weight": "0.3"},
    "draws 2": {"draws": "2"},
    "refresh 1": {"refresh": "1"},
    "refresh 2": {"refresh": "2"},
    "view_dropout 0.1": {"view_dropout": "0.1"},
    "view_dropout 0.3": {"view_dropout": "0.3"},
    "learning_rate 0.006": {"trainer.learning_rate": "0.006"},
    "learning_rate 0.012": {"trainer.learning_rate": "0.012"},
}
_OF_TASK = {
    "query2item": {
        "primary_share 0.1": {"primary_share": "0.1"},
        "primary_share 0.4": {"primary_share": "0.4"},
        "alignment_weight 0": {"alignment_weight": "0"},
        "alignment_weight 0.3": {"alignment_weight": "0.3"},
        "hard_negatives 8": {"hard_negatives": "8"},
        "hard_negatives 32": {"hard_negatives": "32"},
    },
    "cross_view": {
        "alignment_share 0.25": {"alignment_share": "0.25"},
        "alignment_share 0.4": {"alignment_share": "0.4"},
        "alignment_share 0.6": {"alignment_share": "0.6"},
    },
}


def base(task: str, budget: float = BUDGET) -> dict[str, str]:
    """All settings of the base on a task, as typed."""
    image, word = _RATES[task]
    rates = {"trainer.image_rate": image, "trainer.word_rate": word, "trainer.budget": f"{budget:g}"}
    return {**_OWN, **_TRAINER, **rates}


def options(task: str) -> dict[str, dict[str, str]]:
    """What each option of a task changes, by its name."""
    return {**_BOTH, **_OF_TASK[task]}


@dataclass(frozen=True)
class _Effect:
    """An option against the base, by place (data set, task): paired differences and Holm's adjusted p-values."""

    name: str
    found: Mapping[tuple[str, str], Difference]
    p: Mapping[tuple[str, str], float]

    @property
    def mean(self) -> float:
        """Over the places that have it, each counting alike."""
        return sum(one.mean for one in self.found.values()) / len(self.found)

    @property
    def kept(self) -> bool:
        """The rule, fixed before any cell was made."""
        sure = any(one.low > 0 for one in self.found.values())
        return self.mean > 0 and sure and all(one.high >= 0 for one in self.found.values())


class _Options(Study):
    name = "cached-options"
    title = "Options of factorized transport with cached views"
    question = (
        "Which options of factorized_transport_cached help on the validation splits of studio and magento-luma? Each "
        "is changed from a base whose settings are all typed out, with those it has no effect without. Kept is what is "
        "better on the mean over data sets and tasks, with a 95% interval above 0 on one of them, and an interval "
        "wholly below 0 on none: a rule for choosing defaults, that does not correct for how many options there are. "
        "The validation split of magento-luma has 19 items."
    )
    hours = 2.0

    def cells(self, full: bool) -> Sequence[Cell]:
        seeds = (*SEEDS, 2) if full else SEEDS
        made = [
            _cell(data, task, name, seed)
            for data in ("studio", LUMA)
            for seed in SEEDS
            for task in TASKS
            for name in _names(task)
        ]
        if full:
            made += [_cell("studio", task, name, seeds[-1]) for task in TASKS for name in _names(task)]
        return made

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        effects = _effects(done)
        if not effects:
            return Outcome(("No option has a cell beside the base's: nothing can be compared.",), ())
        places = _places(effects)
        kept = [one.name for one in effects if one.kept]
        shown = listed([_place(*place) for place in places])
        findings = [
            f"{counted(len(effects), 'option')} compared with the base on {shown}, validation split, at a budget of "
            f"{BUDGET:,} forward-equivalents (half of the default) where towers are trained, in pairs over "
            f"{listed(_counts(effects))}; p-values are Holm's over the options of a data set and task.",
            f"Kept by the rule: {'; '.join(kept) or 'none'}. Of those that set the same thing the one with the largest "
            f"mean became the method's default: {_shown(defaults(effects)) or 'none'}.",
        ]
        findings += [_told(one) for one in sorted(effects, key=lambda one: -one.mean)]
        caption = (
            "Difference of each option from the base, 95% intervals over queries and seeds; right of 0 the option is "
            f"better. One panel each for {shown}. Blue: kept by the rule; the others are grey. Sorted by mean."
        )
        order = sorted(effects, key=lambda one: -one.mean)
        panels = {_place(*place): f"{place[0]}\n{TITLES[place[1]].replace(' on ', chr(10))}" for place in places}
        rows = [
            Row(one.name, {_place(*place): own for place, own in one.found.items()}, list(panels) if one.kept else [])
            for one in order
        ]
        size = (2.8 + 1.4 * len(places), 1.8 + 0.29 * len(effects))
        figure = Figure("differences", caption, forest(rows, panels, "difference from the base"), size)
        return Outcome(tuple(findings), (figure,))


def _names(task: str) -> list[str]:
    return ["base", *options(task)]


def _key(data: str, task: str, name: str, seed: int) -> str:
    short = "".join(c if c.isalnum() or c in "-_" else "-" for c in name.replace(" + ", "--").replace(".", "p"))
    return f"{data}-{task}-{short}-{seed}"


def _cell(data: str, task: str, name: str, seed: int) -> Cell:
    settings = base(task) | options(task).get(name, {})
    request = Request(METHOD, task, data, seed=seed, settings=tuple(settings.items()), split="valid")
    return Cell(_key(data, task, name, seed), request)


def defaults(effects: Sequence[_Effect]) -> dict[str, str]:
    """The settings of the options that are kept; of those that set the same thing, of the one with the largest mean."""
    changes, found = {name: change for task in TASKS for name, change in options(task).items()}, {}
    for one in sorted((one for one in effects if one.kept), key=lambda one: -one.mean):
        own = changes[one.name]
        if not found.keys() & own.keys():
            found |= own
    return found


def _shown(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _effects(done: Mapping[str, Done]) -> list[_Effect]:
    """All options that have cells beside the base's, seed by seed."""
    found: dict[str, dict] = {}
    chances: dict[str, dict] = {}
    for data in ("studio", LUMA):
        for task in TASKS:
            family = {}
            for name in options(task):
                keys = [(_key(data, task, name, seed), _key(data, task, "base", seed)) for seed in (*SEEDS, 2)]
                pairs = [(done[own], done[plain]) for own, plain in keys if own in done and plain in done]
                if pairs:
                    family[name] = difference(*zip(*pairs, strict=True))
            for name, p in holm(family).items():
                found.setdefault(name, {})[data, task] = family[name]
                chances.setdefault(name, {})[data, task] = p
    return [_Effect(name, found[name], chances[name]) for name in found]


def _places(effects: Sequence[_Effect]) -> list[tuple[str, str]]:
    everywhere = {place for one in effects for place in one.found}
    return [(data, task) for data in ("studio", LUMA) for task in TASKS if (data, task) in everywhere]


def _counts(effects: Sequence[_Effect]) -> list[str]:
    seeds = sorted({one.seeds for effect in effects for one in effect.found.values()})
    return [f"{counted(n, 'seed')}" for n in seeds]


def _place(data: str, task: str) -> str:
    return f"{data} {task}"


def _told(one: _Effect) -> str:
    parts = [f"{interval(found)} on {_place(*place)}" for place, found in one.found.items()]
    sure = [_place(*place) for place in one.found if certain(one.found[place], one.p[place])]
    holds = (
        f"; certain after Holm's correction on {listed(sure)}" if sure else "; nowhere certain after Holm's correction"
    )
    return f"{one.name} ({'kept' if one.kept else 'not kept'}): {', '.join(parts)}{holds}."


STUDY = _Options()
