"""Max pooling: each side of an item is the element-wise maximum over all its views, all encoded at every step.

Idea: a trait that a single view shows strongly is kept, where a mean would thin it out (multi-view CNN, Su et al.
2015).
Differs from the paper: there, feature maps of one object's renderings are pooled in the middle of a classifier; here
the towers' unit vectors, per modality, and the two sides then meet as in every two-tower method here.
"""

from dataclasses import dataclass

import torch

from ftbench import method


class Method(method.AllViews):
    tuned = {
        "supervised": {"trainer.learning_rate": 0.006, "alignment_weight": 0.0},
        "aligned": {"trainer.learning_rate": 0.001},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss

    def pool(self, kind, vectors, ids):
        exists = torch.from_numpy(ids >= 0).to(vectors.device)
        highest = vectors.masked_fill(~exists[..., None], -torch.inf).amax(1)  # (n, m, d) -> (n, d)
        return torch.where(exists.any(1, keepdim=True), highest, 0.0)
