"""Weak supervision as EM: the posterior by hand, and a toy model whose exact M-step never lowers the likelihood."""

import math

import pytest
import torch
from torch.testing import assert_close

from ftbench.errors import RunError
from ftbench.latent import observed, posterior


def test_posterior_and_likelihood_by_hand():
    """p = 1/4, 3/4; labels log 3 and 0: the emission makes both alike."""
    scores, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(3), 0.0]])
    assert_close(posterior(scores, labels, 1.0), torch.tensor([[0.5, 0.5]]))
    assert_close(observed(scores, labels, 1.0), torch.tensor([math.log(3 / 4 + 3 / 4)]))
    assert_close(posterior(scores, labels, 0.0), scores.softmax(1))
    with pytest.raises(RunError, match=r"\(1, 2\) and labels of shape \(1, 3\)"):
        posterior(scores, torch.zeros(1, 3), 1.0)


def _toy(seed):
    """30 queries of 4 kinds; the kind alone is what the ranker sees: its p(z | kind) is a table over 6 items. Labels
    are noisy and prefer each kind's own item."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(4, (30,), generator=generator)
    labels = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    labels[torch.arange(30), kinds] += 0.5
    table = torch.rand(4, 6, generator=generator, dtype=torch.float64).softmax(1)
    return kinds, labels, table


def _generation(kinds, labels, table, strength, harden=None):
    """E-step, then the exact M-step: each kind's mean posterior."""
    soft = posterior(table.log()[kinds], labels, strength)
    soft = harden(soft) if harden else soft
    return torch.stack([soft[kinds == kind].mean(0) for kind in range(4)]).clamp(min=1e-12)


@pytest.mark.parametrize("strength", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("seed", range(5))
def test_an_exact_m_step_never_lowers_what_was_observed(seed, strength):
    kinds, labels, table = _toy(seed)
    values = []
    for _ in range(40):
        values.append(float(observed(table.log()[kinds], labels, strength).mean()))
        table = _generation(kinds, labels, table, strength)
    assert all(later >= earlier - 1e-12 for earlier, later in zip(values, values[1:], strict=False))
    assert values[-1] > values[0] + 1e-3


def test_hard_labels_may_lower_it():
    def harden(soft):
        return torch.nn.functional.one_hot(soft.argmax(1), 6).double()

    falls = 0
    for seed in range(20):
        kinds, labels, table = _toy(seed)
        values = []
        for _ in range(10):
            values.append(float(observed(table.log()[kinds], labels, 0.5).mean()))
            table = _generation(kinds, labels, table, 0.5, harden)
        falls += any(later < earlier - 1e-9 for earlier, later in zip(values, values[1:], strict=False))
    assert falls
