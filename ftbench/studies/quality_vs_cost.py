"""What quality each trainable method reaches at each budget, and which methods form the Pareto front. Must not know how
methods work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ftbench.errors import counted, listed
from ftbench.method import load_method
from ftbench.request import DEFAULT_METHODS, Request, enters
from ftbench.settings import TrainerConfig
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
    spread_labels,
)
from ftbench.studies.words import certain, interval, verdict

TASKS = ("query2item", "cross_view")
MEASURE = "ndcg@10"  # of both tasks, though cross_view's headline is recall@10
TITLES = {task: f"nDCG@10 on {task}" for task in TASKS}
# what spends nothing, or may not compete
BESIDE = {"bm25": ("bm25", (), TASKS[:1]), "ceiling": ("oracle", (("reads", "all"),), TASKS)}
_WHOLE = TrainerConfig().budget
BUDGETS = tuple(_WHOLE * share for share in (1 / 4, 1 / 2, 1, 2))  # forward-equivalents of the image tower
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
FAMILY = ("factorized_transport", "factorized_transport_cached")


@dataclass(frozen=True)
class _Step:
    """A budget of a task: the best method, those that the test cannot tell from it, and whether it is on the front.
    scores: means over seeds, of the methods that have as many seeds as any; done: their cells, seed by seed."""

    budget: float
    best: str
    alike: tuple[str, ...]
    front: bool
    scores: Mapping[str, float]
    done: Mapping[str, Sequence[Done]]


class _Quality(Study):
    name = "quality-vs-cost"
    title = "Quality against the training budget"
    question = (
        "At which budget of encoder passes, each weighted by its operations, does which method reach which quality? "
        "All trainable methods are trained at four budgets, a quarter of the default to twice of it, and are scored on "
        "the test split. On the Pareto front is the best method of a budget, where no method did as well with a "
        "smaller one. nDCG@10 on both tasks, although recall@10 is the headline of cross_view."
    )
    hours = 3.0

    def cells(self, full: bool) -> Sequence[Cell]:
        beside = [
            Cell(f"{task}-{name}", Request(method, task, settings=settings), (MEASURE,))
            for name, (method, settings, tasks) in BESIDE.items()
            for task in tasks
        ]
        return beside + [
            Cell(_key(task, method, budget, seed), _request(task, method, budget, seed), (MEASURE,))
            for seed in SEEDS
            for budget in (BUDGETS if full or seed == 0 else (_WHOLE,))  # the board has all seeds at its own
            for task in TASKS
            for method in _methods(task)
        ]

    def outcome(self, done: Mapping[str, Done]) -> Outcome:
        findings, figures = [], []
        done = {key: replace(one, values=one.also[MEASURE]) for key, one in done.items() if MEASURE in one.also}
        for task in TASKS:
            steps = _steps(task, done)
            if not steps:
                findings.append(f"{TITLES[task]}: no method was trained at any budget.")
                continue
            findings += _told(task, steps)
            leaders = dict.fromkeys(step.best for step in steps if step.front)
            front = listed([f"{name} ({_budgets(name, steps)})" for name in leaders])
            caption = (
                f"{TITLES[task]} against the training budget in forward-equivalents, logarithmic; "
                f"{_seeds(steps)}, test split. "
                f"The black staircase is the Pareto front: {front}. Coloured: methods on the front and the factorized "
                f"family; the others are grey.{_not_drawn(task, done)}"
            )
            figures.append(Figure(task.replace("_", "-"), caption, _draw(task, steps), (6.4, 5.4)))
        short = [
            key for key in (_key(t, m, b, 0) for t in TASKS for m in _methods(t) for b in BUDGETS) if key not in done
        ]
        if short:
            findings.append(
                f"{counted(len(short), 'cell')} could not be trained at their budget, since what comes before the "
                "first step spends more than half of it, or for the reasons given below."
            )
        return Outcome(tuple(findings), tuple(figures))


def _not_drawn(task: str, done: Mapping[str, Done]) -> str:
    """What no training changes, for a caption."""
    shown = [f"{name} {done[key].values.mean():.3f}" for name in BESIDE if (key := f"{task}-{name}") in done]
    return f" Not drawn, as training changes nothing of it: {listed(shown)}." if shown else ""


def _methods(task: str) -> list[str]:
    methods = {name: load_method(name) for name in DEFAULT_METHODS}
    return [name for name, one in methods.items() if one.trained and enters(one, task)]


def _key(task: str, method: str, budget: float, seed: int) -> str:
    return f"{task}-{method}-{budget:.0f}-{seed}"


def _request(task: str, method: str, budget: float, seed: int) -> Request:
    return Request(method, task, seed=seed, settings=(("trainer.budget", f"{budget:g}"),))


def _steps(task: str, done: Mapping[str, Done]) -> list[_Step]:
    """The budgets of a task that have cells, cheapest first."""
    found, reached = [], float("-inf")
    for budget in BUDGETS:
        cells = {}
        for method in _methods(task):
            own = {seed: done[key] for seed in SEEDS if (key := _key(task, method, budget, seed)) in done}
            cells[method] = {seed: one for seed, one in own.items() if len(one.values)}
        most = max(map(len, cells.values()))
        seeds = next((set(own) for own in cells.values() if len(own) == most), set())
        cells = {method: list(own.values()) for method, own in cells.items() if own and set(own) == seeds}
        if not cells:
            continue
        scores = {method: sum(float(one.values.mean()) for one in own) / most for method, own in cells.items()}
        best = max(scores, key=scores.get)
        apart = {m: difference(cells[best], cells[m]) for m in scores if m != best}
        alike = tuple(m for m, p in holm(apart).items() if not certain(apart[m], p))
        found.append(_Step(budget, best, alike, scores[best] > reached, scores, cells))
        reached = max(reached, scores[best])
    return found


def _budgets(name: str, steps: Sequence[_Step]) -> str:
    """The budgets at which a method is on the front."""
    return listed([f"{step.budget:,.0f}" for step in steps if step.front and step.best == name])


def _seeds(steps: Sequence[_Step]) -> str:
    """How many seeds the means are over, budget by budget where that is not alike."""
    many = {step.budget: counted(len(step.done[step.best]), "seed") for step in steps}
    if len(set(many.values())) == 1:
        return next(iter(many.values()))
    return listed([f"{shown} at {budget:,.0f}" for budget, shown in many.items()])


def _beside(step: _Step) -> str:
    """What a test over queries of one seed does not know."""
    return "" if len(step.done[step.best]) > 1 else "; one seed, so nothing of how seeds differ"


def _passes(done: Sequence[Done]) -> str:
    cost = done[0].record["cost"]
    return f"{cost['image_passes']:,} image and {cost['text_passes']:,} text passes"


def _told(task: str, steps: Sequence[_Step]) -> list[str]:
    front = [step for step in steps if step.front]
    told = []
    for step in front:
        alike = f", not to be told apart from {listed(step.alike)}" if step.alike else ", ahead of all others"
        told.append(
            f"{TITLES[task]}, budget {step.budget:,.0f}: {step.best} leads with {step.scores[step.best]:.3f} "
            f"({_passes(step.done[step.best])}){alike} (paired test over queries, Holm{_beside(step)})."
        )
    rest = [step for step in steps if not step.front]
    if rest:
        shown = listed([f"{step.budget:,.0f}" for step in rest])
        told.append(
            f"{TITLES[task]}: no method gained anything at the budgets of {shown}; they add nothing to the front."
        )
    members = [step for step in front if step.best in FAMILY]
    alone = [step for step in members if set(step.alike) <= set(FAMILY)]
    near = [step for step in front if step not in members and set(step.alike) & set(FAMILY)]
    said = (
        f"{len(members)} of {counted(len(front), 'step')} of the front are theirs, {len(alone)} of them with certainty"
    )
    said += f"; on {len(near)} more one of them cannot be told apart from the leader" if near else ""
    claim = f"on {task} a factorized method leads at every step of the Pareto front, beyond doubt"
    told.append(f"{verdict(claim, len(alone) == len(front))} {said} ({_seeds(front)}).")
    last = steps[-1]
    for method in FAMILY:
        if method in last.scores and method != last.best:
            apart = difference(last.done[method], last.done[last.best])
            told.append(f"{TITLES[task]} at {last.budget:,.0f}: {method} against {last.best} {interval(apart)}.")
    return told


def _draw(task: str, steps: Sequence[_Step]):
    front = [step for step in steps if step.front]
    marked = list(dict.fromkeys([*FAMILY, *(step.best for step in front)]))
    curves = {
        method: [(step.budget, step.scores[method]) for step in steps if method in step.scores]
        for method in dict.fromkeys(m for step in steps for m in step.scores)
    }
    curves = {method: points for method, points in curves.items() if points}
    colour = {method: COLOURS[i % (len(COLOURS) - 2)] for i, method in enumerate(m for m in marked if m in curves)}

    def draw(canvas):
        axes = canvas.subplots()
        for method, points in curves.items():
            style = {"color": colour[method], "zorder": 4} if method in colour else {"color": "#B5B5B5", "linewidth": 1}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=6 if method in colour else 3, **style)
        right = BUDGETS[-1] * 1.1
        corners = [(step.budget, step.scores[step.best]) for step in front]
        xs, ys = zip(*corners, (right, corners[-1][1]), strict=True)
        axes.step(xs, ys, where="post", color="black", linewidth=1.2, linestyle=(0, (4, 2)), zorder=3)
        values = [value for points in curves.values() for _, value in points]
        low, high = min(values), max(values)
        pad = 0.04 * (high - low) or 0.01
        ends = {method: points[-1][1] for method, points in curves.items()}
        places = spread_labels(list(ends.values()), (high - low + 2 * pad) * 0.043)
        for (method, end), place in zip(ends.items(), places, strict=True):
            own = colour.get(method, GREY)
            start = curves[method][-1][0]
            axes.annotate(
                method.replace("_", " "), (start, end), (BUDGETS[-1] * 1.22, place), va="center", color=own,
                fontsize=10 if method in colour else 9, annotation_clip=False,
                arrowprops=_LEADER | {"color": own},
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(BUDGETS[0] * 0.9, right)
        axes.set_ylim(min(low - pad, *places) - pad, max(high + pad, *places) + pad)
        axes.set_xticks(BUDGETS, [f"{budget / 1000:.3g}k" for budget in BUDGETS])
        axes.minorticks_off()
        axes.set_xlabel("training budget, forward-equivalents")
        axes.set_ylabel(TITLES[task])

    return draw


STUDY = _Quality()
