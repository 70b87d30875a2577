"""Laws of duplicates: a copy is known in other bytes, another clip is not taken for one, the best stays."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from motive.clips.duplicates import DUPLICATES
from motive.clips.fingerprints import FRAMES, SIZE, fingerprint, look, picks, read_fingerprints
from motive.clips.table import read_clips
from motive.maths.duplicates import distance, kept_for, near_pairs
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.clip_folder import SHIPPED, reasons, run_clips
from testing.real_clips import real_clip
from toyworld import MOTIONS, draw_clip, sample_scene

pytestmark = pytest.mark.slow

LIMIT = SHIPPED.clips.near_duplicate_distance
REAL = ("walker.mp4", "globe.avi", "city.mpg", "bikes.mp4", "carphone.mp4", "bunny.mp4")


def seen(frames: np.ndarray) -> str:
    return fingerprint([look(frame) for frame in frames[picks(len(frames))]])


def apart(a: np.ndarray, b: np.ndarray) -> float:
    prints = read_fingerprints([seen(a), seen(b)])
    return float(distance(prints[:1], prints[1:])[0])


@pytest.fixture(scope="session")
def real() -> dict[str, np.ndarray]:
    """Real clips as the paper's shape at half its size."""
    return {name: read_frames(real_clip(name), 17, 12.0, 240, 416, "window") for name in REAL}


# ---- what is near


def rescaled(frames: np.ndarray, scale: float) -> np.ndarray:
    height, width = (int(side * scale) // 2 * 2 for side in frames.shape[1:3])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (width, height), interpolation=way) for frame in frames])


COPIES = {
    "small file": (1, 1.0, 30),
    "half": (0.5, 1.0, 20),
    "three quarters": (0.75, 1.0, 23),
    "double": (2, 1.0, 23),
    "darker": (1, 0.92, 23),
    "brighter": (1, 1.06, 23),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_near(tmp_path, real, copy):
    scale, gain, crf = COPIES[copy]
    drawn = {
        motion: draw_clip(sample_scene(np.random.default_rng(7), motion), 17, 12.0) for motion in MOTIONS
    }
    for name, frames in (real | {motion: clip.frames for motion, clip in drawn.items()}).items():
        changed = np.clip(rescaled(frames, scale).astype(np.float32) * gain, 0, 255).astype(np.uint8)
        write_video(tmp_path / "copy.mp4", changed, 12.0, crf=crf)
        again = read_frames(tmp_path / "copy.mp4", 17, 12.0, *frames.shape[1:3], "window")
        assert apart(frames, again) < LIMIT, name


def test_another_clip_is_not_near(real):
    drawn = [draw_clip(sample_scene(np.random.default_rng(k), MOTIONS[k % 10]), 13, 10.0) for k in range(100)]
    texts = [seen(frames) for frames in (*real.values(), *(clip.frames for clip in drawn))]
    prints = read_fingerprints([text for text in texts if text])
    assert len(prints) > 100
    assert kept_for(prints, np.arange(len(prints)), LIMIT) == {}


def test_the_same_place_with_something_else_in_it_is_not_near(real):
    place = np.repeat(real["city.mpg"][:1], 17, 0)
    one = place.copy()
    other = place.copy()
    for k in range(17):
        one[k, 90:150, 20 * k : 20 * k + 60] = (200, 40, 40)
        other[k, 90:150, 320 - 20 * k : 380 - 20 * k] = (200, 40, 40)
    assert apart(one, other) > LIMIT
    assert apart(one, one[::-1]) > LIMIT  # nor is the way back


def test_a_flat_clip_is_near_none():
    for level in (0, 90, 255):
        assert seen(np.full((17, 64, 64, 3), level, np.uint8)) == ""


def test_fingerprints_survive_being_text(real):
    prints = read_fingerprints([seen(frames) for frames in real.values()])
    assert prints.shape == (len(REAL), FRAMES, SIZE)
    assert np.isfinite(prints).all()


# ---- which stays


def some_prints(count: int, seed: int = 0) -> np.ndarray:
    """Random fingerprints, half of them near another."""
    draw = np.random.default_rng(seed)
    prints = draw.normal(0, 3, (count, FRAMES, SIZE))
    half = count // 2
    prints[half : 2 * half] = prints[:half] + draw.normal(0, 0.1, (half, FRAMES, SIZE))
    return prints[draw.permutation(count)].astype(np.float16)


def test_the_tree_finds_every_pair_that_comparing_all_finds():
    prints = some_prints(400)
    rows, columns = np.triu_indices(len(prints), 1)
    far = distance(prints[rows], prints[columns])
    expected = {(int(i), int(j)) for i, j in zip(rows[far <= LIMIT], columns[far <= LIMIT], strict=True)}
    near = [tuple(pair) for pairs, _ in near_pairs(prints, LIMIT) for pair in pairs.tolist()]
    assert len(near) == len(set(near)) >= 150
    assert set(near) == expected


def test_whoever_goes_has_one_near_that_stays_and_no_two_stay_near():
    prints = some_prints(300, seed=1)
    gone = kept_for(prints, np.arange(len(prints)), LIMIT)
    assert all(of not in gone and of < worse and far <= LIMIT for worse, (of, far) in gone.items())
    staying = {of for of in range(len(prints)) if of not in gone}
    pairs = [pair for pairs, _ in near_pairs(prints, LIMIT) for pair in pairs.tolist()]
    assert all(not {i, j} <= staying for i, j in pairs)


def test_of_a_chain_only_the_middle_goes():
    prints = np.zeros((3, FRAMES, SIZE), np.float16)
    prints[:, :, 0] = np.array([[0], [2], [1]]) * 0.6 * LIMIT  # the last is near both others
    assert kept_for(prints, np.arange(len(prints)), LIMIT) == {2: (0, pytest.approx(0.6 * LIMIT, rel=1e-2))}


def test_other_seconds_of_a_file_are_no_duplicates_of_it():
    prints = np.zeros((4, FRAMES, SIZE), np.float16)
    assert kept_for(prints, np.array([0, 0, 1, 1]), LIMIT) == {2: (0, 0.0), 3: (0, 0.0)}


# ---- the stage


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: dict[str, np.ndarray]) -> None:
    """A clip, its bytes again, a smaller copy and a larger one; another clip."""
    monkeypatch.chdir(tmp_path)
    frames = real["bikes.mp4"]
    for name, scale in {"a": 0.5, "c": 1.0, "d": 0.75}.items():
        write_video(Path(f"pool/{name}.mp4"), rescaled(frames, scale), 12.0)
    shutil.copyfile("pool/a.mp4", "pool/b.mp4")
    write_video(Path("pool/other.mp4"), real["globe.avi"], 12.0)
    for name in ("a", "b", "c", "d", "other"):
        Path(f"pool/{name}.txt").write_text(f"caption of {name}")


def run(**changed: Any) -> tuple[list[str], dict[str, str]]:
    """The videos of the table, and file -> reason of the failures."""
    run_clips(max_failed_fraction=0.7, **changed)
    return sorted(read_clips("pool")["video"]), reasons()


def reported() -> Any:
    table = pd.read_parquet("data/pool/clips/duplicates.parquet")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == DUPLICATES
    return table.set_index("video")


def test_duplicates_are_reported_whatever_is_done_about_them(pool):
    everything = ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "other.mp4"]
    assert run(duplicates="keep") == (everything, {})
    report = reported()
    assert dict(report["of_video"]) == {"a.mp4": "c.mp4", "b.mp4": "a.mp4", "d.mp4": "c.mp4"}
    assert dict(report["kind"]) == {"a.mp4": "near", "b.mp4": "exact", "d.mp4": "near"}
    assert report.loc["b.mp4", "distance"] == 0 < report.loc["d.mp4", "distance"] <= LIMIT
    everything.remove("b.mp4")
    assert run(duplicates="drop_exact") == (everything, {"b.mp4": "duplicate of a.mp4"})
    assert reported().equals(report)
    stay, failures = run(duplicates="drop_near")
    assert stay == ["c.mp4", "other.mp4"]
    near = "near duplicate of c.mp4"
    assert failures == {"a.mp4": near, "b.mp4": "duplicate of a.mp4", "d.mp4": near}
    assert reported().equals(report)


def test_a_smaller_distance_lets_copies_stay(pool):
    assert run(duplicates="drop_near", near_duplicate_distance=1e-3)[1] == {"b.mp4": "duplicate of a.mp4"}


def test_clips_of_fewer_frames_than_are_looked_at_have_fingerprints_too(pool):
    assert run(duplicates="drop_near", num_frames=3)[0] == ["c.mp4", "other.mp4"]


def test_one_content_with_one_caption_is_one_clip(pool):
    Path("pool/b.txt").write_text("caption of a")
    assert run(duplicates="keep")[1] == {"b.mp4": "duplicate of a.mp4"}
