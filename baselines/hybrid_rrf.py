"""Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009) of bm25 and a dense method.

Idea: words and vectors err on different items; a sum of 1 / (c + rank) needs no common scale of scores.
Differs from the paper: it fuses the runs of many systems, here two, over the whole gallery; items that tie share their
mean rank, so items without any of the query's words are all last in bm25's ranking.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ftbench import method
from ftbench.errors import FtbenchError
from ftbench.vectors import as_float32, probe_vectors, scorer

_AT_ONCE = 64  # probes whose scores are held at a time


class Method(method.Method):
    modalities = ("text",)  # of what searches and is searched: where no words meet words it is its dense method
    lexical = True
    trained = True
    seeded = True
    space = {
        "supervised": {
            "constant": (0.0, 1.0, 3.0, 10.0, 20.0, 60.0),
            "trainer.learning_rate": (0.0015, 0.003, 0.006),
        }
    }
    tuned = {"supervised": {"constant": 0.0}}

    @dataclass(frozen=True)
    class Config:
        constant: float = 60.0  # c, ranks; the paper's
        dense: str = "factorized_transport_cached"  # a method that embeds, by name or file

        def problems(self):
            found = [] if self.constant >= 0 else [f"constant is {self.constant}, expected 0 or more"]
            if self.dense == "hybrid_rrf":
                return [*found, "dense is hybrid_rrf itself; expected a method that embeds"]
            try:
                dense = method.load_method(self.dense)
            except FtbenchError as problem:
                return [*found, f"dense={self.dense}: {problem}"]
            fits = dense.trained and dense.ranked and not dense.lexical
            return found + ([] if fits else [f"dense is {self.dense}, expected a method that trains and embeds"])

    def __init__(self, config=None):
        super().__init__(config)
        # it trains what the dense method trains, so it begins with that method's rates
        dense = method.load_method(self.config.dense).tuned
        own = type(self).tuned
        self.tuned = {
            track: {key: value for key, value in dense.get(track, {}).items() if key.startswith("trainer.")}
            | dict(own.get(track, {}))
            for track in {**dense, **own}
        }

    @cached_property
    def parts(self):
        return method.load_method("bm25", track="zero-shot"), method.load_method(self.config.dense, track=self.track)

    def fit(self, train, valid, trainer):
        return self.parts[1].fit(train, valid, trainer)

    def score(self, probes, gallery, embedder):
        bm25, dense = self.parts
        given = as_float32(dense.embed(gallery, embedder)), probe_vectors(dense.embed(probes, embedder))
        score = scorer(given[0])
        found = np.concatenate(
            [score(given[1][start : start + _AT_ONCE]) for start in range(0, len(probes), _AT_ONCE)]
        )  # (q, n)
        if not (gallery.texts >= 0).any():
            return found
        return fused((bm25.score(probes, gallery), found), self.config.constant)


def fused(scores, constant):
    """sum over rankings of 1 / (constant + rank) (Cormack et al. 2009, section 2), ties at their mean rank.

    scores: several (q, n) float, higher is better. Returns (q, n) float32, NaN wherever a score is NaN or infinite, so
    that whoever ranks refuses it.
    """
    total = np.zeros(scores[0].shape)
    for own in scores:
        for row, values in zip(total, own, strict=True):
            row += 1 / (constant + mean_ranks(values))
        total[~np.isfinite(own)] = np.nan
    return total.astype(np.float32)


def mean_ranks(scores):
    """Ranks (n,) float64 from 1, the highest score first; items that tie share the mean of their ranks."""
    ascending = np.sort(scores)
    left, right = (np.searchsorted(ascending, scores, side) for side in ("left", "right"))
    return len(scores) - (left + right - 1) / 2  # above: n - right; tied: right - left
