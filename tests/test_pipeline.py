"""The whole pipeline by `dvc repro`, again and again on clips that grow more, and what it leaves."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from motive.checks import STATS
from motive.clips.table import COLUMNS
from motive.params import load_params
from motive.store import shards
from testing.mlflow_runs import all_runs
from testing.pipeline_runs import (
    PER_CLIP,
    RANKING,
    SUBSET,
    Repro,
    add_later_clips,
    num_made,
    repro,
    write_growing_project,
)
from testing.tiny import SHAPE
from testing.whole_project import DIM, SPLITS, write_params

pytestmark = pytest.mark.slow

BEFORE_CURATION = {
    f"{stage}@{split}" for stage in ("clips", "optical_flow", "masks", "latents") for split in SPLITS
}
BEFORE_CURATION |= {"sketches@pool", "sketches@queries", "attribution"}
AFTER = ["curation", "finetuning", "evaluation", "record"]
NEW = 2  # clips that come later
NUM_CLIPS = {"pool": 12 + NEW, "queries": 10, "heldout": 10}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_growing_project(folder, NUM_CLIPS["pool"] - NEW, NEW, NUM_CLIPS["heldout"])
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
    Path("data/world/pool/broken.mp4").write_text("this is text")
    add_later_clips(json.dumps({"file_name": "broken.mp4", "caption": "a red ball falls"}))
    return repro()


# ---- one command from clips to a measured model


def test_it_runs_from_end_to_end(first):
    assert first.code == 0, first.output[-3000:]
    assert set(first.ran) == {*BEFORE_CURATION, *AFTER}
    assert first.ran[-len(AFTER) :] == AFTER


def test_a_second_time_nothing_changed(again):
    assert again.code == 0
    assert not again.ran
    assert not again.restored
    assert "Data and pipelines are up to date." in again.output


def test_another_strategy_reruns_curation_and_what_follows(first, at_random):
    assert at_random.code == 0, at_random.output[-3000:]
    assert at_random.ran == AFTER
    assert at_random.ranking == first.ranking
    assert at_random.subset != first.subset


def test_the_strategy_of_before_is_restored_without_running(first, back):
    assert back.code == 0, back.output[-3000:]
    assert back.ran in ([], ["record"])
    assert set(back.restored) >= {"curation", "finetuning", "evaluation"}
    assert back.subset == first.subset


def test_an_unknown_parameter_stops_it_with_a_sentence(mistaken):
    assert mistaken.code != 0
    assert "error: params.yaml: sketches.dimension is unknown: did you mean" in mistaken.output
    assert "Traceback" not in mistaken.output


# ---- more clips


def test_new_clips_cost_only_themselves(grown):
    assert grown.code == 0, grown.output[-3000:]
    assert num_made(grown.output) == {stage: [str(NEW)] for stage in PER_CLIP}
    elsewhere = [stage for stage in grown.ran if stage.endswith(("@queries", "@heldout"))]
    assert not elsewhere


def test_a_broken_clip_is_a_row_of_failures(grown):
    failures = pd.read_parquet("data/pool/clips/failures.parquet")
    assert failures["file"].tolist() == ["broken.mp4"]
    assert failures["reason"].str.len().gt(5).all()
    assert len(pd.read_parquet("data/pool/clips/clips.parquet")) == NUM_CLIPS["pool"]


# ---- what it leaves, as docs/data.md has it


def clip_ids(split: str) -> list[str]:
    return pd.read_parquet(f"data/{split}/clips/clips.parquet")["clip_id"].tolist()


@pytest.mark.parametrize("split", SPLITS)
def test_the_clip_table_is_as_written(grown, split):
    table = pd.read_parquet(f"data/{split}/clips/clips.parquet")
    assert list(table) == list(COLUMNS)
    assert table["clip_id"].is_unique
    assert table["clip_id"].is_monotonic_increasing
    assert len(table) == NUM_CLIPS[split]
    assert table["motion"].ne("").all() == (split != "pool")


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
STREAMS = [(stage, split) for stage in SHAPES for split in SPLITS]
STREAMS.remove(("sketches", "heldout"))


@pytest.mark.parametrize(("stage", "split"), STREAMS)
def test_a_stage_holds_every_clip_in_shards_of_rows(grown, stage, split):
    folder = Path("data") / split / stage
    ids = clip_ids(split)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == {"stage", "version", "params", "inputs", "digest", "num_clips", "shards"}
    assert manifest["num_clips"] == len(ids)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == manifest["shards"]
    of_pool = {"sketch": ("U8", (1, DIM // 8))} if (stage, split) == ("sketches", "pool") else {}
    for name in manifest["shards"]:
        start, end = map(int, name.removesuffix(".safetensors").split("-"))
        assert shards.read_ids(folder / name) == ids[start:end]
        assert shapes_in(folder / name, SHAPES[stage]) == SHAPES[stage] | of_pool
    assert pd.read_parquet(folder / "failures.parquet").empty


def shapes_in(path: Path, names: Iterable[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype of these tensors of a shard, and their shape without that of the clips."""
    with safe_open(path, "pt") as shard:
        slices = {name: shard.get_slice(name) for name in names}
        return {name: (each.get_dtype(), tuple(each.get_shape()[1:])) for name, each in slices.items()}


@pytest.mark.parametrize("split", SPLITS)
def test_text_has_its_true_length(grown, split):
    for path in shards.shard_paths(Path("data") / split / "latents"):
        for _, tensors in shards.read_shard(path):
            assert 1 < len(tensors["text"]) <= load_params().latents.max_tokens
            assert str(tensors["text"].dtype) == "torch.bfloat16"


@pytest.mark.parametrize("split", SPLITS)
def test_mask_stats_have_a_row_a_clip(grown, split):
    stats = pd.read_parquet(f"data/{split}/masks/mask_stats.parquet")
    assert list(stats) == ["clip_id", *STATS]
    assert stats["clip_id"].tolist() == clip_ids(split)
    assert stats["coverage"].between(0, 1).all()


def test_the_ranking_is_as_written(grown):
    ids = clip_ids("pool")
    ranking = pd.read_parquet(RANKING)
    assert list(ranking)[:3] == ["clip_id", "rank", "votes"]
    assert list(ranking)[5:] == ["influence", "influence_low", "influence_high", "status", "reason"]
    assert sorted(ranking["rank_against"]) == list(range(len(ids)))
    inside = ranking[ranking["status"] == "ok"]
    ordered = np.asarray(inside[["influence_low", "influence", "influence_high"]])
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert sorted(ranking["clip_id"]) == ids
    assert sorted(ranking["rank"]) == list(range(len(ids)))
    assert [reason == "" for reason in ranking["reason"]] == (ranking["status"] == "ok").tolist()


def test_the_influence_is_as_written(grown):
    ids = clip_ids("pool")
    with safe_open("data/attribution/influence.safetensors", "pt") as file:
        names = json.loads(file.metadata()["motive"])
        influence = file.get_slice("influence")
        assert (influence.get_dtype(), influence.get_shape()) == ("F32", [len(ids), len(names["columns"])])
    assert names["rows"] == ids
    assert set(names["columns"]) <= set(clip_ids("queries"))


def test_subset_and_training_are_as_written(grown):
    subset = pd.read_parquet(SUBSET)
    assert list(subset) == ["clip_id", "rank", "why"]
    assert set(subset["clip_id"]) <= set(clip_ids("pool"))
    losses = pd.read_parquet("data/finetuning/losses.parquet")
    assert list(losses) == ["step", "loss", "learning_rate"]
    assert len(losses) == load_params().finetuning.steps
    assert Path("data/finetuning/transformer/config.json").is_file()
    assert Path("data/finetuning/training.json").is_file()


def test_the_measures_are_there(grown):
    metrics = json.loads(Path("data/evaluation/metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["num_pool"] == NUM_CLIPS["pool"]
    assert metrics["num_selected"] == len(pd.read_parquet("data/curation/subset.parquet")) == 2
    assert 0 <= metrics["heldout_improved_fraction"] <= 1
    assert metrics["heldout_motion_loss_base"] > 0
    assert metrics["heldout_motion_loss_tuned"] > 0
    assert metrics["heldout_motion_loss_tuned"] != metrics["heldout_motion_loss_base"]
    videos = pd.read_parquet("data/evaluation/videos.parquet")
    assert videos.groupby("model").size().to_dict() == {"base": 2, "tuned": 2}
    assert all(Path(video).is_file() for video in videos["video"])
    assert len(pd.read_parquet("data/evaluation/per_clip.parquet")) == NUM_CLIPS["heldout"]


def test_mlflow_has_a_run_a_data_version_and_a_nested_run_a_stage(grown, project):
    runs = all_runs(f"sqlite:///{project / 'mlflow.db'}", load_params().record.experiment)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.data.tags["strategy"] for run in parents) == ["motive", "motive", "random"]
    stages = {name.split("@")[0] for name in BEFORE_CURATION} | set(AFTER) - {"record"}
    for parent in parents:
        nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert {run.info.run_name for run in nested} == stages
        assert len(nested) == len(stages)
        assert "heldout_motion_loss_tuned" in parent.data.metrics
