"""Recall@500 of the factorized methods against the best single-view and the best multi-view rival, as the catalogue
grows. Must not know how methods work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ftbench.errors import listed
from ftbench.method import load_method
from ftbench.request import DEFAULT_METHODS, Request
from ftbench.settings import TrainerConfig
from ftbench.sources.studio import parse_name
from ftbench.studies.base import COLOURS, GREY, Cell, Difference, Done, Figure, Outcome, Study, difference, holm, mean
from ftbench.studies.words import ahead, chance, verdict

TASKS = ("query2item", "cross_view")
FAMILY = ("factorized_transport", "factorized_transport_cached")
SINGLE = ("single_view_clip", "text_concat")
_MULTI = tuple(
    name for name in DEFAULT_METHODS if load_method(name).trained and name not in (*FAMILY, *SINGLE, "hybrid_rrf")
)
RIVALS = {
    "single-view": dict.fromkeys(TASKS, SINGLE),
    "multi-view": {"query2item": (*_MULTI, "hybrid_rrf"), "cross_view": _MULTI},  # no words search words in cross_view
}
# beyond 2,000 items the five multi-view rivals that are best at 2,000, by the same measure on the same queries
AT_SCALE = {
    "single-view": RIVALS["single-view"],
    "multi-view": {
        "query2item": ("max_pooling", "gated_fusion", "sinkhorn_transport", "hybrid_rrf", "attention_pooling"),
        "cross_view": ("random_view", "all_pairs", "m3g", "gated_fusion", "late_interaction"),
    },
}
# beyond 20,000 items, where a training takes most of an hour, those that are best at 20,000
AT_LARGEST = {
    "single-view": {"query2item": ("text_concat",)},
    "multi-view": {"query2item": ("attention_pooling", "max_pooling")},
}
WANTED = "recall@500"
PAPER = 0.079  # "up to +7.9%", at a million items (arXiv 2512.18117, abstract)
_WHOLE = TrainerConfig().budget
_PER_ITEM = _WHOLE / 4000  # forward-equivalents per train item of studio


@dataclass(frozen=True)
class Scale:
    """A catalogue. gallery: its test items; measure: recall at 500, below 20,000 items at the same share of the gallery
    as 500 is of 20,000, since recall@500 of 2,000 items says little; budget in forward-equivalents."""

    name: str
    data: str
    gallery: int
    measure: str
    budget: float
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    rivals: Mapping[str, Mapping[str, tuple[str, ...]]]  # by kind, then task

    def methods(self, task: str) -> tuple[str, ...]:
        """All that are trained on a task."""
        return (*FAMILY, *(name for kind in self.rivals.values() for name in kind[task]))


# The budget grows with the training split, but a run of 20,000 items should take less than ten minutes, and the bank of
# 200,000 must be warmed up with less than half of it. Judgements grow with queries times items, so 2,000 queries ask.
SCALES = (
    Scale("2k", "studio", 2000, "recall@50", _WHOLE, TASKS, (0, 1, 2), RIVALS),
    Scale("20k", "studio@65000-queries2000", 20_000, "recall@500", 2_000_000, TASKS, (0,), AT_SCALE),
)
BEYOND = Scale("100k", "studio@325000-queries2000", 100_000, "recall@500", 7_000_000, TASKS[:1], (0,), AT_LARGEST)


class _Recall(Study):
    name = "recall500"
    title = "Recall@500 against the best rivals"
    question = (
        "The paper (arXiv 2512.18117) reports up to +7.9% Recall@500 over strong baselines, on a million items. What "
        "is the difference, in percent of the rival's recall, against the best single-view rival "
        f"({' or '.join(SINGLE)}) and the best multi-view rival, at 2,000 items of all on the board, at 20,000 of the "
        "five that are best at 2,000, and at 100,000 (query2item alone) of the two that are best at 20,000? Test split."
    )
    hours = 3.0

    def cells(self, full: bool) -> Sequence[Cell]:
        return [
            Cell(_key(scale, task, method, seed), _request(scale, task, method, seed),
                 tuple(dict.fromkeys((scale.measure, WANTED))))
            for scale in (*SCALES, *([BEYOND] if full else []))
            for task in scale.tasks
            for seed in scale.seeds
            for method in scale.methods(task)
        ]  # fmt: skip

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        gains = _gains(done)
        if not gains:
            return Outcome(("No factorized method can be paired with a rival: nothing can be compared.",), ())
        p = holm({gain: gain.found for gain in gains})
        findings = [_verdict(task, kind, gains, p) for task in TASKS for kind in RIVALS]
        findings += [_told(gain, p[gain]) for gain in gains]
        findings += [_as_asked(task, done) for task in TASKS]
        sizes = [scale for scale in (*SCALES, BEYOND) if any(gain.scale == scale for gain in gains)]
        findings.append(
            "Rivals are the best of their kind by the same measure on the same queries, which favours them; "
            "a percentage is of the rival's mean. Each is trained with the same budget of forward-equivalents"
            f"{_budgets(sizes)}. Differences of 2,000 items are in recall@50, the same share of the gallery as 500 of "
            f"20,000. Holm's correction is over all {len(gains)} comparisons.{_seeds(sizes)}"
        )
        if BEYOND not in sizes:
            findings.append(f"{BEYOND.gallery:,} items were not measured: ftbench study recall500 --full, some hours.")
        caption = (
            "Recall of the factorized methods relative to the best single-view rival (circles) and the best multi-view "
            "rival (diamonds), by items searched, with 95% intervals over queries, at 2,000 items over seeds, too: "
            "recall@50 at 2,000 items, recall@500 beyond. Dashed: the paper's largest difference, at a million items."
        )
        return Outcome(tuple(findings), (Figure("relative-recall", caption, _draw(gains), (7.2, 4.6)),))


def _key(scale: Scale, task: str, method: str, seed: int) -> str:
    return f"{scale.name}-{task}-{method}-{seed}"


def _request(scale: Scale, task: str, method: str, seed: int) -> Request:
    return Request(method, task, scale.data, seed=seed, settings=(("trainer.budget", f"{scale.budget:.0f}"),))


def _budgets(scales: Sequence[Scale]) -> str:
    """Where the budget is less, for an item, than that of the board."""
    shown = []
    for scale in scales:
        whole = _PER_ITEM * parse_name(scale.data).train
        if scale.budget < whole:
            shown.append(f"{scale.budget / whole:.0%} of the board's for each training item at {scale.gallery:,} items")
    return f", which is {listed(shown)}" if shown else ""


def _seeds(scales: Sequence[Scale]) -> str:
    """Where nothing of how seeds differ is known."""
    shown = [f"{scale.gallery:,}" for scale in scales if len(scale.seeds) == 1]
    return (
        f" At {listed(shown)} items there is one seed, so intervals hold nothing of how seeds differ." if shown else ""
    )


@dataclass(frozen=True)
class _Gain:
    """A factorized method against the best rival of a kind: the paired difference in recall, and which rival it is."""

    scale: Scale
    task: str
    kind: str
    method: str
    rival: str
    found: Difference

    def __hash__(self) -> int:
        return hash((self.scale.name, self.task, self.kind, self.method))

    def relative(self, value: float) -> float:
        return value / self.found.b if self.found.b else 0.0

    @property
    def percent(self) -> str:
        low, mean, high = (f"{self.relative(v):+.1%}" for v in (self.found.low, self.found.mean, self.found.high))
        return f"{mean} (95% interval {low} to {high})"


def _gains(done: Mapping[str, Done]) -> list[_Gain]:
    found = []
    for scale in (*SCALES, BEYOND):
        for task in scale.tasks:
            cells = {method: _measured(done, scale, task, method) for method in scale.methods(task)}
            for kind, rivals in scale.rivals.items():
                scores = {m: _score(cells[m]) for m in rivals[task] if cells[m]}
                if not scores:
                    continue
                best = max(scores, key=scores.get)
                for method in FAMILY:
                    if len(cells[method]) == len(cells[best]):
                        pair = difference(cells[method], cells[best])
                        found.append(_Gain(scale, task, kind, method, best, pair))
    return found


def _measured(done: Mapping[str, Done], scale: Scale, task: str, method: str) -> list[Done]:
    """A method's cells with the scale's measure in the place of the headline; [] unless all seeds are there."""
    keys = [_key(scale, task, method, seed) for seed in scale.seeds]
    if not all(key in done and scale.measure in done[key].also for key in keys):
        return []
    return [replace(done[key], values=done[key].also[scale.measure]) for key in keys]


def _score(cells: Sequence[Done]) -> float:
    return mean(cells)[0]


def _verdict(task: str, kind: str, gains: Sequence[_Gain], p: Mapping[_Gain, float]) -> str:
    own = [gain for gain in gains if (gain.task, gain.kind) == (task, kind)]
    claim = f"on {task} a factorized method has a higher recall than the best {kind} rival at every size"
    sizes = list(dict.fromkeys(gain.scale.name for gain in own))
    sure = [
        size for size in sizes
        if any(ahead(g.found, p[g]) for g in own if g.scale.name == size)
    ]  # fmt: skip
    if not sizes:
        return f"Claim: {claim}. No cell is there to judge it by."
    wanted = [scale.name for scale in SCALES if task in scale.tasks]
    largest = max(own, key=lambda gain: gain.relative(gain.found.mean))
    return (
        f"{verdict(claim, sure == sizes and set(wanted) <= set(sure))} "
        f"Certain at {listed(sure, 'no size')} of {listed(sizes)}; the largest "
        f"difference is {largest.percent} ({largest.method} at {largest.scale.name}), the paper's is up to +7.9%."
    )


def _told(gain: _Gain, p: float) -> str:
    return (
        f"{gain.scale.gallery:,} items, {gain.task}: {gain.method} reaches {gain.scale.measure} of {gain.found.a:.3f}, "
        f"the best {gain.kind} rival ({gain.rival}) {gain.found.b:.3f}: {gain.percent}, {chance(p)}."
    )


def _as_asked(task: str, done: Mapping[str, Done]) -> str:
    """Recall@500 itself where the gallery is too small for it to say much."""
    scale, best = replace(SCALES[0], measure=WANTED), {}
    kinds = {"factorized": FAMILY} | {kind: rivals[task] for kind, rivals in scale.rivals.items()}
    for kind, names in kinds.items():
        scores = {name: _score(cells) for name in names if (cells := _measured(done, scale, task, name))}
        if scores:
            name = max(scores, key=scores.get)
            best[kind] = f"{scores[name]:.3f} for the best {kind} method ({name})"
    return f"{scale.gallery:,} items, {task}: {WANTED}, a quarter of the gallery, is {listed(list(best.values()))}."


def _draw(gains: Sequence[_Gain]):
    sizes = list(dict.fromkeys((gain.scale.name, gain.scale.gallery) for gain in gains))
    tasks = [task for task in TASKS if any(gain.task == task for gain in gains)]
    places = {name: x for x, (name, _) in enumerate(sizes)}

    def draw(canvas):
        panels = canvas.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axes, task in zip(panels, tasks, strict=True):
            axes.axhline(0, color="black", linewidth=1)
            axes.axhline(100 * PAPER, color=GREY, linewidth=1.2, linestyle="--")
            for gain in gains:
                if gain.task != task:
                    continue
                column = list(RIVALS).index(gain.kind) * 2 + FAMILY.index(gain.method)
                x = places[gain.scale.name] + 0.17 * (column - 1.5)
                low, y, high = (100 * gain.relative(v) for v in (gain.found.low, gain.found.mean, gain.found.high))
                colour, marker = COLOURS[FAMILY.index(gain.method)], "oD"[list(RIVALS).index(gain.kind)]
                axes.plot((x, x), (low, high), color=colour)
                axes.plot(x, y, marker, color=colour, markersize=7)
            axes.text(len(sizes) - 0.42, 100 * PAPER, "paper, 1M", color=GREY, fontsize=10, ha="right", va="bottom")
            axes.set_title(task)
            axes.set_xticks(range(len(sizes)), [f"{size:,}" for _, size in sizes])
            axes.set_xlim(-0.6, len(sizes) - 0.4)
            axes.set_xlabel("items searched")
            axes.grid(axis="x", visible=False)
        panels[0].set_ylabel("recall against the rival, %")
        for method, colour in zip(FAMILY, COLOURS, strict=False):
            panels[0].plot([], [], color=colour, linewidth=5, label=method.replace("_", " "))
        for kind, marker in zip(RIVALS, "oD", strict=True):
            panels[0].plot([], [], marker, color=GREY, label=f"against the best {kind} rival")
        canvas.legend(loc="outside upper center", ncols=2)

    return draw


STUDY = _Recall()
