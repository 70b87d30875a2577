"""Losses over a grid of noise levels and noises, of models whose losses are known."""

import numpy as np
import pytest
import torch

from motive.maths.denoising import common_noise, target_velocity
from motive.maths.losses import loss_changes, loss_grid


def test_loss_grid_of_a_perfect_model_is_zero_and_of_a_blind_one_the_weighted_target():
    z, W = torch.randn(4, 2, 4, 4), torch.rand(2, 4, 4)
    eps = common_noise(3, (4, 2, 4, 4))
    perfect = loss_grid(lambda x, sigma: target_velocity(z, eps).expand_as(x), z, W, (0.2, 0.8), (3,))
    assert not perfect["motion"].any()
    blind = loss_grid(lambda x, sigma: torch.zeros_like(x), z, W, (0.2, 0.8), (3,))
    expected = ((eps - z) ** 2 * W).mean()
    torch.testing.assert_close(blind["motion"], expected.expand(2, 1))
    torch.testing.assert_close(blind["plain"], ((eps - z) ** 2).mean().expand(2, 1))


def test_loss_changes_add_up():
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 40)
    tuned = base - np.where(np.arange(40) < 30, 0.1, -0.1)
    metrics = loss_changes(base, tuned, ["roll"] * 30 + ["spin"] * 10, seed=0)
    assert metrics["improved_fraction"] == 0.75
    assert metrics["motion_loss_change"] == pytest.approx(
        metrics["motion_loss_tuned"] - metrics["motion_loss_base"]
    )
    assert (
        metrics["motion_loss_change_low"] < metrics["motion_loss_change"] < metrics["motion_loss_change_high"]
    )
    assert metrics["motion_loss_change_roll"] == pytest.approx(-0.1)
    assert metrics["motion_loss_change_spin"] == pytest.approx(0.1)
