"""What is measured of videos of the toy world: objects found, held, their laws, and the judge of motion."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from motive.maths.statistics import auc
from motive.measures import load_measure, measure_video
from toyworld import FAKES, MOTIONS, draw_clip, sample_scene
from toyworld.measures.holds import holds, whole_share
from toyworld.measures.judge import load_judge, physical
from toyworld.measures.motion import LAW_NAMES, LAWS, law_numbers, path_of
from toyworld.measures.objects import appearance, find_object
from toyworld.measures.videos import measure_video as measure_toy_video
from toyworld.scenes import BASE_LAWS

pytestmark = pytest.mark.slow

FRAMES = 9
FPS = 8.0


def drawn(kind: str, motion: str | None = None, seed: int = 0):
    """A scene, its clip, and what its caption says of the looks."""
    scene = sample_scene(np.random.default_rng([21, seed]), kind, motion, style="both")
    looks = appearance(scene.caption)
    assert looks is not None
    return scene, draw_clip(scene, FRAMES, FPS), looks


# ---- the object is found


@pytest.mark.parametrize("kind", [*MOTIONS, "static"])
def test_the_object_is_where_it_was_drawn(kind):
    overlaps = []
    for seed in range(4):
        scene, clip, looks = drawn(kind, seed=seed)
        assert looks.motion == scene.motion
        mask = find_object(clip.frames, looks).mask
        overlaps.append((mask & clip.mask).sum() / (mask | clip.mask).sum())
    assert np.mean(overlaps) > (0.6 if kind == "explode" else 0.85)  # the smallest pieces are cut away


def test_captions_of_other_worlds_say_nothing():
    for caption in ("", "a person skiing down a hill", "planet turning among distant stars"):
        assert appearance(caption) is None
        assert all(
            np.isnan(value)
            for value in measure_toy_video(np.zeros((9, 64, 64, 3), np.uint8), caption, FPS).values()
        )


# ---- it holds


def test_true_clips_hold_and_so_do_false_laws_but_not_broken_objects():
    held = [
        holds(find_object(clip.frames, looks), looks.motion)
        for _, clip, looks in (drawn(m, seed=s) for m in MOTIONS for s in range(3))
    ]
    assert np.mean(held) > 0.95
    rigid = [drawn(BASE_LAWS[m], m) for m in ("free_fall", "roll", "swing", "spin", "bounce")]
    assert all(holds(find_object(clip.frames, looks), looks.motion) for _, clip, looks in rigid)


@pytest.mark.parametrize("motion", ["free_fall", "slide", "spin", "swing"])
def test_an_object_that_becomes_another_or_shrinks_or_breaks_or_is_gone_does_not_hold(motion):
    scene, _, looks = drawn(motion, seed=2)
    objects = {}
    for shape in ("star", "square"):
        clip = draw_clip(replace(scene, looks=replace(scene.looks, shape=shape)), FRAMES, FPS)
        objects[shape] = find_object(clip.frames, looks)
    pixels = objects["square"]
    assert holds(pixels, motion)

    another = pixels.mask.copy()
    another[4:] = objects["star"].mask[4:]
    shrunk = np.stack([frame if index < 4 else _eroded(frame) for index, frame in enumerate(pixels.mask)])
    broken = pixels.mask.copy()
    broken[5:] &= ~_middle_row(pixels.mask[5:])
    gone = pixels.mask.copy()
    gone[-1] = False
    for mask in (another, shrunk, broken, gone):
        assert not holds(pixels._replace(mask=mask), motion)


def _eroded(frame: np.ndarray) -> np.ndarray:
    return cv2.erode(frame.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def _middle_row(mask: np.ndarray) -> np.ndarray:
    """The rows [F,H,1] through the object's middle, three pixels high."""
    rows = np.arange(64)[None]
    middle = np.array([np.argwhere(frame)[:, 0].mean() for frame in mask])[:, None]
    return (np.abs(rows - middle) < 1.6)[..., None]


def test_two_colours_whose_mixture_looks_like_the_wall_are_one_object():
    """Black and white meet in a line of the wall's grey."""
    looks = appearance("a red two-tone square rests in front of a gray wall")
    assert looks is not None
    black = (25, 25, 30)
    white = (252, 248, 240)
    frames = np.full((1, 64, 64, 3), looks.wall[0], np.uint8)
    frames[:, 20:40, 20:30] = black
    frames[:, 20:40, 31:40] = white
    black_and_white = looks._replace(colour=black, accent=white)
    assert whole_share(find_object(frames, black_and_white).mask) == 1


# ---- its law


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_first_number_of_a_motion_tells_its_law_from_the_bases(motion):
    def numbers(kind: str) -> np.ndarray:
        values = []
        for seed in range(12):
            _, clip, looks = drawn(kind, motion, seed)
            path = path_of(find_object(clip.frames, looks))
            values.append(law_numbers(path, motion, FPS)[LAWS[motion][0].name])
        return np.array(values)

    true, false = numbers(motion), numbers(BASE_LAWS[motion])
    assert np.isfinite([*true, *false]).all()
    assert true.min() > false.max() or true.max() < false.min()


def test_gravity_and_restitution_are_read_off_the_frames():
    for seed in range(4):
        scene, clip, looks = drawn("free_fall", seed=seed)
        fall = law_numbers(path_of(find_object(clip.frames, looks)), "free_fall", FPS)
        assert fall["fall_acceleration"] == pytest.approx(scene.law.keywords["gravity"], rel=0.1)
        bounced, rises = (
            law_numbers(path_of(find_object(clip.frames, looks)), "bounce", FPS)["bounce_rebound"]
            for _, clip, looks in (drawn("bounce", seed=seed), drawn("gaining_energy", seed=seed))
        )
        assert bounced < 1 < rises


# ---- the judge


def test_the_judge_tells_true_from_false_and_does_not_look_at_looks():
    judge = load_judge()
    scores: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(15):
        for motion in MOTIONS:
            for kind in (motion, BASE_LAWS[motion]):
                _, clip, looks = drawn(kind, motion, 100 + seed)
                scores[kind == motion].append(
                    physical(judge, path_of(find_object(clip.frames, looks)), motion, FPS)
                )
    assert auc(np.array(scores[True]), np.array(scores[False])) > 0.95
    assert np.mean(scores[True]) > 0.75
    assert np.mean(scores[False]) < 0.25


def test_the_judge_reads_other_rates_between_their_frames_and_nothing_too_short():
    judge = load_judge()
    scene = sample_scene(np.random.default_rng(2), "free_fall", style="both")
    looks = appearance(scene.caption)
    assert looks is not None
    for num_frames, fps in ((9, 8.0), (13, 10.0), (25, 24.0)):
        path = path_of(find_object(draw_clip(scene, num_frames, fps).frames, looks))
        assert physical(judge, path, "free_fall", fps) > 0.8
    short = path_of(find_object(draw_clip(scene, 6, 8.0).frames, looks))
    assert np.isnan(physical(judge, short, "free_fall", 8.0))


# ---- measures of a project


def test_a_video_has_the_same_names_whatever_it_shows():
    _, clip, _ = drawn("roll")
    scene = sample_scene(np.random.default_rng(0), "roll", style="both")
    rolls = measure_toy_video(clip.frames, scene.caption, FPS)
    other = measure_toy_video(clip.frames, "no caption of this world", FPS)
    assert list(rolls) == list(other) == ["holds", "physical", *LAW_NAMES]


def test_a_measure_is_named_by_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "VERSION = 3\ndef red(frames, prompt, fps):\n    return {'red': float(frames[..., 0].mean())}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    measure = load_measure("mine:red")
    frames = np.full((2, 4, 4, 3), 7, np.uint8)
    assert measure.version == 3
    assert measure_video([measure], frames, "", 8.0) == {"red": 7}
    with pytest.raises(ValueError, match="red"):
        measure_video([measure, measure], frames, "", 8.0)
    for wrong in ("mine:blue", "nowhere:red", "mine", "json:loads"):
        with pytest.raises(ValueError, match="MODULE:FUNCTION"):
            load_measure(wrong)


def test_every_false_law_has_a_base():
    assert BASE_LAWS.keys() == set(MOTIONS)
    assert all(motion in FAKES[law] for motion, law in BASE_LAWS.items())
