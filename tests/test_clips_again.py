"""Laws of running the clips stage again: only news is read, and the bytes are those of an unbroken run."""

import shutil
import time
from pathlib import Path

import pytest

from motive.clips import reading
from motive.clips.table import read_clips
from motive.params import Clips
from motive.stages import clips as stage
from testing.clip_folder import draw, reasons, run_clips, written

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pool").mkdir()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that the stage really reads."""
    names: list[str] = []
    guarded = stage.guarded

    def counted(*args):
        for file, result in guarded(*args):
            names.append(Path(file.path).name)
            yield file, result

    monkeypatch.setattr(stage, "guarded", counted)
    return names


def test_new_clips_cost_only_themselves(read):
    for seed in range(7):
        draw(f"{seed}.mp4", seed)
    Path("pool/7.mp4").write_bytes(b"broken")
    Path("pool/7.txt").write_text("broken")
    run_clips(max_failed_fraction=0.5)
    assert len(read) == 8
    before = written()
    read.clear()
    run_clips(max_failed_fraction=0.5)
    assert (read, written()) == ([], before)
    for seed in (8, 9):
        draw(f"{seed}.mp4", seed)
    run_clips(max_failed_fraction=0.5)
    assert (sorted(read), len(read_clips("pool"))) == (["8.mp4", "9.mp4"], 9)
    read.clear()
    Path("pool/3.mp4").rename("pool/33.mp4")  # the same content under another name
    Path("pool/3.txt").write_text("another caption, which no reading depends on")
    Path("pool/3.txt").rename("pool/33.txt")
    run_clips(max_failed_fraction=0.5)
    assert (read, len(read_clips("pool"))) == ([], 9)
    run_clips(max_failed_fraction=0.5, num_frames=9)
    assert len(read) == 10


def test_a_file_that_changes_is_read_again(read):
    draw("0.mp4", 0)
    draw("1.mp4", 1)
    run_clips()
    first = set(read_clips("pool")["sha256"])
    draw("1.mp4", 9)
    read.clear()
    run_clips()
    assert read == ["1.mp4"]
    assert len(first & set(read_clips("pool")["sha256"])) == 1


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(monkeypatch, read):
    for seed in range(8):
        draw(f"{seed}.mp4", seed)
    run_clips()
    unbroken = written()
    shutil.rmtree("data")
    shutil.rmtree(".motive")
    read.clear()
    guarded = stage.guarded

    def killed(*args):
        for file, result in guarded(*args):
            if len(read) == 6:
                raise KeyboardInterrupt
            yield file, result

    with monkeypatch.context() as once:
        once.setattr(stage, "guarded", killed)
        with pytest.raises(KeyboardInterrupt):
            run_clips()
    assert len(read) == 6
    next(iter(Path(".motive/work/clips/hashes").glob("*.json"))).write_text('{"cut by a fu')
    run_clips()
    assert len(read) == 9  # what was yielded is kept; a lost hash costs a hash, not a reading
    assert written() == unbroken


def test_several_workers_give_the_same_bytes():
    for seed in range(5):
        draw(f"{seed}.mp4", seed)
    run_clips()
    alone = written()
    shutil.rmtree(".motive")
    run_clips(workers=2)
    assert written() == alone


def test_a_file_that_hangs_is_remembered_until_the_limit_changes(read, monkeypatch):
    draw("0.mp4", 0)
    draw("1.mp4", 1)
    with monkeypatch.context() as slow:
        slow.setattr(stage, "read_whole", sleep_if_one)
        run_clips(max_failed_fraction=0.5, time_limit=1)
    hung = {"1.mp4": "hung: not done within 1 s (clips.time_limit)"}
    assert reasons() == hung
    read.clear()
    run_clips(max_failed_fraction=0.5, time_limit=1)
    assert (read, reasons()) == ([], hung)
    run_clips(max_failed_fraction=0.5, time_limit=2)
    assert (read, reasons()) == (["1.mp4"], {})
    run_clips(max_failed_fraction=0.5, time_limit=1)
    assert (read, reasons()) == (["1.mp4"], {})  # what was read is known


def sleep_if_one(file: reading.KeyedFile, clips: Clips) -> dict:
    if file.path.endswith("1.mp4"):
        time.sleep(60)
    return reading.read_whole(file, clips)
