"""Laws of the clips stage: every file is a row of one of two tables, bytes are stable, only news is read."""

import ctypes
import json
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from motive.clips import reading as readings
from motive.clips.table import COLUMNS, FAILURES, clip_id, clip_path, read_clips
from motive.params import Clips, Params, load_params
from motive.stages import clips as stage
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.made_clips import encode
from testing.real_clips import real_clip

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pool").mkdir()
    return tmp_path


def params(**clips: object) -> Params:
    tree = SHIPPED.model_dump()
    source = {"pool": "pool", "queries": "queries"}
    tree["clips"] |= {"source": source, "num_frames": 17, "fps": 12.0} | clips
    tree["evaluation"]["clips"] = "queries"
    return Params.model_validate(tree | {"workers": 1, "shards": {"size": 3}})


def draw(file: str, seed: int, num_frames: int = 17, caption: str | None = "a square") -> Path:
    """A small clip of a moving square."""
    frames = np.full((num_frames, 32, 32, 3), 40 + 12 * seed, np.uint8)
    for k, frame in enumerate(frames):
        frame[8:16, k % 24 : k % 24 + 8] = 200
    path = Path("pool") / file
    write_video(path, frames, 12.0)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def failures() -> dict[str, str]:
    table = pd.read_parquet("data/pool/clips/failures.parquet")
    assert list(table.columns) == list(FAILURES)
    return dict(zip(table["file"], table["reason"], strict=True))


def written() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/pool/clips").iterdir()}


def test_real_clips_become_the_table():
    names = ["walker.mp4", "globe.avi", "city.mpg", "bikes.mp4", "carphone.mp4", "bunny.mp4", "joint.gif"]
    mentions = []
    for name in names:
        shutil.copyfile(real_clip(name), f"pool/{name}")
        mentions.append(
            {"file_name": name, "text": f"this is {name}", "motion": "roll" if name == "globe.avi" else None}
        )
    Path("pool/metadata.jsonl").write_text("\n".join(map(json.dumps, mentions)))
    stage.run("pool", params(max_failed_fraction=0.2))
    table = read_clips("pool")
    assert {name: str(kind) for name, kind in table.dtypes.items()} == COLUMNS
    assert list(table["clip_id"]) == sorted(set(table["clip_id"]))
    assert failures() == {"joint.gif": "too short: 1.10 s, needs 1.33 s"}
    rows: Any = table.itertuples()
    for row in rows:
        assert row.clip_id == clip_id(row.sha256, row.caption)
        assert row.caption == f"this is {row.video}"
        assert row.motion == ("roll" if row.video == "globe.avi" else "")
        assert clip_path(row) == Path("pool") / row.video
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
    stage.run("pool", params(max_failed_fraction=1.0, max_pixels=10_000))
    assert list(read_clips("pool")["video"]) == ["again.mp4"]
    told = failures()
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
    assert told.keys() == expected.keys()
    assert {file for file, reason in expected.items() if not told[file].startswith(reason)} == set()


def test_a_missing_caption_may_be_empty():
    draw("silent.mp4", 0, caption=None)
    stage.run("pool", params(missing_caption="empty"))
    assert list(read_clips("pool")["caption"]) == [""]


def test_too_many_failures_stop_the_run_and_are_named():
    for seed in range(3):
        draw(f"good{seed}.mp4", seed)
    for number in range(12):
        Path(f"pool/broken{number:02}.mp4").write_bytes(b"no video")
        Path(f"pool/broken{number:02}.txt").write_text("x")
    with pytest.raises(ValueError) as error:
        stage.run("pool", params(max_failed_fraction=0.75))
    lines = str(error.value).splitlines()
    assert "12 of 15 clips failed, clips.max_failed_fraction is 0.75 (12 not a video)" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:11]] == [
        f"broken{number:02}.mp4" for number in range(10)
    ]
    assert len(failures()) == 12
    assert not Path("data/pool/clips/clips.parquet").exists()
    stage.run("pool", params(max_failed_fraction=0.8))
    assert len(read_clips("pool")) == 3


def test_no_usable_clip_is_an_error_with_numbers():
    Path("pool/broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="no usable clip among 1"):
        stage.run("pool", params(max_failed_fraction=1.0, missing_caption="empty"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that the stage really reads."""
    names: list[str] = []
    guarded = stage.guarded

    def counted(*args):
        for job, result in guarded(*args):
            names.append(Path(job.path).name)
            yield job, result

    monkeypatch.setattr(stage, "guarded", counted)
    return names


def test_new_clips_cost_only_themselves(read):
    for seed in range(7):
        draw(f"{seed}.mp4", seed)
    Path("pool/7.mp4").write_bytes(b"broken")
    Path("pool/7.txt").write_text("broken")
    stage.run("pool", params(max_failed_fraction=0.5))
    assert len(read) == 8
    before = written()
    read.clear()
    stage.run("pool", params(max_failed_fraction=0.5))
    assert (read, written()) == ([], before)
    for seed in (8, 9):
        draw(f"{seed}.mp4", seed)
    stage.run("pool", params(max_failed_fraction=0.5))
    assert (sorted(read), len(read_clips("pool"))) == (["8.mp4", "9.mp4"], 9)
    read.clear()
    Path("pool/3.mp4").rename("pool/33.mp4")  # the same content under another name
    Path("pool/3.txt").write_text("another caption, which no reading depends on")
    Path("pool/3.txt").rename("pool/33.txt")
    stage.run("pool", params(max_failed_fraction=0.5))
    assert (read, len(read_clips("pool"))) == ([], 9)
    stage.run("pool", params(max_failed_fraction=0.5, num_frames=9))
    assert len(read) == 10


def test_a_file_that_changes_is_read_again(read):
    draw("0.mp4", 0)
    draw("1.mp4", 1)
    stage.run("pool", params())
    first = set(read_clips("pool")["sha256"])
    draw("1.mp4", 9)
    read.clear()
    stage.run("pool", params())
    assert read == ["1.mp4"]
    assert len(first & set(read_clips("pool")["sha256"])) == 1


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(monkeypatch, read):
    for seed in range(8):
        draw(f"{seed}.mp4", seed)
    stage.run("pool", params())
    unbroken = written()
    shutil.rmtree("data")
    shutil.rmtree(".motive")
    read.clear()
    guarded = stage.guarded

    def killed(*args):
        for job, result in guarded(*args):
            if len(read) == 6:
                raise KeyboardInterrupt
            yield job, result

    with monkeypatch.context() as once:
        once.setattr(stage, "guarded", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run("pool", params())
    assert len(read) == 6
    next(iter(Path(".motive/work/clips/hashes").glob("*.json"))).write_text('{"cut by a fu')
    stage.run("pool", params())
    assert len(read) == 9  # what was yielded is kept; a lost hash costs a hash, not a reading
    assert written() == unbroken


def test_several_workers_give_the_same_bytes():
    for seed in range(5):
        draw(f"{seed}.mp4", seed)
    stage.run("pool", params())
    alone = written()
    shutil.rmtree(".motive")
    stage.run("pool", params().model_copy(update={"workers": 2}))
    assert written() == alone


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_file_that_asks_for_more_memory_than_it_may_have_is_a_row(monkeypatch):
    draw("0.mp4", 0)
    large = np.zeros((15, 5000, 5000, 3), np.uint8)
    encode(Path("pool/1.avi"), large, codec="mjpeg", pix_fmt="yuvj420p")
    Path("pool/1.txt").write_text("large")
    monkeypatch.setattr(stage, "MEMORY", 350)  # 270 of them for the libraries
    stage.run("pool", params(max_failed_fraction=0.5))
    assert failures()["1.avi"].startswith(("out of memory: ", "can't be decoded: "))  # not all decoders say
    assert list(read_clips("pool")["video"]) == ["0.mp4"]


def test_a_hole_of_terabytes_is_not_hashed():
    draw("0.mp4", 0)
    Path("pool/1.txt").write_text("a hole")
    with Path("pool/1.mp4").open("wb") as file:
        file.truncate(1 << 43)
    stage.run("pool", params(max_failed_fraction=0.5))
    assert failures() == {"1.mp4": "sparse: 0 of 8796093022208 bytes are stored"}


def test_a_name_can_not_write_to_the_terminal(caplog):
    Path("pool/\x1b[2J\nfine.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="no usable clip") as error:
        stage.run("pool", params(missing_caption="empty"))
    assert [line for line in str(error.value).splitlines() if not line.isprintable()] == []
    assert "\\x1b[2J\\nfine.mp4: not a video" in str(error.value)
    assert list(failures()) == ["\x1b[2J\nfine.mp4"]


def test_a_file_that_hangs_is_remembered_until_the_limit_changes(read, monkeypatch):
    draw("0.mp4", 0)
    draw("1.mp4", 1)
    with monkeypatch.context() as slow:
        slow.setattr(stage, "read_whole", sleep_if_one)
        stage.run("pool", params(max_failed_fraction=0.5, time_limit=1))
    hung = {"1.mp4": "hung: not done within 1 s (clips.time_limit)"}
    assert failures() == hung
    read.clear()
    stage.run("pool", params(max_failed_fraction=0.5, time_limit=1))
    assert (read, failures()) == ([], hung)
    stage.run("pool", params(max_failed_fraction=0.5, time_limit=2))
    assert (read, failures()) == (["1.mp4"], {})
    stage.run("pool", params(max_failed_fraction=0.5, time_limit=1))
    assert (read, failures()) == (["1.mp4"], {})  # what was read is known


def sleep_if_one(job: readings.Job, clips: Clips) -> dict:
    if job.path.endswith("1.mp4"):
        time.sleep(60)
    return readings.read_whole(job, clips)


def test_a_file_that_kills_its_reader_is_a_row_and_the_run_goes_on(monkeypatch):
    for seed in range(4):
        draw(f"{seed}.mp4", seed)
    monkeypatch.setattr(stage, "read_whole", die_if_one)
    stage.run("pool", params(max_failed_fraction=0.5))
    assert failures() == {"1.mp4": "crashed: its process died (signal 11, SIGSEGV)"}
    assert len(read_clips("pool")) == 3


def die_if_one(job: readings.Job, clips: Clips) -> dict:
    if job.path.endswith("1.mp4"):
        ctypes.string_at(0)
    return readings.read_whole(job, clips)


def test_it_says_what_it_decided_and_where_to_look(caplog):
    draw("good.mp4", 0)
    Path("pool/broken.mp4").write_bytes(b"")
    Path("pool/broken.txt").write_text("x")
    with caplog.at_level(logging.INFO, "motive"):
        stage.run("pool", params(max_failed_fraction=0.5))
    assert "clips pool: 1 usable, 1 failed (1 zero bytes)" in caplog.text
    assert "data/pool/clips/clips.parquet" in caplog.text
    assert "data/pool/clips/failures.parquet" in caplog.text


def test_clip_ids_tell_files_and_captions_apart():
    assert (
        len({clip_id(sha256, caption) for sha256 in ("aa", "ab") for caption in ("", "a", "b", "b\n")}) == 8
    )
    assert len(clip_id("a", "b")) == 16


def test_a_table_of_other_columns_says_what_to_run():
    Path("data/pool/clips").mkdir(parents=True)
    with pytest.raises(ValueError, match="dvc repro"):
        read_clips("pool")
    pd.DataFrame({"clip_id": ["a"]}).to_parquet("data/pool/clips/clips.parquet")
    with pytest.raises(ValueError, match="motive clips pool"):
        read_clips("pool")
