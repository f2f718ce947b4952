"""All pairs: a contrastive loss over every image view and every text view of an item (InfoNCE, Radford et al. 2021).

Idea: nothing is pooled before the loss; each image view must find each text view of its item among the other items'
views of the same slot, weighted by the item's plan. Quadratic in views: what a factorized form saves.
Differs from the paper: CLIP has one pair per item; this is the direct extension that factorized transport (arXiv
2512.18117) is measured against, its weights are ours. Queries meet the mean over views that is searched.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.losses import all_pairs_info_nce
from ftbench.views import view_weights


class Method(method.TwoTower):
    space = method.spaces(
        {"alignment_weight": (0.03, 0.1, 0.3), "primary_share": (0.1, 0.25, 0.5)}, {"primary_share": (0.1, 0.25, 0.5)}
    )
    tuned = {
        "supervised": {"alignment_weight": 0.03},
        "aligned": {"trainer.learning_rate": 0.012, "primary_share": 0.5},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        primary_share: float = 0.25  # of the primary view in a pair's weight, both sides; the others share the rest

    def loss(self, batch, towers, generator):
        chosen = self.views.images[batch.items], self.views.texts[batch.items]  # (b, m), (b, n)
        vectors = [method.encode_views(e, ids) for e, ids in zip((towers.images, towers.texts), chosen, strict=True)]
        self.encoded = list(zip(vectors, chosen, strict=True))
        return self.objective(batch, towers, self.pool("image", *self.encoded[0]), self.pool("text", *self.encoded[1]))

    def alignment(self, batch, towers, image, text):
        both = batch.both
        if both.sum() < 2:
            return image.sum() * 0.0
        views, plans = [], []
        for vectors, ids in self.encoded:
            views.append(vectors[both.to(vectors.device)])
            shares = view_weights(ids[both.numpy()], self.config.primary_share)
            plans.append(torch.from_numpy(shares).to(vectors.device))
        return all_pairs_info_nce(*views, *plans, towers.scale)
