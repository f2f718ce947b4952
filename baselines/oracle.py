"""Oracle: reads the latent attributes that an item's given views reveal. The ceiling of drawn data, never ranked.

Idea: no encoder can know more of an item than its views show; an item scores the number of the query's attributes that
its views reveal with the right value.
Differs from the paper: not in it; a reference line that exists only where a data set knows its latent attributes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ftbench import method


class Method(method.Method):
    ranked = False

    @dataclass(frozen=True)
    class Config:
        reads: Literal["all", "images", "primary"] = "all"  # which of the given views it may read

    def fit(self, train, valid, trainer):
        self.places = {}

    def embed(self, views, embedder):
        rows = [self._known(views, i) for i in range(len(views))]
        for row in rows:
            for pair in row:
                self.places.setdefault(pair, len(self.places))
        vectors = np.zeros((len(rows), 512), dtype=np.float32)
        for vector, row in zip(vectors, rows, strict=True):
            vector[[self.places[pair] for pair in row]] = 1
        return vectors

    def _known(self, views, row):
        """The (attribute, value) pairs that the row's views reveal."""
        images, texts = views.images[row], views.texts[row]
        if self.config.reads == "primary":
            images, texts = images[:1], texts[:1]
        names = {name for i in images if i >= 0 for name in views.assets.image_reveals[i]}
        if self.config.reads != "images" or views.assets.text_names[:1] == ("query",):
            names |= {name for i in texts if i >= 0 for name in views.assets.text_reveals[i]}
        return sorted((name, views.latents[row][name]) for name in names)
