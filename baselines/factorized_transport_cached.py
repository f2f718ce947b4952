"""Factorized transport with cached views (ours): the sampled scheme, with banked embeddings for the unsampled views.

Idea: a query about the back should not be trained against a sample without the back. A bank keeps the latest embedding
of every training view; a step encodes the primary and one sampled auxiliary view per modality as before, and the fused
vector is over all views: fresh where encoded, banked and detached elsewhere. A view's weight is its share times what a
learned gate says of it (weighting). In the image-text loss the encoded views meet each other as in factorized transport
(blocks), each meets the other modality's fused vector (views), or the two fused vectors meet (fused); beside it each
encoded view meets the rest of its item, as in cross_view (a gate's gradient there keeps the view's own weight, as does
a view drawn twice; the value does not). Study cached-options tried each option; `tuned` is what searches chose instead.
Differs from the paper: not in arXiv 2512.18117, but built on its sampled scheme. The budget pays the bank's warm-up and
refreshes. A sampled view's gradient over its probability is unbiased for the gradient of the fused vector's value.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from ftbench import method
from ftbench.losses import SampledViews, block_info_nce, info_nce, symmetric_info_nce
from ftbench.transport import sample_view, weighted_mean
from ftbench.views import view_weights

_WARM_UP_BATCH = 1024  # views encoded at a time
_MINE_EVERY = 50  # steps between two looks for hard negatives over all training items


class Method(method.TwoTower):
    space = method.spaces(
        {"primary_share": (0.1, 0.25, 0.4), "loss": ("views", "fused", "blocks")},
        {"alignment_share": (0.4, 0.5, 0.6), "loss": ("views", "blocks"), "rest_weight": (0.0, 0.3, 1.0),
         "weighting": ("share", "gate")},
    )  # fmt: skip
    tuned = {
        "aligned": {"trainer.learning_rate": 0.03, "trainer.image_rate": 0.1, "loss": "views", "rest_weight": 1.0,
                    "weighting": "share"}}  # fmt: skip

    @dataclass(frozen=True)
    class Config:
        primary_share: float = 0.25  # a_0 and b_0 in training with queries
        alignment_share: float = 0.5  # a_0 and b_0 in training without
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        loss: Literal["views", "fused", "blocks"] = "blocks"  # form of the image-text loss
        blocks_weight: float = 0.0  # of factorized transport's four terms beside that form
        rest_weight: float = 0.3  # of the encoded views against the rest of their items, both modalities, beside it
        weighting: Literal["share", "slot", "gate"] = "gate"  # by share; times a learned factor per slot, or per view
        sampling: Literal["weight", "uniform"] = "weight"  # probability of an auxiliary view
        gradient: Literal["share", "weight"] = "share"  # divided by that probability, or of the view's weight alone
        draws: int = 1  # auxiliary views drawn per modality and step, with replacement
        refresh: int = 0  # further views per item, modality and step that are banked anew, without gradient
        view_dropout: float = 0.0  # probability that a banked view is left out of a step's fused vector
        hard_negatives: int = 0  # mined per query from the bank
        hard_margin: float = 0.05  # an item of the bank less than this cosine below the positive may match, too
        inference: Literal["uniform", "matched"] = "matched"  # view weights of the item vector

        def problems(self):
            least = {"draws": 1, "refresh": 0, "hard_negatives": 0, "blocks_weight": 0, "rest_weight": 0}
            found = [
                f"{k} is {getattr(self, k)}, expected at least {n}" for k, n in least.items() if getattr(self, k) < n
            ]
            ok = 0 <= self.view_dropout < 1
            return found + ([] if ok else [f"view_dropout is {self.view_dropout}, expected a probability below 1"])

    @property
    def share(self):
        return self.config.alignment_share if self.track == "aligned" else self.config.primary_share

    def begin(self, data, towers):
        super().begin(data, towers)
        self.sides = [
            _Side("image", data.views.images, towers.images),
            _Side("text", data.views.texts, towers.texts),
        ]
        self.step, self.factors = 0, {}
        for side in self.sides:
            side.shares = torch.from_numpy(view_weights(side.ids, self.share))
            width = towers.encoder.dimensions if self.config.weighting == "gate" else side.ids.shape[1]
            self.factors[side.kind] = torch.nn.Parameter(torch.zeros(width, device=towers.device))
        self.mined = None

    def learned(self):
        return () if self.config.weighting == "share" else tuple(self.factors.values())

    def loss(self, batch, towers, generator):
        self.sampled, self.encoded = [], []
        fused = [self._fused(side, batch.items, generator) for side in self.sides]
        self.step += 1
        return self.objective(batch, towers, *fused)

    def _weighted(self, kind, vectors, weights):
        """View weights (n, m) times learned factors, summing to 1 again; vectors (n, m, d) are what a gate looks at."""
        if self.config.weighting == "share":
            return weights
        factor = self.factors[kind]
        logits = factor[: weights.shape[1]] if self.config.weighting == "slot" else vectors @ factor  # (m,) or (n, m)
        return torch.where(weights > 0, logits + weights.clamp(min=1e-9).log(), -1e9).softmax(1) * (weights > 0)

    def _fused(self, side, items, generator):
        """The fused side (b, d) of a batch: a forward value over all views, a gradient through the encoded ones."""
        config, rows = self.config, torch.from_numpy(items)
        ids, shares = side.ids[items], side.shares[items]  # (b, m)
        if config.view_dropout:
            kept = torch.rand(shares.shape, generator=generator) >= config.view_dropout
            kept[:, 0] = True
            shares = shares * kept / (shares * kept).sum(1, keepdim=True).clamp(min=1e-9)
        bank = side.bank[rows]  # (b, m, d)
        shares = shares.to(bank.device)
        weights = self._weighted(side.kind, bank, shares)
        chances = weights.detach() if config.sampling == "weight" else (shares > 0).to(shares.dtype)
        chances = torch.cat([chances[:, :1] * 0, chances[:, 1:]], 1).cpu()
        chances = chances / chances.sum(1, keepdim=True).clamp(min=1e-9)
        drawn = [sample_view(chances, generator) for _ in range(config.draws)]  # (b,), -1 where there is no auxiliary
        primary = side.encode(ids[:, 0])  # (b, d)
        auxiliaries = [side.encode(np.where(c.numpy() >= 0, _at(ids, c.clamp(min=0)), -1)) for c in drawn]
        with torch.no_grad():
            side.bank[rows, 0] = primary
            for columns, vectors in zip(drawn, auxiliaries, strict=True):
                self._put(side, rows, columns, vectors)
            for _ in range(config.refresh):
                columns = sample_view(chances, generator)
                self._put(
                    side, rows, columns, side.encode(np.where(columns.numpy() >= 0, _at(ids, columns.clamp(min=0)), -1))
                )
        weights = self._weighted(side.kind, side.bank[rows], shares)
        fused = weighted_mean(side.bank[rows], weights)  # (b, m, d), (b, m) -> (b, d)
        fixed = weights.detach()
        fused = fused + fixed[:, :1] * (primary - primary.detach())
        taken = []
        for columns, vectors in zip(drawn, auxiliaries, strict=True):
            own = columns.clamp(min=0)[:, None]
            part = fixed.gather(1, own.to(fixed.device))
            if config.gradient == "share":
                part = part / chances.gather(1, own).clamp(min=1e-9).to(part.device)
            part = torch.where((columns >= 0)[:, None].to(part.device), part, 0) / config.draws
            fused = fused + part * (vectors - vectors.detach())
            taken.append(part)
        there = (drawn[0] >= 0).to(fixed.device)
        self.sampled.append(
            [SampledViews(primary, vectors, torch.where(there, fixed[:, 0], 1)) for vectors in auxiliaries]
        )
        self.encoded += [(side.kind, primary, fixed[:, 0], fixed[:, :1], torch.from_numpy(ids[:, 0] >= 0))]
        for columns, vectors, part in zip(drawn, auxiliaries, taken, strict=True):
            own = fixed.gather(1, columns.clamp(min=0)[:, None].to(fixed.device))[:, 0]
            self.encoded.append((side.kind, vectors, own, part, columns >= 0))
        return fused

    @staticmethod
    def _put(side, rows, columns, vectors):
        there = columns >= 0
        side.bank[rows[there], columns[there]] = vectors[there.to(vectors.device)].detach()

    def query_loss(self, batch, towers, items):
        if not self.config.hard_negatives:
            return super().query_loss(batch, towers, items)
        if self.mined is None or self.step % _MINE_EVERY == 0:
            with torch.no_grad():
                sides = [
                    weighted_mean(s.bank, self._weighted(s.kind, s.bank, s.shares.to(s.bank.device)))
                    for s in self.sides
                ]
                self.mined = method.item_vector(*sides, F.normalize)  # (n, d)
        own = torch.zeros(len(self.mined), dtype=torch.bool, device=items.device)
        own[torch.from_numpy(batch.items)] = True

        def similarity(queries):
            scores = queries @ items.T  # (b, b)
            with torch.no_grad():
                everywhere = queries @ self.mined.T  # (b, n)
                limit = (queries * items).sum(1, keepdim=True) - self.config.hard_margin
                everywhere = everywhere.masked_fill(own[None] | (everywhere > limit), -torch.inf)
                values, chosen = everywhere.topk(min(self.config.hard_negatives, len(self.mined)), dim=1)
            hard = torch.einsum("bd,bhd->bh", queries, self.mined[chosen])
            return torch.cat([scores, hard.masked_fill(values == -torch.inf, -1e4)], 1)  # (b, b + h)

        def loss(logits, same):
            return info_nce(logits, F.pad(same, (0, logits.shape[1] - same.shape[1])))

        return self.query_terms(batch, towers, similarity, loss)

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        pairs = [tuple(_rows(side, both) for side in pair) for pair in zip(*self.sampled, strict=True)]
        if self.config.loss == "fused":
            loss = super().alignment(batch, towers, image, text)
        elif self.config.loss == "blocks":
            loss = torch.stack([block_info_nce(*pair, towers.scale) for pair in pairs]).mean()
        else:
            fused = F.normalize(text[both], dim=-1), F.normalize(image[both], dim=-1)
            loss = torch.stack([_views_loss(pair, fused, towers.scale) for pair in pairs]).mean()
        if self.config.rest_weight:
            loss = loss + self.config.rest_weight * self._rest_loss(batch, towers, image, text)
        if self.config.blocks_weight:
            four = torch.stack([block_info_nce(*pair, towers.scale) for pair in pairs]).mean()
            loss = loss + self.config.blocks_weight * four
        return loss

    def _rest_loss(self, batch, towers, image, text):
        """Each encoded view against the vectors of all other views of the items: what is left when it searches."""
        terms = []
        for kind, vectors, weights, part, there in self.encoded:
            kept = (there & batch.both).to(vectors.device)
            own, other = (image, text) if kind == "image" else (text, image)
            # of an item whose only view of this kind it is, nothing of the kind is left but rounding
            rest = own - weights[:, None] * vectors.detach() - part * (vectors - vectors.detach())
            left = torch.where(weights[:, None] < 1 - 1e-4, rest, 0.0)
            if kept.sum() > 1:
                rest = method.item_vector(left, other, F.normalize)
                terms.append(symmetric_info_nce(vectors[kept], rest[kept], towers.scale))
        return torch.stack(terms).mean()

    def weights(self, ids):
        return view_weights(ids, None if self.config.inference == "uniform" else self.share)

    def pool(self, kind, vectors, ids):
        weights = torch.from_numpy(self.weights(ids)).to(vectors.device)
        if self.config.inference == "matched":
            weights = self._weighted(kind, vectors, weights)
        return weighted_mean(vectors, weights)


class _Side:
    """One modality of the training items: ids (n, m), the bank (n, m, d) of their latest vectors, shares (n, m)."""

    def __init__(self, kind, ids, encode):
        self.kind, self.ids, self.encode, self.shares = kind, ids, encode, None
        flat = ids.reshape(-1)
        parts = [encode(flat[i : i + _WARM_UP_BATCH]) for i in range(0, len(flat), _WARM_UP_BATCH)]
        self.bank = torch.cat(parts).view(*ids.shape, -1)  # (n * m,) -> (n, m, d)


def _at(ids, columns):
    """The asset of each row's column (b,)."""
    return torch.from_numpy(ids).gather(1, columns[:, None])[:, 0].numpy()


def _rows(side, kept):
    return SampledViews(side.primary[kept], side.auxiliary[kept], side.share[kept])


def _views_loss(pair, others, scale):
    """Each encoded view against the other modality's fused vectors; items without an auxiliary have no term for it."""
    total = 0.0
    for side, other in zip(pair, others, strict=True):
        total = total + symmetric_info_nce(side.primary, other, scale)
        there = side.share < 1
        if there.any():
            total = total + symmetric_info_nce(side.auxiliary[there], other[there], scale)
    return total / 4
