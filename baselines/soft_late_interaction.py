"""Soft late interaction: a query meets every view of an item, and their products join in a smooth maximum.

Idea: between late interaction, where an item's best view decides, and one vector per item, where all views are averaged
before a query is known: a view counts the more the better it fits, so that several may answer for parts of a query. It
ranks items as a whole index or, dearer in memory, as the second stage of one that keeps one vector per item.
Differs from the paper: Khattab and Zaharia (2020, ColBERT) take the maximum over a text's words for each word of the
query. Here it is over views, for a query of one vector, and smooth in training and at search alike: the value of
semi-relaxed entropic transport from the query to the views, which weigh all alike.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ftbench import method
from ftbench.losses import info_nce
from ftbench.transport import smooth_max, weighted_mean


class Method(method.AllViews):
    space = method.spaces({"smooth": (0.1, 0.3, 1.0)}, {"smooth": (0.1, 0.3, 1.0)})

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        smooth: float = 0.3  # of the maximum, in units of cosine; infinite would be the mean, 0 the maximum itself

        def problems(self):
            return [] if self.smooth > 0 else [f"smooth is {self.smooth}, expected more than 0"]

    def pool(self, kind, vectors, ids):
        return vectors  # (b, m, d): nothing is averaged

    def objective(self, batch, towers, image, text):
        tables = self.views.images[batch.items], self.views.texts[batch.items]
        shares = [torch.from_numpy(own).to(image.device) for own in alike(*tables)]
        means = [weighted_mean(*side) for side in zip((image, text), shares, strict=True)]
        if batch.queries is None:
            return self.alignment(batch, towers, *means)
        views, share = torch.cat([image, text], 1), torch.cat(shares, 1)  # (b, v, d), (b, v)

        def similarity(queries):
            return smooth_max(torch.einsum("qd,bvd->qbv", queries, views), share, self.config.smooth)

        loss = self.query_terms(batch, towers, similarity, info_nce)
        if self.config.alignment_weight:
            loss = loss + self.config.alignment_weight * self.alignment(batch, towers, *means)
        return loss

    def embed(self, views, embedder):
        return method.multi_vector(views, embedder, *alike(views.images, views.texts), self.config.smooth)


def alike(images, texts):
    """Weights (n, m), (n, k) float32 of ids (n, m), (n, k), -1 where there is no view: of an item one by their number
    each, images and texts together; zeros where it has none."""
    exist = images >= 0, texts >= 0
    count = np.maximum(sum(own.sum(axis=1, keepdims=True) for own in exist), 1)
    return [(own / count).astype(np.float32) for own in exist]
