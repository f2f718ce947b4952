"""The studies of cost: exponents, verdicts, what a step and an index are measured by, and figures the page accepts."""

import numpy as np
import pytest

from ftbench.errors import FtbenchError
from ftbench.method import load_method
from ftbench.report.studies import picture_problem
from ftbench.studies import cost_vs_views, online_overhead, scaling, serving_cost, step_cost, work


def test_the_exponent_of_a_power_is_its_power():
    x = [2, 4, 8, 16]
    found = scaling.exponent(x, [3 * v**1.7 for v in x])
    assert (found.slope, found.points) == (pytest.approx(1.7), 4) and found.error < 1e-9
    assert np.isnan(scaling.exponent([1, 2], [1, 4]).error)
    with pytest.raises(FtbenchError, match="no exponent"):
        scaling.exponent(x, [1, 2, 0, 3])


def test_the_exponents_error_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    x = np.arange(1, 20)
    y = x**1.2 * np.exp(0.1 * rng.standard_normal(19))
    found = scaling.exponent(x, y)
    fit, covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    assert found.slope == pytest.approx(fit[0]) and found.error == pytest.approx(covariance[0, 0] ** 0.5)
    assert str(scaling.Exponent(1.0, 0.123, 3)) == "1.00 ± 0.12"
    assert str(scaling.exponent([2, 4], [1, 2])) == "1.00"  # two points have no error


@pytest.fixture
def short(monkeypatch):
    for name, value in {"ITEMS": 8, "BATCH": 4, "STEPS": 2, "WARM_UP": 1, "MOST_VIEWS": 4, "TERM_ITEMS": 2}.items():
        monkeypatch.setattr(step_cost, name, value)


def test_a_step_counts_whole_steps_of_its_own_views(short):
    sampled = {views: step_cost.step("factorized_transport", views) for views in (2, 4)}
    everything = {views: step_cost.step("mean_pooling_all_views", views) for views in (2, 4)}
    assert [sampled[v]["passes"] for v in (2, 4)] == [4, 4]
    assert [everything[v]["passes"] for v in (2, 4)] == [4, 8]
    assert sampled[2]["operations"] == sampled[4]["operations"]
    # encoders are nearly all of it, and a step costs about three forward passes
    assert everything[4]["operations"] / everything[2]["operations"] == pytest.approx(2, rel=0.01)
    cached = step_cost.step("factorized_transport_cached", 4)
    assert (cached["warm_up_passes"], cached["passes"]) == (8, 4)
    assert cached["operations"] == pytest.approx(sampled[4]["operations"], rel=0.01)
    assert sampled[4]["warm_up_passes"] == 0 and sampled[4]["steps"] == 2


def test_the_plans_of_a_term_are_of_all_pairs(short):
    one, two = (step_cost.term("sinkhorn_transport", views)["operations"] for views in (4, 8))
    assert two == 4 * one == 4 * (2 * 2 * 4 * 4 * 96 * 2)


def _steps(power):
    """Cells of cost-vs-views in which every cost grows with that power of the views."""
    done = {}
    for cell in cost_vs_views.STUDY.cells(False):
        views = cell.arguments["views"]
        value = float(views) ** power
        done[cell.key] = {"seconds": value, "few_seconds": 1.0, "ratio": value, "passes": value, "operations": value,
                          "memory": value, "warm_up_passes": 2.0 * views, "steps": 9}  # fmt: skip
    return done


def _about(outcome, start):
    return next(text for text in outcome.findings if text.startswith(start))


def test_targets_are_judged_by_the_estimates():
    constant, linear = (cost_vs_views.STUDY.outcome(_steps(power)) for power in (0.05, 1.0))
    assert "not reached" not in _about(constant, "Factorized:")
    assert _about(constant, "All views:").count("not reached") == 3
    assert _about(linear, "Factorized, cached:").count("not reached") == 3
    assert "not reached" not in _about(linear, "All views:")
    assert "not reached" in _about(linear, "The pair term of Sinkhorn")
    assert "From 16 to 32 views seconds grow 2.00-fold" in _about(linear, "All views:")
    assert "not reached" not in _about(cost_vs_views.STUDY.outcome(_steps(2.0)), "The pair term of all pairs")
    assert "9% at 8" in _about(linear, "Cached views")
    assert "Against the step of all views, which encodes as much: 1.00 times at 2" in _about(linear, "Sinkhorn:")


def test_a_limit_within_the_error_is_said():
    from ftbench.studies.scaling import Exponent

    assert "reached, within the error of a limit" in cost_vs_views._verdict(Exponent(1.15, 0.06, 5), 0.8, 1.2)
    assert cost_vs_views._verdict(Exponent(1.1, 0.06, 5), 0.8, 1.2).endswith("reached)")
    assert cost_vs_views._verdict(Exponent(0.0, 0.01, 5), -float("inf"), 0.1).endswith("reached)")


def test_cells_that_are_missing_are_left_out():
    done = {key: values for key, values in _steps(1.0).items() if "m3g" not in key and "random" not in key}
    found = cost_vs_views.STUDY.outcome(done)
    assert not any(text.startswith(("M3G", "Random")) for text in found.findings)
    assert len(found.figures) == 5


def _served(ratio, bytes_=384.0):
    one = {"bytes": bytes_, "p50_ms": 0.1 * ratio, "p95_ms": 0.2}
    return {"own": one, "single": one, "bytes_ratio": bytes_ / 384, "p50_ratio": [ratio, ratio - 0.01, ratio + 0.01],
            "p95_ratio": [1.0, 0.9, 1.1], "encode_ms": 0.2, "items": 1000, "queries": 500}  # fmt: skip


def test_overheads_are_judged_by_the_estimates():
    done = {"single_view_clip": _served(1.0), "factorized_transport": _served(1.02),
            "factorized_transport_cached": _served(1.021), "late": _served(20, 4000.0),
            "hybrid_rrf": _served(9, 900.0)}  # fmt: skip
    del done["hybrid_rrf"]["encode_ms"]
    found = online_overhead.STUDY.outcome(done)
    both = "the interval of median latency and latency at the 95th percentile holds the limit."
    assert _about(found, "factorized_transport:").endswith("at most 1.02: reached; " + both)
    assert _about(found, "factorized_transport_cached:").endswith("not reached in median latency; " + both)
    slower = online_overhead.STUDY.outcome(done | {"factorized_transport": _served(1.04)})
    one = "not reached in median latency; the interval of latency at the 95th percentile holds the limit."
    assert _about(slower, "factorized_transport:").endswith(one)
    assert "3 of 4 indexes of vectors keep one an item" in " ".join(found.findings)
    assert "words beside the vectors: 900 bytes an item, 2.3 times" in _about(found, "hybrid_rrf,")
    assert "10.4 times single views" in _about(found, "late:")


def test_figures_are_the_same_bytes_and_fit_for_the_page(tmp_path):
    made = (*cost_vs_views.STUDY.outcome(_steps(1.0)).figures,
            *online_overhead.STUDY.outcome({"a": _served(1.0), "b": _served(9.0, 4000.0)}).figures)  # fmt: skip
    for figure in (made[0], made[-1]):
        pictures = work.pictures("x", figure)
        assert pictures == work.pictures("x", figure)
        for suffix, data in pictures.items():
            path = tmp_path / f"{figure.name}{suffix}"
            path.write_bytes(data)
            assert picture_problem(path) is None


def test_an_index_is_served_in_turn_with_one_of_single_views(session_cache, monkeypatch):
    monkeypatch.setattr(serving_cost, "ROUNDS", 2)
    monkeypatch.setattr(serving_cost, "TRAINING_STEPS", 1)
    found = serving_cost.served("factorized_transport", "studio@200")
    assert found["items"] == 200 and found["bytes_ratio"] == 1 and found["recall_at_10"] == 1
    low, high = found["p50_ratio"][1:]
    assert 0 < low <= found["p50_ratio"][0] <= high and found["encode_ms"] > 0


@pytest.mark.parametrize("method", online_overhead.WORDS)
def test_an_index_of_words_answers_as_its_method_ranks(session_cache, monkeypatch, method):
    monkeypatch.setattr(serving_cost, "ROUNDS", 2)
    monkeypatch.setattr(serving_cost, "TRAINING_STEPS", 1)
    asked = {}
    looked_up = serving_cost._index_of_words

    def kept(words, probes, gallery):
        asked["index"], asked["words"] = looked_up(words, probes, gallery)
        asked["scores"] = words.score(probes, gallery)
        return asked["index"], asked["words"]

    monkeypatch.setattr(serving_cost, "_index_of_words", kept)
    found = serving_cost.served_words(method, "studio@200")
    own = [load_method("bm25")._scores(asked["index"], words, 200) for words in asked["words"]]
    np.testing.assert_array_equal(own, asked["scores"])
    assert found["items"] == 200 and found["queries"] == len(own) and found["own"]["p50_ms"] > 0
    words_alone = serving_cost._bytes_of(asked["index"]) / 200
    assert found["own"]["bytes"] == pytest.approx(words_alone + (384 if method == "hybrid_rrf" else 0), abs=2)
