"""Rank correlation asks for order alone, and says nothing where nothing varies."""

import numpy as np
import pytest

from motive.maths.confounds import rank_correlation


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
