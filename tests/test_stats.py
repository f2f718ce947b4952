"""Statistics: against simulations with known answers, full enumeration, plain loops and cases by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbench import stats


def generator(*key):
    return np.random.default_rng(key)


# ---- bootstrap


def test_the_interval_has_the_width_of_the_known_standard_error():
    values = generator(1).normal(2.0, 3.0, size=2000)
    low, high = stats.bootstrap(values, generator(2))
    np.testing.assert_allclose(high - low, 2 * 1.96 * values.std() / math.sqrt(2000), rtol=0.06)
    np.testing.assert_allclose((low + high) / 2, values.mean(), atol=0.02)
    narrow = stats.bootstrap(values, generator(2), level=0.5)
    np.testing.assert_allclose(narrow[1] - narrow[0], 2 * 0.6745 * values.std() / math.sqrt(2000), rtol=0.1)


def test_seeds_that_agree_add_no_certainty_and_seeds_that_differ_add_doubt():
    values = generator(3).normal(size=500)
    one, same = stats.bootstrap(values, generator(4)), stats.bootstrap(np.tile(values, (5, 1)), generator(5))
    np.testing.assert_allclose(same[1] - same[0], one[1] - one[0], rtol=0.08)
    shift = np.array([[-1.0], [0.0], [1.0]])
    low, high = stats.bootstrap(np.tile(values, (3, 1)) + shift, generator(6))
    # all three draws are the same seed in 1/27 > 2.5% of resamples: the ends lie a whole shift away
    np.testing.assert_allclose([low, high], values.mean() + np.array([-1, 1]), atol=0.1)


def test_the_interval_equals_a_plain_resampling_of_seeds_and_queries():
    values = generator(7).random((3, 12)) + np.array([[0.0], [0.3], [-0.2]])
    rng, means = generator(8), []
    for _ in range(6000):
        seeds, queries = rng.integers(0, 3, 3), rng.integers(0, 12, 12)
        means.append(np.mean([[values[s, q] for q in queries] for s in seeds]))
    found = stats.bootstrap(values, generator(9), resamples=6000)
    np.testing.assert_allclose(found, np.percentile(means, [2.5, 97.5]), atol=0.015)


def test_coverage_of_the_interval():
    """Queries and seeds both random, 12 seeds and 60 queries: 95% intervals hold the true mean 0.5 about as often."""
    rng, held = generator(10), 0
    for _ in range(300):
        values = 0.5 + 0.3 * rng.normal(size=60) + 0.05 * rng.normal(size=(12, 1)) + 0.1 * rng.normal(size=(12, 60))
        low, high = stats.bootstrap(values, rng, resamples=400)
        held += low <= 0.5 <= high
    assert 0.90 <= held / 300 <= 0.99


def test_bootstrap_at_the_edges():
    assert stats.bootstrap(np.full((3, 8), 0.25), generator(11)) == (0.25, 0.25)
    assert stats.bootstrap(np.array([0.7]), generator(11)) == (0.7, 0.7)
    assert all(math.isnan(x) for x in stats.bootstrap(np.zeros((3, 0)), generator(11)))
    values = generator(12).random((2, 30))
    before = values.copy()
    assert stats.bootstrap(values, generator(13)) == stats.bootstrap(values, generator(13))
    np.testing.assert_array_equal(values, before)


def test_resamples_over_several_chunks_are_all_filled():
    low, high = stats.bootstrap(np.array([10.0, 11.0]), generator(14), resamples=1234, level=1.0)
    assert (low, high) == (10.0, 11.0)


# ---- randomization test


def exact_p(differences):
    """Share of all sign assignments whose sum is at least as far from 0 as the one given."""
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(s >= abs(sum(differences)) - 1e-9 for s in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [
        [0.5, 0.2, -0.1, 0.4, 0.3],
        [1.0, 1.0, 1.0, 1.0, 1.0],  # by hand: only all + and all -, 2 of 32
        [0.1, 0.2, -0.3, 0.4, -0.4],  # a sum of 0: every assignment is as extreme
        [0.1, 0.2, 0.3, -0.6, 0.7],  # equal sums that rounding tells apart
        [-1e-6, -2e-6, 3e-7, -5e-6, -4e-6],
    ],
)
def test_the_p_value_is_the_enumerated_one(differences):
    expected = exact_p(differences)
    found = stats.randomization_test(np.array(differences), generator(20))
    np.testing.assert_allclose(found, expected, atol=4.5 * math.sqrt(expected * (1 - expected) / 1e5) + 1e-5)
    turned = stats.randomization_test(-1e3 * np.array(differences), generator(20))
    np.testing.assert_allclose(turned, found, rtol=1e-12)


def test_the_case_by_hand_and_the_smallest_p():
    assert exact_p([1.0] * 5) == 2 / 32
    assert stats.randomization_test(np.ones(200), generator(21), 999) == 1 / 1000
    assert stats.randomization_test(np.zeros(9), generator(21)) == 1.0
    assert stats.randomization_test(np.zeros(0), generator(21)) == 1.0
    assert stats.randomization_test(np.array([0.3]), generator(21), 100) == 1.0


def test_queries_without_a_difference_change_nothing():
    differences = generator(22).normal(0.2, 1, 30)
    padded = np.concatenate([differences, np.zeros(50)])
    assert stats.randomization_test(differences, generator(23), 5000) == stats.randomization_test(
        padded, generator(23), 5000
    )


def test_more_permutations_than_a_chunk_holds(monkeypatch):
    monkeypatch.setattr(stats, "_CHUNK", 7)
    found = stats.randomization_test(np.array([0.5, 0.2, -0.1, 0.4, 0.3]), generator(24), 5000)
    np.testing.assert_allclose(found, exact_p([0.5, 0.2, -0.1, 0.4, 0.3]), atol=0.02)


def test_rows_that_share_draws_have_the_p_values_of_their_own_tests():
    rows = np.stack([generator(27, i).normal(shift, 1, 12) for i, shift in enumerate((0.0, 0.3, 0.6, -0.5, 1.5))])
    rows = np.vstack([rows, np.zeros(12), 1e-9 * rows[1]])
    expected = np.array([exact_p(row.tolist()) for row in rows[:5]] + [1, exact_p(rows[1].tolist())])
    found = stats.randomization_tests(rows, generator(28))
    np.testing.assert_allclose(found, expected, atol=0.008)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(stats.randomization_test(row, generator(28)), found[i], rtol=1e-12)
    assert stats.randomization_tests(np.zeros((0, 5)), generator(28)).shape == (0,)


def test_what_is_certain_is_not_drawn_and_what_is_not_is(monkeypatch):
    """Hoeffding's bound by hand: n equal differences give t² / 2 Σ d² = n/2, and 2e5 exp(-n/2) < 1e-6 from n = 53."""

    class Drawn(Exception):
        pass

    def draw(*_):
        raise Drawn

    monkeypatch.setattr(stats, "_extreme", draw)
    assert stats.randomization_test(np.full(53, -0.1), generator(29)) == 1 / 100_001
    with pytest.raises(Drawn):
        stats.randomization_test(np.full(52, -0.1), generator(29))
    with pytest.raises(Drawn):
        stats.randomization_tests(np.stack([np.full(60, 1.0), np.tile([1.0, -1.0], 30)]), generator(29))


def test_hoeffdings_bound_holds_for_the_draws():
    """Draws of uneven differences: never more extreme ones than twice the bound allows, wherever the threshold is."""
    values = generator(30).exponential(size=40)
    sums = np.abs((2.0 * generator(31).integers(0, 2, (50_000, 40)) - 1) @ values)
    for t in np.linspace(0, values.sum(), 30):
        assert (sums >= t).mean() <= 2 * math.exp(-(t**2) / (2 * (values**2).sum())) + 1e-12


@pytest.mark.parametrize("draw", ["normal", "skewed", "graded"])
def test_type_one_error_is_five_percent(draw):
    rng = generator(25)
    made = {
        "normal": lambda: rng.normal(size=50),
        "skewed": lambda: rng.exponential(size=50) * rng.choice([-1, 1], 50),
        "graded": lambda: rng.choice([-0.5, 0.0, 0.0, 0.5], 50),
    }[draw]
    rejected = np.mean([stats.randomization_test(made(), rng, 399) <= 0.05 for _ in range(600)])
    assert 0.02 <= rejected <= 0.08  # 3.3 standard errors about 0.05; graded values tie and reject less


def test_power():
    """A shift of 0.4 standard deviations over 80 queries: the paired t-test has power 0.94."""
    rng = generator(26)
    rejected = np.mean([stats.randomization_test(rng.normal(0.4, 1, 80), rng, 399) <= 0.05 for _ in range(200)])
    assert 0.86 <= rejected <= 1


# ---- Holm


def naive_holm(p_values):
    """Adjusted p: the least level at which the step-down procedure rejects the hypothesis (Holm 1979)."""
    ranked = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out = [0.0] * len(p_values)
    for place, i in enumerate(ranked):
        out[i] = min(1.0, max((len(p_values) - j) * p_values[ranked[j]] for j in range(place + 1)))
    return out


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.02, 1.0])), max_size=8))
def test_holm_against_a_plain_loop(p_values):
    adjusted = stats.holm(np.array(p_values))
    np.testing.assert_allclose(adjusted, naive_holm(p_values), rtol=1e-12)
    assert np.all(adjusted >= p_values) and np.all(adjusted <= 1)
    for level in (0.01, 0.05, 0.3):  # the step-down procedure itself
        rejected = set()
        for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if (len(p_values) - place) * p_values[i] > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_by_hand():
    np.testing.assert_allclose(stats.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    np.testing.assert_allclose(stats.holm(np.array([0.6, 0.7])), [1, 1])
    np.testing.assert_allclose(stats.holm(np.array([0.02])), [0.02])
    assert len(stats.holm(np.array([]))) == 0


# ---- leader and pairs


def against_leader(means, rng):
    (p,) = stats.against_leaders([means], rng)
    return p


def test_against_leader_finds_who_is_not_separable():
    base = generator(30).random(300)
    noise = generator(31).normal(0, 0.2, 300)
    means = np.stack([base - 0.3, base + noise - noise.mean() - 0.001, base, base - 0.05])
    p = against_leader(means, generator(32))
    assert p[2] == 1 and p[1] > 0.5, "the leader, and one that differs from it by noise alone"
    assert p[0] < 0.001 and p[3] < 0.001


def test_against_leader_adjusts_for_all_comparisons():
    lead = np.tile([0.5, 0.2, -0.1, 0.4, 0.3], (4, 1)) * np.array([[1.0], [0.0], [0.25], [0.5]])
    raw = exact_p([0.5, 0.2, -0.1, 0.4, 0.3])  # every row's differences are in this proportion
    p = against_leader(lead, generator(33))
    assert p[0] == 1
    np.testing.assert_allclose(p[1:], 3 * raw, atol=0.015)
    np.testing.assert_allclose(against_leader(lead[:1], generator(33)), [1])
    same = against_leader(np.tile(lead[0], (3, 1)), generator(33))
    np.testing.assert_array_equal(same, [1, 1, 1])


def test_each_table_has_its_own_leader_and_family():
    first = generator(40).random((4, 30)) + np.array([[0.0], [0.3], [0.1], [0.25]])
    second = generator(41).random((2, 30))
    together = stats.against_leaders([first, second, first[:1]], generator(42))
    assert [part.shape for part in together] == [(4,), (2,), (1,)]
    assert all(found[table.mean(axis=1).argmax()] == 1 for table, found in zip((first, second), together, strict=False))
    assert together[2].tolist() == [1]
    for table, found in zip((first, second), together, strict=False):
        np.testing.assert_allclose(found, against_leader(table, generator(43)), atol=0.015)


def test_compare_by_hand():
    a, b = np.array([[1.0, 0.5, 0.0, 0.5], [1.0, 0.5, 0.0, 1.0]]), np.array([0.0, 0.5, 1.0, 0.25])
    found = stats.compare(a, b, generator(34))
    np.testing.assert_allclose(found.difference, (1 + 0 - 1 + 0.5) / 4, rtol=1e-12)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    np.testing.assert_allclose(found.p, exact_p([1.0, -1.0, 0.5]), atol=0.01)
    assert -1 <= found.low <= found.difference <= found.high <= 1


def test_compare_is_the_other_way_round_when_turned():
    a, b = generator(35).random((3, 100)), generator(36).random((3, 100)) - 0.1
    there, back = stats.compare(a, b, generator(37)), stats.compare(b, a, generator(37))
    np.testing.assert_allclose([back.difference, back.low, back.high], [-there.difference, -there.high, -there.low])
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
    np.testing.assert_allclose(back.p, there.p, rtol=1e-12)
    expected = stats.bootstrap(a.mean(axis=0) - b.mean(axis=0), generator(37))
    assert (there.low, there.high) == expected


def test_compare_with_itself():
    a = generator(38).random((3, 40))
    same = stats.compare(a, a, generator(39))
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert (same.wins, same.ties, same.losses) == (0, 40, 0)
