"""Who labels: a method, trained or not, asked for its lists of the training split and of the validation split."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from ftbench import latent
from ftbench.batches import TrainingSet
from ftbench.embedder import Embedder
from ftbench.errors import RunError
from ftbench.items import silent
from ftbench.labels import WeakLabels, label
from ftbench.method import Method, load_method
from ftbench.trainer import FORWARD_PASS, Trained, Trainer
from ftbench.vectors import as_float32, probe_vectors, scorer
from ftbench.views import text_probes

_DEPTH = 10  # ranks by which two lists are compared


@dataclass(frozen=True, eq=False)
class Opinion:
    """A labeller and its lists of both splits. generation: 0 for a weak labeller. role: which of a form's rankers it
    is. method, trained: what labels (trained is None where nothing is). observed: the mean over training queries of
    the observed-data objective of `ftbench.latent`, None where there is none."""

    name: str
    generation: int
    role: str
    method: Method
    trained: Trained | None
    train: WeakLabels
    valid: WeakLabels
    observed: float | None = None


def weak_labeller(spec: str) -> Method:
    """A labeller by name or file, with settings of its own: bm25, or bm25:title_only=true.

    Raises FtbenchError for an unknown name or setting, RunError for a method that reads what no labeller may.
    """
    name, _, rest = spec.strip().partition(":")
    settings = dict(pair.partition("=")[::2] for pair in rest.split(":") if pair)
    found = load_method(name, settings)
    if not found.ranked:
        raise RunError(f"labeller={spec}: {name} reads what no method may; expected bm25, or any other ranked method.")
    return found


def scores_of(method: Method, trained: Trained | None, data: TrainingSet, trainer: Trainer) -> Callable:
    """rows (a slice of queries) -> (r, n) float32: a method's scores of a training set's items; those of a method that
    embeds are its products times the model's scale, the logits that it trained. Passes count in the model's meter."""
    probes, gallery = text_probes(list(data.query_texts)), data.views
    embedder = trained and Embedder(trained, trainer.encoder, trainer.device, silent)
    if method.lexical:
        given = (embedder,) if method.trained else ()
        return lambda rows: method.score(probes.take(np.arange(rows.start, rows.stop)), gallery, *given)
    vectors = as_float32(method.embed(gallery, embedder))
    asked = probe_vectors(method.embed(probes, embedder))
    scale = np.float32(1)
    if trained:
        scale = np.float32(float(trained.model.logit_scale.detach()))
        for kind, passes in embedder.passes.items():
            trained.meter.count(kind, passes, FORWARD_PASS)
    score = scorer(vectors)
    return lambda rows: scale * score(asked[rows])


def ask(
    method: Method,
    trained: Trained | None,
    data: TrainingSet,
    trainer: Trainer,
    k: int,
    identity: str,
    weak: WeakLabels | None = None,
    strength: float = 0.0,
) -> tuple[WeakLabels, float | None]:
    """A labeller's top k lists of a training set, and the observed-data objective of its scores given the weak labels.

    Raises RunError where it gives a score that is NaN or infinite.
    """
    scores, found = scores_of(method, trained, data, trainer), []
    everything = np.arange(len(data.item_ids))

    def told(rows: slice) -> np.ndarray:
        own = np.asarray(scores(rows), dtype=np.float32)
        if weak is not None:
            asked = np.arange(rows.start, rows.stop)
            kept = weak.labelled[asked]
            labels = torch.from_numpy(weak.of(asked, everything))
            found.append(latent.observed(torch.from_numpy(own), labels, strength).numpy()[kept])
        return own

    lists = label(method.name, identity, told, data.query_texts, len(data.item_ids), k)
    values = np.concatenate(found) if found else np.zeros(0)
    return lists, float(values.mean()) if len(values) else None


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


def identity_of(method: Method, *more) -> str:
    """The SHA-256 of what a labeller's lists depend on: the method's file and settings, and what else is named."""
    told = json.dumps([method.name, asdict(method.config), *more])
    return hashlib.sha256(told.encode() + method.path.read_bytes()).hexdigest()
