"""Items of several vectors: scores against a naive loop, ranking, ties, items without any view, and serving."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_search import entries, naive_entries

from ftbench import search
from ftbench.errors import RunError
from ftbench.vectors import LOWEST, MultiVector, combine, probe_vectors, scorer, vectors_of

ITEMS, VIEWS, DIM = 9, 4, 5


def gallery_of(seed=0, epsilon=0.0, items=ITEMS):
    """Items of 0 to 4 views in any columns, item 2 without any; what stands where no view is must not matter."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((items, VIEWS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    weights = rng.random((items, VIEWS)).astype(np.float32) * (rng.random((items, VIEWS)) < 0.6)
    weights[:, 0] += (weights.sum(axis=1) == 0) * np.float32(0.5)
    weights[2] = 0
    return MultiVector(vectors, weights, epsilon)


def probes_of(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def naive_score(probe, vectors, weights, epsilon):
    """The score of one item from the definition, one view at a time; None for an item without views."""
    products = [
        (float(w), sum(float(p) * float(x) for p, x in zip(probe, v, strict=True)))
        for w, v in zip(weights, vectors, strict=True)
        if w > 0
    ]
    if not products:
        return None
    if epsilon == 0:
        return max(product for _, product in products)
    return epsilon * math.log(sum(w * math.exp(product / epsilon) for w, product in products))


def test_by_hand():
    """Two views of weights 1/4 and 3/4 at products 0 and log 3: the maximum, and log(1/4 + 3/4 * 3) at epsilon 1."""
    products, weights = np.array([[0.0, math.log(3), 99.0]]), np.array([[0.25, 0.75, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(combine(products, weights, 0.0), [math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(combine(products, weights, 1.0), [math.log(2.5)], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.3, 10.0])
def test_scores_are_the_naive_loop(epsilon):
    gallery, probes = gallery_of(epsilon=epsilon), probes_of(6)
    found = scorer(gallery)(probes)
    assert found.shape == (6, ITEMS) and found.dtype == np.float32
    for q, probe in enumerate(probes):
        for i in range(ITEMS):
            expected = naive_score(probe, gallery.vectors[i], gallery.weights[i], epsilon)
            assert found[q, i] == (LOWEST if expected is None else pytest.approx(expected, abs=1e-5))


def test_a_large_epsilon_is_the_weighted_mean_and_a_small_one_the_maximum():
    gallery, probes = gallery_of(), probes_of(6)
    total = np.maximum(gallery.weights.sum(axis=1, keepdims=True), 1e-9)
    gallery = replace(gallery, weights=gallery.weights / total, epsilon=30.0)
    means = (gallery.weights[..., None] * gallery.vectors).sum(axis=1)
    some = gallery.weights.any(axis=1)
    # the second order term is half the variance over epsilon: at most |q|^2 / 60
    bound = (np.linalg.norm(probes, axis=1) ** 2).max() / 60 + 1e-4
    np.testing.assert_allclose(scorer(gallery)(probes)[:, some], (probes @ means.T)[:, some], atol=bound)
    sharp, hard = (scorer(replace(gallery, epsilon=e))(probes)[:, some] for e in (1e-3, 0.0))
    assert (sharp <= hard + 1e-6).all()
    np.testing.assert_allclose(sharp, hard, atol=1e-3 * -math.log(gallery.weights[gallery.weights > 0].min()) + 1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [1, 16_000_000])
def test_ranking_is_by_these_scores_whatever_the_chunk(epsilon, chunk, monkeypatch):
    monkeypatch.setattr(search, "_CHUNK", chunk)
    gallery, probes = gallery_of(epsilon=epsilon), probes_of(6)
    item_ids = [f"d{i}" for i in range(ITEMS)]
    gains = {f"q{i}": {f"d{i}": 3.0, "d2": 3.0} for i in range(6)}
    ranking = search.rank(probes, gallery, list(gains), item_ids, gains, 3.0, 4)
    scores = scorer(gallery)(probes)
    for i, query in enumerate(gains):
        expected = naive_entries(scores[i], item_ids, gains[query], 3.0, 4)
        assert [e[:2] + e[3:] for e in entries(ranking, i)] == [e[:2] + e[3:] for e in expected]
        assert entries(ranking, i)[-1][:2] == (2, ITEMS), "an item without any view is last"
    assert np.isfinite(ranking.score).all()
    one = MultiVector(np.stack([probes, probes], 1), np.tile(np.float32([0, 1]), (6, 1)))
    again = search.rank(one, gallery, list(gains), item_ids, gains, 3.0, 4)
    np.testing.assert_array_equal(again.score, ranking.score)


def test_one_vector_per_item_ranks_as_an_array_does():
    rng = np.random.default_rng(4)
    gallery, probes = rng.standard_normal((30, DIM)).astype(np.float32), probes_of(5)
    ids, gains = [f"d{i}" for i in range(30)], {f"q{i}": {} for i in range(5)}
    plain = search.rank(probes, gallery, list(gains), ids, gains, 1.0)
    for epsilon in (0.0, 0.1):
        many = MultiVector(gallery[:, None], np.ones((30, 1), np.float32), epsilon)
        found = search.rank(probes, many, list(gains), ids, gains, 1.0)
        np.testing.assert_array_equal(found.item, plain.item)
        np.testing.assert_allclose(found.score, plain.score, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
@pytest.mark.parametrize("items", [33, 1003])
def test_items_of_the_same_views_tie_exactly_in_whatever_order_they_stand(epsilon, items):
    rng = np.random.default_rng(2)
    kinds = gallery_of(seed=3, epsilon=epsilon, items=3)
    kind = rng.integers(0, 3, items)
    order = np.argsort(rng.random((items, VIEWS)), axis=1)
    gallery = kinds.take(kind)
    shuffled = (np.take_along_axis(x, o, 1) for x, o in ((gallery.vectors, order[..., None]), (gallery.weights, order)))
    gallery = MultiVector(*shuffled, epsilon)
    item_ids = [f"d{i}" for i in rng.permutation(items)]
    gains = {f"q{i}": {} for i in range(17)}
    ranking = search.rank(probes_of(17), gallery, list(gains), item_ids, gains, 1.0, items)
    np.testing.assert_array_equal(ranking.tie_size, np.bincount(kind, minlength=3)[kind[ranking.item]])


def test_items_whose_best_view_is_the_same_tie_by_the_maximum():
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((200, 3, 64)).astype(np.float32) / 100
    vectors[np.arange(200), rng.integers(0, 3, 200)] = 1.0
    scores = scorer(MultiVector(vectors, np.ones((200, 3), np.float32)))(np.ones((7, 64), np.float32))
    assert (scores == scores[0, 0]).all()


def test_a_gallery_without_any_view_ties():
    empty = MultiVector(np.zeros((4, 1, 1), np.float32), np.zeros((4, 1), np.float32))
    assert (scorer(empty)(np.ones((2, 1), np.float32)) == LOWEST).all()
    with pytest.raises(RunError, match="no item of the gallery has a view"):
        search.serve_index(empty, np.ones((2, 1)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vectors": np.zeros((3, 2))}, r"vectors \(3, 2\) and weights \(3, 2\) given"),
        ({"weights": np.zeros((3, 1))}, r"weights \(3, 1\) given"),
        ({"weights": np.full((3, 2), -1.0)}, "a weight is negative"),
        ({"weights": np.full((3, 2), np.nan)}, "a weight is negative, NaN"),
        ({"epsilon": -0.1}, "epsilon -0.1 given"),
        ({"epsilon": math.inf}, "epsilon inf given"),
    ],
)
def test_what_is_no_multivector_is_refused(change, said):
    with pytest.raises(RunError, match=said):
        MultiVector(**({"vectors": np.zeros((3, 2, 4)), "weights": np.ones((3, 2))} | change))


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_a_view_that_is_not_finite_is_refused_by_the_item_s_name(epsilon):
    gallery = gallery_of(epsilon=epsilon)
    ids, gains = [f"d{i}" for i in range(ITEMS)], {"q": {}}
    gallery.vectors[2] = np.nan  # item 2 has no view: nobody looks there
    search.rank(probes_of(1), gallery, ["q"], ids, gains, 1.0, 2)
    gallery.vectors[5, int(np.argmax(gallery.weights[5]))] = np.nan
    with pytest.raises(RunError, match="item 'd5' has a score or vector that is NaN"):
        search.rank(probes_of(1), gallery, ["q"], ids, gains, 1.0, 2)
    with pytest.raises(RunError, match="query 'q' has a score"):
        search.rank(
            np.ones((1, DIM)),
            replace(gallery_of(), vectors=np.full_like(gallery.vectors, 3e38)),
            ["q"],
            ids,
            gains,
            1.0,
            2,
        )


def test_a_probe_has_one_vector():
    with pytest.raises(RunError, match="a probe has 2 vectors, expected one"):
        probe_vectors(MultiVector(np.ones((1, 3, 2)), np.float32([[1, 0, 1]])))
    np.testing.assert_array_equal(probe_vectors(MultiVector(np.ones((2, 2, 3)), np.float32([[0, 0.5], [0, 0]]))),
                                  [[1, 1, 1], [0, 0, 0]])  # fmt: skip


def test_a_flat_index_of_all_vectors_finds_the_best_items():
    gallery, probes = gallery_of(items=400), probes_of(40)
    found = search.serve_index(gallery, probes)
    views = vectors_of(gallery)
    assert views == pytest.approx((gallery.weights > 0).sum() / 400)
    assert found.recall_at_10 == 1 and 0 < found.p50_ms <= found.p95_ms
    assert (4 * DIM + 8) * views <= found.bytes_per_item < (4 * DIM + 8) * views + 1
    soft = search.serve_index(replace(gallery, epsilon=0.1), probes)
    assert soft.recall_at_10 > 0.95
    assert (4 * DIM + 12) * views <= soft.bytes_per_item < (4 * DIM + 12) * views + 1


def test_an_index_that_forgets_an_item_s_views_is_found_out(monkeypatch):
    gallery, probes = gallery_of(items=400), probes_of(40)
    monkeypatch.setattr(search, "_items", lambda gallery, owners, probe, k: owners[:k])
    assert search.serve_index(gallery, probes).recall_at_10 < 1


def test_a_record_s_cost_is_that_of_the_gallery_of_most_vectors(toy, tmp_path, monkeypatch):
    """Cross-view pairs search single assets first; what an item costs shows where all of its views are searched."""
    from ftbench import runner
    from ftbench.request import Request

    seen = []
    serve = search.serve_index
    monkeypatch.setattr(search, "serve_index", lambda gallery, *given, **rest: seen.append(gallery) or serve(gallery, *given, **rest))  # noqa: E501  # fmt: skip
    session = runner.Session(tmp_path, lambda title: lambda *given, **rest: None)
    session._catalogues["studio@240"] = toy
    settings = (("trainer.budget", "300"), ("trainer.batch_size", "4"))
    monkeypatch.setenv("FTBENCH_CACHE", str(tmp_path))
    made = runner.run(Request("late_interaction", "cross_view", "studio@240", settings=settings), session).record
    assert len(seen) == 1 and vectors_of(seen[0]) > 2
    assert made["cost"]["index_bytes_per_item"] > 2 * 4 * seen[0].vectors.shape[2]


def test_what_is_wrong_with_several_vectors_is_named():
    from ftbench import outputs

    vectors, weights = np.ones((3, 2, 4), np.float32), np.array([[1, 0], [0.5, 0.5], [0, 0]], np.float32)
    ids = ["a", "b", "c"]
    vectors[0, 1] = np.nan  # no such view
    assert outputs.vectors("mine", MultiVector(vectors, weights), ids, "item").vectors is vectors
    vectors[1, 1, 2] = np.nan
    with pytest.raises(RunError, match="the embed of mine gave item 'b' a vector that is NaN"):
        outputs.vectors("mine", MultiVector(vectors, weights), ids, "item")
    with pytest.raises(RunError, match="the vectors of 3 items, expected 2"):
        outputs.vectors("mine", MultiVector(vectors, weights), ids[:2], "item")
    with pytest.raises(RunError, match="vectors of 5 numbers and items vectors of 4"):
        outputs.alike("mine", np.ones((2, 5), np.float32), MultiVector(vectors, weights))
