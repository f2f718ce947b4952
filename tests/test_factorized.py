"""Factorized transport's own loss against loops over items and draws."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_contrastive_methods import QUERIES, TEXTS, Given

from ftbench.batches import Batch
from ftbench.method import load_method
from ftbench.transport import sample_view

SHARE, SCALE, WEIGHT = 0.4, 3.0, 0.5
IMAGES = np.array([[0, 1, 2], [3, -1, -1], [-1, 4, 5], [7, 8, -1]])
BOTH = [0, 1, 3]  # the items that enter the image-text loss


def drawn(draws):
    """For each side and draw the ids (4,) of the auxiliary views as the method draws them, -1 where there is none."""
    generator, sides = torch.Generator().manual_seed(7), []
    for ids in (IMAGES, TEXTS):
        weights = torch.tensor(np.where(ids >= 0, 1.0, 0.0))
        columns = [sample_view(weights, generator).tolist() for _ in range(draws)]
        sides.append([[ids[i][c] if c >= 0 else -1 for i, c in enumerate(own)] for own in columns])
    return sides


def views_of(table, ids, auxiliary):
    """An item's encoded views and their weights; all of it where there is one view."""
    there = [i for i in (ids[0], auxiliary) if i >= 0]
    return [(table[i], w) for i, w in zip(there, (SHARE, 1 - SHARE) if len(there) == 2 else (1.0,), strict=True)]


def softmax_loss(own, rivals):
    return math.log(sum(math.exp(SCALE * float(r)) for r in rivals)) - SCALE * float(own)


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("form", ["fused", "blocks"])
def test_the_loss_is_that_of_a_loop(form, draws):
    towers = Given(SCALE)
    settings = {"loss": form, "draws": draws, "primary_share": SHARE, "alignment_weight": WEIGHT}
    method = load_method("factorized_transport", {key: str(value) for key, value in settings.items()}, "supervised")
    method.begin(SimpleNamespace(views=SimpleNamespace(images=IMAGES, texts=TEXTS)), towers)
    same = torch.eye(4, dtype=torch.bool)[:, None].repeat(1, 2, 1)
    asked = Batch(np.arange(4), torch.tensor([i in BOTH for i in range(4)]), QUERIES, same)
    found = float(method.loss(asked, towers, torch.Generator().manual_seed(7)))

    unit = lambda v: v / v.norm().clamp(min=1e-12)  # noqa: E731
    tables = towers.tables["images"], towers.tables["texts"]
    picked = drawn(draws)
    per_draw = [[[views_of(table, ids[i], own[d][i]) for i in range(4)] for table, ids, own in
                 zip(tables, (IMAGES, TEXTS), picked, strict=True)] for d in range(draws)]  # fmt: skip
    sides = [[sum(sum(w * v for v, w in per_draw[d][s][i]) for d in range(draws)) / draws for i in range(4)]
             for s in range(2)]  # fmt: skip
    fused = [unit(unit(sides[0][i]) + unit(sides[1][i])) for i in range(4)]
    queries = towers.tables["queries"]
    expected = np.mean([softmax_loss(queries[QUERIES[i, k]] @ fused[i], [queries[QUERIES[i, k]] @ v for v in fused])
                        for i in range(4) for k in range(2)])  # fmt: skip
    if form == "fused":
        x, y = ([unit(side[i]) for i in BOTH] for side in sides)
        both = [softmax_loss(a[i] @ b[i], [a[i] @ v for v in b]) for a, b in ((x, y), (y, x)) for i in range(3)]
        expected += WEIGHT * np.mean(both)
    else:
        terms = []
        for own in per_draw:
            total = 0.0
            for k in range(2):  # the primary or the auxiliary image
                for m in range(2):
                    x, y = ([one[i] for i in BOTH] for one in own)
                    for i in range(3):
                        if k < len(x[i]) and m < len(y[i]):
                            weight = x[i][k][1] * y[i][m][1]
                            texts = [other[m][0] for other in y if m < len(other)]
                            pictures = [other[k][0] for other in x if k < len(other)]
                            a, b = x[i][k][0], y[i][m][0]
                            total += weight * (softmax_loss(a @ b, [a @ v for v in texts])
                                               + softmax_loss(a @ b, [b @ v for v in pictures])) / 2  # fmt: skip
            terms.append(total / 3)
        expected += WEIGHT * np.mean(terms)
    assert found == pytest.approx(expected, rel=1e-5)
