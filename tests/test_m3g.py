"""The multi-marginal matching gap: the polymatching against naive loops and POT, the gap's value and gradient."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_trainer import encoder, fitted  # noqa: F401
from torch.testing import assert_close

from ftbench import matching
from ftbench.batches import Batch
from ftbench.errors import FtbenchError, RunError
from ftbench.method import load_method


def unit_views(groups, k, n, d=5, seed=0):
    x = torch.randn(groups, k, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def naive_cost(views):
    """views (k, n, d): {(i_1, ..., i_k): mean over pairs of 1 - cosine}."""
    k, n, _ = views.shape
    pairs = list(itertools.combinations(range(k), 2))
    return {
        at: sum(1 - float(views[p, at[p]] @ views[q, at[q]]) for p, q in pairs) / len(pairs)
        for at in itertools.product(range(n), repeat=k)
    }


def naive_polymatching(cost, n, k, epsilon, sweeps=400):
    """Multi-marginal Sinkhorn in the log domain, one entry at a time: P = exp(sum of potentials - C / epsilon)."""
    potentials = [[0.0] * n for _ in range(k)]
    for _ in range(sweeps):
        for axis in range(k):
            for i in range(n):
                logs = [
                    sum(potentials[p][at[p]] for p in range(k) if p != axis) - c / epsilon
                    for at, c in cost.items()
                    if at[axis] == i
                ]
                top = max(logs)
                potentials[axis][i] = -math.log(n) - top - math.log(sum(math.exp(x - top) for x in logs))
    return {at: math.exp(sum(potentials[p][at[p]] for p in range(k)) - c / epsilon) for at, c in cost.items()}


@pytest.mark.parametrize(("k", "n"), [(2, 5), (3, 3), (4, 3)])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_polymatching_is_the_naive_loop(k, n, epsilon):
    views = unit_views(2, k, n)
    costs = matching.cost_tensor(matching.pairwise_costs(views))
    assert costs.shape == (2, *[n] * k)
    plan = matching.polymatching(costs, epsilon, 3000, 1e-12)
    for g in range(2):
        cost = naive_cost(views[g])
        naive = naive_polymatching(cost, n, k, epsilon)
        for at in cost:
            assert costs[(g, *at)].item() == pytest.approx(cost[at], abs=1e-12)
            assert plan[(g, *at)].item() == pytest.approx(naive[at], abs=1e-8)


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_of_two_views_it_is_pot_s_sinkhorn(epsilon):
    ot = pytest.importorskip("ot", reason="POT comes with the dev extra")
    costs = matching.cost_tensor(matching.pairwise_costs(unit_views(1, 2, 6)))
    plan = matching.polymatching(costs, epsilon, 5000, 1e-12)[0]
    even = np.full(6, 1 / 6)
    theirs = ot.sinkhorn(even, even, costs[0].numpy(), epsilon, method="sinkhorn_log", stopThr=1e-13, numItermax=5000)
    np.testing.assert_allclose(plan.numpy(), theirs, atol=1e-9)


@pytest.mark.parametrize("epsilon", [0.05, 0.2, 0.5])
def test_within_the_method_s_iterations_the_marginals_are_met(epsilon):
    """Four views of 16 items, views of an item alike as after some training, or not at all."""
    for noise in (0.3, 100.0):
        views = torch.nn.functional.normalize(unit_views(2, 1, 16, 64) + noise * unit_views(2, 4, 16, 64, 1), dim=-1)
        costs = matching.cost_tensor(matching.pairwise_costs(views.float()))
        plan = matching.polymatching(costs, epsilon, load_method("m3g").config.iterations)
        for axis in range(4):
            marginal = plan.sum([1 + other for other in range(4) if other != axis])
            assert (16 * marginal - 1).abs().max() < 0.02


def naive_gap(views, epsilon):
    """<J, C> + epsilon KL(J || uniform) - (<P, C> + epsilon KL(P || uniform)) from the loops; views (k, n, d)."""
    k, n, _ = views.shape
    cost = naive_cost(views)
    plan = naive_polymatching(cost, n, k, epsilon)
    true = {at: 1 / n if len(set(at)) == 1 else 0.0 for at in cost}

    def value(p):
        return sum(p[at] * cost[at] + (epsilon * p[at] * math.log(p[at] * n**k) if p[at] else 0.0) for at in cost)

    return value(true) - value(plan)


@pytest.mark.parametrize(("k", "n"), [(2, 4), (3, 3), (4, 3)])
def test_the_gap_is_the_naive_loop(k, n):
    views = unit_views(2, k, n, seed=2)
    found = matching.matching_gap(views, 0.2, 3000)
    assert found.shape == (2,)
    for g in range(2):
        assert found[g].item() == pytest.approx(naive_gap(views[g], 0.2), abs=1e-4)


def test_the_gap_by_hand():
    """Two items, two views: costs 0 on the diagonal and 1 off it. By symmetry P = p / 2 on the diagonal with odds
    p / (1 - p) = exp(1 / epsilon); at epsilon 1 the gap is log 2 - (1 - p) - KL, which is log(1 + 1 / e)."""
    eye = torch.eye(2, dtype=torch.float64)
    gap = matching.matching_gap(torch.stack([eye, eye])[None], 1.0)
    assert gap.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-9)


def test_the_gap_is_never_negative_and_near_zero_where_items_are_apart():
    apart = torch.eye(6, dtype=torch.float64).repeat(1, 4, 1, 1)
    mixed = apart.clone()
    mixed[0, 2] = mixed[0, 2].roll(1, 0)  # one view of each item is another item's
    # one view of an item may be any of 5 others' at half the cost of a pair: 4 x 5 ways of weight exp(-0.5 / 0.05)
    gap = matching.matching_gap(apart, 0.05).item()
    assert gap == pytest.approx(0.05 * 20 * math.exp(-10), rel=0.05)
    assert matching.matching_gap(mixed, 0.05).item() > 0.4
    for seed in range(5):
        assert matching.matching_gap(unit_views(3, 3, 5, seed=seed), 0.1).min() >= 0


def test_the_gap_s_gradient_by_finite_differences():
    views = unit_views(1, 3, 4, d=3, seed=3)
    moved = views.clone().requires_grad_()
    gap = matching.matching_gap

    def exact(x):
        """The gap with a plan that has converged, so that its own error does not enter the slope."""
        with pytest.MonkeyPatch.context() as patch:
            solve = matching.polymatching
            patch.setattr(matching, "polymatching", lambda c, e, i: solve(c, e, 5000, 1e-13))
            return gap(x, 0.3)

    exact(moved).sum().backward()
    for at in itertools.product(range(1), range(3), range(4), range(3)):
        step = torch.zeros_like(views)
        step[at] = 1e-5
        slope = (exact(views + step) - exact(views - step)) / 2e-5
        assert moved.grad[at].item() == pytest.approx(slope.item(), abs=1e-6)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.0, 5), (math.nan, 5), (0.1, 0), (0.001, 5)])
def test_what_cannot_be_matched_is_refused(epsilon, iterations):
    with pytest.raises(RunError, match="polymatching: epsilon"):
        matching.polymatching(1 - torch.eye(4)[None], epsilon, iterations)


def test_a_batch_is_matched_in_groups_of_items_with_both():
    """Seven items in groups of three, the fourth without an image: groups 0-2 and 4-6, weighed by their items."""
    method = load_method("m3g", {"group": "3"})
    views = unit_views(1, 4, 7, seed=4)[0]
    method.tuple = list(views)
    both = torch.tensor([True, True, True, False, True, True, True])
    found = method.alignment(Batch(np.arange(7), both), None, views[0], views[1])
    gaps = matching.matching_gap(torch.stack([views[:, :3], views[:, 4:]]), 0.2, 30)
    assert_close(found, gaps.mean())
    method = load_method("m3g", {"group": "4"})
    method.tuple = list(views)
    gaps = [matching.matching_gap(x[None], 0.2, 30)[0] for x in (views[:, [0, 1, 2, 4]], views[:, 5:])]
    found = method.alignment(Batch(np.arange(7), both), None, views[0], views[1])
    assert_close(found, (4 * gaps[0] + 2 * gaps[1]) / 6)
    none = method.alignment(Batch(np.arange(7), torch.arange(7) == 2), None, views[0], views[1])
    assert none.item() == 0


def test_a_place_without_an_auxiliary_is_the_primary_s(toy):
    """Vectors stand for their assets: every view of the tuple is one of its item's, the auxiliary never the primary
    where the item has another."""
    from ftbench.task import load_task, training_sets

    train, _ = training_sets(load_task("cross_view", "toy"), toy, "aligned")
    method = load_method("m3g", track="aligned")
    encode = lambda ids: torch.from_numpy(ids).double()[:, None] * torch.ones(1, 2).double()  # noqa: E731
    method.views = train.views
    method.alignment = lambda *given: torch.zeros(())
    items = np.arange(20)
    batch = Batch(items, torch.ones(20, dtype=torch.bool))
    method.loss(batch, SimpleNamespace(images=encode, texts=encode), torch.Generator().manual_seed(0))
    drawn = [view[:, 0].long().tolist() for view in method.tuple]
    for ids, primary, auxiliary in ((train.views.images, *drawn[:2]), (train.views.texts, *drawn[2:])):
        for row in items:
            there = set(ids[row][ids[row] >= 0].tolist())
            assert primary[row] == ids[row, 0] and auxiliary[row] in there
            assert (auxiliary[row] == primary[row]) == (len(there) == 1)


@pytest.mark.parametrize("track", ["supervised", "aligned"])
def test_it_trains_within_its_budget_on_four_views(track, encoder, toy):  # noqa: F811
    method, trained = fitted("m3g", encoder, toy, track)
    assert 0.5 * 900 < trained.meter.spent <= 900 * 1.25
    assert trained.meter.training_items < trained.meter.image_passes <= 2 * trained.meter.training_items
    assert math.prod(len(values) for values in method.space[track].values()) >= 8
    assert 0.0 not in method.space[track].get("alignment_weight", ()) or track == "aligned"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"group": "1"}, "group is 1"), ({"group": "64"}, "at most 32"), ({"epsilon": "0.001"}, "at least 0.01"),
     ({"iterations": "0"}, "iterations is 0")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(FtbenchError, match=said):
        load_method("m3g", settings)
