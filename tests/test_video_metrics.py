"""Motion metrics tell still from moving from flickering."""

from functools import partial

import numpy as np
import pytest

from motive.maths.video_metrics import (
    MOTION_METRICS,
    dynamic_step,
    flickering,
    is_dynamic,
    mean_motion,
    motion_metrics,
    motion_smoothness_blend,
    moving_fraction,
)
from motive.trackers.interface import dis

TRACKER = partial(dis, preset="medium")


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
    assert motion_metrics(disc(0), 12.0, TRACKER) == pytest.approx(
        dict(zip(MOTION_METRICS, (0, 1, 1, 0, 0), strict=True)), abs=1e-3
    )


def test_a_moving_disc_is_dynamic_and_less_smooth():
    still, moving = (motion_metrics(disc(speed), 12.0, TRACKER) for speed in (0, 2))
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
