"""Images of motion: colours of optical flow, heat of masks, sheets of clips."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from motive.images.motion import Panel, colour_wheel, heat_overlay, motion_sheet
from motive.images.png import write_png


def test_the_colour_wheel_shows_direction_and_strength() -> None:
    flow = np.zeros((1, 2, 1, 4), np.float32)
    flow[0, 0, 0] = [0, 2, -2, 4]
    still, right, left, faster = colour_wheel(flow, 2.0)[0, 0].tolist()
    assert still == [255, 255, 255]
    assert right == faster == [255, 0, 0]
    assert left == [0, 255, 255]


def test_heat_leaves_unweighted_frames_grey_and_follows_the_latent_frames() -> None:
    frames = np.full((5, 16, 16, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((2, 2, 2))
    mask[1] = 1
    heat = heat_overlay(frames, mask, 4)
    assert np.ptp(heat[0].reshape(-1, 3), axis=1).max() == 0
    assert np.ptp(heat[1:].reshape(-1, 3), axis=1).min() > 50
    np.testing.assert_array_equal(heat[1], heat[4])


@pytest.mark.parametrize(
    ("num_clips", "size"), [(0, (64, 64)), (1, (64, 64)), (3, (48, 80)), (2, (480, 832))]
)
def test_a_sheet_takes_any_number_and_size(num_clips: int, size: tuple[int, int], tmp_path: Path) -> None:
    frames = np.zeros((5, *size, 3), np.uint8)
    flow = np.zeros((5, 2, size[0] // 8, size[1] // 8))
    panel = Panel(
        "a very long caption " * 20, "1.0 px/s", frames, flow, flow, np.zeros((2, size[0] // 8, size[1] // 8))
    )
    write_png(tmp_path / "sheet.png", motion_sheet([panel] * num_clips, 12.0, 4))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert max(sheet.shape) < 3000
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == ["sheet.png"]
