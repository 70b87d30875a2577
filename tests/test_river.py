"""The river from end to end, as a user runs it: `dvc repro` on rendered clips with a tiny model."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from motive.checks import STATS
from motive.clips.table import COLUMNS, read_clips
from motive.params import load_params
from motive.query import draw, query_pool
from motive.store import shards
from motive.video.writing import write_video
from testing.commands import motive
from testing.tiny import ROOT, SHAPE
from testing.whole_project import DIM, PARTS, metadata, write_metadata, write_params, write_project

BEFORE_CURATION = {
    f"{stage}@{part}" for stage in ("clips", "optical_flow", "masks", "latents") for part in PARTS
}
BEFORE_CURATION |= {"sketches@pool", "sketches@queries", "attribution"}
AFTER = ["curation", "finetuning", "evaluation", "record"]
NUM_POOL, NUM_QUERIES, NUM_HELDOUT = 12, 10, 10
NEW = 2  # clips that come later
COUNTS = {  # what a stage says it has to do
    stage: rf"{stage} pool: (\d+) to make, \d+ done before"
    for stage in ("optical_flow", "masks", "latents", "sketches")
}


@dataclass(frozen=True)
class Repro:
    """What one `dvc repro` said and left."""

    code: int
    said: str
    ranking: str
    subset: bytes

    @property
    def ran(self) -> list[str]:
        return re.findall(r"Running stage '(.+)':", self.said)

    @property
    def restored(self) -> list[str]:
        return re.findall(r"Stage '(.+)' is cached - skipping run", self.said)


def repro() -> Repro:
    """`dvc repro`, its stages finding `motive` where this Python has it."""
    started = time.monotonic()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"dvc repro: {time.monotonic() - started:.0f} s\n{done.stdout}")
    files = [Path("data/attribution/ranking.parquet"), Path("data/curation/subset.parquet")]
    ranking, subset = (path.read_bytes() if path.is_file() else b"" for path in files)
    return Repro(done.returncode, done.stdout, ranking.hex(), subset)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone with a small world, of which some pool clips are not there yet, and a tiny model."""
    folder = tmp_path_factory.mktemp("river")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_project(folder, num_pool=NUM_POOL + NEW, num_heldout=NUM_HELDOUT)
        later = folder / "later"
        later.mkdir()
        for line in metadata()[-NEW:]:
            name = json.loads(line)["file_name"]
            (folder / "data/world/pool" / name).rename(later / name)
        (later / "metadata.jsonl").write_text("\n".join(metadata()[-NEW:]))
        write_metadata(metadata()[:-NEW])
        yield folder


# Each of these is the state after the one it is given: asked for in any order, they happen in this one.


@pytest.fixture(scope="module")
def first(project: Path) -> Repro:
    return repro()


@pytest.fixture(scope="module")
def again(first: Repro) -> Repro:
    return repro()


@pytest.fixture(scope="module")
def at_random(again: Repro) -> Repro:
    write_params(curation={"strategy": "random"})
    return repro()


@pytest.fixture(scope="module")
def back(at_random: Repro) -> Repro:
    write_params()
    return repro()


@pytest.fixture(scope="module")
def mistaken(back: Repro) -> Repro:
    """A parameter that does not exist."""
    write_params(sketches={"dimension": 64})
    failed = repro()
    write_params()
    return failed


@pytest.fixture(scope="module")
def grown(mistaken: Repro) -> Repro:
    """Two more clips, and one that is none."""
    later, pool = Path("later"), Path("data/world/pool")
    broken = {"file_name": "broken.mp4", "caption": "a red ball falls"}
    lines = (later / "metadata.jsonl").read_text().splitlines()
    for line in lines:
        shutil.move(later / json.loads(line)["file_name"], pool)
    (pool / "broken.mp4").write_text("this is text")
    write_metadata([*metadata(), *lines, json.dumps(broken)])
    return repro()


# ---- one command from clips to a measured model


def test_it_runs_from_end_to_end(first):
    assert first.code == 0, first.said[-3000:]
    assert set(first.ran) == {*BEFORE_CURATION, *AFTER}
    assert first.ran[-len(AFTER) :] == AFTER


def test_a_second_time_nothing_changed(again):
    assert again.code == 0
    assert not again.ran
    assert not again.restored
    assert "Data and pipelines are up to date." in again.said


def test_another_strategy_reruns_curation_and_what_follows(first, at_random):
    assert at_random.code == 0, at_random.said[-3000:]
    assert at_random.ran == AFTER
    assert at_random.ranking == first.ranking
    assert at_random.subset != first.subset


def test_the_strategy_of_before_is_restored_without_running(first, back):
    assert back.code == 0, back.said[-3000:]
    assert back.ran in ([], ["record"])
    assert set(back.restored) >= {"curation", "finetuning", "evaluation"}
    assert back.subset == first.subset


def test_an_unknown_parameter_stops_it_with_a_sentence(mistaken):
    assert mistaken.code != 0
    assert "error: params.yaml: sketches.dimension is unknown: did you mean" in mistaken.said
    assert "Traceback" not in mistaken.said


# ---- more clips


def test_new_clips_cost_only_themselves(grown):
    assert grown.code == 0, grown.said[-3000:]
    found = {stage: re.findall(pattern, grown.said) for stage, pattern in COUNTS.items()}
    assert found == {stage: [str(NEW)] for stage in COUNTS}
    elsewhere = [stage for stage in grown.ran if stage.endswith(("@queries", "@heldout"))]
    assert not elsewhere


def test_a_broken_clip_is_a_row_of_failures(grown):
    failures = pd.read_parquet("data/pool/clips/failures.parquet")
    assert failures["file"].tolist() == ["broken.mp4"]
    assert failures["reason"].str.len().gt(5).all()
    assert len(pd.read_parquet("data/pool/clips/clips.parquet")) == NUM_POOL + NEW


# ---- what it leaves, as docs/data.md has it


def clip_ids(part: str) -> list[str]:
    return pd.read_parquet(f"data/{part}/clips/clips.parquet")["clip_id"].tolist()


@pytest.mark.parametrize("part", PARTS)
def test_the_clip_table_is_as_written(grown, part):
    table = pd.read_parquet(f"data/{part}/clips/clips.parquet")
    assert list(table) == list(COLUMNS)
    assert table["clip_id"].is_unique
    assert table["clip_id"].is_monotonic_increasing
    assert len(table) == {"pool": NUM_POOL + NEW, "queries": NUM_QUERIES, "heldout": NUM_HELDOUT}[part]
    assert table["motion"].ne("").all() == (part != "pool")


SHAPES = {
    "optical_flow": {"flow": ("F16", (5, 2, 8, 8))},
    "masks": {"mask": ("F16", SHAPE[1:])},
    "latents": {"latent": ("F16", SHAPE)},
    "sketches": {
        "sketch": ("F32", (1, DIM)),
        "loss": ("F32", (1,)),
        "norm": ("F32", (1,)),
        "ok": ("BOOL", ()),
    },
}
STREAMS = [(stage, part) for stage in SHAPES for part in PARTS if (stage, part) != ("sketches", "heldout")]


@pytest.mark.parametrize(("stage", "part"), STREAMS)
def test_a_stage_holds_every_clip_in_shards_of_rows(grown, stage, part):
    folder, ids = Path("data") / part / stage, clip_ids(part)
    manifest = json.loads((folder / "manifest.json").read_text())
    of_pool = {"sketch": ("U8", (1, DIM // 8))} if (stage, part) == ("sketches", "pool") else {}
    wanted = {"stage", "version", "params", "inputs", "digest", "num_clips", "shards"}
    assert set(manifest) == wanted
    assert manifest["num_clips"] == len(ids)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == manifest["shards"]
    for name in manifest["shards"]:
        start, end = map(int, name.removesuffix(".safetensors").split("-"))
        assert shards.read_ids(folder / name) == ids[start:end]
        with safe_open(folder / name, "pt") as shard:
            for tensor, (dtype, shape) in (SHAPES[stage] | of_pool).items():
                part_of = shard.get_slice(tensor)
                assert (part_of.get_dtype(), tuple(part_of.get_shape()[1:])) == (dtype, shape)
    assert pd.read_parquet(folder / "failures.parquet").empty


@pytest.mark.parametrize("part", PARTS)
def test_text_has_its_true_length(grown, part):
    for path in shards.shard_paths(Path("data") / part / "latents"):
        for _, tensors in shards.read_shard(path):
            assert 1 < len(tensors["text"]) <= load_params().latents.max_tokens
            assert str(tensors["text"].dtype) == "torch.bfloat16"


@pytest.mark.parametrize("part", PARTS)
def test_mask_stats_have_a_row_a_clip(grown, part):
    stats = pd.read_parquet(f"data/{part}/masks/mask_stats.parquet")
    assert list(stats) == ["clip_id", *STATS]
    assert stats["clip_id"].tolist() == clip_ids(part)
    assert stats["coverage"].between(0, 1).all()


def test_where_the_streams_meet_the_tables_are_as_written(grown):
    ids, queries = clip_ids("pool"), clip_ids("queries")
    ranking = pd.read_parquet("data/attribution/ranking.parquet")
    assert list(ranking)[:3] == ["clip_id", "rank", "votes"]
    assert list(ranking)[5:] == ["influence", "influence_low", "influence_high", "status", "reason"]
    assert sorted(ranking["rank_against"]) == list(range(len(ids)))
    inside = ranking[ranking["status"] == "ok"]
    ordered = np.asarray(inside[["influence_low", "influence", "influence_high"]])
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert sorted(ranking["clip_id"]) == ids
    assert sorted(ranking["rank"]) == list(range(len(ids)))
    assert [reason == "" for reason in ranking["reason"]] == (ranking["status"] == "ok").tolist()
    with safe_open("data/attribution/influence.safetensors", "pt") as file:
        names = json.loads(file.metadata()["motive"])
        influence = file.get_slice("influence")
        assert (influence.get_dtype(), influence.get_shape()) == ("F32", [len(ids), len(names["columns"])])
    assert names["rows"] == ids
    assert set(names["columns"]) <= set(queries)
    subset = pd.read_parquet("data/curation/subset.parquet")
    assert list(subset) == ["clip_id", "rank", "why"]
    assert set(subset["clip_id"]) <= set(ids)
    losses = pd.read_parquet("data/finetuning/losses.parquet")
    assert list(losses) == ["step", "loss", "learning_rate"]
    assert len(losses) == load_params().finetuning.steps
    assert Path("data/finetuning/transformer/config.json").is_file()
    assert Path("data/finetuning/training.json").is_file()


def test_a_pool_clip_asked_as_a_new_video_is_its_own_best_teacher(grown, tmp_path):
    ranking = pd.read_parquet("data/attribution/ranking.parquet")
    rows = read_clips("pool").to_dict("records")
    best = next(row for row in rows if row["clip_id"] == ranking["clip_id"].iloc[0])
    video = Path(best["source"]) / best["video"]
    found = query_pool(video, best["caption"], load_params())
    draw(found, video, best["caption"], load_params(), tmp_path / "asked.png")
    assert found["clip_id"].iloc[0] == best["clip_id"]
    assert found["influence"].iloc[0] == pytest.approx((2 / np.pi) ** 0.5, abs=0.05)  # with its own signs
    assert found["influence"].iloc[1] < found["influence"].iloc[0]
    assert sorted(found["clip_id"]) == sorted(ranking.loc[ranking["status"] == "ok", "clip_id"])
    assert np.std(np.asarray(cv2.imread(str(tmp_path / "asked.png")))) > 10


def test_a_query_says_what_is_wrong(grown, tmp_path):
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


def test_a_query_prints_its_table_though_a_pool_clips_file_is_gone(grown, tmp_path):
    best = pd.read_parquet("data/attribution/ranking.parquet")["clip_id"].iloc[0]
    row = read_clips("pool").set_index("clip_id").loc[best]
    video = Path(row["source"]) / row["video"]
    kept = str(shutil.copy(video, tmp_path / "asked.mp4"))

    def asked(out: Path | str) -> subprocess.CompletedProcess:
        return motive("query", kept, "--caption", row["caption"], "--out", str(out), cwd=Path.cwd())

    aside = video.rename(video.with_suffix(".aside"))
    try:
        done = asked(tmp_path / "asked.png")
    finally:
        aside.rename(video)
    assert done.returncode == 1
    assert best in done.stdout
    assert f"no image: {video}" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(pd.read_parquet(tmp_path / "asked.parquet"))
    for out, why in (("asked.parquet", "name it X.png"), ("/proc/asked.png", "/proc/")):
        done = asked(out)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert why in done.stderr


def test_the_measures_are_there(grown):
    metrics = json.loads(Path("data/evaluation/metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["num_pool"] == NUM_POOL + NEW
    assert metrics["num_selected"] == len(pd.read_parquet("data/curation/subset.parquet")) == 2
    assert 0 <= metrics["heldout_improved_fraction"] <= 1
    assert metrics["heldout_motion_loss_base"] > 0
    assert metrics["heldout_motion_loss_tuned"] > 0
    assert metrics["heldout_motion_loss_tuned"] != metrics["heldout_motion_loss_base"]
    videos = pd.read_parquet("data/evaluation/videos.parquet")
    assert videos.groupby("model").size().to_dict() == {"base": 2, "tuned": 2}
    assert all(Path(video).is_file() for video in videos["video"])
    assert len(pd.read_parquet("data/evaluation/per_clip.parquet")) == NUM_HELDOUT


def test_mlflow_has_a_run_a_data_version_and_a_nested_run_a_stage(grown, project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(load_params().record.experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.data.tags["strategy"] for run in parents) == ["motive", "motive", "random"]
    stages = {name.split("@")[0] for name in BEFORE_CURATION} | set(AFTER) - {"record"}
    for parent in parents:
        nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert {run.info.run_name for run in nested} == stages
        assert len(nested) == len(stages)
        assert "heldout_motion_loss_tuned" in parent.data.metrics


def test_append_adds_the_clips_that_came_and_computes_no_other(grown):
    known = set(read_clips("pool")["clip_id"])
    frames = np.full((40, 32, 32, 3), 90, np.uint8)
    for f, frame in enumerate(frames):
        frame[10:18, f // 2 : f // 2 + 8] = 240
    write_video(Path("data/world/pool/new.mp4"), frames, 16.0)
    write_metadata([*metadata(), json.dumps({"file_name": "new.mp4", "caption": "a white box slides"})])
    done = motive("append", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert [re.findall(line, done.stderr) for line in COUNTS.values()] == [["1"]] * len(COUNTS)
    ids, ok = shards.read_stacked(Path("data/pool/sketches"), "ok")
    (new,) = set(ids) - known
    assert ok[ids.index(new)]
    assert set(ids) > known
    assert motive("attribution", cwd=Path.cwd()).returncode == 0
    assert new in pd.read_parquet("data/attribution/ranking.parquet")["clip_id"].tolist()
