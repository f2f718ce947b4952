"""Generalized contrastive learning (Zhu, Jung and Clark 2024, Marqo, arXiv 2404.08535): weighted fields on both sides.

Idea: a document is the weighted average of its fields' embeddings, one vector before the loss and in the index alike;
the fields' weights are settings, not learned.
Differs from the paper: its other half, terms of the loss weighted by graded relevance, has nothing to weigh here, as
interactions come without grades: every weight is 1. Queries have one field. Fields are the primary image, the auxiliary
images, the title, and the other texts; without queries the images' average meets the texts'. Weights are ours; queries
look for items, items do not look for queries.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.transport import weighted_mean
from ftbench.views import view_weights

_FIELDS = {"primary_image_share": (0.1, 0.25, 0.5), "primary_text_share": (0.33, 0.5)}


class Method(method.AllViews):
    space = method.spaces(_FIELDS | {"image_share": (0.35, 0.5, 0.65)}, _FIELDS | {"image_share": (0.35, 0.5, 0.65)})
    tuned = {
        "supervised": {
            "trainer.learning_rate": 0.006,
            "alignment_weight": 0.0,
            "primary_text_share": 0.33,
            "image_share": 0.65,
        },
        "aligned": {
            "trainer.learning_rate": 0.006,
            "trainer.image_rate": 0.1,
            "primary_image_share": 0.5,
            "primary_text_share": 0.33,
        },
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        image_share: float = 0.5  # weight of all images in an item's vector; texts have the rest
        primary_image_share: float = 0.25  # of the primary image among the images; auxiliaries share the rest
        primary_text_share: float = 0.5  # of the title among the texts; the other texts share the rest

        def problems(self):
            ok = 0 < self.image_share < 1  # a query is a text alone, an image probe an image alone
            return [] if ok else [f"image_share is {self.image_share}, expected a share between 0 and 1, neither"]

    def pool(self, kind, vectors, ids):
        share = self.config.primary_image_share if kind == "image" else self.config.primary_text_share
        return weighted_mean(vectors, torch.from_numpy(view_weights(ids, share)).to(vectors.device))

    def fuse(self, image, text, normalize):
        return normalize(self.config.image_share * image + (1 - self.config.image_share) * text)
