"""Single-view CLIP (Radford et al. 2021): primary image and title alone, in training and at inference.

Idea: what a shop gets that treats a listing as one picture with one caption.
Differs from the paper: the baseline of the factorized transport paper, built from its abstract (arXiv 2512.18117).
"""

from dataclasses import dataclass

from ftbench import method
from ftbench.views import view_weights


class Method(method.TwoTower):
    zero_shot = True
    tuned = {
        "supervised": {"trainer.learning_rate": 0.006},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss

    def loss(self, batch, towers, generator):
        image = towers.images(self.views.images[batch.items, 0])  # (b,) -> (b, d)
        text = towers.texts(self.views.texts[batch.items, 0])
        return self.objective(batch, towers, image, text)

    def weights(self, ids):
        return view_weights(ids, 1.0)
