"""What the scores of an attribution say of worlds where the answer is known."""

import numpy as np
import pytest

from motive.maths.validity import (
    auc,
    auc_draws,
    change_interval,
    corrupted_aucs,
    interval,
    lds,
    lds_draws,
    precision_at,
    rank_correlations,
    subset_sums,
)

CLIPS, QUERIES, SUBSETS = 40, 6, 50


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Influence [N,Q], half subsets [M,N] and the losses [M,Q] of a world in which each clip just adds up."""
    rng = np.random.default_rng(seed)
    influence = rng.standard_normal((CLIPS, QUERIES))
    subsets = np.stack([rng.permutation(CLIPS) < CLIPS // 2 for _ in range(SUBSETS)])
    return influence, subsets, 3.0 - subset_sums(influence, subsets)


# ---- retraining


def test_in_a_linear_world_the_true_influence_has_lds_1():
    influence, subsets, losses = world(0)
    assert lds(subset_sums(influence, subsets), losses) == pytest.approx(1)
    assert lds(subset_sums(-influence, subsets), losses) == pytest.approx(-1)


def test_only_the_order_counts():
    influence, subsets, losses = world(1)
    predicted = subset_sums(influence, subsets)
    assert lds(7 * predicted + 2, np.exp(losses)) == pytest.approx(lds(predicted, losses))


def test_the_interval_of_noise_holds_zero_nearly_always():
    held = 0
    for seed in range(20):
        influence, subsets, _ = world(seed)
        losses = np.random.default_rng(seed + 1000).standard_normal((SUBSETS, QUERIES))
        low, high = interval(lds_draws(subset_sums(influence, subsets), losses, seed, 200))
        held += low <= 0 <= high
    assert held >= 17


def test_the_interval_of_a_blurred_world_holds_what_many_subsets_say():
    rng = np.random.default_rng(3)
    influence = rng.standard_normal((CLIPS, QUERIES))
    many = np.stack([rng.permutation(CLIPS) < CLIPS // 2 for _ in range(4000)])
    predicted = subset_sums(influence, many)
    losses = -predicted + 4 * rng.standard_normal(predicted.shape)
    truth = lds(predicted, losses)
    assert 0.3 < truth < 0.9
    ends = [
        interval(lds_draws(predicted[at : at + 60], losses[at : at + 60], 0, 200))
        for at in range(0, 1200, 60)
    ]
    assert sum(low <= truth <= high for low, high in ends) >= 17


def test_the_same_seed_draws_the_same_subsets_and_queries_for_each_attribution():
    influence, subsets, losses = world(4)
    predicted = subset_sums(influence, subsets)
    one, other = (lds_draws(factor * predicted, losses, 0, 20) for factor in (1, 5))
    assert np.array_equal(one, other)


def test_a_prediction_that_never_changes_correlates_with_nothing():
    assert rank_correlations(np.ones((5, 2)), np.arange(10.0).reshape(5, 2)).tolist() == [0, 0]


@pytest.mark.parametrize("seed_effect", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_of_a_change_covers_it(seeds, seed_effect):
    """Clips, training seeds and both together move it; 95 of 100 intervals hold the truth, or a few more."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        changes = 0.5 + rng.standard_normal((seeds, 60)) + rng.standard_normal(60)
        low, high = change_interval(changes + seed_effect * rng.standard_normal((seeds, 1)))
        held += low <= 0.5 <= high
    assert held >= 180


def test_the_interval_of_a_change_narrows_with_seeds_and_is_a_point_without_any_spread():
    rng = np.random.default_rng(0)
    changes = rng.standard_normal((20, 60)) + rng.standard_normal((20, 1))
    few, many = (change_interval(rows) for rows in (changes[:5], changes))
    assert many[1] - many[0] < 0.7 * (few[1] - few[0])
    assert change_interval(np.full((3, 4), 2.0)) == (2.0, 2.0)
    one = changes[:1]
    half = 2.0 * one.std(ddof=1) / 60**0.5
    assert change_interval(one) == pytest.approx((one.mean() - half, one.mean() + half), rel=1e-2)


# ---- corrupted copies


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


def test_each_corruption_is_compared_with_the_originals():
    scores = np.array([[2.0, 1.0, 3.0, 2.0], [2.0, 1.0, 3.0, 2.0]])
    assert corrupted_aucs(scores).tolist() == [1, 0, 0.5]
    low, high = interval(auc_draws(scores, 0, 50))
    assert low == high == 0.5


# ---- truth


def test_precision_is_1_where_the_relevant_come_first_and_chance_where_scores_are_random():
    relevant = np.arange(1000)[:, None] % 10 == np.arange(3)
    assert precision_at(100, relevant.astype(float), relevant).tolist() == [1, 1, 1]
    assert precision_at(100, -relevant.astype(float), relevant).tolist() == [0, 0, 0]
    random = np.random.default_rng(0).standard_normal((1000, 3))
    assert precision_at(100, random, relevant).mean() == pytest.approx(0.1, abs=0.06)


def test_what_has_no_influence_comes_last():
    scores = np.array([[-np.inf], [-5.0], [-4.0]])
    assert precision_at(2, scores, np.array([[False], [True], [True]])).tolist() == [1]
