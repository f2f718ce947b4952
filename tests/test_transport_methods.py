"""Smooth maxima, set-to-set similarities and transport values: loops, POT, gradients; and the methods that use them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_trainer import encoder, fitted  # noqa: F401
from torch.testing import assert_close

from ftbench import transport
from ftbench.batches import Batch
from ftbench.embedder import Embedder
from ftbench.errors import FtbenchError
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.vectors import MultiVector, scorer, vectors_of
from ftbench.views import views_of

METHODS = ("late_interaction", "sinkhorn_transport", "soft_late_interaction")


def random_sets(items=3, images=4, texts=3, dim=6, dtype=torch.float64):
    """Unit views v (b, M, d), t (b, N, d) and weights a, b; item 1 lacks two images and one text."""
    generator = torch.Generator().manual_seed(3)
    v, t = (torch.randn(items, m, dim, generator=generator, dtype=dtype) for m in (images, texts))
    a, b = (torch.rand(items, m, generator=generator, dtype=dtype) + 0.1 for m in (images, texts))
    a[1, 2:], b[1, 1:2] = 0, 0
    v, t = (x / x.norm(dim=-1, keepdim=True) * (w > 0).unsqueeze(-1) for x, w in ((v, a), (t, b)))
    return v, a / a.sum(1, keepdim=True), t, b / b.sum(1, keepdim=True)


def naive_smooth_max(products, weights, epsilon):
    return epsilon * math.log(
        sum(float(w) * math.exp(float(s) / epsilon) for s, w in zip(products, weights, strict=True))
    )


def naive_info_nce(logits):
    """Both ways, from the definition."""
    total, b = 0.0, len(logits)
    for table in (logits, [[logits[j][i] for j in range(b)] for i in range(b)]):
        total += sum(math.log(sum(math.exp(x) for x in row)) - row[i] for i, row in enumerate(table)) / b / 2
    return total


def test_smooth_max_by_hand():
    """Products 0 and log 3 of weights 1/4 and 3/4: log 2.5 at epsilon 1; a view without weight does not matter."""
    found = transport.smooth_max(torch.tensor([0.0, math.log(3), 9.0]), torch.tensor([0.25, 0.75, 0.0]), 1.0)
    assert_close(found.item(), math.log(2.5))


@pytest.mark.parametrize("epsilon", [0.02, 0.3, 5.0])
def test_smooth_max_is_the_naive_loop_and_lies_between_mean_and_maximum(epsilon):
    v, a, t, _ = random_sets()
    products = torch.einsum("imd,jnd->ijmn", v, t)[:, :, :, 0]  # (i, j, m)
    found = transport.smooth_max(products, a[:, None], epsilon)
    for i in range(3):
        for j in range(3):
            assert_close(found[i, j].item(), naive_smooth_max(products[i, j], a[i], epsilon))
    best = products.masked_fill(a[:, None] == 0, -math.inf).amax(-1)
    assert (found <= best + 1e-9).all() and (found >= (products * a[:, None]).sum(-1) - 1e-9).all()


def test_smooth_max_without_views_is_zero_with_a_finite_gradient():
    products = torch.ones(2, 3, requires_grad=True)
    found = transport.smooth_max(products, torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), 0.1)
    assert found.tolist() == [0, 1]
    found.sum().backward()
    assert_close(products.grad, torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))


def test_late_interaction_is_the_naive_loop():
    v, a, t, b = random_sets()
    products = torch.einsum("imd,jnd->ijmn", v, t)
    found = transport.late_interaction(products, a[:, None], b[None], 0.2)
    for i in range(3):
        for j in range(3):
            k = products[i, j]
            rows = sum(float(a[i, m]) * naive_smooth_max(k[m], b[j], 0.2) for m in range(4))
            columns = sum(float(b[j, n]) * naive_smooth_max(k[:, n], a[i], 0.2) for n in range(3))
            assert_close(found[i, j].item(), (rows + columns) / 2)


def value_of(similarity, a, b, epsilon):
    plan = transport.sinkhorn(similarity, a, b, epsilon, iterations=20_000, tolerance=1e-13)
    return transport.entropic_value(plan, similarity, a, b, epsilon)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 2.0])
def test_the_entropic_value_is_pot_s(epsilon):
    """POT's plan, and <P, K> - epsilon KL(P || a b^T) by a double sum."""
    ot = pytest.importorskip("ot", reason="POT comes with the dev extra")
    v, a, t, b = random_sets()
    products = torch.einsum("imd,jnd->ijmn", v, t)
    found = value_of(products, a[:, None], b[None], epsilon)
    for i in range(3):
        for j in range(3):
            rows, columns = np.flatnonzero(a[i].numpy()), np.flatnonzero(b[j].numpy())
            p, q, k = a[i].numpy()[rows], b[j].numpy()[columns], products[i, j].numpy()[np.ix_(rows, columns)]
            plan = ot.sinkhorn(p, q, -k, epsilon, method="sinkhorn_log", stopThr=1e-13, numItermax=20_000)
            total = 0.0
            for m in range(len(p)):
                for n in range(len(q)):
                    total += plan[m, n] * (k[m, n] - epsilon * math.log(plan[m, n] / (p[m] * q[n])))
            assert found[i, j].item() == pytest.approx(total, abs=1e-7)


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_the_gradient_of_the_value_is_the_plan_by_finite_differences(epsilon):
    v, a, t, b = random_sets()
    k = (v[1] @ t[2].T).requires_grad_()
    value_of(k, a[1], b[2], epsilon).backward()
    for m in range(4):
        for n in range(3):
            step = torch.zeros_like(k)
            step[m, n] = 1e-5
            with torch.no_grad():
                slope = (value_of(k + step, a[1], b[2], epsilon) - value_of(k - step, a[1], b[2], epsilon)) / 2e-5
            assert k.grad[m, n].item() == pytest.approx(slope.item(), abs=1e-6)


def test_the_value_goes_from_the_exact_plan_s_to_the_factorized_one():
    v, a, t, b = random_sets()
    k, a, b = torch.einsum("imd,jnd->ijmn", v, t), a[:, None], b[None]
    exact = transport.transport_similarity(transport.exact_plan(k, a, b), k)
    factorized = transport.factorized_similarity(v[:, None], a, t[None], b)
    values = [exact, *(value_of(k, a, b, e) for e in (0.02, 0.1, 1.0, 1e4)), factorized]
    for larger, smaller in zip(values, values[1:], strict=False):
        assert (larger >= smaller - 1e-6).all()
    # 0 <= KL <= log(M N / smallest weights): within epsilon of that
    assert_close(values[1], exact, atol=0.02 * math.log(1 / (float(a[a > 0].min()) * float(b[b > 0].min()))), rtol=0)
    assert_close(values[4], factorized, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("epsilon", "worst"), [(0.3, 1.1e-3), (0.1, 1.1e-3), (0.03, 1.1e-3), (0.01, 0.01)])
def test_within_its_iterations_the_method_meets_the_marginals(epsilon, worst, monkeypatch):
    """All 24 x 24 pairs of 10 images and 3 texts in 64 dimensions. Down to 0.03 within the tolerance; at 0.01 the worst
    pair within 0.01 and the mean within the tolerance, where 20 iterations leave 0.05."""
    method = load_method("sinkhorn_transport", {"epsilon": str(epsilon)})
    v, a, t, b = random_sets(24, 10, 3, 64, torch.float32)
    seen, within = [], method.similarity.__globals__
    solve = within["sinkhorn"]
    monkeypatch.setitem(within, "sinkhorn", lambda *given, **limits: seen.append(solve(*given, **limits)) or seen[-1])
    k = torch.einsum("imd,jnd->ijmn", v, t)
    method.similarity(k, a[:, None], b[None])
    error = transport.marginal_error(seen[0], a[:, None], b[None])
    assert error.max() <= worst and error.mean() <= 1e-3
    if epsilon == 0.01:
        short = solve(k, a[:, None], b[None], epsilon, iterations=20)
        assert transport.marginal_error(short, a[:, None], b[None]).max() > 0.05


def batch_of(both):
    return Batch(np.arange(len(both)), torch.tensor(both))


def given_sets(name, settings=()):
    """A method as it stands in the midst of a step, on given sets of three items; item 2 has no text."""
    v, a, t, b = random_sets()
    t[2], b[2] = 0, 0
    method = load_method(name, dict(settings))
    method.sets, method.shares = [(v, a), (t, b)], [a, b]
    return method, v, a, t, b


@pytest.mark.parametrize("plan", ["sinkhorn", "independent", "exact"])
def test_the_alignment_of_transport_is_info_nce_of_its_values_among_items_with_both(plan):
    method, v, a, t, b = given_sets("sinkhorn_transport", {"plan": plan, "epsilon": "0.2"})
    towers = SimpleNamespace(scale=torch.tensor(5.0, dtype=torch.float64))
    found = method.alignment(batch_of([True, True, False]), towers, v[:, 0], t[:, 0])
    value = {
        "sinkhorn": lambda k, p, q: value_of(k, p, q, 0.2),
        "independent": lambda k, p, q: p @ k @ q,
        "exact": lambda k, p, q: (transport.exact_plan(k, p, q) * k).sum(),
    }[plan]
    logits = [[5 * float(value(v[i] @ t[j].T, a[i], b[j])) for j in range(2)] for i in range(2)]
    assert float(found) == pytest.approx(naive_info_nce(logits), abs=2e-3 if plan == "sinkhorn" else 1e-9)


def test_the_alignment_of_late_interaction_is_info_nce_of_its_similarity():
    method, v, a, t, b = given_sets("late_interaction", {"smooth": "0.2"})
    towers = SimpleNamespace(scale=torch.tensor(5.0, dtype=torch.float64))
    found = method.alignment(batch_of([True, True, False]), towers, v, t)
    logits = [
        [5 * float(transport.late_interaction(v[i] @ t[j].T, a[i], b[j], 0.2)) for j in range(2)] for i in range(2)
    ]
    assert float(found) == pytest.approx(naive_info_nce(logits), abs=1e-9)


@pytest.mark.parametrize("name", ["late_interaction", "soft_late_interaction"])
def test_the_query_loss_of_late_interaction_is_the_naive_loop(name):
    """An item's four images and one text weigh a fifth each; rows against a plain loop."""
    method, v, _, t, _ = given_sets(name, {"smooth": "0.2", "alignment_weight": "0"})
    ids = np.arange(3)[:, None]
    images, texts = np.where([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]], ids, -1), np.where([[1, 1, 1]], ids, -1)
    texts[2] = -1
    method.views = SimpleNamespace(images=images, texts=texts)
    queries = torch.nn.functional.normalize(torch.randn(3, 6, dtype=torch.float64, generator=torch.manual_seed(1)))
    towers = SimpleNamespace(scale=torch.tensor(5.0), queries=lambda ids: queries)
    same = torch.eye(3, dtype=torch.bool)[:, None]
    batch = Batch(np.arange(3), torch.ones(3, dtype=torch.bool), np.arange(3)[:, None], same)
    found = method.objective(batch, towers, v, t)
    total = 0.0
    for i in range(3):
        row = []
        for j in range(3):
            views = [v[j, m] for m in range(4) if images[j, m] >= 0] + [t[j, n] for n in range(3) if texts[j, n] >= 0]
            products = [float(queries[i] @ view) for view in views]
            row.append(5 * naive_smooth_max(products, [1 / len(views)] * len(views), 0.2))
        total += math.log(sum(math.exp(x) for x in row)) - row[i]
    assert float(found) == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize("track", ["supervised", "aligned"])
@pytest.mark.parametrize("name", METHODS)
def test_it_trains_within_its_budget_on_all_views(name, track, encoder, toy):  # noqa: F811
    method, trained = fitted(name, encoder, toy, track, budget=2000.0)
    assert 0.5 * 2000 < trained.meter.spent <= 2000 * 1.25
    assert trained.meter.image_passes > 1.5 * trained.meter.training_items
    assert math.prod(len(values) for values in method.space[track].values()) >= 8


@pytest.mark.parametrize(
    ("name", "settings", "epsilon"),
    [
        ("late_interaction", {}, 0.0),
        ("sinkhorn_transport", {"inference": "multi", "epsilon": "0.3"}, 0.3),
        ("soft_late_interaction", {}, 0.3),
    ],
)
def test_an_item_keeps_a_vector_for_each_view(name, settings, epsilon, encoder, toy):  # noqa: F811
    _, trained = fitted(name, encoder, toy, board="equal-steps", steps=1)
    method = load_method(name, settings, "supervised")
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    views = views_of(toy, toy.rows("test"))
    found = method.embed(views, embedder)
    assert isinstance(found, MultiVector) and found.epsilon == epsilon and found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-6)
    assert vectors_of(found) == ((views.images >= 0).sum() + (views.texts >= 0).sum()) / len(views)
    np.testing.assert_allclose(np.linalg.norm(found.vectors[found.weights > 0], axis=1), 1, atol=1e-5)
    single = method.embed(views.single("text", views.texts[:, 0]), embedder)
    assert vectors_of(single) == 1
    scores = scorer(found)(single.vectors.sum(axis=1))
    assert scores.shape == (len(views), len(views))
    if not epsilon:
        np.testing.assert_allclose(np.diag(scores), 1, atol=1e-5)  # a title is its own item's nearest view


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("late_interaction", {"smooth": "0"}, "smooth is 0.0, expected more than 0"),
        ("soft_late_interaction", {"smooth": "0"}, "smooth is 0.0, expected more than 0"),
        ("sinkhorn_transport", {"epsilon": "0"}, "plan=exact"),
        ("sinkhorn_transport", {"iterations": "0"}, "expected at least 1"),
        ("sinkhorn_transport", {"plan": "inf"}, "one of sinkhorn, independent, exact"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, settings, said):
    with pytest.raises(FtbenchError, match=said):
        load_method(name, settings)
