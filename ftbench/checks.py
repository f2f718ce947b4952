"""What must hold of any record and its run file, whoever made them: order, ties, measures, chance. Must not know files.

Each check gives its findings as texts, [] where all is well. That the scores follow from the run file is checked by
`rescore`; here it is whether the run file is a ranking at all, and whether its numbers can be true. What a run cost
cannot be computed again: only whether the costs agree with each other.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ftbench import metrics
from ftbench.runfile import Run
from ftbench.search import Ranking

CHANCE = "random"  # the method whose score must be chance
_ROUNDING = 1e-9  # sums of the same numbers in another order; band and mean are added up apart
_TIE_LUCK = 0.01  # what the order of ids may add to a headline: it moves the second decimal
_TOLERANCE = 0.01  # of seconds, by which parts may exceed the whole, as a share
_CHEAPEST, _DEAREST = 1, 3  # forward-equivalents of an encoder pass: one without gradients, one that trains
_BANDED = ("ndcg", "recall", "hit", "rr")


def findings(record: Mapping, run: Run) -> list[str]:
    """All findings on a finished record and its run."""
    found = _shape_problems(record, run)
    for pair, ranking in run.rankings.items():
        named = f"pair {pair!r}: " if pair else ""
        found += [named + text for text in ranking_problems(ranking)]
    if not found:  # measures of what is no ranking say nothing
        for pair, ranking in run.rankings.items():
            named = f"pair {pair!r}: " if pair else ""
            found += [named + text for text in measure_problems(ranking, record["task"]["measures"])]
        found += score_problems(record) + chance_problems(record, run)
    return found + cost_problems(record)


def _shape_problems(record: Mapping, run: Run) -> list[str]:
    """Whether a run file is of the size and task that its record says."""
    task, found = record["task"], []
    known = [pair["name"] for pair in task["pairs"]] or [""]
    extra = sorted(set(run.rankings) - set(known))
    if extra:
        found.append(f"the run file has pairs that the task has not: {extra[:5]}")
    asked = sum(len(ranking.query_ids) for ranking in run.rankings.values())
    if record["n_queries"] + record["n_skipped"] != asked:
        found.append(
            f"n_queries + n_skipped is {record['n_queries'] + record['n_skipped']}, the run file has {asked} queries"
        )
    for ranking in run.rankings.values():
        if ranking.relevant_from != task["relevant_from"]:
            found.append(
                f"relevant_from is {ranking.relevant_from} in the run file, {task['relevant_from']} in the task"
            )
    depth = min((ranking.depth for ranking in run.rankings.values()), default=0)
    if depth != record["run_file"]["depth"]:
        found.append(f"the run file keeps ranks to {depth}, its record says {record['run_file']['depth']}")
    return found


def ranking_problems(ranking: Ranking) -> list[str]:
    """Why a ranking cannot have come of ranking anything: ids twice, gaps in ranks, scores or ties out of order."""
    n, found = len(ranking.item_ids), []
    for ids, kind in ((ranking.query_ids, "a query"), (ranking.item_ids, "an item")):
        if not all(isinstance(identifier, str) and identifier for identifier in ids):
            return [f"{kind} id is empty"]
        if len(set(ids)) < len(ids):
            found.append(f"{kind} id occurs twice")
    if found or not 1 <= ranking.depth <= n:
        return found or [f"depth {ranking.depth} with a gallery of {n}"]
    counts = np.diff(ranking.offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(owner)) - ranking.offsets[owner]
    rank, first = ranking.rank.astype(np.int64), ranking.tie_first.astype(np.int64)
    last = first + ranking.tie_size - 1
    after = owner[1:] == owner[:-1]  # the entry has one before it, of the same query

    def check(holds: np.ndarray, text: str) -> None:
        if not np.all(holds):
            found.append(f"{text} ({int((~holds).sum())} times)")

    check(counts >= ranking.depth, f"a query has fewer than the {ranking.depth} entries that the run file keeps")
    check((rank >= 1) & (rank <= n), "a rank is not between 1 and the size of the gallery")
    check((place >= ranking.depth) | (rank == place + 1), "the first ranks are not 1, 2, 3 …")
    check((rank[1:] > rank[:-1])[after], "a rank occurs twice")
    check(np.isfinite(ranking.score), "a score is NaN or infinite")
    distinct = np.bincount(np.unique(owner * n + ranking.item) // n, minlength=len(counts))
    check(distinct == counts, "an item stands twice in one query")
    score = ranking.score
    with np.errstate(invalid="ignore"):
        check((score[1:] <= score[:-1])[after], "scores rise with the rank")
    check((first >= 1) & (first <= rank) & (rank <= last) & (last <= n), "a rank lies outside its tie group")
    same = (first[1:] == first[:-1]) & after
    check(~same | (last[1:] == last[:-1]), "a tie group has two sizes")
    check(~after | same | (first[1:] > last[:-1]), "tie groups overlap")
    check((same == (score[1:] == score[:-1]))[after], "equal scores and tie groups do not agree")
    order = np.empty(n, dtype=np.int64)
    order[sorted(range(n), key=lambda i: ranking.item_ids[i], reverse=True)] = np.arange(n)
    at = order[ranking.item]
    check(~same | (at[1:] > at[:-1]), "ties are not in order of id, descending")
    relevant = np.bincount(owner[ranking.gain >= ranking.relevant_from], minlength=len(counts))
    asks = np.repeat(np.arange(len(counts)), np.diff(ranking.ideal_offsets))
    judged = np.bincount(asks[ranking.ideal >= ranking.relevant_from], minlength=len(counts))
    check(relevant == judged, "a relevant item is missing from the entries of its query")
    return found


def measure_problems(ranking: Ranking, names: Sequence[str]) -> list[str]:
    """METRICS.md's invariants, query by query: rr@1 = p@1 = hit@1; recall and hit never fall; a perfect run has 1."""
    found = []
    n = len(ranking.item_ids)
    cuts = sorted({1, *(metrics.parse(name).k for name in names)})
    ones = metrics.evaluate(ranking, ("rr@1", "p@1", "hit@1"))
    if not all(np.array_equal(ones["rr@1"], ones[name], equal_nan=True) for name in ("p@1", "hit@1")):
        found.append("rr@1, p@1 and hit@1 differ")
    rising = metrics.evaluate(ranking, [f"{kind}@{k}" for kind in ("recall", "hit") for k in cuts])
    for kind in ("recall", "hit"):
        for near, far in zip(cuts, cuts[1:], strict=False):
            if np.any(rising[f"{kind}@{far}"] < rising[f"{kind}@{near}"]):
                found.append(f"{kind}@{far} is below {kind}@{near}")
    perfect = _perfect(ranking)
    wanted = [name for name in names if metrics.parse(name).kind in _BANDED and not metrics.unavailable(name, n)]
    asks = np.repeat(np.arange(len(ranking.query_ids)), np.diff(ranking.ideal_offsets))
    relevant = np.bincount(asks[ranking.ideal >= ranking.relevant_from], minlength=len(ranking.query_ids))
    for name, values in metrics.evaluate(perfect, wanted).items():
        measure = metrics.parse(name)
        counted = (relevant > 0) & ((relevant <= measure.k) | (measure.kind != "recall"))
        if not np.all(np.abs(values[counted] - 1) <= _ROUNDING):
            found.append(f"a perfect run would not have {name} = 1: the judgements do not fit")
    return found


def _perfect(ranking: Ranking) -> Ranking:
    """The judged items of each query, best first, and nothing else."""
    counts = np.diff(ranking.ideal_offsets)
    ranks = (np.arange(len(ranking.ideal)) - np.repeat(ranking.ideal_offsets[:-1], counts) + 1).astype(np.int32)
    best_first = np.lexsort((-ranking.ideal, np.repeat(np.arange(len(counts)), counts)))
    alone = {"tie_first": ranks, "tie_size": np.ones_like(ranks), "score": -ranks.astype(np.float32)}
    given = {
        "offsets": ranking.ideal_offsets,
        "rank": ranks,
        "gain": ranking.ideal[best_first],
        "item": np.zeros_like(ranks),
    }
    return replace(ranking, **given, **alone)


def score_problems(record: Mapping) -> list[str]:
    """The same of a record's means: recall and hit never fall with k, a tie band holds its mean, nothing is partial."""
    found = []
    scopes = {"": record["scores"]}
    scopes |= {f"pair {name!r}: ": part["scores"] for name, part in record["pairs"].items()}
    scopes |= {f"slice {name!r}: ": part["scores"] for name, part in record["slices"].items()}
    for where, scores in scopes.items():
        if set(scores) != set(record["task"]["measures"]):
            found.append(f"{where}its measures are not those of the task")
        found += [f"{where}{text}" for name, score in scores.items() for text in _score_problems(name, score)]
        for kind in ("recall", "hit"):
            known = sorted((metrics.parse(name).k, score["mean"]) for name, score in scores.items()
                           if metrics.parse(name).kind == kind and score["mean"] is not None)  # fmt: skip
            for (near, low), (far, high) in zip(known, known[1:], strict=False):
                if high < low - _ROUNDING:
                    found.append(f"{where}{kind}@{far} ({high}) is below {kind}@{near} ({low})")
    for name, part in record["slices"].items():
        if part["n_queries"] > record["n_queries"]:
            found.append(f"slice {name!r} counts {part['n_queries']} queries, the whole run {record['n_queries']}")
    return found


def _score_problems(name: str, score: Mapping) -> Iterator[str]:
    mean, low, high = score["mean"], score["tie_low"], score["tie_high"]
    if mean is None:
        if not score["reason"]:
            yield f"{name} is missing without a reason"
    elif low is not None and not low - _ROUNDING <= mean <= high + _ROUNDING:
        yield f"the tie band of {name}, {low} to {high}, does not hold its mean {mean}"


def cost_problems(record: Mapping) -> list[str]:
    """Costs that do not agree: parts longer than the whole, compute that the encoder's passes cannot have taken."""
    cost, encoder, found = record["cost"], record["encoder"], []
    parts = {name: cost[name] or 0.0 for name in ("train_seconds", "embed_seconds", "search_seconds")}
    total = cost["total_seconds"]
    if total is not None and sum(parts.values()) > total * (1 + _TOLERANCE):
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
        found.append(f"cost: {told} are {sum(parts.values()):.1f} together, total_seconds is {total:.1f}")
    if None not in (cost["search_p50_ms"], cost["search_p95_ms"]) and cost["search_p50_ms"] > cost["search_p95_ms"]:
        found.append(f"cost: search_p50_ms {cost['search_p50_ms']:g} is above search_p95_ms {cost['search_p95_ms']:g}")
    spent, passes = cost["forward_equivalents"], (cost["image_passes"], cost["text_passes"])
    if not encoder or not encoder["image_flops"] or encoder["text_flops"] is None or None in (spent, *passes):
        return found
    least = (passes[0] * encoder["image_flops"] + passes[1] * encoder["text_flops"]) / encoder["image_flops"]
    if not _CHEAPEST * least * (1 - _ROUNDING) <= spent <= _DEAREST * least * (1 + _ROUNDING):
        found.append(
            f"cost: forward_equivalents {spent:,.0f}, but {passes[0]:,} image and {passes[1]:,} text passes of this "
            f"encoder are {_CHEAPEST * least:,.0f} to {_DEAREST * least:,.0f}"
        )
    flops = spent * encoder["image_flops"]
    if cost["flops"] is not None and abs(cost["flops"] - flops) > flops * _ROUNDING:
        found.append(f"cost: flops {cost['flops']:.6g}, but forward_equivalents are {flops:.6g}")
    return found


def chance_problems(record: Mapping, run: Run) -> list[str]:
    """Whether the headline owes to the method: not to the order of tied ids, and not below chance.

    Chance is the expected value of a scorer that ties all items. The method `random` must lie within an interval's
    width (about four standard errors) of it.
    """
    headline = record["task"]["headline"]
    score = record["scores"].get(headline)
    if not score or score["mean"] is None or metrics.parse(headline).kind not in _BANDED or not run.rankings:
        return []
    mean, width = score["mean"], score["high"] - score["low"]
    expected = _expected(run.rankings.values(), headline)
    chance = _expected((_constant(ranking) for ranking in run.rankings.values()), headline)
    found = []
    if mean > expected + max(_TIE_LUCK, width):
        found.append(
            f"{headline} is {mean:.4f}, but {expected:.4f} on average over orders of equal scores: the ids' order, not "
            "the method, gives the difference. Scores need more digits (float32)"
        )
    if record["method"]["name"] == CHANCE and abs(mean - chance) > width:
        found.append(f"{headline} of {CHANCE} is {mean:.4f}, but chance is {chance:.4f}")
    elif score["high"] < chance - width:
        found.append(
            f"{headline} is {mean:.4f}, below chance, which is {chance:.4f}. Are these distances? Higher must be better"
        )
    return found


def _expected(rankings, name: str) -> float:
    """The macro-mean of a measure's expected value over orders of tied items."""
    means = []
    for ranking in rankings:
        values = metrics.tie_band(ranking, name)[1]
        known = values[~np.isnan(values)]
        means.append(math.fsum(known) / max(1, len(known)))
    return math.fsum(means) / len(means)


def _constant(ranking: Ranking) -> Ranking:
    """What a scorer that knows nothing gives: all items of a query in one tie group."""
    perfect, n = _perfect(ranking), len(ranking.item_ids)
    size = np.full(len(perfect.rank), n, dtype=np.int32)
    return replace(perfect, tie_first=np.ones_like(perfect.rank), tie_size=size, score=np.zeros(len(size), np.float32))
