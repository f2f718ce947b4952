"""Text concatenation: all of an item's texts as one, and its primary image: CLIP (Radford et al. 2021) on a whole text.

Idea: what many shops do: title, tags and description go through the text tower once, as one string.
Differs from the paper: CLIP has one caption; joining is ours: the primary text, then the others, shortest first, so
that what a tower's context cuts is the end of the longest. `tiny` reads 19 words (of studio 0.5% are lost; its
tower is a mean of word vectors, so order does not matter otherwise), `lite` 256 word pieces.
"""

from dataclasses import dataclass, replace

import numpy as np

from ftbench import method
from ftbench.views import view_weights


class Method(method.TwoTower):
    tuned = {
        "aligned": {"trainer.learning_rate": 0.001},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss

    def __init__(self, config=None):
        super().__init__(config)
        self.known = {}

    def joined(self, views):
        """The same items with one text each, (n, 1), in assets of their own."""
        rows = [join([views.assets.texts[i] for i in ids[ids >= 0]]) for ids in views.texts]
        texts = tuple(dict.fromkeys(text for text in rows if text is not None))
        places = {text: i for i, text in enumerate(texts)} | {None: -1}
        ids = np.array([places[text] for text in rows], dtype=np.int64)[:, None]
        each = {"text_names": ("text",) * len(texts), "text_reveals": ((),) * len(texts)}
        return replace(views, assets=replace(views.assets, texts=texts, text_sha256=(), **each), texts=ids)

    def fit(self, train, valid, trainer):
        return trainer.train(self, replace(train, views=self.joined(train.views)))

    def loss(self, batch, towers, generator):
        image = towers.images(self.views.images[batch.items, 0])  # (b,) -> (b, d)
        text = towers.texts(self.views.texts[batch.items, 0])
        return self.objective(batch, towers, image, text)

    def weights(self, ids):
        return view_weights(ids, 1.0)

    def side(self, kind, views, embedder):
        if kind == "text":
            views = self.joined(views)
            # an embedder knows assets by identity: equal texts are encoded once
            views = replace(views, assets=self.known.setdefault(views.assets.texts, views.assets))
        return super().side(kind, views, embedder)


def join(texts):
    """One text of several, the first first, the others by length; None of none."""
    return " ".join([*texts[:1], *sorted(texts[1:], key=len)]) if texts else None
