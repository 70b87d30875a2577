"""Votes count what exceeds each query's percentile; a rank is a permutation that no batch order changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motive.maths.ranking import mean_influence, rank, votes


def ranked(matrix, ok, clip_ids, percentile=75.0):
    return rank(votes(matrix, ok, percentile), mean_influence(matrix), ok, clip_ids)


@st.composite
def pools(draw):
    """Few distinct values, so that ties are common."""
    num_clips, num_queries = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    cells = draw(st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5]), min_size=num_clips * num_queries,
                          max_size=num_clips * num_queries))  # fmt: skip
    ok = draw(st.lists(st.booleans(), min_size=num_clips, max_size=num_clips))
    matrix = np.array(cells, np.float32).reshape(num_clips, num_queries)
    return matrix, np.array(ok), [f"{n:04d}" for n in range(num_clips)]


@given(pools(), st.floats(1, 99))
@settings(max_examples=60, deadline=None)
def test_votes_per_query_are_the_clips_above_its_percentile(pool, percentile):
    matrix, ok, _ = pool
    for q in range(matrix.shape[1]):
        column = matrix[:, q]
        above = ok & (column > np.percentile(column[ok], percentile)) if ok.any() else np.zeros(len(ok), bool)
        np.testing.assert_array_equal(votes(matrix[:, [q]], ok, percentile), above)
    assert votes(matrix, ok, percentile).sum() == sum(
        votes(matrix[:, [q]], ok, percentile).sum() for q in range(matrix.shape[1])
    )


@given(pools(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_a_rank_is_a_permutation_that_the_order_of_clips_and_queries_does_not_change(pool, random):
    matrix, ok, clip_ids = pool
    ranks = ranked(matrix, ok, clip_ids)
    assert sorted(ranks) == list(range(len(ranks)))
    rows, columns = list(range(len(ranks))), list(range(matrix.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    again = ranked(matrix[rows][:, columns], ok[rows], [clip_ids[row] for row in rows])
    np.testing.assert_array_equal(again, ranks[rows])


def test_order_is_ok_then_votes_then_mean_then_id():
    ok = np.array([True, True, True, True, False])
    count = np.array([1, 2, 1, 1, 9])
    mean = np.array([0.2, -0.9, 0.5, 0.2, 0.9], np.float32)
    assert rank(count, mean, ok, ["b", "z", "y", "a", "c"]).tolist() == [3, 0, 1, 2, 4]


def test_clips_that_are_not_ok_neither_vote_nor_shift_the_threshold():
    matrix = np.arange(10, dtype=np.float32)[:, None]
    ok = np.arange(10) < 8
    np.testing.assert_array_equal(votes(matrix, ok, 50.0)[:8], votes(matrix[:8], ok[:8], 50.0))
    assert not votes(matrix, ok, 50.0)[8:].any()


@pytest.mark.parametrize("percentile", [50.0, 90.0])
def test_about_the_asked_share_gets_a_vote(percentile):
    matrix = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    assert votes(matrix, np.ones(1000, bool), percentile).sum() == 10 * (100 - percentile)


def test_nobody_ok_is_no_error():
    assert not votes(np.zeros((3, 2), np.float32), np.zeros(3, bool), 90.0).any()
