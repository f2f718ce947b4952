"""What methods embed views into: one vector per row or several, and their exact scores. Must not know methods."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ftbench.errors import RunError

# Of an item without any view: finite, so that it can be ranked, and below every other score.
LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True, eq=False)
class MultiVector:
    """Several vectors per item, one for each of its views.

    vectors: (n, v, d) float32. weights: (n, v) float32, >= 0, 0 where an item has no such view. epsilon: >= 0, in units
    of the inner product. The score of a probe vector q is, over the views that exist, at epsilon 0
    max_v <q, v>: MaxSim of a single-vector probe (Khattab and Zaharia 2020, ColBERT, section 3.3); else
    epsilon log sum_v w_v exp(<q, v> / epsilon): the value of entropic transport from q to the views, whose marginal is
    held to the weights by epsilon KL alone (semi-relaxed). For epsilon -> infinity and weights that sum to 1 it is the
    weighted mean. Raises RunError for other shapes, and for weights or an epsilon that are negative or not finite.
    """

    vectors: np.ndarray
    weights: np.ndarray
    epsilon: float = 0.0

    def __post_init__(self):
        shapes = self.vectors.shape, self.weights.shape
        if self.vectors.ndim != 3 or shapes[0][:2] != shapes[1]:
            raise RunError(
                f"MultiVector: vectors {shapes[0]} and weights {shapes[1]} given, expected (n, v, d), (n, v)."
            )
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all():
            raise RunError("MultiVector: a weight is negative, NaN or infinite; 0 says that there is no such view.")
        if not 0 <= self.epsilon < np.inf:
            raise RunError(f"MultiVector: epsilon {self.epsilon} given, expected a finite number, 0 (MaxSim) or more.")

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: np.ndarray) -> "MultiVector":
        """Some items, in the given order."""
        return replace(self, vectors=self.vectors[rows], weights=self.weights[rows])


Vectors = np.ndarray | MultiVector


def vectors_of(gallery: Vectors) -> float:
    """The mean number of vectors of an item: 1 in an array."""
    return float((gallery.weights > 0).sum(axis=1).mean()) if isinstance(gallery, MultiVector) else 1.0


def as_float32(vectors: Vectors) -> Vectors:
    """The same vectors as contiguous float32; those of views that do not exist as zeros."""
    if not isinstance(vectors, MultiVector):
        return np.ascontiguousarray(vectors, dtype=np.float32)
    there = vectors.weights[..., None] > 0
    return replace(vectors, vectors=np.where(there, vectors.vectors, 0).astype(np.float32))


def probe_vectors(probes: Vectors) -> np.ndarray:
    """Probes as (q, d) float32: an array as it is, a MultiVector's one view of each probe, zeros where it has none.

    Raises RunError where a probe has several vectors: it searches with one view.
    """
    if not isinstance(probes, MultiVector):
        return as_float32(probes)
    views = (probes.weights > 0).sum(axis=1)
    if (views > 1).any():
        raise RunError(f"a probe has {views.max()} vectors, expected one: a single view searches.")
    return np.ascontiguousarray(as_float32(probes).vectors.sum(axis=1))  # (q, v, d) -> (q, d)


def combine(products: np.ndarray, weights: np.ndarray, epsilon: float) -> np.ndarray:
    """Scores of items from the inner products with their views, of MultiVector: (..., v), (..., v) -> (...).

    LOWEST where an item has no view at all. Products of views that do not exist may be anything.
    """
    there = weights > 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # whoever ranks refuses what is not finite
        best = np.where(there, products, -np.inf).max(axis=-1, initial=-np.inf)
        found = best
        if epsilon:
            above = np.where(there, (products - best[..., None]) / np.float32(epsilon), -np.inf)
            found = best + np.float32(epsilon) * np.log((weights * np.exp(above)).sum(axis=-1))
    return np.where(there.any(axis=-1), found, LOWEST).astype(np.float32)


def scorer(gallery: Vectors) -> Callable[[np.ndarray], np.ndarray]:
    """A function from probes (q, d) to their scores (q, n) of a gallery, all float32.

    A product rounds by its place in the matrix; here equal vectors get equal products, so that equal items tie exactly,
    and so do items whose best view is the same.
    """
    if isinstance(gallery, MultiVector):
        return _multi_scorer(gallery)
    same = _first_equal(gallery)
    twins = np.flatnonzero(same != np.arange(len(gallery)))

    def scores(probes: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            found = probes @ gallery.T  # (q, d) @ (d, n) -> (q, n)
        found[:, twins] = found[:, same[twins]]
        return found

    return scores


def _multi_scorer(gallery: MultiVector) -> Callable[[np.ndarray], np.ndarray]:
    there = gallery.weights > 0
    flat = gallery.vectors[there]  # (n, v, d) -> (r, d)
    same = _first_equal(flat)
    distinct, place = np.unique(same, return_inverse=True)
    vectors = flat[distinct]  # (u, d)
    column = np.full(there.shape, len(vectors))
    column[there] = place
    # an item's views in an order of their own, so that two items of the same views add up alike
    order = np.lexsort((gallery.weights, column), axis=-1)
    column = np.minimum(np.take_along_axis(column, order, 1), max(len(vectors) - 1, 0))
    weights = np.take_along_axis(gallery.weights, order, 1)

    def scores(probes: np.ndarray) -> np.ndarray:
        if not len(vectors):
            return np.full((len(probes), len(gallery)), LOWEST)
        with np.errstate(over="ignore", invalid="ignore"):
            products = probes @ vectors.T  # (q, d) @ (d, u) -> (q, u)
        return combine(products[:, column], weights, gallery.epsilon)  # (q, n, v) -> (q, n)

    return scores


def _first_equal(rows: np.ndarray) -> np.ndarray:
    """(n,) int64: the first row that is equal to each row of (n, d)."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)], dtype=np.int64)
