"""Intervals hold the truth as often as they say; ranks, correlations, AUC and Student's t are scipy's."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from motive.maths.statistics import (
    auc,
    average_ranks,
    bootstrap_interval,
    crossed_bootstrap_interval,
    crossed_t_interval,
    nested_bootstrap_interval,
    percentile_interval,
    rank_correlation,
    rank_correlations,
    row_bootstrap_intervals,
    student_quantile,
)

pytestmark = pytest.mark.slow


def test_it_loads_numpy_alone():
    code = "import sys, motive.maths.statistics; print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


# ---- intervals


def test_a_percentile_interval_leaves_a_fortieth_on_each_side():
    low, high = percentile_interval(np.random.default_rng(0).permutation(np.arange(4001.0)))
    assert (low, high) == (100, 3900)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(size=60), seed, draws=300) for seed in range(100)]
    assert 85 <= sum(low < 0 < high for low, high in intervals) <= 100


def test_the_interval_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values, 1, draws=200) == bootstrap_interval(values, 1, draws=200)


def test_the_nested_interval_covers_the_truth_where_motions_differ_and_a_plain_one_does_not():
    rng = np.random.default_rng(0)
    groups = [f"motion {i // 5}" for i in range(100)]
    nested = 0
    plain = 0
    for trial in range(100):
        values = np.repeat(rng.normal(size=20), 5) + rng.normal(size=100)
        low, high = nested_bootstrap_interval(values, groups, trial, draws=400)
        nested += low < 0 < high
        low, high = bootstrap_interval(values, trial, draws=400)
        plain += low < 0 < high
    assert nested >= 85
    assert plain < 80


def test_the_nested_interval_of_one_group_is_the_plain_one():
    values = np.random.default_rng(0).normal(size=50)
    nested = nested_bootstrap_interval(values, ["roll"] * 50, 0)
    assert nested == pytest.approx(bootstrap_interval(values, 0), abs=0.02)


def test_the_interval_of_a_row_is_that_of_its_mean_and_does_not_depend_on_the_other_rows(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    low, high = row_bootstrap_intervals(values)
    mean = values.mean(1)
    assert ((low < mean) & (mean < high)).all()
    half = 1.96 * values.std(1) / 40**0.5
    np.testing.assert_allclose(high - low, 2 * half, rtol=0.35)
    monkeypatch.setattr("motive.maths.statistics.BLOCK", 7)
    np.testing.assert_allclose(row_bootstrap_intervals(values), (low, high), rtol=1e-5)


def test_the_intervals_of_rows_cover_their_means_about_as_often_as_they_say():
    values = np.random.default_rng(1).normal(size=(2000, 50)).astype(np.float32)
    low, high = row_bootstrap_intervals(values)
    assert 0.90 < ((low < 0) & (high > 0)).mean() < 0.97


def test_of_one_column_nothing_is_said():
    assert np.isnan(row_bootstrap_intervals(np.ones((3, 1), np.float32))).all()


def test_the_crossed_interval_is_wide_where_seeds_differ_and_narrow_where_all_agrees():
    clips = np.random.default_rng(0).normal(size=200)
    alike, apart = np.stack([clips] * 3), np.stack([clips - 1, clips, clips + 1])
    ends = (crossed_bootstrap_interval(values, 0) for values in (alike, apart))
    narrow, wide = (high - low for low, high in ends)
    assert narrow == pytest.approx(2 * 1.96 * clips.std() / 200**0.5, rel=0.1)
    assert wide > 3 * narrow
    assert crossed_bootstrap_interval(np.full((3, 4), 0.5), 0) == pytest.approx((0.5, 0.5))


def test_the_crossed_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        seeds, clips = rng.normal(size=(20, 1)), rng.normal(size=(1, 50))
        low, high = crossed_bootstrap_interval(seeds + clips + rng.normal(size=(20, 50)), trial, draws=500)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("seed_effect", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_of_a_change_covers_it(seeds, seed_effect):
    """Clips, training seeds and both together move it; 95 of 100 intervals hold the truth, or a few more."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        changes = 0.5 + rng.standard_normal((seeds, 60)) + rng.standard_normal(60)
        low, high = crossed_t_interval(changes + seed_effect * rng.standard_normal((seeds, 1)))
        held += low <= 0.5 <= high
    assert held >= 180


def test_the_interval_of_a_change_narrows_with_seeds_and_is_a_point_without_any_spread():
    rng = np.random.default_rng(0)
    changes = rng.standard_normal((20, 60)) + rng.standard_normal((20, 1))
    few, many = (crossed_t_interval(rows) for rows in (changes[:5], changes))
    assert many[1] - many[0] < 0.7 * (few[1] - few[0])
    assert crossed_t_interval(np.full((3, 4), 2.0)) == (2.0, 2.0)
    one = changes[:1]
    half = 2.0 * one.std(ddof=1) / 60**0.5
    assert crossed_t_interval(one) == pytest.approx((one.mean() - half, one.mean() + half), rel=1e-2)


def test_the_interval_of_one_seed_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=(1, 12))
    low, high = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert crossed_t_interval(values) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("df", [0.7, 1, 1.5, 2, 3.3, 10, 59, 236.2, 5000])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.999])
def test_the_quantile_of_student_is_that_of_scipy(p, df):
    assert student_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-10)


# ---- ranks


@pytest.mark.parametrize("num_values", [2, 5, 1000])
def test_ranks_and_correlations_are_those_of_scipy_ties_and_infinities_too(num_values):
    rng = np.random.default_rng(0)
    a = rng.integers(0, num_values, (40, 3)).astype(float)
    b = a + rng.integers(0, num_values, (40, 3))
    a[0] = -np.inf
    np.testing.assert_array_equal(average_ranks(a), stats.rankdata(a, axis=0))
    expected = [stats.spearmanr(a[:, q], b[:, q])[0] for q in range(3)]
    assert rank_correlations(a, b) == pytest.approx(expected, rel=1e-12)


def test_a_column_with_a_nan_has_no_ranks():
    x = np.array([[1.0, 1.0], [np.nan, 2.0]])
    np.testing.assert_array_equal(average_ranks(x), stats.rankdata(x, axis=0))


def test_a_prediction_that_never_changes_correlates_with_nothing():
    assert rank_correlations(np.ones((5, 2)), np.arange(10.0).reshape(5, 2)).tolist() == [0, 0]


def test_any_rising_function_is_one_and_any_falling_minus_one():
    x = np.random.default_rng(0).normal(size=50)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)


def test_what_is_missing_is_left_out():
    x, y = np.arange(10.0), np.arange(10.0)
    y[3] = np.nan
    assert rank_correlation(x, y) == pytest.approx(1)


@pytest.mark.parametrize("y", [np.ones(5), np.full(5, np.nan)])
def test_nothing_is_said_where_nothing_varies(y):
    assert np.isnan(rank_correlation(np.arange(5.0), y))


# ---- AUC


def test_separated_scores_have_auc_1_and_equal_ones_a_half():
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 0
    assert auc(np.ones(3), np.ones(5)) == 0.5
    assert auc(np.array([0.0, 1.0]), np.array([-np.inf, -np.inf])) == 1


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    pairs = good[:, None] - bad
    assert auc(good, bad) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auc(good, bad) == pytest.approx(stats.mannwhitneyu(good, bad).statistic / (30 * 20))
    assert auc(good, bad) + auc(bad, good) == pytest.approx(1)


def test_auc_says_nothing_where_one_side_is_empty():
    assert np.isnan(auc(np.zeros(2), np.zeros(0)))
    assert np.isnan(auc(np.zeros(0), np.zeros(2)))
