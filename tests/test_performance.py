"""Weak labels and what predicts their worth, each formula against a case worked by hand."""

import math

import numpy as np
import pytest

from ftbench import performance
from ftbench.errors import FtbenchError, RunError
from ftbench.labels import label, merged, read_labels
from ftbench.performance import importance, predict

QUERIES = ["red lamp", "soft red wool hat", "unknown"]
# by query: raw scores of four items; shifted 0 3 1 0 (mean 1), 2 0 2 4 (mean 2), none
SCORES = np.array([[2.0, 5.0, 3.0, 2.0], [1.0, -1.0, 1.0, 3.0], [7.0, 7.0, 7.0, 7.0]])
DOCUMENTS = [["red"], ["lamp", "lamp", "red", "blue"], ["lamp", "blue"], []]


def _labels(scores=SCORES, k=3):
    return label("toy", "0" * 64, lambda rows: scores[rows], QUERIES[: len(scores)], scores.shape[1], k)


def test_labels_are_the_top_items_above_the_lowest_of_equal_scores_the_first():
    found = _labels()
    assert found.items.tolist() == [[1, 2, -1], [3, 0, 2], [-1, -1, -1]]
    assert found.scores.tolist() == [[3, 1, 0], [4, 2, 2], [0, 0, 0]]
    assert found.corpus.tolist() == [1, 2, 0]
    assert found.labelled.tolist() == [True, True, False]
    assert found.of(np.array([1, 0]), np.array([2, 1, 3])).tolist() == [[2, 0, 4], [1, 3, 0]]
    assert found.normalised().scores.tolist() == [[1, pytest.approx(1 / 3), 0], [1, 0.5, 0.5], [0, 0, 0]]
    assert _labels(k=9).items.shape == (3, 4)


def test_above_the_rest_items_off_the_list_count_0_in_the_collection_s_mean_too():
    """Lists 3 1 of two items above the lowest, and 4 2 2, full: above its last 2 0 0."""
    found = _labels().above_the_rest()
    assert found.scores.tolist() == [[3, 1, 0], [2, 0, 0], [0, 0, 0]]
    assert found.corpus.tolist() == [1, 0.5, 0] and found.corpus.dtype == np.float32


def test_a_collection_without_items_labels_no_query():
    found = label("toy", "", None, QUERIES, 0, 3)
    assert found.items.tolist() == [[-1]] * 3 and not found.labelled.any()
    both = merged([found.above_the_rest().normalised(), found], [0.5, 0.5], QUERIES, 3)
    assert not both.labelled.any() and len(both) == 3
    assert predict("nqc", both, QUERIES).tolist() == [0, 0, 0]


def test_labels_come_in_parts_like_whole():
    scores = np.random.default_rng(0).normal(size=(150, 20))
    found = label("toy", "", lambda rows: scores[rows], [""] * 150, 20, 5)
    for row, items, kept in zip(scores, found.items, found.scores, strict=True):
        best = sorted(range(20), key=lambda i: -row[i])[:5]
        assert items.tolist() == best
        np.testing.assert_allclose(kept, row[best] - row.min(), rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_name_labeller_and_query(wrong):
    scores = SCORES.copy()
    scores[1, 2] = wrong
    with pytest.raises(RunError, match=r"labeller toy .*'soft red wool hat'.*NaN or infinite"):
        _labels(scores)
    with pytest.raises(RunError, match=r"labeller toy gave scores of shape \(2, 4\), expected \(3, 4\)"):
        label("toy", "", lambda rows: SCORES[:2], QUERIES, 4, 2)
    with pytest.raises(RunError, match="the top 0 items"):
        _labels(k=0)


def test_labels_are_kept_and_found_again_only_where_they_are_the_same(tmp_path):
    found, path = _labels(), tmp_path / "labels" / "toy.npz"
    assert read_labels(path, found.identity) is None
    found.write(path)
    again = read_labels(path, found.identity)
    assert (again.labeller, again.size) == ("toy", 4)
    for name in ("items", "scores", "corpus"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
        assert getattr(again, name).dtype == getattr(found, name).dtype
    assert read_labels(path, "1" * 64) is None
    path.write_bytes(path.read_bytes()[:-40])
    assert read_labels(path, found.identity) is None


def test_predictors_by_hand():
    """Lists 3 1 (mean 2, collection 1) and 4 2 2 (mean 8/3, collection 2); queries of 2 and 4 words."""
    expected = {
        "nqc": [1.0, math.sqrt((16 / 9 + 4 / 9 + 4 / 9) / 3) / 2],
        "wig": [(2 + 0) / 2 / math.sqrt(2), (2 + 0 + 0) / 3 / 2],
        "smv": [(3 * math.log(3 / 2) + math.log(2)) / 2, (4 * math.log(3 / 2) + 4 * math.log(4 / 3)) / 3 / 2],
        "entropy": [
            1 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2),
            1 - (0.5 * math.log(2) + 0.5 * math.log(4)) / math.log(3),
        ],
    }
    for name, values in expected.items():
        assert predict(name, _labels(), QUERIES).tolist() == pytest.approx([*values, 0.0]), name


def test_clarity_by_hand():
    """Collection: red 2/7, lamp 3/7, blue 2/7. Query 0: items 1 and 2 by 3/4 and 1/4. Query 1: item 3 has no words, so
    items 0 and 2 by halves."""
    shares = [
        {"red": 3 / 16, "lamp": 3 / 8 + 1 / 8, "blue": 3 / 16 + 1 / 8},
        {"red": 1 / 2, "lamp": 1 / 4, "blue": 1 / 4},
    ]
    collection = {"red": 2 / 7, "lamp": 3 / 7, "blue": 2 / 7}
    expected = [sum(p * math.log2(p / collection[w]) for w, p in own.items()) for own in shares]
    assert predict("clarity", _labels(), QUERIES, DOCUMENTS).tolist() == pytest.approx([*expected, 0.0])


def test_predictors_do_not_depend_on_where_scores_begin_and_most_not_on_their_unit():
    rng = np.random.default_rng(3)
    scores = rng.gamma(1.0, size=(3, 40))
    for name in performance.NAMES:
        documents = [list("ab") if i % 3 else list("bccd") for i in range(40)]
        values = [predict(name, _labels(own, 9), QUERIES, documents) for own in (scores, scores - 5, 10 * scores)]
        np.testing.assert_allclose(values[1], values[0], rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(values[2], (10 if name == "wig" else 1) * values[0], rtol=2e-5, err_msg=name)
        assert (values[0] > 0).all(), name


def test_lists_of_one_item_and_of_equal_scores():
    one = _labels(np.array([[0.0, 2.0, 0.0, 0.0]]))
    assert predict("entropy", one, QUERIES[:1]).tolist() == [1.0]
    assert predict("nqc", one, QUERIES[:1]).tolist() == [0.0]
    even = _labels(np.array([[0.0, 2.0, 2.0, 0.0]]))
    assert predict("entropy", even, QUERIES[:1]).tolist() == pytest.approx([0.0])
    assert predict("smv", even, QUERIES[:1]).tolist() == [0.0]


def test_predictors_that_are_not_there_or_have_nothing_to_compare():
    with pytest.raises(FtbenchError, match="unknown query performance predictor 'nqd'.*Did you mean 'nqc'"):
        predict("nqd", _labels(), QUERIES)
    with pytest.raises(RunError, match="no item of this collection has any.*importance=nqc"):
        predict("clarity", _labels(), QUERIES, [[]] * 4)
    with pytest.raises(RunError, match="3 documents given, expected 4"):
        predict("clarity", _labels(), QUERIES, DOCUMENTS[:3])


def test_importance_is_clipped_has_mean_1_and_leaves_out_what_has_no_label():
    labelled = np.array([True, True, True, False])
    # 1 2 9: mean 4, clipped at 1.5 times it: 1 2 6, of mean 3
    np.testing.assert_allclose(importance(np.array([1.0, 2, 9, 4]), labelled, clip=1.5), [1 / 3, 2 / 3, 2, 0])
    np.testing.assert_allclose(importance(np.array([-1.0, 2, 2, 0]), labelled, clip=9), [0, 1.5, 1.5, 0])
    np.testing.assert_allclose(importance(np.array([3.0, 1, 2, 0]), labelled, clip=9, drop=0.34), [1.5, 0, 1.5, 0])
    np.testing.assert_allclose(importance(np.zeros(4), labelled, clip=9), [1, 1, 1, 0])
    assert importance(np.zeros(2), np.zeros(2, dtype=bool), clip=9).tolist() == [0, 0]
