"""Weak labels: what a labeller ranks highest for queries that nobody has judged, kept on disk. Must not know rankers.

A labeller scores every item of a collection for each query. Scores are shifted per query so that the collection's
lowest is 0: an item is labelled where it scores above that, and what stands for the score of the collection, which
query performance predictors compare with, is the mean of the shifted scores over the collection. Both hold for any
labeller: for bm25, where items without a word of the query are the lowest, and for cosines, which may be negative.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ftbench.errors import RunError
from ftbench.files import write_atomic

_AT_ONCE = 64_000_000  # scores held at a time (256 MB)


@dataclass(frozen=True, eq=False)
class WeakLabels:
    """The top k items of each query.

    labeller: its name. identity: the SHA-256 of all that the labels depend on. items: (q, k) int64 positions in the
    collection, -1 past the end of a list. scores: (q, k) float32, above the collection's lowest for the query, falling,
    0 past the end. corpus: (q,) float32, the mean of such scores over the collection. size: items in the collection.
    Raises RunError for other shapes.
    """

    labeller: str
    identity: str
    items: np.ndarray
    scores: np.ndarray
    corpus: np.ndarray
    size: int

    def __post_init__(self):
        shapes = self.items.shape, self.scores.shape, self.corpus.shape
        if len(shapes[0]) != 2 or shapes[0] != shapes[1] or shapes[2] != shapes[0][:1]:
            raise RunError(
                f"weak labels: items {shapes[0]}, scores {shapes[1]} and corpus {shapes[2]} given, expected (q, k), "
                "(q, k) and (q,)."
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labelled(self) -> np.ndarray:
        """(q,) bool: whether a query has any label; one whose scores are all alike has none."""
        return self.items[:, 0] >= 0

    def of(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(r, b) float32: the scores of items (b,) for queries (r,), positions both; 0 beyond a query's list."""
        column = np.full(self.size + 1, len(items))  # the last entry is that of items -1
        column[items] = np.arange(len(items))
        table = np.zeros((len(queries), len(items) + 1), dtype=np.float32)
        np.put_along_axis(table, column[self.items[queries]], self.scores[queries], axis=1)
        return table[:, :-1]

    def above_the_rest(self) -> "WeakLabels":
        """The same lists with scores above those of the items that are not on them, which then count 0, in the
        collection's mean, too: above the last one's of a full list, since what would follow scores about as high; of a
        shorter list above the collection's lowest, as before. A list of equal scores keeps them."""
        last = np.where(self.scores[:, -1] < self.scores[:, 0], self.scores[:, -1], 0)[:, None]
        scores = np.where(self.items >= 0, self.scores - last, 0).astype(np.float32)
        return replace(self, scores=scores, corpus=scores.sum(axis=1) / np.float32(max(self.size, 1)))

    def normalised(self) -> "WeakLabels":
        """The same lists with scores from 0, the collection's lowest, to 1, each query's highest."""
        highest = np.where(self.labelled, self.scores[:, 0], 1).astype(np.float32)
        return replace(self, scores=self.scores / highest[:, None], corpus=self.corpus / highest)

    def write(self, path: Path) -> None:
        """Keep them in a file (numpy's npz), whole or not at all."""
        about = json.dumps({"labeller": self.labeller, "identity": self.identity, "size": self.size})
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=about, items=self.items, scores=self.scores, corpus=self.corpus)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())


def read_labels(path: Path, identity: str) -> WeakLabels | None:
    """The labels kept in a file; None where there is no file, where it is damaged, or where its identity is another."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            about = json.loads(str(kept["about"]))
            found = WeakLabels(**about, items=kept["items"], scores=kept["scores"], corpus=kept["corpus"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, RunError):
        return None
    return found if found.identity == identity else None


def label(
    labeller: str,
    identity: str,
    scores_of: Callable[[slice], np.ndarray],
    queries: Sequence[str],
    size: int,
    k: int,
) -> WeakLabels:
    """The top k items of each query by a labeller's scores; of equal scores the item that comes first.

    scores_of(rows): (r, size) float, the scores of some queries for all items; not asked where there are none, and no
    query has a label. Raises RunError, naming the labeller and the query, for a score that is NaN or infinite, and for
    other shapes.
    """
    if k < 1:
        raise RunError(f"weak labels: the top {k} items asked for, expected 1 or more.")
    if not size:
        none = np.zeros((len(queries), 1), dtype=np.float32)
        return WeakLabels(labeller, identity, none.astype(np.int64) - 1, none, none[:, 0], 0)
    parts = [_top(np.zeros((0, size), dtype=np.float32), min(k, size))]
    step = max(1, _AT_ONCE // size)
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        found = np.asarray(scores_of(rows), dtype=np.float32)
        if found.shape != (rows.stop - start, size):
            raise RunError(
                f"the labeller {labeller} gave scores of shape {found.shape}, expected {(rows.stop - start, size)}."
            )
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise RunError(
                f"the labeller {labeller} gave the query {queries[start + bad[0]]!r} a score that is NaN or infinite "
                f"({len(bad)} of {len(found)} queries looked at). Weak labels need finite scores."
            )
        parts.append(_top(found, min(k, size)))
    items, scores, corpus = (np.concatenate(part) for part in zip(*parts, strict=True))
    return WeakLabels(labeller, identity, items, scores, corpus, size)


def merged(given: Sequence[WeakLabels], shares: Sequence[float], queries: Sequence[str], k: int) -> WeakLabels:
    """The top k of several labellers' lists: their scores, each times its labeller's share, added up; what a list does
    not name has 0 of it. A query that a labeller leaves without labels has those of the others alone."""
    names = " + ".join(one.labeller for one in given)
    told = json.dumps([[one.identity, share] for one, share in zip(given, shares, strict=True)] + [k])
    everything = np.arange(given[0].size)

    def scores_of(rows: slice) -> np.ndarray:
        asked = np.arange(rows.start, rows.stop)
        return sum(np.float32(share) * one.of(asked, everything) for one, share in zip(given, shares, strict=True))

    return label(names, hashlib.sha256(told.encode()).hexdigest(), scores_of, queries, given[0].size, k)


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """items (q, k), scores (q, k) and corpus (q,) from scores (q, n), as WeakLabels has them."""
    shifted = scores - scores.min(axis=1, keepdims=True)
    order = np.argsort(-shifted, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(shifted, order, axis=1)
    return np.where(best > 0, order, -1), best, shifted.mean(axis=1)
