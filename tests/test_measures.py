"""Ranking, measures and statistics: against pytrec_eval, brute force over ties, and hand-computed cases."""

import itertools
import math

import numpy as np
import pytest

from ftbench import metrics, search, stats
from ftbench.errors import FtbenchError

NAMES = ["recall@1", "recall@10", "recall@100", "hit@10", "ndcg@10", "rr@10", "ap@100", "p@10"]


def made(seed, queries=40, items=300, judged=8):
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    scores = rng.normal(size=(queries, items)).astype(np.float32)
    query_ids, item_ids = [f"q{i}" for i in range(queries)], [f"d{i}" for i in range(items)]
    gains = {
        q: {item_ids[j]: float(rng.choice([1, 3])) for j in rng.choice(items, judged, replace=False)} for q in query_ids
    }
    return scores, query_ids, item_ids, gains


@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_pytrec_eval(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores, query_ids, item_ids, gains = made(seed)
    values = metrics.evaluate(search.rank_scores(scores, query_ids, item_ids, gains, 3.0), NAMES)
    names = {"recall@1": "recall_1", "recall@10": "recall_10", "recall@100": "recall_100", "hit@10": "success_10",
             "ndcg@10": "ndcg_cut_10", "ap@100": "map_cut_100", "p@10": "P_10"}  # fmt: skip
    judge = pytrec_eval.RelevanceEvaluator(
        {q: {d: int(g) for d, g in judged.items()} for q, judged in gains.items()},
        {"recall.1,10,100", "success.10", "ndcg_cut.10", "map_cut.100", "P.10"},
        relevance_level=3,
    )
    run = {
        q: {d: float(s) for d, s in zip(item_ids, row, strict=True)} for q, row in zip(query_ids, scores, strict=True)
    }
    expected = judge.evaluate(run)
    for ours, theirs in names.items():
        for i, query in enumerate(query_ids):
            if any(gain >= 3 for gain in gains[query].values()):
                assert values[ours][i] == pytest.approx(expected[query][theirs], abs=1e-12), (ours, query)
            else:
                assert math.isnan(values[ours][i])


def test_ties_go_to_the_higher_id_as_text_as_in_trec_eval():
    ranking = search.rank_scores(np.zeros((1, 3)), ["q"], ["10", "9", "1"], {"q": {"9": 3.0}}, 3.0, depth=3)
    assert [ranking.item_ids[i] for i in ranking.item] == ["9", "10", "1"]
    assert ranking.tie_first.tolist() == [1, 1, 1] and ranking.tie_size.tolist() == [3, 3, 3]


def test_rank_equals_a_full_sort_by_hand():
    rng = np.random.Generator(np.random.Philox(key=[3, 3]))
    probes, gallery = rng.integers(-2, 3, (6, 3)).astype(float), rng.integers(-2, 3, (50, 3)).astype(float)
    item_ids = [f"d{i}" for i in range(50)]
    gains = {f"q{i}": {f"d{7 * i}": 3.0, f"d{i + 1}": 1.0} for i in range(6)}
    ranking = search.rank(probes, gallery, list(gains), item_ids, gains, 3.0)
    for i in range(6):
        scores = probes[i] @ gallery.T
        order = sorted(sorted(range(50), key=lambda j: item_ids[j], reverse=True), key=lambda j: -scores[j])
        span = slice(ranking.offsets[i], ranking.offsets[i + 1])
        for item, place in zip(ranking.item[span], ranking.rank[span], strict=True):
            assert order[place - 1] == item
        assert set(range(1, 11)) <= set(ranking.rank[span].tolist()) and 7 * i in ranking.item[span]


@pytest.mark.parametrize("name", ["ndcg@3", "recall@3", "hit@3", "rr@3", "ndcg@5", "rr@5"])
def test_tie_band_against_all_orders(name):
    scores = np.array([[2, 1, 1, 1, 0, 0]], dtype=float)
    item_ids, gains = list("abcdef"), {"q": {"b": 3.0, "d": 1.0, "e": 3.0}}
    ranking = search.rank_scores(scores, ["q"], item_ids, gains, 3.0, depth=5)
    found = [float(band[0]) for band in metrics.tie_band(ranking, name)]
    every = []
    for middle in itertools.permutations("bcd"):
        for last in itertools.permutations("ef"):
            order = ["a", *middle, *last]
            strict = search.rank_scores(
                np.array([[-order.index(d) for d in item_ids]], dtype=float), ["q"], item_ids, gains, 3.0, depth=5
            )
            every.append(float(metrics.evaluate(strict, [name])[name][0]))
    np.testing.assert_allclose(found, [min(every), np.mean(every), max(every)], atol=1e-12)


def test_constant_scorer_scores_chance():
    _, query_ids, item_ids, gains = made(0)
    ranking = search.rank_scores(np.zeros((40, 300)), query_ids, item_ids, gains, 3.0)
    _, expected, _ = metrics.tie_band(ranking, "recall@10")
    np.testing.assert_allclose(expected[~np.isnan(expected)], 10 / 300)


def test_by_hand():
    ranking = search.rank_scores(np.array([[3.0, 2, 1, -4]]), ["q"], list("abcd"), {"q": {"b": 3.0, "d": 3.0, "a": 1.0}}, 3.0, 4)  # noqa: E501  # fmt: skip
    values = {name: float(v[0]) for name, v in metrics.evaluate(ranking, ["recall@2", "rr@4", "ap@4", "ndcg@4"]).items()}
    dcg = 1 + 3 / math.log2(3) + 3 / math.log2(5)
    ideal = 3 + 3 / math.log2(3) + 1 / math.log2(4)
    expected = {"recall@2": 0.5, "rr@4": 0.5, "ap@4": (1 / 2 + 2 / 4) / 2, "ndcg@4": dcg / ideal}
    assert values == pytest.approx(expected, abs=1e-12)


def test_invariants():
    scores, query_ids, item_ids, gains = made(5)
    ranking = search.rank_scores(scores, query_ids, item_ids, gains, 3.0)
    values = metrics.evaluate(ranking, ["rr@1", "p@1", "hit@1", *(f"{m}@{k}" for m in ("recall", "hit") for k in range(1, 40))])  # noqa: E501  # fmt: skip
    np.testing.assert_array_equal(values["rr@1"], values["p@1"])
    np.testing.assert_array_equal(values["rr@1"], values["hit@1"])
    for m in ("recall", "hit"):
        for k in range(1, 39):
            assert np.all((values[f"{m}@{k}"] <= values[f"{m}@{k + 1}"]) | np.isnan(values[f"{m}@{k}"]))
    perfect = np.array([[gains[q].get(d, 0.0) + 1e-3 * i for i, d in enumerate(item_ids)] for q in query_ids])
    best = metrics.evaluate(search.rank_scores(perfect, query_ids, item_ids, gains, 3.0), ["recall@10", "ap@100"])
    for column in best.values():
        np.testing.assert_allclose(column[~np.isnan(column)], 1)
    one = {q: {item_ids[i]: 3.0} for i, q in enumerate(query_ids)}
    both = metrics.evaluate(search.rank_scores(scores, query_ids, item_ids, one, 3.0), ["recall@10", "hit@10"])
    np.testing.assert_array_equal(both["recall@10"], both["hit@10"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.array([[1.0, np.nan]])}, "'q'"),
        ({"scores": np.array([[1.0, np.inf]])}, "'q'"),
        ({"item_ids": ["a", "a"]}, "'a' occurs twice"),
        ({"gains": {"q": {"z": 3.0}}}, "'z', which is not in the gallery"),
        ({"gains": {}}, "'q' stands in only one"),
        ({"gains": {"q": {"a": -1.0}}}, "is -1.0"),
        ({"depth": 3}, "depth 3"),
    ],
)
def test_a_broken_run_is_refused(change, said):
    given = {"scores": np.ones((1, 2)), "query_ids": ["q"], "item_ids": ["a", "b"], "gains": {"q": {"a": 3.0}}}
    with pytest.raises(FtbenchError, match=said):
        search.rank_scores(**(given | {"relevant_from": 3.0, "depth": 2} | change))


def test_unknown_measure_and_unavailable():
    with pytest.raises(FtbenchError, match="unknown measure 'ndgc@10'"):
        metrics.parse("ndgc@10")
    assert str(metrics.parse("recall@500")) == "recall@500"
    assert metrics.unavailable("recall@500", 2000) and not metrics.unavailable("recall@500", 20_000)
    assert metrics.unavailable("recall@10", 10) and not metrics.unavailable("recall@10", 11)


def test_randomization_test_is_exact_on_five_pairs():
    differences = np.array([0.5, 0.2, -0.1, 0.4, 0.3])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=5)]
    exact = np.mean([s >= abs(differences.sum()) - 1e-12 for s in sums])
    rng = np.random.Generator(np.random.Philox(key=[1, 1]))
    assert stats.randomization_test(differences, rng) == pytest.approx(exact, abs=0.006)  # 4 standard errors


def test_randomization_test_keeps_its_level():
    rng = np.random.Generator(np.random.Philox(key=[2, 1]))
    rejected = [stats.randomization_test(rng.normal(size=40), rng, 400) <= 0.05 for _ in range(400)]
    assert 0.02 <= np.mean(rejected) <= 0.09


def test_holm_by_hand():
    np.testing.assert_allclose(stats.holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_bootstrap_has_the_known_width():
    rng = np.random.Generator(np.random.Philox(key=[4, 1]))
    values = rng.normal(size=1000)
    low, high = stats.bootstrap(values, rng)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.12)
    same = np.tile(values, (3, 1))
    low3, high3 = stats.bootstrap(same, rng)
    assert high3 - low3 == pytest.approx(high - low, rel=0.12), "seeds that agree add no certainty about queries"


def test_rank_groups_against_the_leader():
    rng = np.random.Generator(np.random.Philox(key=[6, 1]))
    base = rng.normal(size=400)
    p = stats.against_leader(np.stack([base, base + 0.001 * rng.normal(size=400), base - 1]), rng)
    assert max(p[:2]) == 1 and min(p[:2]) > 0.05 and p[2] < 0.001
