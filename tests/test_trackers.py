"""DIS finds known motion on small frames, and its vectors keep their meaning on the grid."""

from pathlib import Path

import numpy as np
import pytest
import torch

from motive.trackers.dis import PRESETS
from motive.trackers.interface import dis, keep_on_grid
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.moving_textures import disc, shifted
from toyworld import draw_clip, sample_scene


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("step", [(1.0, 0.0), (0.0, -3.0), (-3.5, 2.5), (5.0, 5.0), (7.0, 0.0)])
def test_a_translation_is_found_in_sign_and_size(preset: str, step: tuple[float, float]) -> None:
    flow = dis(shifted(step), preset)
    error = np.hypot(*(flow[1:, :, 16:48, 16:48] - np.reshape(step, (2, 1, 1))).transpose(1, 0, 2, 3))
    assert error.mean() < 0.1


@pytest.mark.parametrize(("speed", "worst"), [(1, 0.2), (3, 0.4), (5, 0.6), (7, 1.5)])
def test_a_small_object_is_found_at_up_to_seven_pixels_a_frame(speed: float, worst: float) -> None:
    errors = []
    for seed in range(12):
        step = speed * np.array([np.cos(seed), np.sin(seed)])
        frames, place = disc(step, seed)
        errors.append(np.hypot(*(dis(frames, "medium")[1][:, place] - step[:, None])).mean())
    assert np.mean(errors) < worst


@pytest.mark.parametrize("motion", ["free_fall", "slide", "bounce", "float"])
def test_the_rendered_worlds_objects_are_followed(motion: str) -> None:
    errors, lengths = [], []
    for seed in range(3):
        clip = draw_clip(sample_scene(np.random.default_rng(seed), motion), 9, 12.0)
        true, where = clip.flow[1:].astype(np.float32), clip.mask[:-1]
        error = np.hypot(*(dis(clip.frames, "medium")[1:] - true).transpose(1, 0, 2, 3))
        errors.append(error[where].mean())
        lengths.append(np.hypot(*true.transpose(1, 0, 2, 3))[where].mean())
    assert np.mean(errors) < 0.25 * np.mean(lengths)


def test_a_still_clip_has_no_flow_and_frame_0_never_has() -> None:
    assert not dis(np.repeat(shifted((0, 0), 1), 3, 0), "medium").any()
    assert not dis(shifted((3, 0)), "medium")[0].any()


@pytest.mark.parametrize("seed", range(5))
def test_what_the_codec_changes_is_no_motion(seed: int, tmp_path: Path) -> None:
    """A static clip as H.264 stays below a quarter of a pixel a frame, which is the floor of the masks."""
    frames = draw_clip(sample_scene(np.random.default_rng(seed), "static"), 17, 12.0).frames
    write_video(tmp_path / "static.mp4", frames, 12.0)
    read = read_frames(tmp_path / "static.mp4", 17, 12.0, 64, 64, "window")
    assert keep_on_grid(dis(read, "medium"), 4).norm(dim=1).max() < 0.25


def test_flow_is_between_adjacent_frames() -> None:
    """A pair gives the same vectors in a clip and alone."""
    frames = shifted((2, 1), 4)
    np.testing.assert_array_equal(dis(frames, "medium")[3], dis(frames[2:], "medium")[1])


@pytest.mark.parametrize("size", [(64, 96), (256, 320), (17, 40)])
def test_any_size_keeps_its_shape(size: tuple[int, int]) -> None:
    flow = dis(np.zeros((2, *size, 3), np.uint8), "fast")
    assert flow.shape == (2, 2, *size)
    assert flow.dtype == np.float32


def test_a_large_translation_is_found_on_large_frames() -> None:
    flow = dis(shifted((12.0, -8.0), 2, size=256), "medium")[1]
    assert np.abs(flow[:, 64:192, 64:192] - np.reshape((12, -8), (2, 1, 1))).mean() < 0.2


def test_what_cant_be_followed_is_refused() -> None:
    with pytest.raises(ValueError, match="preset is 'slow'; it is one of ultrafast, fast, medium"):
        dis(shifted((1, 0)), "slow")
    with pytest.raises(ValueError, match="at least 2 frames of 16x16 and got 1 frame"):
        dis(shifted((1, 0), 1), "fast")
    with pytest.raises(ValueError, match="got 8x64"):
        dis(np.zeros((2, 8, 64, 3), np.uint8), "fast")


def test_the_grid_keeps_full_size_pixels_by_area() -> None:
    flow = np.random.default_rng(0).normal(size=(3, 2, 8, 12)).astype(np.float32)
    kept = keep_on_grid(flow, 4)
    assert kept.shape == (3, 2, 2, 3)
    assert kept.dtype == torch.float32
    mean = flow.reshape(3, 2, 2, 4, 3, 4).mean((3, 5))
    np.testing.assert_allclose(kept.float().numpy(), mean, atol=2e-3)
    np.testing.assert_array_equal(keep_on_grid(flow, 1).numpy(), flow)


@pytest.mark.parametrize("stride", [0, 3, 16])
def test_a_stride_that_leaves_pixels_over_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=rf"optical_flow.stride {stride} does not divide the frame 8x12"):
        keep_on_grid(np.zeros((3, 2, 8, 12), np.float32), stride)
