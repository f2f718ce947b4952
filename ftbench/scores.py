"""From rankings to the scores of a record: means, intervals, tie bands, macro-means. Must not know records or files.

The unit of resampling and of paired tests is the query (query2item) or the item (cross_view, where query ids are item
ids and an item asks in several pairs).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ftbench import metrics, stats
from ftbench.runfile import Run
from ftbench.search import Ranking

_SEED = 20250101  # of the bootstrap behind every published interval; any constant would do
_KEPT_UNITS = 10_000  # draws of larger shapes are made again: they take 8 KB a unit
_BANDED = ("ndcg", "recall", "hit", "rr")  # measures whose range under ties is defined


class PairScores:
    """Per-query values of one ranking, or of some of its queries. NaN: a query without a relevant item."""

    def __init__(self, ranking: Ranking, measures: Sequence[str], keep: np.ndarray | None = None):
        self.ranking, self.measures = ranking, tuple(measures)
        self.keep = np.arange(len(ranking.query_ids)) if keep is None else keep  # positions (k,)

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        return metrics.evaluate(self.ranking, [name for name in self.measures if not self.unavailable(name)])

    def within(self, query_ids: Collection[str]) -> "PairScores":
        """The same scores over these queries alone."""
        inside = np.array([q for q in self.keep if self.ranking.query_ids[q] in query_ids], dtype=np.int64)
        part = PairScores(self.ranking, self.measures, inside)
        part.__dict__["_values"] = self._values
        part.__dict__["_bands"] = self._bands
        return part

    @property
    def query_ids(self) -> list[str]:
        return [self.ranking.query_ids[q] for q in self.keep]

    def unavailable(self, name: str) -> str | None:
        """Why a measure cannot be given here, or None."""
        return metrics.unavailable(name, len(self.ranking.item_ids))

    def values(self, name: str) -> np.ndarray:
        """(k,) float64."""
        return self._values[name][self.keep]

    @cached_property
    def _bands(self) -> dict:
        return {}

    def band(self, name: str) -> tuple[float, float] | None:
        """Mean value when ties fall worst and when they fall best; None where the measure has no band."""
        if metrics.parse(name).kind not in _BANDED:
            return None
        if name not in self._bands:
            worst, _, best = metrics.tie_band(self.ranking, name)
            self._bands[name] = (worst, best)
        worst, best = self._bands[name]
        known = [q for q in self.keep if not np.isnan(worst[q])]
        worst, best = (math.fsum(band[known]) / len(known) for band in (worst, best))
        return worst, best

    @cached_property
    def n_skipped(self) -> int:
        """Queries without a relevant item; they count in no measure."""
        ranking = self.ranking
        owner = np.repeat(np.arange(len(ranking.query_ids)), np.diff(ranking.ideal_offsets))
        answered = np.zeros(len(ranking.query_ids), dtype=bool)
        answered[owner[ranking.ideal >= ranking.relevant_from]] = True
        return int((~answered[self.keep]).sum())

    @property
    def n_queries(self) -> int:
        """Queries that count."""
        return len(self.keep) - self.n_skipped


@dataclass(frozen=True)
class Units:
    """The units of some pairs, numbered as they are met first. ids (u); scored: per pair (q,) bool, the queries that
    count; rows: per pair (k,) int64, the unit of each of them. Runs of one data set share it."""

    ids: list[str]
    scored: tuple[np.ndarray, ...]
    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Sequence[str], np.ndarray]]) -> "Units":
        """pairs: the query ids of each and which of them count."""
        number: dict[str, int] = {}
        rows = [
            np.array([number.setdefault(ids[q], len(number)) for q in np.flatnonzero(scored)], dtype=np.int64)
            for ids, scored in pairs
        ]
        return cls(list(number), tuple(scored for _, scored in pairs), tuple(rows))

    def values(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """(u,) float64 whose mean is the macro-mean of the parts, (q,) float64 for each pair.

        With one pair: its queries' own values. With p pairs, where item i has value x_ij in pair j and pair j has n_j
        values: the value of i is u/p · Σ_j x_ij / n_j, so that the mean over i is 1/p · Σ_j mean_i(x_ij).
        """
        total = np.zeros(len(self.ids))
        for values, scored, rows in zip(parts, self.scored, self.rows, strict=True):
            weight = 1 if len(parts) == 1 else len(total) / (len(parts) * len(rows))
            total[rows] += values[scored] * weight
        return total


def units(parts: Sequence[PairScores], name: str) -> tuple[list[str], np.ndarray]:
    """Units (u) and their values (u,) float64, whose mean is the macro-mean of a measure over pairs; see `Units`."""
    values = [part.values(name) for part in parts]
    found = Units.of([(part.query_ids, ~np.isnan(own)) for part, own in zip(parts, values, strict=True)])
    return found.ids, found.values(values)


def intervals(values: np.ndarray) -> np.ndarray:
    """95% bootstrap intervals (m, 2) of the means of m times (s, u) values; seeds and units resampled, within [0, 1].

    Each is that of `stats.bootstrap` with one fixed seed, but all are made from the same draws: drawing is what takes
    the time. Values are taken in fixed point, so that machines and threads which add in another order get the same sum;
    ends are rounded to 9 decimals, far below their Monte Carlo error.
    """
    count, seeds, u = values.shape
    columns, means = fixed_point(values).reshape(count * seeds, u).T, []
    for by_unit, by_seed in _kept(u, seeds) if u <= _KEPT_UNITS else _draws(u, seeds):
        drawn = (by_unit.astype(np.float64) @ columns).reshape(len(by_unit), count, seeds)  # (c, u) @ (u, m s)
        means.append(np.einsum("cms,cs->mc", drawn, by_seed) / (seeds * u))
    ends = np.percentile(np.concatenate(means, axis=1), [2.5, 97.5], axis=1, overwrite_input=True).T
    return np.round(np.clip(ends, 0, 1), 9)


def fixed_point(values: np.ndarray) -> np.ndarray:
    """Values (m, s, u) float64 rounded to multiples of a power of two, one for each m, within max · s · u · 2^-51.

    Of such numbers any sum of s · u, some of them repeated, is exact in float64, so it has the same bits in any order.
    """
    count, seeds, u = values.shape
    bound = np.abs(values).max(axis=(1, 2), initial=0, keepdims=True) * seeds * u  # no sum is larger
    grid = np.exp2(np.ceil(np.log2(np.where(bound > 0, bound, 1))) - 52)
    return np.round(values / grid) * grid


def _draws(u: int, seeds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How often each resample of a chunk draws each unit (c, u) uint32 and each seed (c, s) int64."""
    generator = np.random.default_rng(_SEED)
    for start in range(0, stats.RESAMPLES, 500):
        size = min(500, stats.RESAMPLES - start)
        by_unit = generator.multinomial(u, np.full(u, 1 / u), size=size).astype(np.uint32)
        yield by_unit, generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)


@lru_cache(maxsize=4)
def _kept(u: int, seeds: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The draws of one shape: a record has several intervals of the same shape, a board hundreds."""
    return tuple(_draws(u, seeds))


def summary(mean: float | None, low=None, high=None, tie_low=None, tie_high=None, reason: str | None = None) -> dict:
    """One score as a record holds it."""
    return {"mean": mean, "low": low, "high": high, "tie_low": tie_low, "tie_high": tie_high, "reason": reason}


def macro(parts: Sequence[PairScores], names: Sequence[str]) -> dict[str, dict]:
    """{measure: score} over pairs: the mean over pairs of the mean over queries; null with a reason where none is."""
    reasons = {name: next(filter(None, (part.unavailable(name) for part in parts)), None) for name in names}
    if not parts or any(part.n_queries == 0 for part in parts):
        reasons = {name: reason or "no query has a relevant item" for name, reason in reasons.items()}
    given = [name for name in names if reasons[name] is None]
    if not given:
        return {name: summary(None, reason=reasons[name]) for name in names}
    ends = intervals(np.stack([units(parts, name)[1] for name in given])[:, None, :])  # (m, 1, u) -> (m, 2)
    found = dict(zip(given, ends.tolist(), strict=True))
    return {
        name: summary(_mean(parts, name), *found[name], *_band(parts, name))
        if name in found
        else summary(None, reason=reasons[name])
        for name in names
    }


def _mean(parts: Sequence[PairScores], name: str) -> float:
    """Exactly rounded sums: the order of addition does not matter."""
    means = []
    for part in parts:
        values = part.values(name)
        known = values[~np.isnan(values)]
        means.append(math.fsum(known) / len(known))
    return math.fsum(means) / len(means)


def _band(parts: Sequence[PairScores], name: str) -> tuple[float | None, float | None]:
    bands = [part.band(name) for part in parts]
    if None in bands:
        return None, None
    return math.fsum(worst for worst, _ in bands) / len(bands), math.fsum(best for _, best in bands) / len(bands)


def measure(run: Run, measures: Sequence[str], pairs: Sequence[str] = ()) -> dict:
    """The score fields of a record, from its rankings: {scores, pairs, slices, n_queries, n_skipped}.

    measures: names such as "ndcg@10". pairs: the task's pair names, () for query2item. With pairs, `scores` is the
    macro-mean over them, null with a reason where a pair is missing: there are no partial averages. n_queries counts
    the queries that were scored, over all pairs; n_skipped those without a relevant item.
    """
    wanted = tuple(pairs) or ("",)
    scored = {pair: PairScores(run.rankings[pair], measures) for pair in wanted if pair in run.rankings}
    missing = [pair for pair in wanted if pair not in scored]

    def total(parts: Sequence[PairScores]) -> dict:
        if missing:
            reason = f"no score on {', '.join(missing)}" if pairs else "nothing was ranked"
            return {name: summary(None, reason=reason) for name in measures}
        return macro(parts, measures)

    def counts(parts: Sequence[PairScores]) -> dict:
        return {"n_queries": sum(p.n_queries for p in parts), "n_skipped": sum(p.n_skipped for p in parts)}

    whole = list(scored.values())
    slices = {}
    for name, members in run.slices.items():
        parts = [part.within(frozenset(members)) for part in whole]
        slices[name] = {"n_queries": counts(parts)["n_queries"], "scores": total(parts)}
    by_pair: Mapping = {
        pair: counts([scored[pair]]) | {"scores": macro([scored[pair]], measures)} for pair in pairs if pair in scored
    }
    return {"scores": total(whole), "pairs": by_pair, "slices": slices} | counts(whole)
