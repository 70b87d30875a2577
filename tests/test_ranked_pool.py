"""What follows once a pool has been ranked: queries with videos of one's own, and clips that are added."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from motive.clips.table import read_clips
from motive.params import load_params
from motive.query import draw, query_pool
from motive.store import shards
from motive.video.writing import write_video
from testing.commands import motive
from testing.pipeline_runs import PER_CLIP, RANKING, num_made
from testing.ranked_project import write_ranked_project
from testing.whole_project import metadata, write_metadata

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a project of twelve pool clips with their ranking."""
    folder = tmp_path_factory.mktemp("ranked")
    write_ranked_project(folder, num_pool=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def best_clip() -> tuple[Path, Any]:
    """The video and the row of the pool clip with rank 0."""
    best = pd.read_parquet(RANKING)["clip_id"].iloc[0]
    row = read_clips("pool").set_index("clip_id", drop=False).loc[best]
    return Path(row["source"]) / row["video"], row


def test_a_pool_clip_as_a_query_video_is_its_own_most_helpful_clip(ranked, tmp_path):
    video, best = best_clip()
    answer = query_pool(video, best["caption"], load_params())
    draw(answer, video, best["caption"], load_params(), tmp_path / "query.png")
    assert answer["clip_id"].iloc[0] == best["clip_id"]
    assert answer["influence"].iloc[0] == pytest.approx((2 / np.pi) ** 0.5, abs=0.05)  # with its own signs
    assert answer["influence"].iloc[1] < answer["influence"].iloc[0]
    ranking = pd.read_parquet(RANKING)
    assert sorted(answer["clip_id"]) == sorted(ranking.loc[ranking["status"] == "ok", "clip_id"])
    assert np.std(np.asarray(cv2.imread(str(tmp_path / "query.png")))) > 10


def test_a_query_says_what_is_wrong(ranked, tmp_path):
    still = tmp_path / "still.mp4"
    write_video(still, np.full((40, 32, 32, 3), 128, np.uint8), 16.0)
    (tmp_path / "text.mp4").write_text("no video")
    for video, why in (
        (still, "nothing moves"),
        (tmp_path / "text.mp4", "not a video"),
        (tmp_path / "gone.mp4", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=f"{video.name}: {why}"):
            query_pool(video, "a ball", load_params())
    other = load_params().model_copy(update={"masks": load_params().masks.model_copy(update={"floor": 9.0})})
    with pytest.raises(ValueError, match=r"data/pool/masks was made in another way.*floor"):
        query_pool(still, "a ball", other)


def test_a_query_prints_its_table_though_a_pool_clips_file_is_gone(ranked, tmp_path):
    video, best = best_clip()
    copy = str(shutil.copy(video, tmp_path / "query.mp4"))
    query = ("query", copy, "--caption", best["caption"], "--out")
    aside = video.rename(video.with_suffix(".aside"))
    try:
        done = motive(*query, f"{tmp_path}/query.png", cwd=Path.cwd())
    finally:
        aside.rename(video)
    assert done.returncode == 1
    assert best["clip_id"] in done.stdout
    assert f"no image: {video}" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(pd.read_parquet(tmp_path / "query.parquet"))
    for out, why in (("query.parquet", "name it X.png"), ("/proc/query.png", "/proc/")):
        done = motive(*query, out, cwd=Path.cwd())
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert why in done.stderr


def test_append_adds_the_clips_that_came_and_computes_no_other(ranked):
    before = set(read_clips("pool")["clip_id"])
    frames = np.full((40, 32, 32, 3), 90, np.uint8)
    for f, frame in enumerate(frames):
        frame[10:18, f // 2 : f // 2 + 8] = 240
    write_video(Path("data/world/pool/new.mp4"), frames, 16.0)
    write_metadata([*metadata(), json.dumps({"file_name": "new.mp4", "caption": "a white box slides"})])
    done = motive("append", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert num_made(done.stderr) == {stage: ["1"] for stage in PER_CLIP}
    ids, ok = shards.read_stacked(Path("data/pool/sketches"), "ok")
    (new,) = set(ids) - before
    assert ok[ids.index(new)]
    assert set(ids) > before
    assert motive("attribution", cwd=Path.cwd()).returncode == 0
    assert new in pd.read_parquet(RANKING)["clip_id"].tolist()
