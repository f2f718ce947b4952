"""Attention pooling: views weighed by a learned attention (pooling by multihead attention, Lee et al. 2019).

Idea: a learned seed per modality and head looks at an item's views; a softmax makes views compete, and a view that is
uninformative can be left out. It starts as the uniform mean.
Differs from the paper: one seed; keys are the views times a learned matrix, folded into the seed; values are slices of
the views themselves, without projection, feed-forward layer or normalisation, so that a single view gives itself and
queries keep their vectors. Unlike gated fusion the logits are linear in the view, each head weighs its own slice of the
vector, and weights depend on the other views through the softmax alone.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.errors import RunError


class Method(method.AllViews):
    space = method.spaces({"heads": (1, 4), "gain": (1.0, 10.0)}, {"heads": (1, 4), "gain": (1.0, 10.0)})
    seeds = None  # what training makes; without it weights are uniform
    tuned = {
        "supervised": {"trainer.learning_rate": 0.006, "alignment_weight": 0.0},
        "aligned": {"trainer.learning_rate": 0.012, "gain": 1.0},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        heads: int = 4  # slices of the vector with weights of their own; Lee et al. use 4
        gain: float = 10.0  # of the logits; vectors have length 1, where layer-normed ones would have sqrt(d), about 10

        def problems(self):
            return [] if self.heads >= 1 else [f"heads is {self.heads}, expected at least 1"]

    def begin(self, data, towers):
        super().begin(data, towers)
        width, heads = towers.encoder.dimensions, self.config.heads
        if width % heads:
            raise RunError(
                f"attention_pooling: {heads} heads given, expected a divisor of {width}, the width of "
                f"{towers.encoder.name}'s vectors. Try: --set heads=1"
            )
        self.seeds = {
            kind: torch.nn.Parameter(torch.zeros(width, heads, device=towers.device)) for kind in ("image", "text")
        }

    def learned(self):
        return tuple(self.seeds.values())

    def pool(self, kind, vectors, ids):
        exists = torch.from_numpy(ids >= 0).to(vectors.device)[..., None]  # (n, m, 1)
        if self.seeds is None or not exists.any():
            return super().pool(kind, vectors, ids)
        logits = self.config.gain * (vectors @ self.seeds[kind])  # (n, m, d) @ (d, h) -> (n, m, h)
        weights = logits.masked_fill(~exists, -1e30).softmax(1)  # of an item without views: even, over zero rows
        slices = vectors.unflatten(-1, (self.config.heads, -1))  # (n, m, h, d / h)
        return (weights[..., None] * slices).sum(1).flatten(1)  # -> (n, h, d / h) -> (n, d)
