"""Sigmoid loss for image-text pairs (SigLIP, Zhai et al. 2023, arXiv 2303.15343), on fused views.

Idea: every pair of a batch is a yes-or-no question of its own, no softmax over the batch; all views of an item are
encoded at every step and their mean is what meets.
Differs from the paper: sides are means over views; queries meet item vectors by the same loss, pairs of the same query
text left out; and the learned bias starts as a share of the scale. The paper's -10 at scale 10 is a share of 1, but a
foundation's scale is 35 to 100, where an absolute -10 leaves the negatives to swamp the loss.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ftbench import method
from ftbench.losses import sigmoid_loss


class Method(method.AllViews):
    space = method.spaces({"bias_share": (0.4, 0.6, 0.8, 1.0)}, {"bias_share": (0.4, 0.6, 0.8, 1.0)})
    tuned = {
        "aligned": {"bias_share": 0.4},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        bias_share: float = 0.6  # the bias starts at minus this times the scale; the paper's start is 1

    def begin(self, data, towers):
        super().begin(data, towers)
        self.bias = torch.nn.Parameter(-self.config.bias_share * towers.scale.detach().clone())

    def learned(self):
        return (self.bias,)

    def query_loss(self, batch, towers, items):
        return self.query_terms(
            batch,
            towers,
            lambda queries: queries @ items.T,
            lambda logits, same: sigmoid_loss(logits + self.bias, same),
        )

    def alignment(self, batch, towers, image, text):
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        logits = towers.scale * F.normalize(image[both], dim=-1) @ F.normalize(text[both], dim=-1).T
        return sigmoid_loss(logits + self.bias)
