"""Oracle: reads the latent attributes that an item's given views reveal. The ceiling of drawn data, never ranked.

Idea: no encoder can know more of an item than its views show. A query ranks items by their expected gain, an attribute
that no view reveals being any of its values alike; a view ranks items by the likelihood that they are its own: one
revealed attribute that disagrees rules an item out, one that agrees counts by how many values it might have had.
Differs from the paper: not in it; a reference line that exists only where a data set knows its latent attributes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ftbench import method

_RULED_OUT = 1000.0  # more than all agreements together can add


class Method(method.Method):
    ranked = False
    lexical = True

    @dataclass(frozen=True)
    class Config:
        reads: Literal["primary", "images", "texts", "all"] = "all"  # of an item's given views: those it may read

    def score(self, probes, gallery):
        names = sorted({name for row in gallery.latents for name in row})
        asks_query = probes.assets.text_names[:1] == ("query",)
        shape = len(probes), len(gallery)
        likelihood, whole, but_one = np.zeros(shape), np.ones(shape), np.zeros(shape)
        for name in names:
            values = {value: code for code, value in enumerate(sorted({row[name] for row in gallery.latents}))}
            asked = self._codes(name, values, probes, "all")[:, None]  # (q, 1), -1 where not revealed
            known = self._codes(name, values, gallery, self.config.reads)[None, :]  # (1, n)
            both, agree = (asked >= 0) & (known >= 0), asked == known
            likelihood += np.where(both, np.where(agree, np.log(len(values)), -_RULED_OUT), 0)
            holds = np.where(asked < 0, 1.0, np.where(both, agree, 1 / len(values)))  # probability that it is satisfied
            but_one = but_one * holds + whole * (1 - holds)
            whole = whole * holds
        if not asks_query:
            return likelihood.astype(np.float32)
        graded = np.array([len(row) >= 3 for row in probes.latents])[
            :, None
        ]  # studio: all but one counts 1 from three up
        return (3 * whole + graded * but_one).astype(np.float32)

    @staticmethod
    def _codes(name, values, views, reads):
        """(n,) int64: the code of the attribute's value in each row of `views`, -1 where no view reveals it."""
        assets, found = views.assets, np.full(len(views), -1)
        for row, (images, texts) in enumerate(zip(views.images, views.texts, strict=True)):
            if reads == "primary":
                images, texts = images[:1], texts[:1]
            shown = [assets.image_reveals[i] for i in images if i >= 0 and reads != "texts"]
            shown += [assets.text_reveals[i] for i in texts if i >= 0 and reads != "images"]
            if any(name in revealed for revealed in shown):
                found[row] = values.get(views.latents[row][name], len(values))
        return found
