"""The rendered world keeps the laws it should keep, breaks those it should break, and never changes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from toyworld import (
    CAMERAS,
    DISTRACTORS,
    HARMFUL_KINDS,
    MOTIONS,
    draw_clip,
    sample_scene,
    training_scene,
    vocabulary,
)
from toyworld.faults import WINDOW
from toyworld.looks import ACCENT_CONTRAST, COLOURS, CONTRAST, contrast
from toyworld.render import order_pool, order_queries, read_truth, take, write_video, write_world

SEEDS = range(3)
FPS = 12
FRAMES = 17
SIDE = 192
KINDS = (*MOTIONS, *DISTRACTORS)


def scene_of(kind: str, seed: int = 0, **wishes):
    """A scene of a kind from a seed."""
    return sample_scene(np.random.default_rng(seed), kind, **wishes)


def centroids(mask: np.ndarray) -> np.ndarray:
    """Mean position [F,2] in px of the object's pixels."""
    return np.array([np.argwhere(frame)[:, ::-1].mean(0) for frame in mask])


def states(kind: str, seed: int, rate: int = 240):
    """A scene with times [F] s of its window, positions [F,2] px and angles [F] rad of its one piece."""
    scene = scene_of(kind, seed)
    times = np.arange(int(WINDOW * rate)) / rate
    poses = scene.law(times)[:, 0]
    return scene, times, poses[..., 2], np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_free_fall_accelerates_with_gravity(seed):
    scene = scene_of("free_fall", seed)
    law = scene.law.keywords
    flight = np.sqrt(2 * (law["ground"] - law["start"][1]) / law["gravity"])
    assert 0.6 < flight < 1.33
    y = centroids(draw_clip(scene, int(flight * 30), 30).mask)[:, 1]
    curve = np.polyfit(np.arange(len(y)) / 30, y, 2)
    assert 2 * curve[0] == pytest.approx(law["gravity"], rel=0.04)
    assert curve[1] == pytest.approx(0, abs=3)


@pytest.mark.parametrize("seed", SEEDS)
def test_constant_speed_fall_has_no_acceleration(seed):
    scene = scene_of("constant_speed_fall", seed)
    y = centroids(draw_clip(scene, 24, 30).mask)[:, 1]
    curve = np.polyfit(np.arange(24) / 30, y, 2)
    assert abs(2 * curve[0]) < 3
    assert curve[1] > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_hover_then_drop_hangs_and_then_has_its_full_speed(seed):
    scene, times, position, _ = states("hover_then_drop", seed)
    law = scene.law.keywords
    speed = np.diff(position[:, 1]) * 240
    assert not speed[times[1:] < law["hang"]].any()
    assert speed[np.flatnonzero(speed)[1]] == pytest.approx(law["speed"])


@pytest.mark.parametrize("seed", SEEDS)
def test_rolling_turns_by_distance_over_radius(seed):
    scene, _, position, angle = states("roll", seed)
    travel = position[:, 0] - position[0, 0]
    assert abs(travel).max() > 20
    np.testing.assert_allclose(angle - angle[0], travel / scene.radius, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_sliding_roll_travels_without_turning(seed):
    _, _, position, angle = states("sliding_roll", seed)
    assert np.ptp(position[:, 0]) > 20
    assert np.ptp(angle) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_sliding_only_slows_down(seed):
    _, _, position, angle = states("slide", seed)
    speed = np.abs(np.diff(position[:, 0]))
    assert np.ptp(position[:, 0]) > 20
    assert np.ptp(angle) == 0
    assert (np.diff(speed) <= 1e-9).all()
    assert speed[0] > 5 * speed[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_bounces_lose_energy(seed):
    scene = scene_of("bounce", seed)
    law = scene.law.keywords
    height = law["ground"] - scene.law(np.arange(0, 4, 1 / 2000))[:, 0, 1, 2]
    peak = (height[1:-1] >= height[:-2]) & (height[1:-1] > height[2:]) & (height[1:-1] > 0.5)
    apexes = height[1:-1][peak]
    assert (height >= 0).all()
    assert len(apexes) >= 2
    np.testing.assert_allclose(apexes[1:] / apexes[:-1], law["restitution"] ** 2, rtol=0.02)
    first = law["start"][1] - law["velocity"][1] ** 2 / (2 * law["gravity"])
    assert apexes[0] <= law["ground"] - first


@pytest.mark.parametrize("kind", ["compress", "stretch"])
@pytest.mark.parametrize("seed", SEEDS)
def test_deformation_keeps_the_area(kind, seed):
    scene = scene_of(kind, seed)
    mask = draw_clip(scene, FRAMES, FPS).mask
    area = mask.sum((1, 2))
    assert np.abs(area / area[0] - 1).max() < 0.1
    height = mask.any(2).sum(1)
    if kind == "compress":
        assert height[-1] < 0.7 * height[0]
        feet = [np.flatnonzero(frame.any(1)).max() for frame in mask]
        assert np.ptp(feet) <= 1
    else:
        width = mask.any(1).sum(1)
        assert max(height[-1] / height[0], width[-1] / width[0]) > 1.4


@pytest.mark.parametrize("seed", SEEDS)
def test_pendulum_keeps_its_energy_and_its_string(seed):
    scene, _, position, turned = states("swing", seed, rate=1000)
    law = scene.law.keywords
    string = position - law["pivot"]
    np.testing.assert_allclose(np.hypot(*string.T), law["length"], rtol=1e-6)
    angle = np.arctan2(string[:, 0], string[:, 1])
    np.testing.assert_allclose(turned, -angle, atol=1e-6)
    rate = np.gradient(angle, 1 / 1000)[5:-5]
    kinetic = (law["length"] * rate) ** 2 / 2
    energy = kinetic - law["gravity"] * law["length"] * np.cos(angle[5:-5])
    assert np.ptp(energy) < 0.02 * kinetic.max()
    assert np.ptp(angle) > 1.2 * abs(law["amplitude"])


@pytest.mark.parametrize("seed", SEEDS)
def test_spinning_stays_in_place(seed):
    _, _, position, angle = states("spin", seed)
    assert np.ptp(position, 0).max() == 0
    assert np.ptp(angle) > 3


@pytest.mark.parametrize("seed", SEEDS)
def test_floating_rises_to_its_terminal_speed(seed):
    scene, _, position, _ = states("float", seed)
    law = scene.law.keywords
    climb = -np.diff(position[:, 1]) * 240
    free = position[1:, 1] > law["ceiling"]
    assert climb[0] < 0.1 * law["speed"]
    assert climb[free][-1] == pytest.approx(law["speed"], rel=0.05)
    assert (np.diff(climb[free]) >= -1e-6).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_fragments_fly_under_gravity_and_drag(seed):
    scene = scene_of("explode", seed)
    law = scene.law.keywords
    assert 6 <= len(scene.sites) <= 12
    seats = np.append(np.array(scene.sites), np.ones((len(scene.sites), 1)), 1)
    step = 1 / 1000
    place = np.einsum("fpij,pj->fpi", scene.law(np.arange(law["fuse"] + 0.01, WINDOW, step)), seats)
    velocity = np.gradient(place, step, axis=0)
    force = np.gradient(velocity, step, axis=0) + law["drag"] * velocity
    np.testing.assert_allclose(force[5:-5, :, 0], 0, atol=0.1)
    np.testing.assert_allclose(force[5:-5, :, 1], law["gravity"], atol=0.1)
    assert np.linalg.norm(place - place[0], axis=-1).max(0).min() > 8


def test_reversed_time_is_the_original_backward():
    scene = scene_of("time_reversed", 1, motion="roll")
    frames = draw_clip(scene, 43, 30).frames
    original = draw_clip(replace(scene, law=scene.law.keywords["law"]), 43, 30).frames
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50
    np.testing.assert_allclose(frames[::-1], original, atol=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_jitter_and_teleport_jump(seed):
    for kind, motion in (("jitter", "slide"), ("teleport", "free_fall")):
        path = scene_of(kind, seed, motion=motion).law(np.arange(FRAMES) / FPS)[:, 0, :, 2]
        # No body changes its velocity this much within a twelfth of a second.
        assert np.linalg.norm(np.diff(path, 2, axis=0), axis=1).max() > 6, kind


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
        # Drawn large, so that sampling between pixels costs little.
        clip = draw_clip(scene_of(kind, seed, size=(SIDE, SIDE)), FRAMES, FPS)
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
        assert clip.mask.mean((1, 2)).min() > (0.008 if scene.motion == "explode" else 0.03), (kind, seed)
        assert clip.mask.mean((1, 2)).max() < 0.35
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


def test_impossible_wishes_are_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        scene_of("levitate")
    with pytest.raises(ValueError, match="cannot show"):
        scene_of("sliding_roll", motion="swing")


def test_training_scenes_keep_the_share():
    rng = np.random.default_rng(0)
    kinds = [training_scene(rng, 0.3).kind for _ in range(600)]
    assert np.mean([kind in MOTIONS for kind in kinds]) == pytest.approx(0.3, abs=0.06)
    assert np.mean([kind == "static" for kind in kinds]) == pytest.approx(0.28, abs=0.06)


def test_look_alikes_wear_the_looks_of_their_query():
    queries = list(order_queries(5, (64, 64), 0))
    assert all(take(query).scene.looks.background == "plain" for query in queries)
    pool = list(order_pool(400, queries, 0.25, (64, 64), 0))
    alike = {order: order.looks_of for order in pool if order.looks_of}
    distractors = [order for order in pool if order.kind not in MOTIONS]
    assert len(distractors) == 220
    assert len(alike) == 55
    assert set(alike) <= set(distractors)
    for order, query in alike.items():
        worn, model = take(order).scene.looks, take(query).scene.looks
        assert replace(worn, background=model.background) == model
    assert len({order.seed for order in pool + queries}) == len(pool) + len(queries)


def test_video_is_h264_and_near_what_was_drawn(tmp_path):
    clip = draw_clip(scene_of("swing", 1), 24, 24)
    write_video(tmp_path / "clip.mp4", clip.frames, 24)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 24
        assert stream.pix_fmt == "yuv420p"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert decoded.shape == clip.frames.shape
    luma = [frames.astype(float) @ (0.299, 0.587, 0.114) for frames in (decoded, clip.frames)]
    assert np.sqrt(np.mean((luma[0] - luma[1]) ** 2)) < 4


def digests(folder: Path) -> dict[str, str]:
    """The hash of each file under a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict]:
    """The rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_world_is_deterministic_resumes_and_hides_the_kinds(tmp_path):
    wishes: dict[str, Any] = {"num_pool": 20, "num_queries_per_motion": 1, "num_heldout": 10, "seed": 4}
    first, second = tmp_path / "first", tmp_path / "second"
    write_world(first, **wishes)
    write_world(second, **wishes)
    assert digests(first) == digests(second)

    # Killed in the middle: the record is not final, a video and the tables are missing, others are kept.
    kept = second / "pool" / "clip_00001.mp4"
    stamp = kept.stat().st_mtime_ns
    (second / "world.json").rename(second / "world.json.part")
    (second / "pool" / "clip_00000.mp4").unlink()
    (second / "pool" / "metadata.jsonl").unlink()
    write_world(second, **wishes)
    assert digests(first) == digests(second)
    assert kept.stat().st_mtime_ns == stamp

    with pytest.raises(ValueError, match="other arguments"):
        write_world(first, **{**wishes, "seed": 5})
    assert {*rows(first / "pool" / "metadata.jsonl")[0]} == {"file_name", "caption"}
    assert {*rows(first / "queries" / "metadata.jsonl")[0]} == {"file_name", "caption", "motion"}
    labels = rows(first / "pool" / "truth" / "labels.jsonl")
    assert len(labels) == 20
    assert sum(label["kind"] in MOTIONS for label in labels) == 9

    label = rows(first / "heldout" / "truth" / "labels.jsonl")[0]
    truth = read_truth(first / "heldout" / "truth" / label["file_name"].replace("mp4", "safetensors"))
    assert len(truth.mask) == round(label["fps"] * label["duration"])
    assert truth.mask.shape == (*truth.flow.shape[:1], 64, 64)
    assert truth.camera.shape[1:] == (2, 3)


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="odd side"):
        write_world(tmp_path, size=(63, 64))
