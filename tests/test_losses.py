"""Every loss against a naive loop over the batch, written from its definition."""

import math

import pytest
import torch
from torch.testing import assert_close

from ftbench import losses
from ftbench.errors import RunError
from ftbench.losses import SampledViews


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _same(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.3


def _dot(x, y):
    return sum(float(p) * float(q) for p, q in zip(x, y, strict=True))


def _term(logits, i, columns):
    """-log of the share of column i among `columns`, for one row of logits."""
    return -math.log(math.exp(logits[i]) / sum(math.exp(logits[j]) for j in columns))


def _naive_info_nce(logits, same=None):
    total = 0.0
    for i, row in enumerate(logits.tolist()):
        kept = [j for j in range(len(row)) if j == i or same is None or not same[i, j]]
        total += _term(row, i, kept)
    return total / len(logits)


def _naive_block(x, y, scale, same):
    """Four terms, item by item, both directions; absent auxiliaries are in no list."""
    b, total = len(x.share), 0.0
    views = [(x, y, lambda i, j: same[i, j]), (y, x, lambda i, j: same[j, i])]
    for probe, gallery, is_same in views:
        for i in range(b):
            for probe_view, probe_share in ((probe.primary, probe.share[i]), (probe.auxiliary, 1 - probe.share[i])):
                for name in ("primary", "auxiliary"):
                    share = gallery.share[i] if name == "primary" else 1 - gallery.share[i]
                    if probe_share == 0 or share == 0:
                        continue
                    there = [j for j in range(b) if name == "primary" or gallery.share[j] < 1]
                    row = [scale * _dot(probe_view[i], getattr(gallery, name)[j]) for j in range(b)]
                    kept = [j for j in there if j == i or not is_same(i, j)]
                    total += float(probe_share * share) * _term(row, i, kept) / b / 2
    return total


def test_info_nce_by_hand():
    """Row 0: logits 0, log 3 -> -log(1/4); row 1: log 3, 0 -> -log(1/4)."""
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]])
    assert_close(losses.info_nce(logits).item(), math.log(4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (1, 6), (1, 1)])
def test_info_nce_is_the_naive_loop(shape, masked):
    logits, same = _random(*shape, seed=1), _same(*shape, seed=2) if masked else None
    assert_close(losses.info_nce(logits, same).item(), _naive_info_nce(logits, same))


def test_one_item_without_negatives_costs_nothing():
    x = _random(1, 3, seed=1)
    views = SampledViews(x, x, torch.tensor([0.5]))
    assert losses.info_nce(torch.tensor([[-7.0]])).item() == 0
    assert losses.symmetric_info_nce(x, x, 10.0).item() == 0
    assert losses.block_info_nce(views, views, 10.0).item() == 0


def test_the_diagonal_is_never_masked_and_gradients_stay_finite():
    logits = _random(4, 4, seed=3).requires_grad_()
    loss = losses.info_nce(logits, torch.ones(4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[-3e4, 3e4], [0.0, 3e4]])
    assert_close(losses.info_nce(logits).item(), 3e4)


def test_multi_positive_is_the_naive_loop():
    logits, same = _random(5, 7, seed=4), _same(5, 7, seed=5)
    total = 0.0
    for i, row in enumerate(logits.tolist()):
        positives = [j for j in range(7) if j == i or same[i, j]]
        total += sum(_term(row, p, range(7)) for p in positives) / len(positives)
    assert_close(losses.multi_positive_info_nce(logits, same).item(), total / 5)


def test_multi_positive_without_further_positives_is_info_nce():
    logits = _random(5, 5, seed=6)
    none = torch.zeros(5, 5, dtype=torch.bool)
    assert_close(losses.multi_positive_info_nce(logits, none), losses.info_nce(logits))


@pytest.mark.parametrize("masked", [False, True])
def test_symmetric_is_both_directions_of_the_naive_loop(masked):
    x, y, scale = _random(6, 3, seed=7), _random(6, 3, seed=8), 2.5
    same = _same(6, 6, seed=9) if masked else None
    logits = torch.tensor([[scale * _dot(p, q) for q in y] for p in x], dtype=torch.float64)
    expected = (_naive_info_nce(logits, same) + _naive_info_nce(logits.T, None if same is None else same.T)) / 2
    assert_close(losses.symmetric_info_nce(x, y, scale, same).item(), expected)


def test_symmetric_scale_is_learnable_and_vectors_are_used_as_given():
    x, y = _random(4, 3, seed=1), _random(4, 3, seed=2)
    scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    losses.symmetric_info_nce(x, y, scale).backward()
    assert scale.grad.abs() > 0
    # no hidden normalisation: doubling the vectors is the same as four times the scale
    assert_close(losses.symmetric_info_nce(2 * x, 2 * y, 1.0), losses.symmetric_info_nce(x, y, 4.0))


def _sampled(b, seed, shares):
    return SampledViews(_random(b, 3, seed=seed), _random(b, 3, seed=seed + 1), torch.tensor(shares).double())


@pytest.mark.parametrize("masked", [False, True])
def test_block_is_the_naive_loop(masked):
    """Items 1 and 4 lack an auxiliary image, items 1 and 2 an auxiliary text."""
    x = _sampled(5, 20, [0.5, 1.0, 0.25, 0.7, 1.0])
    y = _sampled(5, 30, [0.4, 1.0, 1.0, 0.5, 0.2])
    same = _same(5, 5, seed=9) if masked else torch.zeros(5, 5, dtype=torch.bool)
    loss = losses.block_info_nce(x, y, 2.0, same if masked else None)
    assert_close(loss.item(), _naive_block(x, y, 2.0, same))


def test_block_weights_are_the_plan():
    """With every vector alike each term is log b, so the weights' sum shows: it must be 1."""
    one = torch.ones(4, 3)
    x, y = SampledViews(one, one, torch.full((4,), 0.3)), SampledViews(one, one, torch.full((4,), 0.6))
    assert_close(losses.block_info_nce(x, y, 1.0).item(), math.log(4))


def test_block_with_primary_views_alone_is_the_symmetric_loss():
    x, y = _sampled(5, 40, [1.0] * 5), _sampled(5, 50, [1.0] * 5)
    assert_close(losses.block_info_nce(x, y, 3.0), losses.symmetric_info_nce(x.primary, y.primary, 3.0))


def test_block_ignores_what_stands_for_an_absent_auxiliary():
    x, y = _sampled(3, 60, [0.5, 1.0, 0.5]), _sampled(3, 70, [0.5, 0.5, 0.5])
    other = x.auxiliary.clone()
    other[1] = 100.0
    changed = SampledViews(x.primary, other, x.share)
    assert_close(losses.block_info_nce(changed, y, 1.0), losses.block_info_nce(x, y, 1.0))


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), (4,)])
def test_logits_without_a_positive_per_row_are_refused(shape):
    with pytest.raises(RunError, match="row i's positive is column i"):
        losses.info_nce(torch.zeros(shape))


def test_losses_leave_their_arguments_alone():
    logits, same = _random(4, 4, seed=1), _same(4, 4, seed=2)
    before = logits.clone(), same.clone()
    losses.info_nce(logits, same)
    losses.multi_positive_info_nce(logits, same)
    assert_close(before, (logits, same), rtol=0, atol=0)


# --- of weak labels


def _log_softmax(row):
    total = math.log(sum(math.exp(z) for z in row))
    return [z - total for z in row]


def test_listwise_cross_entropy_against_a_loop():
    logits, labels = _random(4, 7, seed=1), _random(4, 7, seed=2)
    for temperature in (0.3, 2.0):
        expected = []
        for z, own in zip(logits.tolist(), labels.tolist(), strict=True):
            target = [math.exp(p) for p in _log_softmax([label / temperature for label in own])]
            expected.append(-sum(p * q for p, q in zip(target, _log_softmax(z), strict=True)))
        found = losses.listwise_cross_entropy(logits, labels, temperature)
        assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_listwise_cross_entropy_is_least_where_the_ranker_says_what_the_labels_say():
    labels = _random(3, 5, seed=4)
    least = losses.listwise_cross_entropy(labels / 0.5, labels, 0.5)
    assert (losses.listwise_cross_entropy(labels / 0.5 + _random(3, 5, seed=5), labels, 0.5) > least).all()


def test_pairwise_logistic_against_a_loop_and_by_hand():
    logits, labels = _random(4, 6, seed=1), _random(4, 6, seed=2).round()
    expected = []
    for z, own in zip(logits.tolist(), labels.tolist(), strict=True):
        total = weight = 0.0
        for i in range(6):
            for j in range(6):
                if own[i] > own[j]:
                    total += (own[i] - own[j]) * math.log(1 + math.exp(z[j] - z[i]))
                    weight += own[i] - own[j]
        expected.append(total / weight)
    assert_close(losses.pairwise_logistic(logits, labels), torch.tensor(expected, dtype=torch.float64))
    # pairs 2 > 0 and 2 > 1 and 1 > 0 by 2, 1, 1, all at equal logits: log 2 each; labels alike: nothing to learn
    by_hand = losses.pairwise_logistic(torch.zeros(2, 3), torch.tensor([[0.0, 1, 2], [1, 1, 1]]))
    assert_close(by_hand, torch.tensor([math.log(2), 0.0]))


def test_score_regression_by_hand_and_what_does_not_fit():
    assert_close(losses.score_regression(torch.tensor([[0.5, 1.0]]), torch.tensor([[1.0, 0.0]])), torch.tensor([0.625]))
    for loss in (losses.pairwise_logistic, losses.score_regression):
        with pytest.raises(RunError, match=r"\(2, 3\) and labels of shape \(2, 4\)"):
            loss(torch.zeros(2, 3), torch.zeros(2, 4))
