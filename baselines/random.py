"""Random vectors: chance, the floor of every table.

Idea: each probe and each item gets a standard normal vector that depends on the seed and its place alone.
Differs from the paper: not in it; a control.
"""

from dataclasses import dataclass

import numpy as np

from ftbench import method


class Method(method.Method):
    seeded = True

    @dataclass(frozen=True)
    class Config:
        dimensions: int = 64  # as many as `tiny` has

    def fit(self, train, valid, trainer):
        self.generator = np.random.Generator(np.random.Philox(key=[trainer.seed, 2]))

    def embed(self, views, embedder):
        return self.generator.standard_normal((len(views), self.config.dimensions), dtype=np.float32)
