"""The motion benchmark measures what it says, and a small one of it holds."""

from pathlib import Path

import numpy as np
import pytest

from testing.commands import run_benchmark
from testing.true_motion import left_or_entered
from toyworld import draw_clip, sample_scene

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["static", "camera_pan", "camera_zoom", "camera_shake"])
def test_what_only_the_camera_moves_is_no_moving_object(kind: str) -> None:
    clip = draw_clip(sample_scene(np.random.default_rng(0), kind), 9, 10.0)
    for frame in range(9):
        assert left_or_entered(clip, frame, 0.3).mean() < 0.002


def test_a_moving_object_is_where_it_was_and_where_it_is() -> None:
    clip = draw_clip(sample_scene(np.random.default_rng(0), "free_fall"), 9, 10.0)
    where = left_or_entered(clip, 3, 0.3)
    both = clip.mask[2] | clip.mask[3]
    assert (where & both).sum() > 0.9 * both.sum()
    assert (where & ~both).sum() < 0.1 * both.sum()


def test_masks_show_objects_and_not_the_camera(tmp_path: Path) -> None:
    """Two clips of each kind through the real stages; the benchmark's own figures are of many more."""
    numbers = run_benchmark("motion", tmp_path, "--only", "world", "--num-clips", "2")
    # Plain objects show their edges alone.
    assert numbers["mask_auc_static"] > 0.85
    assert numbers["mask_auc_moving_camera"] > 0.75
    assert numbers["camera_only_residual_ratio"] < 0.15
    assert numbers["motion_kind_accuracy"] > 0.85
    assert numbers["still_empty_fraction"] == 1
