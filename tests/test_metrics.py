"""Motion metrics tell still from moving from flickering; the interval covers the truth."""

from functools import partial

import numpy as np
import pytest
import torch

from motive.maths.denoising import common_noise, target_velocity
from motive.maths.metrics import (
    MOTION_METRICS,
    bootstrap_interval,
    dynamic_step,
    flickering,
    is_dynamic,
    loss_changes,
    loss_grid,
    mean_motion,
    motion_metrics,
    motion_smoothness_blend,
    moving_fraction,
)
from motive.trackers.interface import dis

TRACK = partial(dis, preset="medium")


def disc(pixels_a_frame: float, num_frames: int = 17, size: int = 64) -> np.ndarray:
    """A textured disc that crosses a plain frame and comes back."""
    y, x = np.mgrid[:size, :size]
    frames = np.full((num_frames, size, size, 3), 120, np.uint8)
    for f in range(num_frames):
        travel = pixels_a_frame * f % size
        centre = 14 + min(travel, size - travel)
        inside = np.hypot(x - centre, y - 32) < 10
        frames[f][inside] = np.where(((x - np.round(centre)) // 3 % 2)[inside, None], 230, 30)
    return frames


def flow(dx: float, share: float, num_frames: int = 16, size: int = 40) -> np.ndarray:
    """The first rows of each frame move by dx pixels."""
    field = np.zeros((num_frames, 2, size, size), np.float32)
    field[1:, 0, : round(share * size)] = dx
    return field


def test_a_still_is_smooth_steady_and_not_dynamic():
    assert motion_metrics(disc(0), 12.0, TRACK) == pytest.approx(
        dict(zip(MOTION_METRICS, (0, 1, 1, 0, 0), strict=True)), abs=1e-3
    )


def test_a_moving_disc_is_dynamic_and_less_smooth():
    still, moving = (motion_metrics(disc(speed), 12.0, TRACK) for speed in (0, 2))
    assert list(moving) == list(MOTION_METRICS)
    assert moving["dynamic_degree_dis"] == 1
    assert moving["moving_fraction"] > 0.03
    assert moving["mean_motion"] > 0.5
    assert moving["motion_smoothness_blend"] < still["motion_smoothness_blend"]


def test_known_flow_gives_known_numbers():
    field = flow(3.0, 0.25)
    assert moving_fraction(field, 10.0) == pytest.approx(0.25)
    assert mean_motion(field, 10.0) == pytest.approx(0.25 * 30)


def test_noise_of_the_tracker_is_not_motion():
    assert moving_fraction(flow(0.1, 1.0, size=64), 12.0) == 0


@pytest.mark.parametrize(
    ("dx", "share", "dynamic"), [(1.0, 0.1, True), (0.9, 0.1, False), (9.0, 0.01, False)]
)
def test_dynamic_needs_speed_in_a_twentieth_of_the_frame(dx, share, dynamic):
    assert is_dynamic(flow(dx, share)) is dynamic  # 6 * 40 / 256 = 0.94 px


@pytest.mark.parametrize(("pairs", "dynamic"), [(3, False), (4, True)])
def test_dynamic_needs_four_of_sixteen_frames(pairs, dynamic):
    field = flow(5.0, 1.0)
    field[1 + pairs :] = 0
    assert is_dynamic(field) is dynamic


@pytest.mark.parametrize(("fps", "step"), [(4.0, 1), (8.0, 1), (16.0, 2), (24.0, 3), (30.0, 4)])
def test_dynamic_degree_looks_eight_times_a_second(fps, step):
    assert dynamic_step(fps) == step


def test_flicker_by_hand():
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[1::2] = 51
    assert flickering(frames) == pytest.approx(1 - 51 / 255)
    assert motion_smoothness_blend(frames) == pytest.approx(1 - 51 / 255)


def test_a_fade_is_smooth_though_it_changes():
    frames = np.arange(0, 90, 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    assert motion_smoothness_blend(frames) == 1
    assert flickering(frames) == pytest.approx(1 - 10 / 255)


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
    found = loss_changes(base, tuned, ["roll"] * 30 + ["spin"] * 10, seed=0)
    assert found["improved_fraction"] == 0.75
    assert found["motion_loss_change"] == pytest.approx(
        found["motion_loss_tuned"] - found["motion_loss_base"]
    )
    assert found["motion_loss_change_low"] < found["motion_loss_change"] < found["motion_loss_change_high"]
    assert found["motion_loss_change_roll"] == pytest.approx(-0.1)
    assert found["motion_loss_change_spin"] == pytest.approx(0.1)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(size=60), seed, draws=300) for seed in range(100)]
    assert 85 <= sum(low < 0 < high for low, high in intervals) <= 100


def test_the_interval_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values, 1, draws=200) == bootstrap_interval(values, 1, draws=200)
