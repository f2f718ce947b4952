"""Mean pooling with all views encoded at every step: the linear-cost reference.

Idea: train exactly what inference uses, and pay for every view of every item in every batch.
Differs from the paper: not named in its abstract (arXiv 2512.18117); the upper end that constant cost is
measured against.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.transport import weighted_mean
from ftbench.views import view_weights


class Method(method.TwoTower):
    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.0  # of the image-text loss beside the query loss; on validation of 0, 0.1, 0.3

    def loss(self, batch, towers, generator):
        sides = []
        for ids, encode in ((self.views.images, towers.images), (self.views.texts, towers.texts)):
            chosen = ids[batch.items]  # (b, m)
            vectors = encode(chosen.reshape(-1)).view(*chosen.shape, -1)  # (b * m,) -> (b, m, d)
            weights = torch.from_numpy(view_weights(chosen, None)).to(vectors.device)
            sides.append(weighted_mean(vectors, weights))  # (b, m, d), (b, m) -> (b, d)
        return self.objective(batch, towers, *sides)
