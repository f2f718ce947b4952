"""What `fit` may see of a split, and the batches that every method gets of it. Must not know encoders or methods."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ftbench.errors import RunError
from ftbench.items import Judgement
from ftbench.settings import TrainerConfig
from ftbench.views import Views


@dataclass(frozen=True)
class TrainingSet:
    """What `fit` may see of a split: its items' views and, on tracks that may use them, interactions.

    interactions: (m, 2) int64 pairs (query, item), positions in `query_texts` and in `views`; empty where the track may
    not use them. judgements: of the validation split alone, where the track may use them; never of the test split.
    """

    item_ids: tuple[str, ...]
    views: Views
    query_texts: tuple[str, ...] = ()
    interactions: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One step's items: positions (b,) int64 in the training set.

    both: (b,) bool, whether an item has an image and a text: the others do not enter an image-text loss.
    queries: (b, k) positions in its query texts, k of each item, or None. same: (b, k, b) bool, [i, q, j]: item j has a
    query of the same text as query q of item i, so it is no negative.
    """

    items: np.ndarray
    both: torch.Tensor
    queries: np.ndarray | None = None
    same: torch.Tensor | None = None


def batches_of(data: TrainingSet, config: TrainerConfig, seed: int):
    """Endless batches, the same for every method: epochs over items in a seeded order, each with some of its queries.

    An item without interactions does not enter the supervised track's batches; one with fewer than queries_per_item
    repeats them. Without queries, an item that lacks images or texts does not enter. The last,
    smaller batch of an epoch is kept where it has at least 2 items.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
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
