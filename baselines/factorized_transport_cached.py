"""Factorized transport with cached views (ours): the sampled scheme, with banked embeddings for the unsampled views.

Idea: a query about the back should not be trained against a sample without the back. A bank keeps the latest embedding
of every training view; a step encodes the primary and one sampled auxiliary view per modality as before, and the fused
vector is over all views: fresh where encoded, banked and detached elsewhere. In the image-text loss each encoded view
meets the other modality's fused vector (views), or the two fused vectors meet (fused).
Differs from the paper: this method is not in arXiv 2512.18117; it builds on its sampled scheme. The bank's warm-up pass
is paid from the same budget.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from ftbench import method
from ftbench.losses import SampledViews, symmetric_info_nce
from ftbench.transport import sample_view, weighted_mean
from ftbench.views import view_weights

_WARM_UP_BATCH = 1024  # views encoded at a time


class Method(method.TwoTower):
    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # a_0 and b_0 in training with queries; on validation of 0.1, 0.25, 0.4
        alignment_share: float = 0.5  # a_0 and b_0 in training without; on validation of 0.25, 0.5
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss; as factorized_transport
        loss: Literal["fused", "views"] = "views"  # form of the image-text loss; on validation, better on both tasks
        gradient: Literal["share", "weight"] = "share"  # the sampled view's gradient: of its whole share, or its weight
        inference: Literal["uniform", "matched"] = "uniform"  # view weights of the item vector

    def fit(self, train, valid, trainer):
        self.share = self.config.primary_share if len(train.interactions) else self.config.alignment_share
        return super().fit(train, valid, trainer)

    def begin(self, data, towers):
        super().begin(data, towers)
        self.shares, self.banks = [], []
        for ids, encode in ((data.views.images, towers.images), (data.views.texts, towers.texts)):
            self.shares.append(torch.from_numpy(view_weights(ids, self.share)))
            flat = ids.reshape(-1)
            parts = [encode(flat[i : i + _WARM_UP_BATCH]) for i in range(0, len(flat), _WARM_UP_BATCH)]
            self.banks.append(torch.cat(parts).view(*ids.shape, -1))  # (n * m,) -> (n, m, d)

    def loss(self, batch, towers, generator):
        self.sampled, fused = [], []
        tables = (self.views.images, towers.images), (self.views.texts, towers.texts)
        for (ids, encode), weights, bank in zip(tables, self.shares, self.banks, strict=True):
            fused.append(self._side(batch.items, ids, weights, bank, encode, generator))
        return self.objective(batch, towers, *fused)

    def _side(self, items, ids, shares, bank, encode, generator):
        """The fused side (b, d) of a batch: a forward value over all views, a gradient through the encoded ones."""
        weights = shares[items]  # (b, m)
        drawn = sample_view(weights, generator)  # (b,), -1 where an item has no auxiliary
        rows, column, there = torch.from_numpy(items), drawn.clamp(min=0), drawn >= 0
        primary = encode(ids[items, 0])  # (b, d)
        auxiliary = encode(np.where(there.numpy(), ids[items, column.numpy()], -1))
        with torch.no_grad():
            bank[rows, 0] = primary
            bank[rows[there], column[there]] = auxiliary[there.to(auxiliary.device)]
        weights = weights.to(primary.device)
        share = weights[:, :1]
        other = 1 - share if self.config.gradient == "share" else weights.gather(1, column.to(weights.device)[:, None])
        self.sampled.append(SampledViews(primary, auxiliary, share[:, 0]))
        value = weighted_mean(bank[rows], weights)  # (b, m, d), (b, m) -> (b, d)
        return value + share * (primary - primary.detach()) + other * (auxiliary - auxiliary.detach())

    def alignment(self, towers, image, text):
        if self.config.loss == "fused":
            return super().alignment(towers, image, text)
        total = 0.0
        for side, other in zip(self.sampled, (F.normalize(text, dim=-1), F.normalize(image, dim=-1)), strict=True):
            total = total + symmetric_info_nce(side.primary, other, towers.scale)
            there = side.share < 1  # 1: no auxiliary
            if there.any():
                total = total + symmetric_info_nce(side.auxiliary[there], other[there], towers.scale)
        return total / 4

    def weights(self, ids):
        return view_weights(ids, None if self.config.inference == "uniform" else self.share)
