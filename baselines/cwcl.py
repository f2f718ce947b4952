"""Continuously weighted contrastive loss (CWCL, Srinivasa et al. 2023, arXiv 2309.14580), on sampled views.

Idea: items of a batch that are alike are no plain negatives of each other: each counts as a positive by its similarity
within one modality, as a frozen pretrained tower sees it.
Differs from the paper: both directions are weighted, each by the probing side's similarities, where the paper has one
frozen modality; the frozen towers are the foundation that training starts from, on primary views; the default weights
are exponential, since with the paper's linear ones (weights=linear), by which most of a batch counts as positive,
training ended below its start on studio's validation split. Item sides are the primary view and one sampled auxiliary,
as in factorized transport; for queries, items are alike by their frozen item vectors. Graded relevance is not used, as
training interactions have none.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from ftbench import method
from ftbench.losses import continuous_weights, weighted_info_nce
from ftbench.transport import sample_view, sampled_mean
from ftbench.views import view_weights

_AT_ONCE = 1024  # views encoded at a time
_SHARPNESS = {"sharpness": (10.0, 30.0, 100.0)}


class Method(method.TwoTower):
    space = method.spaces(
        _SHARPNESS | {"primary_share": (0.1, 0.25, 0.4)}, _SHARPNESS | {"alignment_share": (0.25, 0.4, 0.5, 0.6)}
    )
    tuned = {"aligned": {"trainer.learning_rate": 0.001, "trainer.image_rate": 0.1, "alignment_share": 0.6}}

    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # of the primary view, both sides, in training with queries
        alignment_share: float = 0.5  # the same in training without
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        weights: Literal["linear", "softmax"] = "softmax"  # (1 + cos) / 2 as in the paper, or exp(sharpness (cos - 1))
        sharpness: float = 30.0  # of the softmax form: 1 / temperature of the similarities

    def begin(self, data, towers):
        super().begin(data, towers)
        views = data.views
        self.frozen = [_primary(views.images, towers.images), _primary(views.texts, towers.texts)]  # (n, d) each

    def loss(self, batch, towers, generator):
        share = self.config.alignment_share if self.track == "aligned" else self.config.primary_share
        sides = []
        for ids, encode in ((self.views.images, towers.images), (self.views.texts, towers.texts)):
            chosen = ids[batch.items]  # (b, m)
            weights = torch.from_numpy(view_weights(chosen, share))
            columns = sample_view(weights, generator).numpy()  # (b,), -1: no auxiliary
            auxiliary = np.where(columns >= 0, chosen[np.arange(len(chosen)), columns], -1)
            primary = encode(chosen[:, 0])  # (b, d)
            sides.append(sampled_mean(primary, encode(auxiliary), weights[:, 0].to(primary.device)))
        return self.objective(batch, towers, *sides)

    def likeness(self, vectors):
        """How much items (b, d) count as positives of each other: (b, b), without gradient."""
        return continuous_weights(vectors, self.config.sharpness if self.config.weights == "softmax" else None)

    def query_loss(self, batch, towers, items):
        frozen = [side[torch.from_numpy(batch.items)] for side in self.frozen]
        weights = self.likeness(method.item_vector(*frozen, F.normalize))
        return self.query_terms(
            batch,
            towers,
            lambda queries: queries @ items.T,
            lambda logits, same: weighted_info_nce(logits, weights, same),
        )

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        image, text = (F.normalize(side[both], dim=-1) for side in (image, text))
        like = [self.likeness(side[torch.from_numpy(batch.items)][both]) for side in self.frozen]
        logits = towers.scale * (image @ text.T)  # (b, d) @ (d, b) -> (b, b)
        return (weighted_info_nce(logits, like[0]) + weighted_info_nce(logits.T, like[1])) / 2


def _primary(ids, encode):
    """Vectors (n, d) of the items' primary views, zero rows where there is none."""
    parts = [encode(ids[start : start + _AT_ONCE, 0]) for start in range(0, len(ids), _AT_ONCE)]
    return torch.cat(parts)
