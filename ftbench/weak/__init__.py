"""Generalized weak supervision (after Lien, Zamani and Croft 2024): rankers that learn from what labellers rank,
generation by generation, without a judgement. Must not know tasks, records or the page.

A weak labeller (bm25, say) ranks the training items for every training query. A generation's rankers learn from such
lists, then label the same queries for the next generation; the weak labels stay a part of every generation's labels.
`ftbench.latent` states the model in which this is expectation-maximisation.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from ftbench.batches import TrainingSet
from ftbench.embedder import Embedder
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.method import Method, TwoTower, load_method
from ftbench.performance import NAMES as PREDICTORS
from ftbench.trainer import Trained, Trainer
from ftbench.vectors import as_float32, probe_vectors, scorer
from ftbench.weak.generations import Generations
from ftbench.weak.labellers import Opinion, told_apart, weak_labeller, with_parts

__all__ = ["Config", "Opinion", "WeakSupervision", "last"]

_AT_ONCE = 64  # probes whose scores are held at a time
_GENERATIONS = 50


@dataclass(frozen=True)
class Config:
    """What all forms share. One with a single ranker has no use for `second` and `serve`."""

    labeller: str = "bm25"  # weak labellers, methods by name or file, bm25:title_only=true; the mean of several with +
    ranker: str = "factorized_transport"  # a two-tower method; its item vectors are what is served
    second: str = "late_interaction"  # a ranker of another architecture, that scores a query against an item's views
    generations: int = 3  # at most, and no more than 50
    top: int = 100  # items that a labeller names for a query
    loss: Literal["listwise", "pairwise", "regression"] = "listwise"
    temperature: float = 0.1  # of labels, which go from 0 to 1: softens them, and draws a list's items for a batch
    mix: Literal["mean", "posterior"] = "mean"  # weak and rankers' labels: their mean, or the E-step's posterior
    judge: str = "mean_pooling"  # whose lists of validation queries, which nobody learns from, greedy labels agree with
    keep: float = 0.5  # share of the weak labels in the mean
    strength: float = 5.0  # of the weak labels in the posterior and the observed-data objective: log odds of a label 1
    start: Literal["foundation", "previous"] = "foundation"  # weights from which a later generation learns
    alignment_weight: float = 1.0  # of the rankers' image-text loss beside the ranking loss
    importance: Literal["none", "nqc", "wig", "smv", "clarity", "entropy"] = "none"  # predictor that weighs queries
    clip: float = 3.0  # predicted performance counts up to so many times its mean; weights then have mean 1
    drop: float = 0.0  # share of queries left out, the lowest by importance (none: nqc); the others then count alike
    stop: bool = False  # at the first generation that does not improve what is observed of validation queries
    serve: Literal["ranker", "rerank"] = "ranker"  # rerank: both rankers order the first one's candidates
    candidates: int = 100  # that are reranked
    second_share: float = 0.5  # of the second ranker's scores in a candidate's, the rest being the first one's
    shuffled: float = 0.0  # share of queries that get another's weak labels: a worse labeller, for studies

    @property
    def labellers(self) -> list[str]:
        """The weak labellers one by one."""
        return [spec.strip() for spec in self.labeller.split("+")]

    def problems(self):
        least = {"generations": 1, "top": 1, "alignment_weight": 0, "strength": 0, "candidates": 1}
        found = [f"{k} is {getattr(self, k)}, expected at least {n}" for k, n in least.items() if getattr(self, k) < n]
        found += [f"{k} is {getattr(self, k)}, expected more than 0" for k in ("temperature", "clip")
                  if not getattr(self, k) > 0]  # fmt: skip
        found += [f"{k} is {getattr(self, k)}, expected a share from 0 to 1"
                  for k in ("keep", "shuffled", "second_share") if not 0 <= getattr(self, k) <= 1]  # fmt: skip
        found += [] if 0 <= self.drop < 1 else [f"drop is {self.drop}, expected a share below 1"]
        if self.generations > _GENERATIONS:
            found.append(f"generations is {self.generations}, expected at most {_GENERATIONS}: a record has room for 100 rankers, two in each")  # noqa: E501  # fmt: skip
        if self.mix == "posterior" and self.loss != "listwise":
            found.append(f"mix=posterior gives log odds, which loss={self.loss} cannot learn; expected loss=listwise")
        for key in ("labeller", "judge", "ranker", "second"):
            try:
                self._check(key)
            except FtbenchError as problem:
                found.append(f"{key}={getattr(self, key)}: {problem}")
        return found

    def _check(self, key):
        if key in ("labeller", "judge"):
            for spec in self.labellers if key == "labeller" else [self.judge]:
                weak_labeller(spec)
        elif not isinstance(load_method(getattr(self, key)), TwoTower):
            raise RunError("it is no two-tower method, which weak labels could train")


assert {"none", *PREDICTORS} == set(next(f for f in fields(Config) if f.name == "importance").type.__args__)


class WeakSupervision(Method):
    """A form of weak supervision: which rankers there are, and whose labels each learns from.

    roles: the fields of Config that name its rankers; the first one's is served.
    keeps: whether the weak labels stay a part of labels that rankers gave; else teachers are all there is.
    """

    trained = True
    seeded = True
    home = "weak"
    roles: ClassVar[tuple[str, ...]] = ("ranker",)
    keeps: ClassVar[bool] = True
    Config = Config

    @abstractmethod
    def teachers(self, role: str, pool: Sequence[Opinion], made: Generations) -> Sequence[Opinion]:
        """Whose labels a ranker learns from, after the first generation, in which it is the weak labeller. pool: the
        weak labeller and all rankers so far, in order; made: what judges them."""

    @cached_property
    def rankers(self) -> dict[str, TwoTower]:
        """The ranker of each role, with its own defaults and the image-text loss's weight."""
        made = {}
        for role in self.roles:
            name = getattr(self.config, role)
            known = {f.name for f in fields(load_method(name).Config)}
            own = {"alignment_weight": str(self.config.alignment_weight)} if "alignment_weight" in known else {}
            made[role] = load_method(name, own, "weak")
        return made

    @cached_property
    def parts(self):
        called = [weak_labeller(spec) for spec in self.config.labellers]
        called += [] if self.keeps else [weak_labeller(self.config.judge)]
        found = [part for one in (*called, *self.rankers.values()) for part in with_parts(one)]
        return tuple({told_apart(part): part for part in found}.values())

    def __init__(self, config=None):
        super().__init__(config)
        if self.config.serve == "rerank" and len(self.roles) < 2:
            raise RunError("serve=rerank needs a second ranker, which this form does not have; expected serve=ranker")
        if self.config.mix == "posterior" and not self.keeps:
            raise RunError("mix=posterior weighs a ranker against the weak labels, of which this form keeps as many as it chooses; expected mix=mean")  # noqa: E501  # fmt: skip
        labellers = {told_apart(weak_labeller(spec)) for spec in self.config.labellers}
        if not self.keeps and told_apart(weak_labeller(self.config.judge)) in labellers:
            raise RunError(f"judge={self.config.judge} is a labeller, too, and would agree with itself. Name another: --set judge=single_view_clip")  # noqa: E501  # fmt: skip
        if len({told_apart(ranker) for ranker in self.rankers.values()}) < len(self.roles):
            raise RunError(f"ranker and second are both {self.config.second}, and two alike err alike; expected two methods of different architecture: --set ranker=factorized_transport --set second=late_interaction")  # noqa: E501  # fmt: skip
        files = {part.name: part.path.resolve() for part in self.parts}
        for part in self.parts:
            if files[part.name] != part.path.resolve():
                raise RunError(f"{part.path} and {files[part.name]} are both named {part.name}, by which a record tells methods apart. Rename one of them.")  # noqa: E501  # fmt: skip

    @property
    def lexical(self):
        return self.config.serve == "rerank"

    def fit(self, train: TrainingSet, valid: TrainingSet, trainer: Trainer) -> Trained:
        self.trainer = trainer
        self.made = Generations(self, train, valid, trainer).run()
        return self.made["ranker"].trained

    def embed(self, views, embedder):
        return self.made["ranker"].method.embed(views, embedder)

    def score(self, probes, gallery, embedder):
        """(q, n): the ranker's candidates in the order of both rankers, then all others in the ranker's own."""
        second = self.made[self.roles[-1]]
        other = Embedder(second.trained, self.trainer.encoder, self.trainer.device, silent)
        first = _scores(self.made["ranker"].method, probes, gallery, embedder)
        found = []
        for own, anew in zip(first, _scores(second.method, probes, gallery, other), strict=True):
            found.append(reranked(own, anew, self.config.candidates, self.config.second_share))
        return np.concatenate(found)


def _scores(method, probes, gallery, embedder):
    """A method's scores of a gallery, some probes at a time."""
    score, asked = scorer(as_float32(method.embed(gallery, embedder))), probe_vectors(method.embed(probes, embedder))
    for start in range(0, len(asked), _AT_ONCE):
        yield score(asked[start : start + _AT_ONCE])


def reranked(first: np.ndarray, second: np.ndarray, candidates: int, share: float) -> np.ndarray:
    """Scores (q, n) float32 that rank the `candidates` best of `first` by a mean of both scores, `share` of `second`,
    each from 0, the query's lowest candidate, to 1, its highest, and the others below, by `first`: minus each item's
    rank from 0, equal scores at the rank of the first of them."""
    found = np.empty(first.shape, dtype=np.float32)
    for row, own, anew in zip(found, first, second, strict=True):
        row[:] = -_ranks(own)
        best = row > -candidates
        row[best] = -_ranks((1 - share) * _spread(own[best]) + share * _spread(anew[best]))
    return found


def _spread(scores):
    """(n,) scores from 0 to 1; 0 where all are alike."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def _ranks(scores):
    """(n,) ranks from 0, the highest first."""
    ascending = np.sort(scores)
    return len(scores) - np.searchsorted(ascending, scores, "right")


def last(pool: Sequence[Opinion], role: str) -> Opinion:
    """The latest opinion of a role's ranker."""
    return [one for one in pool if one.role == role][-1]
