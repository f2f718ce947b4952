"""What `fit` may see of a split, and the batches that every method gets of it. Must not know encoders or methods."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from ftbench.errors import RunError
from ftbench.items import Judgement
from ftbench.labels import WeakLabels
from ftbench.settings import TrainerConfig
from ftbench.views import Views

LIST = 4  # items of one query's list that enter a batch together, so that their labels can be compared


@dataclass(frozen=True, eq=False)
class Targets:
    """Weak labels as training sees them, in place of interactions.

    labels: of the training set's queries and items. weights: (q,) float32, how much each query counts; 0 leaves it out.
    temperature: > 0, of the softmax over a list by which items are drawn. loss: a ranking loss of logits (b, b), their
    scale and labels (b, b), one value per row -> (b,).
    """

    labels: WeakLabels
    weights: np.ndarray
    temperature: float
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TrainingSet:
    """What `fit` may see of a split: its items' views and, on tracks that may use them, interactions.

    interactions: (m, 2) int64 pairs (query, item), positions in `query_texts` and in `views`; empty where the track may
    not use them. judgements: of the validation split alone, where the track may use them; never of the test split.
    targets: weak labels of its queries, where a method of the weak track trains on them.
    """

    item_ids: tuple[str, ...]
    views: Views
    query_ids: tuple[str, ...] = ()
    query_texts: tuple[str, ...] = ()
    interactions: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    judgements: tuple[Judgement, ...] = ()
    targets: Targets | None = None


@dataclass(frozen=True)
class Batch:
    """One step's items: positions (b,) int64 in the training set.

    both: (b,) bool, whether an item has an image and a text: the others do not enter an image-text loss.
    queries: (b, k) positions in its query texts, k of each item, or None. same: (b, k, b) bool, [i, q, j]: item j has a
    query of the same text as query q of item i, so it is no negative. labels (b, k, b) float32, weights (b, k): of weak
    labels, [i, q, j] that of item j for query q of item i; ranking_loss: the loss to learn them by.
    """

    items: np.ndarray
    both: torch.Tensor
    queries: np.ndarray | None = None
    same: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    ranking_loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None


def batches_of(data: TrainingSet, config: TrainerConfig, seed: int) -> Iterator[Batch]:
    """Endless batches, the same for every method: of interactions or, without queries, of items (`_epochs`); of weak
    labels where there are any (`_labelled`). Raises RunError where there are fewer than two items to train on."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
    return _epochs(data, config, generator) if data.targets is None else _labelled(data, config, generator)


def _epochs(data: TrainingSet, config: TrainerConfig, generator: np.random.Generator) -> Iterator[Batch]:
    """Epochs over items in a seeded order, each with some of its queries.

    An item without interactions does not enter the supervised track's batches; one with fewer than queries_per_item
    repeats them. Without queries, an item that lacks images or texts does not enter. The last,
    smaller batch of an epoch is kept where it has at least 2 items.
    """
    queries_of: dict[int, list[int]] = {}
    for query, item in data.interactions:
        queries_of.setdefault(int(item), []).append(int(query))
    both = (data.views.images >= 0).any(axis=1) & (data.views.texts >= 0).any(axis=1)
    items = np.array(sorted(queries_of)) if queries_of else np.flatnonzero(both)
    if len(items) < 2:
        need = "interactions" if queries_of else "an image and a text"
        raise RunError(f"training needs at least 2 items with {need}, the training split has {len(items)}.")
    numbers = {text: i for i, text in enumerate(dict.fromkeys(data.query_texts))}
    text_of = np.array([numbers[text] for text in data.query_texts])
    while True:
        order = generator.permutation(items)
        shift = generator.integers(0, 2**31, size=len(order))
        for start in range(0, len(order), config.batch_size):
            chosen = order[start : start + config.batch_size]
            if len(chosen) < 2:
                continue
            if not queries_of:
                yield Batch(chosen, torch.from_numpy(both[chosen]))
                continue
            own = [queries_of[int(i)] for i in chosen]
            first = shift[start : start + config.batch_size]
            queries = np.array(
                [[q[(u + k) % len(q)] for k in range(config.queries_per_item)] for q, u in zip(own, first, strict=True)]
            )
            texts = text_of[queries]  # (b, k)
            same = (texts[:, :, None, None] == texts[None, None]).any(axis=3)  # (b, k, b)
            yield Batch(chosen, torch.from_numpy(both[chosen]), queries, torch.from_numpy(same))


def _labelled(data: TrainingSet, config: TrainerConfig, generator: np.random.Generator) -> Iterator[Batch]:
    """Items that queries' lists name, each with some of the queries that name it.

    A batch takes LIST items of one query's list, then of the next query's, in a seeded order of queries: drawn without
    replacement by the softmax of its labels. That query is one of the first of these items; the other queries of an
    item are drawn likewise among those that name it, by the item's share of their lists. The last, smaller batch of a
    pass over the queries is kept where it has at least 2 items.
    """
    targets = data.targets
    labels, weights = targets.labels, np.asarray(targets.weights, dtype=np.float32)
    asked = np.flatnonzero((weights > 0) & labels.labelled)
    named = labels.items >= 0
    if len(np.unique(labels.items[asked][named[asked]])) < 2:
        raise RunError(
            "training needs weak labels of at least 2 items; the labeller names fewer. Try another labeller."
        )
    logits = np.where(named, labels.scores / targets.temperature, -np.inf)
    with np.errstate(invalid="ignore"):
        top = np.where(labels.labelled, logits.max(axis=1, initial=-np.inf), 0)[:, None]
        shares = np.exp(logits - top)
    logs = logits - top - np.log(np.maximum(shares.sum(axis=1, keepdims=True), 1e-30))  # log softmax, (q, k)
    queries_of = _inverse(labels, logs, asked)
    both = (data.views.images >= 0).any(axis=1) & (data.views.texts >= 0).any(axis=1)
    while True:
        chosen: dict[int, int] = {}  # item: the query whose list it was drawn from, -1 but for a list's first
        order = generator.permutation(asked)
        for place, anchor in enumerate(order):
            drawn = labels.items[anchor][_draw(logs[anchor], LIST, generator)].tolist()
            for item in drawn:
                chosen.setdefault(item, int(anchor) if item == drawn[0] else -1)
            if len(chosen) < config.batch_size and (place + 1 < len(order) or len(chosen) < 2):
                continue
            items = np.array(list(chosen)[: config.batch_size])
            queries = np.stack(
                [
                    _queries(*queries_of[item], chosen[item], config.queries_per_item, generator)
                    for item in items.tolist()
                ]
            )
            chosen = {}
            own = labels.of(queries.reshape(-1), items).reshape(*queries.shape, len(items))
            yield Batch(
                items,
                torch.from_numpy(both[items]),
                queries,
                labels=torch.from_numpy(own),
                weights=torch.from_numpy(weights[queries]),
                ranking_loss=targets.loss,
            )


def _inverse(labels: WeakLabels, logs: np.ndarray, asked: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each item that is named: the queries that name it, and their entries of logs (q, k)."""
    rows, columns = np.nonzero(labels.items[asked] >= 0)
    queries, items = asked[rows], labels.items[asked][rows, columns]
    order = np.argsort(items, kind="stable")
    names, starts = np.unique(items[order], return_index=True)
    parts = zip(
        np.split(queries[order], starts[1:]), np.split(logs[asked][rows, columns][order], starts[1:]), strict=True
    )
    return dict(zip(names.tolist(), parts, strict=True))


def _draw(logs: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of `count` draws without replacement by softmax(logs), or of all that are finite (Gumbel's top-k)."""
    count = min(count, int(np.isfinite(logs).sum()))
    return np.argsort(-(logs + generator.gumbel(size=len(logs))), kind="stable")[:count]


def _queries(
    queries: np.ndarray, logs: np.ndarray, first: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """(count,) queries of an item, `first` among them unless it is -1; repeated where it has fewer."""
    drawn = queries[_draw(np.where(queries == first, -np.inf, logs), count, generator)]
    return np.resize(np.concatenate([[first], drawn]) if first >= 0 else drawn, count)
