"""What the scores of an attribution say of worlds where the answer is known."""

import numpy as np
import pytest

from motive.maths.statistics import percentile_interval
from motive.maths.validity import (
    auc_draws,
    corrupted_aucs,
    lds,
    lds_draws,
    precision_at,
    subset_sums,
)

pytestmark = pytest.mark.slow

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
        low, high = percentile_interval(lds_draws(subset_sums(influence, subsets), losses, seed, 200))
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
        percentile_interval(lds_draws(predicted[at : at + 60], losses[at : at + 60], 0, 200))
        for at in range(0, 1200, 60)
    ]
    assert sum(low <= truth <= high for low, high in ends) >= 17


def test_the_same_seed_draws_the_same_subsets_and_queries_for_each_attribution():
    influence, subsets, losses = world(4)
    predicted = subset_sums(influence, subsets)
    one, other = (lds_draws(factor * predicted, losses, 0, 20) for factor in (1, 5))
    assert np.array_equal(one, other)


# ---- corrupted copies


def test_each_corruption_is_compared_with_the_originals():
    scores = np.array([[2.0, 1.0, 3.0, 2.0], [2.0, 1.0, 3.0, 2.0]])
    assert corrupted_aucs(scores).tolist() == [1, 0, 0.5]
    low, high = percentile_interval(auc_draws(scores, 0, 50))
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
