"""Laws of the clips stage: every file is a row of one of two tables, and no file ends the run."""

import ctypes
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motive.clips import reading
from motive.clips.table import COLUMNS, clip_id, clip_path, read_clips
from motive.params import Clips
from motive.stages import clips as stage
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.clip_folder import draw, reasons, run_clips
from testing.made_clips import encode
from testing.real_clips import real_clip

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pool").mkdir()


def test_real_clips_become_the_table():
    names = ["walker.mp4", "globe.avi", "city.mpg", "bikes.mp4", "carphone.mp4", "bunny.mp4", "joint.gif"]
    mentions = []
    for name in names:
        shutil.copyfile(real_clip(name), f"pool/{name}")
        mentions.append(
            {"file_name": name, "text": f"this is {name}", "motion": "roll" if name == "globe.avi" else None}
        )
    Path("pool/metadata.jsonl").write_text("\n".join(map(json.dumps, mentions)))
    run_clips(max_failed_fraction=0.2)
    table = read_clips("pool")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
    assert list(table["clip_id"]) == sorted(set(table["clip_id"]))
    assert reasons() == {"joint.gif": "too short: 1.10 s, needs 1.33 s"}
    rows: Any = table.itertuples()
    for row in rows:
        assert row.clip_id == clip_id(row.sha256, row.caption)
        assert row.caption == f"this is {row.video}"
        assert row.motion == ("roll" if row.video == "globe.avi" else "")
        assert clip_path(row) == Path("pool") / row.video
        assert row.file_size == clip_path(row).stat().st_size
        assert read_frames(clip_path(row), 17, 12.0, 64, 64, "window").shape == (17, 64, 64, 3)


def test_every_broken_file_is_a_row_with_its_reason(tmp_path_factory):
    good = draw("good.mp4", 0)
    draw("again.mp4", 0)
    draw("silent.mp4", 1, caption=None)
    draw("one.mp4", 2, num_frames=1)
    draw("short.mp4", 3, num_frames=5)
    for name, content in {
        "empty.mp4": b"",
        "text.mp4": b"hello" * 100,
        "cut.mp4": good.read_bytes()[:1500],
    }.items():
        (Path("pool") / name).write_bytes(content)
        (Path("pool") / name).with_suffix(".txt").write_text("broken")
    large = Path("pool/large.mp4")
    write_video(large, np.zeros((17, 128, 128, 3), np.uint8), 12.0)
    large.with_suffix(".txt").write_text("large")
    outside = tmp_path_factory.mktemp("outside") / "out.mp4"
    shutil.copyfile(good, outside)
    Path("pool/out.mp4").symlink_to(outside)
    run_clips(max_failed_fraction=1.0, max_pixels=10_000)
    assert list(read_clips("pool")["video"]) == ["again.mp4"]
    expected = {
        "good.mp4": "duplicate of again.mp4",  # the first by name stays
        "silent.mp4": "no caption",
        "one.mp4": "one frame",
        "short.mp4": "too short: 0.42 s, needs 1.33 s",
        "empty.mp4": "zero bytes",
        "text.mp4": "not a video",
        "cut.mp4": "truncated",
        "large.mp4": "absurd size: 128 x 128",
        "out.mp4": "out.mp4 is a link that leaves the folder",
    }
    assert reasons().keys() == expected.keys()
    assert {file for file, reason in reasons().items() if not reason.startswith(expected[file])} == set()


def test_a_missing_caption_may_be_empty():
    draw("silent.mp4", 0, caption=None)
    run_clips(missing_caption="empty")
    assert list(read_clips("pool")["caption"]) == [""]


def test_too_many_failures_stop_the_run_and_are_named():
    for seed in range(3):
        draw(f"good{seed}.mp4", seed)
    for number in range(12):
        Path(f"pool/broken{number:02}.mp4").write_bytes(b"no video")
        Path(f"pool/broken{number:02}.txt").write_text("x")
    with pytest.raises(ValueError) as error:
        run_clips(max_failed_fraction=0.75)
    lines = str(error.value).splitlines()
    assert "12 of 15 clips failed, clips.max_failed_fraction is 0.75 (12 not a video)" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:11]] == [
        f"broken{number:02}.mp4" for number in range(10)
    ]
    assert len(reasons()) == 12
    assert not Path("data/pool/clips/clips.parquet").exists()
    run_clips(max_failed_fraction=0.8)
    assert len(read_clips("pool")) == 3


def test_no_usable_clip_is_an_error_with_numbers():
    Path("pool/broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="no usable clip among 1"):
        run_clips(max_failed_fraction=1.0, missing_caption="empty")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_file_that_asks_for_more_memory_than_it_may_have_is_a_row(monkeypatch):
    draw("0.mp4", 0)
    large = np.zeros((15, 5000, 5000, 3), np.uint8)
    encode(Path("pool/1.avi"), large, codec="mjpeg", pix_fmt="yuvj420p")
    Path("pool/1.txt").write_text("large")
    monkeypatch.setattr(stage, "MEMORY", 350)  # 270 of them for the libraries
    run_clips(max_failed_fraction=0.5)
    assert reasons()["1.avi"].startswith(("out of memory: ", "can't be decoded: "))  # not all decoders say
    assert list(read_clips("pool")["video"]) == ["0.mp4"]


def test_a_hole_of_terabytes_is_not_hashed():
    draw("0.mp4", 0)
    Path("pool/1.txt").write_text("a hole")
    with Path("pool/1.mp4").open("wb") as file:
        file.truncate(1 << 43)
    run_clips(max_failed_fraction=0.5)
    assert reasons() == {"1.mp4": "sparse: 0 of 8796093022208 bytes are stored"}


def test_a_name_can_not_write_to_the_terminal(caplog):
    Path("pool/\x1b[2J\nfine.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="no usable clip") as error:
        run_clips(missing_caption="empty")
    assert [line for line in str(error.value).splitlines() if not line.isprintable()] == []
    assert "\\x1b[2J\\nfine.mp4: not a video" in str(error.value)
    assert list(reasons()) == ["\x1b[2J\nfine.mp4"]


def test_a_file_that_kills_its_reader_is_a_row_and_the_run_goes_on(monkeypatch):
    for seed in range(4):
        draw(f"{seed}.mp4", seed)
    monkeypatch.setattr(stage, "read_whole", die_if_one)
    run_clips(max_failed_fraction=0.5)
    assert reasons() == {"1.mp4": "crashed: its process died (signal 11, SIGSEGV)"}
    assert len(read_clips("pool")) == 3


def die_if_one(file: reading.KeyedFile, clips: Clips) -> dict:
    if file.path.endswith("1.mp4"):
        ctypes.string_at(0)
    return reading.read_whole(file, clips)


def test_it_says_what_it_decided_and_where_to_look(caplog):
    draw("good.mp4", 0)
    Path("pool/broken.mp4").write_bytes(b"")
    Path("pool/broken.txt").write_text("x")
    with caplog.at_level(logging.INFO, "motive"):
        run_clips(max_failed_fraction=0.5)
    assert "clips pool: 1 usable, 1 failed (1 zero bytes)" in caplog.text
    assert "data/pool/clips/clips.parquet" in caplog.text
    assert "data/pool/clips/failures.parquet" in caplog.text


def test_clip_ids_tell_files_and_captions_apart():
    assert (
        len({clip_id(sha256, caption) for sha256 in ("aa", "ab") for caption in ("", "a", "b", "b\n")}) == 8
    )
    assert len(clip_id("a", "b")) == 16
