"""The options of factorized transport with cached views: each against its definition."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ftbench.batches import Batch
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.settings import TrainerConfig
from ftbench.task import load_task, training_sets
from ftbench.trainer import Trainer

D = 3


class Table:
    """Towers that look vectors up: asset ids (k,) -> (k, d), with a gradient."""

    device = torch.device("cpu")
    scale = torch.tensor(2.0)

    def __init__(self, count=60):
        self.encoder = SimpleNamespace(dimensions=D)
        self.vectors = torch.randn(count, D, generator=torch.Generator().manual_seed(1)).requires_grad_()
        self.asked = []

    def images(self, ids):
        self.asked.append(ids)
        found = self.vectors[torch.from_numpy(np.maximum(ids, 0))]
        return torch.where(torch.from_numpy(ids >= 0)[:, None], found, 0.0)

    texts = images


ALONE, SEVERAL = ((8,), (9,), (10,)), ((8, 11, 13), (9, -1, -1), (10, 12, 14))


def begun(track="supervised", texts=ALONE, **settings):
    """A method with a bank of 3 items: four image views, one, and three with a gap; a single text each, or others."""
    method = load_method("factorized_transport_cached", {k: str(v) for k, v in settings.items()}, track)
    images = np.array([[0, 1, 2, 3], [4, -1, -1, -1], [5, 6, -1, 7]])
    towers = Table()
    with torch.no_grad():
        method.begin(SimpleNamespace(views=SimpleNamespace(images=images, texts=np.array(texts))), towers)
    method.sampled, method.encoded = [], []
    return method, towers


def gradient_of_fused(method, towers, probe, draws):
    """Mean over draws of the gradient of <probe, fused vector of item 0> with respect to each of its image views."""
    total = torch.zeros(4, D)
    for seed in range(draws):
        towers.vectors.grad = None
        fused = method._fused(method.sides[0], np.array([0]), torch.Generator().manual_seed(seed))
        (fused[0] @ probe).backward()
        total += towers.vectors.grad[:4]
    return total / draws


def changed(method):
    """The method with its learned factors moved away from 0, so that no weights are the shares."""
    generator = torch.Generator().manual_seed(5)
    for factor in method.factors.values():
        with torch.no_grad():
            factor += torch.randn(factor.shape, generator=generator)
    return method


def weights_by_hand(method, towers, kind, ids, share):
    """{column: weight} of one item's views: shares times the exponential of a factor of the slot, or of the view."""
    factor, form = method.factors[kind].detach(), method.config.weighting
    columns = [m for m in range(len(ids)) if ids[m] >= 0]
    odds = {m: share if m == 0 else (1 - share) / (len(columns) - 1) for m in columns}
    for m in columns:
        if form != "share":
            odds[m] *= math.exp(factor[m] if form == "slot" else towers.vectors[ids[m]].detach() @ factor)
    return {m: odd / sum(odds.values()) for m, odd in odds.items()}


def four_weights(method, towers):
    """(4,) of the images of item 0."""
    return torch.tensor(list(weights_by_hand(method, towers, "image", (0, 1, 2, 3), 0.4).values()))


PROBE = torch.tensor([1.0, -2.0, 0.5])


@pytest.mark.parametrize("sampling", ["weight", "uniform"])
@pytest.mark.parametrize("weighting", ["share", "slot", "gate"])
@pytest.mark.parametrize("draws", [1, 2])
def test_the_sampled_gradient_is_unbiased_for_that_of_the_weighted_mean(sampling, weighting, draws):
    method, towers = begun(sampling=sampling, weighting=weighting, draws=draws, primary_share=0.4)
    weights = four_weights(changed(method), towers)
    assert weighting == "share" or weights[1:].std() > 0.01
    found = gradient_of_fused(method, towers, PROBE, 3000 // draws)
    torch.testing.assert_close(found, weights[:, None] * PROBE, atol=0.06, rtol=0)


@pytest.mark.parametrize("sampling", ["weight", "uniform"])
@pytest.mark.parametrize("weighting", ["share", "slot", "gate"])
@pytest.mark.parametrize("draws", [1, 2])
def test_the_gradients_of_all_draws_add_up_to_that_of_the_full_sum(sampling, weighting, draws, monkeypatch):
    """Every outcome of drawing times its chance, against each view's weight; no outcome moves the value."""
    method, towers = begun(sampling=sampling, weighting=weighting, draws=draws, primary_share=0.4)
    weights = four_weights(changed(method), towers)
    own = [1 / 3] * 3 if sampling == "uniform" else (weights[1:] / weights[1:].sum()).tolist()
    whole = sum(w * v for w, v in zip(weights, towers.vectors.detach(), strict=False))
    total = torch.zeros(4, D)
    for outcome in itertools.product((1, 2, 3), repeat=draws):
        left = list(outcome)

        def given(chances, generator, left=left):
            torch.testing.assert_close(chances[0].detach(), torch.tensor([0.0, *own]), atol=1e-5, rtol=1e-5)
            return torch.tensor([left.pop(0)])

        monkeypatch.setitem(method.loss.__globals__, "sample_view", given)
        towers.vectors.grad = None
        fused = method._fused(method.sides[0], np.array([0]), torch.Generator())
        torch.testing.assert_close(fused[0].detach(), whole, atol=1e-5, rtol=1e-5)
        (fused[0] @ PROBE).backward()
        total += math.prod(own[column - 1] for column in outcome) * towers.vectors.grad[:4]
    torch.testing.assert_close(total, weights[:, None] * PROBE, atol=1e-5, rtol=1e-5)


def test_a_gradient_of_the_weight_alone_is_smaller():
    method, towers = begun(gradient="weight", primary_share=0.25)
    found = gradient_of_fused(method, towers, torch.ones(D), 600)
    assert found[0].tolist() == pytest.approx([0.25] * D)
    assert found[1:].sum(0).tolist() == pytest.approx([0.25] * D), "one of three, each of weight 1/4"


def test_learned_factors_get_a_gradient_and_start_as_the_shares():
    for weighting in ("slot", "gate"):
        method, towers = begun(weighting=weighting)
        assert len(list(method.learned())) == 2
        side = method.sides[0]
        torch.testing.assert_close(method._weighted("image", side.bank, side.shares).detach(), side.shares)
        fused = method._fused(side, np.array([0, 2]), torch.Generator().manual_seed(0))
        fused.pow(2).sum().backward()
        assert method.factors["image"].grad.abs().sum() > 0
    assert list(begun(weighting="share")[0].learned()) == []


def test_a_refresh_banks_further_views_without_gradient():
    method, towers = begun(refresh=40, draws=1)
    side = method.sides[0]
    side.bank.zero_()
    method._fused(side, np.array([0, 1, 2]), torch.Generator().manual_seed(0))
    there = torch.from_numpy(side.ids >= 0)
    assert (side.bank.abs().sum(2) > 0).equal(there), "after 40 draws per item every view is there, and no other"
    assert not side.bank.requires_grad


def test_a_dropped_view_has_no_weight_and_the_others_share_it():
    method, _ = begun(view_dropout=0.7)
    side = method.sides[0]
    sums = torch.zeros(D)
    for seed in range(300):
        fused = method._fused(side, np.array([1]), torch.Generator().manual_seed(seed))
        torch.testing.assert_close(fused[0].detach(), side.bank[1, 0], msg="a lone primary is never dropped")
        sums += method._fused(side, np.array([0]), torch.Generator().manual_seed(seed))[0].detach()
    plain = (side.shares[0][:, None] * side.bank[0]).sum(0)
    assert (sums / 300 - plain).norm() > 0.05, "the primary gains what the dropped ones lose"


def test_mined_negatives_by_a_loop():
    """Beside the batch each query meets the hardest items of the bank that are clearly worse than its positive."""
    method, towers = begun(hard_negatives=1, hard_margin=0.1, alignment_weight=0.0)
    with torch.no_grad():
        sides = [(side.shares[2][:, None] * side.bank[2]).sum(0) for side in method.sides]
    mined = torch.nn.functional.normalize(sum(s / s.norm() for s in sides), dim=0)
    away = torch.nn.functional.normalize(
        torch.stack([-mined[1], mined[0], torch.tensor(0.0)]), dim=0
    )  # at right angles
    items = torch.stack([mined, away])
    queries = torch.stack([mined, (mined + 2 * away) / 5**0.5])[:, None]  # the mined item is too near for the first
    towers.queries = lambda ids: queries.reshape(-1, D)
    same = torch.eye(2, dtype=torch.bool)[:, None]
    batch = Batch(np.array([0, 1]), torch.ones(2, dtype=torch.bool), np.zeros((2, 1), int), same)
    found = float(method.query_loss(batch, towers, items))
    other = method.mined[2]
    total = 0.0
    for i in range(2):
        q = queries[i, 0]
        logits = [float(2 * q @ item) for item in items]
        if float(q @ other) <= float(q @ items[i]) - 0.1:
            logits.append(float(2 * q @ other))
        total += np.log(np.exp(logits).sum()) - logits[i]
    assert found == pytest.approx(total / 2, rel=1e-5)
    assert len({float(q[0] @ other) <= float(q[0] @ item) - 0.1 for q, item in zip(queries, items, strict=True)}) == 2


@pytest.mark.parametrize("weighting", ["share", "slot", "gate"])
@pytest.mark.parametrize(
    ("draws", "sampling", "texts", "count"),
    [(1, "weight", ALONE, 3), (1, "weight", SEVERAL, 4), (1, "uniform", SEVERAL, 4), (2, "uniform", SEVERAL, 6)],
)
def test_each_encoded_view_meets_the_rest_of_its_item_by_a_loop(draws, sampling, texts, count, weighting):
    """Values and gradients. Item 1 has one image and one text: what is left of it is the other kind alone. Where no
    item has a second text, none is encoded and there is no term for it."""
    settings = {"weighting": weighting, "draws": draws, "sampling": sampling}
    method, towers = begun("aligned", texts, alignment_share=0.4, **settings)
    changed(method)
    items = np.array([0, 1, 2])
    generator = torch.Generator().manual_seed(5)  # by which the two draws of an item differ
    image, text = (method._fused(side, items, generator) for side in method.sides)
    batch = Batch(items, torch.ones(3, dtype=torch.bool))
    found = method._rest_loss(batch, towers, image, text)
    terms = []
    for side, other in ((method.sides[0], text), (method.sides[1], image)):
        weights = [weights_by_hand(method, towers, side.kind, row, 0.4) for row in side.ids]
        encoded = [vectors for kind, vectors, *_ in method.encoded if kind == side.kind]
        columns = [[column_of(towers, side.ids[i], vectors[i]) for i in items] for vectors in encoded]
        assert len(encoded) == 1 + draws and all(len({own[i] for own in columns}) == 1 + draws for i in (0, 2))
        for probe, vectors in enumerate(encoded):
            rows = [i for i in items if columns[probe][i] is not None]
            if len(rows) < 2:
                continue
            rest = []
            for i in rows:
                total = torch.zeros(D)
                for m, w in weights[i].items():
                    if m != columns[probe][i]:
                        total = total + w * towers.vectors[side.ids[i, m]].detach()
                for place, more in enumerate(encoded):  # the other encoded views bring gradients
                    m = columns[place][i]
                    if place != probe and m is not None:
                        uniform = place and sampling == "uniform"
                        part = weights[i][m] * (len(weights[i]) - 1) if uniform else 1 - weights[i][0]
                        part = part / draws if place else weights[i][0]
                        total = total + part * (more[i] - more[i].detach())
                rest.append(_unit(_unit(total) + _unit(other[i])))
            logits = torch.stack([2 * torch.stack([vectors[i] @ r for r in rest]) for i in rows])
            terms.append(-(logits.log_softmax(1).diag().mean() + logits.log_softmax(0).diag().mean()) / 2)
    assert len(terms) == count
    expected = sum(terms) / len(terms)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(one, towers.vectors, retain_graph=True)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def column_of(towers, ids, vector):
    """Which of an item's views a vector is; None where it is none."""
    same = [m for m in range(len(ids)) if ids[m] >= 0 and torch.equal(towers.vectors[ids[m]], vector)]
    return same[0] if same else None


def _unit(vector):
    return vector / vector.norm() if vector.norm() > 1e-6 else vector * 0


@pytest.mark.parametrize("track", ["supervised", "aligned"])
@pytest.mark.parametrize(
    "settings",
    [{"weighting": "gate", "sampling": "uniform"}, {"weighting": "slot", "inference": "uniform"}, {"draws": 2},
     {"refresh": 1, "view_dropout": 0.3}, {"hard_negatives": 4}, {"loss": "views"}, {"loss": "fused"},
     {"blocks_weight": 0.3}, {"rest_weight": 0, "loss": "views"}, {"weighting": "share"}],
    ids=str,
)  # fmt: skip
def test_every_option_trains(settings, track, small_encoder, toy):
    method = load_method("factorized_transport_cached", {k: str(v) for k, v in settings.items()}, track)
    sets = training_sets(load_task("query2item", "toy"), toy, track)
    config = TrainerConfig(budget=900.0, batch_size=8)
    device = torch.device("cpu")
    trained = method.fit(*sets, Trainer(small_encoder, config, "equal-compute", 0, device, lambda title: silent))
    assert trained.steps > 3 and trained.meter.spent <= 900 * 1.25
    if method.config.weighting != "share":
        assert any(bool(factor.detach().abs().max() > 0) for factor in method.factors.values())


@pytest.mark.parametrize("weighting", ["slot", "gate"])
def test_a_text_probe_has_no_image_side_and_is_embedded_as_itself(weighting, small_encoder, toy):
    """Queries come with assets of their own, without any image."""
    from ftbench.embedder import Embedder
    from ftbench.views import text_probes

    method = load_method("factorized_transport_cached", {"weighting": weighting}, "supervised")
    sets = training_sets(load_task("query2item", "toy"), toy, "supervised")
    device = torch.device("cpu")
    config = TrainerConfig(budget=400.0, batch_size=8)
    trained = method.fit(*sets, Trainer(small_encoder, config, "equal-compute", 0, device, lambda title: silent))
    embedder = Embedder(trained, small_encoder, device, silent)
    probes = text_probes(["a fine lamp", "lamp for room"])
    own = embedder.vectors(probes, "text")[:, 0]
    np.testing.assert_allclose(method.embed(probes, embedder), own, atol=1e-6)
