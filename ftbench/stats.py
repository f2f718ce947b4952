"""Uncertainty and comparison: bootstrap, paired randomization, Holm, rank groups. Numpy only; must not know records."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 100_000
RESAMPLES = 2_000
_CHUNK = 1_000  # permutations held at a time: what a processor keeps near is the fastest,
_MOST = 8_000_000  # with at most so many signs (64 MB)
_NEVER = 1e-6  # draws expected at most where a result is taken for certain


def bootstrap(
    values: np.ndarray, generator: np.random.Generator, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of values (s seeds, q queries) float64, or (q,); both are resampled together.

    Each resample draws s seeds and q queries with replacement and takes the mean over all their pairs (the two-way
    bootstrap of Owen 2007 for crossed factors): seeds share their queries, so queries are not redrawn per seed.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    seeds, queries = values.shape
    if not queries:
        return float("nan"), float("nan")
    means = np.empty(resamples)
    for start in range(0, resamples, 500):
        count = min(500, resamples - start)
        by_query = generator.multinomial(queries, np.full(queries, 1 / queries), size=count)  # (c, q)
        by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)  # (c, s)
        means[start : start + count] = np.einsum("cs,cs->c", by_query @ values.T, by_seed) / (seeds * queries)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def randomization_tests(
    differences: np.ndarray, generator: np.random.Generator, permutations: int = PERMUTATIONS
) -> np.ndarray:
    """Two-sided p-values (r,) of the mean paired differences (r, q) under random signs (Fisher's randomization test).

    p = (1 + number of sign draws at least as extreme) / (1 + permutations), so never 0. The rows share their draws:
    each p is that of its own test. A row so far from 0 that by Hoeffding's bound (1963, theorem 2) fewer than 1e-6
    extreme draws are to be expected, permutations · 2 exp(-t² / 2 Σ d²) with t = |Σ d|, has the least p that there is,
    and is not drawn for.
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[:, (differences != 0).any(axis=0)]  # a sign changes nothing there
    p_values = np.ones(len(differences))
    if not differences.size:
        return p_values
    largest = np.abs(differences).max(axis=1, keepdims=True)
    scaled = differences / np.where(largest > 0, largest, 1)
    total = scaled.sum(axis=1)
    observed = np.abs(total) - 1e-9 * scaled.shape[1]  # equal sums must count as equal
    squares = np.einsum("rq,rq->r", scaled, scaled)
    exponents = -(np.maximum(observed, 0) ** 2) / (2 * np.where(squares > 0, squares, 1))
    certain = permutations * 2 * np.exp(exponents) < _NEVER
    p_values[certain] = 1 / (1 + permutations)
    tested = np.flatnonzero(~certain & (squares > 0))
    if len(tested):
        extreme = _extreme(scaled[tested], total[tested], observed[tested], generator, permutations)
        p_values[tested] = (1 + extreme) / (1 + permutations)
    return p_values


def _extreme(scaled, total, observed, generator: np.random.Generator, permutations: int) -> np.ndarray:
    """(r,) int64: how many draws of signs for scaled (r, q) give sums at least `observed` (r,) from 0."""
    queries = scaled.shape[1]
    chunk, width = max(1, min(_CHUNK, _MOST // queries)), -(-queries // 8)
    extreme, signs = np.zeros(len(scaled), dtype=np.int64), np.empty((chunk, queries))
    for start in range(0, permutations, chunk):
        count = min(chunk, permutations - start)
        bits = np.frombuffer(generator.bytes(count * width), dtype=np.uint8).reshape(count, width)
        signs[:count] = np.unpackbits(bits, axis=1, count=queries)
        positive = signs[:count] @ scaled.T  # (c, q) @ (q, r) -> (c, r)
        extreme += (np.abs(2 * positive - total) >= observed).sum(axis=0)
    return extreme


def randomization_test(
    differences: np.ndarray, generator: np.random.Generator, permutations: int = PERMUTATIONS
) -> float:
    """The p-value of one row of differences (q,); see `randomization_tests`."""
    return float(randomization_tests(np.atleast_2d(differences), generator, permutations)[0])


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), in the given order."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = running
    return adjusted


def against_leaders(tables: Sequence[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    """Holm-adjusted p-values of the rows of each table against its row with the highest mean; 1 for that leader.

    tables: (r, q) float64 each, methods by query, averaged over seeds; r may differ, q may not. Each table is a family
    of its own. A row whose p exceeds the level is not separable from the best. All are tested with the same draws.
    """
    leaders = [int(means.mean(axis=1).argmax()) for means in tables]
    others = [np.delete(means[leader] - means, leader, axis=0) for means, leader in zip(tables, leaders, strict=True)]
    raw = randomization_tests(np.concatenate(others), generator)
    parts = np.split(raw, np.cumsum([len(rows) for rows in others])[:-1])
    return [np.insert(holm(part), leader, 1.0) for part, leader in zip(parts, leaders, strict=True)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on the same queries: mean difference a - b, its interval, p-value, and queries won, tied and lost."""

    difference: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int


def compare(a: np.ndarray, b: np.ndarray, generator: np.random.Generator) -> Comparison:
    """Compare values (s, q) or (q,) of two methods on the same queries; the test is on means over seeds."""
    a, b = (np.atleast_2d(np.asarray(x, dtype=np.float64)).mean(axis=0) for x in (a, b))
    differences = a - b
    low, high = bootstrap(differences, generator)
    return Comparison(
        float(differences.mean()),
        low,
        high,
        randomization_test(differences, generator),
        int((differences > 0).sum()),
        int((differences == 0).sum()),
        int((differences < 0).sum()),
    )
