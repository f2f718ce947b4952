"""Measures of a ranking, vectorised over queries, with their range under ties. Numpy only.

Must not know where scores come from.

A measure is a value whose printed name parses back: recall@10, hit@10, ndcg@10, rr@10, ap@100, p@10. All follow
trec_eval: gains are linear in nDCG, and recall and ap divide by the number of relevant items.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import comb, log2

import numpy as np

from ftbench.errors import FtbenchError, unknown
from ftbench.search import Ranking

KINDS = ("recall", "hit", "ndcg", "rr", "ap", "p")
_DEEP, _DEEP_FROM = 500, 20_000  # recall@500 says nothing on small galleries


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of measure and its cut-off k."""

    kind: str
    k: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.k}"


@cache
def parse(name: str) -> Measure:
    """The measure of a name. Raises FtbenchError that lists what is known."""
    found = re.fullmatch(r"([a-z]+)@([1-9]\d*)", name)
    if not found or found[1] not in KINDS:
        raise unknown("measure", name, [f"{kind}@10" for kind in KINDS], "Any whole number may follow the @.")
    return Measure(found[1], int(found[2]))


def unavailable(name: str, n_items: int) -> str | None:
    """Why a measure has no value on a gallery of this size, or None where it has."""
    measure = parse(name)
    if measure.k >= _DEEP and n_items < _DEEP_FROM:
        return f"{name} is reported from {_DEEP_FROM:,} items up; the gallery has {n_items:,}"
    if measure.k >= n_items:
        return f"k reaches the gallery's size of {n_items:,}"
    return None


def evaluate(ranking: Ranking, names: Sequence[str], ideals: "Ideals | None" = None) -> dict[str, np.ndarray]:
    """{name: (q,) float64} per query; NaN for a query without a relevant item.

    ideals: the ranking's own, where they are known already: runs of one data set share them. Raises FtbenchError for
    ndcg@k with k beyond the ranking's depth: gains below are not kept.
    """
    flat = _Flat(ranking, ideals)
    return {name: flat.value(parse(name)) for name in names}


@cache
def discounts(k: int) -> np.ndarray:
    """1 / log2(rank + 1) for ranks 1 to k, (k,) float64; from the C library: numpy's differs by processor."""
    return np.array([1 / log2(rank + 1) for rank in range(1, k + 1)])


class Ideals:
    """What a perfect ranking of each query would hold. relevant (q,) float64: relevant items; NaN where none is."""

    def __init__(self, offsets: np.ndarray, gain: np.ndarray, relevant_from: float):
        """offsets (q+1,) int64, gain (g,) float64: each query's positive gains, descending."""
        self._queries, self._gain = len(offsets) - 1, gain
        self._owner = np.repeat(np.arange(self._queries), np.diff(offsets))
        self._place = np.arange(len(gain)) - offsets[self._owner]
        relevant = np.bincount(self._owner[gain >= relevant_from], minlength=self._queries).astype(np.float64)
        self.relevant = np.where(relevant == 0, np.nan, relevant)
        self._dcg: dict[int, np.ndarray] = {}

    def dcg(self, k: int) -> np.ndarray:
        """(q,) float64: the highest discounted gain to rank k."""
        if k not in self._dcg:
            first = self._place < k
            gain = self._gain[first] * discounts(k)[self._place[first]]
            self._dcg[k] = np.bincount(self._owner[first], gain, minlength=self._queries)
        return self._dcg[k]


class _Flat:
    """A ranking's columns with what several measures share."""

    def __init__(self, ranking: Ranking, ideals: Ideals | None = None):
        self.ranking = ranking
        self.queries = len(ranking.query_ids)
        self.ideals = ideals or Ideals(ranking.ideal_offsets, ranking.ideal, ranking.relevant_from)
        self.relevant = self.ideals.relevant

    @cached_property
    def relevant_found(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries and ranks, int64 each, of the relevant items, in order of query and rank."""
        found = np.flatnonzero(self.ranking.gain >= self.ranking.relevant_from)
        return self.ranking.owner[found], self.ranking.rank[found].astype(np.int64)

    def _sum(self, owner: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(owner, weights, minlength=self.queries)

    def value(self, measure: Measure) -> np.ndarray:
        kind, k = measure.kind, measure.k
        if kind == "ndcg":
            return self._ndcg(k)
        owner, ranks = self.relevant_found
        inside = ranks <= k
        owner, ranks = owner[inside], ranks[inside]
        if kind in ("recall", "hit", "p"):
            hits = self._sum(owner)
            given = hits / self.relevant if kind == "recall" else (hits > 0) if kind == "hit" else hits / k
            return np.where(np.isnan(self.relevant), np.nan, given)
        if len(owner):
            starts = np.flatnonzero(np.diff(owner, prepend=-1))  # entries stand in rank order, query by query
        else:
            starts = np.zeros(0, dtype=np.int64)
        if kind == "rr":
            out = np.zeros(self.queries)
            out[owner[starts]] = 1 / ranks[starts]
        else:  # ap: precision at each relevant rank, over the number relevant
            number = np.arange(len(owner)) - np.repeat(starts, np.diff(starts, append=len(owner))) + 1
            out = self._sum(owner, number / ranks) / self.relevant
        return np.where(np.isnan(self.relevant), np.nan, out)

    def _ndcg(self, k: int) -> np.ndarray:
        ranking = self.ranking
        if k > ranking.depth:
            raise FtbenchError(f"ndcg@{k} needs ranks to {k}, the run keeps {ranking.depth}. Run with --depth {k}.")
        inside = np.flatnonzero((ranking.rank <= k) & (ranking.gain > 0))
        gain = ranking.gain[inside] * discounts(k)[ranking.rank[inside] - 1]
        top = self._sum(ranking.owner[inside], gain)
        ideal = self.ideals.dcg(k)
        return np.where(np.isnan(self.relevant), np.nan, top / np.where(ideal > 0, ideal, 1))


def tie_band(ranking: Ranking, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(worst, expected, best) per query, each (q,) float64, over all orders of tied items; for ndcg, recall, hit, rr.

    Of a tie group with first rank f, size s and r relevant items, c = clip(k - f + 1, 0, s) places lie within k: best
    min(r, c), worst max(0, r - (s - c)), expected r c / s hits. The rest follows the same way; expectations are over
    uniform orders within groups (hypergeometric).
    """
    measure = parse(name)
    if measure.kind not in ("ndcg", "recall", "hit", "rr"):
        raise FtbenchError(f"{name} has no tie band; expected ndcg, recall, hit or rr.")
    flat = _Flat(ranking)
    value = flat.value(measure)
    bands = [value.copy(), value.copy(), value.copy()]
    tied = np.unique(ranking.owner[(ranking.tie_size > 1) & (ranking.gain > 0)])
    ideal = flat.ideals.dcg(measure.k) if measure.kind == "ndcg" else None
    for query in tied[~np.isnan(value[tied])]:
        groups = _groups(ranking, int(query))
        if measure.kind == "ndcg":
            found = [
                sum(column) / ideal[query] for column in zip(*(_ndcg_band(g, measure.k) for g in groups), strict=True)
            ]
        elif measure.kind == "recall":
            found = [sum(column) / flat.relevant[query] for column in zip(*(_hits_band(g, measure.k) for g in groups), strict=True)]  # noqa: E501  # fmt: skip
        else:
            found = _first_band(groups, measure)
        for band, number in zip(bands, found, strict=True):
            band[query] = min(
                number, 1.0
            )  # a perfect order, summed otherwise than the ideal, may exceed 1 by a rounding
    return bands[0], bands[1], bands[2]


@dataclass(frozen=True, slots=True)
class _Group:
    first: int
    size: int
    gains: tuple[float, ...]  # positive ones, descending
    relevant: int


def _groups(ranking: Ranking, query: int) -> list[_Group]:
    """The query's tie groups that hold a gain, in order."""
    span = slice(ranking.offsets[query], ranking.offsets[query + 1])
    gains: dict[tuple[int, int], list[float]] = {}
    for first, size, gain in zip(ranking.tie_first[span], ranking.tie_size[span], ranking.gain[span], strict=True):
        if gain > 0:
            gains.setdefault((int(first), int(size)), []).append(float(gain))
    return [
        _Group(first, size, tuple(sorted(values, reverse=True)), sum(g >= ranking.relevant_from for g in values))
        for (first, size), values in sorted(gains.items())
    ]


def _ndcg_band(group: _Group, k: int) -> tuple[float, float, float]:
    ranks = np.arange(group.first, min(group.first + group.size, k + 1))
    discount = discounts(k)[ranks - 1]
    held = np.zeros(group.size)
    held[: len(group.gains)] = group.gains
    worst, best = held[::-1][: len(ranks)], held[: len(ranks)]
    return float(worst @ discount), float(held.mean() * discount.sum()), float(best @ discount)


def _hits_band(group: _Group, k: int) -> tuple[float, float, float]:
    within = min(max(k - group.first + 1, 0), group.size)
    return (
        max(0, group.relevant - (group.size - within)),
        group.relevant * within / group.size,
        min(group.relevant, within),
    )


def _first_band(groups: list[_Group], measure: Measure) -> tuple[float, float, float]:
    """Band of hit@k or rr@k: it hangs on the first group with a relevant item."""
    group = next(g for g in groups if g.relevant)
    first, size, relevant, k = group.first, group.size, group.relevant, measure.k

    def worth(rank: int) -> float:
        return 0.0 if rank > k else 1.0 if measure.kind == "hit" else 1 / rank

    orders = comb(size, relevant)
    expected = sum(
        comb(size - offset - 1, relevant - 1) / orders * worth(first + offset)
        for offset in range(min(size - relevant, k - first) + 1)
    )
    return worth(first + size - relevant), expected, worth(first)
