"""Measures: from their definitions in plain loops, by hand, against trec_eval, and over every order of tied items."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbench import metrics, search
from ftbench.errors import FtbenchError

CUTS = (1, 2, 3, 5, 10, 50)  # 50 exceeds every small gallery
BANDED = ("ndcg", "recall", "hit", "rr")


def oracle(kind, k, order, judged, relevant_from):
    """A measure of one query's full order of item ids, from its definition; NaN without a relevant item."""
    relevant = {item for item, gain in judged.items() if gain >= relevant_from}
    if not relevant:
        return math.nan
    top = order[:k]
    hits = [item in relevant for item in top]
    if kind == "recall":
        return sum(hits) / len(relevant)
    if kind == "hit":
        return 1.0 if any(hits) else 0.0
    if kind == "p":
        return sum(hits) / k
    if kind == "rr":
        return next((1 / place for place, hit in enumerate(hits, start=1) if hit), 0.0)
    if kind == "ap":
        return sum(sum(hits[:place]) / place for place, hit in enumerate(hits, start=1) if hit) / len(relevant)
    ideal = sorted(judged.values(), reverse=True)[:k]
    found, best = (
        sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, start=1))
        for gains in ([judged.get(item, 0.0) for item in top], ideal)
    )
    return found / best


def canonical(scores, item_ids):
    by_id = sorted(range(len(item_ids)), key=lambda i: item_ids[i], reverse=True)
    return [item_ids[i] for i in sorted(by_id, key=lambda i: -np.float32(scores[i]))]


def names(kinds, depth, cuts=CUTS):
    return [f"{kind}@{k}" for kind in kinds for k in cuts if kind != "ndcg" or k <= depth]


@st.composite
def runs(draw, most=12, levels=(-2.5, -1.0, 0.0, 0.5, 3.0), least=1):
    """A small run with ties, negative scores, graded gains and queries without a relevant item."""
    n = draw(st.integers(least, most))
    item_ids = [str(i) for i in draw(st.permutations(range(n)))]
    query_ids = [f"q{i}" for i in range(draw(st.integers(1, 3)))]
    scores = np.array([draw(st.lists(st.sampled_from(levels), min_size=n, max_size=n)) for _ in query_ids])
    judged = st.dictionaries(st.sampled_from(item_ids), st.sampled_from([0.0, 0.1, 1.0, 3.0]))
    gains = {q: draw(judged) for q in query_ids}
    return scores, query_ids, item_ids, gains, draw(st.sampled_from([0.1, 1.0, 3.0])), draw(st.integers(1, n))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(runs())
def test_every_measure_equals_its_definition(run):
    scores, query_ids, item_ids, gains, relevant_from, depth = run
    wanted = names(metrics.KINDS, depth)
    values = metrics.evaluate(search.rank_scores(*run), wanted)
    assert list(values) == wanted
    for name, column in values.items():
        kind, k = name.split("@")
        expected = [
            oracle(kind, int(k), canonical(row, item_ids), gains[query], relevant_from)
            for row, query in zip(scores, query_ids, strict=True)
        ]
        assert column.dtype == np.float64
        np.testing.assert_allclose(column, expected, rtol=0, atol=1e-12, err_msg=name)


def random_run(seed, queries=30, items=150):
    """A tie-free run with gains 1 to 3; query 0 has no relevant item from level 2 up, query 1 judges 40 items."""
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(items) for _ in range(queries)]).astype(np.float32) - items / 2
    query_ids, item_ids = [f"q{i}" for i in range(queries)], [f"d{i}" for i in range(items)]
    counts = [3, 40, *rng.integers(1, 12, queries - 2)]
    gains = {
        query: {
            item_ids[j]: float(rng.integers(1, 4)) if query != "q0" else 1.0 for j in rng.permutation(items)[:count]
        }
        for query, count in zip(query_ids, counts, strict=True)
    }
    return scores, query_ids, item_ids, gains


@pytest.mark.parametrize("relevant_from", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_agreement_with_trec_eval(seed, relevant_from):
    ir_measures = pytest.importorskip("ir_measures")
    pytest.importorskip("pytrec_eval")
    scores, query_ids, item_ids, gains = random_run(seed)
    cuts = (1, 3, 5, 10, 20, 100, 500)
    ranking = search.rank_scores(scores, query_ids, item_ids, gains, float(relevant_from), depth=100)
    ours = metrics.evaluate(ranking, [n for n in names(metrics.KINDS, 100, cuts) if n != "rr@500"])
    qrels = {q: {item: int(gain) for item, gain in judged.items()} for q, judged in gains.items()}
    run = {q: dict(zip(item_ids, row.tolist(), strict=True)) for q, row in zip(query_ids, scores, strict=True)}
    theirs = {"recall": ir_measures.R, "hit": ir_measures.Success, "ap": ir_measures.AP, "p": ir_measures.P}
    checked = 0
    for name in ours:
        kind, k = name.split("@")
        given_run = run
        if kind == "ndcg":
            measure = ir_measures.nDCG @ int(k)
        elif kind == "rr":  # trec_eval knows no cut-off here: it is given the first k alone
            measure = ir_measures.RR(rel=relevant_from)
            given_run = {q: dict(sorted(row.items(), key=lambda x: -x[1])[: int(k)]) for q, row in run.items()}
        else:
            measure = theirs[kind](rel=relevant_from) @ int(k)
        found = ir_measures.pytrec_eval.iter_calc([measure], qrels, given_run)
        expected = {metric.query_id: metric.value for metric in found}
        relevant = [q for q in query_ids if max(gains[q].values()) >= relevant_from]
        np.testing.assert_array_equal(~np.isnan(ours[name]), [q in relevant for q in query_ids])
        kept = [query_ids.index(q) for q in relevant]
        np.testing.assert_allclose(ours[name][kept], [expected[q] for q in relevant], rtol=0, atol=1e-12, err_msg=name)
        checked += 1
    assert checked == len(cuts) * len(metrics.KINDS) - 2  # all but rr@500 and ndcg@500


def test_agreement_with_trec_eval_under_ties():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(5)
    item_ids, query_ids = [str(i) for i in range(40)], [f"q{i}" for i in range(20)]
    scores = rng.integers(-2, 3, (20, 40)).astype(float)
    gains = {q: {item_ids[j]: float(rng.integers(1, 4)) for j in rng.permutation(40)[:6]} for q in query_ids}
    pairs = {"recall@10": "recall_10", "hit@10": "success_10", "p@10": "P_10", "ndcg@10": "ndcg_cut_10",
             "ap@20": "map_cut_20", "rr@40": "recip_rank"}  # fmt: skip
    ours = metrics.evaluate(search.rank_scores(scores, query_ids, item_ids, gains, 1.0), list(pairs))
    qrels = {q: {item: int(gain) for item, gain in judged.items()} for q, judged in gains.items()}
    run = {q: dict(zip(item_ids, row.tolist(), strict=True)) for q, row in zip(query_ids, scores, strict=True)}
    judge = pytrec_eval.RelevanceEvaluator(
        qrels, {"recall.10", "success.10", "P.10", "ndcg_cut", "map_cut", "recip_rank"}
    )
    theirs = judge.evaluate(run)
    for name, key in pairs.items():
        np.testing.assert_allclose(ours[name], [theirs[q][key] for q in query_ids], rtol=0, atol=1e-12, err_msg=name)


def test_by_hand():
    """Order c b a e d; relevant from 2: b (3), d (2); a has 1."""
    ranking = search.rank_scores(
        np.array([[0.0, 1.0, 4.0, -2.0, -1.0]]),
        ["q"],
        list("abcde"),
        {"q": {"a": 1.0, "b": 3.0, "d": 2.0}},
        2.0,
        depth=5,
    )
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    expected = {
        "recall@1": 0, "recall@2": 1 / 2, "recall@5": 1, "recall@9": 1, "hit@1": 0, "hit@2": 1,
        "p@2": 1 / 2, "p@4": 1 / 4,
        "p@10": 2 / 10, "rr@1": 0, "rr@2": 1 / 2, "rr@9": 1 / 2, "ap@4": 1 / 4, "ap@5": (1 / 2 + 2 / 5) / 2,
        "ndcg@1": 0, "ndcg@2": 3 / math.log2(3) / (3 + 2 / math.log2(3)),
        "ndcg@5": (3 / math.log2(3) + 1 / 2 + 2 / math.log2(6)) / ideal,
    }  # fmt: skip
    values = metrics.evaluate(ranking, list(expected))
    np.testing.assert_allclose([values[name][0] for name in expected], list(expected.values()), rtol=0, atol=1e-15)


def test_a_query_without_a_relevant_item_is_skipped_and_moves_no_other():
    gains = {"none": {}, "low": {"a": 1.0}, "zero": {"a": 0.0}, "some": {"b": 3.0}}
    ranking = search.rank_scores(np.tile([2.0, 1.0, 0.0], (4, 1)), list(gains), list("abc"), gains, 3.0, depth=3)
    for name in names(metrics.KINDS, 3):
        assert np.isnan(metrics.evaluate(ranking, [name])[name]).tolist() == [True, True, True, False], name
    for name in names(BANDED, 3):
        for band in metrics.tie_band(ranking, name):
            assert np.isnan(band).tolist() == [True, True, True, False], name


def test_one_item():
    ranking = search.rank_scores(np.array([[-5.0]]), ["q"], ["a"], {"q": {"a": 1.0}}, 1.0, depth=1)
    values = metrics.evaluate(ranking, [*names(metrics.KINDS, 1)])
    for name, column in values.items():
        k = metrics.parse(name).k
        assert column.tolist() == [1 / k if name.startswith("p@") else 1.0], name


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs())
def test_first_place_and_growth_in_k(run):
    ranking = search.rank_scores(*run)
    values = metrics.evaluate(ranking, [f"{kind}@{k}" for kind in ("recall", "hit", "rr", "ap", "p") for k in CUTS])
    np.testing.assert_array_equal(values["rr@1"], values["p@1"])
    np.testing.assert_array_equal(values["rr@1"], values["hit@1"])
    for kind in ("recall", "hit", "rr", "ap"):
        for k, larger in itertools.pairwise(CUTS):
            low, high = values[f"{kind}@{k}"], values[f"{kind}@{larger}"]
            assert np.all((low <= high + 1e-15) | np.isnan(low)), (kind, k)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs())
def test_a_perfect_run_scores_one(run):
    scores, query_ids, item_ids, gains, relevant_from, depth = run
    perfect = np.array([[gains[q].get(item, 0.0) for item in item_ids] for q in query_ids])
    ranking = search.rank_scores(perfect, query_ids, item_ids, gains, relevant_from, depth)
    for name in names(metrics.KINDS, depth):
        column, measure = metrics.evaluate(ranking, [name])[name], metrics.parse(name)
        for value, query in zip(column, query_ids, strict=True):
            relevant = sum(gain >= relevant_from for gain in gains[query].values())
            if measure.kind == "p" and relevant:
                np.testing.assert_allclose(value, min(relevant, measure.k) / measure.k, atol=1e-12)
            elif relevant and (measure.k >= relevant or measure.kind in ("hit", "rr", "ndcg")):
                np.testing.assert_allclose(value, 1, atol=1e-12, err_msg=name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(runs(), st.data())
def test_recall_is_hit_where_one_item_is_relevant(run, data):
    scores, query_ids, item_ids, _, _, depth = run
    gains = {q: {data.draw(st.sampled_from(item_ids)): 1.0} for q in query_ids}
    ranking = search.rank_scores(scores, query_ids, item_ids, gains, 1.0, depth)
    for k in CUTS:
        values = metrics.evaluate(ranking, [f"recall@{k}", f"hit@{k}"])
        np.testing.assert_array_equal(values[f"recall@{k}"], values[f"hit@{k}"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(runs(most=7, levels=(0.0, 1.0)))
def test_tie_bands_over_every_order(run):
    """Every order of tied items, ranked strictly and measured from the definition: least, mean and greatest value."""
    scores, query_ids, item_ids, gains, relevant_from, depth = run
    ranking = search.rank_scores(*run)
    bands = {name: metrics.tie_band(ranking, name) for name in names(BANDED, depth)}
    for i, query in enumerate(query_ids):
        groups = [[d for d, s in zip(item_ids, scores[i], strict=True) if s == level] for level in (1.0, 0.0)]
        orders = [[*a, *b] for a in itertools.permutations(groups[0]) for b in itertools.permutations(groups[1])]
        if len(orders) > 720:  # seven in one group: the smaller cases cover it
            continue
        for name, band in bands.items():
            measure = metrics.parse(name)
            every = [oracle(measure.kind, measure.k, order, gains[query], relevant_from) for order in orders]
            expected = [min(every), sum(every) / len(every), max(every)]
            np.testing.assert_allclose([b[i] for b in band], expected, rtol=0, atol=1e-12, err_msg=name)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs(), st.randoms(use_true_random=False))
def test_new_ids_move_a_measure_within_its_band(run, random):
    scores, query_ids, item_ids, gains, relevant_from, depth = run
    shuffled = item_ids[:]
    random.shuffle(shuffled)
    new = dict(zip(item_ids, shuffled, strict=True))
    moved_gains = {q: {new[item]: gain for item, gain in judged.items()} for q, judged in gains.items()}
    ranking = search.rank_scores(*run)
    moved = search.rank_scores(scores, query_ids, shuffled, moved_gains, relevant_from, depth)
    for name in names(BANDED, depth):
        worst, mean, best = metrics.tie_band(ranking, name)
        for other, band in zip(metrics.tie_band(moved, name), (worst, mean, best), strict=True):
            np.testing.assert_allclose(other, band, rtol=0, atol=1e-12, err_msg=name)
        for value in (metrics.evaluate(r, [name])[name] for r in (ranking, moved)):
            inside = (
                (worst - 1e-12 <= value) & (value <= best + 1e-12) & (worst - 1e-12 <= mean) & (mean <= best + 1e-12)
            )
            assert np.all(inside | np.isnan(value)), name


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 300), st.data())
def test_a_constant_scorer_scores_chance(n, data):
    relevant, k = data.draw(st.integers(1, min(n, 20))), data.draw(st.integers(1, n))
    item_ids = [f"d{i}" for i in range(n)]
    gains = {"q": {item: 1.0 for item in data.draw(st.permutations(item_ids))[:relevant]}}
    ranking = search.rank_scores(np.full((1, n), -0.25), ["q"], item_ids, gains, 1.0, depth=k)
    misses = math.prod((n - relevant - j) / (n - j) for j in range(k))  # none among k drawn without replacement
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(relevant, k) + 1))
    drawn = sum(1 / math.log2(place + 1) for place in range(1, k + 1)) * relevant / n
    chance = {"recall": k / n, "hit": 1 - misses, "ndcg": drawn / ideal}
    for kind, expected in chance.items():
        worst, mean, best = (float(band[0]) for band in metrics.tie_band(ranking, f"{kind}@{k}"))
        np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12, err_msg=kind)
        assert worst - 1e-12 <= mean <= best + 1e-12
    if relevant == 1:
        mean = metrics.tie_band(ranking, f"rr@{k}")[1][0]
        np.testing.assert_allclose(mean, sum(1 / place for place in range(1, k + 1)) / n, rtol=0, atol=1e-12)


def test_without_ties_the_band_is_the_value():
    scores, query_ids, item_ids, gains = random_run(7)
    ranking = search.rank_scores(scores, query_ids, item_ids, gains, 2.0)
    for name in names(BANDED, 10):
        for band in metrics.tie_band(ranking, name):
            np.testing.assert_array_equal(band, metrics.evaluate(ranking, [name])[name])


@given(st.sampled_from(metrics.KINDS), st.integers(1, 10**6))
def test_a_name_parses_back(kind, k):
    measure = metrics.parse(f"{kind}@{k}")
    assert (measure.kind, measure.k, str(measure)) == (kind, k, f"{kind}@{k}")


@pytest.mark.parametrize(
    "name", ["ndgc@10", "recall", "recall@0", "recall@-1", "recall@1.5", "RR@10", "recall@10 ", "", "@3"]
)
def test_a_name_that_means_nothing_is_refused(name):
    with pytest.raises(FtbenchError, match="unknown measure"):
        metrics.parse(name)


def test_what_has_no_value_is_refused_with_its_reason():
    ranking = search.rank_scores(np.arange(30.0)[None], ["q"], [f"d{i}" for i in range(30)], {"q": {"d0": 1.0}}, 1.0)
    for ask in (lambda name: metrics.evaluate(ranking, [name]), lambda name: metrics.tie_band(ranking, name)):
        with pytest.raises(FtbenchError, match="ndcg@11 needs ranks to 11, the run keeps 10"):
            ask("ndcg@11")
    for name in ("ap@10", "p@10"):
        with pytest.raises(FtbenchError, match=f"{name} has no tie band"):
            metrics.tie_band(ranking, name)


def test_unavailable():
    assert metrics.unavailable("recall@10", 11) is None and metrics.unavailable("recall@500", 20_000) is None
    assert "gallery's size of 10" in metrics.unavailable("recall@10", 10)
    assert "gallery's size of 9" in metrics.unavailable("ndcg@10", 9)
    assert "from 20,000 items up; the gallery has 19,999" in metrics.unavailable("recall@500", 19_999)
