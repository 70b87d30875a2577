"""The motions of the rendered world keep the laws they should keep, and break those they should break."""

from dataclasses import replace

import numpy as np
import pytest

from testing.toy_scenes import FPS, FRAMES, SEEDS, centroids, scene_of
from toyworld import FAKES, draw_clip
from toyworld.faults import WINDOW


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


@pytest.mark.parametrize("motion", FAKES["constant_pace"])
@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_constant_pace_the_same_path_is_covered_evenly(seed, motion):
    scene = scene_of("constant_pace", seed, motion=motion)
    law = scene.law.keywords
    poses = scene.law(np.arange(0, law["duration"], 1 / 240)) * np.array([law["reach"], law["reach"], 1])
    steps = np.linalg.norm(np.diff(poses, axis=0), axis=(-2, -1)).mean(-1)
    # At a bounce the path has a corner, and at its end a piece of a step.
    uneven = np.abs(steps / np.median(steps) - 1) > 0.2
    assert uneven.sum() <= 4
    np.testing.assert_allclose(scene.law(np.zeros(1)), law["law"](np.zeros(1)), atol=1e-6)
    np.testing.assert_allclose(scene.law(np.array([9.0])), law["law"](np.array([WINDOW])), atol=1e-6)


@pytest.mark.parametrize("motion", FAKES["hover_then_drop"])
@pytest.mark.parametrize("seed", SEEDS)
def test_hover_then_drop_hangs_and_then_has_its_full_speed(seed, motion):
    scene = scene_of("hover_then_drop", seed, motion=motion)
    times = np.arange(int(WINDOW * 240)) / 240
    position = scene.law(times)[:, 0, :, 2]
    speed = np.linalg.norm(np.diff(position, axis=0), axis=-1) * 240
    assert not speed[times[1:] < scene.law.keywords["delay"]].any()
    assert speed[np.flatnonzero(speed)[1]] > 0.7 * speed.max() > 60


@pytest.mark.parametrize("motion", FAKES["speeding_up"])
@pytest.mark.parametrize("seed", SEEDS)
def test_speeding_up_never_brakes(seed, motion):
    scene = scene_of("speeding_up", seed, motion=motion)
    law = scene.law.keywords
    poses = scene.law(np.arange(0, law["duration"], 1 / 60)) * np.array([law["reach"], law["reach"], 1])
    steps = np.linalg.norm(np.diff(poses, axis=0), axis=(-2, -1)).mean(-1)
    assert (np.diff(steps) > -0.02 * steps.max()).all()
    assert steps[-1] > 10 * steps[0]


@pytest.mark.parametrize("motion", FAKES["rewinding"])
def test_rewinding_comes_back(motion):
    scene = scene_of("rewinding", 2, motion=motion)
    until = scene.law.keywords["until"]
    there, half, back = scene.law(np.array([0, until, 2 * until]))
    np.testing.assert_allclose(there, back, atol=1e-9)
    assert np.abs(half - there).max() > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bounce_that_gains_energy_rises_above_where_it_fell_from(seed):
    scene = scene_of("gaining_energy", seed)
    y = scene.law(np.arange(0, WINDOW, 1 / 240))[:, 0, 1, 2]
    impact = int(y.argmax())
    assert y[impact] - y[impact:].min() > 1.4 * (y[impact] - y[0])
    assert draw_clip(scene, 9, 8.0).mask.any((1, 2)).all()


@pytest.mark.parametrize("motion", FAKES["changing_size"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_changes_its_size_keeps_its_proportions(seed, motion):
    area = draw_clip(scene_of("changing_size", seed, motion=motion), FRAMES, FPS).mask.sum((1, 2))
    change = area[-1] / area[0]
    assert change < 0.5 if motion == "compress" else change > 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turning_slide_turns_on_its_way(seed):
    _, _, position, angle = states("turning_slide", seed)
    assert np.ptp(position[:, 0]) > 20
    assert np.ptp(angle) > 3


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
    assert np.abs(area / area[0] - 1).max() < 0.15
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
    scene = scene_of("time_reversed", 1, motion="slide")
    frames = draw_clip(scene, 43, 30).frames
    original = draw_clip(replace(scene, law=scene.law.keywords["law"]), 43, 30).frames
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 20
    np.testing.assert_allclose(frames[::-1], original, atol=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_jitter_and_teleport_jump(seed):
    for kind, motion in (("jitter", "slide"), ("teleport", "free_fall")):
        path = scene_of(kind, seed, motion=motion).law(np.arange(FRAMES) / FPS)[:, 0, :, 2]
        # No body changes its velocity this much within a twelfth of a second.
        assert np.linalg.norm(np.diff(path, 2, axis=0), axis=1).max() > 6, kind
