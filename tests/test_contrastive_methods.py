"""The losses of all pairs, sigmoid and continuous weights against naive loops, and the methods that use them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_trainer import encoder, fitted  # noqa: F401 - a fixture
from torch.testing import assert_close

from ftbench import losses
from ftbench.batches import Batch
from ftbench.errors import FtbenchError, RunError
from ftbench.losses import SampledViews
from ftbench.method import load_method
from ftbench.views import view_weights

NAMES = ("all_pairs", "gcl", "sigmoid", "cwcl")


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _same(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.3


def _dot(x, y):
    return sum(p * q for p, q in zip(x.tolist(), y.tolist(), strict=True))


def _log_share(row, i, columns):
    return row[i] - math.log(sum(math.exp(row[j]) for j in columns))


# all pairs


def _naive_all_pairs(x, y, a, b, scale):
    """Slot pair by slot pair, item by item, both directions; what has weight 0 is in no list."""
    total = 0.0
    for m in range(x.shape[1]):
        for n in range(y.shape[1]):
            for i in range(len(x)):
                if not a[i, m] * b[i, n]:
                    continue
                row = [scale * _dot(x[i, m], y[j, n]) for j in range(len(x))]
                column = [scale * _dot(x[j, m], y[i, n]) for j in range(len(x))]
                forward = _log_share(row, i, [j for j in range(len(x)) if b[j, n]])
                backward = _log_share(column, i, [j for j in range(len(x)) if a[j, m]])
                total -= float(a[i, m] * b[i, n]) * (forward + backward) / 2
    return total / len(x)


def _weights(ids, share=0.25):
    return torch.from_numpy(view_weights(np.array(ids), share)).double()


PARTLY = _weights([[0, 1, 2, 3], [4, -1, -1, -1], [5, -1, 6, -1]]), _weights([[0, -1], [1, 2], [-1, 3]])


def test_all_pairs_is_the_naive_loop():
    x, y = _random(3, 4, 5, seed=1), _random(3, 2, 5, seed=2)
    found = losses.all_pairs_info_nce(x, y, *PARTLY, 2.0)
    assert_close(found.item(), _naive_all_pairs(x, y, *PARTLY, 2.0))


def test_all_pairs_by_hand():
    """One image and two texts of weights 1/4 and 3/4 per item. First texts: the own logit is log 3, the other 0, so
    log(4/3); second texts are all alike, so log 2."""
    x = torch.eye(2)[:, None]
    y = torch.stack([math.log(3) * torch.eye(2), torch.zeros(2, 2)], 1)
    a, b = torch.ones(2, 1), torch.tensor([[0.25, 0.75]] * 2)
    expected = 0.25 * math.log(4 / 3) + 0.75 * math.log(2)
    assert_close(losses.all_pairs_info_nce(x, y, a, b, 1.0).item(), expected)


def test_all_pairs_of_two_slots_are_the_four_blocks():
    x, y = _random(4, 2, 3, seed=3), _random(4, 2, 3, seed=4)
    a, b = _weights([[0, 1], [2, -1], [3, 4], [5, 6]]), _weights([[0, 1], [2, 3], [4, -1], [5, 6]], 0.6)
    blocks = losses.block_info_nce(*(SampledViews(v[:, 0], v[:, 1], w[:, 0]) for v, w in ((x, a), (y, b))), 2.0)
    assert_close(losses.all_pairs_info_nce(x, y, a, b, 2.0), blocks)


def test_what_does_not_exist_moves_no_loss_and_gradients_are_finite():
    x, y = _random(3, 4, 5, seed=1), _random(3, 2, 5, seed=2)
    other = torch.where((PARTLY[0] > 0)[..., None], x, 9.0).requires_grad_()
    found = losses.all_pairs_info_nce(other, y, *PARTLY, 2.0)
    assert_close(found, losses.all_pairs_info_nce(x, y, *PARTLY, 2.0))
    found.backward()
    assert torch.isfinite(other.grad).all()
    assert_close(other.grad[1, 1:], torch.zeros(3, 5, dtype=torch.float64))


@pytest.mark.parametrize("wrong", [(0, (3, 4)), (1, (2, 2, 5)), (2, (3, 3)), (3, (3, 4))])
def test_all_pairs_of_shapes_that_do_not_fit_are_refused(wrong):
    given = [torch.zeros(3, 4, 5), torch.zeros(3, 2, 5), torch.zeros(3, 4), torch.zeros(3, 2)]
    given[wrong[0]] = torch.zeros(wrong[1])
    with pytest.raises(RunError, match="all pairs: shapes"):
        losses.all_pairs_info_nce(*given, 1.0)


# sigmoid


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 1)])
def test_sigmoid_is_the_naive_loop(shape, masked):
    logits, same = _random(*shape, seed=5), _same(*shape, seed=6) if masked else None
    total = 0.0
    for i, row in enumerate(logits.tolist()):
        for j, value in enumerate(row):
            if j == i or same is None or not same[i, j]:
                total += math.log(1 + math.exp(-value if j == i else value))
    assert_close(losses.sigmoid_loss(logits, same).item(), total / len(logits))


def test_sigmoid_by_hand():
    """Probabilities 3/4 for both positives, 1/2 and 1/4 for the negatives."""
    logits = torch.tensor([[math.log(3), 0.0], [-math.log(3), math.log(3)]])
    assert_close(losses.sigmoid_loss(logits).item(), (3 * math.log(4 / 3) + math.log(2)) / 2)


def test_sigmoid_never_leaves_out_the_diagonal():
    logits = torch.tensor([[math.log(3), 5.0], [7.0, math.log(3)]])
    assert_close(losses.sigmoid_loss(logits, torch.ones(2, 2, dtype=torch.bool)).item(), math.log(4 / 3))


def test_sigmoid_does_not_overflow():
    assert_close(losses.sigmoid_loss(torch.tensor([[-3e4, 3e4], [0.0, 3e4]])).item(), (6e4 + math.log(2)) / 2)


# continuous weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 1)])
def test_weighted_info_nce_is_the_naive_loop(shape, masked):
    logits, same = _random(*shape, seed=7), _same(*shape, seed=8) if masked else None
    weights, total = _random(*shape, seed=9).abs(), 0.0
    for i, row in enumerate(logits.tolist()):
        kept = [j for j in range(len(row)) if j == i or same is None or not same[i, j]]
        mass = sum(float(weights[i, j]) for j in kept)
        total -= sum(float(weights[i, j]) / mass * _log_share(row, j, kept) for j in kept)
    assert_close(losses.weighted_info_nce(logits, weights, same).item(), total / len(logits))


def test_weighted_info_nce_by_hand():
    """Shares 3/4 and 1/4; the second column counts a third of the first, so 3/4 log(4/3) + 1/4 log 4."""
    logits, weights = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 1 / 3]])
    assert_close(losses.weighted_info_nce(logits, weights).item(), 0.75 * math.log(4 / 3) + 0.25 * math.log(4))


def test_weights_that_are_the_identity_give_info_nce():
    logits, same = _random(5, 5, seed=10), _same(5, 5, seed=11)
    assert_close(losses.weighted_info_nce(logits, torch.eye(5), same), losses.info_nce(logits, same))


def test_masked_columns_leave_gradients_finite():
    logits = _random(4, 4, seed=12).requires_grad_()
    losses.weighted_info_nce(logits, torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool)).backward()
    assert_close(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("sharpness", [None, 5.0])
def test_continuous_weights_by_a_loop(sharpness):
    vectors = _random(4, 3, seed=13)
    vectors[2] = 0.0
    found = losses.continuous_weights(vectors.requires_grad_(), sharpness)
    assert not found.requires_grad
    for i in range(4):
        for j in range(4):
            lengths = math.sqrt(_dot(vectors[i], vectors[i]) * _dot(vectors[j], vectors[j]))
            cosine = 1.0 if i == j else _dot(vectors[i], vectors[j]) / lengths if lengths else 0.0
            expected = (1 + cosine) / 2 if sharpness is None else math.exp(sharpness * (cosine - 1))
            assert float(found[i, j]) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [losses.sigmoid_loss, lambda x: losses.weighted_info_nce(x, x)])
@pytest.mark.parametrize("shape", [(3, 2), (0, 4), (4,)])
def test_logits_without_a_positive_per_row_are_refused(loss, shape):
    with pytest.raises(RunError, match="row i's positive is column i"):
        loss(torch.zeros(shape))


def test_weights_of_another_shape_are_refused():
    with pytest.raises(RunError, match=r"weights of shape \(2, 2\) given, expected \(2, 3\)"):
        losses.weighted_info_nce(torch.zeros(2, 3), torch.zeros(2, 2))


# the methods


class Given:
    """Towers that look vectors up: images, texts and queries (k, d) by asset id, and a scale."""

    device = torch.device("cpu")

    def __init__(self, scale=3.0, width=6):
        self.tables = {kind: torch.nn.functional.normalize(_random(30, width, seed=s).float(), dim=1)
                       for s, kind in enumerate(("images", "texts", "queries"))}  # fmt: skip
        self.scale = torch.tensor(scale)
        self.encoder = SimpleNamespace(dimensions=width, name="given")

    def __getattr__(self, kind):
        table = self.tables[kind]
        return lambda ids: torch.where(torch.from_numpy(ids >= 0)[:, None], table[ids], 0.0)


IMAGES = np.array([[0, 1, 2], [3, -1, -1], [-1, 4, 5], [-1, -1, -1]])
TEXTS = np.array([[0, 1], [2, -1], [3, 4], [5, 6]])
QUERIES = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])


def begun(name, towers, track="supervised", **settings):
    method = load_method(name, {k: str(v) for k, v in settings.items()}, track)
    with torch.no_grad():
        method.begin(SimpleNamespace(views=SimpleNamespace(images=IMAGES, texts=TEXTS)), towers)
    return method


def batch(queries=False, same=None):
    """The four items, of which the last has no image."""
    both = torch.tensor([True, True, True, False])
    if not queries:
        return Batch(np.arange(4), both)
    same = torch.eye(4, dtype=torch.bool)[:, None].repeat(1, 2, 1) if same is None else same
    return Batch(np.arange(4), both, QUERIES, same)


def mean(table, ids, share=None):
    weights = view_weights(ids, share)
    return torch.stack(
        [sum(float(w) * table[i] for w, i in zip(*row, strict=True)) for row in zip(weights, ids, strict=True)]
    )


def items_of(image, text):
    unit = torch.nn.functional.normalize
    return unit(unit(image, dim=1) + unit(text, dim=1), dim=1)


def query_logits(towers, items, k):
    return towers.scale * towers.tables["queries"][QUERIES[:, k]] @ items.T


@pytest.mark.parametrize("track", ["supervised", "aligned"])
@pytest.mark.parametrize("name", NAMES)
def test_each_trains_within_its_budget(name, track, encoder, toy):  # noqa: F811
    _, trained = fitted(name, encoder, toy, track)
    assert 0.5 * 900 < trained.meter.spent <= 900 * 1.25
    assert trained.steps > 0 and np.isfinite(trained.curve[-1][1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("queries", [False, True])
def test_an_item_without_an_image_does_not_enter_the_image_text_loss(name, queries):
    """With every pair but one left, a foreign text in its place moves nothing where there are no queries."""
    losses_found = []
    for replaced in (5, 20):
        towers = Given()
        method = begun(name, towers, "supervised" if queries else "aligned", alignment_weight=1.0)
        method.views = SimpleNamespace(images=IMAGES, texts=np.where(TEXTS == 5, replaced, TEXTS))
        found = method.loss(batch(queries), towers, torch.Generator().manual_seed(0))
        losses_found.append(float(found))
    assert np.isfinite(losses_found).all()
    assert (losses_found[0] == losses_found[1]) is not queries


def test_all_pairs_meets_views_and_queries_meet_the_mean():
    towers = Given()
    method = begun("all_pairs", towers, alignment_weight=0.5, primary_share=0.4)
    found = method.loss(batch(queries=True), towers, torch.Generator())
    image, text = mean(towers.tables["images"], IMAGES), mean(towers.tables["texts"], TEXTS)
    items = items_of(image, text)
    expected = sum(float(losses.info_nce(query_logits(towers, items, k))) for k in range(2)) / 2
    views = [torch.from_numpy(np.where(ids[:3] < 0, 29, ids[:3])) for ids in (IMAGES, TEXTS)]
    x, y = towers.tables["images"][views[0]], towers.tables["texts"][views[1]]
    expected += 0.5 * _naive_all_pairs(x, y, *(view_weights(ids[:3], 0.4) for ids in (IMAGES, TEXTS)), 3.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_weighted_fields_by_a_loop():
    towers = Given()
    method = begun("gcl", towers, image_share=0.3, primary_image_share=0.4, primary_text_share=0.6, alignment_weight=0)
    found = method.loss(batch(queries=True), towers, torch.Generator())
    items = 0.3 * mean(towers.tables["images"], IMAGES, 0.4) + 0.7 * mean(towers.tables["texts"], TEXTS, 0.6)
    items = items / items.norm(dim=1, keepdim=True)
    expected = sum(float(losses.info_nce(query_logits(towers, items, k))) for k in range(2)) / 2
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_fields_need_a_weight_each():
    with pytest.raises(FtbenchError, match="image_share is 1.0"):
        load_method("gcl", {"image_share": "1"})


def test_the_bias_starts_as_a_share_of_the_scale_and_is_learned(encoder, toy):  # noqa: F811
    method = begun("sigmoid", Given(scale=40.0), bias_share=0.7)
    assert float(method.share) == pytest.approx(0.7) and method.learned() == (method.share,)
    method, trained = fitted("sigmoid", encoder, toy, board="equal-steps", steps=3)
    assert float(method.share) != pytest.approx(0.6, abs=1e-6)


def test_sigmoid_asks_of_each_query_and_item_and_of_each_image_side_and_text_side():
    towers = Given()
    method = begun("sigmoid", towers, alignment_weight=0.5)
    same = torch.eye(4, dtype=torch.bool)[:, None].repeat(1, 2, 1)
    same[0, 1, 2] = True
    found = method.loss(batch(True, same), towers, torch.Generator())
    image, text = mean(towers.tables["images"], IMAGES), mean(towers.tables["texts"], TEXTS)
    logits = [query_logits(towers, items_of(image, text), k) - 1.8 for k in range(2)]
    expected = sum(float(losses.sigmoid_loss(x, same[:, k])) for k, x in enumerate(logits)) / 2
    x, y = (side[:3] / side[:3].norm(dim=1, keepdim=True) for side in (image, text))
    expected += 0.5 * float(losses.sigmoid_loss(3.0 * x @ y.T - 1.8))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["linear", "softmax"])
def test_items_alike_to_the_frozen_towers_count_in_part(form):
    """One auxiliary at most, so that what is sampled is known; the towers give other vectors once training begins."""
    towers, sharpness = Given(), 4.0
    images, texts = np.array([[0, 1], [3, -1], [-1, 4], [-1, -1]]), TEXTS
    method = begun("cwcl", towers, alignment_weight=0.5, weights=form, sharpness=sharpness, primary_share=0.4)
    primary = [mean(towers.tables[kind], ids[:, :1]) for kind, ids in (("images", IMAGES), ("texts", TEXTS))]
    towers.tables = {kind: table.flip(1) + 0.1 for kind, table in towers.tables.items()}
    method.views = SimpleNamespace(images=images, texts=texts)
    found = method.loss(batch(queries=True), towers, torch.Generator())
    image, text = mean(towers.tables["images"], images, 0.4), mean(towers.tables["texts"], texts, 0.4)
    items = items_of(image, text)

    def weights(vectors):
        return losses.continuous_weights(vectors, sharpness if form == "softmax" else None)

    logits = [query_logits(towers, items, k) for k in range(2)]
    expected = sum(float(losses.weighted_info_nce(x, weights(items_of(*primary)))) for x in logits) / 2
    x, y = (side[:3] / side[:3].norm(dim=1, keepdim=True) for side in (image, text))
    like = [weights(side[:3]) for side in primary]
    both = losses.weighted_info_nce(3 * x @ y.T, like[0]) + losses.weighted_info_nce(3 * y @ x.T, like[1])
    assert float(found) == pytest.approx(expected + 0.5 * float(both) / 2, rel=1e-5)


def test_the_sampled_share_follows_the_track():
    towers = Given()
    images = np.array([[0, 1]] * 4)
    found = []
    for track, key in (("supervised", "primary_share"), ("aligned", "alignment_share")):
        own = begun("cwcl", towers, track, **{key: 0.2})
        other = begun("cwcl", towers, track, primary_share=0.2, alignment_share=0.2)
        for method in (own, other):
            method.views = SimpleNamespace(images=images, texts=TEXTS)
            found.append(float(method.loss(batch(), towers, torch.Generator())))
    assert len(set(found)) == 1
