"""Factorized transport (Chen et al., WSDM 2026, arXiv 2512.18117): primary views and one sampled auxiliary each.

Idea: the independent transport plan a bᵀ between an item's views factorizes into weighted view means; training samples
one auxiliary view per modality, so a step costs four encodes whatever the number of views; inference fuses all views.
Differs from the paper: only its abstract was at hand. The rank-one derivation, the shares, the two losses (fused:
InfoNCE of the sampled fused similarity; blocks: four InfoNCE terms weighted by the plan's blocks) and uniform
inference weights are ours.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from ftbench import method
from ftbench.losses import SampledViews, block_info_nce
from ftbench.transport import sample_view, sampled_mean
from ftbench.views import view_weights


class Method(method.TwoTower):
    space = method.spaces(
        {"primary_share": (0.1, 0.25, 0.4), "loss": ("blocks", "fused"), "inference": ("uniform", "matched")},
        {"alignment_share": (0.25, 0.4, 0.5, 0.6), "loss": ("blocks", "fused"), "inference": ("uniform", "matched")},
    )
    tuned = {
        "supervised": {"alignment_weight": 0.3, "inference": "matched"},
        "aligned": {"trainer.learning_rate": 0.012, "trainer.image_rate": 0.1, "inference": "matched"},
    }

    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # a_0 and b_0 in training with queries
        alignment_share: float = 0.5  # a_0 and b_0 in training without
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        loss: Literal["fused", "blocks"] = "blocks"  # form of the image-text loss
        inference: Literal["uniform", "matched"] = "uniform"  # view weights of the item vector
        draws: int = 1  # auxiliary views drawn per modality and step, with replacement; the method's own is 1

        def problems(self):
            return [] if self.draws >= 1 else [f"draws is {self.draws}, expected at least 1"]

    def begin(self, data, towers):
        super().begin(data, towers)
        self.shares = [torch.from_numpy(view_weights(ids, self.share)) for ids in (data.views.images, data.views.texts)]

    @property
    def share(self):
        return self.config.alignment_share if self.track == "aligned" else self.config.primary_share

    def loss(self, batch, towers, generator):
        tables = (self.views.images, towers.images), (self.views.texts, towers.texts)
        sides = []
        for (ids, encode), weights in zip(tables, self.shares, strict=True):
            chosen, weights = ids[batch.items], weights[batch.items]  # (b, m)
            primary = encode(chosen[:, 0])  # (b, d)
            share = weights[:, 0].to(primary.device)
            drawn = [sample_view(weights, generator) for _ in range(self.config.draws)]  # (b,), -1: no auxiliary
            sides.append([SampledViews(primary, encode(_at(chosen, columns)), share) for columns in drawn])
        self.sampled = list(zip(*sides, strict=True))  # one pair of sides per draw
        image, text = (
            torch.stack([sampled_mean(one.primary, one.auxiliary, one.share) for one in side]).mean(0) for side in sides
        )
        return self.objective(batch, towers, image, text)

    def alignment(self, batch, towers, image, text):
        if self.config.loss == "fused":
            return super().alignment(batch, towers, image, text)
        terms = [block_info_nce(*(_rows(side, batch.both) for side in pair), towers.scale) for pair in self.sampled]
        return torch.stack(terms).mean()

    def weights(self, ids):
        return view_weights(ids, None if self.config.inference == "uniform" else self.share)


def _at(ids, columns):
    """The asset of each row's column (b,); -1 where the column is."""
    found = torch.from_numpy(ids).gather(1, columns.clamp(min=0)[:, None])[:, 0]
    return torch.where(columns >= 0, found, -1).numpy()


def _rows(side, kept):
    """The sampled views of some items."""
    kept = kept.to(side.primary.device)
    return replace(side, primary=side.primary[kept], auxiliary=side.auxiliary[kept], share=side.share[kept])
