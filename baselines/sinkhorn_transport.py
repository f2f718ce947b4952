"""Entropic optimal transport between view sets (Cuturi 2013, Sinkhorn Distances): every view meets every view.

Idea: two items are as alike as the best plan that carries the images of one to the texts of the other makes them; the
plan is solved for each pair of a batch. It is what factorized transport (Chen et al., WSDM 2026) approximates by its
independent plan, at the price of all views and all pairs.
Differs from the paper: Cuturi compares histograms; here the sets are an item's views, the loss is InfoNCE of the
transport values less epsilon KL(plan || a b^T), whose gradient is the plan (envelope theorem). A single text as a query
leaves no choice of plan but an item's own weights, so the query loss is on weighted view means. `multi` searches all
views by semi-relaxed transport, epsilon log sum_v w_v exp(<q, v> / epsilon).
"""

from dataclasses import dataclass
from typing import Literal

import torch

from ftbench import method
from ftbench.losses import info_nce
from ftbench.transport import entropic_value, exact_plan, independent_plan, sinkhorn, weighted_mean
from ftbench.views import view_weights

_TOLERANCE = 1e-3  # of the plan's marginals, in shares of an item


class Method(method.TwoTower):
    # without an image-text loss there is no plan to solve, so its weight is never 0 here; queries meet weighted means
    # in training, so that is how they search
    space = method.spaces(
        {"alignment_weight": (0.03, 0.1, 0.3), "epsilon": (0.03, 0.1, 0.3), "primary_share": (0.1, 0.25, 0.4)},
        {"epsilon": (0.03, 0.1, 0.3), "primary_share": (0.25, 0.4, 0.6), "inference": ("fused", "multi")},
    )  # fmt: skip
    tuned = {
        "supervised": {"alignment_weight": 0.03, "epsilon": 0.03, "primary_share": 0.1},
        "aligned": {"trainer.learning_rate": 0.03, "epsilon": 0.03, "primary_share": 0.6, "inference": "multi"},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        plan: Literal["sinkhorn", "independent", "exact"] = "sinkhorn"  # epsilon as given, infinite, 0 (needs POT)
        epsilon: float = 0.1  # of the entropy, in units of cosine; 0.01 is nearly exact and takes 100s of iterations
        iterations: int = 300  # at most; fewer where the marginals are met before
        primary_share: float = 0.25  # of the primary image and of the title in their marginals
        inference: Literal["fused", "multi"] = "fused"  # one weighted mean per item, or all of its views

        def problems(self):
            found = [] if self.epsilon > 0 else [f"epsilon is {self.epsilon}, expected more than 0 (0: plan=exact)"]
            return found + ([] if self.iterations >= 1 else [f"iterations is {self.iterations}, expected at least 1"])

    def weights(self, ids):
        return view_weights(ids, self.config.primary_share)

    def loss(self, batch, towers, generator):
        self.sets = []  # of images and of texts, what transport is between: vectors (b, m, d), weights (b, m)
        for ids, encode in ((self.views.images, towers.images), (self.views.texts, towers.texts)):
            chosen = ids[batch.items]
            vectors = method.encode_views(encode, chosen)
            self.sets.append((vectors, torch.from_numpy(self.weights(chosen)).to(vectors.device)))
        return self.objective(batch, towers, *(weighted_mean(*side) for side in self.sets))

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        (v, a), (t, b) = ([part[both] for part in side] for side in self.sets)
        similarity = torch.einsum("imd,jnd->ijmn", v, t)
        value = self.similarity(similarity, a[:, None], b[None])  # (b, b, M, N) -> (b, b)
        logits = towers.scale * value
        return (info_nce(logits) + info_nce(logits.T)) / 2

    def similarity(self, similarity, a, b):
        """The value of transport (..., M, N) -> (...) by the configured plan, differentiable in `similarity`."""
        config, epsilon = self.config, 0.0
        with torch.no_grad():
            if config.plan == "independent":
                plan = independent_plan(a, b)
            elif config.plan == "exact":
                plan = exact_plan(similarity, a, b)
            else:
                epsilon, limits = config.epsilon, {"iterations": config.iterations, "tolerance": _TOLERANCE}
                plan = sinkhorn(similarity, a, b, epsilon, **limits)
        return entropic_value(plan, similarity, a, b, epsilon)

    def embed(self, views, embedder):
        if self.config.inference == "multi":
            shares = self.weights(views.images), self.weights(views.texts)
            return method.multi_vector(views, embedder, *shares, self.config.epsilon)
        return super().embed(views, embedder)
