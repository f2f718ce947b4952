"""Canonical order against a naive sort and trec_eval, the entries that a ranking keeps, refusals, and FAISS timing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbench import search
from ftbench.errors import RunError


def naive_entries(scores, item_ids, judged, relevant_from, depth):
    """[(item, rank, score, gain, tie_first, tie_size)] of one query, from the definitions."""
    scores = [float(np.float32(score)) for score in scores]
    order = sorted(sorted(range(len(scores)), key=lambda i: item_ids[i], reverse=True), key=lambda i: -scores[i])
    entries = []
    for rank, i in enumerate(order, 1):
        gain = judged.get(item_ids[i], 0.0)
        tied = [place for place, j in enumerate(order, 1) if scores[j] == scores[i]]
        if rank <= depth or gain >= relevant_from or (gain > 0 and tied[0] <= depth):
            entries.append((i, rank, scores[i], gain, tied[0], len(tied)))
    return entries


def entries(ranking, query):
    span = slice(ranking.offsets[query], ranking.offsets[query + 1])
    columns = ("item", "rank", "score", "gain", "tie_first", "tie_size")
    return list(zip(*(getattr(ranking, name)[span].tolist() for name in columns), strict=True))


def assert_naive(ranking, scores, gains):
    assert len(ranking.offsets) == len(ranking.ideal_offsets) == len(ranking.query_ids) + 1
    for i, query in enumerate(ranking.query_ids):
        expected = naive_entries(scores[i], ranking.item_ids, gains[query], ranking.relevant_from, ranking.depth)
        assert entries(ranking, i) == expected
        ideal = ranking.ideal[ranking.ideal_offsets[i] : ranking.ideal_offsets[i + 1]]
        assert ideal.tolist() == sorted((g for g in gains[query].values() if g > 0), reverse=True)


def assert_identical(a, b):
    for name in ("offsets", "item", "rank", "score", "gain", "tie_first", "tie_size", "ideal_offsets", "ideal"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@st.composite
def searches(draw):
    """Scores with many ties and negative numbers, gains of none to all items, any depth; one item at the least."""
    n, q = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    item_ids = draw(st.lists(st.text("129aé", min_size=1, max_size=3), min_size=n, max_size=n, unique=True))
    number = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.0 + 1e-9, 1.5, 1e30])
    scores = draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=q, max_size=q))
    gain = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    gains = {f"q{i}": draw(st.dictionaries(st.sampled_from(item_ids), gain)) for i in range(q)}
    return np.array(scores), item_ids, gains, draw(st.sampled_from([0.5, 1.0, 3.0])), draw(st.integers(1, n))


@given(searches())
@settings(max_examples=200, deadline=None)
def test_rank_scores_keeps_what_the_definition_keeps(made):
    scores, item_ids, gains, relevant_from, depth = made
    assert_naive(search.rank_scores(scores, list(gains), item_ids, gains, relevant_from, depth), scores, gains)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rank_is_the_inner_product_ranked(seed, rounded):
    rng = np.random.default_rng(seed)
    probes, gallery = rng.integers(-3, 4, (5, 3)) / 4, rng.integers(-3, 4, (14, 3)) / 4  # exact in float32
    if not rounded:  # float32 products in the order that the search itself uses need not be exact: no ties then
        probes, gallery = rng.standard_normal((5, 3)), rng.standard_normal((14, 3))
    item_ids = [f"d{i}" for i in range(14)]
    gains = {f"q{i}": {f"d{i}": 3.0, f"d{i + 7}": 1.0} for i in range(5)}
    ranking = search.rank(probes, gallery, list(gains), item_ids, gains, 3.0, 6)
    scores = np.array([[sum(float(a) * float(b) for a, b in zip(p, g, strict=True)) for g in gallery] for p in probes])
    for i, query in enumerate(gains):
        expected = naive_entries(scores[i], item_ids, gains[query], 3.0, 6)
        found = entries(ranking, i)
        assert [e[:2] + e[3:] for e in found] == [e[:2] + e[3:] for e in expected]
        np.testing.assert_allclose([e[2] for e in found], [e[2] for e in expected], atol=1e-5)


def test_by_hand():
    """d and b tie at the cut-off of depth 2: b is in by its gain, c by its relevance; a, without a gain, is not."""
    scores = np.array([[-1.0, 0.5, -2.0, 0.5, 2.0]])
    ranking = search.rank_scores(scores, ["q"], list("abcde"), {"q": {"b": 1.0, "c": 3.0, "a": 1.0}}, 3.0, 2)
    assert entries(ranking, 0) == [
        (4, 1, 2.0, 0.0, 1, 1),
        (3, 2, 0.5, 0.0, 2, 2),
        (1, 3, 0.5, 1.0, 2, 2),
        (2, 5, -2.0, 3.0, 5, 1),
    ]
    assert ranking.ideal.tolist() == [3.0, 1.0, 1.0]


def test_scores_that_are_equal_as_float32_tie_and_nine_comes_before_ten():
    ranking = search.rank_scores(np.array([[1.0, 1.0 + 1e-8, 1.0]]), ["q"], ["10", "1", "9"], {"q": {}}, 1.0, 3)
    assert [ranking.item_ids[i] for i in ranking.item] == ["9", "10", "1"]
    assert ranking.tie_size.tolist() == [3, 3, 3]


def test_the_order_is_that_of_trec_eval():
    """The rank of an item, ties included, is one over its reciprocal rank when it alone is relevant."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(7)
    item_ids = [str(i) for i in rng.permutation(200)[:60]] + ["é", "z", "Z", "a b"]
    n = len(item_ids)
    scores = np.round(rng.standard_normal(n), 1) + rng.choice([0.0, 1e-9], n)
    ranking = search.rank_scores(scores[None], ["q"], item_ids, {"q": {}}, 1.0, n)
    run = dict(zip(item_ids, scores.tolist(), strict=True))
    judge = pytrec_eval.RelevanceEvaluator({item: {item: 1} for item in item_ids}, {"recip_rank"})
    theirs = judge.evaluate({item: run for item in item_ids})
    ours = {item_ids[i]: int(rank) for i, rank in zip(ranking.item, ranking.rank, strict=True)}
    assert ours == {item: round(1 / values["recip_rank"]) for item, values in theirs.items()}


@pytest.mark.parametrize("ties", [False, True])
def test_chunks_do_not_show(monkeypatch, ties):
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((300, 50)).astype(np.float32)
    scores = np.round(scores) if ties else scores
    gains = {f"q{i}": {f"d{i % 50}": 3.0} for i in range(300)}
    given = (list(gains), [f"d{i}" for i in range(50)], gains, 3.0)
    whole = search.rank_scores(scores, *given)
    assert_naive(whole, scores, gains)
    for size in (1, 7 * 50):
        monkeypatch.setattr(search, "_CHUNK", size)
        assert_identical(search.rank_scores(scores, *given), whole)


@pytest.mark.parametrize(("queries", "items", "dimensions"), [(3, 257, 64), (17, 1003, 48), (260, 33, 7)])
def test_items_with_the_same_vector_tie_exactly(queries, items, dimensions):
    """Wherever they stand in the gallery: a constant method must not be ranked by rounding."""
    rng = np.random.default_rng(2)
    probes, kinds = rng.standard_normal((queries, dimensions)), rng.standard_normal((3, dimensions))
    kind = rng.integers(0, 3, items)
    item_ids = [f"d{i}" for i in rng.permutation(items)]
    gains = {f"q{i}": {} for i in range(queries)}
    ranking = search.rank(probes, kinds[kind], list(gains), item_ids, gains, 1.0, items)
    sizes = np.bincount(kind, minlength=3)
    np.testing.assert_array_equal(ranking.tie_size, sizes[kind[ranking.item]])


def test_no_query_and_no_argument_changed():
    scores, gains = np.array([[0.5, -0.5]]), {"q": {"a": 1.0}}
    search.rank_scores(scores, ["q"], ["a", "b"], gains, 1.0, 1)
    probes, gallery = np.ones((1, 2)), np.array([[1.0, 3.0], [2.0, 4.0]])
    search.rank(probes, gallery, ["q"], ["a", "b"], gains, 1.0, 1)
    assert scores.tolist() == [[0.5, -0.5]] and gallery.tolist() == [[1, 3], [2, 4]] and gains == {"q": {"a": 1.0}}
    empty = search.rank_scores(np.zeros((0, 2)), [], ["a", "b"], {}, 1.0, 1)
    assert empty.offsets.tolist() == empty.ideal_offsets.tolist() == [0] and not len(empty.item)


GOOD = {
    "query_ids": ["q", "r"],
    "item_ids": ["a", "b"],
    "gains": {"q": {"a": 3.0}, "r": {}},
    "relevant_from": 3.0,
    "depth": 2,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.array([[0, 1], [np.nan, 1]])}, "query 'r' has a score or vector that is NaN or infinite"),
        ({"scores": np.array([[0, 1], [1, -np.inf]])}, "query 'r' .* NaN or infinite"),
        ({"scores": np.array([[0, 1], [1, 1e300]])}, "query 'r' .* NaN or infinite"),  # infinite as float32
        ({"scores": np.ones((2, 3))}, r"shape \(2, 3\) given, expected \(2, 2\)"),
        ({"query_ids": ["q", "q"]}, "query id 'q' occurs twice"),
        ({"item_ids": ["b", "b"]}, "item id 'b' occurs twice"),
        ({"gains": {"q": {"z": 3.0}, "r": {}}}, "query 'q' names item 'z', which is not in the gallery"),
        ({"gains": {"q": {}}}, "query 'r' stands in only one of run and judgements"),
        ({"gains": {"q": {}, "r": {}, "s": {}}}, "query 's' stands in only one of run and judgements"),
        ({"gains": {"q": {"a": -1.0}, "r": {}}}, "the gain of 'q', 'a' is -1.0"),
        ({"gains": {"q": {"a": math.nan}, "r": {}}}, "the gain of 'q', 'a' is nan"),
        ({"depth": 3}, "depth 3 given, expected 1 to 2"),
        ({"depth": 0}, "depth 0 given"),
        ({"relevant_from": 0.0}, "relevant_from 0.0 given"),
        ({"relevant_from": math.nan}, "relevant_from nan given"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_ranked_is_refused(change, said):
    with pytest.raises(RunError, match=said):
        search.rank_scores(**({"scores": np.ones((2, 2))} | GOOD | change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gallery": np.array([[1.0], [np.nan]])}, "item 'b' has a score or vector that is NaN or infinite"),
        ({"probes": np.array([[np.inf], [1.0]])}, "query 'q' has"),
        ({"gallery": np.array([[1.0], [1e30]]), "probes": np.array([[1.0], [1e30]])}, "query 'r' has a score"),
        ({"gallery": np.ones((2, 2))}, r"shapes \(2, 1\) and \(2, 2\)"),
        ({"gallery": np.ones((3, 1))}, "3 item vectors given for 2 item ids"),
        ({"probes": np.ones((1, 1))}, "1 query vectors given for 2 query ids"),
        ({"item_ids": ["a", "a"]}, "'a' occurs twice"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_vectors_that_cannot_be_ranked_are_refused(change, said):
    with pytest.raises(RunError, match=said):
        search.rank(**({"probes": np.ones((2, 1)), "gallery": np.ones((2, 1))} | GOOD | change))


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(3)
    made = rng.standard_normal((1_300, 16)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made[:1_200], made[1_200:]


def test_a_flat_index_finds_all(vectors):
    found = search.serve_index(*vectors, kind="flat", most=30)
    assert found.recall_at_10 == 1 and 0 < found.p50_ms <= found.p95_ms
    assert 4 * 16 <= found.bytes_per_item < 4 * 16 + 2


def test_ties_do_not_lower_the_recall_of_a_flat_index():
    same = np.ones((40, 4), dtype=np.float32)
    assert search.serve_index(same, same[:3]).recall_at_10 == 1
    assert search.serve_index(same[:5], same[:3]).recall_at_10 == 1  # fewer than ten items


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_approximate_indices_find_most(vectors, kind):
    gallery, probes = vectors
    found = search.serve_index(gallery, probes, kind=kind)
    assert 0.5 < found.recall_at_10 < 1 if kind == "ivf" else 0.8 < found.recall_at_10 <= 1
    assert found.bytes_per_item > 4 * 16


def test_threads_are_set_for_the_search_and_put_back(vectors, monkeypatch):
    import faiss

    seen = []
    within = search._index
    monkeypatch.setattr(search, "_index", lambda *given: seen.append(faiss.omp_get_max_threads()) or within(*given))
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        search.serve_index(*vectors, most=2, threads=1)
        with pytest.raises(RunError, match="index kind 'tree' given, expected flat, ivf or hnsw"):
            search.serve_index(*vectors, kind="tree", threads=1)
        assert seen == [1, 1] and faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(("gallery", "probes"), [((0, 4), (2, 4)), ((5, 4), (0, 4)), ((5, 4), (2, 3)), ((5,), (2, 3))])
def test_an_index_needs_vectors_that_fit(gallery, probes):
    with pytest.raises(RunError, match="vectors of shapes"):
        search.serve_index(np.ones(gallery), np.ones(probes))
