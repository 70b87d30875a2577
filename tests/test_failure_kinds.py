"""Laws of failures: each has a kind of a closed set, and tables that an earlier version wrote are refused."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from jaxtyping import TypeCheckError

from motive.checks import CheckFailed, check
from motive.clips import reading
from motive.clips.reading import KeyedFile
from motive.clips.table import FAILURES, clip_path, read_clips, read_failures
from motive.errors import FAILURE_KINDS, BadClip
from motive.stages import clips as stage
from motive.workers.guarded import Died
from testing.clip_folder import OUT, draw, kinds, run_clips
from testing.good_tables import BAD_FILES, CLIPS
from testing.made_clips import encode, mux_silence

pytestmark = pytest.mark.slow

ROWS = {  # of metadata that name no usable file
    "bad_row": [1, 2],
    "repeated": {"file_name": "a.mp4", "caption": "again"},
    "outside": {"file_name": "../outside.mp4", "caption": "x"},
    "no_file": {"file_name": "nothing.mp4", "caption": "x"},
    "no_access": {"file_name": "x" * 5000, "caption": "x"},
}


DEATHS = {
    "hung": Died("hung: not done within 9 s", hung=True),
    "crashed": Died("crashed: its process died (exit code 1)", hung=False),
}
ERRORS = {"damaged": ZeroDivisionError("of a decoder"), "out_of_memory": MemoryError()}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "guarded", read_here)
    Path("pool").mkdir()


def read_here(
    work: Callable[[KeyedFile], Any], files: list[KeyedFile], *_: object
) -> Iterator[tuple[KeyedFile, Any]]:
    """As `guarded`, but in this process; a file whose name says so fails in that way."""
    for file in files:
        kind = Path(file.path).stem
        with pytest.MonkeyPatch.context() as failing:
            if kind in ERRORS:
                failing.setattr(reading, "probe", partial(fail, ERRORS[kind]))
            yield file, DEATHS.get(kind) or work(file)


def fail(error: Exception, *_: object) -> None:
    raise error


def write_files() -> list[str]:
    """A usable clip and a file of each kind of failure, called by it; their names."""
    whole = draw("a.mp4", 0, side=64)
    shutil.copyfile(whole, "pool/duplicate.mp4")
    draw("near_duplicate.mp4", 0, side=32)
    draw("no_caption.mp4", 1)
    draw("no_motion.mp4", 2, num_frames=1)
    draw("too_short.mp4", 3, num_frames=5)
    draw("absurd_size.mp4", 4, side=128)
    encode(Path("pool/absurd_length.mkv"), np.zeros((3, 32, 32, 3), np.uint8), times=[0, 20_000, 40_000])
    content = whole.read_bytes()
    Path("pool/unknown_codec.mp4").write_bytes(content.replace(b"avc1", b"none").replace(b"avcC", b"none"))
    Path("pool/truncated.mp4").write_bytes(content[:1500])
    Path("pool/zero_bytes.mp4").touch()
    Path("pool/not_a_video.mp4").write_bytes(b"hello" * 100)
    with av.open("pool/no_video_stream.mp4", "w") as container:
        mux_silence(container, container.add_stream("aac", rate=16000), seconds=1)
    with Path("pool/sparse.mp4").open("wb") as file:
        file.truncate(1 << 43)
    for seed, kind in enumerate(("damaged", "out_of_memory", "hung", "crashed"), 5):
        draw(f"{kind}.mp4", seed)  # read_here does the rest
    return sorted(path.name for path in Path("pool").iterdir() if path.suffix != ".txt")


def test_every_kind_of_failure_is_told_from_the_others() -> None:
    files = write_files()
    mentions = [{"file_name": file, "caption": "a square"} for file in files]
    mentions[files.index("no_caption.mp4")].pop("caption")
    lines = [json.dumps(mention) for mention in (*mentions, *ROWS.values())]
    Path("pool/metadata.jsonl").write_text("\n".join(lines))
    run_clips(max_failed_fraction=1.0, max_pixels=10_000, duplicates="drop_near")
    assert list(read_clips("pool")["video"]) == ["a.mp4"]
    expected = {file: Path(file).stem for file in files if file != "a.mp4"}
    expected |= {f"metadata.jsonl line {n}": kind for n, kind in enumerate(ROWS, len(files) + 1)}
    assert kinds() == expected
    assert set(expected.values()) == set(FAILURE_KINDS)


def test_a_video_that_is_cut_has_kinds_too() -> None:
    draw("a.mp4", 0, num_frames=20)
    run_clips(cut="shots")
    shots = pd.read_parquet(OUT / "shots.parquet")
    assert shots["kind"].tolist() == ["", "too_short"]
    assert shots["kind"].eq("").equals(shots["clip_id"].ne(""))


def test_an_error_keeps_kind_and_reason_on_its_way_from_a_worker() -> None:
    error = copy.copy(BadClip("truncated", "truncated: 2 of 9 frames"))  # as pickle does it
    assert (error.kind, error.reason, str(error)) == ("truncated", *["truncated: 2 of 9 frames"] * 2)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="Actual value: 'odd'"):  # as pyright does
        BadClip("odd", "it looks odd")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CheckFailed, match=r"kind: values to be in set.*1 of 1 rows: cut.mp4 \(odd\)"):
        check("clips", CLIPS, failures=BAD_FILES.assign(kind="odd"))


# ---- the tables of an earlier version


@pytest.mark.parametrize(("name", "read"), [("clips", read_clips), ("failures", read_failures)])
def test_a_table_of_an_earlier_version_is_refused_and_says_what_to_delete(name, read) -> None:
    with pytest.raises(ValueError, match="dvc repro"):
        read("pool")
    draw("a.mp4", 0)
    draw("short.mp4", 1, num_frames=5)
    run_clips(max_failed_fraction=0.5)
    path = OUT / f"{name}.parquet"
    read("pool").drop(columns=["file_size" if name == "clips" else "kind"]).to_parquet(path)
    with pytest.raises(
        ValueError,
        match=rf"^{path} is of an earlier version.*Delete {OUT} and run "
        r"`dvc repro --force --single-item clips@pool`, then go on$",
    ):
        read("pool")
    shutil.rmtree(OUT)
    run_clips(max_failed_fraction=0.5)
    assert len(read("pool")) == 1


def test_readings_of_an_earlier_version_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.mp4", 0)
    run_clips()
    before = set(Path(".motive/work/clips").iterdir())
    monkeypatch.setattr(stage, "VERSION", stage.VERSION + 1)
    run_clips()
    [newer] = set(Path(".motive/work/clips").iterdir()) - before
    assert len(list(newer.glob("*.json"))) == 1


def test_tables_are_read_under_any_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw("a.mp4", 0)
    draw("short.mp4", 1, num_frames=5)
    run_clips(max_failed_fraction=0.5)
    here = read_clips("pool"), read_failures("pool")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    root = Path("..")
    assert read_clips("pool", root=root).equals(here[0])
    assert read_failures("pool", root=root).equals(here[1])
    assert list(here[1].columns) == list(FAILURES)
    assert clip_path(here[0].iloc[0], root).is_file()
