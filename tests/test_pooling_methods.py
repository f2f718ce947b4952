"""Methods that differ in how an item's views become one vector: in training as in search."""

import math

import numpy as np
import pytest
import torch
from ftbench.baselines.random_view import drawn
from ftbench.baselines.text_concat import join
from test_contrastive_methods import IMAGES, QUERIES, TEXTS, Given, batch, begun, items_of, mean
from test_trainer import encoder, fitted  # noqa: F401 - a fixture

from ftbench.batches import Batch
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.losses import info_nce
from ftbench.method import Embedder, load_method, unit
from ftbench.task import load_task, training_sets
from ftbench.trainer import Meter, Towers
from ftbench.views import text_probes, views_of

NAMES = ("random_view", "text_concat", "max_pooling", "attention_pooling", "gated_fusion")
LEARNED = ("attention_pooling", "gated_fusion")
POOLS = ("max_pooling", *LEARNED)


@pytest.mark.parametrize("track", ["supervised", "aligned"])
@pytest.mark.parametrize("name", NAMES)
def test_each_trains_within_its_budget(name, track, encoder, toy):  # noqa: F811
    _, trained = fitted(name, encoder, toy, track)
    assert 0.5 * 900 < trained.meter.spent <= 900 * 1.25
    assert trained.steps > 0 and np.isfinite(trained.curve[-1][1])


def changed(method):
    """The method with its own parameters moved away from the uniform mean."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.learned():
            p += torch.randn(p.shape, generator=generator)
    return method


def naive_pool(name, method, kind, vectors):
    """One side of one item from the vectors (m, d) of the views that exist."""
    d = vectors.shape[1]
    if not len(vectors):
        return torch.zeros(d)
    if name == "max_pooling":
        return torch.stack([max(v[k] for v in vectors) for k in range(d)])
    if name == "attention_pooling":
        heads, out = method.config.heads, []
        for h in range(heads):
            own = slice(h * d // heads, (h + 1) * d // heads)
            scores = [math.exp(method.config.gain * float(v @ method.seeds[kind][:, h])) for v in vectors]
            out.append(sum(s / sum(scores) * v[own] for s, v in zip(scores, vectors, strict=True)))
        return torch.cat(out)
    first, last = method.gates[kind]
    logits = [
        float(last[-1] + sum(last[h] * math.tanh(v @ first[:, h]) for h in range(len(last) - 1))) for v in vectors
    ]
    gates = [1 / (1 + math.exp(-method.config.gain * x)) for x in logits]
    return sum(g / sum(gates) * v for g, v in zip(gates, vectors, strict=True))


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("kind", ["image", "text"])
def test_pools_against_a_loop_over_the_views_that_exist(name, kind):
    """Items with three views, with one, without a primary, and without any."""
    towers = Given(width=8)
    method = changed(begun(name, towers))
    vectors = torch.where(torch.from_numpy(IMAGES >= 0)[..., None], towers.tables["images"][IMAGES], 0.0)
    with torch.no_grad():
        found = method.pool(kind, vectors, IMAGES)
        for row, ids in zip(found, IMAGES, strict=True):
            expected = naive_pool(name, method, kind, towers.tables["images"][ids[ids >= 0]])
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], towers.tables["images"][3])
    assert not found[3].any()


@pytest.mark.parametrize("name", POOLS)
def test_padding_slots_change_nothing(name):
    method, towers = changed(begun(name, Given(width=8))), Given(width=8)
    wide = np.concatenate([IMAGES, np.full((4, 3), -1)], 1)
    pooled = [
        method.pool("image", torch.where(torch.from_numpy(ids >= 0)[..., None], towers.tables["images"][ids], 0.0), ids)
        for ids in (IMAGES, wide)
    ]
    torch.testing.assert_close(*pooled)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_weights_start_as_the_uniform_mean_and_take_a_gradient(name):
    towers = Given(width=8)
    method = begun(name, towers)
    vectors = torch.where(torch.from_numpy(IMAGES >= 0)[..., None], towers.tables["images"][IMAGES], 0.0)
    pooled = method.pool("image", vectors, IMAGES)
    torch.testing.assert_close(pooled, mean(towers.tables["images"], IMAGES))
    (pooled * torch.arange(8)).sum().backward()
    gradients = [p.grad for p in method.learned() if p.grad is not None]
    assert any(g.any() for g in gradients) and all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_weights_are_trained_and_the_same_each_time(name, encoder, toy):  # noqa: F811
    first, again = (fitted(name, encoder, toy, board="equal-steps", steps=3)[0] for _ in range(2))
    untrained = begun(name, Given(width=encoder.dimensions))
    for p, q, start in zip(first.learned(), again.learned(), untrained.learned(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)
        assert p.shape == start.shape
    assert any((p != start).any() for p, start in zip(first.learned(), untrained.learned(), strict=True))


def test_a_gate_is_not_an_attention():
    """Two views: attention can leave one of them out; open gates share alike however far one opens."""
    towers = Given(width=8)
    vectors, ids = torch.eye(8)[None, :2], np.array([[0, 1]])
    attention, gates = begun("attention_pooling", towers, gain=1.0), begun("gated_fusion", towers)
    with torch.no_grad():
        attention.seeds["image"][0], attention.seeds["image"][1] = 30.0, 10.0
        first, last = gates.gates["image"]
        first.zero_()[0, 0], last[0], last[-1] = 9.0, 10.0, 20.0
        assert float(attention.pool("image", vectors, ids)[0, 1]) < 1e-6
        torch.testing.assert_close(gates.pool("image", vectors, ids)[0, :2], torch.tensor([0.5, 0.5]))


def test_closed_gates_leave_a_lone_view_whole():
    method = begun("gated_fusion", Given(width=8))
    with torch.no_grad():
        method.gates["image"][1][-1] = -1e4
    found = method.pool("image", torch.eye(8)[None, :2], np.array([[0, -1]]))
    torch.testing.assert_close(found[0], torch.eye(8)[0])


def test_heads_must_divide_the_width():
    with pytest.raises(RunError, match="5 heads given, expected a divisor of 8"):
        begun("attention_pooling", Given(width=8), heads=5)
    for name, key in (("attention_pooling", "heads"), ("gated_fusion", "hidden")):
        with pytest.raises(FtbenchError, match=f"{key} is 0, expected at least 1"):
            load_method(name, {key: "0"})


@pytest.mark.parametrize("name", ["max_pooling", "attention_pooling", "gated_fusion", "gcl", "sigmoid"])
def test_what_is_trained_is_what_is_searched(name, encoder, toy):  # noqa: F811
    """An item's vector inside the loss, made anew from the trained weights, is the one that `embed` gives."""
    method, trained = fitted(name, encoder, toy, board="equal-steps", steps=2)
    changed(method)
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    towers = Towers(trained.model, encoder, torch.device("cpu"), Meter(1.0, 1.0))
    towers.open(train, silent)
    caught = []
    method.query_loss = lambda batch, towers, items: caught.append(items) or items.sum()
    n = len(train.item_ids)
    with torch.no_grad():
        both = torch.ones(n, dtype=torch.bool)
        method.loss(Batch(np.arange(n), both, np.zeros((n, 1), int), both[:, None, None]), towers, torch.Generator())
    searched = method.embed(train.views, Embedder(trained, encoder, torch.device("cpu"), silent))
    np.testing.assert_allclose(caught[0].numpy(), searched, atol=1e-5)


@pytest.mark.parametrize("name", [*NAMES, "gcl", "all_pairs", "sigmoid", "cwcl"])
def test_a_text_alone_and_an_image_alone_give_their_own_vectors(name, encoder, toy):  # noqa: F811
    method, trained = fitted(name, encoder, toy, board="equal-steps", steps=1)
    changed(method)
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    with torch.inference_mode():
        text = trained.model.text(encoder.tokenize(["lamp for room", "a lamp"])).numpy()
        np.testing.assert_allclose(method.embed(text_probes(["lamp for room", "a lamp"]), embedder), text, atol=1e-5)
        views = views_of(toy, toy.rows("test"))
        image = trained.model.image(encoder.preprocess(toy.assets.pixels(views.images[:, 0]))).numpy()
    np.testing.assert_allclose(method.embed(views.single("image", views.images[:, 0]), embedder), image, atol=1e-5)


@pytest.mark.parametrize("name", ["attention_pooling", "gated_fusion"])
def test_without_training_views_are_weighed_alike(name, encoder, toy):  # noqa: F811
    views = views_of(toy, toy.rows("test"))
    vectors = []
    for one in (name, "mean_pooling"):
        method, trained = fitted(one, encoder, toy, zero_shot=True)
        vectors.append(method.embed(views, Embedder(trained, encoder, torch.device("cpu"), silent)))
    np.testing.assert_allclose(*vectors, atol=1e-6)


# random view


def test_every_view_that_exists_is_drawn_as_often():
    ids = np.repeat(IMAGES, 3000, axis=0)
    found = drawn(ids, torch.Generator().manual_seed(0)).reshape(4, 3000)
    counts = np.array([[(row == i).mean() for i in range(6)] for row in found])
    expected = [[1 / 3, 1 / 3, 1 / 3, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0.5, 0.5], [0] * 6]
    np.testing.assert_allclose(counts, expected, atol=0.04)
    assert (found[3] == -1).all()


def test_padding_columns_change_no_draw():
    ids = np.repeat(IMAGES, 50, axis=0)
    wide = np.concatenate([ids, np.full((200, 4), -1)], 1)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    np.testing.assert_array_equal(drawn(ids, generators[0]), drawn(wide, generators[1]))
    assert torch.equal(torch.rand(5, generator=generators[0]), torch.rand(5, generator=generators[1]))


def test_a_random_view_costs_two_encodes_and_the_mean_is_searched(encoder, toy):  # noqa: F811
    method, trained = fitted("random_view", encoder, toy, board="equal-steps", steps=3)
    meter = trained.meter
    assert meter.image_passes == meter.training_items and meter.text_passes == 5 * meter.training_items
    views = views_of(toy, toy.rows("test"))
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    image, text = (
        unit(embedder.vectors(views, kind).sum(1) / (ids >= 0).sum(1, keepdims=True))
        for kind, ids in (("image", views.images), ("text", views.texts))
    )
    np.testing.assert_allclose(method.embed(views, embedder), unit(image + text), atol=1e-5)


def test_the_loss_of_a_random_view_is_over_what_was_drawn():
    towers = Given()
    method = begun("random_view", towers, alignment_weight=0)
    found = float(method.loss(batch(queries=True), towers, torch.Generator().manual_seed(5)))
    generator = torch.Generator().manual_seed(5)
    image, text = (drawn(ids, generator) for ids in (IMAGES, TEXTS))
    items = items_of(mean(towers.tables["images"], image[:, None]), mean(towers.tables["texts"], text[:, None]))
    logits = [3.0 * towers.tables["queries"][QUERIES[:, k]] @ items.T for k in range(2)]
    assert found == pytest.approx(sum(float(info_nce(x)) for x in logits) / 2, rel=1e-5)


# joined texts


def test_texts_are_joined_the_primary_first_then_the_shortest():
    assert join(["a long title", "a description of it", "tag"]) == "a long title tag a description of it"
    assert join(["title"]) == "title" and join([]) is None


def test_joined_views_lead_to_joined_texts_and_to_the_same_images(toy):
    views = views_of(toy, toy.rows("test"))
    views = views.take(np.array([0, 1, 2, 2]))
    views.texts[1] = -1
    joined = load_method("text_concat").joined(views)
    rows = [[views.assets.texts[i] for i in ids if i >= 0] for ids in views.texts]
    assert joined.texts.shape == (4, 1) and joined.texts[1, 0] == -1
    for i in (0, 2, 3):
        assert joined.assets.texts[joined.texts[i, 0]] == " ".join(rows[i])
    assert len(joined.assets.texts) == 2, "equal texts are one asset"
    np.testing.assert_array_equal(joined.images, views.images)
    ids = views.images[:, 0]
    for a, b in zip(joined.assets.pixels(ids), views.assets.pixels(ids), strict=True):
        np.testing.assert_array_equal(a, b)


def test_joined_texts_cost_one_pass_and_are_what_is_searched(encoder, toy):  # noqa: F811
    method, trained = fitted("text_concat", encoder, toy, board="equal-steps", steps=3)
    meter = trained.meter
    assert meter.image_passes == meter.training_items and meter.text_passes == 5 * meter.training_items
    views = views_of(toy, toy.rows("test"))
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    found, passes = method.embed(views, embedder), dict(embedder.passes)
    assert passes == {"image": len(views), "text": len(views)}
    np.testing.assert_array_equal(method.embed(views, embedder), found)
    assert embedder.passes == passes, "equal texts are encoded once"
    for row in range(len(views)):
        texts = " ".join(views.assets.texts[i] for i in views.texts[row] if i >= 0)
        with torch.inference_mode():
            image = trained.model.image(encoder.preprocess(views.assets.pixels(views.images[row, :1])))[0]
            text = trained.model.text(encoder.tokenize([texts]))[0]
        np.testing.assert_allclose(found[row], unit((image + text).numpy()), atol=1e-5)


def test_joined_texts_are_trained_on(encoder, toy):  # noqa: F811
    method, _ = fitted("text_concat", encoder, toy, board="equal-steps", steps=1)
    train, _ = training_sets(load_task("query2item", "toy"), toy, "supervised")
    texts = [method.views.assets.texts[i] for i in method.views.texts[:, 0]]
    assert texts == [" ".join(train.views.assets.texts[i] for i in ids if i >= 0) for ids in train.views.texts]


def test_joined_texts_do_not_meet_what_is_cached_of_the_texts_apart(encoder, toy, session_cache):  # noqa: F811
    """Without training vectors are cached by the texts' digests, which joined texts do not have."""
    method, trained = fitted("text_concat", encoder, toy, zero_shot=True)
    views = views_of(toy, toy.rows("test")).only(images=False, texts=True)
    apart = views.single("text", np.arange(len(views)))
    load_method("mean_pooling").embed(apart, Embedder(trained, encoder, torch.device("cpu"), silent))
    found = method.embed(views, Embedder(trained, encoder, torch.device("cpu"), silent))
    joined = [" ".join(views.assets.texts[i] for i in ids if i >= 0) for ids in views.texts]
    with torch.inference_mode():
        expected = trained.model.text(encoder.tokenize(joined)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
