"""Factorized transport with cached views (ours): the sampled scheme, with banked embeddings for the unsampled views.

Idea: a query about the back should not be trained against a sample without the back. A bank keeps the latest embedding
of every training view; a step encodes the primary and one sampled auxiliary view per modality as before, and the fused
vector is over all views: fresh where encoded, banked and detached elsewhere.
Differs from the paper: this method is not in arXiv 2512.18117; it builds on its sampled scheme. The bank's warm-up pass
is paid from the same budget.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ftbench import method
from ftbench.transport import sample_view
from ftbench.views import view_weights

_WARM_UP_BATCH = 1024  # views encoded at a time


class Method(method.TwoTower):
    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # a_0 and b_0 in training; from a pilot on studio's validation split, not swept yet
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss; as single_view_clip
        gradient: Literal["share", "weight"] = "share"  # the sampled view's gradient: of its whole share, or its weight
        inference: Literal["uniform", "matched"] = "uniform"  # view weights of the item vector

    def begin(self, data, towers):
        super().begin(data, towers)
        self.shares, self.banks = [], []
        for ids, encode in ((data.views.images, towers.images), (data.views.texts, towers.texts)):
            self.shares.append(torch.from_numpy(view_weights(ids, self.config.primary_share)))
            flat = ids.reshape(-1)
            parts = [encode(flat[i : i + _WARM_UP_BATCH]) for i in range(0, len(flat), _WARM_UP_BATCH)]
            self.banks.append(torch.cat(parts).view(*ids.shape, -1))  # (n * m,) -> (n, m, d)

    def loss(self, batch, towers, generator):
        sides = []
        tables = (self.views.images, towers.images), (self.views.texts, towers.texts)
        for (ids, encode), weights, bank in zip(tables, self.shares, self.banks, strict=True):
            sides.append(self._side(batch.items, ids, weights, bank, encode, generator))
        return self.objective(batch, towers, *sides)

    def _side(self, items, ids, shares, bank, encode, generator):
        """The fused side (b, d) of a batch: a forward value over all views, a gradient through the encoded ones."""
        weights = shares[items]  # (b, m)
        drawn = sample_view(weights, generator)  # (b,), -1 where an item has no auxiliary
        rows, column = torch.from_numpy(items), drawn.clamp(min=0)
        chosen = ids[items, column.numpy()]
        primary = encode(ids[items, 0])  # (b, d)
        auxiliary = encode(np.where(drawn.numpy() >= 0, chosen, -1))
        with torch.no_grad():
            there = drawn >= 0
            bank[rows, 0] = primary
            bank[rows[there], column[there]] = auxiliary[there.to(auxiliary.device)]
        weights = weights.to(primary.device)
        value = torch.einsum("bm,bmd->bd", weights, bank[rows])
        share = weights[:, :1]
        other = 1 - share if self.config.gradient == "share" else weights.gather(1, column.to(weights.device)[:, None])
        return value + share * (primary - primary.detach()) + other * (auxiliary - auxiliary.detach())

    def weights(self, ids):
        return view_weights(ids, None if self.config.inference == "uniform" else self.config.primary_share)
