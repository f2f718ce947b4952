"""Gated fusion: each view opens a gate of its own by what it shows (gated multimodal units, Arevalo et al. 2017).

Idea: a small network with a hidden layer looks at one view at a time and says how far to open, from 0 to 1; an item's
side is the mean of its views weighted by their gates. It starts as the uniform mean.
Differs from the paper: there, a gate per dimension looks at all modalities and mixes two hidden layers; here one gate
per view, from that view alone, gates divided by their sum, and the views themselves are mixed, so that a single view
gives itself. Unlike attention pooling the gates are sigmoids of a non-linear layer: views do not compete, any number of
them may be fully open, and an open gate cannot drown the others.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.transport import weighted_mean


class Method(method.AllViews):
    space = method.spaces({"hidden": (8, 32), "gain": (1.0, 10.0)}, {"hidden": (8, 32), "gain": (1.0, 10.0)})
    gates = None  # what training makes; without it weights are uniform
    tuned = {
        "supervised": {"alignment_weight": 0.0, "gain": 10.0},
        "aligned": {"trainer.learning_rate": 0.012, "gain": 10.0},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
        hidden: int = 32  # units of the hidden layer
        gain: float = 1.0  # of the gate's logit: how fast gates open and close at the trainer's rate

        def problems(self):
            return [] if self.hidden >= 1 else [f"hidden is {self.hidden}, expected at least 1"]

    def begin(self, data, towers):
        super().begin(data, towers)
        width, hidden, device = towers.encoder.dimensions, self.config.hidden, towers.device
        generator = torch.Generator().manual_seed(0)
        self.gates = {}
        for kind in ("image", "text"):
            first = torch.randn(width, hidden, generator=generator).to(device)  # a unit vector gives unit variance
            last = torch.zeros(hidden + 1, device=device)  # and a bias: every gate is half open
            self.gates[kind] = (torch.nn.Parameter(first), torch.nn.Parameter(last))

    def learned(self):
        return tuple(p for pair in self.gates.values() for p in pair)

    def pool(self, kind, vectors, ids):
        exists = torch.from_numpy(ids >= 0).to(vectors.device)
        if self.gates is None or not exists.any():
            return super().pool(kind, vectors, ids)
        first, last = self.gates[kind]
        logits = (vectors @ first).tanh() @ last[:-1] + last[-1]  # (n, m, d) -> (n, m, h) -> (n, m)
        # a gate closed to the last bit would leave an item of that view alone without a vector
        gates = (self.config.gain * logits).sigmoid().clamp(min=1e-6) * exists
        return weighted_mean(vectors, gates / gates.sum(1, keepdim=True).clamp(min=1e-6))
