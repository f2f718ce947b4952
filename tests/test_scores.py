"""From rankings to scores: means over queries and pairs, slices, gaps, intervals."""

import numpy as np
import pytest
import synthetic

from ftbench import metrics, scores, stats
from ftbench.runfile import Run
from ftbench.scores import PairScores, macro, measure, units

NAMES = ("recall@1", "recall@10", "ndcg@10", "rr@10", "ap@10")


@pytest.fixture(scope="module")
def queries():
    ranked, _, slices = synthetic.rankings(1.2, [""], 24, 60, np.random.default_rng(3))
    return Run(ranked, slices)


@pytest.fixture(scope="module")
def pairs():
    ranked, _, _ = synthetic.rankings(1.2, ["a-b", "b-a", "a-c"], 20, 60, np.random.default_rng(4))
    return Run(ranked)


def test_scores_are_means_of_the_measures_over_queries(queries):
    found = measure(queries, NAMES)
    values = metrics.evaluate(queries.rankings[""], list(NAMES))
    for name in NAMES:
        np.testing.assert_allclose(found["scores"][name]["mean"], np.nanmean(values[name]), rtol=1e-15)
    assert (found["n_queries"], found["n_skipped"], found["pairs"]) == (24, 0, {})


def test_slices_count_their_own_queries_alone(queries):
    found = measure(queries, NAMES)["slices"]
    values = metrics.evaluate(queries.rankings[""], ["ndcg@10"])["ndcg@10"]
    for i, name in enumerate(synthetic.SLICES):
        assert found[name]["n_queries"] == 8
        np.testing.assert_allclose(found[name]["scores"]["ndcg@10"]["mean"], np.nanmean(values[i::3]), rtol=1e-14)


def test_pairs_are_averaged_over_pairs_not_over_queries(pairs):
    few = PairScores(pairs.rankings["a-b"], NAMES).within(pairs.rankings["a-b"].query_ids[:3])
    many = PairScores(pairs.rankings["b-a"], NAMES)
    by_hand = (np.mean(few.values("rr@10")) + np.mean(many.values("rr@10"))) / 2
    np.testing.assert_allclose(macro([few, many], ["rr@10"])["rr@10"]["mean"], by_hand, rtol=1e-14)
    ids, values = units([few, many], "rr@10")
    np.testing.assert_allclose(values.mean(), by_hand, rtol=1e-12)
    assert sorted(ids) == sorted(many.query_ids)  # an item that asks in two pairs is one unit


def test_units_of_one_pair_are_its_queries_own_values(queries):
    part = PairScores(queries.rankings[""], NAMES)
    ids, values = units([part], "ndcg@10")
    assert ids == queries.rankings[""].query_ids
    np.testing.assert_array_equal(values, part.values("ndcg@10"))


def test_a_missing_pair_leaves_no_partial_average(pairs):
    found = measure(pairs, NAMES, ["a-b", "b-a", "a-c", "c-a"])
    assert set(found["pairs"]) == {"a-b", "b-a", "a-c"}
    assert found["scores"]["rr@10"] == scores.summary(None, reason="no score on c-a")
    assert found["pairs"]["a-b"]["scores"]["rr@10"]["mean"] > 0
    assert found["n_queries"] == 60


def test_a_measure_deeper_than_the_gallery_is_null_with_the_reason(queries):
    found = measure(queries, ("recall@10", "recall@60"))["scores"]
    assert found["recall@60"]["mean"] is None and found["recall@60"]["reason"]
    assert found["recall@10"]["reason"] is None


def test_queries_without_a_relevant_item_are_counted_and_left_out():
    from ftbench import search

    items = [f"i{k}" for k in range(30)]
    noise = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
    gains = {"a": {"i1": 3.0}, "b": {"i2": 1.0}, "c": {}, "d": {"i3": 3.0, "i4": 1.0}}
    ranking = search.rank_scores(noise, query_ids=list("abcd"), item_ids=items, gains=gains, relevant_from=3.0)
    found = measure(Run({"": ranking}, {"s": ("a", "b"), "t": ("b", "c")}), ("recall@10", "ndcg@10"))
    assert (found["n_queries"], found["n_skipped"]) == (2, 2)
    assert found["slices"]["s"]["n_queries"] == 1
    assert found["slices"]["t"]["scores"]["ndcg@10"]["mean"] is None
    assert "relevant" in found["slices"]["t"]["scores"]["ndcg@10"]["reason"]


def test_intervals_hold_the_mean_and_stay_within_zero_and_one(queries):
    for name, found in measure(queries, NAMES)["scores"].items():
        assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1, name
    np.testing.assert_array_equal(scores.intervals(np.ones((2, 3, 40))), 1.0)


def test_intervals_are_those_of_the_bootstrap():
    values = np.random.default_rng(0).random((4, 3, 50))
    for value, ends in zip(values, scores.intervals(values), strict=True):
        expected = stats.bootstrap(value, np.random.default_rng(scores._SEED))
        np.testing.assert_allclose(ends, expected, atol=1e-9)


def test_ties_show_as_a_band_and_no_ties_as_none():
    plain, _, _ = synthetic.rankings(1.2, [""], 24, 60, np.random.default_rng(5))
    found = measure(Run(plain), NAMES)["scores"]["ndcg@10"]
    assert found["tie_low"] == pytest.approx(found["mean"], abs=1e-12) == found["tie_high"]
    tied, _, _ = synthetic.rankings(1.2, [""], 24, 60, np.random.default_rng(5), ties=True)
    found = measure(Run(tied), NAMES)["scores"]["ndcg@10"]
    assert found["tie_low"] < found["mean"] < found["tie_high"]
    assert measure(Run(tied), NAMES)["scores"]["ap@10"]["tie_low"] is None


def test_values_in_fixed_point_have_the_same_sum_in_any_order():
    """What the interval of a record is made of does not hang on how a machine adds: the sums agree to the last bit."""
    rng = np.random.default_rng(0)
    values = rng.random((2, 3, 777)) * np.array([1, 1e-3])[:, None, None]
    fixed = scores.fixed_point(values)
    np.testing.assert_allclose(fixed, values, rtol=0, atol=3 * 777 * 2.0**-52)
    assert (scores.fixed_point(np.zeros((1, 2, 5))) == 0).all()
    for own, raw in zip(fixed, values, strict=True):
        drawn = np.repeat(own.ravel(), rng.multinomial(own.size, np.full(own.size, 1 / own.size)))  # as a resample does
        orders = [rng.permutation(drawn) for _ in range(20)]
        assert len({float(np.add.accumulate(order)[-1]) for order in orders}) == 1
        plain = [rng.permutation(raw.ravel()) for _ in range(20)]
        assert len({float(np.add.accumulate(order)[-1]) for order in plain}) > 1  # as they come, sums differ
