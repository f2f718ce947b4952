"""Continuously weighted contrastive loss (CWCL, Srinivasa et al. 2023, arXiv 2309.14580), on sampled views.

Idea: items of a batch that are alike are no plain negatives of each other: each counts as a positive by its similarity
within one modality.
Differs from the paper: similarities come from the towers as they train, without gradient, not from a frozen pretrained
tower; both directions are weighted, each by the probing side's similarities; an exponential form stands beside the
linear one. Item sides are the primary view and one sampled auxiliary, as in factorized transport; for queries, items
are compared by fused vector. Graded relevance is not used, as training interactions have none.
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

_WEIGHTS = {"weights": ("linear", "softmax"), "sharpness": (10.0, 30.0)}


class Method(method.TwoTower):
    space = method.spaces(
        _WEIGHTS | {"primary_share": (0.1, 0.25, 0.4)}, _WEIGHTS | {"alignment_share": (0.25, 0.4, 0.5, 0.6)}
    )
    tuned = {
        "supervised": {"trainer.learning_rate": 0.0015, "alignment_weight": 0.3, "primary_share": 0.4},
    }

    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # of the primary view, both sides, in training with queries
        alignment_share: float = 0.5  # the same in training without
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        weights: Literal["linear", "softmax"] = "softmax"  # (1 + cos) / 2 as in the paper, or exp(sharpness (cos - 1))
        sharpness: float = 30.0  # of the softmax form: 1 / temperature of the similarities

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
        weights = self.likeness(items)
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
        logits = towers.scale * (image @ text.T)  # (b, d) @ (d, b) -> (b, b)
        forward = weighted_info_nce(logits, self.likeness(image))
        return (forward + weighted_info_nce(logits.T, self.likeness(text))) / 2
