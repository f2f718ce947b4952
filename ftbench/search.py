"""Exact ranking in canonical order, and timing of search served by FAISS. Must not know methods, measures or records.

Canonical order: float32 score descending, then item id descending, compared as text (trec_eval's rule).
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ftbench.errors import RunError
from ftbench.vectors import LOWEST, MultiVector, Vectors, as_float32, combine, probe_vectors, scorer

_CHUNK = 16_000_000  # scores held at a time (64 MB)
# Where all views of an item count, the best item need not own the best vectors: so many times the vectors are looked at
_SOFT_HITS = 4


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a run ranked, columnar; exactly what a run file holds.

    query_ids (q), item_ids (n): the whole gallery. offsets (q+1,) int64: entries of query i are [offsets[i],
    offsets[i+1]), in order of rank: the top `depth`, every item with gain >= relevant_from, and every item with a gain
    whose tie group begins within `depth`. item (e,) int32 positions in item_ids; rank (e,) int32 from 1; score (e,)
    float32; gain (e,) float64; tie_first, tie_size (e,) int32: first rank and size of the tie group.
    ideal_offsets (q+1,) int64, ideal (g,) float64: each query's positive gains, descending.
    """

    query_ids: list[str]
    item_ids: list[str]
    offsets: np.ndarray
    item: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    gain: np.ndarray
    tie_first: np.ndarray
    tie_size: np.ndarray
    ideal_offsets: np.ndarray
    ideal: np.ndarray
    relevant_from: float
    depth: int = 10

    @cached_property
    def owner(self) -> np.ndarray:
        """(e,) int64: the query of each entry."""
        return np.repeat(np.arange(len(self.query_ids)), np.diff(self.offsets))


def rank(
    probes: Vectors,
    gallery: Vectors,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    gains: Mapping[str, Mapping[str, float]],
    relevant_from: float,
    depth: int = 10,
) -> Ranking:
    """Rank a gallery for probes (q, d) in float32, chunk by chunk: by inner product where it is an array (n, d), by the
    score of a MultiVector where it is one (probes may be one, too, of a single vector each).

    gains: {query id: {item id: gain}}, gains finite and >= 0, an item left out has gain 0; each query has an entry, be
    it empty. relevant_from > 0: the gain from which an item is relevant. Raises RunError for NaN or infinite vectors or
    scores, duplicate ids, judgements of unknown items, a query in only one of query_ids and gains, and a depth beyond
    the gallery.
    """
    probes, gallery = probe_vectors(probes), as_float32(gallery)
    tables = probes, _table(gallery)
    _check_shapes(*tables, empty=True)
    for vectors, ids, kind in zip(tables, (query_ids, item_ids), ("query", "item"), strict=True):
        _finite(vectors, ids, kind)
    order = _descending(item_ids)
    scores = scorer(gallery.take(order) if isinstance(gallery, MultiVector) else gallery[order])
    views = gallery.weights.shape[1] if isinstance(gallery, MultiVector) else 1
    return _rank(lambda rows: scores(probes[rows]), order, query_ids, item_ids, gains, relevant_from, depth, views)


def _table(gallery: Vectors) -> np.ndarray:
    """The vectors (n, d) or (n, v, d) of a gallery."""
    return gallery.vectors if isinstance(gallery, MultiVector) else gallery


def _check_shapes(probes: np.ndarray, gallery: np.ndarray, empty: bool) -> None:
    shapes = probes.shape, gallery.shape
    fit = probes.ndim == 2 and gallery.ndim in (2, 3) and shapes[0][-1] == shapes[1][-1]
    if not fit or (not empty and 0 in shapes[0] + shapes[1]):
        none = "" if empty else ", none empty"
        raise RunError(f"vectors of shapes {shapes[0]} and {shapes[1]} given, expected (q, d) and (n, d){none}.")


def rank_scores(
    scores: np.ndarray,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    gains: Mapping[str, Mapping[str, float]],
    relevant_from: float,
    depth: int = 10,
) -> Ranking:
    """Rank a score matrix (q, n), cast to float32. Errors as for `rank`."""
    scores = np.asarray(scores)
    if scores.shape != (len(query_ids), len(item_ids)):
        raise RunError(f"scores of shape {scores.shape} given, expected ({len(query_ids)}, {len(item_ids)}).")
    order = _descending(item_ids)

    def scores_of(rows: slice) -> np.ndarray:
        with np.errstate(over="ignore"):  # what overflows is refused below, by name
            return scores[rows].astype(np.float32)[:, order]

    return _rank(scores_of, order, query_ids, item_ids, gains, relevant_from, depth)


def _descending(item_ids: Sequence[str]) -> np.ndarray:
    """(n,) int64 positions of the ids in descending order, as text: the order in which ties fall."""
    return np.array(sorted(range(len(item_ids)), key=lambda i: item_ids[i], reverse=True), dtype=np.int64)


def _finite(values: np.ndarray, ids: Sequence[str], kind: str) -> None:
    if len(values) != len(ids):
        raise RunError(f"{len(values)} {kind} vectors given for {len(ids)} {kind} ids.")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        raise RunError(f"{kind} {ids[bad[0]]!r} has a score or vector that is NaN or infinite ({len(bad)} in all).")


def _check(query_ids: Sequence[str], item_ids: Sequence[str], gains: Mapping, relevant_from: float, depth: int) -> None:
    for ids, kind in ((query_ids, "query"), (item_ids, "item")):
        if len(set(ids)) < len(ids):
            raise RunError(f"{kind} id {Counter(ids).most_common(1)[0][0]!r} occurs twice; ids must be unique.")
    if not 1 <= depth <= len(item_ids):
        raise RunError(f"depth {depth} given, expected 1 to {len(item_ids)}, the size of the gallery.")
    if not relevant_from > 0:
        raise RunError(f"relevant_from {relevant_from} given, expected more than 0, the gain of an unjudged item.")
    asked = set(query_ids)
    missing = [q for q in query_ids if q not in gains] or [q for q in gains if q not in asked]
    if missing:
        raise RunError(f"query {missing[0]!r} stands in only one of run and judgements ({len(missing)} such).")
    known = set(item_ids)
    for query, judged in gains.items():
        for item, gain in judged.items():
            if item not in known:
                raise RunError(f"a judgement of query {query!r} names item {item!r}, which is not in the gallery.")
            if not (np.isfinite(gain) and gain >= 0):
                raise RunError(f"the gain of {query!r}, {item!r} is {gain}, expected a finite number >= 0.")


def _rank(scores_of, order, query_ids, item_ids, gains, relevant_from: float, depth: int, views: int = 1) -> Ranking:
    """scores_of(rows) gives the scores (c, n) of some queries, columns in `order`: item ids descending; views: numbers
    that it holds for each score."""
    _check(query_ids, item_ids, gains, relevant_from, depth)
    column_of = {item_ids[i]: column for column, i in enumerate(order)}
    parts: list[tuple] = []
    step = max(1, min(256, _CHUNK // (len(item_ids) * max(views, 1))))
    for start in range(0, len(query_ids), step):
        rows = slice(start, min(start + step, len(query_ids)))
        scores = np.asarray(scores_of(rows), dtype=np.float32)
        _finite(scores, query_ids[rows], "query")
        # a sorted row answers every rank and tie size by bisection; counting per item was no faster
        ascending = np.sort(scores, axis=1)
        for row, query in enumerate(query_ids[rows]):
            parts.append(_entries(scores[row], ascending[row], gains[query], column_of, relevant_from, depth))
    counts = [len(part[0]) for part in parts]
    ideals = [np.sort([g for g in gains[q].values() if g > 0])[::-1].astype(np.float64) for q in query_ids]
    columns = [np.concatenate([part[k] for part in parts]) if parts else np.zeros(0) for k in range(6)]
    return Ranking(
        query_ids=list(query_ids),
        item_ids=list(item_ids),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=order[columns[0].astype(np.int64)].astype(np.int32),
        rank=columns[1].astype(np.int32),
        score=columns[2].astype(np.float32),
        gain=columns[3].astype(np.float64),
        tie_first=columns[4].astype(np.int32),
        tie_size=columns[5].astype(np.int32),
        ideal_offsets=np.concatenate([[0], np.cumsum([len(ideal) for ideal in ideals])]).astype(np.int64),
        ideal=np.concatenate(ideals) if ideals else np.zeros(0),
        relevant_from=float(relevant_from),
        depth=depth,
    )


def _entries(scores, ascending, judged, column_of, relevant_from: float, depth: int) -> tuple:
    """One query's kept entries in rank order: (column, rank, score, gain, tie_first, tie_size).

    scores (n,) float32 by column, item ids descending, so that of tied items the first column ranks first; ascending:
    the same, sorted.
    """
    n = len(scores)
    last = ascending[n - depth]  # the score of rank `depth`
    above = np.flatnonzero(scores > last)
    top = np.concatenate([above, np.flatnonzero(scores == last)[: depth - len(above)]])
    positive = {column_of[item]: gain for item, gain in judged.items() if gain > 0}
    columns = np.union1d(top, np.fromiter(positive, dtype=np.int64, count=len(positive)))
    own = scores[columns]
    left, right = np.searchsorted(ascending, own, "left"), np.searchsorted(ascending, own, "right")
    tie_first, tie_size = n - right + 1, right - left
    ranks = tie_first.copy()
    for value in np.unique(own[tie_size > 1]):
        tied = own == value
        ranks[tied] += np.searchsorted(np.flatnonzero(scores == value), columns[tied])
    gain = np.array([positive.get(int(column), 0.0) for column in columns])
    kept = (ranks <= depth) | (gain >= relevant_from) | ((gain > 0) & (tie_first <= depth))
    order = np.argsort(ranks[kept], kind="stable")
    return tuple(values[kept][order] for values in (columns, ranks, own, gain, tie_first, tie_size))


@dataclass(frozen=True)
class Serving:
    """Search through FAISS, one query at a time: milliseconds, bytes per item in the index, and its recall@10.

    recall_at_10: share of the exact ten best scores that the index found, mean over queries; items that tie with the
    tenth count as found.
    """

    p50_ms: float
    p95_ms: float
    bytes_per_item: float
    recall_at_10: float


@contextmanager
def _faiss_threads(count: int):
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def _index(faiss, kind: str, gallery: np.ndarray):
    n, d = gallery.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(d)
    elif kind == "ivf":
        cells = max(1, min(int(4 * n**0.5), n // 40))  # 4·√n as FAISS advises, given 40 items a cell to learn from
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(gallery)
        index.nprobe = 8
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
    else:
        raise RunError(f"index kind {kind!r} given, expected flat, ivf or hnsw.")
    index.add(gallery)
    return index


def serve_index(gallery: Vectors, probes: Vectors, kind: str = "flat", threads: int = 1, most: int = 500) -> Serving:
    """Time a FAISS index over gallery (n, d) with single-query searches of up to `most` probes (q, d), as float32.

    A MultiVector's index holds all vectors of all items, and for each its item (8 bytes) and, where the score weighs
    views, its weight (4 bytes); a search groups the vectors found by item and scores those items exactly.
    kind: "flat", "ivf" (4·√n cells, 8 probed) or "hnsw" (32 links). FAISS uses `threads` threads meanwhile. Raises
    RunError for another kind, for shapes that do not fit, and where there is nothing to search or to search with.
    """
    gallery, probes = as_float32(gallery), probe_vectors(probes)[:most]
    _check_shapes(probes, _table(gallery), empty=False)
    many = isinstance(gallery, MultiVector)
    there = gallery.weights > 0 if many else np.ones((len(gallery), 1), dtype=bool)
    owner = np.nonzero(there)[0]  # (r,): the item of each vector in the index
    if not len(owner):
        raise RunError("no item of the gallery has a view: there is nothing to search.")
    k = min(10, len(gallery))
    hits = min(len(owner), k * there.shape[1] * (_SOFT_HITS if many and gallery.epsilon else 1))
    with _faiss_threads(threads) as faiss:
        index = _index(faiss, kind, gallery.vectors[there] if many else gallery)

        def search(probe: np.ndarray) -> np.ndarray:
            ids = index.search(probe[None], hits)[1][0]
            return _items(gallery, owner[ids[ids >= 0]], probe, k) if many else ids

        found, times = [], []
        search(probes[0])  # warm-up
        for probe in probes:
            started = time.perf_counter()
            found.append(search(probe))
            times.append(1000 * (time.perf_counter() - started))
        size = faiss.serialize_index(index).nbytes
    if many:
        size += len(owner) * (12 if gallery.epsilon else 8)
    recalls, scores = [], scorer(gallery)
    for probe, ids in zip(probes, found, strict=True):
        exact = scores(probe[None])[0]  # (n,)
        tenth = np.partition(exact, len(exact) - k)[len(exact) - k]
        near = 1e-5 * np.abs(exact[exact > LOWEST]).max(initial=0)  # FAISS adds in another order
        recalls.append((exact[np.unique(ids[ids >= 0])] >= tenth - near).sum() / k)  # id -1: fewer than k found
    p50, p95 = np.percentile(times, [50, 95]).tolist()
    return Serving(p50, p95, size / len(gallery), float(np.mean(recalls)))


def _items(gallery: MultiVector, owners: np.ndarray, probe: np.ndarray, k: int) -> np.ndarray:
    """(up to k,) the best of the items that own the vectors found, by their exact scores."""
    items = np.unique(owners)
    scores = combine(gallery.vectors[items] @ probe, gallery.weights[items], gallery.epsilon)  # (c, v, d) -> (c,)
    return items[np.argsort(-scores, kind="stable")[:k]]
