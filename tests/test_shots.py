"""Laws of cutting videos up: no clip lies over a cut, and of a video not a second is lost."""

import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motive.clips.pieces import SHOTS, cut_up
from motive.clips.shots import find_cuts
from motive.clips.table import clip_id, clip_path, clip_span, read_clips
from motive.stages import clips as stage
from motive.video.reading import probe, read_frames, stream_all
from testing.clip_folder import run_clips, written
from testing.made_clips import encode
from testing.real_clips import real_clip

pytestmark = pytest.mark.slow

SIZE = (72, 128)
LENGTHS = (30, 50, 8, 41)  # frames of each shot of the long video
CUTS = np.cumsum(LENGTHS)[:-1].tolist()


@pytest.fixture(scope="session")
def reel() -> list[np.ndarray]:
    """Shots of real clips, in one size."""
    names = ("globe.avi", "bunny.mp4", "city.mpg", "walker.mp4")
    return [
        read_frames(real_clip(name), length, 24.0, *SIZE, "window")
        for name, length in zip(names, LENGTHS, strict=True)
    ]


@pytest.fixture(scope="session")
def times() -> np.ndarray:
    """Milliseconds at which the long video's frames appear: at a varying rate."""
    return np.cumsum([0, *np.tile([30, 60, 40], 50)])[: sum(LENGTHS)]


@pytest.fixture
def long_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reel: list[np.ndarray], times: np.ndarray
) -> Path:
    """A video of four shots in the folder of the pool."""
    monkeypatch.chdir(tmp_path)
    Path("pool").mkdir()
    Path("pool/long.txt").write_text("a long video")
    options = {"g": "24", "bf": "3"}
    return encode(Path("pool/long.mkv"), np.concatenate(reel), options=options, times=times)


def cut(workers: int = 1, **keys: object) -> None:
    """Run the stage on small clips of nine frames, with other keys of `clips`."""
    small = {"cut": "shots", "num_frames": 9, "fps": 12.0, "height": 36, "width": 64}
    run_clips(workers, **(small | keys))


def shots() -> Any:
    table = pd.read_parquet("data/pool/clips/shots.parquet")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == SHOTS
    return table


# ---- cuts


def test_cuts_are_found_where_shots_were_joined(reel):
    assert find_cuts(np.concatenate(reel), 3.0) == CUTS


@pytest.mark.parametrize("alone", [1, 2])
def test_a_cut_beside_the_first_or_the_last_frame_is_found(reel, alone):
    assert find_cuts([*reel[1][:alone], *reel[0]], 3.0) == [alone]
    assert find_cuts([*reel[0], *reel[1][:alone]], 3.0) == [len(reel[0])]


@pytest.mark.parametrize(("name", "cuts"), [("city.mpg", [116]), ("globe.avi", [])])
def test_motion_of_camera_or_object_is_no_cut(name, cuts):
    assert find_cuts((image for *_, image in stream_all(real_clip(name), *SIZE)), 3.0) == cuts


def test_nothing_and_one_frame_have_no_cut(reel):
    assert find_cuts([], 3.0) == find_cuts(reel[0][:1], 3.0) == []


def test_frames_stream_through_the_detector():
    peaks = []
    for length in (30, 300):
        frames = (np.full((144, 256, 3), k % 200, np.uint8) for k in range(length))
        tracemalloc.start()
        find_cuts(frames, 3.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1e5


# ---- pieces


@given(st.lists(st.floats(0.01, 5), min_size=2, max_size=30), st.data())
def test_pieces_cover_a_video_and_respect_its_cuts(gaps, data):
    moments = np.cumsum([0, *gaps])
    appear, end = moments[:-1], float(moments[-1])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(appear) - 1))))
    for length in (None, data.draw(st.floats(0.1, 3))):
        pieces = cut_up(appear, cuts, end, length)
        edges = [pieces[0].start, *(piece.end for piece in pieces)]
        assert edges == sorted(set(edges))
        assert [piece.start for piece in pieces] == edges[:-1]
        assert (edges[0], edges[-1]) == (0, pytest.approx(end, abs=1e-6))
        assert {round(float(appear[cut]), 6) for cut in cuts} <= set(edges)
        for piece in pieces:
            if length and not piece.kind:
                assert piece.end - piece.start == pytest.approx(length, abs=2e-3)
            if length and piece.kind:
                assert piece.kind == "too_short"
                assert piece.end - piece.start < length
    singles = cut_up(appear, range(1, len(appear)), end, None)
    assert all(piece.kind == "no_motion" and "one frame" in piece.reason for piece in singles)


# ---- the stage


@pytest.mark.parametrize("resample", ["window", "stretch"])
def test_a_long_video_becomes_clips_that_show_one_shot_each(long_video, reel, times, resample):
    cut(resample=resample)
    table = read_clips("pool")
    pieces = shots()
    duration = probe(long_video).duration
    assert [pieces["start"].iloc[0], *pieces["end"]] == [*pieces["start"], pytest.approx(duration)]
    assert set(pieces.loc[pieces["reason"] == "", "clip_id"]) == set(table["clip_id"])
    assert (pieces["clip_id"] == "").equals(pieces["reason"] != "")
    assert (pieces["kind"] == "").equals(pieces["reason"] == "")
    assert sorted(pieces["shot"].unique()) == [0, 1, 2, 3]
    edges = [0, *(times[CUTS] / 1000), duration]
    per_shot = [int((after - before + 1e-3) / 0.75) for before, after in pairwise(edges)]
    assert per_shot == [1, 2, 0, 2]
    num_clips = pieces[pieces["reason"] == ""].groupby("shot").size().reindex(range(4), fill_value=0)
    assert list(num_clips) == (per_shot if resample == "window" else [1, 1, 1, 1])
    plain = np.concatenate(reel)
    rows: list[Any] = list(table.itertuples())
    for row in rows:
        frames = read_frames(clip_path(row), 9, 12.0, *SIZE, resample, **clip_span(row))
        apart = np.abs(frames[:, None, ::8, ::8].astype(int) - plain[None, :, ::8, ::8]).mean((2, 3, 4))
        shot = int(pieces.set_index("clip_id").loc[row.clip_id, "shot"])
        assert set(np.searchsorted(CUTS, apart.argmin(1), "right")) == {shot}


def test_a_rest_is_no_failure_and_a_video_of_rests_is_one(long_video):
    shutil.copyfile(real_clip("joint.gif"), "pool/short.gif")
    Path("pool/short.txt").write_text("too short")
    cut(num_frames=15, max_failed_fraction=0.5)
    failures = pd.read_parquet("data/pool/clips/failures.parquet")
    assert failures.to_numpy().tolist() == [["short.gif", "too_short", "too short: 1.10 s, needs 1.25 s"]]
    rests = shots()[lambda table: table["reason"] != ""]
    assert set(rests["file"]) == {"long.mkv", "short.gif"}
    assert rests["reason"].str.match(r"too short: \d\.\d\d s, needs 1\.25 s").all()
    with pytest.raises(ValueError, match="1 of 2 clips failed"):
        cut(num_frames=15, max_failed_fraction=0.4)


def test_a_piece_is_named_by_its_span_and_a_whole_file_is_not(long_video):
    cut()
    rows: list[Any] = list(read_clips("pool").itertuples())
    for row in rows:
        assert row.clip_id == clip_id(row.sha256, "a long video", (row.start, row.end))
    cut(cut="whole")
    [whole] = read_clips("pool")["clip_id"]
    assert whole == clip_id(rows[0].sha256, "a long video")
    assert not Path("data/pool/clips/shots.parquet").exists()


def test_the_threshold_decides_what_is_a_cut(long_video):
    cut(cut_threshold=200.0)
    assert set(shots()["shot"]) == {0}


def test_what_was_read_is_kept_and_workers_change_nothing(long_video, monkeypatch):
    for k in range(3):
        shutil.copyfile(long_video, f"pool/copy{k}.mkv")
        Path(f"pool/copy{k}.txt").write_text(f"copy {k}")
        with Path(f"pool/copy{k}.mkv").open("ab") as file:
            file.write(bytes(k + 1))
    keys = {"duplicates": "drop_near", "max_failed_fraction": 0.8}
    cut(workers=2, **keys)
    before = written()
    tables = {f"{name}.parquet" for name in ("clips", "failures", "duplicates", "shots")}
    assert set(before) == tables | {"clips.png", "checks.json"}
    shutil.rmtree(".motive")
    cut(**keys)
    monkeypatch.setattr(stage, "read_whole", lambda *_: 1 / 0)
    cut(**keys)
    assert written() == before
