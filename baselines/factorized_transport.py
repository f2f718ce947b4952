"""Factorized transport (Chen et al., WSDM 2026, arXiv 2512.18117): primary views and one sampled auxiliary each.

Idea: the independent transport plan a bᵀ between an item's views factorizes into weighted view means; training samples
one auxiliary view per modality, so a step costs four encodes whatever the number of views; inference fuses all views.
Differs from the paper: only its abstract was at hand. The rank-one derivation, the shares, the two losses (fused:
InfoNCE of the sampled fused similarity; blocks: four InfoNCE terms weighted by the plan's blocks) and uniform
inference weights are ours.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from ftbench import method
from ftbench.losses import SampledViews, block_info_nce
from ftbench.transport import sample_view, sampled_mean
from ftbench.views import view_weights


class Method(method.TwoTower):
    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # a_0 and b_0 in training with queries; on validation of 0.1, 0.25, 0.4
        alignment_share: float = 0.5  # a_0 and b_0 in training without; on validation of 0.25, 0.4, 0.5, 0.6
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss; on validation of 0, 0.1, 0.3
        loss: Literal["fused", "blocks"] = "blocks"  # form of the image-text loss; on validation, better on both tasks
        inference: Literal["uniform", "matched"] = "uniform"  # view weights of the item vector

    def fit(self, train, valid, trainer):
        self.share = self.config.primary_share if len(train.interactions) else self.config.alignment_share
        return super().fit(train, valid, trainer)

    def begin(self, data, towers):
        super().begin(data, towers)
        self.shares = [torch.from_numpy(view_weights(ids, self.share)) for ids in (data.views.images, data.views.texts)]

    def loss(self, batch, towers, generator):
        self.sampled = []
        tables = (self.views.images, towers.images), (self.views.texts, towers.texts)
        for (ids, encode), weights in zip(tables, self.shares, strict=True):
            chosen, weights = ids[batch.items], weights[batch.items]  # (b, m)
            drawn = sample_view(weights, generator)  # (b,), -1 where an item has no auxiliary
            auxiliary = torch.from_numpy(chosen).gather(1, drawn.clamp(min=0)[:, None])[:, 0]
            auxiliary = torch.where(drawn >= 0, auxiliary, -1)
            primary = encode(chosen[:, 0])  # (b, d)
            self.sampled.append(SampledViews(primary, encode(auxiliary.numpy()), weights[:, 0].to(primary.device)))
        image, text = (sampled_mean(side.primary, side.auxiliary, side.share) for side in self.sampled)
        return self.objective(batch, towers, image, text)

    def alignment(self, towers, image, text):
        if self.config.loss == "blocks":
            return block_info_nce(*self.sampled, towers.scale)
        return super().alignment(towers, image, text)

    def weights(self, ids):
        return view_weights(ids, None if self.config.inference == "uniform" else self.share)
