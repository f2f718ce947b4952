"""Query performance prediction: how far a labeller's ranking of a query is to be trusted, without judgements.

Pure functions of weak labels. s is a score above the collection's lowest for the query, s(C) the mean of s over the
collection (see ftbench.labels), D the query's list of at most k items, mu the mean of s over D. More is better. A query
without labels, or whose s(C) is 0, gets 0.
"""

from collections.abc import Sequence

import numpy as np

from ftbench.errors import RunError, unknown
from ftbench.labels import WeakLabels


def nqc(labels: WeakLabels, lengths: np.ndarray) -> np.ndarray:
    """Normalised query commitment, (q,) float64: sqrt(mean over D of (s - mu)^2) / s(C) (Shtok et al. 2012, eq. 7)."""
    return _over_corpus(labels, np.sqrt(_mean(labels, (_scores(labels) - _mu(labels)) ** 2)))


def wig(labels: WeakLabels, lengths: np.ndarray) -> np.ndarray:
    """Weighted information gain, (q,) float64: mean over D of (s - s(C)) / sqrt(|q|) (Zhou and Croft 2007), whose
    scores are sums over a query's words; of other scores the root is a mere convention. lengths: (q,) int, words in
    each query, at least 1."""
    gain = _mean(labels, _scores(labels) - labels.corpus.astype(np.float64)[:, None])
    return np.where(labels.labelled, gain / np.sqrt(np.maximum(lengths, 1)), 0.0)


def smv(labels: WeakLabels, lengths: np.ndarray) -> np.ndarray:
    """Score magnitude and variance, (q,) float64: mean over D of s |ln(s / mu)|, over s(C) (Tao and Wu 2014, eq. 2)."""
    scores = _scores(labels)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(scores > 0, scores * np.abs(np.log(scores / _mu(labels))), 0.0)
    return _over_corpus(labels, _mean(labels, terms))


def entropy(labels: WeakLabels, lengths: np.ndarray) -> np.ndarray:
    """1 - H(p) / ln n, (q,) float64, p = s / sum of s over a list of n > 1 items: 0 where all score alike, 1 for a list
    of one. Shannon's entropy of the scores' distribution, turned so that more is better."""
    scores = _scores(labels)
    count = _count(labels)
    p = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    even = np.log(np.maximum(count, 2))
    return np.where(labels.labelled, np.where(count > 1, 1 - own / even, 1.0), 0.0)


def clarity(labels: WeakLabels, documents: Sequence[Sequence[str]]) -> np.ndarray:
    """Clarity, (q,) float64: the divergence sum_w p(w|q) log2(p(w|q) / p(w|C)) of a query's language model from the
    collection's (Cronen-Townsend, Zhou and Croft 2002, eq. 1).

    p(w|q) = sum over D of p(w|d) s(d) / sum of s: the list's items by their share of its scores, in place of the query
    likelihood, which other labellers do not have; p(w|d) a word's share of the item's words, not smoothed, so that an
    item's words alone count. documents: the words of each item of the collection. A list of items without words has 0.
    Raises RunError where there is not one document for each item.
    """
    if len(documents) != labels.size:
        raise RunError(f"clarity: {len(documents)} documents given, expected {labels.size}, one for each item.")
    vocabulary = {word: i for i, word in enumerate(sorted({word for words in documents for word in words}))}
    places = [np.array([vocabulary[word] for word in words], dtype=np.int64) for words in documents]
    counts = np.bincount(np.concatenate([*places, np.zeros(0, dtype=np.int64)]), minlength=len(vocabulary))
    collection = counts / max(counts.sum(), 1)
    found = np.zeros(len(labels))
    for row, (items, scores) in enumerate(zip(labels.items, _scores(labels), strict=True)):
        kept = [(item, score) for item, score in zip(items, scores, strict=True) if item >= 0 and len(places[item])]
        if not kept:
            continue
        words = np.concatenate([places[item] for item, _ in kept])
        shares = np.concatenate([np.full(len(places[item]), score / len(places[item])) for item, score in kept])
        p = np.bincount(words, shares / sum(score for _, score in kept), minlength=len(vocabulary))
        there = p > 0
        found[row] = (p[there] * np.log2(p[there] / collection[there])).sum()
    return found


PREDICTORS = {"nqc": nqc, "wig": wig, "smv": smv, "entropy": entropy}
NAMES = (*PREDICTORS, "clarity")


def predict(
    name: str, labels: WeakLabels, queries: Sequence[str], documents: Sequence[Sequence[str]] = ()
) -> np.ndarray:
    """A predictor by name, (q,) float64. documents: the words of each item, which `clarity` needs alone.

    Raises FtbenchError for an unknown name, RunError for clarity of a collection without any word.
    """
    if name == "clarity":
        if not any(documents):
            raise RunError("clarity compares words, and no item of this collection has any. Try: --set importance=nqc")
        return clarity(labels, documents)
    if name not in PREDICTORS:
        raise unknown("query performance predictor", name, NAMES)
    return PREDICTORS[name](labels, np.array([len(query.split()) for query in queries]))


def importance(values: np.ndarray, labelled: np.ndarray, clip: float, drop: float = 0.0) -> np.ndarray:
    """Query weights (q,) float64 of mean 1 over labelled queries, 0 for the others.

    values: (q,) predicted performance; what is negative counts as 0. clip > 0: no weight above that many times the mean
    before it is normalised. drop: the share of labelled queries, those of the lowest values, that get 0 while the rest
    count alike (0: none is dropped and weights follow the values). Where all values are 0, all count alike.
    """
    weights = np.zeros(len(values))
    own = np.maximum(values, 0.0)[labelled]
    if not len(own):
        return weights
    if drop:
        own = (np.argsort(np.argsort(own, kind="stable"), kind="stable") >= int(drop * len(own))).astype(np.float64)
    if not own.sum():
        own = np.ones(len(own))
    own = np.minimum(own, clip * own.mean())
    weights[labelled] = own / own.mean()
    return weights


def _scores(labels: WeakLabels) -> np.ndarray:
    return labels.scores.astype(np.float64)


def _count(labels: WeakLabels) -> np.ndarray:
    """(q,) items in each list."""
    return (labels.items >= 0).sum(axis=1)


def _mean(labels: WeakLabels, values: np.ndarray) -> np.ndarray:
    """(q,) the mean of values (q, k) over each list; 0 for an empty one."""
    return np.where(labels.items >= 0, values, 0.0).sum(axis=1) / np.maximum(_count(labels), 1)


def _mu(labels: WeakLabels) -> np.ndarray:
    return _mean(labels, _scores(labels))[:, None]


def _over_corpus(labels: WeakLabels, values: np.ndarray) -> np.ndarray:
    corpus = labels.corpus.astype(np.float64)
    return np.where(labels.labelled & (corpus > 0), values / np.where(corpus > 0, corpus, 1), 0.0)
