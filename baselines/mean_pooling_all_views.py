"""Mean pooling with all views encoded at every step: the linear-cost reference.

Idea: train exactly what inference uses, and pay for every view of every item in every batch.
Differs from the paper: not named in its abstract (arXiv 2512.18117); the upper end that constant cost is
measured against.
"""

from dataclasses import dataclass

from ftbench import method


class Method(method.AllViews):
    tuned = {
        "supervised": {"alignment_weight": 0.0},
        "aligned": {"trainer.image_rate": 0.1},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.1  # of the image-text loss beside the query loss
