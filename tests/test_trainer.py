"""The trainer: one data order for all, budgets that are kept and counted, identical reruns."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ftbench.batches import Batch, batches_of
from ftbench.embedder import Embedder
from ftbench.encoders import tiny
from ftbench.encoders.base import weights_sha256
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.settings import TrainerConfig, parse_settings
from ftbench.task import load_task, training_sets
from ftbench.trainer import Trainer, schedule

TRAINED = ("single_view_clip", "mean_pooling", "mean_pooling_all_views", "factorized_transport",
           "factorized_transport_cached")  # fmt: skip
SHARING = ("single_view_clip", "max_pooling", "factorized_transport", "factorized_transport_cached", "cwcl")


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder


def trainer_of(encoder, board="equal-compute", seed=0, zero_shot=False, **settings):
    config = TrainerConfig(**({"budget": 900.0, "batch_size": 8} | settings))
    return Trainer(encoder, config, board, seed, torch.device("cpu"), lambda title: silent, zero_shot)


def fitted(name, encoder, toy, track="supervised", **settings):
    method = load_method(name, track=track)
    train, valid = training_sets(load_task("query2item", "toy"), toy, track)
    return method, method.fit(train, valid, trainer_of(encoder, **settings))


@pytest.mark.parametrize("track", ["supervised", "aligned"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains_within_its_budget(name, track, encoder, toy):
    _, trained = fitted(name, encoder, toy, track)
    assert 0.5 * 900 < trained.meter.spent <= 900 * 1.25
    passes = trained.meter.image_passes, trained.meter.text_passes
    assert min(passes) > 0 and trained.steps > 0
    assert weights_sha256(trained.model.model) != encoder.weights


@pytest.mark.parametrize("name", TRAINED)
def test_equal_steps_board_gives_every_method_the_same_steps(name, encoder, toy):
    assert fitted(name, encoder, toy, board="equal-steps", steps=3)[1].steps == 3


def test_passes_per_item(encoder, toy):
    """Single view: one image, one title, four queries. Factorized: one more of each kind where the item has one."""
    meter = fitted("single_view_clip", encoder, toy, board="equal-steps", steps=3)[1].meter
    assert meter.image_passes == meter.training_items and meter.text_passes == 5 * meter.training_items
    meter = fitted("factorized_transport", encoder, toy, board="equal-steps", steps=3)[1].meter
    assert meter.training_items < meter.image_passes <= 2 * meter.training_items
    assert 5 * meter.training_items < meter.text_passes <= 6 * meter.training_items


def test_flops_of_a_step_by_hand(encoder, toy):
    trained = fitted("single_view_clip", encoder, toy, board="equal-steps", steps=1)[1]
    assert trained.meter.flops == 3 * 8 * (encoder.image_flops + 5 * encoder.text_flops)


def test_the_warm_up_of_the_bank_is_paid(encoder, toy):
    plain = fitted("factorized_transport", encoder, toy, board="equal-steps", steps=1)[1].meter
    cached = fitted("factorized_transport_cached", encoder, toy, board="equal-steps", steps=1)[1].meter
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    images, texts = ((ids >= 0).sum() for ids in (train.views.images, train.views.texts))
    assert cached.image_passes - plain.image_passes == images
    assert cached.flops - plain.flops == images * encoder.image_flops + texts * encoder.text_flops


def test_same_seed_same_weights_other_seed_other_weights(encoder, toy):
    hashes = [weights_sha256(fitted("factorized_transport", encoder, toy, seed=s)[1].model.model) for s in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_zero_shot_is_the_initial_model(encoder, toy):
    trained = fitted("single_view_clip", encoder, toy, zero_shot=True)[1]
    assert trained.steps == 0 and trained.meter.spent == 0
    assert weights_sha256(trained.model.model) == encoder.weights


def test_data_order_is_the_seed_s_alone(toy):
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    first, again, other = (batches_of(train, TrainerConfig(batch_size=8), seed) for seed in (0, 0, 1))
    for _ in range(5):
        a, b, c = next(first), next(again), next(other)
        np.testing.assert_array_equal(a.items, b.items)
        np.testing.assert_array_equal(a.queries, b.queries)
        assert a.items.tolist() != c.items.tolist()


def seen_by(name, encoder, toy, track, seed):
    """The first weights of a method that is fitted, and the items and queries of each of its steps."""
    weights, steps = [], []
    method = load_method(name, track=track)
    begin, loss = method.begin, method.loss

    def spied(batch, towers, generator):
        if not steps:
            weights.append(weights_sha256(towers.model.model))
        steps.append((batch.items.tolist(), None if batch.queries is None else batch.queries.tolist()))
        return loss(batch, towers, generator)

    method.begin = lambda data, towers: (weights.append(weights_sha256(towers.model.model)), begin(data, towers))
    method.loss = spied
    train, valid = training_sets(load_task("query2item", "toy"), toy, track)
    method.fit(train, valid, trainer_of(encoder, board="equal-steps", steps=7, seed=seed))
    assert len(steps) == 7
    return weights, steps


@pytest.mark.parametrize("track", ["supervised", "aligned"])
def test_methods_share_first_weights_and_batches(track, encoder, toy):
    """Over two epochs and a bit; here the first weights follow the seed, as those of a projection do."""

    def build(seed):
        model = encoder.build(seed)
        with torch.no_grad():
            for p in model.parameters():
                p += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        return model

    seeded = replace(encoder, build=build)
    found = {(name, seed): seen_by(name, seeded, toy, track, seed) for name in SHARING for seed in (3, 4)}
    for seed in (3, 4):
        weights, steps = found[SHARING[0], seed]
        assert weights == 2 * [weights_sha256(build(seed).model)]
        assert all(found[name, seed] == (weights, steps) for name in SHARING)
    assert all(one != other for one, other in zip(found[SHARING[0], 3], found[SHARING[0], 4], strict=True))


def test_an_epoch_holds_every_item_once(toy):
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    batches = batches_of(train, TrainerConfig(batch_size=8), 3)
    seen = np.concatenate([next(batches).items for _ in range(3)])
    assert sorted(seen) == list(range(20))


def test_batches_mark_pairs_with_the_same_query(toy):
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    pairs = np.concatenate([train.interactions, train.interactions[::-1] + [0, 0], [[0, 5], [3, 7]]])
    same = replace(train, query_texts=("one",) * 4 + train.query_texts[4:], interactions=pairs)
    batch = next(batches_of(same, TrainerConfig(batch_size=20, queries_per_item=3), 0))
    assert batch.queries.shape == (20, 3) and batch.same.shape == (20, 3, 20)
    texts = [[same.query_texts[q] for q in row] for row in batch.queries]
    for i, row in enumerate(texts):
        for k, text in enumerate(row):
            for j, other in enumerate(texts):
                assert bool(batch.same[i, k, j]) == (text in other)


def test_query_loss_against_a_naive_loop(encoder, toy):
    """The loss of queries is the mean over them of -log softmax over the batch's items, same-text items left out."""
    rng = torch.Generator().manual_seed(0)
    items, queries = torch.randn(4, 8, generator=rng), torch.randn(4, 2, 8, generator=rng)
    same = torch.eye(4, dtype=torch.bool)[:, None].repeat(1, 2, 1)
    same[0, 1, 2] = True

    class Given:
        scale = torch.tensor(3.0)

        def queries(self, ids):
            return queries.reshape(-1, 8)

    method = load_method("single_view_clip", {"alignment_weight": "0"})
    loss = method.objective(
        Batch(np.arange(4), torch.ones(4, dtype=torch.bool), np.zeros((4, 2), int), same),
        Given(),
        items,
        torch.zeros(4, 8),
    )
    vectors, total = items / items.norm(dim=1, keepdim=True), 0.0
    for i in range(4):
        for k in range(2):
            scores = [3.0 * float(queries[i, k] @ vectors[j]) for j in range(4)]
            rivals = [s for j, s in enumerate(scores) if j == i or not (i == 0 and k == 1 and j == 2)]
            total += np.log(sum(np.exp(s) for s in rivals)) - scores[i]
    assert float(loss) == pytest.approx(total / 8, rel=1e-5)


def test_schedule_rises_then_falls_to_zero():
    rates = [schedule(done, 0.05) for done in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1, abs=0.01) and 4 <= int(np.argmax(rates)) <= 6
    assert rates[0] < 0.3 and rates[-1] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in zip(rates[6:], rates[7:], strict=False))


def test_a_loss_that_is_not_finite_stops_the_run(encoder, toy):
    train, valid = training_sets(load_task("query2item", "toy"), toy, "supervised")
    method = load_method("single_view_clip")
    for values, said in (
        (itertools.repeat(float("nan")), "the method's loss gave nan at the first step, before any update"),
        (itertools.chain([1.0], itertools.repeat(float("nan"))), "the loss became nan by step .*a lower rate"),
        (itertools.chain([1.0] * 20, itertools.repeat(float("nan"))), "the loss became nan by step 24; try a lower"),
    ):
        method.loss = lambda batch, towers, generator, values=values: towers.scale * next(values)
        with pytest.raises(RunError, match=said):
            method.fit(train, valid, trainer_of(encoder, board="equal-steps", steps=24))


def test_settings_are_checked_together():
    with pytest.raises(FtbenchError) as caught:
        parse_settings("trainer", TrainerConfig(), {"batch_size": "1", "warmup": "2", "learning_rat": "1"})
    for part in ("batch_size is 1", "warmup is 2.0", "Did you mean 'learning_rate'"):
        assert part in str(caught.value)


def test_unknown_method_setting_is_an_error():
    with pytest.raises(FtbenchError, match="Did you mean 'primary_share'"):
        load_method("factorized_transport", {"primary_shar": "0.3"})
    with pytest.raises(FtbenchError, match="primary_share=low: expected a number, such as 0.3"):
        load_method("factorized_transport", {"primary_share": "low"})


def test_inference_encodes_each_asset_once(encoder, toy):
    from ftbench.views import views_of

    method, trained = fitted("mean_pooling", encoder, toy, board="equal-steps", steps=1)
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    views = views_of(toy, toy.rows("test"))
    once = method.embed(views, embedder)
    passes = dict(embedder.passes)
    assert passes == {"image": int((views.images >= 0).sum()), "text": int((views.texts >= 0).sum())}
    np.testing.assert_array_equal(method.embed(views, embedder), once)
    assert embedder.passes == passes
    np.testing.assert_allclose(np.linalg.norm(once, axis=1), 1, atol=1e-5)


def test_fused_vector_is_the_mean_over_existing_views_by_a_loop(encoder, toy):
    from ftbench.views import views_of

    method, trained = fitted("mean_pooling", encoder, toy, board="equal-steps", steps=1)
    views = views_of(toy, toy.rows("test"))
    fused = method.embed(views, Embedder(trained, encoder, torch.device("cpu"), silent))
    for row in range(len(views)):
        sides = []
        with torch.inference_mode():
            for ids, kind in ((views.images[row], "image"), (views.texts[row], "text")):
                ids = ids[ids >= 0]
                if kind == "image":
                    vectors = trained.model.image(encoder.preprocess(views.assets.pixels(ids)))
                else:
                    vectors = trained.model.text(encoder.tokenize([views.assets.texts[i] for i in ids]))
                mean = sum(vector for vector in vectors) / len(ids)
                sides.append(mean / mean.norm())
        expected = sides[0] + sides[1]
        np.testing.assert_allclose(fused[row], (expected / expected.norm()).numpy(), atol=1e-5)


def test_cached_forward_value_is_over_all_views(encoder, toy):
    """With a bank that is fresh (no step yet), the fused side equals the weighted mean over all views."""
    from ftbench.trainer import Meter, Towers
    from ftbench.views import view_weights

    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    towers = Towers(encoder.build(0), encoder, torch.device("cpu"), Meter(1.0, 1.0))
    towers.open(train, silent)
    method = load_method("factorized_transport_cached")
    method.sampled, method.encoded = [], []
    with torch.no_grad():
        method.begin(train, towers)
    items = np.arange(len(train.item_ids))
    side = method._fused(method.sides[0], items, torch.Generator().manual_seed(0))
    weights = view_weights(train.views.images, method.config.primary_share)
    for row, ids in enumerate(train.views.images):
        with torch.no_grad():
            vectors = towers.images(ids[ids >= 0])
        expected = sum(float(w) * v for w, v in zip(weights[row][ids >= 0], vectors, strict=True))
        torch.testing.assert_close(side[row].detach(), expected, atol=1e-5, rtol=1e-4)
    assert side.requires_grad


def test_in_cached_alignment_each_encoded_view_meets_the_other_fused_vector():
    """Against a plain loop; item 1 has no auxiliary image, so no row for it among the auxiliaries."""
    from types import SimpleNamespace

    from ftbench.losses import SampledViews, block_info_nce

    generator = torch.Generator().manual_seed(4)
    unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)  # noqa: E731
    share = [torch.tensor([0.5, 1.0, 0.5]), torch.tensor([0.5, 0.5, 0.5])]
    sampled = [SampledViews(unit(3, 4), unit(3, 4), s) for s in share]
    image, text = 0.7 * unit(3, 4), 0.4 * unit(3, 4)  # fused vectors are shorter than 1
    batch, towers = Batch(np.arange(3), torch.ones(3, dtype=torch.bool)), SimpleNamespace(scale=torch.tensor(5.0))

    def found(loss):
        method = load_method("factorized_transport_cached", {"rest_weight": "0", "loss": loss})
        method.sampled = [[side] for side in sampled]
        return float(method.alignment(batch, towers, image, text))

    def one_way(probes, gallery):
        logits = [[5 * float(p @ g / g.norm() / p.norm()) for g in gallery] for p in probes]
        return sum(math.log(sum(math.exp(x) for x in row)) - row[i] for i, row in enumerate(logits)) / len(logits)

    def both_ways(x, y):
        return (one_way(x, y) + one_way(y, x)) / 2

    kept = [0, 2]
    terms = [
        both_ways(sampled[0].primary, text),
        both_ways(sampled[0].auxiliary[kept], text[kept]),
        both_ways(sampled[1].primary, image),
        both_ways(sampled[1].auxiliary, image),
    ]
    assert found("views") == pytest.approx(sum(terms) / 4, rel=1e-5)
    assert found("blocks") == pytest.approx(float(block_info_nce(*sampled, 5.0)), rel=1e-5)


@pytest.mark.parametrize("name", ["factorized_transport", "factorized_transport_cached"])
def test_the_primary_share_follows_the_track(name, encoder, toy):
    for track, key in (("supervised", "primary_share"), ("aligned", "alignment_share")):
        train, valid = training_sets(load_task("query2item", "toy"), toy, track)
        method = load_method(name, {"primary_share": "0.3", "alignment_share": "0.6", "inference": "matched"}, track)
        config = TrainerConfig(budget=600.0, batch_size=4)
        method.fit(
            train, valid, Trainer(encoder, config, "equal-compute", 0, torch.device("cpu"), lambda title: silent)
        )
        expected = getattr(method.config, key)
        shares = method.sides[0].shares if name.endswith("cached") else method.shares[0]
        assert float(shares[0, 0]) == 1.0, "item 0 has no auxiliary image"
        assert float(shares[1, 0]) == pytest.approx(expected)
        assert method.weights(train.views.images)[1, 0] == pytest.approx(expected)


def test_without_queries_items_that_lack_images_or_texts_do_not_enter(toy):
    train, _ = training_sets(load_task("cross_view", "toy"), toy, "aligned")
    images, texts = train.views.images.copy(), train.views.texts.copy()
    images[3], texts[7] = -1, -1
    train = replace(train, views=replace(train.views, images=images, texts=texts))
    batches = batches_of(train, TrainerConfig(batch_size=4), 0)
    seen = np.concatenate([next(batches).items for _ in range(30)])
    assert set(seen.tolist()) == set(range(len(train.item_ids))) - {3, 7}


def test_word_tokenizer():
    tokenizer = tiny.WordTokenizer(["lamp", "red"], context=6)
    ids = tokenizer(["Red lamp!", "", "red red red red red red", "unheard"])
    assert ids.shape == (4, 6)
    assert ids[0].tolist() == [1, 3, 2, tokenizer.end, 0, 0]
    assert ids[1].tolist() == [1, tokenizer.end, 0, 0, 0, 0]
    assert ids[2].tolist() == [1, 3, 3, 3, 3, tokenizer.end]
    assert 4 <= ids[3, 1] < tokenizer.end == tokenizer.size - 1
    assert int(ids.argmax(dim=1)[0]) == 3, "the end token is the highest id, where open_clip pools"
