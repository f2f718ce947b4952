"""Late interaction over views (after Khattab and Zaharia 2020, ColBERT): an item keeps one vector per view.

Idea: an item is as near to a probe as its best view is, so no view is averaged away; the index holds every view, and
search takes the maximum over an item's views. Training encodes all views and uses a smooth maximum, which gives every
view a gradient.
Differs from the paper: ColBERT's vectors are those of words in a text, a maximum for each word of the query; here they
are those of views, and a probe has one. The smooth maximum, and the set-to-set similarity between an item's images and
texts, the maxima averaged both ways, are ours.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.losses import info_nce
from ftbench.transport import late_interaction, smooth_max
from ftbench.views import view_weights


class Method(method.AllViews):
    space = method.spaces({"smooth": (0.03, 0.1, 0.3)}, {"smooth": (0.03, 0.1, 0.3)})
    tuned = {
        "aligned": {"trainer.learning_rate": 0.012, "trainer.image_rate": 0.1, "smooth": 0.03},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        smooth: float = 0.1  # of the maximum in training, in units of cosine; 0 would be the maximum itself

        def problems(self):
            return [] if self.smooth > 0 else [f"smooth is {self.smooth}, expected more than 0"]

    def pool(self, kind, vectors, ids):
        return vectors  # (b, m, d): nothing is averaged

    def objective(self, batch, towers, image, text):
        tables = self.views.images[batch.items], self.views.texts[batch.items]
        self.shares = [torch.from_numpy(view_weights(ids, None)).to(image.device) for ids in tables]
        if batch.queries is None:
            return self.alignment(batch, towers, image, text)
        items, share = torch.cat([image, text], 1), torch.cat(self.shares, 1)  # (b, v, d), (b, v)
        share = (share > 0) / (share > 0).sum(1, keepdim=True).clamp(min=1)  # all views alike, whatever their kind

        def similarity(queries):
            products = torch.einsum("qd,bvd->qbv", queries, items)
            return smooth_max(products, share, self.config.smooth)

        loss = self.query_terms(batch, towers, similarity, info_nce)
        if self.config.alignment_weight:
            loss = loss + self.config.alignment_weight * self.alignment(batch, towers, image, text)
        return loss

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        a, b = (share[both] for share in self.shares)
        products = torch.einsum("imd,jnd->ijmn", image[both], text[both])
        logits = towers.scale * late_interaction(products, a[:, None], b[None], self.config.smooth)
        return (info_nce(logits) + info_nce(logits.T)) / 2

    def embed(self, views, embedder):
        return method.multi_vector(views, embedder, view_weights(views.images, None), view_weights(views.texts, None))
