"""Drawn scenes: their flow is the true one, they are visible, captioned, and scale with time and size."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from testing.toy_scenes import FPS, FRAMES, SEEDS, centroids, scene_of
from toyworld import (
    CAMERAS,
    DISTRACTORS,
    FALSE_LAWS,
    HARMFUL_KINDS,
    MOTIONS,
    UNLIKE_KINDS,
    draw_clip,
    training_scene,
    vocabulary,
)
from toyworld.looks import ACCENT_CONTRAST, COLOURS, CONTRAST, NEW_COLOURS, STYLES, contrast
from toyworld.scenes import sample_scene

pytestmark = pytest.mark.slow

SIDE = 192
KINDS = (*MOTIONS, *DISTRACTORS)


@pytest.mark.parametrize("seed", SEEDS)
def test_static_has_no_flow(seed):
    clip = draw_clip(scene_of("static", seed), FRAMES, FPS)
    assert not clip.flow.any()
    assert clip.mask.any()
    assert (clip.frames == clip.frames[0]).all()


@pytest.mark.parametrize("kind", CAMERAS)
@pytest.mark.parametrize("seed", SEEDS)
def test_camera_only_flow_is_the_cameras(kind, seed):
    clip = draw_clip(scene_of(kind, seed), FRAMES, FPS)
    here = np.stack([*np.meshgrid(np.arange(64), np.arange(64)), np.ones((64, 64))])
    square = np.concatenate([clip.camera, np.broadcast_to([[[0, 0, 1.0]]], (FRAMES, 1, 3))], 1)
    for index in range(1, FRAMES):
        moved = square[index] @ np.linalg.inv(square[index - 1])
        there = np.einsum("ij,jhw->ihw", moved, here)
        np.testing.assert_allclose(clip.flow[index], (there - here)[:2], atol=0.02)
    assert np.abs(clip.flow).max() > 0.5


def warp_error(clip, share: float) -> int:
    """Total difference inside the object between each frame and the next, fetched by a share of the flow."""
    x, y = np.meshgrid(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32))
    total = 0
    for index in range(1, FRAMES):
        flow = clip.flow[index].astype(np.float32)
        there = cv2.remap(clip.frames[index], x + share * flow[0], y + share * flow[1], cv2.INTER_LINEAR)
        inside = cv2.erode(clip.mask[index - 1].astype(np.uint8), np.ones((3, 3))) > 0
        # What leaves the frame cannot be compared.
        inside &= np.abs(np.stack([x, y]) + 1.2 * flow - SIDE / 2).max(0) < SIDE / 2 - 2
        total += np.abs(there.astype(int) - clip.frames[index - 1])[inside].sum()
    return total


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "static"])
def test_true_flow_carries_each_frame_into_the_next(kind):
    for seed in range(2):
        # Drawn large, so that sampling between pixels costs little, and marked all over.
        scene = scene_of(kind, seed, size=(SIDE, SIDE))
        clip = draw_clip(replace(scene, looks=replace(scene.looks, texture="checkered")), FRAMES, FPS)
        error = warp_error(clip, 1.0)
        assert error <= 0.6 * warp_error(clip, 0.0)
        assert error < min(warp_error(clip, 0.8), warp_error(clip, 1.2))


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_visible_and_captioned(kind):
    words = set(vocabulary())
    assert len(words) <= 150
    for seed in range(12):
        scene = scene_of(kind, seed)
        assert set(scene.caption.split()) <= words
        clip = draw_clip(scene, FRAMES, FPS)
        assert clip.frames.dtype == np.uint8
        assert clip.mask.dtype == bool
        assert clip.flow.dtype == np.float16
        # Large enough to see throughout the window, and not over the whole frame.
        small = scene.motion == "explode" or kind == "changing_size"
        assert clip.mask.mean((1, 2)).min() > (0.008 if small else 0.025), (kind, seed)
        assert clip.mask.mean((1, 2)).max() < (0.45 if kind == "changing_size" else 0.35)
        assert contrast(COLOURS[scene.looks.colour], scene.looks.palette) > CONTRAST
        if scene.looks.texture != "solid":
            assert contrast(scene.looks.accent, scene.looks.palette) > ACCENT_CONTRAST


def test_harmful_clips_wear_the_caption_of_what_they_fake():
    for kind in HARMFUL_KINDS:
        scene = scene_of(kind, 3)
        assert scene.motion is not None
        assert scene.caption == scene_of(scene.motion, 0, looks=scene.looks).caption


def test_scenes_are_functions_of_time_and_scale_with_size():
    scene = scene_of("bounce", 2)
    slow, fast = draw_clip(scene, 10, 12), draw_clip(scene, 19, 24)
    np.testing.assert_array_equal(slow.frames, fast.frames[::2])
    large = draw_clip(replace(scene, size=(128, 192)), 10, 12)
    assert large.frames.shape == (10, 128, 192, 3)
    centred = centroids(large.mask[:, :, 32:160])
    np.testing.assert_allclose((centred + 0.5) / 2 - 0.5, centroids(slow.mask), atol=0.5)


@pytest.mark.parametrize("kind", HARMFUL_KINDS)
def test_harmful_clips_have_other_paces_too(kind):
    clip = draw_clip(scene_of(kind, 1, pace=0.75), FRAMES, FPS)
    assert clip.mask.any((1, 2)).all()
    assert np.abs(clip.flow).max() > 0.5


def test_impossible_wishes_are_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        scene_of("levitate")
    with pytest.raises(ValueError, match="cannot show"):
        scene_of("sliding_roll", motion="swing")


def test_most_of_what_the_base_sees_moves_by_false_laws():
    rng = np.random.default_rng(0)
    kinds = [training_scene(rng).kind for _ in range(600)]
    for of, share in (
        (FALSE_LAWS, 0.65),
        (CAMERAS, 0.10),
        (MOTIONS, 0.08),
        (UNLIKE_KINDS, 0.05),
        (("static",), 0.12),
    ):
        assert np.mean([kind in of for kind in kinds]) == pytest.approx(share, abs=0.05), of


def test_unlike_clips_share_no_word_with_any_query():
    queries = {
        word for kind in MOTIONS for seed in range(40) for word in scene_of(kind, seed).caption.split()
    }
    for kind in UNLIKE_KINDS:
        captions = {scene_of(kind, seed).caption for seed in range(8)}
        assert len(captions) == 2
        assert not queries & {word for caption in captions for word in caption.split()}


@pytest.mark.parametrize("kind", UNLIKE_KINDS)
def test_unlike_clips_move_and_stay_in_the_frame(kind):
    clip = draw_clip(scene_of(kind, 1), FRAMES, FPS)
    assert np.abs(clip.flow).max() > 0.5
    assert clip.mask.mean((1, 2)).min() > 0.01
    assert clip.mask.mean((1, 2)).max() < 0.45


def test_new_looks_and_paces_are_in_no_simple_clip():
    simple = [scene_of(kind, seed).looks for kind in MOTIONS for seed in range(20)]
    new = [
        sample_scene(np.random.default_rng(seed), MOTIONS[seed % 10], style="new").looks for seed in range(20)
    ]
    assert {looks.colour for looks in new} == {*NEW_COLOURS}
    assert not {looks.colour for looks in simple} & {*NEW_COLOURS}
    assert not {looks.shape for looks in simple} & {*STYLES["new"].shapes}
    slow = sample_scene(np.random.default_rng(3), "free_fall", pace=0.5)
    true = sample_scene(np.random.default_rng(3), "free_fall")
    times = np.arange(8) / 10
    np.testing.assert_allclose(slow.law(times), true.law(times / 2))
