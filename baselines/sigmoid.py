"""Sigmoid loss for image-text pairs (SigLIP, Zhai et al. 2023, arXiv 2303.15343), on fused views.

Idea: every pair of a batch is a yes-or-no question of its own, no softmax over the batch; all views of an item are
encoded at every step and their mean is what meets.
Differs from the paper: sides are means over views; queries meet item vectors by the same loss, pairs of the same query
text left out; and the bias is a learned share of the learned scale. The paper's -10 at scale 10 is a share of 1, but a
foundation's scale is 35 to 100, where an absolute -10 leaves the negatives to swamp the loss, and steps of the size
that suits the towers would not move an absolute bias.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ftbench import method
from ftbench.losses import sigmoid_loss


class Method(method.AllViews):
    space = method.spaces({"bias_share": (0.4, 0.6, 0.8, 1.0)}, {"bias_share": (0.4, 0.6, 0.8, 1.0)})
    tuned = {
        "aligned": {"trainer.learning_rate": 0.006, "trainer.image_rate": 0.1, "bias_share": 0.4},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        bias_share: float = 0.6  # the bias is minus this times the scale, to begin with; the paper's start is 1

    def begin(self, data, towers):
        super().begin(data, towers)
        self.share = torch.nn.Parameter(torch.tensor(self.config.bias_share, device=towers.device))

    def learned(self):
        return (self.share,)

    def query_loss(self, batch, towers, items):
        return self.query_terms(
            batch,
            towers,
            lambda queries: queries @ items.T,
            lambda logits, same: sigmoid_loss(logits - towers.scale * self.share, same),
        )

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        logits = towers.scale * F.normalize(image[both], dim=-1) @ F.normalize(text[both], dim=-1).T
        return sigmoid_loss(logits - towers.scale * self.share)
