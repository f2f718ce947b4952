"""Random view: one view of each modality, drawn anew at every step; an item's vector is the mean over all its views.

Idea: CLIP (Radford et al. 2021) with views as augmentation: two encodes per item, and every view is seen in time.
Differs from the paper: CLIP has one picture and one caption per item; drawing among several, the primary one no
likelier than the others, and the mean at inference are ours. A prototype found it the strongest cheap rival.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ftbench import method


class Method(method.TwoTower):
    tuned = {
        "aligned": {"trainer.learning_rate": 0.006, "trainer.image_rate": 0.1},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss

    def loss(self, batch, towers, generator):
        image = towers.images(drawn(self.views.images[batch.items], generator))  # (b, m) -> (b,) -> (b, d)
        text = towers.texts(drawn(self.views.texts[batch.items], generator))
        return self.objective(batch, towers, image, text)


def drawn(ids, generator):
    """One existing asset per row of ids (n, m), each as likely: (n,), -1 where there is none.

    One uniform number per row whatever m, so that padding columns change no draw.
    """
    u = torch.rand(len(ids), generator=generator, dtype=torch.float64).numpy()
    exists = ids >= 0
    wanted = 1 + (u * exists.sum(1)).astype(np.int64)  # the how-manieth of those that exist
    column = (exists.cumsum(1) >= wanted[:, None]).argmax(1)
    return ids[np.arange(len(ids)), column]
