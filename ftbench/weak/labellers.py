"""Who labels: a method, trained or not, asked for its lists of the training split and of the validation split."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

import ftbench
from ftbench import latent
from ftbench.batches import TrainingSet
from ftbench.embedder import Embedder
from ftbench.encoders.base import Encoder, weights_sha256
from ftbench.errors import RunError
from ftbench.items import silent
from ftbench.labels import WeakLabels
from ftbench.method import Method, load_method
from ftbench.trainer import FORWARD_PASS, Trained, Trainer
from ftbench.vectors import LOWEST, as_float32, probe_vectors, scorer
from ftbench.views import text_probes

SPLITS = ("train", "valid")
_AT_ONCE = 64  # queries whose products with all views of all items are held at a time
_OBSERVED_AT_ONCE = 1024  # queries
_DEPTH = 10  # ranks by which two lists are compared


@dataclass(frozen=True, eq=False)
class Opinion:
    """A labeller and its lists of both splits. generation: 0 for a weak labeller. role: which of a form's rankers it
    is. method, trained: what labels (trained is None where nothing is)."""

    name: str
    generation: int
    role: str
    method: Method
    trained: Trained | None
    train: WeakLabels
    valid: WeakLabels


def weak_labeller(spec: str) -> Method:
    """A labeller by name or file, with settings of its own: bm25, or bm25:title_only=true.

    Raises FtbenchError for an unknown name or setting, RunError for a method that reads what no labeller may, learns
    from labellers itself, or calls methods as judgements tuned them.
    """
    name, _, rest = spec.strip().partition(":")
    settings = dict(pair.partition("=")[::2] for pair in rest.split(":") if pair)
    found = load_method(name, settings)
    if not found.ranked:
        raise RunError(f"{name} reads what no method may; expected bm25, or any other ranked method.")
    if found.home.startswith("weak"):
        raise RunError(
            f"{name} learns from weak labels itself; expected a method that labels as it comes, such as bm25."
        )
    tuned = [part.name for part in with_parts(found) if part.tuned.get(part.track)]
    if tuned:
        raise RunError(
            f"{name} calls {' and '.join(tuned)} with settings that a search chose by judgements, of which labels may "
            "know nothing; expected a method that labels as it comes, such as bm25."
        )
    return found


def with_parts(method: Method) -> list[Method]:
    """A method and all that it calls."""
    return [method, *(own for part in method.parts for own in with_parts(part))]


def told_apart(method: Method) -> tuple[Path, str]:
    """What is the same of two methods that are the same: their file and settings."""
    return method.path.resolve(), json.dumps(asdict(method.config), sort_keys=True)


def scores_of(method: Method, trained: Trained | None, data: TrainingSet, trainer: Trainer) -> Callable:
    """rows (a slice of queries) -> (r, n) float32: a method's scores of a training set's items; those of a method that
    embeds are those of a search times the model's learned scale: logits, near those that it trained, whose maximum over
    views may have been a smooth one. An item without any view has the lowest of its row."""
    probes, gallery = text_probes(list(data.query_texts)), data.views
    embedder = trained and Embedder(trained, trainer.encoder, trainer.device, silent)
    if method.lexical:
        given = (embedder,) if method.trained else ()
        return lambda rows: method.score(probes.take(np.arange(rows.start, rows.stop)), gallery, *given)
    vectors = as_float32(method.embed(gallery, embedder))
    asked = probe_vectors(method.embed(probes, embedder))
    scale = np.float32(trained.model.logit_scale.item() if trained else 1)
    score = scorer(vectors)

    def told(rows: slice) -> np.ndarray:
        parts = [score(part) for part in np.array_split(asked[rows], max(1, -(-(rows.stop - rows.start) // _AT_ONCE)))]
        found = np.concatenate(parts)
        there = found != LOWEST  # NaN stays, for whoever reads scores to refuse
        return scale * np.where(there, found, np.where(there, found, np.inf).min(axis=1, keepdims=True))

    return told


def cost_of(data: TrainingSet, encoder: Encoder) -> float:
    """Forward-equivalents of one look at all views and queries of a training set."""
    if not encoder.image_flops:
        return 0.0
    images, texts = _passes(data)
    return FORWARD_PASS * (images + texts * encoder.text_flops / encoder.image_flops)


def count(trained: Trained, data: TrainingSet) -> None:
    """Count one look at all views and queries, be it from a cache, as spent."""
    for kind, passes in zip(("image", "text"), _passes(data), strict=True):
        trained.meter.count(kind, passes, FORWARD_PASS)


def _passes(data: TrainingSet) -> tuple[int, int]:
    tables = data.views.images, data.views.texts
    images, texts = (len(np.unique(table[table >= 0])) for table in tables)
    return images, texts + len(data.query_texts)


def observed_of(scores: Callable, size: int, weak: WeakLabels, strength: float) -> float | None:
    """The mean over labelled queries of the observed-data objective (`ftbench.latent`) of a ranker's scores of `size`
    items (`scores_of`) and weak labels, from 0 to 1 per query; None without a labelled query."""
    if not weak.labelled.any():
        return None
    found, normalised = [], weak.normalised()
    for start in range(0, len(weak), _OBSERVED_AT_ONCE):
        rows = slice(start, min(start + _OBSERVED_AT_ONCE, len(weak)))
        own = torch.from_numpy(np.asarray(scores(rows), dtype=np.float32))
        labels = torch.from_numpy(normalised.of(np.arange(rows.start, rows.stop), np.arange(size)))
        found.append(latent.observed(own, labels, strength).numpy())
    return float(np.concatenate(found)[weak.labelled].astype(np.float64).mean())


def shuffled(labels: WeakLabels, share: float, seed: int) -> WeakLabels:
    """The same lists, a share of the queries having another's: a labeller of lower quality, for studies."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 6]))
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    order = np.arange(len(labels))
    order[np.sort(chosen)] = chosen
    told = hashlib.sha256(f"{labels.identity} shuffled {share} {seed}".encode()).hexdigest()
    return replace(labels, identity=told, items=labels.items[order], scores=labels.scores[order],
                   corpus=labels.corpus[order])  # fmt: skip


# --- how good an opinion is, without judgements


def dcg(gains: Sequence[float]) -> float:
    """Discounted cumulative gain of the first 10 ranks, log2 discount (Jarvelin and Kekalainen 2002)."""
    own = np.asarray(gains, dtype=np.float64)[:_DEPTH]
    return float((own / np.log2(np.arange(2, len(own) + 2))).sum())


def agreement(own: WeakLabels, weak: WeakLabels) -> np.ndarray:
    """ndcg@10 (q,) of lists against the weak labels of the same queries as gains; NaN where a query has none."""
    found = np.full(len(own), np.nan)
    for row in np.flatnonzero(weak.labelled):
        items = own.items[row, :_DEPTH]
        gains = weak.of(np.array([row]), items[items >= 0])[0]
        found[row] = dcg(gains) / dcg(weak.scores[row])
    return found


def gains_of(valid: TrainingSet) -> dict[int, dict[int, float]]:
    """A validation split's judgements above 0: for each query that has any the gain of each item, by position."""
    queries = {query: i for i, query in enumerate(valid.query_ids)}
    items = {item: i for i, item in enumerate(valid.item_ids)}
    gains: dict[int, dict[int, float]] = {}
    for one in valid.judgements:
        if one.gain > 0 and one.query_id in queries and one.item_id in items:
            gains.setdefault(queries[one.query_id], {})[items[one.item_id]] = one.gain
    return gains


def judged(lists: WeakLabels, valid: TrainingSet) -> float:
    """ndcg@10 of lists by a validation split's judgements, the mean over the queries that have any."""
    found = []
    for query, own in gains_of(valid).items():
        ranked = [own.get(int(item), 0.0) for item in lists.items[query]]
        found.append(dcg(ranked) / dcg(sorted(own.values(), reverse=True)))
    return float(np.mean(found)) if found else 0.0


@cache
def library_sha256() -> str:
    """The SHA-256 of ftbench's own code: what a stopped run kept is not gone on with where that has changed."""
    digest = hashlib.sha256()
    for path in sorted(Path(ftbench.__file__).parent.glob("**/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def identity_of(method: Method, trained: Trained | None, data: TrainingSet, k: int) -> str:
    """The SHA-256 of what a labeller's lists depend on: files and settings, its own and of what it calls, the library,
    the model, items, queries, k."""
    weights = weights_sha256(trained.model.model) if trained else None
    methods = with_parts(method)
    about = [[own.name, asdict(own.config)] for own in methods]
    about += [library_sha256(), weights, k, data.item_ids, data.query_texts]
    digest = hashlib.sha256(json.dumps(about).encode())
    for own in methods:
        digest.update(hashlib.sha256(own.path.read_bytes()).digest())
    return digest.hexdigest()
