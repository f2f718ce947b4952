"""Plans and similarities against double sums, statistics with a stated bound, and POT."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ftbench import transport
from ftbench.errors import RunError

IMAGES, TEXTS, DIM = 5, 4, 7


def _unit(*shape, seed):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def _weights(n, m, seed, absent=0):
    """(n, m) weights summing to 1; the last `absent` columns are views that do not exist."""
    w = torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    w[:, m - absent :] = 0
    return w / w.sum(1, keepdim=True)


@pytest.fixture
def pair():
    """Six items' image and text views, with absent views on both sides."""
    v, t = _unit(6, IMAGES, DIM, seed=1), _unit(6, TEXTS, DIM, seed=2)
    a, b = _weights(6, IMAGES, seed=3, absent=2), _weights(6, TEXTS, seed=4, absent=1)
    return v, a, t, b, v @ t.mT


def _double_sum(v, a, t, b):
    """<a b^T, K> from its definition: one pair of views at a time."""
    total = 0.0
    for m in range(len(a)):
        for n in range(len(b)):
            total += float(a[m]) * float(b[n]) * sum(float(p) * float(q) for p, q in zip(v[m], t[n], strict=True))
    return total


def test_weighted_mean_by_hand():
    views = torch.tensor([[1.0, 0.0], [0.0, 4.0], [9.0, 9.0]])
    assert_close(transport.weighted_mean(views, torch.tensor([0.25, 0.75, 0.0])), torch.tensor([0.25, 3.0]))


def test_factorized_similarity_is_the_double_sum(pair):
    v, a, t, b, _ = pair
    expected = [_double_sum(v[i], a[i], t[i], b[i]) for i in range(6)]
    assert_close(transport.factorized_similarity(v, a, t, b), torch.tensor(expected, dtype=torch.float64))


def test_factorized_similarity_of_all_pairs_is_a_product_of_means(pair):
    v, a, t, b, _ = pair
    every = transport.factorized_similarity(v[:, None], a[:, None], t[None], b[None])
    assert every.shape == (6, 6)
    assert_close(every[2, 5].item(), _double_sum(v[2], a[2], t[5], b[5]))
    assert_close(every, transport.weighted_mean(v, a) @ transport.weighted_mean(t, b).T)


def test_product_form_equals_the_independent_plan(pair):
    v, a, t, b, similarity = pair
    plan = transport.independent_plan(a, b)
    assert_close(transport.marginal_error(plan, a, b), torch.zeros(6, dtype=torch.float64))
    assert_close(transport.transport_similarity(plan, similarity), transport.factorized_similarity(v, a, t, b))


def test_one_view_on_each_side():
    v, t, one = _unit(3, 1, DIM, seed=5), _unit(3, 1, DIM, seed=6), torch.ones(3, 1, dtype=torch.float64)
    similarity = v @ t.mT
    for plan in (
        transport.independent_plan(one, one),
        transport.sinkhorn(similarity, one, one, 0.1),
        transport.exact_plan(similarity, one, one),
    ):
        assert_close(plan, torch.ones(3, 1, 1, dtype=torch.float64))
    assert_close(transport.factorized_similarity(v, one, t, one), similarity[:, 0, 0])


def test_marginal_error_sees_rows_and_columns():
    plan, half = torch.tensor([[0.5, 0.0], [0.2, 0.3]]), torch.tensor([0.5, 0.5])
    assert_close(transport.marginal_error(plan, half, half), torch.tensor(0.2))
    assert_close(transport.marginal_error(plan.T, half, half), torch.tensor(0.2))


@pytest.mark.parametrize("absent", [0, 2])
def test_sinkhorn_at_large_epsilon_is_the_independent_plan(absent):
    """The plan tilts by exp(K / epsilon): with |K| <= 1 no entry moves by more than a relative exp(4 / epsilon) - 1."""
    a, b = _weights(6, IMAGES, seed=3, absent=absent), _weights(6, TEXTS, seed=4, absent=absent)
    similarity = _unit(6, IMAGES, DIM, seed=1) @ _unit(6, TEXTS, DIM, seed=2).mT
    plan = transport.sinkhorn(similarity, a, b, 1e4)
    assert_close(plan, transport.independent_plan(a, b), rtol=math.expm1(4 / 1e4), atol=0)


@pytest.mark.parametrize("epsilon", [0.2, 0.05, 0.01])
def test_sinkhorn_at_small_epsilon_is_near_the_exact_value(pair, epsilon):
    """0 <= exact - <plan, K> <= epsilon log(MN), because 0 <= H <= log(MN)."""
    _, a, _, b, similarity = pair
    plan = transport.sinkhorn(similarity, a, b, epsilon, iterations=5000, tolerance=1e-10)
    assert transport.marginal_error(plan, a, b).max() <= 1e-9
    exact = transport.transport_similarity(transport.exact_plan(similarity, a, b), similarity)
    gap = exact - transport.transport_similarity(plan, similarity)
    assert gap.min() >= -1e-8
    assert gap.max() <= epsilon * math.log(IMAGES * TEXTS)
    assert gap.max() > 1e-6 or epsilon < 0.02  # it is the entropic plan, not the exact one


def test_sinkhorn_matches_pot_and_a_naive_loop(pair):
    ot = pytest.importorskip("ot", reason="POT comes with the dev extra")
    _, a, _, b, similarity = pair
    plan = transport.sinkhorn(similarity, a, b, 0.3, iterations=2000, tolerance=1e-12)
    for i in range(6):
        m, n = int((a[i] > 0).sum()), int((b[i] > 0).sum())
        p, q, k = a[i, :m].numpy(), b[i, :n].numpy(), similarity[i, :m, :n].numpy()
        kernel, u, w = np.exp(k / 0.3), np.ones(m), np.ones(n)
        for _ in range(500):  # Cuturi 2013, algorithm 1, in the plain domain
            u = p / (kernel @ w)
            w = q / (kernel.T @ u)
        naive = u[:, None] * kernel * w[None, :]
        np.testing.assert_allclose(plan[i, :m, :n].numpy(), naive, atol=1e-10)
        np.testing.assert_allclose(naive, ot.sinkhorn(p, q, -k, 0.3, stopThr=1e-12), atol=1e-9)


def test_sinkhorn_keeps_marginals_and_masks(pair):
    _, a, _, b, similarity = pair
    plan = transport.sinkhorn(similarity, a, b, 0.1, iterations=1000)
    assert (plan[a == 0] == 0).all()
    assert (plan.mT[b == 0] == 0).all()
    assert transport.marginal_error(plan, a, b).max() <= 1e-6
    # what stands in the place of an absent view must not matter
    other = similarity.clone()
    other[a == 0] = 50.0
    assert_close(transport.sinkhorn(other, a, b, 0.1, iterations=1000), plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sinkhorn_without_any_view_is_zero_and_its_gradient_finite(pair, dtype):
    _, a, _, b, similarity = (x.to(dtype) for x in pair)
    a[0], b[1] = 0, 0
    a[2], b[2] = 0, 0
    for x in (similarity, a, b):
        x.requires_grad_()
    plan = transport.sinkhorn(similarity, a, b, 0.1)
    assert (plan[:3] == 0).all()
    assert_close(plan[3:].sum((1, 2)), torch.ones(3, dtype=dtype))
    transport.transport_similarity(plan, similarity).sum().backward()
    for x in (similarity, a, b):
        assert torch.isfinite(x.grad).all()
    assert (transport.exact_plan(similarity, a, b)[:3] == 0).all()


def test_sinkhorn_broadcasts_over_all_pairs(pair):
    v, a, t, b, _ = pair
    every = torch.einsum("imd,jnd->ijmn", v, t)
    plan = transport.sinkhorn(every, a[:, None], b[None], 0.2)
    assert plan.shape == (6, 6, IMAGES, TEXTS)
    assert_close(plan[1, 4], transport.sinkhorn(every[1, 4], a[1], b[4], 0.2), atol=1e-6, rtol=0)
    assert transport.exact_plan(every, a[:, None], b[None]).shape == every.shape


def test_sinkhorn_stops_early_and_reports_when_it_did_not_converge(pair):
    _, a, _, b, similarity = pair
    short = transport.sinkhorn(similarity, a, b, 0.01, iterations=1)
    assert transport.marginal_error(short, a, b).max() > 1e-3
    loose = transport.sinkhorn(similarity, a, b, 0.01, iterations=5000, tolerance=1e-2)
    assert 1e-6 < transport.marginal_error(loose, a, b).max() <= 1e-2


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": float("nan")}, {"epsilon": 0.1, "iterations": 0}])
def test_sinkhorn_refuses_what_cannot_converge(pair, wrong):
    _, a, _, b, similarity = pair
    with pytest.raises(RunError, match="exact_plan"):
        transport.sinkhorn(similarity, a, b, **wrong)


def test_exact_plan_by_hand():
    """Two against two: the larger diagonal wins, and mass 0.25 is left over for one off-diagonal entry."""
    similarity = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plan = transport.exact_plan(similarity, torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5]))
    assert_close(plan, torch.tensor([[0.5, 0.25], [0.0, 0.25]]))


def test_exact_plan_without_pot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ot", None)
    with pytest.raises(RunError, match="pip install POT"):
        transport.exact_plan(torch.ones(1, 1), torch.ones(1), torch.ones(1))


def test_sampled_mean_is_unbiased_for_the_weighted_mean():
    """Over S draws the mean misses each coordinate by at most 5 standard errors.

    One draw's coordinate lies in [-1, 1], so its standard error is at most 1 / sqrt(S); 5 of them over the test's
    2 x 21 coordinates leave a chance of failure below 42 x 6e-7 = 3e-5, and the seed is fixed anyway.
    """
    draws, generator = 40_000, torch.Generator().manual_seed(11)
    v, t = _unit(3, IMAGES, DIM, seed=7), _unit(3, TEXTS, DIM, seed=8)
    a, b = _weights(3, IMAGES, seed=9, absent=1), _weights(3, TEXTS, seed=10)
    a[2], b[2] = torch.eye(IMAGES)[0].double(), torch.eye(TEXTS)[0].double()  # an item of primary views alone
    bound = 5 / math.sqrt(draws)

    def sampled(views, weights):
        many = weights.repeat_interleave(draws, 0)
        index = transport.sample_view(many, generator).reshape(3, draws)
        rows = [views[i, index[i].clamp(min=0)] for i in range(3)]
        return torch.stack([transport.sampled_mean(views[i, :1], rows[i], weights[i, :1]) for i in range(3)])

    v_hat, t_hat = sampled(v, a), sampled(t, b)  # (3, draws, d)
    assert_close(v_hat.mean(1), transport.weighted_mean(v, a), atol=bound, rtol=0)
    assert_close(t_hat.mean(1), transport.weighted_mean(t, b), atol=bound, rtol=0)
    # independent draws of the two sides: unbiased for <a b^T, K>, itself in [-1, 1]
    product = transport.transport_similarity(transport.independent_plan(a, b), v @ t.mT)
    assert_close((v_hat * t_hat).sum(-1).mean(1), product, atol=bound, rtol=0)
    # the bound has teeth: the primary view alone, or a uniform draw, would break it
    assert (v[:2, 0] - transport.weighted_mean(v, a)[:2]).abs().max() > 4 * bound


def test_sample_view_follows_the_weights_and_never_draws_primary_or_absent():
    weights = torch.tensor([[0.5, 0.1, 0.0, 0.4]]).expand(20_000, 4)
    index = transport.sample_view(weights, torch.Generator().manual_seed(0))
    count = torch.bincount(index, minlength=4)
    assert count[0] == count[2] == 0
    # binomial with p = 0.2: five standard errors
    assert abs(count[1].item() / 20_000 - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 20_000)


def test_sample_view_says_minus_one_where_there_is_no_auxiliary():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
    index = transport.sample_view(weights, torch.Generator().manual_seed(0))
    assert index.tolist() == [-1, 2, -1]
    assert index.dtype == torch.int64
    assert transport.sample_view(weights[:, :1], torch.Generator().manual_seed(0)).tolist() == [-1, -1, -1]


def test_sample_view_at_the_edges_of_the_uniform(monkeypatch):
    """u = 0 draws the first view with weight, u just below 1 the last, also where the total rounds up."""
    weights = torch.tensor([[0.3, 0.0, 0.1, 0.6, 0.0]])
    for u, expected in ((0.0, 2), (1.0 - 2**-53, 3), (1.0, 3)):
        monkeypatch.setattr(torch, "rand", lambda n, m, u=u, **_: torch.full((n, m), u, dtype=torch.float64))
        assert transport.sample_view(weights, torch.Generator()).tolist() == [expected]


def test_sample_view_depends_on_the_generator_alone_and_not_on_padding():
    weights = _weights(50, 6, seed=1)
    padded = torch.cat([weights, torch.zeros(50, 3)], 1)
    first = transport.sample_view(weights, torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    assert transport.sample_view(padded, torch.Generator().manual_seed(3)).tolist() == first.tolist()
    assert transport.sample_view(weights, torch.Generator().manual_seed(4)).tolist() != first.tolist()


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_sample_view_refuses_impossible_weights(bad):
    with pytest.raises(RunError, match="finite and >= 0"):
        transport.sample_view(torch.tensor([[0.5, bad]]), torch.Generator())


def test_functions_leave_their_arguments_alone(pair):
    before = [x.clone() for x in pair]
    v, a, t, b, similarity = pair
    transport.sinkhorn(similarity, a, b, 0.1)
    transport.exact_plan(similarity, a, b)
    transport.sampled_mean(v[:, 0], v[:, 1], a[:, 0])
    transport.sample_view(a, torch.Generator().manual_seed(0))
    for x, y in zip(before, pair, strict=True):
        assert_close(x, y, rtol=0, atol=0)
