"""Reciprocal rank fusion: mean ranks and sums from loops, what has no text, what is refused, and its dense part."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer import encoder, trainer_of  # noqa: F401

from ftbench import search
from ftbench.embedder import Embedder
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.method import load_method, trainer_settings
from ftbench.settings import default_settings
from ftbench.task import load_task, training_sets
from ftbench.views import text_probes, views_of

hybrid = __import__("ftbench.baselines.hybrid_rrf", fromlist=["Method"])


def naive_ranks(scores):
    """The mean of the ranks that an item could have among those that tie with it."""
    ranks = []
    for own in scores:
        above, tied = sum(s > own for s in scores), sum(s == own for s in scores)
        ranks.append(sum(above + 1 + k for k in range(tied)) / tied)
    return ranks


def test_mean_ranks_by_hand():
    np.testing.assert_array_equal(hybrid.mean_ranks(np.array([0.0, 7.0, 0.0, 3.0, 0.0])), [4, 1, 4, 2, 4])


@pytest.mark.parametrize("seed", range(5))
def test_mean_ranks_and_sums_are_the_naive_loop(seed):
    rng = np.random.default_rng(seed)
    scores = [rng.integers(-2, 3, (4, 11)).astype(np.float32), rng.standard_normal((4, 11)).astype(np.float32)]
    found = hybrid.fused(scores, 20.0)
    assert found.dtype == np.float32
    for q in range(4):
        ranks = [naive_ranks(own[q].tolist()) for own in scores]
        np.testing.assert_array_equal(hybrid.mean_ranks(scores[0][q]), ranks[0])
        expected = [1 / (20 + a) + 1 / (20 + b) for a, b in zip(*ranks, strict=True)]
        np.testing.assert_allclose(found[q], expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_does_not_vanish_in_a_rank(wrong):
    scores = np.array([[1.0, wrong, 0.0], [1.0, 2.0, 3.0]])
    found = hybrid.fused((np.ones((2, 3)), scores), 60.0)
    assert np.isnan(found[0, 1]) and np.isfinite(found[1]).all()
    with pytest.raises(RunError, match="query 'q' has a score or vector that is NaN or infinite"):
        search.rank_scores(found, ["q", "r"], ["a", "b", "c"], {"q": {}, "r": {}}, 1.0, 1)


@pytest.fixture(scope="module")
def fitted(encoder, toy):  # noqa: F811
    method = load_method("hybrid_rrf", {"dense": "mean_pooling", "constant": "5"}, "supervised")
    sets = training_sets(load_task("query2item", "toy"), toy, "supervised")
    trained = method.fit(*sets, trainer_of(encoder))
    assert 0.5 * 900 < trained.meter.spent <= 900 * 1.25
    views = views_of(toy, toy.rows("test"))
    return method, Embedder(trained, encoder, torch.device("cpu"), silent), views


QUERIES = ["lamp for room 30", "nobody says this", "30 31"]


def test_it_is_the_sum_over_bm25_and_the_dense_method(fitted):
    method, embedder, views = fitted
    probes = text_probes(QUERIES)
    words = load_method("bm25").score(probes, views)
    dense = load_method("mean_pooling", track="supervised")
    vectors = dense.embed(probes, embedder) @ dense.embed(views, embedder).T
    found = method.score(probes, views, embedder)
    for q in range(len(QUERIES)):
        ranks = naive_ranks(words[q].tolist()), naive_ranks(vectors[q].tolist())
        np.testing.assert_allclose(
            found[q], [1 / (5 + a) + 1 / (5 + b) for a, b in zip(*ranks, strict=True)], rtol=1e-6
        )
    assert len(set(naive_ranks(words[1].tolist()))) == 1, "no item has any of the words: all tie"
    np.testing.assert_array_equal(np.argsort(-found[1]), np.argsort(-vectors[1]))
    assert naive_ranks(words[2].tolist()).count(max(naive_ranks(words[2].tolist()))) == len(views) - 2


def test_a_gallery_without_texts_is_in_the_dense_method_s_order(fitted):
    method, embedder, views = fitted
    dense = load_method("mean_pooling", track="supervised")
    probes, images = text_probes(QUERIES), replace(views, texts=np.full_like(views.texts, -1))
    expected = dense.embed(probes, embedder) @ dense.embed(images, embedder).T
    np.testing.assert_array_equal(np.argsort(-method.score(probes, images, embedder)), np.argsort(-expected))


def test_a_dense_vector_that_is_not_finite_is_refused(fitted, monkeypatch):
    method, embedder, views = fitted
    vectors = method.parts[1].embed(views, embedder).copy()
    vectors[3] = np.nan
    monkeypatch.setattr(method.parts[1], "embed", lambda given, _: vectors if given is views else vectors[:3])
    scores = method.score(text_probes(QUERIES), views, embedder)
    ids = [f"d{i}" for i in range(len(views))]
    with pytest.raises(RunError, match="query 'a' has a score or vector that is NaN or infinite"):
        search.rank_scores(scores, list("abc"), ids, {q: {} for q in "abc"}, 1.0, 1)


@pytest.mark.parametrize("track", ["supervised", "aligned"])
def test_it_begins_with_the_dense_method_s_tuned_settings(track, monkeypatch):
    cls = type(load_method("mean_pooling"))
    tuned = {"supervised": {"alignment_weight": 0.7, "trainer.learning_rate": 0.011}}
    monkeypatch.setattr(cls, "tuned", tuned)
    monkeypatch.setattr(hybrid.Method, "tuned", {})  # its own search comes on top of that
    method = load_method("hybrid_rrf", {"dense": "mean_pooling"}, track)
    rate = 0.011 if track == "supervised" else default_settings(track).learning_rate
    assert trainer_settings(method).learning_rate == rate
    assert trainer_settings(method, {"learning_rate": "0.5"}).learning_rate == 0.5
    assert method.parts[1].config.alignment_weight == (0.7 if track == "supervised" else cls.Config().alignment_weight)
    assert [part.name for part in method.parts] == ["bm25", "mean_pooling"] and method.parts[1].track == track
    assert "alignment_weight" not in method.tuned["supervised"]


@pytest.mark.parametrize("name", ["late_interaction", "factorized_transport_cached"])
def test_the_dense_method_may_keep_several_vectors(name, encoder, toy):  # noqa: F811
    method = load_method("hybrid_rrf", {"dense": name}, "supervised")
    sets = training_sets(load_task("query2item", "toy"), toy, "supervised")
    trained = method.fit(*sets, trainer_of(encoder, board="equal-steps", steps=1))
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    views = views_of(toy, toy.rows("test"))
    assert np.isfinite(method.score(text_probes(QUERIES), views, embedder)).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dense": "hybrid_rrf"}, "dense is hybrid_rrf itself"),
        ({"dense": "bm25"}, "dense is bm25, expected a method that trains and embeds"),
        ({"dense": "oracle"}, "dense is oracle, expected"),
        ({"dense": "random"}, "dense is random, expected"),
        ({"dense": "mean_poling"}, "unknown method 'mean_poling'. Did you mean 'mean_pooling'"),
        ({"constant": "-1"}, "constant is -1.0"),
    ],
)
def test_what_cannot_be_fused_is_refused(settings, said):
    with pytest.raises(FtbenchError, match=said):
        load_method("hybrid_rrf", settings)
