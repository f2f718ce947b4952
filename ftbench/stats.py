"""Uncertainty and comparison: bootstrap, paired randomization, Holm, rank groups. Numpy only; must not know records."""

from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 100_000
RESAMPLES = 2_000
_CHUNK = 4_000  # permutations held at a time


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


def randomization_test(
    differences: np.ndarray, generator: np.random.Generator, permutations: int = PERMUTATIONS
) -> float:
    """Two-sided p-value of a mean paired difference (q,) under random signs (Fisher's randomization test).

    p = (1 + number of sign draws at least as extreme) / (1 + permutations), so never 0.
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[differences != 0]  # a sign changes nothing there
    if not len(differences):
        return 1.0
    scaled = differences / np.abs(differences).max()
    observed = abs(scaled.sum()) - 1e-9 * len(scaled)  # equal sums must count as equal
    extreme, width = 0, -(-len(scaled) // 8)
    for start in range(0, permutations, _CHUNK):
        count = min(_CHUNK, permutations - start)
        bits = np.frombuffer(generator.bytes(count * width), dtype=np.uint8).reshape(count, width)
        positive = np.unpackbits(bits, axis=1, count=len(scaled)).astype(np.float64) @ scaled  # (c, q) @ (q,) -> (c,)
        extreme += int((np.abs(2 * positive - scaled.sum()) >= observed).sum())
    return (1 + extreme) / (1 + permutations)


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


def against_leader(means: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Holm-adjusted p-value of each row against the row with the highest mean; 1 for the leader.

    means (r, q) float64: methods by query, averaged over seeds. A row whose p exceeds the level is not separable from
    the best.
    """
    leader = int(means.mean(axis=1).argmax())
    others = [i for i in range(len(means)) if i != leader]
    raw = np.array([randomization_test(means[leader] - means[i], generator) for i in others])
    out = np.ones(len(means))
    out[others] = holm(raw)
    return out


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
