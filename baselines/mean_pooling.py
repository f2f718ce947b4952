"""Mean pooling: trained on single views as CLIP is, but an item's vector is the mean over all its views.

Idea: the cheapest way to use auxiliary views, at inference alone.
Differs from the paper: the abstract (arXiv 2512.18117) does not say how its pooling baseline weighs views; here
all alike.
"""

from dataclasses import dataclass

from ftbench import method


class Method(method.TwoTower):
    zero_shot = True

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss

    def loss(self, batch, towers, generator):
        image = towers.images(self.views.images[batch.items, 0])  # (b,) -> (b, d)
        text = towers.texts(self.views.texts[batch.items, 0])
        return self.objective(batch, towers, image, text)
